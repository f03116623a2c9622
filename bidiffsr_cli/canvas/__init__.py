"""One picture's reverse diffusion, from the small picture to the enlarged one.

The state lies on one canvas. At every step the network looks at it window by window, the windows' predictions are
blended, and one update of the sampler moves the whole canvas. On a CPU the native engine does all of that
(`ops.canvas`); `reference` is its definition, and the way of every other device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PIL import Image

from ..errors import BidiffsrError
from ..networks.native_unet import NativeUNet
from ..ops import canvas as engine
from ..ops.array import Array
from ..runtime import shares_in_rounds
from .diffusion import Diffusion

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Diffusion", "enlarge", "values"]


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
        data = _on_engine(diffusion, planes, engine.LEVELS_16 if mode == "I;16" else engine.LEVELS_8)
        return Image.frombytes(mode, diffusion.plan.output_size, data)
    from .reference import rounded

    return rounded(_in_torch(diffusion, planes), mode)


def values(diffusion: Diffusion, planes: Sequence[Image.Image]) -> Array:
    """The same in 3×H×W floats in [0, 1], before they are rounded: what two backends are compared by."""
    width, height = diffusion.plan.output_size
    if diffusion.runtime.isa is not None:
        return Array((3, height, width), "float32", _on_engine(diffusion, planes, engine.FLOATS))
    return Array.of(_in_torch(diffusion, planes).cpu())


def _on_engine(diffusion: Diffusion, planes: Sequence[Image.Image], kind: int) -> bytearray:
    plan, options, network = diffusion.plan, diffusion.options, diffusion.network
    threads = diffusion.runtime.threads_here
    how = engine.Enlargement(
        diffusion.config,
        plan.grid,
        plan.scale,
        [(level.t, level.alpha, level.sigma) for level in diffusion.levels],
        options.sampler,
        options.eta,
        plan.temperature,
        options.seed,
        options.color_fix == "lowfreq",
        threads,
        plan.concurrent,
        shares_in_rounds(threads, len(plan.grid.tiles), plan.concurrent),
    )

    def in_its_place(x_t: Tensor, seen: Tensor, t: Tensor, step: int) -> Tensor:
        with diffusion.runtime.inference():
            return network(x_t, seen, t, step).float()

    first = planes[0]
    data = b"".join(plane.tobytes() for plane in planes)
    low_res = engine.Samples(data, first.mode == "F", len(planes), first.height, first.width)
    whole = network.network if isinstance(network, NativeUNet) else in_its_place
    upsampler = diffusion.upsampler
    assert upsampler is None or isinstance(upsampler, engine.NativeUpsampler)
    try:
        return engine.enlarge(low_res, how, whole, upsampler, diffusion.advance, kind)
    except engine.NotFiniteError:
        raise _not_finite() from None


def _in_torch(diffusion: Diffusion, planes: Sequence[Image.Image]) -> Tensor:
    from . import reference

    try:
        return reference.run(diffusion, planes)
    except engine.NotFiniteError:
        raise _not_finite() from None


def _not_finite() -> BidiffsrError:
    return BidiffsrError("The network's output is not finite.", "Use --precision fp32.")
