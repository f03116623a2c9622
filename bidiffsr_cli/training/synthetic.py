"""Pictures made in code of what photos rarely show: flat colours, gradients, text, interfaces.

    for kind, index, picture in synthetic_pictures(512): ...

A network that has seen photos alone draws grain into white paper, weave into a drawn sky, and hair on letters. The
pictures are the same every time, with the same Pillow; letters are of the font that it brings along.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..images.pixels import to_levels
from .config import KINDS

REVISION = 1
"""Changes whenever the pictures do."""
OF_EACH_KIND = 24
Colour = tuple[int, int, int]
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
LETTERS = "etaoinshrdlucmfwypvbgkjqxz" * 3 + "ETAOINSHRDLU0123456789.,;:!?()[]{}<>/+-=*&%#@$"


def synthetic_pictures(side: int) -> Iterator[tuple[str, int, Tensor]]:
    """Kind (of `config.KINDS`), number and picture, 3×side×side uint8: `OF_EACH_KIND` of every kind in turn."""
    for index in range(OF_EACH_KIND):
        for kind, make in zip(KINDS, (_flats, _gradient, _text, _interface), strict=True):
            yield kind, index, make(Random(f"{kind} {index}"), side)


def _flats(random: Random, side: int) -> Tensor:
    """Rectangles of one colour each, few and large."""
    image = Image.new("RGB", (side, side), _colour(random))
    draw = ImageDraw.Draw(image)
    for _ in range(random.randint(0, 4)):
        left, top = random.randrange(side), random.randrange(side)
        size = random.randint(side // 4, side)
        draw.rectangle((left, top, left + size, top + random.randint(side // 4, side)), _colour(random))
    return to_levels(image)


def _gradient(random: Random, side: int) -> Tensor:
    """From one colour to another, along a line or around a point; half of them dithered, as skies in photos are."""
    one, two = (torch.tensor(_colour(random), dtype=torch.float32).view(3, 1, 1) for _ in range(2))
    if random.random() < 0.5:
        two = one + (two - one) * random.uniform(0.02, 0.3)  # faint ones show their steps
    at = torch.linspace(-1, 1, side)
    y, x = at[:, None], at[None]
    if random.random() < 0.6:
        angle = random.uniform(0, 2 * math.pi)
        along = (math.cos(angle) * x + math.sin(angle) * y) / math.sqrt(2) / 2 + 0.5
    else:
        along = torch.hypot(y - random.uniform(-1, 1), x - random.uniform(-1, 1)) / 3
    picture = one + (two - one) * along.clamp(0, 1) ** random.uniform(0.6, 1.6)
    if random.random() < 0.5:
        source = torch.Generator().manual_seed(random.randrange(2**31))
        picture = picture + torch.rand(picture.shape, generator=source) - 0.5
    return picture.round().clamp(0, 255).to(torch.uint8)


def _text(random: Random, side: int) -> Tensor:
    """A page of lines, of sizes from small print to headings."""
    paper, ink = _paper_and_ink(random)
    image = Image.new("RGB", (side, side), paper)
    draw = ImageDraw.Draw(image)
    top = random.randint(0, 16)
    while top < side:
        size = random.choice((9, 10, 11, 12, 13, 14, 16, 18, 20, 24, 32, 48, 72))
        font = ImageFont.load_default(size)
        for _ in range(random.randint(1, 6)):
            draw.text((random.randint(-8, 24), top), _words(random, 2 * side // size), ink, font)
            top += round(size * random.uniform(1.1, 1.6))
        if random.random() < 0.3:
            ink = _colour(random) if random.random() < 0.3 else _paper_and_ink(random, paper)[1]
    return to_levels(image)


def _interface(random: Random, side: int) -> Tensor:
    """Buttons, icons, tables, charts and labels; half of the pictures have smooth edges."""
    smooth = random.choice((1, 2))  # drawn larger, then averaged
    paper, ink = _paper_and_ink(random)
    image = Image.new("RGB", (side * smooth, side * smooth), paper)
    draw = ImageDraw.Draw(image)
    for _ in range(random.randint(24, 44)):
        width, height = (random.choice((24, 48, 96, 160, 240)) * smooth for _ in range(2))
        left, top = (random.randrange(-16, side) * smooth for _ in range(2))
        item = random.choice((_button, _button, _table, _chart, _icon, _label, _label))
        item(draw, random, (left, top, left + width, top + height), smooth, ink)
    return to_levels(image.reduce(smooth) if smooth > 1 else image)


Rectangle = tuple[int, int, int, int]


def _button(draw: ImageDraw.ImageDraw, random: Random, box: Rectangle, smooth: int, ink: Colour) -> None:
    left, top, right, _ = box
    bottom = top + random.randint(18, 40) * smooth
    fill, edge = _colour(random), ink if random.random() < 0.5 else None
    draw.rounded_rectangle((left, top, right, bottom), random.choice((0, 3, 6, 12)) * smooth, fill, edge, smooth)
    font = ImageFont.load_default(random.choice((11, 12, 13, 14)) * smooth)
    draw.text(((left + right) / 2, (top + bottom) / 2), _words(random, 8), _against(fill), font, anchor="mm")


def _table(draw: ImageDraw.ImageDraw, random: Random, box: Rectangle, smooth: int, ink: Colour) -> None:
    left, top, right, bottom = box
    row, font = random.randint(16, 26) * smooth, ImageFont.load_default(random.choice((10, 11, 12)) * smooth)
    for y in range(top, bottom, row):
        draw.line((left, y, right, y), ink, smooth)
        draw.text((left + 4 * smooth, y + 3 * smooth), _words(random, (right - left) // (8 * smooth)), ink, font)
    for x in range(left, right + 1, max(row, (right - left) // 3)):
        draw.line((x, top, x, bottom), ink, smooth)


def _chart(draw: ImageDraw.ImageDraw, random: Random, box: Rectangle, smooth: int, ink: Colour) -> None:
    left, top, right, bottom = box
    draw.rectangle(box, _colour(random) if random.random() < 0.3 else None, ink, smooth)
    if random.random() < 0.5:
        points = [(x, random.randint(top, bottom)) for x in range(left, right, 12 * smooth)]
        draw.line(points, _colour(random), random.choice((1, 2, 3)) * smooth)
    else:
        for x in range(left + 4 * smooth, right - 8 * smooth, 14 * smooth):
            draw.rectangle((x, random.randint(top, bottom), x + 9 * smooth, bottom), _colour(random))


def _icon(draw: ImageDraw.ImageDraw, random: Random, box: Rectangle, smooth: int, ink: Colour) -> None:
    left, top, *_ = box
    size = random.choice((12, 16, 24, 32, 48, 96)) * smooth
    place = (left, top, left + size, top + size)
    kind, colour, width = random.randrange(4), _colour(random), random.choice((1, 2, 4)) * smooth
    if kind == 0:
        draw.ellipse(place, colour, ink, smooth)
    elif kind == 1:
        draw.ellipse(place, None, colour, width)
    elif kind == 2:
        draw.regular_polygon((left + size / 2, top + size / 2, size / 2), random.choice((3, 4, 6)), 0, colour)
    else:
        draw.line((left, top, left + size, top + size), ink, width)
        draw.line((left + size, top, left, top + size), ink, width)


def _label(draw: ImageDraw.ImageDraw, random: Random, box: Rectangle, smooth: int, ink: Colour) -> None:
    font = ImageFont.load_default(random.choice((10, 12, 14, 18, 24)) * smooth)
    draw.text(box[:2], _words(random, random.randint(4, 30)), ink, font)


def _words(random: Random, count: int) -> str:
    """So many letters and spaces."""
    return "".join(" " if random.random() < 0.18 else random.choice(LETTERS) for _ in range(max(1, count)))


def _paper_and_ink(random: Random, paper: Colour | None = None) -> tuple[Colour, Colour]:
    """Mostly dark on white; also light on dark, and pale and deep colours."""
    if paper is None:
        greys = [WHITE, WHITE, WHITE, (245, 245, 245), (30, 30, 30), BLACK]
        paper = random.choice(greys) if random.random() < 0.7 else _colour(random)
    return paper, _against(paper)


def _against(paper: Colour) -> Colour:
    """A colour to be read on another."""
    return BLACK if sum(paper) > 3 * 127 else WHITE


def _colour(random: Random) -> Colour:
    """Any colour; often white, black, grey or one that is saturated."""
    kind = random.random()
    if kind < 0.2:
        return random.choice((WHITE, WHITE, BLACK))
    if kind < 0.35:
        return (random.randrange(256),) * 3
    if kind < 0.5:
        return (random.choice((0, 255)), random.choice((0, 255)), random.choice((0, 255)))
    return (random.randrange(256), random.randrange(256), random.randrange(256))
