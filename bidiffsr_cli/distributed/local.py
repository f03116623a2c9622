"""The engine of one machine: a lane for each device, in which reading and writing overlap with computing.

While a lane's device works on one picture, threads decode the next and encode the last. Each lane keeps at most
`AHEAD` decoded pictures and as many finished ones, so that memory stays flat.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from ..images import Picture
from ..pipeline import SuperResolver
from ..results import UpscaleResult
from ..runtime import torch_threads
from .folder import Job
from .ledger import Ledger
from .work import Outcome, Work, attempt, decode, failed, sample, write

AHEAD = 2
"""Pictures that a lane has decoded, or still has to write."""


def run(
    jobs: Sequence[Job], work: Work, ledger: Ledger, *, devices: Sequence[str], io_threads: int
) -> Iterator[Outcome]:
    """Enlarge pictures; outcomes come as they are ready.

    Closing the iterator, as an exception does, ends the work after the pictures in hand.

    Args:
        jobs: what is to be done.
        work: how.
        ledger: is told of every result.
        devices: one lane each, such as cuda:0 and cuda:1.
        io_threads: that decode and encode, for all lanes together.
    """
    waiting, lock = iter(jobs), threading.Lock()
    stop = threading.Event()

    def next_job() -> Job | None:
        with lock:
            return None if stop.is_set() else next(waiting, None)

    # each of these threads uses one of torch's: more would spin beside the engine's
    with torch_threads(1), ThreadPoolExecutor(io_threads, "io", lambda: torch.set_num_threads(1)) as pool:
        try:
            lanes = [_lane(next_job, work, work.resolver(device), ledger, pool) for device in devices]
            yield from lanes[0] if len(lanes) == 1 else _together(lanes, stop)
        finally:
            stop.set()


def _lane(
    next_job: Callable[[], Job | None], work: Work, resolver: SuperResolver, ledger: Ledger, pool: ThreadPoolExecutor
) -> Iterator[Outcome]:
    """One device's pictures, in order."""
    ahead: deque[tuple[Job, Future[tuple[str, float, Picture]]]] = deque()
    behind: deque[Future[Outcome]] = deque()

    def read(job: Job) -> tuple[str, float, Picture]:
        started = time.perf_counter()
        return ledger.key(job), started, decode(job, work)

    def look_ahead() -> None:
        while len(ahead) < AHEAD and (job := next_job()) is not None:
            ahead.append((job, pool.submit(read, job)))

    look_ahead()
    while ahead:
        job, picture = ahead.popleft()
        try:
            key, started, decoded = picture.result()
            look_ahead()
            result = sample(job, decoded, work, resolver)
        except Exception as error:
            yield failed(job, error)
            look_ahead()
            continue
        behind.append(pool.submit(_finish, job, key, started, decoded, result, work, ledger))
        del decoded, result, picture
        while behind and (len(behind) > AHEAD or behind[0].done()):
            yield behind.popleft().result()
    while behind:
        yield behind.popleft().result()


def _finish(
    job: Job, key: str, started: float, picture: Picture, result: UpscaleResult, work: Work, ledger: Ledger
) -> Outcome:
    def step() -> Outcome:
        replace = work.overwrite or ledger.is_ours(job)
        ledger.begin(job)
        try:
            figures = write(job, picture, result, work, replace=replace)
        except BaseException:
            ledger.abandon(job)
            raise
        ledger.finish(job, key, figures)
        return Outcome(job, figures, seconds=time.perf_counter() - started)

    return attempt(job, step)


def _together(lanes: Sequence[Iterator[Outcome]], stop: threading.Event) -> Iterator[Outcome]:
    """What several lanes come to, each in a thread of its own; at the end all of them have ended."""
    outcomes: queue.Queue[Any] = queue.Queue()
    ended = object()

    def drive(lane: Iterator[Outcome]) -> None:
        try:
            for outcome in lane:
                outcomes.put(outcome)
            outcomes.put(ended)
        except BaseException as error:
            outcomes.put(error)

    threads = [threading.Thread(target=drive, args=(lane,), daemon=True) for lane in lanes]
    for thread in threads:
        thread.start()
    left = len(threads)
    try:
        while left:
            outcome = outcomes.get()
            if outcome is ended:
                left -= 1
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                yield outcome
    finally:
        stop.set()
        for thread in threads:
            thread.join()
