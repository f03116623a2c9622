"""What needs a CUDA device: the same picture as on the CPU, as near as signs allow."""

import pytest
import torch
from conftest import psnr, to_tensor

from bidiffsr_cli import SuperResolver

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.mark.parametrize("steps", [1, 5])
def test_cuda_gives_the_picture_of_the_cpu(resolver, small, steps):
    expected = to_tensor(resolver.upscale(small, steps=steps, tile=64, tile_overlap=16).image)
    cuda = SuperResolver.from_pretrained("fast", device="cuda")
    result = cuda.upscale(small, steps=steps, tile=64, tile_overlap=16)
    assert result.device.startswith("cuda") and result.peak_memory_bytes.device > 0
    assert psnr(to_tensor(result.image), expected) >= 45


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_on_cuda(resolver, small, precision):
    expected = to_tensor(resolver.upscale(small, steps=1).image)
    cuda = SuperResolver.from_pretrained("fast", device="cuda", precision=precision)
    assert psnr(to_tensor(cuda.upscale(small, steps=1).image), expected) > 38
