"""How a benchmark measures: candidates take turns, and their times become rows of figures with their conditions.

    candidates = [Candidate("native", "float32", "avx512", 2, run), Candidate("reference", "float32", None, 2, other)]
    rows = time_candidates("step", "published 256x256", candidates, repeats=7)

`layers`, `steps` and `picture` are what is measured.
"""

from __future__ import annotations

import gc
import math
import os
import statistics
import time
import timeit
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..ops import native
from ..runtime import Machine, Runtime, choose_runtime, environment, find_devices

NATIVE, REFERENCE, EAGER, UPSTREAM_STYLE = "native", "reference", "eager", "upstream-style"
WARM = ", warm"
"""Ends the name of a picture that is enlarged in a process which has done so before."""
SHORTEST = 0.02
"""Seconds that a measurement takes at least; what is quicker is called several times."""
REST = 0.005
"""Seconds between two candidates, in which the threads of the first go to sleep."""


@dataclass(frozen=True)
class Candidate:
    """One way to compute what is measured.

    Attributes:
        what: native, reference, eager (the reference without CUDA graphs) or upstream-style.
        dtype: of the full-precision layers.
        isa: the native engine's instruction set.
        threads: how many compute.
        run: computes it once, and returns when the result is there.
        most_repeats: measurements that are enough, however many are asked for.
    """

    what: str
    dtype: str
    isa: str | None
    threads: int
    run: Callable[[], object]
    most_repeats: int = 1_000_000


@dataclass(frozen=True)
class Row:
    """The figures of one candidate; None where a figure does not apply.

    Attributes:
        kind: layer, step, profile or picture.
        name: what was computed, with its size.
        what, dtype, isa, threads: those of the candidate.
        repeats: number of measurements.
        median, min: of the measurements, seconds.
        ratio: median of the reference with the same number of threads, in medians of this candidate.
        ratio_upstream_style: likewise of the upstream style, which has all of torch's threads.
        part: the kind of work, in a profile.
        macs: multiply-adds.
        mac_per_cycle: multiply-adds in one cycle of one core.
        port_share: `mac_per_cycle` as a part of what the core could do at most.
        peak_memory_bytes: of a process that did nothing else.
    """

    kind: str
    name: str
    what: str
    dtype: str
    isa: str | None
    threads: int
    repeats: int
    median: float
    min: float
    ratio: float | None = None
    ratio_upstream_style: float | None = None
    part: str | None = None
    macs: int | None = None
    mac_per_cycle: float | None = None
    port_share: float | None = None
    peak_memory_bytes: int | None = None


@dataclass(frozen=True)
class Conditions:
    """The conditions that figures depend on.

    Attributes:
        started: date and time, UTC.
        load_average: of the minute before; None where the system does not tell.
        device: the device and its name.
        threads: of native and reference.
        torch_threads: torch's own default, which the upstream style uses.
        isa, isas: the instruction set of the native engine, and all that could run.
        native_missing: why there are no native figures; None if there are some.
        precisions: of the full-precision layers, in native figures.
        clock: cycles per second, measured now; None without the native engine.
        port_limit: binary multiply-adds per cycle of one core on registers alone; None where it is not known.
        repeats: measurements of each figure.
        environment: versions, platform, processor.
    """

    started: str
    load_average: float | None
    device: str
    threads: int
    torch_threads: int
    isa: str | None
    isas: list[str]
    native_missing: str | None
    precisions: list[str]
    clock: float | None
    port_limit: float | None
    repeats: int
    environment: dict[str, str]


def choose_runtimes(machine: Machine, why_not_packed: str = "") -> list[Runtime]:
    """The runtimes to measure: the native engine in each precision that it may run in, and the reference in float32.

    On another device than the CPU it is the reference in float16 and in float32.

    Args:
        machine, why_not_packed: as `choose_runtime` takes them; but a precision of auto is all of these: float32, and
            bfloat16 where the CPU multiplies it.

    Raises:
        UsageError, DeviceError: as `choose_runtime`.
    """
    chosen = choose_runtime(machine, why_not_packed=why_not_packed)
    reference = choose_runtime(Machine(chosen.device, "fp32", "reference", chosen.threads))
    if chosen.kind != "cpu" and machine.precision == "auto":
        return [replace(reference, dtype="float16"), reference]
    if chosen == reference:
        return [reference]
    if chosen.isa is None or machine.precision != "auto":
        return [chosen, reference]
    dtypes = ["float32", *(["bfloat16"] if native.multiplies_bfloat16(chosen.isa) else [])]
    return [*(replace(chosen, dtype=dtype) for dtype in dtypes), reference]


def look_at_conditions(runtimes: Sequence[Runtime], backend: str, repeats: int) -> Conditions:
    """The present conditions; `runtimes` are those of `choose_runtimes`."""
    first = runtimes[0]
    missing = f"the backend is {backend}" if backend == REFERENCE else native.why_unavailable()
    if first.kind != "cpu":
        missing = f"it runs on the CPU, not on {first.kind}"
    if first.precision == "fp16" and missing is None:
        missing = "it has no fp16"
    name, devices = first.device, find_devices().usable
    return Conditions(
        started=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        device=f"{name} ({devices.get(name) or devices.get(f'{name}:0', 'unknown')})",
        threads=first.threads,
        torch_threads=torch.get_num_threads(),
        isa=first.isa,
        isas=native.supported_isas(),
        native_missing=missing,
        precisions=[runtime.dtype for runtime in runtimes if runtime.isa],
        clock=best_clock_rate() if first.isa else None,
        port_limit=port_limit(first.isa) if first.isa else None,
        repeats=repeats,
        environment=environment(),
    )


def best_clock_rate() -> float:
    """Cycles per second now: the best of three, as other work can only make the clock look slower."""
    return max(native.clock_rate() for _ in range(3))


def port_limit(isa: str) -> float | None:
    """The most binary multiply-adds of one core in a cycle; None for portable, where nobody knows."""
    return max(native.peak_rate(isa) for _ in range(9)) / best_clock_rate() or None


def time_candidates(kind: str, name: str, candidates: Sequence[Candidate], repeats: int, **more: Any) -> list[Row]:
    """Time candidates that compute the same; returns a row for each, in their order, with `more` of its fields."""
    times = alternate(candidates, repeats)
    return with_ratios([row_of(kind, name, *pair, **more) for pair in zip(candidates, times, strict=True)])


def alternate(candidates: Sequence[Candidate], repeats: int) -> list[list[float]]:
    """Seconds of every measurement of every candidate.

    All are warmed up, then measured in rounds, each once in a round, so that all of them suffer alike from whatever
    else the machine does.
    """
    calls = [_warm_up(candidate) for candidate in candidates]
    times: list[list[float]] = [[] for _ in candidates]
    gc.collect()
    for done in range(repeats):
        for candidate, count, seconds in zip(candidates, calls, times, strict=True):
            if done < candidate.most_repeats:
                time.sleep(REST)
                seconds.append(_time(candidate, count))
    return times


def row_of(kind: str, name: str, candidate: Candidate, seconds: Sequence[float], **more: Any) -> Row:
    """The row of a candidate's measurements."""
    return Row(
        kind,
        name,
        candidate.what,
        candidate.dtype,
        candidate.isa,
        candidate.threads,
        len(seconds),
        statistics.median(seconds),
        min(seconds),
        **more,
    )


def with_ratios(rows: Sequence[Row]) -> list[Row]:
    """The same rows, compared with the reference and the upstream style among them."""
    references = {row.threads: row.median for row in rows if (row.what, row.dtype) == (REFERENCE, "float32")}
    upstream = next((row.median for row in rows if row.what == UPSTREAM_STYLE), None)
    return [
        replace(
            row,
            ratio=references[row.threads] / row.median if row.threads in references else None,
            ratio_upstream_style=None if upstream is None else upstream / row.median,
        )
        for row in rows
    ]


def _warm_up(candidate: Candidate) -> int:
    """Run it twice, and return how many calls make one measurement."""
    candidate.run()
    return max(1, math.ceil(SHORTEST / max(_time(candidate, 1), 1e-9)))


def _time(candidate: Candidate, calls: int) -> float:
    """Seconds of one call, on average; garbage is not collected meanwhile."""
    return timeit.timeit(candidate.run, number=calls) / calls
