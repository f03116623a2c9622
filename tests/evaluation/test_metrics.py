"""PSNR, SSIM and LPIPS, against formulas written out and one recorded truth."""

import copy
import math
import statistics
import struct

import pytest
import torch
import torch.nn.functional as F
from checkpoints.test_files import overwritten, redescribed, renamed
from conftest import to_tensor
from PIL import Image

from bidiffsr_cli.checkpoints.catalog import weights_folder
from bidiffsr_cli.errors import CheckpointError, InputError, ModelError
from bidiffsr_cli.evaluation.metrics import load_lpips, luma, psnr, psnr_rgb, psnr_y, ssim, ssim_rgb, ssim_y


@pytest.fixture(scope="module")
def lpips():
    return load_lpips()


@pytest.fixture(scope="module")
def parrot(pictures):
    with Image.open(pictures / "parrot.png") as image:
        return to_tensor(image)[None]


def coarse(image):
    """Squares of 4×4 pixels, each of one colour."""
    return F.avg_pool2d(image, 4).repeat_interleave(4, -1).repeat_interleave(4, -2)


def pair(height, width):
    """A picture and a noisy one, 3×height×width uint8."""
    picture = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    noisy = picture + 40 * torch.randn(3, height, width)
    return noisy.round().clamp(0, 255).to(torch.uint8), picture


@pytest.mark.parametrize(
    ("rgb", "y"),
    [
        ((0, 0, 0), 16),
        ((255, 255, 255), 235),
        ((255, 0, 0), 81.481),
        ((0, 255, 0), 144.553),
        ((0, 0, 255), 40.966),
        ((100, 50, 200), 16 + (100 * 65.481 + 50 * 128.553 + 200 * 24.966) / 255),
    ],
)
def test_luma_is_matlabs_and_not_rounded(rgb, y):
    for dtype in (torch.uint8, torch.float32):
        plane = luma(torch.tensor(rgb, dtype=dtype).view(3, 1, 1).expand(3, 2, 3))
        assert plane.dtype == torch.float64
        torch.testing.assert_close(plane, torch.full((2, 3), y, dtype=torch.float64))


def test_psnr_is_the_formula():
    a = torch.tensor([[10, 20, 30], [40, 50, 60]], dtype=torch.uint8)
    b = torch.tensor([[10, 23, 30], [44, 50, 60]], dtype=torch.uint8)
    error = (3**2 + 4**2) / 6
    assert psnr(a, b, 0) == pytest.approx(10 * math.log10(255**2 / error), abs=1e-9)
    assert psnr(b, a, 0) == psnr(a, b, 0)  # levels do not wrap around
    assert psnr(a, a + 1, 0) == pytest.approx(48.1308, abs=1e-4)


def test_psnr_of_pictures_is_of_y_or_of_all_channels_without_the_border():
    sr, hr = pair(12, 9)
    inside = [(c, i, j) for c in range(3) for i in range(2, 10) for j in range(2, 7)]
    error = statistics.mean((int(sr[at]) - int(hr[at])) ** 2 for at in inside)
    assert psnr_rgb(sr, hr, 2) == pytest.approx(10 * math.log10(255**2 / error), abs=1e-9)
    assert psnr_y(sr, hr, 2) == psnr(luma(sr)[2:-2, 2:-2], luma(hr)[2:-2, 2:-2], 0)
    sr[:, :2], sr[..., -2:] = 0, 255
    assert psnr_rgb(sr, hr, 2) == pytest.approx(10 * math.log10(255**2 / error), abs=1e-9)


def slow_ssim(a, b):
    """Wang's formula, at each window that lies inside; the variances as sums of squared differences."""
    gauss = [math.exp(-((i - 5) ** 2) / (2 * 1.5**2)) for i in range(11)]
    window = [(i, j, gauss[i] * gauss[j] / sum(gauss) ** 2) for i in range(11) for j in range(11)]
    values = []
    for top in range(len(a) - 10):
        for left in range(len(a[0]) - 10):
            seen = [(w, a[top + i][left + j], b[top + i][left + j]) for i, j, w in window]
            mean_a, mean_b = sum(w * x for w, x, _ in seen), sum(w * y for w, _, y in seen)
            variance_a = sum(w * (x - mean_a) ** 2 for w, x, _ in seen)
            variance_b = sum(w * (y - mean_b) ** 2 for w, _, y in seen)
            covariance = sum(w * (x - mean_a) * (y - mean_b) for w, x, y in seen)
            luminance = (2 * mean_a * mean_b + 6.5025) / (mean_a**2 + mean_b**2 + 6.5025)
            values.append(luminance * (2 * covariance + 58.5225) / (variance_a + variance_b + 58.5225))
    return statistics.mean(values)


@pytest.mark.parametrize(("size", "scale"), [((15, 18), 2), ((19, 20), 4), ((11, 11), 0)])
def test_ssim_is_the_formula(size, scale):
    sr, hr = pair(*size)
    inside = (slice(scale, size[0] - scale), slice(scale, size[1] - scale))
    channels = [slow_ssim(sr[c][inside].tolist(), hr[c][inside].tolist()) for c in range(3)]
    assert ssim_rgb(sr, hr, scale) == pytest.approx(statistics.mean(channels), abs=1e-10)
    of_y = slow_ssim(luma(sr)[inside].tolist(), luma(hr)[inside].tolist())
    assert ssim_y(sr, hr, scale) == pytest.approx(of_y, abs=1e-10)
    assert 0.1 < of_y < 0.999


def test_equal_pictures_are_the_best_there_is():
    _, hr = pair(20, 20)
    assert psnr_y(hr, hr, 2) == psnr_rgb(hr, hr, 2) == math.inf
    assert ssim_y(hr, hr, 2) == pytest.approx(1)
    assert ssim_rgb(hr, hr, 2) == pytest.approx(1)


@pytest.mark.parametrize("metric", [psnr_y, psnr_rgb, ssim_y, ssim_rgb])
def test_pictures_that_cannot_be_compared_are_refused(metric):
    with pytest.raises(InputError, match="different sizes"):
        metric(torch.zeros(3, 20, 20), torch.zeros(3, 20, 21), 2)
    with pytest.raises(InputError, match="too small"):
        metric(torch.zeros(3, 40, 8), torch.zeros(3, 40, 8), 4)


def test_ssim_needs_a_window():
    with pytest.raises(InputError, match="12×14 is too small") as caught:
        ssim(torch.zeros(14, 12), torch.zeros(14, 12), 2)
    assert "15×15" in caught.value.hint


def test_lpips_is_the_recorded_one(lpips, parrot):
    """Recorded when this module agreed with the lpips package on every picture of Set5 and Set14 to 1e-4."""
    assert float(lpips(coarse(parrot), parrot)) == pytest.approx(0.265902, abs=1e-4)


def test_lpips_of_equal_pictures_is_zero_and_of_others_symmetric(lpips, parrot):
    other = coarse(parrot)
    assert float(lpips(parrot, parrot)) == 0
    assert float(lpips(parrot, other)) == float(lpips(other, parrot)) > 0


def test_lpips_takes_each_pair_by_itself(lpips, parrot):
    crops = torch.cat([parrot[..., i : i + 64, i : i + 80] for i in (0, 50, 150)])
    distances = lpips(crops, coarse(crops))
    assert distances.shape == (3,)
    alone = [lpips(crop[None], coarse(crop[None])) for crop in crops]
    torch.testing.assert_close(distances, torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_lpips_can_be_descended(lpips, parrot):
    truth = parrot[..., 60:124, 60:124]
    x = coarse(truth).requires_grad_()
    before = lpips(x, truth)
    (gradient,) = torch.autograd.grad(before.sum(), x)
    assert not any(parameter.requires_grad for parameter in lpips.parameters())
    assert float(lpips(x.detach() - gradient / gradient.norm(), truth)) < float(before.detach()) - 0.01


def test_lpips_has_a_gradient_where_no_feature_answers(lpips):
    """The length of a zero vector has none of its own: it must become 0, not NaN."""
    silent = copy.deepcopy(lpips)
    silent.features[0].bias.fill_(-100)
    x = torch.rand(1, 3, 48, 48, requires_grad=True)
    (gradient,) = torch.autograd.grad(silent(x, torch.rand(1, 3, 48, 48)).sum(), x)
    assert bool(gradient.isfinite().all())


def test_lpips_says_what_it_can_take(lpips):
    assert lpips(torch.zeros(1, 3, 31, 31), torch.ones(1, 3, 31, 31)).isfinite()
    with pytest.raises(InputError, match="40×30 is too small for LPIPS"):
        lpips(torch.zeros(1, 3, 30, 40), torch.zeros(1, 3, 30, 40))
    with pytest.raises(InputError, match="different sizes"):
        lpips(torch.zeros(1, 3, 64, 64), torch.zeros(2, 3, 64, 64))


def test_loading_lpips_leaves_random_numbers_alone():
    before = torch.get_rng_state()
    load_lpips()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (renamed("features.3.weight", "features.3.w"), "tensor features.3.weight is missing"),
        (redescribed("lin2.model.1.weight", shape=[384]), r"tensor lin2.model.1.weight is torch.float32 \(384,\)"),
        (redescribed("features.0.bias", dtype="I16"), "tensor features.0.bias is torch.int16"),
        (
            overwritten("lin0.model.1.weight", struct.pack("<f", math.nan)),
            "tensor lin0.model.1.weight holds values that are",
        ),
    ],
)
def test_weights_of_something_else_are_refused(tmp_path, damage, message):
    whole = (weights_folder() / "lpips_alex.safetensors").read_bytes()
    (tmp_path / "other.safetensors").write_bytes(damage(whole))
    with pytest.raises(CheckpointError, match=rf"other\.safetensors: {message}"):
        load_lpips(tmp_path / "other.safetensors")


def test_a_damaged_or_missing_file_is_told_apart(tmp_path):
    whole = (weights_folder() / "lpips_alex.safetensors").read_bytes()
    for damaged in (b"", b"text", whole[:100], whole[: len(whole) // 2]):
        (tmp_path / "damaged.safetensors").write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"damaged\.safetensors is not a whole"):
            load_lpips(tmp_path / "damaged.safetensors")
    with pytest.raises(ModelError, match="cannot be read"):
        load_lpips(tmp_path / "missing.safetensors")
