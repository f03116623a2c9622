"""What the terminal shows of a picture: one line when it is done, a table of its phases, and the plan of a dry run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..checkpoints.catalog import AUTO, default_model, suited_model
from ..results import UpscaleResult
from ..text import counted
from .files import model_name

Rows = list[tuple[str, str]]
"""What is shown as a small table: names and values."""


def summary(result: UpscaleResult, *, with_seed: bool = False) -> str:
    """photo.jpg 640x480 -> photo_x2.png 1280x960 in 3.2 s (fast, 5 steps, 12 windows, 410 MB)"""
    details = [result.model.name, counted(result.steps, "step"), counted(result.tiles.count, "window")]
    if with_seed:
        details.append(f"seed {result.seed}")
    if result.peak_memory_bytes.host is not None:
        details.append(f"{result.peak_memory_bytes.host / 1e6:.0f} MB")
    return f"{pictures(result)} in {duration(result.seconds.total)} ({', '.join(details)})"


def pictures(result: UpscaleResult) -> str:
    """photo.jpg 640x480 -> photo_x2.png 1280x960"""
    source = "stdin" if result.input == "-" else Path(result.input or "picture").name
    target = "stdout" if result.output == "-" else result.output
    return f"{source} {_size(result.input_size)} -> {target} {_size(result.output_size)}"


def phases(result: UpscaleResult) -> Rows:
    """Where the time went, and on what."""
    seconds, memory = result.seconds, result.peak_memory_bytes
    rows = [
        ("load model", duration(seconds.load_model)),
        ("decode", duration(seconds.decode)),
        ("sample", f"{duration(seconds.sample)}, {duration(seconds.per_step)} per step"),
        ("encode", duration(seconds.encode)),
        ("total", duration(seconds.total)),
        *_circumstances(result),
    ]
    if memory.device is not None:
        rows.append(("device memory", f"{memory.device / 1e6:.0f} MB"))
    return rows


def totals(answer: dict[str, Any]) -> str:
    """3 done, 1 skipped in 3.2 s, 0.94 pictures/s, 1.30 MP/s, peak 410 MB: of the JSON object of batch."""
    words = ", ".join(f"{count} {name}" for name, count in answer["counts"].items() if count or name == "done")
    rates, memory = "", answer["peak_memory_bytes"]
    if answer["pictures_per_second"]:
        rates = f", {answer['pictures_per_second']:.2f} pictures/s, {answer['megapixels_per_second']:.2f} MP/s"
    rates += "" if memory is None else f", peak {memory / 1e6:.0f} MB"
    return f"{words} in {duration(answer['seconds'])}{rates}"


def suited_hint(results: Sequence[dict[str, Any]]) -> str:
    """Which model would suit pictures better than the default one that they had; empty where none would.

    Args:
        results: as of `UpscaleResult.to_dict`; those that failed say nothing.
    """
    lower = [quality for result in results if suited_model(quality := result.get("input_quality")) != default_model()]
    if not lower:
        return ""
    better = suited_model(lower[0])
    if len(results) == 1:
        return f"The picture is visibly compressed (quality about {lower[0]}): --model {better} is made for such."
    are = "is" if len(lower) == 1 else "are"
    return (
        f"{len(lower)} of {len(results)} pictures {are} visibly compressed: --model {better} is made for such, "
        f"--model {AUTO} takes it for these alone."
    )


def planned(result: UpscaleResult, format: str, seconds: float, memory: int) -> Rows:
    """What a dry run found out: the result as it would be, the file's format, and the time and memory it would take."""
    return [
        ("format", format),
        *_circumstances(result),
        ("steps", f"{result.steps} ({result.sampler}, eta {result.eta:g}, temperature {result.temperature:g})"),
        ("seed", str(result.seed)),
        ("memory", f"about {memory / 1e6:.0f} MB"),
        ("time", f"about {duration(seconds)}"),
    ]


def duration(seconds: float) -> str:
    """Seconds as a person reads them: 0.015 s, 3.2 s, 4 min 10 s, 2 h 5 min."""
    if seconds < 1:
        return f"{seconds:.3f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _circumstances(result: UpscaleResult) -> Rows:
    tiles, model = result.tiles, result.model
    kernels = result.backend if result.isa is None else f"{result.backend}, {result.isa}"
    name = model_name({"name": model.name, "revision": model.revision})
    return [
        ("model", f"{name} (sha256 {model.sha256[:12]})"),
        ("device", f"{result.device}, {result.dtype} ({kernels}, {counted(result.threads, 'thread')})"),
        ("windows", f"{tiles.count} of {_size(tiles.size)}, overlap {tiles.overlap}, {tiles.concurrent} at once"),
    ]


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
