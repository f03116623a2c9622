"""Samplers: recorded runs of DDIM, and what must hold for any of them."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from test_configs import RESIDUAL

from bidiffsr_cli.configs import DiffusionConfig
from bidiffsr_cli.diffusion.samplers import BAND, SAMPLERS, parameterization, sample_ddim, sample_ddpm
from bidiffsr_cli.diffusion.schedule import CLEAN, NoiseLevel, alphas_cumprod, noise_levels

UPSTREAM = DiffusionConfig()
LARGE_BAND = (3, BAND + 9, 2)  # more than one band of rows


def draws(shape):
    """Fresh noise by step, the same on every call."""
    return lambda step: torch.randn(shape, generator=torch.Generator().manual_seed(step))


def run(sampler, network, start, config, steps, eta=0.0):
    return SAMPLERS[sampler](
        network,
        start.clone(),
        noise_levels(config, steps),
        parameterization(config),
        eta=eta,
        noise=draws(start.shape),
    )


@pytest.mark.parametrize("steps", [1, 5, 10, 50])
def test_ddim_reproduces_recorded_runs(golden, steps):
    table = torch.tensor(alphas_cumprod(UPSTREAM))
    with safe_open(golden / "ddim_cases.safetensors", "pt") as cases:
        start, y, out = (cases.get_tensor(f"steps{steps}.{name}") for name in ("start", "low_res", "out"))

    def epsilon(x: torch.Tensor, level: NoiseLevel) -> torch.Tensor:
        a = table[level.t]
        return 0.98 * (x - a.sqrt() * y) / (1 - a).sqrt() + 0.01 * torch.sin(3 * x)

    assert (run("ddim", epsilon, start, UPSTREAM, steps) - out).abs().max() < 1e-5


def ideal_v(residual):
    """The network that knows the residual: epsilon follows from x, and v from both."""

    def v(x: torch.Tensor, level: NoiseLevel) -> torch.Tensor:
        epsilon = (x - level.alpha * residual) / level.sigma
        return level.alpha * epsilon - level.sigma * residual

    return v


@given(st.sampled_from(sorted(SAMPLERS)), st.integers(1, 60), st.sampled_from([0.0, 0.5, 1.0]))
def test_an_ideal_network_returns_the_residual_at_any_step_count(sampler, steps, eta):
    residual, start = torch.randn(2, 3, 8, 8)
    result = run(sampler, ideal_v(residual), start, RESIDUAL, steps, eta)
    torch.testing.assert_close(result, residual, rtol=0, atol=2e-4)


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_an_ideal_network_returns_the_residual_in_all_the_steps_there_are(sampler):
    residual, start = torch.randn(2, 3, 4, 4)
    result = run(sampler, ideal_v(residual), start, RESIDUAL, 2000)
    torch.testing.assert_close(result, residual, rtol=0, atol=2e-3)


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_an_ideal_epsilon_network_returns_the_image(sampler):
    image, start = torch.rand(3, 8, 8), torch.randn(3, 8, 8)

    def epsilon(x: torch.Tensor, level: NoiseLevel) -> torch.Tensor:
        return (x - level.alpha * image) / level.sigma

    torch.testing.assert_close(run(sampler, epsilon, start, UPSTREAM, 50), image, rtol=0, atol=1e-3)


def zero(x: torch.Tensor, level: NoiseLevel) -> torch.Tensor:
    return torch.zeros_like(x)


@pytest.mark.parametrize("steps", [1, 2, 5, 50])
def test_a_zero_network_turns_the_noise_towards_nothing(steps):
    """v = 0 leaves cos(pi/2N)^N of the start: nothing in one step, and nothing at all without start noise."""
    start = torch.randn(3, 8, 8)
    kept = math.cos(math.pi / 2 / steps) ** steps if steps > 1 else 0.0
    torch.testing.assert_close(run("ddim", zero, start, RESIDUAL, steps), kept * start)
    assert not run("ddim", zero, torch.zeros_like(start), RESIDUAL, steps).any()


@given(st.sampled_from(sorted(SAMPLERS)), st.integers(1, 60))
def test_a_network_that_sees_no_residual_returns_none(sampler, steps):
    start = torch.randn(3, 8, 8)
    result = run(sampler, ideal_v(torch.zeros_like(start)), start, RESIDUAL, steps)
    torch.testing.assert_close(result, torch.zeros_like(start), rtol=0, atol=1e-4)


def test_one_v_step_is_a_rotation():
    x, v = torch.randn(2, 3, 4, 4)
    seen = []

    def network(x: torch.Tensor, level: NoiseLevel) -> torch.Tensor:
        seen.append(x.clone())
        return v

    run("ddim", network, x, RESIDUAL, 7)
    turn = math.pi / 2 / 7
    for before, after in pairwise(seen):
        torch.testing.assert_close(after, math.cos(turn) * before - math.sin(turn) * v)


@pytest.mark.parametrize(("sampler", "eta"), [("ddim", 0.0), ("ddim", 0.7), ("ddim", 1.0), ("ddpm", 0.0)])
def test_every_level_has_the_marginal_of_the_forward_process(sampler, eta):
    """Whatever the fresh noise, x_t ~ N(alpha x_0, sigma^2) where the network knows x_0."""
    residual, start = torch.randn(3, 1, 1), torch.randn(3, 256, 256)
    known, seen = ideal_v(residual), []

    def network(x: torch.Tensor, level: NoiseLevel) -> torch.Tensor:
        noise = (x - level.alpha * residual) / level.sigma
        seen.append((float(noise.mean()), float(noise.std())))
        return known(x, level)

    run(sampler, network, start, RESIDUAL, 20, eta)
    assert len(seen) == 20
    for mean, deviation in seen:
        assert mean == pytest.approx(0, abs=0.01) and deviation == pytest.approx(1, abs=0.01)


def test_ddim_with_eta_one_is_ddpm():
    residual, start = torch.randn(2, 3, 8, 8)

    def network(x: torch.Tensor, level: NoiseLevel) -> torch.Tensor:
        return torch.sin(2 * x) - residual * level.alpha

    levels, meaning = noise_levels(RESIDUAL, 9), parameterization(RESIDUAL)
    one = sample_ddim(network, start.clone(), levels, meaning, eta=1.0, noise=draws(start.shape))
    two = sample_ddpm(network, start.clone(), levels, meaning, eta=0.0, noise=draws(start.shape))
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


def test_the_second_order_sampler_is_of_second_order():
    """On a smooth problem, halving the steps' size divides dpmpp-2m's error by about four, ddim's by about two."""
    start = torch.randn(3, 8, 8, dtype=torch.float64)

    def network(x: torch.Tensor, level: NoiseLevel) -> torch.Tensor:  # x_0 ~ N(0, 0.04): E[x_0|x_t] is linear
        x0 = 0.04 * level.alpha / (0.04 * level.alpha**2 + level.sigma**2) * x
        return (level.alpha * x - x0) / level.sigma

    exact = run("ddim", network, start, RESIDUAL, 2000)

    def error(sampler: str, steps: int) -> float:
        return float((run(sampler, network, start, RESIDUAL, steps) - exact).abs().mean())

    assert error("ddim", 20) / error("ddim", 40) == pytest.approx(2, abs=0.5)
    assert error("dpmpp-2m", 20) < error("ddim", 20) / 2
    assert error("dpmpp-2m", 20) / error("dpmpp-2m", 40) > 2.5


@pytest.mark.parametrize(("last", "factor"), [(50.0, 0.380), (60.0, 0.658), (70.0, 1.0), (79.99, 1.0)])
def test_a_long_step_extrapolates_no_further_than_one_of_twice_the_length(last, factor):
    angles = 80.0, last, 20.0
    levels = [NoiseLevel(0, math.cos(math.radians(a)), math.sin(math.radians(a))) for a in angles] + [CLEAN]
    x0s, seen = iter([0.0, 1.0, 0.0]), []

    def predict(x: torch.Tensor, level: NoiseLevel) -> torch.Tensor:
        seen.append(float(x))
        return torch.full_like(x, next(x0s))

    SAMPLERS["dpmpp-2m"](predict, torch.zeros(1, 1, 1), levels, lambda p, x, level: (p, x), eta=0.0, noise=draws((1,)))
    _, before, after, _ = levels
    of_x0 = after.alpha - before.alpha * after.sigma / before.sigma
    assert seen[1] == 0 and seen[2] / of_x0 - 1 == pytest.approx(factor, abs=2e-3)


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_bands_of_rows_change_nothing(sampler):
    start = torch.randn(LARGE_BAND)

    def network(x: torch.Tensor, level: NoiseLevel) -> torch.Tensor:
        return torch.sin(3 * x)

    whole = run(sampler, network, start, RESIDUAL, 6, eta=0.5)
    noise = draws(start.shape)
    for top in (0, 7, BAND, BAND + 8):
        row = SAMPLERS[sampler](
            network,
            start[:, top : top + 1].clone(),
            noise_levels(RESIDUAL, 6),
            parameterization(RESIDUAL),
            eta=0.5,
            noise=lambda step, top=top: noise(step)[:, top : top + 1],
        )
        torch.testing.assert_close(row, whole[:, top : top + 1], rtol=1e-6, atol=1e-6)
