"""Enlarge every picture in folders.

Examples:
  bidiffsr batch photos/                          writes to photos_x2/
  bidiffsr batch 2023/ 2024/ -o big/              to big/2023/ and big/2024/
  bidiffsr batch photos/ -o big/ --recursive --exclude "*.gif" --scale 4
  bidiffsr batch photos/ -o big/ --report run.json
  bidiffsr batch photos/ -o big/ --shard 3/8      one of eight jobs of Slurm
  bidiffsr batch photos/ -o big/ --engine ray --ray-address auto
  bidiffsr batch s3://bucket/photos -o s3://bucket/big   needs the extra s3

Run again, it goes on: what is done is skipped, what changed since is done
anew, and what a crash left is mended. Broken pictures are named at the end,
and the others are done all the same (exit code 3). Files that are in the
output folder and were not made here are never touched without --overwrite.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..errors import OutputError, UsageError
from . import _options as o
from ._bar import FolderBar
from ._errors import SOME_FAILED, some_failed
from ._files import is_file
from ._output import out
from ._values import parse_shard, parse_upscale_options

if TYPE_CHECKING:
    from ..checkpoints.files import Checkpoint
    from ..distributed.folder import Found, Job, Selection
    from ..distributed.ledger import Ledger
    from ..distributed.storage import Folder
    from ..distributed.work import Outcome, Watch, Work

PICTURES, WORKERS = "Pictures", "Workers"
EXTENSIONS = {
    "auto": ".png",
    "same": "",
    "png": ".png",
    "jpg": ".jpg",
    "webp": ".webp",
    "avif": ".avif",
    "tiff": ".tif",
}


def batch(
    folders: Annotated[
        list[str],
        typer.Argument(metavar="FOLDER...", help="Of pictures, or their URLs; pictures too.", show_default=False),
    ],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="DIR", help="Where the results go.", show_default="FOLDER_x2"),
    ] = None,
    scale: o.ScaleOption = 2,
    model: o.ModelOption = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", metavar=o.FLAG, help="Folders in it, too.", rich_help_panel=PICTURES)
    ] = False,
    include: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="These alone; several times.", rich_help_panel=PICTURES),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="All but these; several times.", rich_help_panel=PICTURES),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="The first N by name.", rich_help_panel=PICTURES)
    ] = None,
    shard: Annotated[str, typer.Option(metavar="I/N", help="The I-th of N parts.", rich_help_panel=PICTURES)] = "1/1",
    suffix: Annotated[str, typer.Option(metavar="TEXT", help="Of the results' names.", rich_help_panel=PICTURES)] = "",
    fail_fast: Annotated[
        bool,
        typer.Option("--fail-fast", metavar=o.FLAG, help="Stop at the first that fails.", rich_help_panel=PICTURES),
    ] = False,
    steps: o.StepsOption = None,
    preset: o.PresetOption = None,
    sampler: o.SamplerOption = "ddim",
    eta: o.EtaOption = 0.0,
    temperature: o.TemperatureOption = None,
    seed: o.SeedOption = "0",
    format: o.FormatOption = "auto",
    quality: o.QualityOption = None,
    width: o.WidthOption = None,
    height: o.HeightOption = None,
    long_side: o.LongSideOption = None,
    alpha: o.AlphaOption = "lanczos",
    color_fix: o.ColorFixOption = "none",
    strip_metadata: o.StripOption = False,
    provenance: o.ProvenanceOption = True,
    overwrite: o.OverwriteOption = False,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(
            metavar="NAME", help="local, or ray: a cluster, which needs the extra ray.", rich_help_panel=WORKERS
        ),
    ] = "local",
    ray_address: Annotated[
        str | None,
        typer.Option(metavar="ADDR", help="Of the cluster.", show_default="a new one here", rich_help_panel=WORKERS),
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(
            "--jobs", "-j", min=1, max=64, metavar="N", help="Threads that decode and encode.", rich_help_panel=WORKERS
        ),
    ] = 2,
    device: Annotated[
        str,
        typer.Option(
            "--device",
            "-d",
            metavar="DEVICE,...",
            envvar="BIDIFFSR_DEVICE",
            help="As for upscale; several work side by side: cuda:0,cuda:1.",
            rich_help_panel=o.MACHINE,
        ),
    ] = "auto",
    precision: o.PrecisionOption = "auto",
    backend: o.BackendOption = "auto",
    threads: o.ThreadsOption = None,
    tile: o.TileOption = "auto",
    tile_overlap: o.TileOverlapOption = None,
    max_memory: o.MaxMemoryOption = None,
    offline: o.OfflineOption = False,
    dry_run: o.DryRunOption = False,
    report: o.ReportOption = None,
    json: o.JsonOption = False,
    quiet: o.QuietOption = False,
    verbose: o.VerboseOption = False,
    no_progress: o.NoProgressOption = False,
    debug: o.DebugOption = False,
) -> None:
    """Find the pictures, leave out what is done, do the rest, report; the help is the module's docstring."""
    out.configure(quiet=quiet, verbose=verbose, json=json, progress=not no_progress, debug=debug)
    if seed == "random":
        raise UsageError("A random seed would be another one after every interruption.", "Give a number.")
    if ray_address is not None and engine != "ray":
        raise UsageError("--ray-address is for --engine ray.", "Add it, or leave the address out.")
    devices = [name.strip() for name in device.split(",")]
    if len(set(devices)) < len(devices) or (len(devices) > 1 and engine == "ray"):
        raise UsageError(f"Devices {device!r} cannot work side by side.", "Name each once; with ray name one.")

    options = parse_upscale_options(
        scale=scale,
        steps=steps,
        preset=preset,
        sampler=sampler,
        eta=eta,
        temperature=temperature,
        seed=seed,
        tile=tile,
        tile_overlap=tile_overlap,
        max_memory=max_memory,
        alpha=alpha,
        color_fix=color_fix,
    )
    from ..distributed.folder import Selection
    from ..reports import check_report

    if report is not None:
        check_report(Path(report), overwrite=overwrite)
    part = parse_shard(shard)
    selection = Selection(recursive, include or (), exclude or (), limit, part)
    parts = _parts(folders, output, scale, selection, suffix, EXTENSIONS[format], absolute=engine == "ray")

    from ..checkpoints.catalog import AUTO, default_model, suited_models
    from ..checkpoints.models import absolute_word
    from ..distributed.ledger import Ledger
    from ..distributed.work import SAME, Work
    from ..enlarging import Writing
    from ..images import choose_format
    from ..reports.terminal import suited_hint
    from ..runtime import choose_runtime, keep_freed_memory

    writing = Writing(
        SAME if format == "same" else choose_format(format, Path(f"x{EXTENSIONS[format]}")),
        quality,
        strip_metadata,
        provenance,
        (width, height, long_side),
    )
    writing.final_size((1000, 1000))
    name = model or default_model()
    checkpoints = [_fetched(word, scale, offline=offline) for word in (suited_models() if name == AUTO else [name])]
    checkpoint = checkpoints[0]
    runtime = choose_runtime(devices[0], precision, backend, threads, **checkpoint.runtime_facts)
    machine = {"device": runtime.device, "precision": runtime.precision, "backend": runtime.backend}
    keep_freed_memory()
    sha256 = "+".join(item.sha256 for item in checkpoints)
    work = Work(absolute_word(name), tuple((machine | {"threads": threads}).items()), options, writing, overwrite)
    with contextlib.ExitStack() as ledgers:
        for item in parts:
            settings = _settings(work, sha256)
            item.ledger = ledgers.enter_context(Ledger(item.target, settings, part, read_only=dry_run))
            item.skipped, foreign = item.ledger.survey(item.found.jobs)
            if foreign and not overwrite:
                raise _not_ours(foreign)
        if dry_run:
            _planned(parts)
            return
        if any(item.left for item in parts) and engine == "local":
            work.resolver(devices[0]).steps_for(options)
        started = time.perf_counter()
        for item in parts:
            out.message(_opening(item))
            bar = FolderBar(item.left)
            item.outcomes = _do(
                bar, _engine(engine, work, item.ledger, item.left, devices, jobs, ray_address, fail_fast, bar.watch)
            )
            if fail_fast and item.failures:
                break
        seconds = time.perf_counter() - started
    summary = _summary(parts, seconds)
    _tell(summary, parts)
    images = [image for item in parts for image in item.images()]
    if model is None and (hint := suited_hint(images)):
        out.message(hint)
    if report is not None:
        from ..reports import write_report

        write_report(images, Path(report), overwrite=overwrite)
    if out.as_json:
        out.json(summary | {"images": images})
    if any(item.failures or item.found.closed for item in parts):
        raise typer.Exit(SOME_FAILED)


@dataclass
class _Part:
    """A folder of pictures, and that of their results."""

    source: Folder
    target: Folder
    found: Found
    ledger: Any = None
    skipped: dict[Job, dict[str, Any]] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def left(self) -> list[Job]:
        """What is not done yet."""
        return [job for job in self.found.jobs if job not in self.skipped]

    @property
    def failures(self) -> list[Outcome]:
        """What failed."""
        return [item for item in self.outcomes if item.error]

    def images(self) -> list[dict[str, Any]]:
        """The figures of each picture that was done now or before, in order."""
        known = {job: result | {"status": "skipped"} for job, result in self.skipped.items()}
        known |= {item.job: item.result for item in self.outcomes}
        return [known[job] for job in self.found.jobs if job in known]


def _parts(
    names: Sequence[str],
    output: str | None,
    scale: int,
    selection: Selection,
    suffix: str,
    extension: str,
    *,
    absolute: bool,
) -> list[_Part]:
    """Every folder that is named, and every folder that named pictures lie in, with what is to be done of it.

    Raises:
        UsageError: two of them would have one folder of results.
        InputError: a folder is missing, or nothing is to be done at all.
    """
    from ..distributed.folder import NothingToDo, find_jobs
    from ..distributed.storage import open_folder

    several = len(names) > 1
    wanted: list[tuple[Folder, Folder, Selection]] = []
    for folder, pictures in _grouped(names).items():
        source = open_folder(folder, absolute=absolute)
        if output is None and pictures:
            raise UsageError("Pictures that are named need a folder for their results.", "Give one with -o.")
        if output is None:
            target = source.sibling(f"_x{scale}")
        else:
            inside = several and not pictures
            target = open_folder(f"{output.rstrip('/')}/{source.name()}" if inside else output, absolute=absolute)
        meant = dataclasses.replace(selection, recursive=False, names=frozenset(pictures)) if pictures else selection
        wanted.append((source, target, meant))
    for index, (source, target, _) in enumerate(wanted):
        for other, where, _ in wanted[:index]:
            if where.identity() == target.identity():
                raise UsageError(f"The results of '{other}' and '{source}' would lie in one folder.", "Do one by one.")
    targets = [target for _, target, _ in wanted]
    parts = []
    for source, target, meant in wanted:
        try:
            found = find_jobs(source, target, meant, suffix=suffix, extension=extension, results=targets)
        except NothingToDo as error:
            if len(wanted) == 1:
                raise
            out.warning(error.message)
            continue
        parts.append(_Part(source, target, found))
    if not parts:
        raise NothingToDo("There are no pictures in any of the folders.", "Check --recursive, --include, --exclude.")
    for item in parts:
        for sentence in item.found.closed:
            out.warning(sentence)
    if others := sum((item.found.others for item in parts), Counter()):
        from ..distributed.folder import described

        out.message(f"Left out: {described(others)}.")
    return parts


def _grouped(names: Sequence[str]) -> dict[str, list[str]]:
    """Folders, each with the pictures in it that are meant; none stands for all."""
    whole = [name for name in names if "://" in name or not is_file(name)]
    folders: dict[str, list[str]] = {name: [] for name in whole}
    for name in names:
        parent = os.path.dirname(name) or "."  # noqa: PTH120 - Path would take a/./b for a/b
        if name not in folders and not any(_same_folder(parent, folder) for folder in whole):
            folders.setdefault(parent, []).append(Path(name).name)
    return folders


def _same_folder(a: str, b: str) -> bool:
    try:
        return os.path.samefile(a, b)  # noqa: PTH121
    except OSError:
        return False


def _engine(
    engine: str,
    work: Work,
    ledger: Ledger,
    left: Sequence[Job],
    devices: list[str],
    io_threads: int,
    ray_address: str | None,
    fail_fast: bool,
    watch: Watch,
) -> Generator[Outcome]:
    if engine == "ray":
        from ..distributed import cluster

        return cluster.run(left, work, ledger, address=ray_address, tell=out.warning, fail_fast=fail_fast)
    from ..distributed import local

    return local.run(left, work, ledger, devices=devices, io_threads=io_threads, fail_fast=fail_fast, watch=watch)


def _do(bar: FolderBar, outcomes: Generator[Outcome]) -> list[Outcome]:
    """One line for each picture, or a bar."""
    done: list[Outcome] = []
    if not bar.left:
        return done
    with bar.shown(), contextlib.closing(outcomes):
        for outcome in outcomes:
            done.append(outcome)
            bar.finish(outcome.job)
            if outcome.error:
                out.warning(outcome.error)
            elif not out.with_bar:
                seconds, count = outcome.result["seconds"]["sample"], f"{len(done)}/{len(bar.left)}"
                out.message(f"[{count}] {outcome.job.name} -> {outcome.job.target} in {seconds:.1f} s")
    return done


def _fetched(name: str, scale: int, *, offline: bool) -> Checkpoint:
    """A model that enlarges by a scale; what is not on this machine is fetched."""
    from ..checkpoints.models import find_model

    wanted = find_model(name)
    with out.download(name) as progress:
        path = wanted.local_path() or wanted.fetch(offline=offline, progress=progress)
    checkpoint = wanted.read(path)
    if scale not in checkpoint.config.scales:
        able = " and ".join(f"x{known}" for known in checkpoint.config.scales)
        raise UsageError(f"Model {name!r} does not enlarge x{scale}.", f"It enlarges {able}.")
    return checkpoint


def _settings(work: Work, sha256: str) -> dict[str, Any]:
    """All that a result depends on besides its picture; memory and threads are not among it."""
    options = dataclasses.asdict(work.options)
    options.pop("max_memory")
    writing = dataclasses.asdict(work.writing)
    machine = dict(work.machine)
    device = machine["device"].partition(":")[0]
    chosen = {"device": device, "precision": machine["precision"], "backend": machine["backend"]}
    return {"sha256": sha256, **options, **writing, **chosen}


def _planned(parts: Sequence[_Part]) -> None:
    """--dry-run: how much there is to do."""
    from ..results import MANY

    for item in parts:
        out.answer(f"{_opening(item)} (dry run: nothing is written)")
    if out.as_json:
        left = [job.name for item in parts for job in item.left]
        counts = {"done": 0, "skipped": sum(len(item.skipped) for item in parts), "failed": 0, "left": len(left)}
        out.json(
            {
                "schema": MANY,
                "status": "planned",
                "counts": counts,
                "closed": _closed(parts),
                "left_out": _others(parts),
                "left": left,
            }
        )


def _not_ours(jobs: Sequence[Job]) -> OutputError:
    more = "" if len(jobs) <= 3 else f" and {len(jobs) - 3} more"
    names = ", ".join(f"'{job.target}'" for job in jobs[:3])
    return OutputError(f"{names}{more} exist and were not made here.", "Add --overwrite, or choose another -o.")


def _opening(part: _Part) -> str:
    before = f", {len(part.skipped)} of them done before" if part.skipped else ""
    count = len(part.found.jobs)
    return f"{count} picture{'s' if count != 1 else ''}{before} -> {part.target}"


def _closed(parts: Sequence[_Part]) -> list[str]:
    return [sentence for item in parts for sentence in item.found.closed]


def _others(parts: Sequence[_Part]) -> dict[str, int]:
    return dict(sum((item.found.others for item in parts), Counter()))


def _summary(parts: Sequence[_Part], seconds: float) -> dict[str, Any]:
    from ..results import MANY
    from ..runtime import peak_memory

    good = [outcome for item in parts for outcome in item.outcomes if not outcome.error]
    total, skipped = sum(len(item.found.jobs) for item in parts), sum(len(item.skipped) for item in parts)
    pixels = sum(item.result["output_size"][0] * item.result["output_size"][1] for item in good)
    counts = {"done": len(good), "skipped": skipped, "failed": sum(len(item.failures) for item in parts)}
    counts["left"] = total - sum(counts.values())
    closed = _closed(parts)
    return {
        "schema": MANY,
        "status": "done" if len(good) + skipped == total and not closed else "failed",
        "counts": counts,
        "closed": closed,
        "left_out": _others(parts),
        "seconds": seconds,
        "pictures_per_second": len(good) / seconds if good else None,
        "megapixels_per_second": pixels / 1e6 / seconds if good else None,
        "peak_memory_bytes": peak_memory(),
    }


def _tell(summary: dict[str, Any], parts: Sequence[_Part]) -> None:
    from ..reports.terminal import duration

    counts = summary["counts"]
    rates = ""
    if summary["pictures_per_second"]:
        rates = f", {summary['pictures_per_second']:.2f} pictures/s, {summary['megapixels_per_second']:.2f} MP/s"
    memory = summary["peak_memory_bytes"]
    rates += "" if memory is None else f", peak {memory / 1e6:.0f} MB"
    words = ", ".join(f"{count} {name}" for name, count in counts.items() if count or name == "done")
    out.message(f"{words} in {duration(summary['seconds'])}{rates}")
    failures = [outcome.job.name for item in parts for outcome in item.failures]
    if failures:
        out.error(some_failed(failures, sum(counts.values())), "Run it again when they are mended.")
