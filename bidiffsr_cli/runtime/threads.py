"""Threads: how many there are for a process, how they are shared out, and that torch uses one of them at a time."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any, TypeVar

from . import cgroups

Done = TypeVar("Done")


def usable_cores() -> int:
    """Cores that this process may run on, and has the time of: a container's quota may be less."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroups.processors()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def default_threads() -> int:
    """OMP_NUM_THREADS, by which clusters say how many cores are meant for a process, else all usable cores."""
    stated = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(stated) if stated.isdecimal() and int(stated) > 0 else usable_cores()


def shares(threads: int, windows: int) -> list[int]:
    """The threads of each of so many windows, or pictures, that are computed at once."""
    return [max(1, threads // windows + (index < threads % windows)) for index in range(windows)]


def shares_in_rounds(threads: int, windows: int, concurrent: int) -> list[int]:
    """Likewise of more windows than that: the last ones are fewer at once, and have more threads each."""
    last = windows % concurrent or concurrent
    return shares(threads, concurrent) * ((windows - last) // concurrent) + shares(threads, last)


def in_threads(tasks: Iterable[Callable[[], Iterable[Done]]], workers: int) -> Iterator[Done]:
    """Run tasks in threads, and pass on what each gives; at most two per worker are waiting or finished at any time."""
    remaining = iter(tasks)
    pool = ThreadPoolExecutor(workers, "window", initializer=bind_torch)
    try:
        pending: set[Future[Iterable[Done]]] = {pool.submit(task) for task in islice(remaining, 2 * workers)}
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            pending |= {pool.submit(task) for task in islice(remaining, len(done))}
            for future in done:
                yield from future.result()
    finally:  # also on Ctrl-C: start nothing more, and let the windows in flight end
        pool.shutdown(cancel_futures=True)


class _OneTorchThread:
    """Lets torch use one thread for each operation of the calling thread, and sets it back when the outermost ends.

    The setting is each thread's own; a new one begins with what any other has set last, so pools bind theirs. What
    was set before the first of several threads' contexts is what all of them set back.
    """

    def __init__(self) -> None:
        self._lock, self._here = threading.Lock(), threading.local()
        self._users, self._before = 0, 1

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        torch: Any = sys.modules.get("torch")
        if torch is None or getattr(self._here, "bound", False):  # nobody computes with it, or in one thread already
            yield
            return
        with self._lock:
            if not self._users:
                self._before = torch.get_num_threads()
            self._users += 1
            torch.set_num_threads(1)
        self._here.bound = True
        try:
            yield
        finally:
            self._here.bound = False
            with self._lock:
                self._users -= 1
                torch.set_num_threads(self._before)


one_torch_thread = _OneTorchThread()
"""A context in which torch uses one thread for each operation, if it is there already; contexts may overlap."""


def bind_torch() -> None:
    """Keep torch, if it is there, to one thread for each operation of the calling thread: it is a setting of each."""
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch compute every operation with so many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
