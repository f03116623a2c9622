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
from .pictures import HEADER, as_markdown, cells, conditions

Results = Sequence[dict[str, Any]]

# column: where the value lies in the object of one picture
COLUMNS: dict[str, tuple[str | int, ...]] = {
    "input": ("input",),
    "output": ("output",),
    "status": ("status",),
    "input_width": ("input_size", 0),
    "input_height": ("input_size", 1),
    "input_quality": ("input_quality",),
    "output_width": ("output_size", 0),
    "output_height": ("output_size", 1),
    "scale": ("scale",),
    "model": ("model", "name"),
    "model_revision": ("model", "revision"),
    "model_sha256": ("model", "sha256"),
    "steps": ("steps",),
    "sampler": ("sampler",),
    "eta": ("eta",),
    "temperature": ("temperature",),
    "seed": ("seed",),
    "device": ("device",),
    "dtype": ("dtype",),
    "backend": ("backend",),
    "isa": ("isa",),
    "threads": ("threads",),
    "tile_width": ("tiles", "size", 0),
    "tile_height": ("tiles", "size", 1),
    "tile_overlap": ("tiles", "overlap"),
    "tile_count": ("tiles", "count"),
    "tile_concurrent": ("tiles", "concurrent"),
    "seconds_total": ("seconds", "total"),
    "seconds_load_model": ("seconds", "load_model"),
    "seconds_decode": ("seconds", "decode"),
    "seconds_sample": ("seconds", "sample"),
    "seconds_encode": ("seconds", "encode"),
    "seconds_per_step": ("seconds", "per_step"),
    "peak_memory_host": ("peak_memory_bytes", "host"),
    "peak_memory_device": ("peak_memory_bytes", "device"),
    "warnings": ("warnings",),
    "error": ("error",),
    "bidiffsr": ("environment", "bidiffsr"),
    "torch": ("environment", "torch"),
    "python": ("environment", "python"),
    "platform": ("environment", "platform"),
    "cpu": ("environment", "cpu"),
}


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


def as_html(results: Results) -> str:
    """A page with the same table and conditions as in Markdown."""
    from .page import Page, render_page
    from .tables import Table

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
