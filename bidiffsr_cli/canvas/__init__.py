"""One picture's reverse diffusion, from the small picture to the enlarged one.

The state lies on one canvas. At every step the network looks at it window by window, the windows' predictions are
blended, and one update of the sampler moves the whole canvas. On a CPU the native engine does all of that
(`engine`); `reference` is its definition, and the way of every other device.
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from ..ops.array import Array
from . import engine
from .diffusion import Diffusion, Network

__all__ = ["Diffusion", "Network", "enlarge", "values"]


def enlarge(diffusion: Diffusion, planes: Sequence[Image.Image], *, bits: int = 8) -> Image.Image:
    """The whole reverse diffusion, rounded to levels.

    Args:
        diffusion: what it takes.
        planes: of the small picture, as those of a `Picture`.
        bits: 8, or 16 of grey.

    Returns:
        An RGB image; of one plane an L or I;16 image, of the mean of the three channels that are drawn.

    Raises:
        BidiffsrError: the network's output is not finite.
    """
    mode = "RGB" if len(planes) == 3 else "L" if bits == 8 else "I;16"
    if diffusion.runtime.isa is not None:
        data = engine.run(diffusion, planes, engine.LEVELS_16 if mode == "I;16" else engine.LEVELS_8)
        return Image.frombytes(mode, diffusion.plan.output_size, data)
    from . import reference

    return reference.rounded(reference.run(diffusion, planes), mode)


def values(diffusion: Diffusion, planes: Sequence[Image.Image]) -> Array:
    """The same in 3×H×W floats in [0, 1], before they are rounded: what two backends are compared by."""
    width, height = diffusion.plan.output_size
    if diffusion.runtime.isa is not None:
        return Array((3, height, width), "float32", engine.run(diffusion, planes, engine.FLOATS))
    from . import reference

    return Array.of(reference.run(diffusion, planes).cpu())
