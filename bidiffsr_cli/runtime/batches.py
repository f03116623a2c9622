"""Items in batches for a device, which are halved when its memory does not suffice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from ..errors import DeviceError
from . import memory

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batches:
    """Remembers, for each number of items at once that was asked for, how many its device had memory for."""

    def __init__(self) -> None:
        self.fitting: dict[int, int] = {}

    def run(
        self, task: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item], at_once: int, device: str
    ) -> Iterator[Result]:
        """Run a task on all items, in their order; a batch that is too large is halved, and so are all later ones.

        Args:
            task: items -> as many results. It raises DeviceError where memory runs out.
            items: for the task.
            at_once: how many items a batch has.
            device: where the task computes.

        Raises:
            DeviceError: the task raised it for a single item.
        """
        done = 0
        while done < len(items):
            batch = items[done : done + self.fitting.get(at_once, at_once)]
            try:
                results = task(batch)
            except DeviceError:
                if len(batch) == 1:
                    raise
                results = ()
            if not results:  # only here, where the error is gone: its frames held on to feature maps
                self.fitting[at_once] = len(batch) // 2
                memory.empty_device_cache(device)
            done += len(results)
            yield from results
