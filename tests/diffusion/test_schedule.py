"""Noise schedules against recorded values and their own definitions."""

import dataclasses
import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from test_configs import RESIDUAL

from bidiffsr_cli.configs import DiffusionConfig
from bidiffsr_cli.diffusion.schedule import CLEAN, alphas_cumprod, noise_levels
from bidiffsr_cli.errors import UsageError

UPSTREAM = DiffusionConfig()


def test_alphas_cumprod_are_the_recorded_ones(golden):
    with safe_open(golden / "ddim_cases.safetensors", "pt") as cases:
        assert torch.equal(torch.tensor(alphas_cumprod(UPSTREAM)), cases.get_tensor("alphas_cumprod"))


@pytest.mark.parametrize("steps", [1, 5, 10, 50])
def test_leading_steps_are_the_recorded_ones(golden, steps):
    with safe_open(golden / "ddim_cases.safetensors", "pt") as cases:
        expected = cases.get_tensor(f"steps{steps}.timesteps").tolist()
    assert [level.t for level in noise_levels(UPSTREAM, steps)] == [*expected, -1]


def test_five_trailing_steps_visit_each_group_once():
    levels = noise_levels(RESIDUAL, 5)
    assert [level.t for level in levels] == [1999, 1599, 1199, 799, 399, -1]
    assert levels[0].alpha == 0 and levels[0].sigma == 1


MIXES = [
    UPSTREAM,
    RESIDUAL,
    dataclasses.replace(UPSTREAM, spacing="trailing"),
    dataclasses.replace(RESIDUAL, spacing="leading"),
    dataclasses.replace(RESIDUAL, schedule="linear"),
    dataclasses.replace(RESIDUAL, trained_steps=(2, 4)),
    dataclasses.replace(RESIDUAL, trained_steps=(2,)),
]


@given(st.sampled_from(MIXES), st.integers(1, 2000))
def test_levels_of_any_number_of_steps(config, steps):
    levels = noise_levels(config, steps)
    assert len(levels) == steps + 1 and levels[-1] == CLEAN
    assert all(0 <= level.t < 2000 for level in levels[:-1])
    assert all(a.sigma > b.sigma and a.alpha < b.alpha for a, b in pairwise(levels))
    assert all(math.isclose(level.alpha**2 + level.sigma**2, 1, rel_tol=1e-6) for level in levels)


@given(st.integers(1, 2000))
def test_trailing_steps_of_the_angle_schedule_turn_by_equal_angles(steps):
    angles = [math.atan2(level.sigma, level.alpha) for level in noise_levels(RESIDUAL, steps)]
    assert all(math.isclose(a - b, math.pi / 2 / steps, abs_tol=1e-9) for a, b in pairwise(angles))


@pytest.mark.parametrize(
    ("trained", "steps", "eighths"),
    [
        ((2, 4), 1, [8]),
        ((2, 4), 2, [8, 4]),
        ((2, 4), 3, [8, 6, 2]),
        ((2, 4), 4, [8, 6, 4, 2]),
        ((2, 4), 5, [8, 7, 6, 4, 2]),
        ((2, 4), 7, [8, 7.5, 7, 6.5, 6, 4, 2]),
        ((8,), 3, [8, 5, 1]),
        ((8,), 5, [8, 7, 5, 3, 1]),
        ((2,), 3, [8, 6, 4]),
        ((3,), 2, [8, 8 / 3]),
    ],
)
def test_numbers_of_steps_that_were_not_trained_visit_levels_that_were(trained, steps, eighths):
    levels = noise_levels(dataclasses.replace(RESIDUAL, trained_steps=trained), steps)
    assert [math.atan2(level.sigma, level.alpha) for level in levels[:-1]] == pytest.approx(
        [math.pi / 2 * eighth / 8 for eighth in eighths]
    )


@given(st.sampled_from([2, 4, 9]), st.data())
def test_as_many_steps_as_there_are(total, data):
    """The least and the most of everything."""
    trained = data.draw(st.integers(2, total))
    config = dataclasses.replace(RESIDUAL, total_steps=total, default_steps=1, presets={}, trained_steps=(trained,))
    for steps in range(1, total + 1):
        levels = noise_levels(config, steps)
        assert len(levels) == steps + 1 and levels[0].alpha == 0 and all(a.sigma > b.sigma for a, b in pairwise(levels))


@given(st.lists(st.integers(2, 12), min_size=1, unique=True), st.integers(2, 40))
def test_the_last_level_was_trained_with_any_number_of_steps(trained, steps):
    config = dataclasses.replace(RESIDUAL, trained_steps=tuple(sorted(trained)))
    known = {level for count in trained for level in noise_levels(RESIDUAL, count)}
    levels = noise_levels(config, steps)
    assert levels[0] in known and levels[-2] in known
    assert steps not in trained or levels == noise_levels(RESIDUAL, steps)
    assert len(known.intersection(levels)) >= min(steps, max(trained)) + 1


@pytest.mark.parametrize("steps", [0, -1, 2001])
def test_impossible_numbers_of_steps(steps):
    with pytest.raises(UsageError, match="not possible"):
        noise_levels(UPSTREAM, steps)


@given(first=st.floats(1e-7, 0.005), more=st.floats(1, 50), count=st.sampled_from([1, 2, 17, 100, 1000, 2000]))
def test_products_are_those_of_torch(first, more, count):
    """A unit in the last place apart at most, as its cumprod adds up in an order of its own."""
    last = min(first * more, 0.05)
    config = dataclasses.replace(
        UPSTREAM, beta_start=first, beta_end=last, total_steps=count, default_steps=1, presets={}
    )
    expected = torch.cumprod(1 - torch.linspace(first, last, count), 0)
    torch.testing.assert_close(torch.tensor(alphas_cumprod(config)), expected, rtol=1.2e-7, atol=0)
