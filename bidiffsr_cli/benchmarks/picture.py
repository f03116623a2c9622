"""A whole picture: `bidiffsr upscale` in a process of its own, so that its peak memory is that of nothing else.

On another device than the CPU it is enlarged in this process too, as each but the first one of a folder is.
"""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..checkpoints.files import Checkpoint
from ..errors import BidiffsrError
from ..pipeline import SuperResolver
from ..runtime import Runtime
from .measuring import EAGER, NATIVE, REFERENCE, WARM, Candidate, Row, row_of, time_candidates, with_ratios

SIZE = 512
MOST_REPEATS = 3


def measure_picture(
    checkpoint: Checkpoint, model: str, runtimes: Sequence[Runtime], precision: str, repeats: int
) -> list[Row]:
    """Rows of a picture of SIZE×SIZE, enlarged in the model's default number of steps; the last row is of two at once.

    The seconds are those from the picture's file to that of the result, without loading the model. Of two at once,
    which have all threads each, they are those of the later one.

    Args:
        checkpoint: of the model.
        model: its name or path.
        runtimes: as `measuring.choose_runtimes` gives them; the first one's backend runs, and the reference in float32.
        precision: of the first, as `upscale` takes it.
        repeats: pictures on each, at most 3; they alternate.

    Raises:
        BidiffsrError: a process failed; the message is its own.
    """
    scale, first = checkpoint.config.scales[0], runtimes[0]
    ways = [(first.backend, precision, 1), *([(REFERENCE, "fp32", 1)] if len(runtimes) > 1 else [])]
    ways.append((first.backend, precision, 2))
    common = ["-m", model, "-s", str(scale), "--device", first.device, "--threads", str(first.threads)]
    results: list[list[list[dict[str, Any]]]] = [[] for _ in ways]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "picture.png"
        benchmark_picture(SIZE).save(source)
        for _ in range(min(repeats, MOST_REPEATS)):
            for (backend, dtype, jobs), runs in zip(ways, results, strict=True):
                runs.append(_upscale(source, [*common, "--backend", backend, "--precision", dtype], jobs))
    name = _name(checkpoint)
    *alone, two = results
    return [*with_ratios([_row(name, runs) for runs in alone]), _row(f"two at once: {checkpoint.name}", two)]


def measure_warm_picture(
    checkpoint: Checkpoint, runtimes: Sequence[Runtime], repeats: int, *, eager: bool = False
) -> list[Row]:
    """Rows of that picture in this process, where everything is warm; decoding and encoding are left out.

    Args:
        checkpoint: of the model.
        runtimes: where; in plain torch.
        repeats: pictures on each, at most 3; they alternate.
        eager: whether each runtime is also measured without CUDA graphs, which the others use.
    """
    candidates, source = list[Candidate](), benchmark_picture(SIZE)
    for runtime in runtimes:
        resolver = SuperResolver(checkpoint, runtime)
        ways = {REFERENCE: resolver}
        if eager:
            ways[EAGER] = resolver.elsewhere(runtime, runtime.in_torch(checkpoint.build_packed(), graphs=False))
        for what, way in ways.items():
            run = partial(way.upscale, source, scale=checkpoint.config.scales[0])
            candidates.append(Candidate(what, runtime.dtype, None, runtime.threads, run, MOST_REPEATS))
    return time_candidates("picture", _name(checkpoint) + WARM, candidates, repeats)


def benchmark_picture(size: int) -> Image.Image:
    """Slopes, waves of growing frequency, and an edge: size×size, RGB."""
    at = torch.linspace(0, 1, size)
    x, y = at.view(1, -1).expand(size, size), at.view(-1, 1).expand(size, size)
    waves = 0.5 + 0.5 * torch.sin(24 * math.pi * x * y)
    edge = (x + 0.5 * y > 0.75).float()
    pixels = (255 * torch.stack([x, waves, (y + edge) / 2], dim=2)).round().to(torch.uint8)
    return Image.frombytes("RGB", (size, size), bytes(pixels.flatten().tolist()))


def _upscale(source: Path, options: Sequence[str], jobs: int) -> list[dict[str, Any]]:
    """Run `bidiffsr upscale` beside the picture in so many processes at once, and return their JSON."""
    command = [sys.executable, "-P", "-m", "bidiffsr_cli", "upscale", *options, "--json", "--overwrite", str(source)]
    with contextlib.ExitStack() as stack:  # at its end none of them lives on
        children = []
        for job in range(jobs):
            target = str(source.with_name(f"enlarged{job}.png"))
            child = subprocess.Popen([*command, target], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            children.append(stack.enter_context(child))
            stack.callback(child.kill)
        return [_answer(child) for child in children]


def _answer(child: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Its JSON."""
    answer, _ = child.communicate()
    try:
        result = json.loads(answer)
    except ValueError:
        raise BidiffsrError(f"Enlarging the picture failed with exit code {child.returncode}.") from None
    if result["status"] != "done":
        raise BidiffsrError(f"Enlarging the picture failed: {result['error']['message']}", result["error"]["hint"])
    return result


def _name(checkpoint: Checkpoint) -> str:
    """Of the rows of a model."""
    large = SIZE * checkpoint.config.scales[0]
    return f"{checkpoint.name} {SIZE}x{SIZE} -> {large}x{large}"


def _row(name: str, runs: Sequence[Sequence[dict[str, Any]]]) -> Row:
    """The row of what ran in turn, each time one process or several at once."""
    first = runs[0][0]
    what = NATIVE if first["backend"] == "native" else REFERENCE
    candidate = Candidate(what, first["dtype"], first["isa"], first["threads"], lambda: None)
    seconds = [max(job["seconds"]["total"] - job["seconds"]["load_model"] for job in jobs) for jobs in runs]
    peaks = [job["peak_memory_bytes"]["host"] for jobs in runs for job in jobs]
    known = [peak for peak in peaks if peak is not None]
    return row_of("picture", name, candidate, seconds, peak_memory_bytes=max(known, default=None))
