"""How near an enlarged picture is to the true one: PSNR, SSIM and LPIPS, as the paper's tables count them.

PSNR and SSIM are BasicSR's: of 8-bit pictures, on MATLAB's Y or on all channels, without a border of `scale` pixels.
LPIPS is v0.1 with AlexNet (Zhang et al., 2018), of whole pictures; gradients pass through it, so it can be a loss, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import safetensors
import torch
from torch import Tensor, nn

from ..checkpoints.catalog import weights_folder
from ..errors import CheckpointError, InputError, ModelError
from ..images.filters import convolve, gaussian

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
LPIPS_LEAST = 31  # pixels a side: of fewer, nothing is left after AlexNet's second pooling


def luma(image: Tensor) -> Tensor:
    """Y of ITU-R BT.601 as MATLAB's rgb2ycbcr has it: 16 for black to 235 for white, not rounded.

    Args:
        image: 3×H×W, RGB, levels of 0..255 of any type.

    Returns:
        H×W, float64, on the CPU, since not every device has float64.
    """
    red, green, blue = image.detach().to("cpu", torch.float64) / 255
    return 65.481 * red + 128.553 * green + 24.966 * blue + 16


def psnr(a: Tensor, b: Tensor, crop: int) -> float:
    """Peak signal-to-noise ratio in dB, infinite for equal pictures.

    Args:
        a, b: H×W or C×H×W, levels of 0..255 of any type.
        crop: pixels to leave out at each side.

    Raises:
        InputError: the sizes differ, or nothing is left.
    """
    _check_same_size(a, b)
    a, b = _inside(a, crop, 1), _inside(b, crop, 1)
    error = float((a - b).square().mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


def psnr_y(sr: Tensor, hr: Tensor, scale: int) -> float:
    """PSNR on Y, dB, of 3×H×W uint8 pictures: BasicSR's calculate_psnr with test_y_channel and crop_border=scale."""
    return psnr(luma(sr), luma(hr), scale)


def psnr_rgb(sr: Tensor, hr: Tensor, scale: int) -> float:
    """PSNR over all channels, dB, of 3×H×W uint8 pictures: BasicSR's calculate_psnr with crop_border=scale."""
    return psnr(sr, hr, scale)


def ssim(a: Tensor, b: Tensor, crop: int) -> float:
    """Structural similarity (Wang et al., 2004), up to 1: Gaussian windows that lie inside the picture, then the mean.

    Args:
        a, b: H×W or C×H×W, levels of 0..255 of any type; channels are compared each by itself.
        crop: pixels to leave out at each side.

    Raises:
        InputError: the sizes differ, or no window fits.
    """
    _check_same_size(a, b)
    a, b = _inside(a, crop, SSIM_WINDOW), _inside(b, crop, SSIM_WINDOW)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_a, mean_b = _blur(a), _blur(b)
    # levels are small beside float64's precision, so that mean(x²) - mean(x)² will do for the variances
    variance_a, variance_b = _blur(a * a) - mean_a**2, _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    likeness = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    likeness /= (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    return float(likeness.mean())


def ssim_y(sr: Tensor, hr: Tensor, scale: int) -> float:
    """SSIM on Y of 3×H×W uint8 pictures: BasicSR's calculate_ssim with test_y_channel and crop_border=scale."""
    return ssim(luma(sr), luma(hr), scale)


def ssim_rgb(sr: Tensor, hr: Tensor, scale: int) -> float:
    """The mean of the channels' SSIM, of 3×H×W uint8 pictures: BasicSR's calculate_ssim with crop_border=scale."""
    return ssim(sr, hr, scale)


def _inside(x: Tensor, crop: int, least: int) -> Tensor:
    """What lies inside the border, in float64; at least `least` pixels in each direction."""
    height, width = x.shape[-2:]
    if min(height, width) < 2 * crop + least:
        raise InputError(
            f"A picture of {width}×{height} is too small to be compared.",
            f"Give one of {2 * crop + least}×{2 * crop + least} or more.",
        )
    return x[..., crop : height - crop, crop : width - crop].detach().to("cpu", torch.float64)


def _check_same_size(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise InputError(f"Pictures of different sizes cannot be compared: {tuple(a.shape)} and {tuple(b.shape)}.")


def _blur(x: Tensor) -> Tensor:
    """Average by the Gaussian window, without padding, rows and columns in turn."""
    kernel = gaussian(torch.tensor(SSIM_SIGMA, dtype=torch.float64), SSIM_WINDOW // 2).tolist()
    return convolve(convolve(x, kernel, dim=-2), kernel, dim=-1)


class LPIPS(nn.Module):
    """Learned perceptual distance, v0.1 with AlexNet: 0 for equal pictures.

    The weights are frozen; gradients reach the pictures. `load_lpips` makes one that has its weights.
    """

    shift: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(  # numbered as torchvision's
            nn.Conv2d(3, 64, kernel_size=11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(64, 192, kernel_size=5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(192, 384, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
        )
        self.heads = nn.ParameterList(torch.zeros(1, channels, 1, 1) for channels in (64, 192, 384, 256, 256))
        # lpips' ScalingLayer, of [-1, 1]; on the CPU even where the rest is made without memory
        shift, spread = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
        self.register_buffer("shift", torch.tensor(shift, device="cpu").view(3, 1, 1), persistent=False)
        self.register_buffer("spread", torch.tensor(spread, device="cpu").view(3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """The distance of each pair.

        Args:
            a, b: N×3×H×W, RGB in [0, 1], float32, of 31×31 pixels or more.

        Returns:
            N.

        Raises:
            InputError: the sizes differ, or are too small.
        """
        _check_same_size(a, b)
        if min(a.shape[-2:]) < LPIPS_LEAST:
            raise InputError(
                f"A picture of {a.shape[-1]}×{a.shape[-2]} is too small for LPIPS.",
                f"Give one of {LPIPS_LEAST}×{LPIPS_LEAST} or more.",
            )
        distance = a.new_zeros(len(a))
        for head, of_a, of_b in zip(self.heads, self._directions(a), self._directions(b), strict=True):
            distance = distance + ((of_a - of_b).square() * head).sum(dim=1).mean(dim=(1, 2))
        return distance

    def _directions(self, image: Tensor) -> Iterator[Tensor]:
        """After each of the five convolutions, N×C×h×w: every pixel's channels as a vector of length 1."""
        x = (2 * image - 1 - self.shift) / self.spread
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                # vector_norm's gradient is 0 where all channels are 0; a square root's would be NaN
                yield x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + 1e-10)


def load_lpips(path: Path | None = None) -> LPIPS:
    """LPIPS with its weights, on the CPU.

    Args:
        path: safetensors with torchvision's names of AlexNet's features and lpips' names of the heads, in float16 or
            float32; by default the bundled file.

    Raises:
        ModelError: there is no such file.
        CheckpointError: the file is damaged, or its tensors are not those of LPIPS; the message names the first wrong.
    """
    path = weights_folder() / "lpips_alex.safetensors" if path is None else path
    with torch.device("meta"):  # without drawing random weights, which would shift the caller's random numbers
        model = LPIPS()
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            state = _read_weights(file, model)
    except CheckpointError as error:
        raise CheckpointError(f"{path.name}: {error.message}", error.hint) from None
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read: {error.strerror or error}.", "Install bidiffsr again.") from None
    except safetensors.SafetensorError as error:
        raise CheckpointError(
            f"{path.name} is not a whole safetensors file: {error}.", "Install bidiffsr again."
        ) from None
    model.load_state_dict(state, assign=True)
    return model.requires_grad_(False)


@cache
def _bundled_lpips() -> LPIPS:
    return load_lpips()


def lpips_alex(sr: Tensor, hr: Tensor) -> float:
    """LPIPS of 3×H×W uint8 pictures without gradients, by the bundled weights, which are loaded once."""
    model = _bundled_lpips()
    with torch.inference_mode():
        return float(model(sr[None] / 255, hr[None] / 255))


def _read_weights(file: safetensors.safe_open, model: LPIPS) -> dict[str, Tensor]:
    """The file's tensors by our names, float32."""
    state, present = {}, set(file.keys())
    for name, expected in model.state_dict().items():
        kind, _, rest = name.partition(".")
        theirs = f"lin{rest}.model.1.weight" if kind == "heads" else name
        if theirs not in present:
            raise CheckpointError(f"tensor {theirs} is missing.")
        tensor = file.get_tensor(theirs)
        if tensor.shape != expected.shape or tensor.dtype not in (torch.float16, torch.float32):
            raise CheckpointError(
                f"tensor {theirs} is {tensor.dtype} {tuple(tensor.shape)}; expected floats {tuple(expected.shape)}."
            )
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(f"tensor {theirs} holds values that are not finite.")
        state[name] = tensor.to(torch.float32, copy=True)  # out of the mapped file, which may change
    return state
