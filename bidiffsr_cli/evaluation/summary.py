"""What the scores of many pictures come to: means, and how sure they are by Student's t."""

from __future__ import annotations

import bisect
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from .artefacts import Artefacts, pool
from .scoring import Score

CONFIDENCE = 0.95
POOLED = ("weave", "comb", "cross")
"""Metrics whose figure for several pictures is not the mean of theirs."""


@dataclass(frozen=True)
class Summary:
    """One subject over all pictures.

    Attributes:
        label, identity: of the subject.
        count: pictures.
        mean: metric -> mean over the pictures of which it can be told; of artefacts: that of all pictures pooled.
        interval: metric -> half the width of the mean's 95 % confidence interval (Student's t); none of one picture,
            nor of what is pooled instead of averaged: weave, comb and cross.
        artefacts: of all pictures pooled; None where they were not asked for.
        seconds: phase, as of `results.Seconds` -> median over the pictures; none where nothing was measured.
        memory: host and device -> peak of the process so far, bytes; only what could be read.
    """

    label: str
    identity: dict[str, Any]
    count: int
    mean: dict[str, float]
    interval: dict[str, float]
    artefacts: Artefacts | None
    seconds: dict[str, float]
    memory: dict[str, int]


def summarize(scores: Sequence[Score]) -> list[Summary]:
    """Means over all pictures, of each subject."""
    labels = dict.fromkeys(score.label for score in scores)
    return [_summary(label, [score for score in scores if score.label == label]) for label in labels]


def _summary(label: str, scores: Sequence[Score]) -> Summary:
    names = dict.fromkeys(name for score in scores for name in score.values)
    values = {name: [score.values[name] for score in scores if name in score.values] for name in names}
    found = [score.artefacts for score in scores if score.artefacts]
    together = pool(found) if found else None
    pooled = {name: value for name, value in together.figures().items() if name in names} if together else {}
    measured = [score.figures for score in scores if score.figures]
    phases = list(measured[0]["seconds"]) if measured else []
    peaks = {place: [figures["peak_memory_bytes"][place] or 0 for figures in measured] for place in ("host", "device")}
    return Summary(
        label,
        scores[0].identity,
        len(scores),
        {name: statistics.fmean(of_it) for name, of_it in values.items()} | pooled,
        {name: _half_width(of_it) for name, of_it in values.items() if len(of_it) > 1 and name not in POOLED},
        together,
        {phase: statistics.median(figures["seconds"][phase] for figures in measured) for phase in phases},
        {place: max(of_it) for place, of_it in peaks.items() if any(of_it)},
    )


def _half_width(values: Sequence[float]) -> float:
    return student_t(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))


@cache
def student_t(freedom: int) -> float:
    """The number that Student's t exceeds in absolute value with 5 %, to twelve digits."""
    steps = 1 << 50  # of a right angle; t is tan(angle) · √freedom

    def angle(step: int) -> float:
        return step / steps * math.pi / 2

    step = bisect.bisect(range(steps), CONFIDENCE, key=lambda step: _share_within(angle(step), freedom))
    return math.tan(angle(step)) * math.sqrt(freedom)


def _share_within(angle: float, freedom: int) -> float:
    """How often Student's t lies within ± tan(angle) · √freedom: a finite sum (Abramowitz & Stegun, 26.7.3 and .4)."""
    odd = freedom % 2
    term, total = math.cos(angle) ** odd, 0.0
    for power in range(odd, freedom - 1, 2):
        total += term
        term *= (power + 1) / (power + 2) * math.cos(angle) ** 2
    total *= math.sin(angle)
    return (angle + total) * 2 / math.pi if odd else total
