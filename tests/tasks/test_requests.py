"""What a request cannot mean is refused when it is made, in one sentence: nothing is read or loaded for that."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from bidiffsr_cli import Degradation, Selection, Writing
from bidiffsr_cli.errors import UsageError
from bidiffsr_cli.tasks.bench import BenchRequest
from bidiffsr_cli.tasks.compare import CompareRequest
from bidiffsr_cli.tasks.evaluate import EvaluateRequest
from bidiffsr_cli.tasks.train import TrainRequest


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Writing("gif"), "'gif'"),
        (lambda: Writing(quality=0), "quality 0"),
        (lambda: Writing(quality=101), "quality 101"),
        (lambda: Writing(width=0), "Width 0"),
        (lambda: Writing(width=5, long_side=5), "long side"),
        (lambda: Degradation("sinc"), "'sinc'"),
        (lambda: Degradation(blur=-1.0), "blur=-1"),
        (lambda: Degradation(noise=math.nan), "noise=nan"),
        (lambda: Degradation(jpeg=0), "jpeg=0"),
        (lambda: Selection(limit=0), "limit=0"),
        (lambda: Selection(shard=(4, 3)), "part 4 of 3"),
        (lambda: Selection(shard=(0, 3)), "part 0 of 3"),
        (lambda: Selection(include="*.jpg"), "list"),
        (lambda: CompareRequest(["a.png", "b.png"], "page.html", border=-1), "border=-1"),
        (lambda: EvaluateRequest("Set5", limit=0), "limit=0"),
        (lambda: EvaluateRequest("Set5", pictures=0), "pictures=0"),
        (lambda: BenchRequest(repeats=0), "repeats=0"),
        (lambda: BenchRequest(only="lunch"), "'lunch'"),  # type: ignore[arg-type]
        (lambda: TrainRequest("smoke", time_limit=-1.0), "time_limit=-1"),
        (lambda: TrainRequest("smoke", state_budget=0), "state_budget=0"),
    ],
)
def test_what_cannot_be_meant(make: Callable[[], object], word: str) -> None:
    with pytest.raises(UsageError) as refused:
        make()
    assert word in refused.value.message and refused.value.message.endswith(".") and refused.value.hint


def test_what_is_accepted() -> None:
    assert Writing("jpg", 100, width=1, height=1).for_file(None).format == "JPEG"
    assert str(Degradation("area", 10.0, 100.0, jpeg=1, webp=100)) == "kernel=area,blur=10,noise=100,jpeg=1,webp=100"
    assert Selection(limit=1, shard=(3, 3)).shard == (3, 3)
    CompareRequest(["a.png", "b.png"], "page.html", border=0)
