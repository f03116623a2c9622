"""How many threads one forward pass may use, and a pool of them for what is computed from Python, band by band.

Threads that wait sleep; none spins. The native engine has its own pool and takes the number from here.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import ContextVar
from typing import TypeVar

import torch

Item = TypeVar("Item")
_threads = ContextVar("threads", default=1)


def threads() -> int:
    """How many threads the forward pass of this context may use."""
    return _threads.get()


@contextlib.contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Let forward passes in this context use so many threads."""
    token = _threads.set(count)
    try:
        yield
    finally:
        _threads.reset(token)


def parallel(task: Callable[[Item], object], items: Sequence[Item]) -> None:
    """Call `task` for every item, on the threads of this context, of which the caller is one; gradients are off.

    Raises:
        The first exception of a task; other tasks may have run or not.
    """
    remaining = iter(items)  # next() on it is atomic

    @torch.inference_mode()
    def drain() -> None:
        for item in remaining:
            task(item)

    helpers = min(threads(), len(items)) - 1
    futures = [_pool(os.getpid()).submit(drain) for _ in range(helpers)]
    try:
        drain()
    finally:
        for item in remaining:  # after an exception: nothing more is begun
            del item
        started = [future for future in futures if not future.cancel()]  # others never had anything to do
        wait(started)
        for future in started:
            future.result()


@functools.lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:
    """The pool of this process; one that was inherited by fork() has no threads."""
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="band")
