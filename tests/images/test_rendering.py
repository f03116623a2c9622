"""render, alpha and resample: what comes out has the source's kind, and no halo."""

import struct
import subprocess
import sys

import pytest
import torch
from PIL import Image

from bidiffsr_cli.errors import UsageError
from bidiffsr_cli.images import Picture, bleed_edges, read_picture, render, resample, resize_alpha

from .samples import encoded, noise, photo


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (7, 300), (300, 7), (13, 17)])
def test_reading_and_rendering_changes_nothing(
    mode: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bidiffsr_cli.images.pixels.BAND_PIXELS", 500)
    image = photo(*size, mode)
    picture = read_picture(encoded(image, "PNG"))
    rendered = render(picture.rgb, picture, alpha=picture.alpha)
    assert (rendered.mode, rendered.size, rendered.tobytes()) == (mode, size, image.tobytes())


def test_16_bit_grey_is_exact() -> None:
    image = Image.frombytes("I;16", (256, 256), struct.pack("<65536H", *range(65536)))
    picture = read_picture(image)
    rendered = render(picture.rgb, picture)
    assert rendered.mode == "I;16" and rendered.tobytes() == image.tobytes()


def test_values_are_rounded_and_clamped() -> None:
    rgb = torch.tensor([0.4999, 0.5001, 254.6, -3, 300]).div(255).view(1, 1, 5).expand(3, -1, -1)
    assert list(render(rgb, Picture(rgb)).getchannel("R").tobytes()) == [0, 1, 255, 0, 255]


def test_half_precision_and_odd_strides() -> None:
    rgb = noise(6, 8).div(255)
    expected = render(rgb, Picture(rgb)).tobytes()
    assert render(rgb.transpose(1, 2).contiguous().transpose(1, 2), Picture(rgb)).tobytes() == expected
    assert render(rgb.to(torch.float64), Picture(rgb)).tobytes() == expected


def test_wrong_shapes_are_refused() -> None:
    rgb = torch.zeros(3, 4, 4)
    for wrong, alpha in ((rgb[:1], None), (rgb[None], None), (rgb, torch.zeros(1, 2, 2))):
        with pytest.raises(ValueError, match="3×H×W"):
            render(wrong, Picture(rgb), alpha=alpha)


def test_a_large_canvas_needs_no_float_copy() -> None:
    code = """
import resource, torch
from bidiffsr_cli.images import Picture, render
rgb = torch.zeros(3, 1, 1).expand(3, 4096, 4096)
render(rgb[:, :64], Picture(rgb))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
image = render(rgb, Picture(rgb))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, check=True, text=True)
    unit = 1 if sys.platform == "darwin" else 1024
    image_bytes = 4 * 4096 * 4096  # Pillow holds RGB in four bytes
    assert int(done.stdout) * unit < image_bytes + 64 * 2**20


def test_resized_alpha_is_precise_and_in_range() -> None:
    ramp = torch.linspace(0.5, 0.501, 32).view(1, 1, 32).expand(1, 8, 32)
    enlarged = resize_alpha(ramp, (128, 32))
    assert enlarged.shape == (1, 32, 128) and len(set(enlarged[0, 16].tolist())) > 100  # 8 bits would give one level
    step = torch.zeros(1, 8, 8)
    step[..., 4:] = 1
    enlarged = resize_alpha(step, (32, 32))
    assert enlarged.min() == 0 and enlarged.max() == 1
    # Lanczos alone would leave echoes in what was empty or full, two pixels from the edge
    assert enlarged[..., :12].max() == 0 and enlarged[..., 20:].min() == 1
    assert resize_alpha(step, (3, 3)).shape == (1, 3, 3)
    assert torch.allclose(resize_alpha(torch.ones(1, 5, 3), (12, 20)), torch.ones(1, 20, 12))


def disc(size: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """A red disc with soft edges on transparent black."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    distance = ((y - size / 2 + 0.5) ** 2 + (x - size / 2 + 0.5) ** 2).sqrt()
    alpha = (size * 0.3 - distance + 0.5).clamp(0, 1)[None]
    return (alpha > 0) * torch.tensor([1.0, 0, 0]).view(3, 1, 1), alpha


def enlarge(rgb: torch.Tensor, scale: int = 4) -> torch.Tensor:
    return torch.nn.functional.interpolate(rgb[None], scale_factor=scale, mode="bicubic")[0].clamp(0, 1)


def test_no_halo_around_a_disc() -> None:
    rgb, alpha = disc()
    big_alpha = resize_alpha(alpha, (160, 160))
    clean = enlarge(bleed_edges(rgb, alpha)) * big_alpha + (1 - big_alpha)
    assert clean[0].min() > 0.995  # red on white: the red channel is full everywhere
    dirty = enlarge(rgb) * big_alpha + (1 - big_alpha)
    assert dirty[0].min() < 0.95  # the fringe that this is about


def test_bleeding_takes_the_nearest_colours_and_leaves_the_visible_alone() -> None:
    rgb, alpha = torch.zeros(3, 9, 33), torch.zeros(1, 9, 33)
    rgb[0, :, :4], rgb[2, :, -4:] = 1, 1  # red on the left, blue on the right, junk between
    rgb[1, :, 4:-4] = 0.7
    alpha[..., :4], alpha[..., -4:] = 0.01, 1
    filled = bleed_edges(rgb, alpha)
    assert torch.equal(filled[:, :, :4], rgb[:, :, :4]) and torch.equal(filled[:, :, -4:], rgb[:, :, -4:])
    assert filled[1].max() == 0  # no junk anywhere
    assert torch.allclose(filled[:, :, 4:6], torch.tensor([1.0, 0, 0]).view(3, 1, 1))
    assert torch.allclose(filled[:, :, -6:-4], torch.tensor([0.0, 0, 1]).view(3, 1, 1))


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (37, 41), (64, 64)])
def test_one_visible_pixel_fills_everything(size: tuple[int, int]) -> None:
    rgb, alpha = torch.rand(3, *size), torch.zeros(1, *size)
    alpha[0, -1, -1] = 0.2
    filled = bleed_edges(rgb, alpha)
    assert torch.allclose(filled, rgb[:, -1:, -1:].expand_as(rgb), atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_all_or_nothing_visible_changes_nothing(value: float) -> None:
    rgb = torch.rand(3, 5, 6)
    assert torch.equal(bleed_edges(rgb, torch.full((1, 5, 6), value)), rgb)


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
