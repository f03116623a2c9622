"""Grain, weave, comb and cross, on pictures of which they can be told beforehand."""

import dataclasses
import json
import math

import pytest
import torch
import torch.nn.functional as F
from conftest import to_tensor
from PIL import Image

from bidiffsr_cli.evaluation.artefacts import LEAST_FLAT, RINGS, find_artefacts, pool, restored

SIDE = 256
FLAT = torch.full((SIDE, SIDE), 128.0)
HANN = 0.5 - 0.5 * torch.cos(2 * math.pi * torch.arange(64) / 63)


def picture(plane):
    """A grey picture, 3×H×W uint8, of H×W levels."""
    return plane.round().clamp(0, 255).to(torch.uint8).expand(3, *plane.shape)


def noise(deviation, seed=0):
    return deviation * torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def wave(cycles, phase=0.0):
    """A wave of amplitude 1 with so many cycles in 64 pixels, along one row."""
    return torch.cos(2 * math.pi * cycles * torch.arange(SIDE) / 64 + phase)


def checks(levels):
    """A chessboard of single pixels, alternately this many levels above and below 0."""
    at = torch.arange(SIDE)
    return levels * (1.0 - 2 * ((at[:, None] + at) % 2))


def test_nothing_of_all_in_equal_pictures():
    hr = picture(FLAT + noise(1) + 40 * (torch.arange(SIDE) > 128))
    figures = find_artefacts(hr, hr).figures()
    assert figures == {"grain": 0, "weave": 0, "comb": 0, "cross": 0}


def test_nothing_where_there_is_nothing():
    black, white = picture(0 * FLAT), picture(0 * FLAT + 255)
    assert find_artefacts(white, black).figures() == pytest.approx({"grain": 0, "weave": 0, "comb": 0, "cross": 0})


@pytest.mark.parametrize("deviation", [1.0, 2.0, 5.0])
def test_grain_is_the_deviation_of_noise_on_a_flat_picture(deviation):
    found = find_artefacts(picture(FLAT + noise(deviation)), picture(FLAT))
    rounding = 1 / 12  # the variance that whole levels add
    of_64_values = 1 - 1 / (4 * 64) - 1 / (2 * 64)  # a sample's standard deviation is a little too small
    assert found.grain == pytest.approx(math.sqrt(deviation**2 + rounding) * of_64_values, rel=0.01)
    # noise has no pattern: its mean over 1024 blocks is 32 times smaller
    assert found.figures()["weave"] == pytest.approx(deviation / 32, rel=0.3)
    assert found.flat == 1024


def test_what_is_gone_counts_below_zero():
    assert find_artefacts(picture(FLAT), picture(FLAT + checks(2))).grain == pytest.approx(-2)


def test_weave_is_the_pattern_of_eight_pixels():
    figures = find_artefacts(picture(FLAT + checks(2)), picture(FLAT)).figures()
    around = 1 / 81  # what 9×9 pixels of a chessboard leave in the mean
    assert figures["grain"] == pytest.approx(2)
    assert figures["weave"] == pytest.approx(2 * (1 - around), rel=1e-3)
    of_seven_pixels = torch.cos(2 * math.pi * torch.arange(SIDE) / 7).expand(SIDE, SIDE)
    assert find_artefacts(picture(FLAT + 3 * of_seven_pixels), picture(FLAT)).figures()["weave"] < 0.2


def test_grain_and_weave_are_of_what_is_flat_in_the_original():
    rough = torch.where(torch.arange(SIDE) % 64 < 32, noise(40, seed=1), 0)
    found = find_artefacts(picture(FLAT + rough + checks(2)), picture(FLAT + rough))
    assert found.flat == 512 and found.grain == pytest.approx(2)


def test_luminance_weighs_the_colours():
    plane = picture(FLAT).clone()
    for channel, share in enumerate((0.299, 0.587, 0.114)):
        coloured = plane.clone()
        coloured[channel] = picture(FLAT + checks(10))[0]
        assert find_artefacts(coloured, plane).grain == pytest.approx(10 * share)


@pytest.mark.parametrize(("place", "period"), [(0, "8"), (1, "4"), (2, "8/3"), (3, "2")])
def test_a_grid_raises_comb_at_its_period_alone(place, period):
    deviation, amplitude = 4.0, 3.0
    hr = FLAT + noise(deviation)
    cycles = (8, 16, 24, 32)[place]
    line = wave(cycles)
    found = find_artefacts(picture(hr + amplitude * (line + line[:, None])), picture(hr))
    # the power of a wave under the window, at its place and beside it, over that of noise; two waves fall together at
    # half the sampling frequency
    power = (amplitude if cycles == 32 else amplitude / 2) ** 2 * HANN.sum() ** 2
    beside = sum(
        float((HANN * torch.exp(-2j * math.pi * k * torch.arange(64) / 64)).sum().abs() ** 2) for k in range(4)
    )
    expected = 10 * math.log10(1 + float(power) * beside / 4 / (deviation**2 * float(HANN.square().sum()) ** 2))
    assert expected > 10 and found.comb[place] == pytest.approx(expected, abs=1.5)
    assert all(abs(value) < 1 for other, value in enumerate(found.comb) if other != place)
    assert found.figures()["comb"] == found.comb[place] == found.spectrum()["comb"][period]


def test_linen_raises_cross_in_every_ring_and_what_lies_aslant_lowers_it():
    hr = FLAT + noise(2)
    draw = torch.Generator().manual_seed(2)
    phases = (2 * math.pi * torch.rand(2, 64, generator=draw)).tolist()
    down, across = (sum(wave(k, phase[k]) for k in range(12, 32)) for phase in phases)
    linen = 2 * (down[:, None] + across)
    found = find_artefacts(picture(hr + linen), picture(hr))
    assert len(found.cross) == len(RINGS) and min(found.cross) > 5
    assert list(found.spectrum()["cross"].values()) == found.cross and found.figures()["cross"] == max(found.cross)
    at = torch.arange(SIDE)
    aslant = 2 * sum(
        torch.cos(2 * math.pi * k * (at[:, None] + sign * at) / 64 + phases[0][k])
        for k in range(9, 22)
        for sign in (1, -1)
    )
    assert max(find_artefacts(picture(hr + aslant), picture(hr)).cross) < -5


def test_one_pooled_is_itself_and_opposite_patterns_cancel():
    hr = picture(FLAT)
    above, below = (find_artefacts(picture(FLAT + sign * checks(2)), hr) for sign in (1, -1))
    assert pool([above]) == above
    both = pool([above, below])
    assert both.grain == pytest.approx(2) and both.flat == 2048
    assert above.figures()["weave"] > 1.9 and both.figures()["weave"] == pytest.approx(0, abs=1e-3)


def test_pictures_are_pooled_before_the_highest_is_taken():
    hr = FLAT + noise(4)
    eight, four = (find_artefacts(picture(hr + 3 * wave(cycles)), picture(hr)) for cycles in (8, 16))
    both = pool([eight, four])
    for name in ("comb", "cross"):
        one, other = getattr(eight, name), getattr(four, name)
        assert list(getattr(both, name)) == pytest.approx([(a + b) / 2 for a, b in zip(one, other, strict=True)])
    assert both.figures()["comb"] < min(eight.figures()["comb"], four.figures()["comb"])


def test_flat_blocks_count_alike_wherever_they_lie():
    wide = find_artefacts(picture(FLAT + checks(2)), picture(FLAT))
    half = find_artefacts(picture((FLAT + checks(1))[:128]), picture(FLAT[:128]))
    both = pool([wide, half])
    assert both.flat == 1024 + 512 and both.grain == pytest.approx(1.5)
    assert both.figures()["weave"] == pytest.approx((2 * 1024 + 512) / 1536, rel=0.02)


def test_what_cannot_be_told_is_left_out():
    rough = FLAT + noise(40)
    found = find_artefacts(picture(rough), picture(rough))
    assert (found.flat, found.grain, found.pattern) == (0, None, [])
    assert set(found.figures()) == {"comb", "cross"}
    rows = -(-LEAST_FLAT // 7)  # of blocks
    low = find_artefacts(picture(FLAT[: 8 * rows, :63]), picture(FLAT[: 8 * rows, :63]))
    assert set(low.figures()) == {"grain", "weave"} and not low.spectrum()
    tiny = find_artefacts(picture(FLAT[:5, :7]), picture(FLAT[:5, :7]))
    assert tiny.figures() == {} and pool([tiny]) == pool([]) == tiny
    assert pool([found, low, tiny]) == dataclasses.replace(found, flat=low.flat, grain=low.grain, pattern=low.pattern)


def test_json_and_back():
    found = find_artefacts(picture(FLAT + noise(1)), picture(FLAT))
    assert restored(json.loads(json.dumps(dataclasses.asdict(found)))) == found
    assert restored(None) is None and restored({"flat": 1}) is None


def test_a_photograph_in_squares(pictures):
    """Recorded from the NumPy script with which revision 3 was judged; both agree on Kodak's pictures, too."""
    with Image.open(pictures / "parrot.png") as image:
        hr = (to_tensor(image.convert("RGB")) * 255).round()
    squares = F.avg_pool2d(hr, 4).repeat_interleave(4, -1).repeat_interleave(4, -2).round()
    found = find_artefacts(squares.to(torch.uint8), hr.to(torch.uint8))
    assert found.flat == 227 and found.grain == pytest.approx(-0.964624)
    assert found.figures()["weave"] == pytest.approx(0.184212, rel=1e-5)
    assert found.comb == pytest.approx([-0.624563, 2.709872, 1.424200, 0.248564], abs=1e-5)
    assert found.cross == pytest.approx([9.946046, 13.797639, 11.818400, 12.020040, 15.173697], abs=1e-5)
