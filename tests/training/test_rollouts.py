"""Rollouts: the states are the sampler's own, one step learns, and what its picture is judged by is what it says."""

import dataclasses

import pytest
import torch

from bidiffsr_cli.checkpoints.files import Checkpoint
from bidiffsr_cli.diffusion.conditioning import condition
from bidiffsr_cli.diffusion.detail import noise_gain
from bidiffsr_cli.diffusion.schedule import noise_levels
from bidiffsr_cli.diffusion.upsampling import Enlarged
from bidiffsr_cli.errors import CheckpointError, UsageError
from bidiffsr_cli.evaluation.metrics import load_lpips
from bidiffsr_cli.images import read_picture
from bidiffsr_cli.networks.unet import UNet
from bidiffsr_cli.ops import reference
from bidiffsr_cli.options import UpscaleOptions
from bidiffsr_cli.pipeline import SuperResolver
from bidiffsr_cli.runtime import Machine, choose_runtime
from bidiffsr_cli.training.batches import Rollout, View
from bidiffsr_cli.training.config import RolloutConfig
from bidiffsr_cli.training.config_files import changed, of_system
from bidiffsr_cli.training.crops import Crops, CropSampler
from bidiffsr_cli.training.objective import Objective
from bidiffsr_cli.training.run import checkpoint_of
from bidiffsr_cli.training.state import load_state, save_state
from bidiffsr_cli.training.trainer import Trainer

from .support import CPU, generator

WHOLE = View(0, 0, 64, 1.0, 0)
ALL = [
    "loss.rollout.share=1.0",
    "loss.rollout.lpips=20.0",
    "loss.rollout.lpips_shift=7",
    "loss.rollout.lpips_turn=true",
    "loss.rollout.lpips_zooms=[1.0, 1.5]",
    "loss.rollout.comb=0.05",
    "loss.rollout.cross=0.05",
    "loss.rollout.weave=60.0",
    "data.crop=64",
    "model.diffusion.noise_by_detail=0.03",
]


@pytest.fixture
def rolling(config):
    """The tiny config, with nothing but rollouts, judged by everything."""
    return changed(config, ALL)


@pytest.fixture
def crops(pictures, rolling):
    return CropSampler(pictures, rolling, CPU).draw(2, generator())


@pytest.fixture
def network(rolling):
    torch.manual_seed(0)
    return UNet(rolling.model.network, rolling.model.condition_channels)


def objective_of(config, **changes):
    loss = dataclasses.replace(config.loss, rollout=dataclasses.replace(config.loss.rollout, **changes))
    return Objective(config.model, loss, CPU, lambda ours, originals: (ours - originals).abs().mean((1, 2, 3)))


def rollout_of(config, crops, steps, stop):
    levels = noise_levels(config.model.diffusion, steps)[:stop]
    noise = torch.randn(crops.hr.shape, generator=generator(5)) * crops.noise_gain
    return Rollout(crops, torch.full((len(crops.hr),), levels[-1].t), noise, steps, levels, WHOLE, (0, 0))


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("steps", [2, 3, 5])
def test_the_states_are_those_of_enlarging(rolling, network, pictures, scale, steps):
    """A picture is enlarged, and what the network is given at each step compared with what training gives it."""
    low_res = torch.rand(3, 64 // scale, 64 // scale, generator=generator())
    low_res[:, : 32 // scale] = 0.5  # half of it is flat
    diffusion = rolling.model.diffusion
    resolver = SuperResolver(
        Checkpoint.of_tensors(rolling.model, network.state_dict(), "", ""),
        choose_runtime(Machine("cpu", "fp32", "reference", threads=1)),
    )
    seen, inner = [], resolver.network

    def recording(x, condition, t, step):
        seen.append((x.clone(), condition.clone(), t.tolist()))
        return inner(x, condition, t, step)

    resolver.network = recording
    resolver.upscale(read_picture(low_res), UpscaleOptions(scale=scale, steps=steps, seed=3))
    assert len(seen) == steps

    up = Enlarged(low_res, scale, 64, 64, diffusion)
    everywhere = up.around(0, 0, 64, 64), scale, diffusion
    gain = noise_gain(*everywhere)[None]
    assert gain[..., :12, :].max() < 0.01 and gain.max() == 1
    whole = up.crop(0, 0, 64, 64)[None]
    crops = Crops(whole, whole, condition(*everywhere)[None], scale, gain)
    objective, asked = objective_of(rolling), []

    def network_in_training(x, condition, t, step):
        asked.append((x, condition, t.tolist()))
        return network(x, condition, t, step)

    levels = noise_levels(diffusion, steps)[:-1]
    noise = reference.noise(64, 64, 3)[None] * gain
    rollout = Rollout(crops, torch.tensor([levels[-1].t]), noise, steps, levels, WHOLE, (0, 0))
    objective.predict(network_in_training, rollout)
    for (x, cond, t_cpu), (x_asked, cond_asked, t_asked) in zip(seen, asked, strict=True):
        assert t_cpu == t_asked
        torch.testing.assert_close(cond, cond_asked, rtol=1e-5, atol=1e-5)
        flipped = (x - x_asked).abs() > 1e-3  # the packed network adds in another order, which may flip a sign
        assert flipped.float().mean() < 0.02


@pytest.mark.parametrize(("steps", "stop"), [(2, 2), (5, 2), (5, 4)])
def test_one_step_learns(rolling, crops, network, steps, stop):
    objective, rollout = objective_of(rolling), rollout_of(rolling, crops, steps, stop)
    with_gradient = []

    def recording(x, condition, t, step):
        with_gradient.append((int(t[0]), torch.is_grad_enabled()))
        return network(x, condition, t, step)

    objective(recording, rollout).total.backward()
    times = [level.t for level in noise_levels(rolling.model.diffusion, steps)][:stop]
    assert with_gradient == [(t, t == times[-1]) for t in times]
    gradients = {name: p.grad for name, p in network.named_parameters()}

    state = objective.roll_out(network, rollout)
    assert not state.requires_grad and not torch.equal(state, rollout.noise)
    network.zero_grad()
    objective.roll_out = lambda *_: state
    objective(network, rollout).total.backward()
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter.grad, gradients[name]), name


def test_a_right_answer_costs_nothing_and_parts_are_weighted(rolling, crops, network):
    rollout = rollout_of(rolling, crops, 5, 3)
    objective = objective_of(rolling)
    state, level = objective.roll_out(network, rollout), noise_levels(rolling.model.diffusion, 5)[2]

    def answering(wanted):
        """A network that takes the first steps as the other one does, and then predicts what is wanted."""

        def answer(x, condition, t, step):
            last = int(t[0]) == level.t
            return (level.alpha * state - wanted) / level.sigma if last else network(x, condition, t, step)

        return answer

    clean = objective.clean(crops)
    right = objective(answering(clean), rollout)
    assert right.parts.keys() == {"mse", "lpips", "comb", "cross", "weave"} and right.group == "3of5"
    assert float(right.total) < 1e-6
    wrong = objective(answering(clean + 0.5), rollout)
    assert float(wrong.parts["mse"]) == pytest.approx(0.25, rel=1e-4)
    weights = rolling.loss.rollout
    total = sum(getattr(weights, name) * float(part) for name, part in wrong.parts.items())
    assert float(wrong.total) == pytest.approx(total, rel=1e-5)


def test_what_is_asked(rolling, crops):
    objective, source, groups = objective_of(rolling, share=0.5, steps=(2, 5, 5)), generator(), []
    for _ in range(600):
        (batch,) = objective.draw(crops, source, source)
        if isinstance(batch, Rollout):
            groups.append((batch.steps, len(batch.levels)))
            levels = noise_levels(rolling.model.diffusion, batch.steps)
            assert list(batch.levels) == levels[: len(batch.levels)]
            assert batch.t.tolist() == [batch.levels[-1].t] * 4 and batch.group_size == 8
    counts = {group: groups.count(group) / len(groups) for group in set(groups)}
    assert abs(len(groups) / 600 - 0.5) < 0.07 and counts.keys() == {(2, 2), (5, 2), (5, 3), (5, 4), (5, 5)}
    assert abs(counts[2, 2] - 1 / 3) < 0.1 and all(abs(counts[5, stop] - 1 / 6) < 0.07 for stop in (2, 3, 4, 5))
    last = objective_of(rolling, stop="last", comb=0.0, cross=0.0, weave=0.0)
    rollouts = [last.draw(crops, source, source)[0] for _ in range(20)]
    assert {(r.steps, len(r.levels)) for r in rollouts} == {(2, 2), (4, 4)}
    assert all(r.group_size == 1 for r in rollouts)


def test_spectra_are_of_any_place(rolling, pictures, network):
    config = changed(rolling, ["data.crop=96", "data.batch=1"])
    crops, objective, source = (
        CropSampler(pictures, config, CPU).draw(2, generator()),
        objective_of(config),
        generator(),
    )
    rollouts = [objective.draw(crops, source, source)[0] for _ in range(400)]
    assert {r.window[0] for r in rollouts} == {r.window[1] for r in rollouts} == set(range(33))
    for window in ((0, 0), (32, 32)):
        loss = objective(network, dataclasses.replace(rollouts[0], window=window))
        assert loss.total.isfinite() and loss.parts["comb"] > 0


@pytest.mark.parametrize("method", ["bnn", "reactnet"])
def test_batch_norm_sees_rollouts(rolling, pictures, monkeypatch, method):
    monkeypatch.setattr("bidiffsr_cli.training.trainer.BATCHES_TO_MEASURE", 3)
    config = of_system(changed(rolling, ["data.batch=16", "run.iterations=2"]), method)
    trainer = Trainer(config, CropSampler(pictures, config, CPU), CPU, load_lpips())
    assert trainer.normalizes_batches
    trainer.run(lambda _: None, lambda: False)
    assert all(value.isfinite().all() for value in trainer.average().values())


@pytest.mark.parametrize("multiplies", [True, False])
def test_precision_goes_by_the_processor(rolling, pictures, monkeypatch, multiplies):
    monkeypatch.setattr("bidiffsr_cli.training.trainer.multiplies_bfloat16", lambda device: multiplies)
    config = changed(rolling, ["run.precision=auto", "run.iterations=1"])
    trainer = Trainer(config, CropSampler(pictures, config, CPU), CPU, load_lpips())
    assert trainer.bf16 == multiplies
    seen = []
    trainer.network.register_forward_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    trainer.step()
    assert seen and set(seen) == {multiplies}
    made = checkpoint_of(trainer, "photos")
    assert (", bf16)" in made.origin) == multiplies
    assert made.config.diffusion.trained_steps == (2, 4)


def test_threads_share_the_work(rolling, pictures):
    """Eight crops are judged together, so that any number of threads comes to the same."""
    no_signs = "model.network.full_precision_levels=[0, 1]"  # sums of another order would tip some
    config = changed(rolling, ["data.batch=16", no_signs])
    sampler = CropSampler(pictures, config, CPU)
    perceptual = load_lpips()
    one, two, many = (Trainer(config, sampler, CPU, perceptual, threads=threads) for threads in (1, 2, 5))
    (batch,) = one._draw(generator(), generator())
    assert [len(part.t) for part in two._split(batch)] == [8, 8] == [len(part.t) for part in many._split(batch)]
    assert all(part.view == batch.view for part in two._split(batch))
    losses = {}
    for trainer in (one, two):
        losses[trainer] = trainer._differentiate(trainer._split(batch), len(batch.t))
    for (name, a), b in zip(one.network.named_parameters(), two.network.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=2e-3, atol=2e-5, msg=lambda why, name=name: f"{name}: {why}")
    whole, halves = losses[one][0].parts, [loss.parts for loss in losses[two]]
    for name, value in whole.items():
        torch.testing.assert_close(value, (halves[0][name] + halves[1][name]) / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_resumed_run_is_the_straight_run(rolling, pictures, tmp_path):
    config = changed(rolling, ["loss.rollout.share=0.7", "data.plain=0.3", "data.batch=16", "run.iterations=4"])

    def make():
        return Trainer(config, CropSampler(pictures, config, CPU), CPU, load_lpips(), threads=2)

    straight, stopped, again = make(), make(), make()
    straight.run(lambda _: None, lambda: False)
    stopped.run(lambda _: None, lambda: stopped.progress.iteration == 2)
    save_state(stopped, tmp_path)
    assert load_state(again, tmp_path) is True
    again.run(lambda _: None, lambda: False)
    assert again.progress.iteration == straight.progress.iteration == 4
    for (name, a), b in zip(straight.network.named_parameters(), again.network.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_the_log_tells_them_apart(rolling, pictures):
    config = changed(rolling, ["loss.rollout.share=0.6", "run.iterations=12", "run.log_every=12"])
    lines = []
    trainer = Trainer(config, CropSampler(pictures, config, CPU), CPU, load_lpips())
    trainer.run(lines.append, lambda: False)
    groups = lines[0]["loss_by_group"]
    rollouts = {name: parts for name, parts in groups.items() if "of" in name}
    assert rollouts and set(rollouts) <= {"2of2", "2of4", "3of4", "4of4"} and len(groups) > len(rollouts)
    assert all(list(parts) == ["mse", "lpips", "comb", "cross", "weave"] for parts in rollouts.values())


@pytest.mark.parametrize(
    "change",
    [
        {"share": 1.1},
        {"steps": ()},
        {"steps": (1,)},
        {"stop": "first"},
        {"lpips": -1.0},
        {"lpips_zooms": ()},
        {"lpips_zooms": (0.5,)},
    ],
    ids=str,
)
def test_impossible_rollouts_are_refused(change):
    with pytest.raises(CheckpointError, match=next(iter(change))):
        RolloutConfig(**change)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        (["loss.rollout.steps=[600]", "model.diffusion.total_steps=500", "model.network.total_steps=500"], "steps"),
        (["data.crop=32"], "comb"),
        (["loss.rollout.lpips_shift=17"], "lpips_shift"),
        (["loss.times=uniform"], "times"),
        (["loss.dropout=0.1"], "dropout"),
    ],
    ids=str,
)
def test_rollouts_that_do_not_fit_the_rest_are_refused(rolling, changes, word):
    with pytest.raises(UsageError, match=word):
        changed(rolling, changes)
    changed(rolling, [*changes, "loss.rollout.share=0.0"])


def test_views_are_parts_of_the_picture():
    source, views = generator(), []
    picture = torch.rand(2, 3, 64, 64)
    for _ in range(600):
        view = View.draw(64, 15, (1.0, 1.5, 2.0), True, source)
        views.append(view)
        seen = view.of(picture)
        whole = 49 if view.zoom == 1 else int(49 / view.zoom) + 4
        assert view.size == whole and seen.shape == (2, 3, int(view.zoom * whole), int(view.zoom * whole))
        assert max(view.top, view.left) + view.size <= 64
    whole = [view for view in views if view.zoom == 1]
    assert {view.top for view in whole} == {view.left for view in whole} == set(range(16))
    assert max(view.top + view.size for view in views if view.zoom > 1) == 64  # every part of the crop is seen
    assert {view.turn for view in views} == set(range(8)) and {view.zoom for view in views} == {1.0, 1.5, 2.0}
    assert torch.equal(WHOLE.of(picture), picture)
    turned = {tuple(View(0, 0, 64, 1.0, turn).of(picture)[0, 0].flatten().tolist()) for turn in range(8)}
    assert len(turned) == 8
    torch.testing.assert_close(
        View(3, 5, 20, 1.5, 0).of(torch.full((1, 3, 64, 64), 0.3)), torch.full((1, 3, 30, 30), 0.3)
    )
