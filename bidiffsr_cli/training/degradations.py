"""What happens to real photos before they are enlarged: blur, noise, JPEG. Off by default; the paper has none."""

from __future__ import annotations

import io

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .config import DataConfig


def degrade(low_res: Tensor, config: DataConfig, generator: torch.Generator) -> Tensor:
    """Blur, then noise, then JPEG, each picture by amounts of its own, uniform up to the config's.

    Args:
        low_res: B×3×h×w in [0, 1].
        generator: of the amounts and of the noise, on the CPU.

    Returns:
        B×3×h×w in [0, 1], on the device of `low_res`.
    """
    device, amounts = low_res.device, torch.rand(3, len(low_res), generator=generator)
    if config.blur:
        low_res = _blurred(low_res, config.blur * amounts[0])
    if config.noise:
        noise = torch.randn(low_res.shape, generator=generator).to(device)
        low_res = low_res + noise * (config.noise / 255 * amounts[1]).view(-1, 1, 1, 1).to(device)
    low_res = low_res.clamp(0, 1)
    if config.jpeg < 100:
        qualities = (100 - (100 - config.jpeg) * amounts[2]).round().int().tolist()
        low_res = torch.stack([_jpeg(*pair) for pair in zip(low_res.cpu(), qualities, strict=True)]).to(device)
    return low_res


def _blurred(pictures: Tensor, deviations: Tensor) -> Tensor:
    """Each picture by a Gaussian of its own deviation; edges are repeated."""
    radius = max(1, int(3 * float(deviations.max())))
    at = torch.arange(-radius, radius + 1)
    kernels = torch.exp(-0.5 * (at / deviations.clamp_min(1e-3).view(-1, 1)) ** 2)
    kernels = (kernels / kernels.sum(1, keepdim=True)).repeat_interleave(3, 0).to(pictures)  # (3B, taps)
    x = F.pad(pictures, (radius,) * 4, mode="replicate").flatten(0, 1)[None]  # (1, 3B, h', w')
    x = F.conv2d(x, kernels[:, None, :, None], groups=x.shape[1])
    return F.conv2d(x, kernels[:, None, None, :], groups=x.shape[1]).view_as(pictures)


def _jpeg(picture: Tensor, quality: int) -> Tensor:
    levels = (picture * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    height, width, _ = levels.shape
    stream = io.BytesIO()
    Image.frombytes("RGB", (width, height), bytes(levels.flatten().tolist())).save(stream, "JPEG", quality=quality)
    with Image.open(stream) as image:
        values = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
    return values.view(height, width, 3).permute(2, 0, 1) / 255
