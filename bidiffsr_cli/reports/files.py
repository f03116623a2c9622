"""Report files: one row or object for each picture, in the format that the suffix names.

JSON is {"schema": "bidiffsr-batch/1", "images": [...]}, each image as `upscale --json` prints it. CSV has one flat
row for each image, always with the same columns. Markdown and HTML are a small table, with the conditions under which
it was measured.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..results import MANY
from ..text import counted, csv_cell
from .tables import Table, plain, table_row

Results = Sequence[dict[str, Any]]
HEADER = ("picture", "from", "to", "model", "steps", "windows", "seconds", "s per step", "peak memory")

_COLUMNS = """
input output status input_width=input_size.0 input_height=input_size.1 input_quality
output_width=output_size.0 output_height=output_size.1 scale
model=model.name model_revision=model.revision model_sha256=model.sha256
steps sampler eta temperature seed device dtype backend isa threads
tile_width=tiles.size.0 tile_height=tiles.size.1 tile_overlap=tiles.overlap tile_count=tiles.count
tile_concurrent=tiles.concurrent
seconds_total=seconds.total seconds_load_model=seconds.load_model seconds_decode=seconds.decode
seconds_sample=seconds.sample seconds_encode=seconds.encode seconds_per_step=seconds.per_step
peak_memory_host=peak_memory_bytes.host peak_memory_device=peak_memory_bytes.device
warnings error
bidiffsr=environment.bidiffsr torch=environment.torch python=environment.python platform=environment.platform
cpu=environment.cpu
"""
COLUMNS: dict[str, tuple[str | int, ...]] = {
    column: tuple(int(key) if key.isdecimal() else key for key in (place or column).split("."))
    for column, _, place in (word.partition("=") for word in _COLUMNS.split())
}
"""Column -> where the value lies in the object of one picture."""


def check_suffix(path: Path) -> None:
    """Raise UsageError if the suffix names no format of reports."""
    _writer(path)


def check_report(path: Path, *, overwrite: bool) -> None:
    """Check that a report can be written there; called before the long work.

    Raises:
        UsageError: the suffix names no format of reports.
        OutputError: the file exists and `overwrite` is off, or its folder cannot be written.
    """
    from ..atomic import check_output

    check_suffix(path)
    check_output(path, overwrite=overwrite)


def write_report(results: Results, path: Path, *, overwrite: bool = False) -> None:
    """Write the results, as `UpscaleResult.to_dict` gives them, to a whole file or none.

    Raises:
        UsageError: the suffix names no format of reports.
        OutputError: the file exists and `overwrite` is off, or it cannot be written.
    """
    from ..atomic import write_atomic

    write_atomic(_writer(path)(results).encode("utf-8", "backslashreplace"), path, overwrite=overwrite)


def as_json(results: Results) -> str:
    """All results as one JSON object."""
    return json.dumps({"schema": MANY, "images": list(results)}, indent=2) + "\n"


def as_csv(results: Results) -> str:
    """A header and one row for each result; several warnings stand in one cell."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows([csv_cell(cell(result, place)) for place in COLUMNS.values()] for result in results)
    return text.getvalue()


def as_markdown(results: Results) -> str:
    """A table with one row for each result, and a list of conditions for each machine and setting among them."""
    good = [result for result in results if "error" not in result]
    lines = ["# Pictures enlarged by bidiffsr", "", table_row(HEADER), table_row(["---"] * len(HEADER))]
    lines += [table_row(list(map(plain, cells(result)))) for result in good]
    lines += ["", "Conditions:", ""]
    lines += dict.fromkeys(f"- {plain(conditions(result))}" for result in good)
    notes = [f"- {plain(result['input'])}: {plain(warning)}" for result in good for warning in result["warnings"]]
    if notes:
        lines += ["", "Warnings:", "", *notes]
    failures = [f"- {plain(result['input'])}: {plain(result['error'])}" for result in results if "error" in result]
    if failures:
        lines += ["", "Failed:", "", *failures]
    return "\n".join(lines) + "\n"


def cells(result: dict[str, Any]) -> list[str]:
    """One row of the table, under HEADER."""
    seconds, host = result["seconds"], result["peak_memory_bytes"]["host"]
    return [
        result["input"] or "-",
        "x".join(map(str, result["input_size"])),
        "x".join(map(str, result["output_size"])),
        model_name(result["model"]),
        str(result["steps"]),
        str(result["tiles"]["count"]),
        f"{seconds['total']:.2f}",
        f"{seconds['per_step']:.3f}",
        "unknown" if host is None else f"{host / 1e6:.0f} MB",
    ]


def conditions(result: dict[str, Any]) -> str:
    """What the figures of a result depend on."""
    tiles, versions = result["tiles"], result["environment"]
    return ", ".join(
        [
            f"x{result['scale']} with {model_name(result['model'])} (sha256 {result['model']['sha256'][:12]})",
            f"{result['sampler']} with eta {result['eta']:g}",
            f"temperature {result['temperature']:g}",
            f"seed {result['seed']}",
            f"windows of {tiles['size'][0]}x{tiles['size'][1]} with overlap {tiles['overlap']}",
            f"{tiles['concurrent']} at once",
            f"{result['device']} in {result['dtype']} ({result['backend']}, {result['threads']} threads)",
            f"bidiffsr {versions['bidiffsr']}",
            f"torch {versions['torch']}",
            f"Python {versions['python']}",
            versions["platform"],
            versions["cpu"],
        ]
    )


def model_name(model: dict[str, str]) -> str:
    """NAME@REVISION, or what a model without a revision is called."""
    return f"{model['name']}@{model['revision']}" if model["revision"] else model["name"]


def as_html(results: Results) -> str:
    """A page with the same table and conditions as in Markdown."""
    from .page import Page, render_page

    good = [result for result in results if "error" not in result]
    bad = [(result["input"], result["error"]) for result in results if "error" in result]
    tables = [Table("Pictures", HEADER, [cells(result) for result in good], "")] if good else []
    tables += [Table("Failed", ("picture", "why"), bad, "", words=2)] if bad else []
    counts = counted(len(good), "picture") + (f", {len(bad)} failed" if bad else "")
    facts = [("pictures", line) for line in dict.fromkeys(map(conditions, good))]
    return render_page(Page("Pictures enlarged by bidiffsr", counts, tables, (), conditions=facts))


def cell(value: Any, place: tuple[str | int, ...]) -> Any:
    """What lies at a place of a nested object, for CSV; an empty string where nothing does."""
    for key in place:
        if isinstance(key, str) and key not in value:
            return ""  # of a picture that failed only this is known: which, and why
        value = value[key]
    return "; ".join(value) if isinstance(value, list) else value


def _writer(path: Path) -> Callable[[Results], str]:
    writers = {".json": as_json, ".csv": as_csv, ".md": as_markdown, ".html": as_html}
    suffix = path.suffix.lower()
    if suffix not in writers:
        raise UsageError(f"'{path}' does not end as a report does.", f"Use {', '.join(writers)}.")
    return writers[suffix]
