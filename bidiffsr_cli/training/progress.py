"""How far a training run is, and what else is due on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


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
