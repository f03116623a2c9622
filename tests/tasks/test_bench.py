"""`bench` from plain Python: rows come as they are measured, and the result has all of them."""

from __future__ import annotations

import pytest

import bidiffsr_cli
from bidiffsr_cli import Machine
from bidiffsr_cli.errors import UsageError
from bidiffsr_cli.tasks import bench

from .conftest import Notes, keeps_the_contract


def test_steps_of_a_model(model: str, notes: Notes) -> None:
    request = bench.BenchRequest(
        only="steps",
        network="model",
        repeats=1,
        model=model,
        machine=Machine("cpu", threads=1),
    )
    result = bench.run(request, notes)
    seen = [len(part.rows) for part in notes.parts]
    assert seen[0] == 0 and sum(seen) == len(result.rows) and min(seen[1:]) > 0
    assert {row.kind for row in result.rows} <= {"step", "profile"} and result.rows[0].name == "tiny 32x32"
    assert result.conditions.threads == 1 and keeps_the_contract(result.to_dict())
    assert [text for word, text in notes.said if word != "found"] == [f"{model}: bytes"]


def test_what_does_not_go_together(model: str) -> None:
    with pytest.raises(UsageError, match="upstream style"):
        bidiffsr_cli.bench(only="picture", against_upstream_style=True, model=model)
