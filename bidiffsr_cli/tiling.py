"""The canonical grid of windows over a picture, and how their predictions are blended.

A network with GroupNorm and attention depends on its window, so the window belongs to the model. A picture no larger
than it is seen whole; a larger one through the least number of windows no larger than it, which are then made as small
as the overlap allows, all of one size, and spread evenly: what two windows see is computed twice. Between neighbours
the weights change over smoothly in a strip of `overlap` pixels, in the middle of what both see, so that a window counts
where it sees its surroundings. No model in here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from .configs import TileConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Tile:
    """One window: its row and column in the grid, and the canvas position of its upper left pixel."""

    row: int
    column: int
    top: int
    left: int


@dataclass(frozen=True)
class Grid:
    """Windows over a canvas.

    Attributes:
        height, width: Of the canvas: the picture, filled up to what the network can take.
        tile_height, tile_width: Of every window.
        overlap: Width of the strip in which one window gives way to the next.
    """

    height: int
    width: int
    tile_height: int
    tile_width: int
    overlap: int

    @cached_property
    def tops(self) -> list[int]:
        """First row of each row of windows."""
        return _starts(self.height, self.tile_height, self.overlap)

    @cached_property
    def lefts(self) -> list[int]:
        """First column of each column of windows."""
        return _starts(self.width, self.tile_width, self.overlap)

    @cached_property
    def tiles(self) -> list[Tile]:
        """All windows, row by row."""
        return [
            Tile(row, column, top, left) for row, top in enumerate(self.tops) for column, left in enumerate(self.lefts)
        ]

    @cached_property
    def row_weights(self) -> list[Tensor]:
        """For each row of windows its rows' weights: `tile_height` values that add up to 1 with the neighbours'."""
        return _weights(self.tops, self.tile_height, self.overlap)

    @cached_property
    def column_weights(self) -> list[Tensor]:
        """Likewise for the columns."""
        return _weights(self.lefts, self.tile_width, self.overlap)

    def weights_on(self, device: torch.device) -> tuple[list[Tensor], list[Tensor]]:
        """`row_weights` and `column_weights` on a device, which they are copied to once."""
        if device.type == "cpu":
            return self.row_weights, self.column_weights
        if device not in self._copies:
            both = self.row_weights, self.column_weights
            rows, columns = ([weights.to(device) for weights in of_axis] for of_axis in both)
            self._copies[device] = rows, columns
        return self._copies[device]

    @cached_property
    def _copies(self) -> dict[torch.device, tuple[list[Tensor], list[Tensor]]]:
        return {}

    def crop(self, canvas: Tensor, tile: Tile) -> Tensor:
        """The window's part of a ...×H×W canvas; a view."""
        return canvas[..., tile.top : tile.top + self.tile_height, tile.left : tile.left + self.tile_width]


def make_grid(height: int, width: int, tile: TileConfig | None, multiple_of: int) -> Grid:
    """Lay windows over a picture.

    Args:
        height, width: of the enlarged picture.
        tile: the largest window; None sees every picture whole.
        multiple_of: what the network needs both sides of a window to be a multiple of.
    """

    def round_up(length: float) -> int:
        return math.ceil(length / multiple_of) * multiple_of

    def side(length: int) -> tuple[int, int]:
        if tile is None or length <= tile.size:
            return round_up(length), round_up(length)
        count = math.ceil((length - tile.overlap) / (tile.size - tile.overlap))
        return length, round_up((length + (count - 1) * tile.overlap) / count)

    (height, tile_height), (width, tile_width) = side(height), side(width)
    return Grid(height, width, tile_height, tile_width, tile.overlap if tile else 0)


def blend(grid: Grid, predictions: Iterable[tuple[Tile, Tensor]]) -> Tensor:
    """Put the windows' predictions together.

    Windows are first blended across each row of the grid, and finished rows are then blended downwards. So every value
    is the sum of at most two, which floating point adds alike in either order: the result does not depend on the
    order in which predictions come.

    Args:
        grid: the grid; every one of its tiles must come once.
        predictions: (tile, C×tile_height×tile_width) in any order, all on one device.

    Returns:
        C×height×width, where the predictions are.
    """
    canvas: Tensor | None = None
    open_rows: dict[int, tuple[Tensor, set[int]]] = {}
    for tile, prediction in predictions:
        channels = prediction.shape[0]
        row_weights, column_weights = grid.weights_on(prediction.device)
        if tile.row not in open_rows:
            band = prediction.new_zeros(channels, grid.tile_height, grid.width)
            open_rows[tile.row] = band, set(range(len(grid.lefts)))
        band, missing = open_rows[tile.row]
        band[..., tile.left : tile.left + grid.tile_width] += prediction * column_weights[tile.column]
        missing.remove(tile.column)
        if not missing:
            if canvas is None:
                canvas = prediction.new_zeros(channels, grid.height, grid.width)
            band *= row_weights[tile.row][:, None]
            canvas[:, tile.top : tile.top + grid.tile_height] += band
            del open_rows[tile.row], band
    assert canvas is not None and not open_rows, "a tile is missing"
    return canvas


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """Evenly spread starts of windows that cover `length`, neighbours sharing at least `overlap`."""
    if length == tile:
        return [0]
    count = math.ceil((length - overlap) / (tile - overlap))
    return [index * (length - tile) // (count - 1) for index in range(count)]


def _weights(starts: list[int], tile: int, overlap: int) -> list[Tensor]:
    """Each window's weights: 1 in its own part, raised-cosine ramps of width `overlap` to its neighbours', then 0."""
    import torch

    weights = [torch.ones(tile) for _ in starts]
    ramp = torch.sin(math.pi / 2 * (torch.arange(overlap) + 0.5) / max(overlap, 1)) ** 2
    for index in range(len(starts) - 1):
        here, there = starts[index], starts[index + 1]
        begin = (here + there + tile - overlap) // 2  # of the ramp, on the canvas: the middle of what both see
        end = begin + overlap
        weights[index][begin - here : end - here] = 1 - ramp
        weights[index][end - here :] = 0
        weights[index + 1][: begin - there] = 0
        weights[index + 1][begin - there : end - there] = ramp
    return weights
