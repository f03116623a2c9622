"""What the paper's systems cost, counted here and printed there."""

from __future__ import annotations

from collections.abc import Sequence

from ..networks.complexity import Complexity
from ..networks.systems import System
from .tables import Table

HEADER = ("table", "system", "name", "Params, M", "paper", "OPs, G", "paper")


def table(counted: Sequence[tuple[System, Complexity]]) -> Table:
    """A row for each system; where the rounded figures differ, by how much and why."""
    rows, notes = [], list[str]()
    for system, cost in counted:
        note = ""
        if system.note:
            notes += [] if system.note in notes else [system.note]
            note = f" [{notes.index(system.note) + 1}]"
        rows.append(
            (
                system.table,
                system.title + note,
                system.name,
                *_beside(cost.params / 1e6, system.params),
                *_beside(cost.ops / 1e9, system.ops),
            )
        )
    remarks = " ".join(f"[{index}] {note[0].upper()}{note[1:]}." for index, note in enumerate(notes, 1))
    return Table("One step of 3x256x256, ours beside the paper's", HEADER, rows, remarks, words=3)


def _beside(ours: float, paper: float) -> tuple[str, str]:
    difference = round(ours, 2) - paper
    return f"{ours:.2f}" + (f" ({difference:+.2f})" if abs(difference) > 1e-6 else ""), f"{paper:.2f}"
