"""What enlarging one picture will take, before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass

from .tiling import Grid


@dataclass(frozen=True)
class Plan:
    """What enlarging one picture will take.

    Attributes:
        output_size: (width, height) of the result.
        scale, steps, temperature: as they will be used.
        passes: 2 where the model enlarges transparency too, else 1.
        grid: the windows.
        concurrent: how many windows are computed at once.
        memory: about how many bytes the process will have resident at the peak.
    """

    output_size: tuple[int, int]
    scale: int
    steps: int
    temperature: float
    passes: int
    grid: Grid
    concurrent: int
    memory: int

    @property
    def evaluations(self) -> int:
        """How often the network looks at a window."""
        return self.passes * self.steps * len(self.grid.tiles)
