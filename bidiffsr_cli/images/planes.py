"""Arithmetic on pixels with Pillow alone: a plane is an image of one channel, of mode "L", "I" or "F".

Everything larger than a band of rows stays in its final type, so that big pictures cost no whole-canvas temporaries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, cast

from PIL import Image, ImageMath

BAND_PIXELS = 1 << 20  # float work is done on about this many pixels at a time


def bands(width: int, height: int) -> Iterator[tuple[int, int]]:
    """Cut the rows 0…height into (top, bottom) ranges of about BAND_PIXELS pixels."""
    rows = max(1, BAND_PIXELS // max(1, width))
    for top in range(0, height, rows):
        yield top, min(top + rows, height)


def computed(formula: Callable[..., Any], *planes: Image.Image) -> Image.Image:
    """What a formula makes of planes of one size: "F" if one of them or a constant is of floats, else "I".

    Args:
        formula: Takes as many operands of `ImageMath` as there are planes; comparisons give 0 and 1.
    """
    names = [f"plane{index}" for index in range(len(planes))]
    result = ImageMath.lambda_eval(
        lambda operands: formula(*(operands[name] for name in names)), **dict(zip(names, planes, strict=True))
    )
    return cast("Image.Image", result)


def extrema(plane: Image.Image) -> tuple[float, float]:
    """The least and the largest value of a plane or an "I;16" image; both are NaN if it holds one."""
    if plane.mode == "F" and _range(computed(lambda x: x != x, plane))[1]:
        return math.nan, math.nan
    return _range(plane)


def _range(plane: Image.Image) -> tuple[float, float]:
    return cast("tuple[float, float]", plane.getextrema())  # Pillow leaves out NaN behind the first pixel
