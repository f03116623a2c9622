"""The processes of a run that torchrun starts together: which of them this is, and its device."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import torch
import torch.distributed as distributed

from ..runtime import Machine, choose_runtime, find_devices

TIMEOUT = timedelta(hours=12)
"""How long the others wait while one decodes pictures or validates the model."""


def launched() -> bool:
    """Whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def rank() -> int:
    """The number of this process, from 0; the first one writes and tells."""
    return int(os.environ.get("RANK", "0")) if launched() else 0


def local_processes() -> int:
    """The number of processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


@contextmanager
def joined(machine: Machine) -> Iterator[torch.device]:
    """Join the other processes, if there are any, and yield the device of this one.

    Args:
        machine: where to train; of several GPUs each process takes its own.
    """
    if not launched():
        yield torch.device(choose_runtime(machine).device)
        return
    cuda = machine.device in ("auto", "cuda") and "cuda:0" in find_devices().usable
    if not cuda:
        machine = replace(machine, device=machine.device.replace("auto", "cpu"))
    device = torch.device(f"cuda:{_local_rank()}" if cuda else choose_runtime(machine).device)
    if cuda:
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if cuda else "gloo", timeout=TIMEOUT)
    try:
        yield device
        distributed.barrier()  # a process that ends while another one still works takes their connections with it
    finally:
        distributed.destroy_process_group()


@contextmanager
def one_at_first() -> Iterator[None]:
    """Of several processes on a machine, one does the work of the block before the others do."""
    if launched() and _local_rank() > 0:
        distributed.barrier()
    yield
    if launched() and _local_rank() == 0:
        distributed.barrier()


def largest(values: list[float], device: torch.device) -> list[float]:
    """The largest of each value over all processes, the same in all of them.

    Args:
        values: of this process.
        device: of this process.
    """
    if not distributed.is_initialized():
        return values
    tensor = torch.tensor(values, dtype=torch.float32, device=device)  # not every device has float64
    distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
    return tensor.tolist()


def _local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))
