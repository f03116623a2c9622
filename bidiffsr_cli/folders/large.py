"""One very large picture on a cluster: the process that drives keeps canvas and sampler, workers compute the windows.

A window goes to a worker with all that the network sees of it and comes back as the network's prediction, so the bytes
are those of one machine. Ray computes a window again whose worker died.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..configs import UNetConfig
from ..runtime import Runtime, out_of_memory_explained
from .jobs import Job
from .work import Outcome, Work, decode_job, sample_job, size_of, write_job

if TYPE_CHECKING:
    from torch import Tensor

WINDOWS_PER_SLOT = 4
"""A picture of more windows than these for each slot of the cluster is done by all workers together: each of its steps
then keeps every slot busy for some rounds, while as one task it would be one slot's for minutes."""


def is_large(job: Job, work: Work, slots: int) -> bool:
    """Whether a picture is for all slots together; where there is one slot, none is.

    Raises:
        InputError: the picture cannot be read.
    """
    planner = work.planner()
    grid = planner.grid(size_of(job), work.options)
    asked = planner.steps(work.options) > planner.config.diffusion.free_steps  # else there is nothing to share out
    return asked and slots > 1 and len(grid.tiles) > WINDOWS_PER_SLOT * slots


@dataclass(frozen=True)
class ClusterRuntime(Runtime):
    """The workers of a cluster as a place to compute windows, of which `threads` are under way at any time.

    Attributes:
        driving: threads of this process, which keeps the canvas.
    """

    driving: int = 1

    @property
    def threads_here(self) -> int:
        return self.driving

    def window_memory(self, config: UNetConfig, height: int, width: int) -> int:
        """Bytes that one window takes here: what is sent, packed once more, and what comes back."""
        return 2 * 16 * 4 * height * width


def enlarge_together(
    ray: Any, job: Job, work: Work, windows: int, options: dict[str, Any], *, replace: bool
) -> Outcome:
    """Do one picture, from file to file.

    Args:
        ray: the library, connected.
        job: which picture.
        work: how.
        windows: how many are under way at once.
        options: of the task that computes one.
        replace: a result that is there.

    Raises:
        RayError: a window killed all workers that tried it, or raised something, which is the error's `cause`.
        BidiffsrError, OSError: as of any picture.
    """
    decoded = decode_job(job, work)
    work = work.for_picture(decoded.picture)
    resolver = work.resolver()
    here = resolver.runtime
    task, how = ray.remote(**options)(_predict), ray.put(work)

    def network(x_t: Tensor, condition: Tensor, t: Tensor, index: int) -> Tensor:
        found: Tensor = ray.get(task.remote(how, x_t, condition, t, index))
        return found

    place = ClusterRuntime("cpu", here.dtype, here.backend, here.isa, windows, here.threads)
    result = sample_job(job, decoded, work, resolver.elsewhere(place, network))
    result.device, result.threads = here.device, here.threads
    return write_job(job, decoded.picture, result, work, replace=replace)


def _predict(work: Work, x_t: Tensor, condition: Tensor, t: Tensor, index: int) -> Tensor:
    """The task itself: the network's prediction for one window."""
    resolver = work.resolver()

    def evaluate(_: object) -> Tensor:
        device = resolver.runtime.device
        return resolver.network(x_t.to(device), condition.to(device), t.to(device), index).float().cpu()

    with out_of_memory_explained():
        ((_, prediction),) = resolver.runtime.run(evaluate, [None], 1)
    return prediction[None].clone()  # one that can be sent, unlike what inference mode makes
