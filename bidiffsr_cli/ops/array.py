"""Numbers in memory as checkpoint files hold them and the engine takes them, without torch."""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

BYTES = {"float32": 4, "uint8": 1}
"""Types of numbers -> bytes of one."""

CODES = {"float32": "f", "uint8": "B"}
"""What the `struct` module calls them."""


@dataclass(frozen=True, eq=False)
class Array:
    """Numbers one behind the other, the last dimension's first.

    Attributes:
        shape: How many there are along each dimension.
        dtype: A name in `BYTES`, which torch calls the same.
        memory: Where they lie: a bytearray of its own, or a tensor on the CPU without gaps, which is shared.
    """

    shape: tuple[int, ...]
    dtype: str
    memory: bytearray | Tensor

    def __post_init__(self) -> None:
        """Check that there are as many numbers as the shape says.

        Raises:
            ValueError: there are others.
        """
        there = len(self.memory) if isinstance(self.memory, bytearray) else self.memory.nbytes
        if there != self.nbytes:
            raise ValueError(f"{there} bytes do not make {self.dtype} {self.shape}")

    @classmethod
    def of(cls, tensor: Tensor) -> Array:
        """The numbers of a tensor, shared where it lies on the CPU without gaps; else a copy.

        Raises:
            ValueError: it has a type that is not in `BYTES`.
        """
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype not in BYTES:
            raise ValueError(f"numbers of type {dtype} are not known here")
        return cls(tuple(tensor.shape), dtype, tensor.detach().cpu().contiguous())

    @classmethod
    def empty(cls, shape: tuple[int, ...], dtype: str = "float32") -> Array:
        """Zeros."""
        return cls(shape, dtype, bytearray(BYTES[dtype] * math.prod(shape)))

    @property
    def size(self) -> int:
        """How many numbers."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes they take."""
        return self.size * BYTES[self.dtype]

    @property
    def address(self) -> int:
        """Where the first one lies, as long as this object lives."""
        if isinstance(self.memory, bytearray):
            return ctypes.addressof(ctypes.c_char.from_buffer(self.memory)) if self.memory else 0
        return self.memory.data_ptr()

    def numbers(self) -> memoryview[Any]:
        """The numbers one behind the other, to be read and written, as long as this object lives."""
        octets = (ctypes.c_char * self.nbytes).from_address(self.address)
        code: Any = CODES[self.dtype]
        return memoryview(octets).cast("B").cast(code)

    def reshaped(self, *shape: int) -> Array:
        """The same numbers in another shape.

        Raises:
            ValueError: it holds another number of them.
        """
        if math.prod(shape) != self.size:
            raise ValueError(f"{self.shape} cannot become {shape}")
        return Array(shape, self.dtype, self.memory)

    def tensor(self) -> Tensor:
        """The same numbers for torch; the memory is shared."""
        import torch

        if isinstance(self.memory, torch.Tensor):
            return self.memory.view(self.shape)
        if not self.memory:
            return torch.empty(self.shape, dtype=getattr(torch, self.dtype))
        return torch.frombuffer(self.memory, dtype=getattr(torch, self.dtype)).view(self.shape)
