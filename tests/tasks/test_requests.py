"""What a request cannot mean is refused when it is made, in one sentence: nothing is read or loaded for that."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from bidiffsr_cli import Degradation, Machine, Selection, UpscaleOptions, Writing
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


@pytest.mark.parametrize(
    ("make", "message", "hint"),
    [
        (lambda: UpscaleOptions(scale=2.0), "scale=2.0 is", "Give a whole number."),  # type: ignore[arg-type]
        (lambda: UpscaleOptions(steps=1.5), "steps=1.5 is", "Give a whole number or None."),  # type: ignore[arg-type]
        (lambda: UpscaleOptions(seed=1.5), "seed=1.5 is", "Give a whole number."),  # type: ignore[arg-type]
        (lambda: UpscaleOptions(tile_overlap=2.5), "tile_overlap=2.5", "whole number"),  # type: ignore[arg-type]
        (lambda: UpscaleOptions(max_memory="1GB"), "max_memory='1GB'", "whole number"),  # type: ignore[arg-type]
        (lambda: UpscaleOptions(sampler=None), "sampler=None", "Give a word."),  # type: ignore[arg-type]
        (lambda: UpscaleOptions(tile=64.0), "tile=64.0", "a word or a whole number."),  # type: ignore[arg-type]
        (lambda: UpscaleOptions(eta=10**400), "eta=1000", "Give a number."),
        (lambda: UpscaleOptions(temperature="0"), "temperature='0'", "Give a number or None."),  # type: ignore[arg-type]
        (lambda: Writing(width=8.5), "width=8.5", "whole number"),  # type: ignore[arg-type]
        (lambda: Machine(threads=1.5), "threads=1.5", "whole number"),  # type: ignore[arg-type]
    ],
)
def test_an_option_of_the_wrong_kind(make: Callable[[], object], message: str, hint: str) -> None:
    with pytest.raises(UsageError) as refused:
        make()
    assert refused.value.message.startswith(message) and hint in refused.value.hint


def test_numbers_of_other_libraries_become_pythons() -> None:
    class Whole:
        def __index__(self) -> int:
            return 32

    odd: Any = Whole()
    options = UpscaleOptions(seed=odd, tile=odd, temperature=Fraction(1, 2), eta=1)  # type: ignore[arg-type]
    values = options.seed, options.tile, options.temperature, options.eta
    assert values == (32, 32, 0.5, 1.0) and list(map(type, values)) == [int, int, float, float]
    assert type(Writing(width=odd).width) is int and type(Machine(threads=odd).threads) is int


def test_what_is_accepted() -> None:
    assert Writing("jpg", 100, width=1, height=1).for_file(None).format == "JPEG"
    assert str(Degradation("area", 10.0, 100.0, jpeg=1, webp=100)) == "kernel=area,blur=10,noise=100,jpeg=1,webp=100"
    assert Selection(limit=1, shard=(3, 3)).shard == (3, 3)
    CompareRequest(["a.png", "b.png"], "page.html", border=0)
