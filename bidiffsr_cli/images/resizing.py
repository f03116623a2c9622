"""Shrinking as MATLAB's imresize does it: the small pictures of the usual benchmarks are made like this.

Bicubic with a = -0.5, the kernel widened by the factor so that it averages (antialiasing). Pillow's BICUBIC has the
same kernel, but leaves out what lies beyond the edges, where this mirrors.
"""

import torch
from torch import Tensor

from .filters import weighted_sum


def downscale_bicubic(image: Tensor, scale: int) -> Tensor:
    """Shrink by a whole factor; levels come out as MATLAB's do, to the last one.

    A picture whose sides are no multiples of `scale` is not cut first, although benchmarks do that.

    Args:
        image: C×H×W. uint8 is rounded to levels when the height is shrunk and again when the width is, halves upwards,
            as imresize does; floats of any range are computed in their own type and neither rounded nor clamped.
        scale: 1 or more.

    Returns:
        C×⌈H/scale⌉×⌈W/scale⌉, of the same type.

    Raises:
        ValueError: the type is another one, or `scale` is below 1.
    """
    if scale < 1 or not (image.dtype == torch.uint8 or image.is_floating_point()):
        raise ValueError(f"image must be uint8 or floats and scale at least 1, not {image.dtype} and {scale}")
    if image.dtype != torch.uint8:
        return _shrink(_shrink(image, scale, dim=1), scale, dim=2)
    levels = image.double()  # in float32 a few of a million would, at scales such as 6, be on the other side of a half
    for dim in (1, 2):
        levels = _shrink(levels, scale, dim).add_(0.5).floor_().clamp_(0, 255)
    return levels.to(torch.uint8)


def _shrink(x: Tensor, scale: int, dim: int) -> Tensor:
    """Shrink one dimension: all results see the pixels below them alike, so that one kernel serves all."""
    length = x.shape[dim]
    first, kernel = _kernel(scale)
    count = -(-length // scale)
    reach = torch.arange(first, first + scale * (count - 1) + len(kernel), device=x.device) % (2 * length)
    sources = torch.where(reach < length, reach, 2 * length - 1 - reach)  # mirrored: c b a | a b c | c b a
    phases = [x.index_select(dim, sources[phase::scale]) for phase in range(scale)]  # steps of `scale` side by side
    below = (phases[tap % scale].narrow(dim, tap // scale, count) for tap in range(len(kernel)))
    return weighted_sum(below, kernel)


def _kernel(scale: int) -> tuple[int, list[float]]:
    """The weights of the pixels that the first result is made of, and where they begin.

    Its middle lies at (scale - 1) / 2, and pixels nearer to that than 2 scale have a weight.
    """
    first, last = (scale - 1) // 2 - 2 * scale + 1, scale // 2 + 2 * scale - 1
    distance = (torch.arange(first, last + 1, dtype=torch.float64) - (scale - 1) / 2).abs() / scale
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1  # Keys' cubic, a = -0.5
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = torch.where(distance <= 1, near, far)
    return first, (weights / weights.sum()).tolist()
