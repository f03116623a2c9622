"""What pictures go through: each does its one thing, by the amount that it is told."""

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from bidiffsr_cli.images.degrading import (
    Degradation,
    blurred,
    chroma_blurred,
    compressed,
    noise_of,
    sharpened,
    shrunk,
)
from bidiffsr_cli.images.kernels import KERNELS
from bidiffsr_cli.images.pixels import to_float, to_image

from .samples import photo

YES, NO = torch.tensor([True]), torch.tensor([False])


@pytest.fixture
def picture() -> torch.Tensor:
    return to_float(photo(96, 72))[None]


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_are_those_of_pillow(picture: torch.Tensor, scale: int, kernel: str) -> None:
    names = {"lanczos": Image.Resampling.LANCZOS, "bilinear": Image.Resampling.BILINEAR, "area": Image.Resampling.BOX}
    image = to_image((picture[0] * 255).round().byte(), "RGB")
    theirs = to_float(image.resize((96 // scale, 72 // scale), names[kernel]))
    ours = shrunk(picture, scale, kernel)[0]
    assert ours.shape == theirs.shape
    edge = 3  # where Pillow leaves out what lies beyond
    difference = (ours - theirs)[:, edge:-edge, edge:-edge].abs().max()
    assert difference <= 1.6 / 255  # Pillow rounds twice, and clamps between


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_what_is_flat_stays_flat(level: float) -> None:
    flat = torch.full((2, 3, 24, 16), level)
    amounts = torch.tensor([0.7, 2.0])
    for result in (blurred(flat, amounts), sharpened(flat, amounts), chroma_blurred(flat, amounts)):
        torch.testing.assert_close(result, flat)
    for kernel in KERNELS:
        torch.testing.assert_close(shrunk(flat, 2, kernel), flat[..., ::2, ::2])


def test_amounts_are_each_pictures_own(picture: torch.Tensor) -> None:
    two = picture.expand(2, -1, -1, -1)
    for change in (blurred, sharpened, chroma_blurred):
        none, much = change(two, torch.tensor([0.0, 1.5]))
        torch.testing.assert_close(none, picture[0])
        assert (much - picture[0]).abs().max() > 0.01


def test_a_blur_has_its_standard_deviation() -> None:
    point = torch.zeros(1, 3, 41, 41)
    point[..., 20, 20] = 1
    rows = blurred(point, torch.tensor([2.5]))[0, 0].sum(1)
    at = torch.arange(41) - 20.0
    assert float(rows.sum()) == pytest.approx(1) and float((rows * at**2).sum().sqrt()) == pytest.approx(2.5, rel=0.02)


def test_chroma_blur_leaves_the_light() -> None:
    picture = torch.rand(1, 3, 24, 24)
    light = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    result = chroma_blurred(picture, torch.tensor([1.5]))
    torch.testing.assert_close((result * light).sum(1), (picture * light).sum(1))
    assert (result - result.mean(1, keepdim=True)).std() < 0.5 * (picture - picture.mean(1, keepdim=True)).std()


@pytest.mark.parametrize("coarse", [YES, NO])
@pytest.mark.parametrize("grey", [YES, NO])
def test_noise(grey: torch.Tensor, coarse: torch.Tensor) -> None:
    half = torch.full((1, 3, 128, 128), 0.5)
    half[..., 64:] = 0.125
    drawn = torch.randn(half.shape)
    even = noise_of(half, drawn, by_light=NO, grey=grey, coarse=coarse)
    assert float(even.std()) == pytest.approx(1, rel=0.03)
    assert bool((even[:, 0] == even[:, 2]).all()) == bool(grey)
    neighbours = float((even[..., 1:] * even[..., :-1]).mean())
    assert (neighbours > 0.5) if coarse else (abs(neighbours) < 0.05)
    by_light = noise_of(half, drawn, by_light=YES, grey=grey, coarse=coarse)
    torch.testing.assert_close(by_light[..., :64], even[..., :64])
    torch.testing.assert_close(by_light[..., 64:], even[..., 64:] / 2)


@pytest.mark.parametrize("left", [0, 3])
def test_the_blocks_of_a_jpeg_are_where_they_are_said_to_be(picture: torch.Tensor, left: int) -> None:
    noisy = (picture[0] + 0.1 * torch.randn(picture[0].shape)).clamp(0, 1)
    result = compressed(noisy, 5, shift=(0, left))
    assert result.shape == noisy.shape
    steps = (result[..., 1:] - result[..., :-1]).abs().mean((0, 1))
    borders = (torch.arange(1, 96) + left) % 8 == 0
    assert steps[borders].mean() > 3 * steps[~borders].mean()


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_quality(picture: torch.Tensor, format: str) -> None:
    noisy = (picture[0] + 0.05 * torch.randn(picture[0].shape)).clamp(0, 1)
    errors = [float((compressed(noisy, quality, format=format) - noisy).abs().mean()) for quality in (10, 50, 90)]
    assert errors[0] > errors[1] > errors[2] > 0


def test_colours_of_a_jpeg(picture: torch.Tensor) -> None:
    colours = F.interpolate(torch.rand(1, 3, 20, 20), scale_factor=2)[0, :, 1:, 1:]
    full, half = (compressed(colours, 95, subsampling=kind) for kind in ("444", "420"))
    assert 4 * (full - colours).abs().mean() < (half - colours).abs().mean()


def test_all_of_it(picture: torch.Tensor) -> None:
    hr = (picture[0] * 255).round().to(torch.uint8)
    small = F.avg_pool2d(picture, 2)[0].mul(255).round().to(torch.uint8)
    assert str(Degradation()) == "" and torch.equal(Degradation().apply(small, hr, "a"), small)
    everything = Degradation("area", 0.6, 3.0, 1.0, 0.5, 85, 90)
    assert str(everything) == "kernel=area,blur=0.6,noise=3,chroma=1,sharpen=0.5,jpeg=85,webp=90"
    result = everything.apply(small, hr, "a")
    assert result.shape == small.shape and result.dtype == torch.uint8
    assert torch.equal(result, everything.apply(small, hr, "a"))
    assert not torch.equal(result, everything.apply(small, hr, "b"))  # each picture has noise of its own
    for field, value in {"blur": 0.6, "noise": 3.0, "chroma": 1.0, "sharpen": 0.5, "jpeg": 85, "webp": 90}.items():
        alone = Degradation(**{field: value}).apply(small, hr, "a")  # type: ignore[arg-type]
        assert 0 < (alone.float() - small.float()).abs().mean() < 15
    assert (Degradation("lanczos").apply(small, hr, "a").float() - small.float()).abs().max() < 60
