"""render, alpha and resample: what comes out has the source's kind, and no halo."""

import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageChops

from bidiffsr_cli.errors import UsageError
from bidiffsr_cli.images import Picture, bleed_edges, read_picture, render, resample, resize_alpha
from bidiffsr_cli.images.pixels import to_float, to_image, to_levels
from bidiffsr_cli.images.planes import extrema

from .samples import encoded, photo, unenlarged


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (7, 300), (300, 7), (13, 17)])
def test_reading_and_rendering_changes_nothing(
    mode: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bidiffsr_cli.images.planes.BAND_PIXELS", 500)
    image = photo(*size, mode)
    picture = read_picture(encoded(image, "PNG"))
    colour = unenlarged(picture)
    before = colour.mode, colour.tobytes()
    rendered = render(colour, picture, alpha=picture.alpha)
    assert (rendered.mode, rendered.size, rendered.tobytes()) == (mode, size, image.tobytes())
    assert (colour.mode, colour.tobytes()) == before


def test_16_bit_grey_is_exact() -> None:
    image = Image.frombytes("I;16", (256, 256), struct.pack("<65536H", *range(65536)))
    picture = read_picture(image)
    rendered = render(unenlarged(picture), picture)
    assert rendered.mode == "I;16" and rendered.tobytes() == image.tobytes()


def test_modes_and_sizes_that_do_not_fit_are_refused() -> None:
    grey, colour = (Picture((Image.new("L", (4, 4)),) * channels) for channels in (1, 3))
    alpha = Image.new("L", (8, 8))
    for mode, picture, given in (
        ("RGB", grey, None),
        ("L", colour, None),
        ("I;16", colour, None),
        ("RGBA", colour, None),
        ("F", grey, None),
        ("I;16", grey, alpha),
        ("L", grey, Image.new("L", (4, 4))),
        ("RGB", colour, Image.new("F", (8, 8))),
    ):
        with pytest.raises(ValueError, match="colour must be"):
            render(Image.new(mode, (8, 8)), picture, alpha=given)


@pytest.mark.slow
def test_a_large_canvas_needs_no_copy_beside_the_result() -> None:
    code = f"""
import resource, sys
from PIL import Image
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from bidiffsr_cli.images import read_picture, render
from images.samples import P3_PRIMARIES, encoded, rgb_profile
image = Image.linear_gradient("L").convert("RGB")
image.paste((255, 0, 0, 255), (0, 0, 9, 9))
picture = read_picture(encoded(image, "PNG", icc_profile=rgb_profile(P3_PRIMARIES, 2.2)))
assert picture.colour_rest
colour = Image.new("RGB", (4096, 4096))
alpha = Image.new("L", (4096, 4096))
render(colour.crop((0, 0, 4096, 512)), picture, alpha=alpha.crop((0, 0, 4096, 512)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
image = render(colour, picture, alpha=alpha)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, check=True, text=True)
    unit = 1 if sys.platform == "darwin" else 1024
    image_bytes = 4 * 4096 * 4096
    assert int(done.stdout) * unit < image_bytes + 64 * 2**20


def alpha_of(values: torch.Tensor) -> Image.Image:
    """F from H×W."""
    return to_image(values[None].contiguous(), "F")


def test_resized_alpha_is_precise_and_in_range() -> None:
    ramp = torch.linspace(0, 1, 32).expand(8, 32)
    enlarged = resize_alpha(alpha_of(ramp), (512, 32))
    assert (enlarged.mode, enlarged.size) == ("L", (512, 32))
    assert len(set(enlarged.crop((0, 16, 512, 17)).tobytes())) > 230  # 32 levels of the source would give steps
    step = torch.zeros(8, 8)
    step[:, 4:] = 1
    for alpha in (alpha_of(step), Image.frombytes("L", (8, 8), bytes((step * 255).byte().flatten().tolist()))):
        enlarged = resize_alpha(alpha, (32, 32))
        assert enlarged.getextrema() == (0, 255)
        # Lanczos alone would leave echoes in what was empty or full, two pixels from the edge
        assert enlarged.crop((0, 0, 12, 32)).getextrema() == (0, 0)
        assert enlarged.crop((20, 0, 32, 32)).getextrema() == (255, 255)
        assert resize_alpha(alpha, (3, 3)).size == (3, 3)
    assert resize_alpha(Image.new("L", (3, 5), 255), (12, 20)).getextrema() == (255, 255)
    assert resize_alpha(Image.new("F", (3, 5), 128.4 / 255), (12, 20)).getextrema() == (128, 128)
    assert resize_alpha(Image.new("F", (3, 5), 128.6 / 255), (12, 20)).getextrema() == (129, 129)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_resized_alpha_is_the_same_in_every_band(scale: int, monkeypatch: pytest.MonkeyPatch) -> None:
    alpha = photo(31, 40, "L")
    whole = resize_alpha(alpha, (31 * scale, 40 * scale))
    monkeypatch.setattr("bidiffsr_cli.images.planes.BAND_PIXELS", 700)
    difference = ImageChops.difference(resize_alpha(alpha, (31 * scale, 40 * scale)), whole)
    assert extrema(difference)[1] <= 1 and sum(difference.histogram()[1:]) <= 3  # halves may be rounded either way


def planes_of(rgb: torch.Tensor) -> tuple[Image.Image, ...]:
    """F from 3×H×W."""
    return tuple(map(alpha_of, rgb))


def bled(rgb: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """3×H×W, with the transparent pixels of alpha H×W filled."""
    return torch.cat([to_levels(plane) for plane in bleed_edges(planes_of(rgb), alpha_of(alpha))])


def disc(size: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """A red disc with soft edges on transparent black."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    distance = ((y - size / 2 + 0.5) ** 2 + (x - size / 2 + 0.5) ** 2).sqrt()
    alpha = (size * 0.3 - distance + 0.5).clamp(0, 1)
    return (alpha > 0) * torch.tensor([1.0, 0, 0]).view(3, 1, 1), alpha


def enlarge(rgb: torch.Tensor, scale: int = 4) -> torch.Tensor:
    return torch.nn.functional.interpolate(rgb[None], scale_factor=scale, mode="bicubic")[0].clamp(0, 1)


def test_no_halo_around_a_disc() -> None:
    rgb, alpha = disc()
    big_alpha = to_float(resize_alpha(alpha_of(alpha), (160, 160)))
    clean = enlarge(bled(rgb, alpha)) * big_alpha + (1 - big_alpha)
    assert clean[0].min() > 0.995  # red on white: the red channel is full everywhere
    dirty = enlarge(rgb) * big_alpha + (1 - big_alpha)
    assert dirty[0].min() < 0.95  # the fringe that this is about


def test_bleeding_takes_the_nearest_colours_and_leaves_the_visible_alone() -> None:
    rgb, alpha = torch.zeros(3, 9, 33), torch.zeros(9, 33)
    rgb[0, :, :4], rgb[2, :, -4:] = 1, 1  # red on the left, blue on the right, junk between
    rgb[1, :, 4:-4] = 0.7
    alpha[:, :4], alpha[:, -4:] = 0.01, 1
    filled = bled(rgb, alpha)
    assert torch.equal(filled[:, :, :4], rgb[:, :, :4]) and torch.equal(filled[:, :, -4:], rgb[:, :, -4:])
    assert filled[1].max() == 0  # no junk anywhere
    assert torch.allclose(filled[:, :, 4:6], torch.tensor([1.0, 0, 0]).view(3, 1, 1))
    assert torch.allclose(filled[:, :, -6:-4], torch.tensor([0.0, 0, 1]).view(3, 1, 1))


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (37, 41), (64, 64)])
def test_one_visible_pixel_fills_everything(size: tuple[int, int]) -> None:
    rgb, alpha = torch.rand(3, *size), torch.zeros(size)
    alpha[-1, -1] = 0.2
    assert torch.allclose(bled(rgb, alpha), rgb[:, -1:, -1:].expand_as(rgb), atol=1e-5)


def test_levels_bleed_as_floats_do() -> None:
    image = photo(33, 21, "RGBA")
    image.putalpha(image.getchannel("A").point(lambda level: 0 if level < 128 else level))
    *planes, alpha = image.split()
    filled = bleed_edges(planes, alpha)
    assert {plane.mode for plane in filled} == {"F"}
    assert all(0 <= low <= high <= 1 for low, high in map(extrema, filled))
    floats = bled(torch.cat([to_float(plane) for plane in planes]), to_float(alpha)[0])
    assert torch.equal(torch.cat([to_levels(plane) for plane in filled]), floats)
    seen = (to_levels(alpha) > 0).expand(3, -1, -1)
    assert torch.equal(floats[seen], torch.cat([to_float(plane) for plane in planes])[seen])


@pytest.mark.parametrize("value", [0, 255])
def test_all_or_nothing_visible_changes_nothing(value: int) -> None:
    planes = photo(6, 5).split()
    assert bleed_edges(planes, Image.new("L", (6, 5), value)) == planes


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ({}, (24, 16)),
        ({"width": 12}, (12, 8)),
        ({"height": 32}, (48, 32)),
        ({"width": 5, "height": 7}, (5, 7)),
        ({"long_side": 12}, (12, 8)),
        ({"width": 1}, (1, 1)),
    ],
)
def test_resample_sizes(given: dict[str, int], size: tuple[int, int]) -> None:
    assert resample(photo(), **given).size == size


def test_resample_follows_the_longer_side() -> None:
    assert resample(photo(16, 24), long_side=48).size == (32, 48)


def test_resample_keeps_16_bits_and_weights_colours_by_alpha() -> None:
    wide = Image.frombytes("I;16", (2, 1), b"\x00\x10\x10\x10").resize((16, 1))
    assert resample(wide, width=64).mode == "I;16" and len(set(resample(wide, width=64).tobytes()[::2])) > 8
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 255))
    image.paste((0, 255, 0, 0), (4, 0, 8, 8))
    red, green, _, alpha = resample(image, width=4).split()
    assert all(
        r > 250 and g < 5 for r, g, a in zip(red.tobytes(), green.tobytes(), alpha.tobytes(), strict=True) if a > 8
    )


@pytest.mark.parametrize("given", [{"width": 0}, {"height": -1}, {"long_side": 0}, {"long_side": 5, "width": 5}])
def test_resample_refuses_nonsense(given: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        resample(photo(), **given)
