"""Measuring quality: originals are made small, enlarged, and compared; figures and pictures are kept as reports.

evaluation = evaluate("Set5/HR", lr="Set5/LR", steps=(1, 2), output="report/")
for summary in evaluation.summaries:
    print(summary.label, summary.mean["psnr_y"], summary.mean["lpips_alex"])
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Literal

from ..atomic import make_folder, write_atomic
from ..checkpoints.catalog import AUTO, default_model
from ..errors import UsageError, check_least
from ..evaluation.paper import ALL_METRICS, choose_set
from ..evaluation.protocol import rules
from ..evaluation.result import Evaluation
from ..evaluation.scoring import score_all
from ..evaluation.subjects import AtSteps, Bicubic, Finished, Subject
from ..evaluation.testset import name_of_set, open_test_set
from ..images.degrading import UNCHANGED, Degradation
from ..journal import Journal
from ..options import UpscaleOptions
from ..reports import check_report
from ..reports.evaluation import as_page, as_text
from ..runtime import Machine, Runtime, choose_runtime, environment
from .files import check_folder, label_of, several
from .listener import SILENT, Listener, as_function, load_resolver

JOURNAL = "scores.jsonl"
RESULTS = ("results.json", "results.csv", "results.md", "results.html")


@dataclass(frozen=True)
class EvaluateRequest:
    """What is enlarged and scored, and what is kept of it.

    Attributes:
        hr: folder of the originals.
        lr: folder of small pictures, which belong to the originals by name; None makes them by MATLAB's bicubic.
        sr: folder of pictures that any tool enlarged, which are scored instead of models.
        label: what those are called; None takes the folder's name.
        name: what the test set is called; None takes it from its path.
        limit: how many pictures, the first ones by name; None takes all.
        degradation: what makes the small pictures worse before they are enlarged.
        models: as `load_checkpoint` takes them; None is the first of the catalog, and "bicubic" alone no model.
            Bicubic interpolation is scored in any case.
        steps: numbers of steps, each scored with every model, instead of those of `options`.
        options: how models enlarge; its scale is that of the small pictures.
        metrics: of psnr_y, ssim_y, psnr_rgb, ssim_rgb, lpips_alex, lr_psnr, grain, weave, comb, cross.
        protocol: paper leaves a border of as many pixels as the scale out of PSNR and SSIM, full nothing.
        paper_row: put the paper's figures beside these: the set is one of Set5, B100, Urban100, Manga109.
        machine: where models run.
        offline: never use the network.
        output: folder in which everything is kept, and where a run that was stopped goes on; None keeps nothing.
        report: one more report, a .json, .csv, .md or .html file.
        pictures: how many pictures an HTML page shows.
        overwrite: replace `report` if it is there.

    Raises:
        UsageError: a value is not possible, or two do not go together.
    """

    hr: str | Path
    _: KW_ONLY
    lr: str | Path | None = None
    sr: str | Path | None = None
    label: str | None = None
    name: str | None = None
    limit: int | None = None
    degradation: Degradation = UNCHANGED
    models: str | Sequence[str] | None = None
    steps: int | Sequence[int] | None = None
    options: UpscaleOptions = field(default_factory=UpscaleOptions)
    metrics: str | Sequence[str] = ("psnr_y", "ssim_y", "lpips_alex", "lr_psnr")
    protocol: Literal["paper", "full"] = "paper"
    paper_row: bool = False
    machine: Machine = field(default_factory=Machine)
    offline: bool = False
    output: str | Path | None = None
    report: str | Path | None = None
    pictures: int = 6
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_least(1, limit=self.limit, pictures=self.pictures)
        if self.sr is not None and (self.models or self.steps or self.lr):
            raise UsageError("--sr scores finished pictures.", "Leave --model, --steps and --lr out.")
        if AUTO in several(self.models or ()):
            raise UsageError(
                "eval scores one model at a time, and auto chooses for each picture.", "Name models: -m fast -m photo"
            )
        if self.sr is not None and self.degradation != UNCHANGED:
            raise UsageError("--degrade is of small pictures, and --sr scores finished ones.", "Leave one of them out.")
        if self.sr is None and self.label is not None:
            raise UsageError("--label is the name of --sr.", "Leave it out, or give --sr.")
        if self.lr is not None and self.degradation.kernel != "bicubic":
            raise UsageError("The small pictures of --lr are made already.", "Leave the kernel out, or --lr.")
        for name in several(self.metrics):
            if name not in ALL_METRICS:
                raise UsageError(f"{name!r} is not a metric.", f"Choose of: {', '.join(ALL_METRICS)}.")


def run(request: EvaluateRequest, listener: Listener = SILENT) -> Evaluation:
    """Score enlarged pictures against their originals.

    Returns:
        The scores of every picture; `summaries` has the means, and `to_dict` the object of `eval --json`.

    Raises:
        UsageError: what is asked for does not go together, or no model can do it.
        InputError: a picture is missing, damaged or too small, or sizes do not fit.
        OutputError: a report cannot be written, or `output` holds other files.
        ModelError: a model cannot be had.
        DeviceError: the device is not there, or its memory does not suffice.
    """
    hr, (lr, sr, output, report) = (
        Path(request.hr),
        map(_path, (request.lr, request.sr, request.output, request.report)),
    )
    scale, degradation = request.options.scale, request.degradation
    rule = rules(request.protocol, scale)
    dataset = request.name or name_of_set(hr)
    paper = choose_set(dataset, str(hr.resolve()), scale) if request.paper_row else ""
    if paper and (request.limit or request.protocol != "paper" or degradation != UNCHANGED):
        listener.warning("The paper's rows are of whole, clean sets and its own protocol: these are not comparable.")
    if report is not None:
        check_report(report, overwrite=request.overwrite)
    if output is not None:
        check_folder(output, ours=[JOURNAL])
    cases = open_test_set(hr, scale, lr=lr, finished=sr, limit=request.limit, without=output, degradation=degradation)
    runtimes = [choose_runtime(request.machine)]
    subjects: list[Subject] = [Bicubic()]
    if sr is not None:
        subjects.append(Finished(request.label or label_of(sr)))
    else:
        models = list(_models(request, listener))
        runtimes = [model.resolver.runtime for model in models] or runtimes
        subjects += models
    warnings: list[str] = []

    def tell(remark: str) -> None:
        warnings.append(remark)
        listener.warning(remark)

    done: contextlib.AbstractContextManager[Journal | None] = contextlib.nullcontext()
    if output is not None:
        make_folder(output)
        done = Journal(output / JOURNAL)
    with done as journal, _pictures_folder(output, report) as keep:
        with listener.progress(dataset, "scores") as progress:
            metrics = list(dict.fromkeys(several(request.metrics)))
            scores = score_all(cases, subjects, rule, metrics, journal=journal, keep=keep, progress=progress, tell=tell)
        evaluation = Evaluation(
            dataset,
            rule,
            lr is not None,
            metrics,
            scores,
            paper,
            environment(),
            "; ".join(dict.fromkeys(map(_words, runtimes))),
            str(degradation),
            tuple(warnings),
        )
        listener.found(evaluation)
        reports = [] if report is None else [(report, request.overwrite)]
        reports += [] if output is None else [(output / name, True) for name in RESULTS]
        for path, overwrite in reports:
            if path.suffix.lower() == ".html":
                assert keep is not None
                text = as_page(evaluation, cases, keep, request.pictures)
            else:
                text = as_text(evaluation, path.suffix.lower())
            write_atomic(text.encode("utf-8", "backslashreplace"), path, overwrite=overwrite)
            listener.detail(f"Wrote {path}.")
    return evaluation


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)


def _models(request: EvaluateRequest, listener: Listener) -> Iterator[AtSteps]:
    """Every model with every number of steps."""
    ways = [request.options]
    if request.steps is not None:
        counts = dict.fromkeys(several(request.steps))
        ways = [dataclasses.replace(request.options, steps=count, preset=None) for count in counts]
    for name in several(request.models or default_model()):
        if name == Bicubic.label:  # which is there already
            continue
        resolver = load_resolver(name, request.machine, listener, offline=request.offline)
        for options in ways:
            yield AtSteps(resolver, options)


@contextlib.contextmanager
def _pictures_folder(output: Path | None, report: Path | None) -> Iterator[Path | None]:
    """Where enlarged pictures are kept, for the reader or for the page alone."""
    if output is None and report is not None and report.suffix.lower() == ".html":
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    else:
        yield output


def _words(runtime: Runtime) -> str:
    isa = "" if runtime.isa is None else f", {runtime.isa}"
    return f"{runtime.device}, {runtime.threads} threads, {runtime.backend}{isa}"


evaluate = as_function(EvaluateRequest, run)
