"""How far a training run is, the learning rate that follows from it, and what else is due on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .config import TrainConfig


@dataclass(frozen=True)
class Callback:
    """An action between iterations, whenever it is due."""

    due: Callable[[], bool]
    action: Callable[[], None]


@dataclass
class TrainingProgress:
    """How far a run is.

    Attributes:
        iteration: iterations done.
        samples: crops seen, by all processes together.
        seconds: of training, without interruptions and validations.
        since_iteration, since_seconds: where the schedule began; it begins anew where a run resumes from a compact
            state.
    """

    iteration: int = 0
    samples: int = 0
    seconds: float = 0.0
    since_iteration: int = 0
    since_seconds: float = 0.0

    def part_done(self, config: TrainConfig) -> float:
        """The part of the schedule that is done, 0 to 1."""
        run = config.run
        parts = [
            (self.iteration - self.since_iteration) / run.iterations if run.iterations else 0.0,
            (self.seconds - self.since_seconds) / run.seconds if run.seconds else 0.0,
        ]
        return min(1.0, max(parts))

    def learning_rate(self, config: TrainConfig) -> float:
        """The next iteration's: it grows over `warmup`, stays, and falls linearly over the last `decay` of the run."""
        optimizer = config.optimizer
        growing = min(1.0, (self.iteration - self.since_iteration + 1) / max(1, optimizer.warmup))
        falling = min(1.0, (1 - self.part_done(config)) / optimizer.decay) if optimizer.decay else 1.0
        return optimizer.lr * growing * falling
