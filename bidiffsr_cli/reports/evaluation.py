"""What an evaluation found: tables for the terminal, Markdown, CSV, JSON, and the page with its pictures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ..evaluation.artefacts import NAMES as ARTEFACTS
from ..evaluation.paper import METRICS as OF_PAPER
from ..evaluation.paper import paper_rows
from ..evaluation.result import Evaluation
from ..evaluation.scoring import Score
from ..evaluation.summary import Summary
from ..evaluation.testset import Case
from ..images.pixels import to_image
from ..text import counted, csv_cell
from .files import COLUMNS, cell
from .page import Exhibit, Page, Point, Version, render_page
from .scores import BETTER, METRIC_NAMES, score_text
from .tables import Table, tables_with_conditions

NOTE = (
    f"{BETTER} LR-PSNR is of the result, made small again, against the "
    "small picture that it came from. Seconds are of a picture and of a step, medians."
)
OF_ARTEFACTS = (
    " Grain and weave in levels of 255, comb and cross in dB, all less the original's: near 0 is best. Weave, comb and "
    "cross are of all pictures pooled."
)


def tables(evaluation: Evaluation, *, intervals: bool) -> list[Table]:
    """The means, and the paper's figures beside them.

    Args:
        intervals: add half the width of the 95 % confidence interval of each mean.
    """
    summaries = evaluation.summaries
    metrics = evaluation.metrics
    rows = [
        (
            summary.label,
            *(_mean(summary, name, intervals) for name in metrics),
            _seconds(summary.seconds.get("total")),
            _seconds(summary.seconds.get("per_step")),
        )
        for summary in summaries
    ]
    header = ("", *(METRIC_NAMES[name] for name in metrics), "s", "s/step")
    pictures = counted(evaluation.count, "picture")
    title = f"{evaluation.dataset} x{evaluation.rule.scale}, {pictures}"
    note = NOTE + (OF_ARTEFACTS if set(ARTEFACTS) & set(metrics) else "")
    note += " ± is half of the mean's 95 % confidence interval." if intervals else ""
    found = [Table(title, header, rows, note)]
    if evaluation.paper:
        found.append(_beside_paper(evaluation))
    return found


def _beside_paper(evaluation: Evaluation) -> Table:
    """Our rows, the paper's, and the difference to the paper's BI-DiffSR (bicubic: to its bicubic)."""
    theirs = paper_rows(evaluation.paper, evaluation.rule.scale)
    rows: list[tuple[str, ...]] = [
        (f"paper: {method}", *(score_text(name, values[name]) for name in OF_PAPER), *[""] * 3)
        for method, values in theirs.items()
    ]
    for summary in evaluation.summaries:
        base = theirs["Bicubic" if summary.label == "bicubic" else "BI-DiffSR"]
        own = [summary.mean.get(name) for name in OF_PAPER]
        pairs = list(zip(OF_PAPER, own, strict=True))
        rows.append(
            (
                summary.label,
                *("" if value is None else score_text(name, value) for name, value in pairs),
                *("" if value is None else _signed(name, value - base[name]) for name, value in pairs),
            )
        )
    header = ("", *(METRIC_NAMES[name] for name in OF_PAPER), *(f"Δ {METRIC_NAMES[name]}" for name in OF_PAPER))
    return Table(
        f"Beside the paper's table 2: {evaluation.paper} x{evaluation.rule.scale}",
        header,
        rows,
        "Δ is the difference to the paper's BI-DiffSR (50 steps), of bicubic to its bicubic.",
    )


def as_text(evaluation: Evaluation, suffix: str) -> str:
    """The report of a suffix, .json, .csv or .md; `as_page` makes .html, which needs the pictures too."""
    return {".json": _as_json, ".csv": _as_csv, ".md": _as_markdown}[suffix](evaluation)


def _as_csv(evaluation: Evaluation) -> str:
    """One row for each picture and subject."""
    scores = evaluation.scores
    identity = list(dict.fromkeys(key for score in scores for key in score.identity))
    metrics = evaluation.metrics
    work = [name for name, place in COLUMNS.items() if place[0] in ("seconds", "peak_memory_bytes")]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "width", "height", "scale", "protocol", *identity, *metrics, *work])
    for score in scores:
        row = [
            score.image,
            *score.size,
            evaluation.rule.scale,
            evaluation.rule.name,
            *(score.identity.get(key) for key in identity),
            *(score.values.get(name) for name in metrics),
            *(cell(score.figures, COLUMNS[name]) for name in work),
        ]
        table.writerow(map(csv_cell, row))
    return text.getvalue()


def _as_markdown(evaluation: Evaluation) -> str:
    """The tables, each picture's figures, and the conditions."""
    heading = f"# {evaluation.dataset} x{evaluation.rule.scale}"
    return f"{heading}\n\n{tables_with_conditions(_all_tables(evaluation), _conditions(evaluation))}"


def _all_tables(evaluation: Evaluation) -> list[Table]:
    """Those of a report."""
    return [*tables(evaluation, intervals=True), *_work(evaluation), _by_picture(evaluation)]


def _conditions(evaluation: Evaluation) -> list[tuple[str, str]]:
    """What the figures depend on."""
    protocol = evaluation.rule.describe(evaluation.lr_given, evaluation.degradation)
    rows = [(f"protocol, {key}", value) for key, value in protocol.items()]
    for summary in evaluation.summaries:
        sha256 = summary.identity.get("sha256")
        if sha256:
            facts = summary.identity
            temperature = "the model's" if facts["temperature"] is None else f"{facts['temperature']:g}"
            rows.append(
                (
                    summary.label,
                    f"sha256 {sha256[:12]}, {facts['sampler']}, temperature {temperature}, seed {facts['seed']}, "
                    f"{facts['precision']}, {facts['backend']}",
                )
            )
    peaks = [summary.memory["host"] for summary in evaluation.summaries if "host" in summary.memory]
    if peaks:
        rows.append(("peak memory", f"{max(peaks) / 1e6:.0f} MB of the process"))
    environment = evaluation.environment
    return [
        *rows,
        ("machine", f"{environment['cpu']}, {evaluation.device}"),
        ("versions", ", ".join(f"{name} {environment[name]}" for name in ("bidiffsr", "torch", "python"))),
        ("platform", environment["platform"]),
    ]


def as_page(evaluation: Evaluation, cases: Sequence[Case], kept: Path, most: int) -> str:
    """The page with pictures.

    Args:
        cases: of the test set.
        kept: folder of the enlarged pictures.
        most: how many pictures are shown, the first ones.
    """
    shown = cases[:most]
    rest = f" The first {len(shown)} of {len(cases)} are shown." if len(shown) < len(cases) else ""
    points = [
        Point(
            str(summary.identity["model"]),
            summary.identity.get("steps"),
            summary.mean["psnr_y"],
            summary.mean["lpips_alex"],
            summary.seconds.get("total"),
        )
        for summary in evaluation.summaries
        if {"psnr_y", "lpips_alex"} <= set(summary.mean)
    ]
    return render_page(
        Page(
            title=f"{evaluation.dataset} x{evaluation.rule.scale}",
            summary=f"{counted(len(cases), 'picture')}, enlarged and compared with their originals.{rest}",
            tables=_all_tables(evaluation),
            pictures=[_picture(case, evaluation, kept) for case in shown],
            points=points,
            conditions=_conditions(evaluation),
        )
    )


def _picture(case: Case, evaluation: Evaluation, kept: Path) -> Exhibit:
    """All versions of a picture: small, by every subject, original."""
    pixels = case.load(evaluation.rule.scale)
    hr = to_image(pixels.hr, "RGB")
    small = to_image(pixels.lr, "RGB").resize(hr.size, Image.Resampling.NEAREST)
    versions = [Version("small", small)]
    for score in evaluation.scores:
        if score.image == case.name and score.saved:
            with Image.open(kept / score.saved) as image:
                versions.append(Version(score.label, image.convert("RGB"), score.values | _time(score)))
    versions.append(Version("original", hr))
    return Exhibit(case.name, versions, reference=len(versions) - 1)


def _time(score: Score) -> dict[str, float]:
    return {"seconds": score.figures["seconds"]["total"]} if "seconds" in score.figures else {}


def _work(evaluation: Evaluation) -> list[Table]:
    """What each subject took that was measured, phase by phase."""
    measured = [summary for summary in evaluation.summaries if summary.seconds]
    if not measured:
        return []
    rows = [
        (
            summary.label,
            *(f"{summary.seconds[phase]:.3f}" for phase in ("total", "decode", "sample", "encode", "per_step")),
            *(f"{summary.memory[p] / 1e6:.0f} MB" if p in summary.memory else "" for p in ("host", "device")),
        )
        for summary in measured
    ]
    header = ("", "seconds", "decode", "sample", "encode", "s per step", "peak memory", "device memory")
    note = (
        "Medians over the pictures, in seconds, without loading the model. Peaks are of the whole process up to then: "
        "those of later rows are not below those of earlier ones."
    )
    return [Table("Time and memory", header, rows, note)]


def _by_picture(evaluation: Evaluation) -> Table:
    metrics = evaluation.metrics
    rows = [
        (
            score.image,
            score.label,
            *(score_text(name, score.values.get(name)) for name in metrics),
            _seconds(score.figures["seconds"]["total"] if "seconds" in score.figures else None),
        )
        for score in evaluation.scores
    ]
    return Table("Each picture", ("picture", "", *(METRIC_NAMES[name] for name in metrics), "s"), rows, "", words=2)


def _as_json(evaluation: Evaluation) -> str:
    """Without the warnings, which a run that goes on where another stopped would not have."""
    found = evaluation.to_dict()
    del found["warnings"]
    return json.dumps(found, indent=2) + "\n"


def _mean(summary: Summary, name: str, interval: bool) -> str:
    text = score_text(name, summary.mean.get(name))
    return f"{text} ± {score_text(name, summary.interval[name])}" if interval and name in summary.interval else text


def _signed(name: str, value: float) -> str:
    return f"{value:+.2f}" if "psnr" in name else f"{value:+.4f}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
