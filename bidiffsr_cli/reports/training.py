"""What is told of a training run while it goes on: a line for each entry of its log."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from ..text import counted
from ..training.run import LogLine


class LogTeller:
    """Tells what is in a run's log; the log itself says more.

    Args:
        tell: is told each line.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell = tell
        self._first: tuple[float, float] | None = None

    def __call__(self, line: LogLine) -> None:
        for scale, by_steps in line.get("scores", {}).items():
            for steps, score in by_steps.items():
                found = f"{score['psnr_y']:.3f} dB, LPIPS {score['lpips_alex']:.4f}"
                self.tell(f"  x{scale}, {counted(int(steps), 'step')}: {found}")
        if "loss" in line:
            self.tell(
                f"{line['part_done']:6.1%}  iteration {line['iteration']}  loss {line['loss']:.3f}  "
                f"lr {line['lr']:.1e}  {line['samples_per_second']:.1f} crops/s{self._left(line['part_done'])}"
            )

    def _left(self, part: float) -> str:
        """The time that is left at the speed that this process had so far."""
        now = time.monotonic()
        first_time, first_part = self._first = self._first or (now, part)
        if part <= first_part:
            return ""
        left = (now - first_time) * (1 - part) / (part - first_part)
        return f"  {timedelta(seconds=round(left))} left"
