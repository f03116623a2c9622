"""Measure quality against originals.

Examples:
  bidiffsr eval --hr Set5/HR --lr Set5/LR_bicubic/X2 --paper-row
  bidiffsr eval --hr photos/ --scale 4 --steps 1,2,5,10 -o report/
  bidiffsr eval --hr photos/ -m fast -m mine.safetensors --json
  bidiffsr eval --hr Set5/HR --sr results/ --label other-tool
  bidiffsr eval --hr photos/ --degrade blur=0.6,noise=3,jpeg=85

Small pictures are taken from --lr, or made from the originals by MATLAB's
bicubic. Pictures belong together by name: baby.png, babyx2.png,
baby_LRBI_x2.png, baby_SRF_2_LR.png. Bicubic interpolation is always scored
too. --degrade makes small pictures worse, the same way every time, in this
order: kernel (lanczos, bilinear or area instead of bicubic), blur (pixels),
noise (levels of 255), chroma (blur of colours), sharpen, jpeg or webp
(quality). With -o everything is kept in a folder: pictures, results.json,
.csv, .md and .html; run again, it goes on where it was stopped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..errors import OutputError, UsageError
from . import _options as o
from ._output import out
from ._values import parse_degradation, parse_upscale_options

if TYPE_CHECKING:
    from ..configs import UpscaleOptions
    from ..evaluation.evaluate import Evaluation
    from ..evaluation.subjects import AtSteps, Subject
    from ..evaluation.testset import Case
    from ..journal import Journal
    from ..runtime import Runtime

PICTURES, COMPARISON = "Pictures", "Comparison"
BICUBIC = "bicubic"
JOURNAL = "scores.jsonl"
ROLES = ("hr", "gt", "gtmod12", "original", "originals", "x2", "x4")


def evaluate(
    hr: Annotated[Path, typer.Option("--hr", metavar="DIR", help="The originals.", rich_help_panel=PICTURES)],
    lr: Annotated[
        Path | None,
        typer.Option(
            "--lr", metavar="DIR", help="Small pictures.", show_default="made from --hr", rich_help_panel=PICTURES
        ),
    ] = None,
    sr: Annotated[
        Path | None,
        typer.Option("--sr", metavar="DIR", help="Enlarged pictures of any tool.", rich_help_panel=PICTURES),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="What those are called.", show_default="the folder's name", rich_help_panel=PICTURES
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="What the set is called.", show_default="by its folder", rich_help_panel=PICTURES
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="The first pictures alone.", rich_help_panel=PICTURES)
    ] = None,
    degrade: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT=N,...",
            help="Make small pictures worse: kernel, blur, noise, chroma, sharpen, jpeg, webp.",
            rich_help_panel=PICTURES,
        ),
    ] = None,
    scale: o.ScaleOption = 2,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME|ORG/REPO|PATH",
            help="As for upscale, several times; bicubic for that alone.",
            show_default="the first of the catalog",
        ),
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...", help="Steps, each a row.", show_default="the model's", rich_help_panel=o.DIFFUSION
        ),
    ] = None,
    sampler: o.SamplerOption = "ddim",
    eta: o.EtaOption = 0.0,
    temperature: o.TemperatureOption = None,
    seed: o.SeedOption = "0",
    color_fix: o.ColorFixOption = "none",
    metrics: Annotated[
        str,
        typer.Option(
            metavar="NAME,...",
            help="psnr_y, ssim_y, psnr_rgb, ssim_rgb, lpips_alex, lr_psnr.",
            rich_help_panel=COMPARISON,
        ),
    ] = "psnr_y,ssim_y,lpips_alex,lr_psnr",
    protocol: Annotated[
        Literal["paper", "full"],
        typer.Option(
            metavar="NAME", help="paper leaves out a border of SCALE pixels, full none.", rich_help_panel=COMPARISON
        ),
    ] = "paper",
    paper_row: Annotated[
        bool,
        typer.Option(
            "--paper-row",
            metavar=o.FLAG,
            help="Show the paper's rows for Set5, B100, Urban100, Manga109 too.",
            rich_help_panel=COMPARISON,
        ),
    ] = False,
    device: o.DeviceOption = "auto",
    precision: o.PrecisionOption = "auto",
    backend: o.BackendOption = "auto",
    threads: o.ThreadsOption = None,
    tile: o.TileOption = "auto",
    tile_overlap: o.TileOverlapOption = None,
    max_memory: o.MaxMemoryOption = None,
    offline: o.OfflineOption = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Keep everything there.", rich_help_panel=o.FILES),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="One report: .json, .csv, .md or .html.", rich_help_panel=o.FILES),
    ] = None,
    pictures: Annotated[
        int, typer.Option(min=1, max=100, metavar="N", help="How many a page shows.", rich_help_panel=o.FILES)
    ] = 6,
    overwrite: o.OverwriteOption = False,
    json: o.JsonOption = False,
    quiet: o.QuietOption = False,
    verbose: o.VerboseOption = False,
    no_progress: o.NoProgressOption = False,
    debug: o.DebugOption = False,
) -> None:
    """Check, pair, enlarge and score, report; the help is the module's docstring."""
    out.configure(quiet=quiet, verbose=verbose, json=json, progress=not no_progress, debug=debug)
    if sr is not None and (model or steps or lr):
        raise UsageError("--sr scores finished pictures.", "Leave --model, --steps and --lr out.")
    if sr is not None and degrade is not None:
        raise UsageError("--degrade is of small pictures, and --sr scores finished ones.", "Leave one of them out.")
    if sr is None and label is not None:
        raise UsageError("--label is the name of --sr.", "Leave it out, or give --sr.")
    counts, wanted, degradation = _counts(steps), _metrics(metrics), parse_degradation(degrade)
    if lr is not None and degradation.kernel != "bicubic":
        raise UsageError("The small pictures of --lr are made already.", "Leave the kernel out, or --lr.")
    from ..evaluation.evaluate import Evaluation
    from ..evaluation.evaluate import evaluate as score_all
    from ..evaluation.protocol import rules
    from ..evaluation.subjects import Bicubic, Finished
    from ..evaluation.testset import open_test_set
    from ..reports.evaluation import as_dict, tables
    from ..runtime import choose_runtime, environment

    options = parse_upscale_options(
        scale=scale,
        sampler=sampler,
        eta=eta,
        temperature=temperature,
        seed=seed,
        tile=tile,
        tile_overlap=tile_overlap,
        max_memory=max_memory,
        color_fix=color_fix,
    )
    dataset = name or _name_of(hr)
    paper = _paper_set(dataset, hr, scale) if paper_row else ""
    if paper and (limit or protocol != "paper" or str(degradation)):
        out.warning("The paper's rows are of whole, clean sets and its own protocol: these are not comparable.")
    reports = Reports(output, report, pictures, overwrite)
    reports.check()
    cases = open_test_set(hr, scale, lr=lr, finished=sr, limit=limit, without=output, degradation=degradation)
    machine = {"device": device, "precision": precision, "backend": backend, "threads": threads}
    runtimes = [choose_runtime(**machine)]  # type: ignore[arg-type]  # each has its own type
    subjects: list[Subject] = [Bicubic()]
    if sr is not None:
        subjects.append(Finished(label or sr.stem))
    else:
        models = list(_models(model, counts, options, machine, offline))
        runtimes = [subject.resolver.runtime for subject in models] or runtimes
        subjects += models
    warnings: list[str] = []

    def tell(remark: str) -> None:
        warnings.append(remark)
        out.warning(remark)

    with reports.journal() as journal, reports.pictures_folder() as keep:
        with out.count(dataset, "scores") as progress:
            scores = score_all(
                cases,
                subjects,
                rules(protocol, scale),
                wanted,
                journal=journal,
                keep=keep,
                progress=progress,
                tell=tell,
            )
        where = "; ".join(dict.fromkeys(map(_words, runtimes)))
        evaluation = Evaluation(
            dataset, rules(protocol, scale), lr is not None, scores, paper, environment(), where, str(degradation)
        )
        reports.write(evaluation, cases, keep)
    for table in tables(evaluation, intervals=False):
        out.table(table.title, table.header, table.rows, table.note, table.words)
    if out.as_json:
        out.json(as_dict(evaluation) | {"warnings": warnings})


@dataclass(frozen=True)
class Reports:
    """What is kept of an evaluation, and where."""

    folder: Path | None
    report: Path | None
    pictures: int
    overwrite: bool

    def check(self) -> None:
        """Before the long work: whether it can be written.

        Raises:
            OutputError: it cannot, or the folder holds something else.
            UsageError: the report's suffix names no format.
        """
        from ..atomic import check_output
        from ..reports.evaluation import writer

        if self.report is not None:
            writer(self.report)
            check_output(self.report, overwrite=self.overwrite)
        if self.folder is None:
            return
        try:
            there = self.folder.exists()
            foreign = there and any(self.folder.iterdir()) and not (self.folder / JOURNAL).exists()
        except OSError as error:
            raise self._cannot_write(error) from None
        if foreign:
            raise OutputError(f"'{self.folder}' holds other files.", "Choose a new folder with -o.")

    def _cannot_write(self, error: OSError) -> OutputError:
        return OutputError(f"'{self.folder}' cannot be written: {error.strerror}.", "Choose another folder.")

    @contextlib.contextmanager
    def journal(self) -> Iterator[Journal | None]:
        """What is done already; None where nothing is kept."""
        from ..journal import Journal

        if self.folder is None:
            yield None
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._cannot_write(error) from None
        with Journal(self.folder / JOURNAL) as journal:
            yield journal

    @contextlib.contextmanager
    def pictures_folder(self) -> Iterator[Path | None]:
        """Where enlarged pictures are kept, for the reader or for the page alone."""
        if self.folder is not None:
            yield self.folder
        elif self.report is not None and self.report.suffix.lower() == ".html":
            with tempfile.TemporaryDirectory() as folder:
                yield Path(folder)
        else:
            yield None

    def write(self, evaluation: Evaluation, cases: list[Case], keep: Path | None) -> None:
        """All reports that were asked for."""
        from ..atomic import write_atomic
        from ..reports.evaluation import FORMATS, as_page, writer

        targets = [] if self.report is None else [(self.report, self.overwrite)]
        if self.folder is not None:
            targets += [(self.folder / f"results{suffix}", True) for suffix in FORMATS]
        for path, overwrite in targets:
            write = writer(path)
            if write is None:
                assert keep is not None
                text = as_page(evaluation, cases, keep, self.pictures)
            else:
                text = write(evaluation)
            write_atomic(text.encode("utf-8", "backslashreplace"), path, overwrite=overwrite)
            out.detail(f"Wrote {path}.")


def _models(
    names: list[str] | None,
    counts: list[int | None],
    options: UpscaleOptions,
    machine: dict[str, Any],
    offline: bool,
) -> Iterator[AtSteps]:
    """Every model with every number of steps; bicubic is there already."""
    from ..checkpoints.catalog import default_model
    from ..evaluation.subjects import AtSteps
    from ..pipeline import SuperResolver

    for name in names or [default_model()]:
        if name == BICUBIC:
            continue
        with out.download(name) as progress:
            resolver = SuperResolver.from_pretrained(name, offline=offline, on_download=progress, **machine)
        for count in counts:
            yield AtSteps(resolver, dataclasses.replace(options, steps=count))


def _counts(steps: str | None) -> list[int | None]:
    """The numbers of steps; None is the model's own."""
    if steps is None:
        return [None]
    parts = steps.split(",")
    if not all(part.strip().isdecimal() and 0 < int(part) < 10**6 for part in parts):
        raise UsageError(f"{steps!r} are no numbers of steps.", "Write them as 1,2,5.")
    return list(dict.fromkeys(int(part) for part in parts))


def _metrics(text: str) -> list[str]:
    from ..evaluation.paper import ALL_METRICS

    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in ALL_METRICS:
            raise UsageError(f"{name!r} is no metric.", f"Choose of: {', '.join(ALL_METRICS)}.")
    return list(dict.fromkeys(names))


def _name_of(hr: Path) -> str:
    """Set5 of Set5/HR: the last part of the path that is more than a role."""
    parts = [part for part in hr.resolve().parts if part.lower() not in ROLES]
    return Path(parts[-1]).stem if parts else hr.name


def _paper_set(dataset: str, hr: Path, scale: int) -> str:
    from ..evaluation.paper import SETS, guess_set, paper_rows

    known = dataset if paper_rows(dataset, scale) else guess_set(str(hr.resolve()))
    if not paper_rows(known, scale):
        raise UsageError(
            f"The paper has no row for {dataset} x{scale}.",
            f"It has x2 and x4 of {', '.join(SETS)}: say so with --name.",
        )
    return known


def _words(runtime: Runtime) -> str:
    isa = "" if runtime.isa is None else f", {runtime.isa}"
    return f"{runtime.device}, {runtime.threads} threads, {runtime.backend}{isa}"
