"""The engine of a cluster: every picture is a Ray task, which reads from and writes to storage that all nodes share.

Very large pictures come last, one after the other, each done by all workers together (`large`). The process that starts
it keeps the journal. Ray runs a task again whose worker or node died, and gives tasks to nodes that come later; no more
than `TASKS_PER_SLOT` are handed out at a time. The same code does a picture as on one machine, so the bytes are the
same.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import tempfile
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any

from ..errors import BidiffsrError, DeviceError, OutputError, UsageError
from ..text import counted
from .jobs import Job
from .large import enlarge_together, is_large
from .ledger import Ledger
from .work import Outcome, Work, broken, decode_job, failed, sample_job, write_job

TASKS_PER_SLOT = 2
RETRIES = 5
"""How often a picture is tried again whose worker died; one that kills five workers is a failure."""


def run(
    jobs: Sequence[Job],
    work: Work,
    ledger: Ledger,
    *,
    address: str | None,
    tell: Callable[[str], None] = lambda _: None,
    fail_fast: bool = False,
) -> Generator[Outcome]:
    """Enlarge pictures on a cluster; outcomes come as they are ready.

    Args:
        jobs: what is to be done; their folders' paths are absolute, and mean the same on every node.
        work: how, with a device and precision that are no "auto"; `threads` is how many cores a task takes, by
            default 1.
        ledger: is told of every result.
        address: of the cluster, or "auto"; None starts one on this machine.
        tell: is told once that no node can take a task.
        fail_fast: hand out no picture after the first that failed.

    Raises:
        UsageError: Ray is not installed.
        StorageError: the disk is full, or the store fails.
        DeviceError: there is no such cluster, or the one on this machine cannot take a task.
    """
    try:
        import ray
    except ImportError:
        raise UsageError("Ray is not installed.", "In a checkout of bidiffsr: pip install '.[ray]'") from None
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, address)
    try:
        stop = threading.Event()
        for outcome in _run(ray, jobs, work, ledger, tell, stop, waits=address is not None):
            if outcome.error and fail_fast:
                stop.set()
            yield outcome
    finally:
        if ours:
            ray.shutdown()


def _run(
    ray: Any,
    jobs: Sequence[Job],
    work: Work,
    ledger: Ledger,
    tell: Callable[[str], None],
    stop: threading.Event,
    *,
    waits: bool,
) -> Generator[Outcome]:
    threads = work.machine.threads or 1
    gpus = 1 if work.machine.device.startswith("cuda") else 0
    told = False
    work = replace(work, machine=replace(work.machine, threads=threads))
    options = {"num_cpus": threads, "num_gpus": gpus, "max_retries": RETRIES}
    task = ray.remote(**options)(_enlarge)
    waiting, flying, large = list(reversed(jobs)), dict[Any, Job](), set[Job]()
    while flying or (waiting and not stop.is_set()):
        if not told and not _fits_somewhere(ray, threads, gpus):
            need = f"{counted(threads, 'CPU')}{' and a GPU' if gpus else ''}"
            if not waits:
                raise DeviceError(f"This machine has not the {need} that a picture takes.", "Give fewer --threads.")
            tell(f"No node has the {need} that a picture takes: waiting for one.")
            told = True
        slots = _slots(ray, threads)
        while waiting and not stop.is_set() and len(flying) < TASKS_PER_SLOT * slots:
            job = waiting.pop()
            flying[task.remote(job, work, slots, work.overwrite or ledger.is_ours(job))] = job
        ready, _ = ray.wait(list(flying), timeout=5) if flying else ([], [])  # and look again how many slots there are
        for reference in ready:
            job = flying.pop(reference)
            try:
                outcome = ray.get(reference)
            except ray.exceptions.RayError as error:
                outcome = _lost(job, error)
            if outcome is None:
                large.add(job)
            else:
                yield _noted(ledger, outcome)
    for job in (job for job in jobs if job in large):
        if stop.is_set():
            break
        try:
            ours = work.overwrite or ledger.is_ours(job)
            outcome = enlarge_together(ray, job, work, TASKS_PER_SLOT * _slots(ray, threads), options, replace=ours)
        except ray.exceptions.RayError as error:
            outcome = _lost(job, error)
        except Exception as error:
            outcome = failed(job, error)
        yield _noted(ledger, outcome)


def _noted(ledger: Ledger, outcome: Outcome) -> Outcome:
    """An outcome, once the ledger knows of it."""
    if outcome.error:
        return outcome
    try:
        ledger.finish(outcome)
    except OutputError as error:
        return failed(outcome.job, error)
    return outcome


def _fits_somewhere(ray: Any, threads: int, gpus: int) -> bool:
    """Whether a node has what a task takes, be it busy or not."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return any(node.get("CPU", 0) >= threads and node.get("GPU", 0) >= gpus for node in nodes)


def _slots(ray: Any, threads: int) -> int:
    """How many tasks can run at once, as the cluster is now."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)) // threads)


def _enlarge(job: Job, work: Work, slots: int, replace: bool) -> Outcome | None:
    """The task itself: one picture from file to file; None for one that is for all slots together."""
    try:
        if is_large(job, work, slots):
            return None
        decoded = decode_job(job, work)
        result = sample_job(job, decoded, work, work.resolver())
        ours = replace or job.output.is_claimed(job.result)  # of a worker that died here before
        return write_job(job, decoded.picture, result, work, replace=ours)
    except Exception as error:
        return failed(job, error)


def _lost(job: Job, error: Exception) -> Outcome:
    """A picture whose workers died again and again, or raised something."""
    if isinstance(cause := getattr(error, "cause", None), BidiffsrError):
        return failed(job, cause)
    return broken(job, f"{job.name}: its worker was lost ({type(error).__name__}).")


def _connect(ray: Any, address: str | None) -> None:
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        # workers import from the folder that Ray is started in, where a checkout would hide what is installed
        with contextlib.chdir(tempfile.gettempdir()):
            ray.init(
                address=address or "local",
                ignore_reinit_error=True,
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (ConnectionError, ValueError, RuntimeError) as error:
        detail = " ".join(str(error).split())[:160]
        raise DeviceError(
            f"There is no Ray cluster at {address!r} ({detail}).", "Start one: ray start --head"
        ) from None
    if in_main:
        signal.signal(signal.SIGTERM, handler)  # which Ray replaces
