"""A packed UNet on the native engine: the same network as one program (`program`), with few passes over memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..configs import ModelConfig
from ..ops import Array, native
from ..ops.threads import threads
from .blueprint import Upsampler
from .program import program_of, upsampler_program

if TYPE_CHECKING:
    from torch import Tensor


class NativeUNet:
    """A UNet for inference on the native engine.

    Args:
        config: of the model.
        arrays: its packed tensors, by name.
        isa: the instruction set.
        dtype: of what the full-precision convolutions of one tap multiply, "float32" or "bfloat16".
    """

    def __init__(self, config: ModelConfig, arrays: Mapping[str, Array], isa: str, dtype: str) -> None:
        self.network = native.NativeProgram(isa, program_of(config, arrays, dtype))

    def __call__(self, x_t: Tensor, condition: Tensor, t: Tensor, step: int | None = None) -> Tensor:
        """As UNet.forward."""
        return self._run(x_t, condition, t, step, None)

    def profile(self, x_t: Tensor, condition: Tensor, t: Tensor) -> dict[str, float]:
        """Seconds of each kind of work in one run."""
        seconds: list[float] = []
        self._run(x_t, condition, t, None, seconds)
        parts: defaultdict[str, float] = defaultdict(float)
        for part, taken in zip(self.network.parts, seconds, strict=True):
            parts[part] += taken
        return parts

    def _run(self, x_t: Tensor, condition: Tensor, t: Tensor, step: int | None, seconds: list[float] | None) -> Tensor:
        times = t.tolist()
        planes = [condition.contiguous(), x_t.contiguous()]
        return self.network(planes, times, times[0] if step is None else step, threads(), seconds)


@dataclass(frozen=True)
class NativeUpsampler:
    """What is added to bicubic interpolation, on the engine (`networks/upsampler.py`).

    Attributes:
        program: the small picture, 1×3×h×w as planes -> 1×3×(scale·h)×(scale·w).
        radius: how many pixels from the edges of what it is given its result is of no use.
    """

    program: native.NativeProgram
    radius: int

    def __call__(self, low_res: Tensor) -> Tensor:
        """B×3×h×w in [0, 1] -> B×3×(scale·h)×(scale·w)."""
        return self.program([low_res.contiguous()], [0] * len(low_res), 0, threads())


def native_upsampler(plan: Upsampler, arrays: Mapping[str, Array], isa: str) -> NativeUpsampler:
    """An upsampler on the engine.

    Args:
        plan: of it.
        arrays: the model's tensors, by name.
        isa: the instruction set.
    """
    return NativeUpsampler(native.NativeProgram(isa, upsampler_program(plan, arrays)), plan.radius)
