"""The engine of one machine: lanes, in each of which reading and writing overlap with computing.

There is a lane for each device. On a CPU small pictures, which leave its cores badly used, come first: a lane for as
many of them at once as there are threads. The others follow one by one, each on all cores. While a lane computes one
picture, threads decode the next and encode its last. For each lane there are at most `AHEAD` decoded pictures and as
many finished ones, so that memory stays flat. A picture for which it does not suffice beside those is tried once more
at the end, with nothing beside it: what `upscale` can do with a limit, this can.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field

from ..enlarging import Decoded
from ..errors import DeviceError, is_out_of_memory
from ..images import Picture
from ..pipeline import SuperResolver
from ..results import UpscaleResult
from ..runtime import bind_torch, one_torch_thread, return_freed_memory
from .jobs import Job
from .ledger import Ledger
from .work import Outcome, Watch, Work, decode_job, failed, sample_job, size_of, write_job

AHEAD = 2
"""Pictures that are decoded ahead for each lane, and that it still has to write."""
Reading = tuple[Job, Future[Decoded]]
"""A picture that is being read."""


def run(
    jobs: Sequence[Job],
    work: Work,
    ledger: Ledger,
    *,
    devices: Sequence[str],
    io_threads: int,
    fail_fast: bool = False,
    watch: Watch = lambda *_: None,
) -> Generator[Outcome]:
    """Enlarge pictures; outcomes come as they are ready.

    Closing the iterator, as an exception does, ends the work after the pictures in hand.

    Args:
        jobs: what is to be done.
        work: how.
        ledger: is told of every result.
        devices: one lane each, such as cuda:0 and cuda:1.
        io_threads: that decode and encode, for all lanes together.
        fail_fast: begin no picture after the first that failed.
        watch: is told how far the pictures in hand are.

    Raises:
        StorageError: the disk is full, or the store fails.
    """
    resolvers = [work.resolver(device) for device in devices]
    with one_torch_thread(), ThreadPoolExecutor(io_threads, "io", initializer=bind_torch) as pool:
        lanes = _Lanes(work, ledger, pool, watch)
        with closing(lanes.outcomes(jobs, resolvers)) as outcomes:
            for outcome in outcomes:
                if outcome.error and fail_fast:
                    lanes.stop.set()
                yield outcome


class _NotSmall(Exception):
    """A picture that is not for a lane of small ones."""


@dataclass(frozen=True)
class _Lanes:
    """What all lanes share; once `stop` is set, none begins another picture."""

    work: Work
    ledger: Ledger
    pool: ThreadPoolExecutor
    watch: Watch
    stop: threading.Event = field(default_factory=threading.Event)

    def outcomes(self, jobs: Sequence[Job], resolvers: Sequence[SuperResolver]) -> Generator[Outcome]:
        first, options = resolvers[0], self.work.options
        places = first.planner.side_by_side(options, first.runtime, len(jobs)) if len(resolvers) == 1 else []
        narrow = [first.elsewhere(place) for place in places]
        if len(narrow) > 1:
            aside: list[Job] = []
            yield from self._through(jobs, narrow, aside)
            there = set(aside)
            jobs = [job for job in jobs if job in there]
        refused: list[Job] = []
        yield from self._through(jobs, resolvers, refused, small=False)
        for job in refused:
            if self.stop.is_set():
                return
            yield self._alone(job, resolvers[0])

    def _alone(self, job: Job, resolver: SuperResolver) -> Outcome:
        """One picture from file to file, with no other one in memory."""
        return_freed_memory()
        try:
            decoded = decode_job(job, self.work)
            result = sample_job(job, decoded, self.work, resolver, self.watch)
        except Exception as error:
            return failed(job, error)
        return self._finish(job, decoded.picture, result)

    def _through(
        self, jobs: Iterable[Job], resolvers: Sequence[SuperResolver], aside: list[Job], *, small: bool = True
    ) -> Iterator[Outcome]:
        """Pictures through a lane for each resolver.

        Args:
            jobs: the pictures.
            resolvers: one for each lane.
            aside: takes those for which memory does not suffice now.
            small: put there also what is not small.
        """
        waiting, lock = iter(jobs), threading.Lock()
        ahead: deque[Reading] = deque()

        def read(job: Job) -> Decoded:
            if small and not resolvers[0].planner.is_small(size_of(job), self.work.options):
                raise _NotSmall
            return decode_job(job, self.work)

        def take() -> Reading | None:
            with lock:  # the lanes share what is read ahead: none waits while another has two
                if self.stop.is_set():
                    return None
                while len(ahead) <= AHEAD * len(resolvers) and (job := next(waiting, None)) is not None:
                    ahead.append((job, self.pool.submit(read, job)))
                return ahead.popleft() if ahead else None

        lanes = [self._lane(take, resolver, aside) for resolver in resolvers]
        return lanes[0] if len(lanes) == 1 else self._together(lanes)

    def _lane(self, take: Callable[[], Reading | None], resolver: SuperResolver, aside: list[Job]) -> Iterator[Outcome]:
        """One lane's pictures, in order."""
        behind: deque[Future[Outcome]] = deque()
        while (taken := take()) is not None:
            job, reading = taken
            try:
                decoded = reading.result()
                result = sample_job(job, decoded, self.work, resolver, self.watch)
            except Exception as error:
                if isinstance(error, _NotSmall | DeviceError) or is_out_of_memory(error):
                    aside.append(job)  # there may be memory for it alone
                else:
                    yield failed(job, error)
                continue
            behind.append(self.pool.submit(self._finish, job, decoded.picture, result))
            del decoded, result, reading, taken
            while behind and (len(behind) > AHEAD or behind[0].done()):
                yield behind.popleft().result()
        while behind:
            yield behind.popleft().result()

    def _finish(self, job: Job, picture: Picture, result: UpscaleResult) -> Outcome:
        try:
            replace = self.work.overwrite or self.ledger.is_ours(job)
            outcome = write_job(job, picture, result, self.work, replace=replace)
            self.ledger.finish(outcome)
        except Exception as error:
            return failed(job, error)
        return outcome

    def _together(self, lanes: Sequence[Iterator[Outcome]]) -> Iterator[Outcome]:
        """What several lanes come to, each in a thread of its own; at the end all of them have ended."""
        found: queue.SimpleQueue[Outcome | Future[None]] = queue.SimpleQueue()

        def drive(lane: Iterator[Outcome]) -> None:
            for outcome in lane:
                found.put(outcome)

        with ThreadPoolExecutor(len(lanes), "lane", initializer=bind_torch) as pool:
            for lane in lanes:
                pool.submit(drive, lane).add_done_callback(found.put)
            left = len(lanes)
            try:
                while left:
                    outcome = found.get()
                    if isinstance(outcome, Future):  # a lane has ended
                        outcome.result()
                        left -= 1
                    else:
                        yield outcome
            except BaseException:
                self.stop.set()
                raise
