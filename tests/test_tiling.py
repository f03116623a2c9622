"""The grid of windows, their blending, and the noise field."""

import itertools
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bidiffsr_cli.configs import TileConfig
from bidiffsr_cli.tiling import blend, make_grid

sides = st.integers(1, 400)
tiles = st.sampled_from([TileConfig(32, 8), TileConfig(64, 0), TileConfig(64, 16), TileConfig(96, 20), None])


@given(sides, sides, tiles)
def test_windows_cover_the_canvas_and_stay_inside(height, width, tile):
    grid = make_grid(height, width, tile, multiple_of=16)
    assert grid.height >= height and grid.width >= width
    assert grid.tile_height % 16 == grid.tile_width % 16 == 0
    covered = torch.zeros(grid.height, grid.width)
    for one in grid.tiles:
        window = grid.crop(covered, one)
        assert window.shape == (grid.tile_height, grid.tile_width)
        window += 1
    assert covered.min() >= 1
    if tile is None or max(height, width) <= tile.size:
        assert len(grid.tiles) == 1


@given(sides, sides, tiles)
def test_weights_add_up_to_one_and_at_most_two_windows_count_along_an_axis(height, width, tile):
    grid = make_grid(height, width, tile, multiple_of=16)
    for starts, weights, length in (
        (grid.tops, grid.row_weights, grid.height),
        (grid.lefts, grid.column_weights, grid.width),
    ):
        total, count = torch.zeros(length), torch.zeros(length)
        for start, weight in zip(starts, weights, strict=True):
            assert weight.min() >= 0
            total[start : start + len(weight)] += weight
            count[start : start + len(weight)] += weight > 0
        torch.testing.assert_close(total, torch.ones(length), rtol=0, atol=1e-6)
        assert count.max() <= 2


@given(sides, sides, tiles)
def test_an_identity_network_gives_the_identity(height, width, tile):
    grid = make_grid(height, width, tile, multiple_of=16)
    canvas = torch.randn(3, grid.height, grid.width)
    result = blend(grid, [(one, grid.crop(canvas, one)) for one in grid.tiles])
    torch.testing.assert_close(result, canvas, rtol=0, atol=1e-6)


@given(sides, sides, tiles, st.integers(0, 1000))
def test_the_order_of_the_windows_does_not_change_a_bit(height, width, tile, seed):
    grid = make_grid(height, width, tile, multiple_of=16)
    predictions = [(one, torch.randn(3, grid.tile_height, grid.tile_width)) for one in grid.tiles]
    expected = blend(grid, predictions)
    random.Random(seed).shuffle(predictions)
    assert torch.equal(blend(grid, predictions), expected)


def test_windows_are_as_few_and_then_as_small_as_the_overlap_allows():
    grid = make_grid(64, 300, TileConfig(64, 16), multiple_of=16)
    assert (grid.tile_height, grid.tile_width) == (64, 64) and grid.lefts == [0, 47, 94, 141, 188, 236]
    grid = make_grid(64, 70, TileConfig(64, 16), multiple_of=16)
    assert grid.tile_width == 48 and grid.lefts == [0, 22]  # (70 + 16) / 2, in multiples of 16
    left, right = grid.column_weights  # both see columns 22 to 47; they change over in the middle of those
    assert left[:27].eq(1).all() and left[43:].eq(0).all()
    assert right[: 27 - 22].eq(0).all() and right[43 - 22 :].eq(1).all()
    assert left[34] > 0.5 > left[35]


@given(sides, sides, tiles)
def test_no_window_is_larger_than_asked_for(height, width, tile):
    grid = make_grid(height, width, tile, multiple_of=16)
    for length, side, starts in ((height, grid.tile_height, grid.tops), (width, grid.tile_width, grid.lefts)):
        if tile is None:
            assert length <= side < length + 16
        else:
            assert side <= tile.size
            assert all(there - here <= side - tile.overlap for here, there in itertools.pairwise(starts))


def test_a_missing_window_is_noticed():
    grid = make_grid(64, 100, TileConfig(64, 16), multiple_of=16)
    with pytest.raises(AssertionError):
        blend(grid, [(one, torch.zeros(3, 64, 64)) for one in grid.tiles[:-1]])
