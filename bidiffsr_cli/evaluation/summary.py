"""What the scores of many pictures come to: means, and how sure they are by Student's t."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from .evaluate import Score

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """One subject over all pictures.

    Attributes:
        label, identity: of the subject.
        count: pictures.
        mean: metric -> mean.
        interval: metric -> half the width of the mean's 95 % confidence interval (Student's t); none for one picture.
        seconds: phase, as of `results.Seconds` -> median over the pictures; none where nothing was measured.
        memory: host and device -> peak of the process so far, bytes; only what could be read.
    """

    label: str
    identity: dict[str, Any]
    count: int
    mean: dict[str, float]
    interval: dict[str, float]
    seconds: dict[str, float]
    memory: dict[str, int]


def summarize(scores: Sequence[Score]) -> list[Summary]:
    """Means over all pictures, of each subject."""
    labels = dict.fromkeys(score.label for score in scores)
    return [_summary(label, [score for score in scores if score.label == label]) for label in labels]


def _summary(label: str, scores: Sequence[Score]) -> Summary:
    values = {name: [score.values[name] for score in scores] for name in scores[0].values}
    measured = [score.figures for score in scores if score.figures]
    phases = list(measured[0]["seconds"]) if measured else []
    peaks = {place: [figures["peak_memory_bytes"][place] or 0 for figures in measured] for place in ("host", "device")}
    return Summary(
        label,
        scores[0].identity,
        len(scores),
        {name: statistics.fmean(of_it) for name, of_it in values.items()},
        {name: _half_width(of_it) for name, of_it in values.items()} if len(scores) > 1 else {},
        {phase: statistics.median(figures["seconds"][phase] for figures in measured) for phase in phases},
        {place: max(of_it) for place, of_it in peaks.items() if any(of_it)},
    )


def _half_width(values: Sequence[float]) -> float:
    return student_t(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))


@cache
def student_t(freedom: int) -> float:
    """The number that Student's t exceeds in absolute value with 5 %: by bisection on its integrated density."""
    log_scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(freedom * math.pi) / 2

    def density(t: float) -> float:
        return math.exp(log_scale - (freedom + 1) / 2 * math.log1p(t * t / freedom))

    def area(end: float, steps: int = 400) -> float:  # of 0..end, by Simpson's rule
        width = end / steps
        inner = sum((4 if step % 2 else 2) * density(step * width) for step in range(1, steps))
        return (density(0) + inner + density(end)) * width / 3

    low, high = 0.0, 13.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if area(middle) < CONFIDENCE / 2 else (low, middle)
    return low
