"""The options that commands share, each defined once: its names, type, help and panel.

A command takes a single one as `scale: ScaleOption = 2`, and a group of them as `messages: Messages`, a dataclass with
a field for each: `expanded` makes options of the fields. Words that a library function checks too are listed here as
well, so that a wrong one is refused with the list of the right ones, and completion knows them.

More than 300 lines: so that no option is written twice.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from ._output import out

if TYPE_CHECKING:
    from ..runtime import Machine

DIFFUSION, OUTPUT, FILES = "Diffusion", "Output", "Files"
MACHINE, MESSAGES = "Machine", "Reports and messages"
FLAG = " "  # instead of Typer's <bool>, which says nothing


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


ScaleOption = Annotated[
    int,
    typer.Option("--scale", "-s", metavar="2|4", help="How many times as wide and high.", autocompletion=_scales),
]


def _model_option(more: str, complete: Callable[[str], list[str]]) -> Any:
    """--model; `more` is what it takes besides."""
    return typer.Option(
        "--model",
        "-m",
        metavar="NAME|ORG/REPO|PATH",
        envvar="BIDIFFSR_MODEL",
        help=rf"NAME\[@REVISION] (models list), {more}ORG/REPO\[@REV]\[:FILE] on the Hub, or a file.",
        show_default="the first of the catalog",
        autocompletion=complete,
    )


ModelOption = Annotated[
    str | None,
    _model_option("auto (photo for visibly compressed pictures, else the default), ", _models_and_auto),
]
OneModelOption = Annotated[str | None, _model_option("", _models)]

StepsOption = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Steps of the reverse diffusion.", show_default="the model's", rich_help_panel=DIFFUSION
    ),
]
PresetOption = Annotated[
    Literal["faithful", "fast", "balanced", "best"] | None,
    typer.Option(
        metavar="NAME",
        help="faithful (fast is the same), balanced or best: a number of steps that the model names.",
        rich_help_panel=DIFFUSION,
    ),
]
SamplerOption = Annotated[
    Literal["ddim", "ddpm", "dpmpp-2m"],
    typer.Option(metavar="NAME", help="ddim, ddpm or dpmpp-2m.", rich_help_panel=DIFFUSION),
]
EtaOption = Annotated[
    float, typer.Option(metavar="0..1", help="Fresh noise in each step of ddim.", rich_help_panel=DIFFUSION)
]
TemperatureOption = Annotated[
    float | None,
    typer.Option(
        metavar="0..1",
        help="Strength of the start noise; 0 is none.",
        show_default="the model's",
        rich_help_panel=DIFFUSION,
    ),
]
SeedOption = Annotated[
    str,
    typer.Option(
        metavar="N|random",
        help="What all noise is drawn from: the same seed, the same picture.",
        rich_help_panel=DIFFUSION,
    ),
]

FormatOption = Annotated[
    Literal["auto", "same", "png", "jpg", "webp", "avif", "tiff"],
    typer.Option(
        "--format",
        "-f",
        metavar="FORMAT",
        help="png, jpg, webp, avif, tiff, or same as the input; auto goes by OUTPUT's suffix, else png.",
        rich_help_panel=OUTPUT,
    ),
]
QualityOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=100,
        metavar="N",
        help="Quality of jpg, avif and webp; it makes webp lossy.",
        show_default="95, 85, lossless",
        rich_help_panel=OUTPUT,
    ),
]
WidthOption = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Resample to this width after the model.", rich_help_panel=OUTPUT),
]
HeightOption = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Resample to this height after the model.", rich_help_panel=OUTPUT),
]
LongSideOption = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Resample the longer side to this length.", rich_help_panel=OUTPUT),
]
AlphaOption = Annotated[
    Literal["lanczos", "model", "drop"],
    typer.Option(
        metavar="HOW", help="Transparency: lanczos or model enlarges it, drop leaves it out.", rich_help_panel=OUTPUT
    ),
]
ColorFixOption = Annotated[
    Literal["none", "lowfreq"],
    typer.Option(
        metavar="HOW", help="lowfreq gives the result the input's low frequencies, or none.", rich_help_panel=OUTPUT
    ),
]

StripOption = Annotated[
    bool,
    typer.Option(
        "--strip-metadata", metavar=FLAG, help="Write no EXIF, resolution or provenance.", rich_help_panel=FILES
    ),
]
ProvenanceOption = Annotated[
    bool,
    typer.Option(
        "--provenance/--no-provenance",
        metavar=FLAG,
        help="Record model, steps and seed.",
        rich_help_panel=FILES,
    ),
]
OverwriteOption = Annotated[
    bool,
    typer.Option("--overwrite/--no-overwrite", metavar=FLAG, help="Replace existing files.", rich_help_panel=FILES),
]

DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        "-d",
        metavar="DEVICE",
        envvar="BIDIFFSR_DEVICE",
        help="auto, cpu, cuda, cuda:N, mps or xpu; an absent one is an error.",
        rich_help_panel=MACHINE,
    ),
]
PrecisionOption = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"],
    typer.Option(
        metavar="TYPE", help="auto, fp32, bf16 or fp16, of the layers that are not binary.", rich_help_panel=MACHINE
    ),
]
BackendOption = Annotated[
    Literal["auto", "native", "reference"],
    typer.Option(
        metavar="NAME", help="What computes 1-bit layers: auto, native or reference.", rich_help_panel=MACHINE
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        envvar="BIDIFFSR_THREADS",
        help="CPU threads; their number never changes a pixel.",
        show_default="OMP_NUM_THREADS, or all cores",
        rich_help_panel=MACHINE,
    ),
]
TileOption = Annotated[
    str,
    typer.Option(
        metavar="auto|off|N",
        help="Window in pixels of the result: auto is the model's, off the whole picture.",
        rich_help_panel=MACHINE,
    ),
]
TileOverlapOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Strip in which two windows blend.",
        show_default="the model's",
        rich_help_panel=MACHINE,
    ),
]
MaxMemoryOption = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Most memory to enlarge with, such as 800MB or 1.5GiB; never changes a pixel.",
        show_default="what is free",
        rich_help_panel=MACHINE,
    ),
]
OfflineOption = Annotated[
    bool,
    typer.Option(
        "--offline",
        metavar=FLAG,
        help="Never use the network; a model that is here never does.",
        rich_help_panel=MACHINE,
    ),
]

DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run", metavar=FLAG, help="Say windows, steps, memory and time; write nothing.", rich_help_panel=MESSAGES
    ),
]
ReportOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="Also write the figures to a .json, .csv, .md or .html file.", rich_help_panel=MESSAGES
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option(
        "--json", metavar=FLAG, help="Print one JSON object on stdout instead of messages.", rich_help_panel=MESSAGES
    ),
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", metavar=FLAG, help="Print errors only.", rich_help_panel=MESSAGES)
]
VerboseOption = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        metavar=FLAG,
        help="Say more, such as time and memory of each phase.",
        rich_help_panel=MESSAGES,
    ),
]
NoProgressOption = Annotated[
    bool, typer.Option("--no-progress", metavar=FLAG, help="Show no progress bar.", rich_help_panel=MESSAGES)
]
DebugOption = Annotated[
    bool, typer.Option("--debug", metavar=FLAG, help="Show the traceback of an error.", rich_help_panel=MESSAGES)
]


@dataclass(frozen=True)
class Sampling:
    """Of the reverse diffusion, all but the number of steps."""

    sampler: SamplerOption = "ddim"
    eta: EtaOption = 0.0
    temperature: TemperatureOption = None
    seed: SeedOption = "0"


@dataclass(frozen=True)
class Result:
    """What the enlarged picture is like."""

    format: FormatOption = "auto"
    quality: QualityOption = None
    width: WidthOption = None
    height: HeightOption = None
    long_side: LongSideOption = None
    alpha: AlphaOption = "lanczos"
    color_fix: ColorFixOption = "none"


@dataclass(frozen=True)
class Written:
    """What is written with it, and over what."""

    strip_metadata: StripOption = False
    provenance: ProvenanceOption = True
    overwrite: OverwriteOption = False


@dataclass(frozen=True)
class MachineOptions:
    """Where the network runs."""

    device: DeviceOption = "auto"
    precision: PrecisionOption = "auto"
    backend: BackendOption = "auto"
    threads: ThreadsOption = None

    @property
    def machine(self) -> Machine:
        """As a value."""
        from ..runtime import Machine

        return Machine(self.device, self.precision, self.backend, self.threads)


@dataclass(frozen=True)
class Windows:
    """In what parts a picture is computed, and whether its model may be fetched."""

    tile: TileOption = "auto"
    tile_overlap: TileOverlapOption = None
    max_memory: MaxMemoryOption = None
    offline: OfflineOption = False


@dataclass(frozen=True)
class Brief:
    """How much is said by a command that says little."""

    json: JsonOption = False
    quiet: QuietOption = False
    debug: DebugOption = False

    def configure(self) -> None:
        """Tell `out`."""
        out.configure(json=self.json, quiet=self.quiet, debug=self.debug)


@dataclass(frozen=True)
class Messages:
    """How much is said."""

    json: JsonOption = False
    quiet: QuietOption = False
    verbose: VerboseOption = False
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
        group = groups.get(name)
        if group is None:
            flat.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        hints = get_type_hints(group, include_extras=True)
        for field in fields(group):
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            kind = inspect.Parameter.KEYWORD_ONLY
            flat.append(inspect.Parameter(field.name, kind, default=default, annotation=hints[field.name]))

    def call(**values: Any) -> Any:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        return command(**values)

    call.__name__, call.__doc__ = command.__name__, command.__doc__
    call.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]  # inspect looks for it
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return call
