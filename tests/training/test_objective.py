"""What is asked at training, against the formulas; and that all of the network is asked."""

import dataclasses

import pytest
import torch

from bidiffsr_cli.configs import DiffusionConfig
from bidiffsr_cli.diffusion.detail import raise_diagonals
from bidiffsr_cli.diffusion.schedule import noise_levels, signal_and_noise
from bidiffsr_cli.networks.unet import UNet
from bidiffsr_cli.training.batches import TrainingBatch
from bidiffsr_cli.training.config import LossConfig
from bidiffsr_cli.training.objective import Objective

from .support import CPU, generator


@pytest.fixture
def batch(sampler):
    crops = sampler.draw(2, generator())
    return TrainingBatch(crops, torch.full((4,), 799), torch.randn(crops.hr.shape, generator=generator()))


@pytest.mark.parametrize("kind", ["mse", "l1"])
def test_v_of_the_residual(config, batch, kind):
    """v = alpha eps - sigma r; the network sees alpha x_t."""
    asked = []
    alpha, sigma = (float(table[799]) for table in signal_and_noise(config.model.diffusion))
    residual = (batch.crops.hr - batch.crops.up) / 0.04
    v = alpha * batch.noise - sigma * residual

    def network(x, condition, t, step):
        asked.append((x, condition, t, step))
        return v + 0.5

    loss = Objective(config.model, LossConfig(kind=kind), CPU)(network, batch)
    torch.testing.assert_close(loss.total, torch.tensor(0.25 if kind == "mse" else 0.5))
    assert (loss.group, loss.count) == ("1", 4) and loss.parts.keys() == {kind} and loss.parts[kind] == loss.total
    ((x, condition, t, step),) = asked
    torch.testing.assert_close(x, alpha * (alpha * residual + sigma * batch.noise))
    assert torch.equal(condition, batch.crops.condition) and t.tolist() == [799] * 4 and step * 5 // 2000 == 1


def test_epsilon_of_the_image(config, batch):
    diffusion = DiffusionConfig()
    model = dataclasses.replace(config.model, diffusion=diffusion)
    alpha, sigma = (float(table[799]) for table in signal_and_noise(diffusion))
    levels = noise_levels(dataclasses.replace(diffusion, spacing="leading"), 2000)
    assert (levels[1200].t, levels[1200].alpha, levels[1200].sigma) == (799, alpha, sigma)

    def network(x, condition, t, step):
        torch.testing.assert_close(x, alpha * batch.crops.hr + sigma * batch.noise)
        return batch.noise

    assert float(Objective(model, LossConfig(kind="l1"), CPU)(network, batch).total) == 0


def test_lpips_counts_near_the_end_alone(config, batch):
    def perceptual(sr, hr):
        torch.testing.assert_close(sr, hr, atol=1e-5, rtol=0)
        return torch.full((len(sr),), 0.3)

    objective = Objective(config.model, LossConfig(lpips=2.0, lpips_groups=2), CPU, perceptual)
    alphas, sigmas = signal_and_noise(config.model.diffusion)
    residual = objective.clean(batch.crops)
    for t, expected in ((399, 0.6), (799, 0.6), (1199, 0.0)):
        asked = dataclasses.replace(batch, t=torch.full((4,), t))
        v = alphas[t] * batch.noise - sigmas[t] * residual
        loss = objective(lambda *_, v=v: v, asked)
        torch.testing.assert_close(loss.total, torch.tensor(expected))
        assert float(loss.parts["mse"]) == 0 and ("lpips" in loss.parts) == (t < 800)


def test_times_on_the_grid(config):
    objective = Objective(config.model, LossConfig(last=0.4, grid=0.4), CPU)
    source, draws = generator(), []
    for _ in range(2000):
        ((first, t),) = objective.draw_times(8, source)
        assert first == 0 and len(t) == 8 and t.min() >= 0 and t.max() <= 1999
        assert len({objective.segment(int(value)) for value in t}) == 1
        draws.append(t)
    last = sum(bool((t == 1999).all()) for t in draws) / 2000
    assert abs(last - 0.4) < 0.04
    for end in (399, 799, 1199, 1599):
        assert abs(sum(bool((t == end).all()) for t in draws) / 2000 - 0.1) < 0.03
    spread = [t for t in draws if len(t.unique()) > 1]
    assert abs(len(spread) / 2000 - 0.2) < 0.04 and len({objective.segment(int(t[0])) for t in spread}) == 5


def test_times_of_the_paper(config):
    objective = Objective(config.model, LossConfig(times="uniform", micro_batch=4), CPU)
    parts = objective.draw_times(10, generator())
    assert [(first, len(t)) for first, t in parts] == [(0, 4), (4, 4), (8, 2)]
    assert all(len(t.unique()) == 1 for _, t in parts) and len({int(t[0]) for _, t in parts}) == 3


def test_noise_and_residual_are_where_detail_is(config, sampler):
    crops, objective = sampler.draw(2, generator()), Objective(config.model, LossConfig(), CPU)
    gains = torch.rand(2, 4, 1, 32, 32)
    gained = dataclasses.replace(crops, noise_gain=gains[0], residual_gain=gains[1])
    ((one,), (two,)) = (objective.draw(asked, generator(), generator(7)) for asked in (crops, gained))
    assert abs(float(one.noise.std()) - 1) < 0.02 and torch.equal(two.noise, gains[0] * one.noise)
    x0 = torch.randn(crops.hr.shape)
    assert torch.equal(objective.picture(x0, crops), (crops.up + 0.04 * x0).clamp(0, 1))
    assert torch.equal(objective.picture(x0, gained), (crops.up + 0.04 * (x0 * gains[1])).clamp(0, 1))
    objective.diffusion = dataclasses.replace(objective.diffusion, diagonal_gain={"2": 0.03})
    raised = raise_diagonals(x0, 2, objective.diffusion)
    assert not torch.equal(raised, x0)
    assert torch.equal(objective.picture(x0, gained), (crops.up + 0.04 * (raised * gains[1])).clamp(0, 1))


def test_a_batch_is_split_without_loss(batch):
    parts = batch.split(3)
    assert [len(part.t) for part in parts] == [2, 2]
    assert torch.equal(torch.cat([part.crops.hr for part in parts]), batch.crops.hr)
    assert torch.equal(torch.cat([part.noise for part in parts]), batch.noise)


def test_every_set_of_tar_and_taa_learns(config, sampler):
    torch.manual_seed(0)
    network = UNet(config.model.network, config.model.condition_channels).train()
    objective, source = Objective(config.model, LossConfig(), CPU), generator()
    sets = {name: p for name, p in network.named_parameters() if ".tar." in name or ".taa." in name}
    reached = {name: torch.zeros(len(p), dtype=torch.bool) for name, p in sets.items()}
    for _ in range(40):
        for batch in objective.draw(sampler.draw(2, source), source, source):
            objective(network, batch).total.backward()
        for name, parameter in sets.items():
            reached[name] |= parameter.grad.abs().flatten(1).sum(1) > 0
            parameter.grad = None
        if all(bool(done.all()) for done in reached.values()):
            break
    assert sets and all(bool(done.all()) for done in reached.values()), reached
