"""A pretended CUDA device: its tensors have no values, and a mix of devices is an error as on a real one."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CUDA = "cuda:0"


class Watch(TorchDispatchMode):
    """Remembers what crosses between devices. To ask for a value, for which a host waits, is an error: there is none.

    Attributes:
        copies: bytes of each copy from one device to another; each waits where its memory is not pinned.
    """

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[int] = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **kwargs or {})
        if operation.overloadpacket.__name__ in ("_to_copy", "copy_"):
            tensors = [leaf for leaf in (*tree_leaves(args), result) if isinstance(leaf, torch.Tensor)]
            if len({tensor.device.type for tensor in tensors}) > 1:
                self.copies.append(result.nbytes)
        return result


class NoDriver(TorchFunctionMode):
    """Ways around the few functions of Python's tensors that ask for a driver."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        match function:
            case torch.Tensor.__getitem__:
                return part_of(*args)
            case torch.Tensor.__setitem__:
                return torch.ops.aten.copy_(part_of(*args[:2]), args[2])
            case torch.Tensor.copy_:
                return torch.ops.aten.copy_(*args)
            case torch.Tensor.to if not isinstance(args[1], torch.dtype):
                here, there = args[0], torch.device(args[1])
                return here if here.device == there else torch.ops.aten._to_copy(here, device=there)
            case torch.Tensor.contiguous:
                return torch.ops.aten.clone(*args, **kwargs or {"memory_format": torch.contiguous_format})
            case torch.Tensor.pin_memory:
                return args[0]
        return function(*args, **kwargs or {})


def part_of(x: torch.Tensor, index) -> torch.Tensor:
    """x[index], a view."""
    indices = list(index) if isinstance(index, tuple) else [index]
    if ... in indices:
        place, known = indices.index(...), sum(one is not None for one in indices) - 1
        indices[place : place + 1] = [slice(None)] * (x.dim() - known)
    dim = 0
    for one in indices:
        if one is None:
            x = x.unsqueeze(dim)
        elif isinstance(one, slice):
            x = torch.ops.aten.slice(x, dim, one.start, one.stop, one.step or 1)
        else:
            x = x.select(dim, one)
            continue
        dim += 1
    return x


@contextmanager
def pretended_cuda() -> Iterator[Watch]:
    """In it tensors may be made on `CUDA`; what crosses is remembered."""
    with FakeTensorMode(), Watch() as watch, NoDriver():
        yield watch


def on_pretended_cuda(network: nn.Module) -> nn.Module:
    """A network whose parameters and buffers lie on `CUDA`, in place."""
    for module in network.modules():
        for name, value in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            there = torch.empty(value.shape, dtype=value.dtype, device=CUDA)
            setattr(module, name, nn.Parameter(there, requires_grad=False) if name in module._parameters else there)
    return network
