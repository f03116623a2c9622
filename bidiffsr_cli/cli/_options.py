"""The options that commands share, each defined once: its names, type, help and panel.

A command takes a single one as `scale: ScaleOption = 2`, and a `group` of them as `messages: Messages`, a class with a
field for each: `expanded` makes options of the fields. Words that a library function checks too are listed here as
well, so that a wrong one is refused with the list of the right ones, and completion knows them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, dataclass_transform, get_args, get_type_hints

import typer

from ..errors import UsageError
from ._output import out

if TYPE_CHECKING:
    from ..enlarging import Writing
    from ..runtime import Machine

PICTURES, DIFFUSION, OUTPUT, FILES = "Pictures", "Diffusion", "Output", "Files"
MACHINE, MESSAGES = "Machine", "Reports and messages"
Group = TypeVar("Group")
FLAG = " "  # instead of Typer's <bool>, which says nothing


def option(metavar: str, help: str, *names: str, panel: str | None = None, **how: Any) -> Any:
    """An option; without names it is called as its parameter. `panel` is its heading in --help."""
    return typer.Option(*names, metavar=metavar, help=help, rich_help_panel=panel, **how)


@dataclass_transform(frozen_default=True)
def group(panel: str) -> Callable[[type[Group]], type[Group]]:
    """Make a class a frozen dataclass of options; `panel` is the heading in --help of those that name none."""

    def decorate(plain: Any) -> Any:
        plain.PANEL = panel
        return dataclass(frozen=True)(plain)

    return decorate


def _scales(incomplete: str) -> list[str]:
    return [scale for scale in ("2", "4") if scale.startswith(incomplete)]


def _models(incomplete: str) -> list[str]:
    """Names for a shell's completion: those of the catalog, which is read in a moment."""
    from ..checkpoints.catalog import catalog

    names = [name for entry in catalog() for name in (entry.name, entry.full_name)]
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]


def _models_and_auto(incomplete: str) -> list[str]:
    """Likewise, and the word that lets each picture have its own."""
    return _models(incomplete) + [word for word in ("auto",) if word.startswith(incomplete)]


ScaleOption = Annotated[int, option("2|4", "How many times as wide and high.", "--scale", "-s", autocompletion=_scales)]


def _model_option(more: str, complete: Callable[[str], list[str]]) -> Any:
    """--model; `more` is what it takes besides."""
    return option(
        "NAME|ORG/REPO|PATH",
        rf"NAME\[@REVISION] (models list), {more}ORG/REPO\[@REV]\[:FILE] on the Hub, or a file.",
        "--model",
        "-m",
        envvar="BIDIFFSR_MODEL",
        show_default="the first of the catalog",
        autocompletion=complete,
    )


ModelOption = Annotated[
    str | None,
    _model_option("auto (photo for visibly compressed pictures, else the default), ", _models_and_auto),
]
OneModelOption = Annotated[str | None, _model_option("", _models)]
StepsOption = Annotated[
    int | None, option("N", "Steps of the reverse diffusion.", panel=DIFFUSION, show_default="the model's")
]
PresetOption = Annotated[
    Literal["faithful", "fast", "balanced", "best"] | None,
    option(
        "NAME",
        "faithful (fast is the same), balanced or best: a number of steps that the model names.",
        panel=DIFFUSION,
    ),
]
SamplerOption = Annotated[Literal["ddim", "ddpm", "dpmpp-2m"], option("NAME", "ddim, ddpm or dpmpp-2m.")]
AlphaOption = Annotated[
    Literal["lanczos", "model", "drop"],
    option("HOW", "Transparency: lanczos or model enlarges it, drop leaves it out."),
]
ColorFixOption = Annotated[
    Literal["none", "lowfreq"],
    option("HOW", "lowfreq gives the result the input's low frequencies, or none.", panel=OUTPUT),
]
OverwriteOption = Annotated[bool, option(FLAG, "Replace existing files.", "--overwrite/--no-overwrite", panel=FILES)]
DeviceOption = Annotated[
    str,
    option(
        "DEVICE",
        "auto, cpu, cuda, cuda:N, mps or xpu; an absent one is an error.",
        "--device",
        "-d",
        panel=MACHINE,
        envvar="BIDIFFSR_DEVICE",
    ),
]


def threads_option(help: str, **how: Any) -> Any:
    """--threads."""
    default = "OMP_NUM_THREADS, or all cores"
    return option("N", help, panel=MACHINE, envvar="BIDIFFSR_THREADS", show_default=default, **how)


OfflineOption = Annotated[
    bool, option(FLAG, "Never use the network; a model that is here never does.", "--offline", panel=MACHINE)
]
DryRunOption = Annotated[
    bool, option(FLAG, "Say windows, steps, memory and time; write nothing.", "--dry-run", panel=MESSAGES)
]
ReportOption = Annotated[
    str | None, option("FILE", "Also write the figures to a .json, .csv, .md or .html file.", panel=MESSAGES)
]
JsonOption = Annotated[
    bool, option(FLAG, "Print one JSON object on stdout instead of messages.", "--json", panel=MESSAGES)
]
QuietOption = Annotated[bool, option(FLAG, "Print errors only.", "--quiet", "-q", panel=MESSAGES)]
NoProgressOption = Annotated[bool, option(FLAG, "Show no progress bar.", "--no-progress", panel=MESSAGES)]
DebugOption = Annotated[bool, option(FLAG, "Show the traceback of an error.", "--debug", panel=MESSAGES)]


@group(DIFFUSION)
class SamplingOptions:
    """Of the reverse diffusion, all but the number of steps."""

    sampler: SamplerOption = "ddim"
    eta: Annotated[float, option("0..1", "Fresh noise in each step of ddim.")] = 0.0
    temperature: Annotated[
        float | None, option("0..1", "Strength of the start noise; 0 is none.", show_default="the model's")
    ] = None
    seed: Annotated[str, option("N|random", "What all noise is drawn from: the same seed, the same picture.")] = "0"


@group(OUTPUT)
class ResultOptions:
    """What the enlarged picture is like, and its file."""

    format: Annotated[
        Literal["auto", "same", "png", "jpg", "webp", "avif", "tiff"],
        option(
            "FORMAT",
            "png, jpg, webp, avif, tiff, or same as the input; auto goes by OUTPUT's suffix, else png.",
            "--format",
            "-f",
        ),
    ] = "auto"
    quality: Annotated[
        int | None,
        option(
            "N", "Quality of jpg, avif and webp; it makes webp lossy.", min=1, max=100, show_default="95, 85, lossless"
        ),
    ] = None
    width: Annotated[int | None, option("N", "Resample to this width after the model.", min=1)] = None
    height: Annotated[int | None, option("N", "Resample to this height after the model.", min=1)] = None
    long_side: Annotated[int | None, option("N", "Resample the longer side to this length.", min=1)] = None
    alpha: AlphaOption = "lanczos"
    color_fix: ColorFixOption = "none"
    strip_metadata: Annotated[
        bool, option(FLAG, "Write no EXIF, resolution or provenance.", "--strip-metadata", panel=FILES)
    ] = False
    provenance: Annotated[
        bool, option(FLAG, "Record model, steps and seed.", "--provenance/--no-provenance", panel=FILES)
    ] = True
    overwrite: OverwriteOption = False

    @property
    def writing(self) -> Writing:
        """What the file is like, as a value."""
        from ..enlarging import Writing

        size = (self.width, self.height, self.long_side)
        return Writing(self.format, self.quality, self.strip_metadata, self.provenance, *size)


@group(MACHINE)
class MachineOptions:
    """Where the network runs."""

    device: DeviceOption = "auto"
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        option("TYPE", "auto, fp32, bf16 or fp16, of layers that are not binary."),
    ] = "auto"
    backend: Annotated[
        Literal["auto", "native", "reference"], option("NAME", "What computes 1-bit layers: auto, native or reference.")
    ] = "auto"
    threads: Annotated[int | None, threads_option("CPU threads; their number never changes a pixel.")] = None

    @property
    def machine(self) -> Machine:
        """As a value."""
        from ..runtime import Machine

        return Machine(self.device, self.precision, self.backend, self.threads)


@group(MACHINE)
class WindowOptions:
    """In what parts a picture is computed, and whether its model may be fetched."""

    tile: Annotated[
        str, option("auto|off|N", "Window in pixels of the result: auto is the model's, off the whole picture.")
    ] = "auto"
    tile_overlap: Annotated[
        int | None, option("N", "Strip in which two windows blend.", show_default="the model's")
    ] = None
    max_memory: Annotated[
        str | None,
        option(
            "SIZE",
            "Most memory to enlarge with, such as 800MB or 1.5GiB; never changes a pixel.",
            show_default="what is free",
        ),
    ] = None
    offline: OfflineOption = False


@group(MESSAGES)
class Brief:
    """How much is said by a command that says little."""

    json: JsonOption = False
    quiet: QuietOption = False
    debug: DebugOption = False

    def configure(self) -> None:
        """Tell `out`."""
        out.configure(json=self.json, quiet=self.quiet, debug=self.debug)


@group(MESSAGES)
class Messages:
    """How much is said."""

    json: JsonOption = False
    quiet: QuietOption = False
    verbose: Annotated[bool, option(FLAG, "Say more, such as time and memory of each phase.", "--verbose", "-v")] = (
        False
    )
    no_progress: NoProgressOption = False
    debug: DebugOption = False

    def configure(self) -> None:
        """Tell `out`."""
        out.configure(
            json=self.json, quiet=self.quiet, verbose=self.verbose, progress=not self.no_progress, debug=self.debug
        )


def expanded(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command as Typer wants it: with an option for each field of the groups among its parameters."""
    parameters = inspect.signature(command, eval_str=True).parameters
    groups: dict[str, Any] = {
        name: parameter.annotation for name, parameter in parameters.items() if is_dataclass(parameter.annotation)
    }
    flat: list[inspect.Parameter] = []
    for name, parameter in parameters.items():
        kind = inspect.Parameter.KEYWORD_ONLY
        if name not in groups:
            flat.append(parameter.replace(kind=kind))
            continue
        hints = get_type_hints(groups[name], include_extras=True)
        for field in fields(groups[name]):
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            for info in get_args(hints[field.name])[1:]:
                info.rich_help_panel = info.rich_help_panel or groups[name].PANEL
            flat.append(inspect.Parameter(field.name, kind, default=default, annotation=hints[field.name]))

    def call(**values: Any) -> Any:
        for parameter in flat:
            _check_not_empty(parameter, values[parameter.name])
        for name, kind in groups.items():
            values[name] = kind(**{field.name: values.pop(field.name) for field in fields(kind)})
        return command(**values)

    call.__name__, call.__doc__ = command.__name__, command.__doc__
    call.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]  # inspect looks for it
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return call


def _check_not_empty(parameter: inspect.Parameter, value: Any) -> None:
    """Raise UsageError for an empty word, which would become the current folder, or a default."""
    if value != parameter.default and "" in (value if isinstance(value, list) else [value]):
        name = parameter.name.replace("_", "-")
        raise UsageError(f"An empty word is given for '{name}'.", "Leave it out, or set the shell's variable for it.")
