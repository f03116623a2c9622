"""PSNR against LPIPS as an SVG: a mark for each model and number of steps, a line along the steps of each model.

The two pull against each other (the perception-distortion trade-off): to the right is nearer to the truth pixel by
pixel, below is nearer to it for the eye. The colours come from the page's style sheet: classes s0, s1, …
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..text import counted
from .markup import text

WIDTH, HEIGHT = 720, 400
LEFT, TOP, RIGHT, BOTTOM = 64, 16, WIDTH - 20, HEIGHT - 52  # the frame in which marks lie
COLOURS = 6
LEAST_RADIUS, MOST_RADIUS = 4.0, 12.0
LONGEST_LABEL = 28
CHARACTER, LINE = 6.6, 15.0  # about as wide and high as one is at the style sheet's 12px

Place = tuple[float, float]
"""x, y."""
Rectangle = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True)
class Point:
    """One mark.

    Attributes:
        label: the model's name; points with the same are joined.
        steps: None for a method without steps, such as bicubic.
        psnr: dB.
        lpips: 0 for equal pictures.
        seconds: for a picture, as the mark's area; None if they are not known.
    """

    label: str
    steps: int | None
    psnr: float
    lpips: float
    seconds: float | None


Labels = dict[Point, str]


@dataclass(frozen=True)
class Axis:
    """From values to places on the drawing."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Where a value lies."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Four to nine round values, and how they are written."""
        raw = (self.high - self.low) / 5
        power = math.floor(math.log10(raw))
        step = next(factor * 10**power for factor in (1, 2, 5, 10) if factor * 10**power >= raw * 0.999)
        for index in range(math.ceil(self.low / step), math.floor(self.high / step) + 1):
            yield index * step, f"{index * step:.{max(0, -math.floor(math.log10(step)))}f}"


def draw_chart(points: Sequence[Point]) -> str:
    """The SVG, or "" where no point is finite."""
    points = [point for point in points if math.isfinite(point.psnr) and math.isfinite(point.lpips)]
    if not points:
        return ""
    x = _axis([point.psnr for point in points], LEFT, RIGHT)
    y = _axis([point.lpips for point in points], BOTTOM, TOP)
    told = "; ".join(map(_sentence, points))
    return "\n".join(
        [
            f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="chart-name chart-told">',
            '<title id="chart-name">PSNR and LPIPS of each model and number of steps</title>',
            f'<desc id="chart-told">{text(told)}</desc>',
            *_frame(x, y),
            *_series(points, x, y),
            "</svg>",
        ]
    )


def _axis(values: Sequence[float], start: float, end: float) -> Axis:
    """An axis with some room around its values."""
    low, high = min(values), max(values)
    room = 0.14 * (high - low) or 0.05 * abs(high) or 1.0
    return Axis(low - room, high + room, start, end)


def _frame(x: Axis, y: Axis) -> Iterator[str]:
    """Grid, ticks and names of the axes."""
    for value, tick in x.ticks():
        yield f'<path class="grid" d="M{x(value):.1f} {TOP}V{BOTTOM}"/>'
        yield f'<text x="{x(value):.1f}" y="{BOTTOM + 18}" text-anchor="middle">{tick}</text>'
    for value, tick in y.ticks():
        yield f'<path class="grid" d="M{LEFT} {y(value):.1f}H{RIGHT}"/>'
        yield f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{tick}</text>'
    yield f'<path class="axis" d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}"/>'
    yield f'<text x="{(LEFT + RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">PSNR, dB (higher is better)</text>'
    turned = f'x="14" y="{(TOP + BOTTOM) / 2}" transform="rotate(-90 14 {(TOP + BOTTOM) / 2})"'
    yield f'<text {turned} text-anchor="middle">LPIPS (lower is better)</text>'
    yield f'<text x="{RIGHT - 6}" y="{BOTTOM - 8}" text-anchor="end" class="soft">better ↘</text>'


def _series(points: Sequence[Point], x: Axis, y: Axis) -> Iterator[str]:
    """Lines, marks and labels, those of one model in one colour."""
    names = dict.fromkeys(point.label for point in points)
    models = [sorted((p for p in points if p.label == name), key=lambda p: p.steps or 0) for name in names]
    at = {point: (x(point.psnr), y(point.lpips)) for point in points}
    radii = dict(zip(points, _radii(points), strict=True))
    labels = _labels(models, at, radii)
    for number, model in enumerate(models):
        yield f'<g class="s{number % COLOURS}">'
        if len(model) > 1:
            yield f'<polyline points="{" ".join(f"{at[point][0]:.1f},{at[point][1]:.1f}" for point in model)}"/>'
        for point in model:
            yield f'<circle cx="{at[point][0]:.1f}" cy="{at[point][1]:.1f}" r="{radii[point]:.1f}">'
            yield f"<title>{text(_sentence(point))}</title></circle>{labels[point]}"
        yield "</g>"


def _radii(points: Sequence[Point]) -> list[float]:
    """Areas grow with seconds; a point without them gets the least."""
    longest = max((point.seconds or 0 for point in points), default=0) or 1
    return [LEAST_RADIUS + (MOST_RADIUS - LEAST_RADIUS) * math.sqrt((p.seconds or 0) / longest) for p in points]


def _labels(models: Sequence[Sequence[Point]], at: Mapping[Point, Place], radii: Mapping[Point, float]) -> Labels:
    """What stands beside each mark. The last of each model has its name, always; others only where there is room."""
    taken: list[Rectangle] = [_around(at[point], radius) for point, radius in radii.items()]
    taken.append((RIGHT - 70, BOTTOM - 22, RIGHT, BOTTOM))  # where "better" stands
    for model in models:
        for (x, y), (to_x, to_y) in pairwise(at[point] for point in model):
            parts = (part / 20 for part in range(1, 20))
            taken += [_around((x + (to_x - x) * part, y + (to_y - y) * part), 1) for part in parts]
    labels: Labels = {}
    last = [model[-1] for model in models]
    for point in last + [point for model in models for point in model[:-1]]:
        labels[point] = _label(point, at[point], radii[point], taken, named=point in last)
    return labels


def _label(point: Point, at: Place, radius: float, taken: list[Rectangle], *, named: bool) -> str:
    """The text beside a mark, where least is in its way; "" if that is something, and no name. Adds it to `taken`."""
    name = point.label if named else ""
    name = name if len(name) <= LONGEST_LABEL else f"{name[: LONGEST_LABEL - 1]}…"
    rest = ", ".join(_facts(point))
    length = CHARACTER * (len(name) + len(rest) + 1)
    (x, y), gap = at, radius + 6
    places: list[tuple[str, float, float, float]] = [  # anchor, x, baseline, left end
        ("start", x + gap, y + 4, x + gap),
        ("end", x - gap, y + 4, x - gap - length),
        ("middle", x, y - gap, x - length / 2),
        ("middle", x, y + gap + 9, x - length / 2),
    ]
    boxes = [(left, baseline - 0.8 * LINE, left + length, baseline + 0.2 * LINE) for _, _, baseline, left in places]
    trouble, best = min((_trouble(box, taken), index) for index, box in enumerate(boxes))
    if trouble and not named:
        return ""
    taken.append(boxes[best])
    anchor, x, baseline, _ = places[best]
    bold = f'<tspan class="name">{text(name)}</tspan> ' if name else ""
    return f'<text x="{x:.1f}" y="{baseline:.1f}" text-anchor="{anchor}">{bold}{rest}</text>'


def _trouble(box: Rectangle, taken: Sequence[Rectangle]) -> int:
    """How many boxes it touches; leaving the frame counts like many."""
    outside = box[0] < LEFT or box[2] > WIDTH or box[1] < TOP or box[3] > BOTTOM
    touched = sum(box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3] for t in taken)
    return touched + 100 * outside


def _around(at: Place, radius: float) -> Rectangle:
    return at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius


def _sentence(point: Point) -> str:
    """fast, 5 steps, 1.5 s: PSNR 32.10 dB, LPIPS 0.1200"""
    return f"{', '.join([point.label, *_facts(point)])}: PSNR {point.psnr:.2f} dB, LPIPS {point.lpips:.4f}"


def _facts(point: Point) -> list[str]:
    """Steps and seconds, as far as they are known."""
    facts = [] if point.steps is None else [counted(point.steps, "step")]
    return facts if point.seconds is None else [*facts, f"{point.seconds:.{0 if point.seconds >= 10 else 2}f} s"]
