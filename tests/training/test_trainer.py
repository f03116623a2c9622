"""The loop learns, stops and goes on; states are whole or small; threads and processes share the work."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bidiffsr_cli.checkpoints.files import read_checkpoint
from bidiffsr_cli.errors import BidiffsrError, CheckpointError, UsageError
from bidiffsr_cli.training.config import changed
from bidiffsr_cli.training.run import Outputs, prepare_folder, resumed, train
from bidiffsr_cli.training.state import decode, encode, has_state, load_state, save_compact_state, save_state
from bidiffsr_cli.training.trainer import Trainer

CPU = torch.device("cpu")


def weights_of(trainer):
    return {name: parameter.detach().clone() for name, parameter in trainer.network.named_parameters()}


def equal(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture
def make(config, sampler):
    """A trainer of the tiny config, with changes."""

    def make(*changes, threads=1):
        return Trainer(changed(config, changes), sampler, CPU, threads=threads)

    return make


class OneBatch:
    """A sampler that draws the same crops for ever."""

    def __init__(self, sampler):
        self.batch = sampler.draw(2, torch.Generator().manual_seed(0))

    def draw(self, scale, generator):
        return self.batch


def test_it_learns_one_batch(config, sampler):
    trainer = Trainer(
        changed(
            config, ["model.scales=[2]", "loss.last=1.0", "loss.grid=0.0", "run.iterations=60", "optimizer.lr=5e-3"]
        ),
        OneBatch(sampler),
        CPU,
    )
    losses = []
    trainer.run(lambda figures: losses.append(figures["loss"]), lambda: False)
    assert len(losses) == 30 and losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("change", ["loss.dropout=0.0", "loss.times=uniform"])
def test_a_resumed_run_is_the_straight_run(make, tmp_path, threads, change):
    straight = make(change, threads=threads)
    straight.run(lambda _: None, lambda: False)
    stopped = make(change, threads=threads)
    stopped.run(lambda _: None, lambda: stopped.progress.iteration == 3)
    assert stopped.progress.iteration == 3
    save_state(stopped, tmp_path)
    again = make(change, threads=threads)
    assert load_state(again, tmp_path) is True
    again.run(lambda _: None, lambda: False)
    assert again.progress.iteration == straight.progress.iteration == 6
    assert equal(weights_of(again), weights_of(straight)) and equal(again.average(), straight.average())


def test_dropout_too_goes_on_where_it_was(make, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(7)
        straight = make("loss.dropout=0.5")
        straight.run(lambda _: None, lambda: False)
        torch.manual_seed(7)
        stopped = make("loss.dropout=0.5")
        stopped.run(lambda _: None, lambda: stopped.progress.iteration == 3)
        save_state(stopped, tmp_path)
        torch.manual_seed(8)
        again = make("loss.dropout=0.5")
        load_state(again, tmp_path)
        again.run(lambda _: None, lambda: False)
    assert equal(weights_of(again), weights_of(straight))


def test_threads_change_last_bits_alone(make):
    one, two = make(threads=1), make(threads=3)
    for trainer in (one, two):
        trainer.step()
    for (name, a), b in zip(weights_of(one).items(), weights_of(two).values(), strict=True):
        difference = (a - b).abs()  # Adam's first step is lr times the gradient's sign, which may be that of a rounding
        assert float((difference > 1e-4).float().mean()) < 0.02, name


def test_the_learning_rate_follows_the_run(make):
    trainer = make("run.iterations=100", "optimizer.warmup=10", "optimizer.decay=0.5", "optimizer.lr=1.0")
    rates = []
    for trainer.progress.iteration in range(101):
        rates.append(trainer.learning_rate())
    assert rates[:3] == [0.1, 0.2, pytest.approx(0.3)] and rates[9:51] == [1.0] * 42
    assert rates[75] == pytest.approx(0.5) and rates[100] == 0
    timed = make("run.iterations=null", "run.seconds=50.0", "optimizer.warmup=0", "optimizer.decay=0.5")
    timed.progress.seconds = 37.5
    assert timed.part_done() == 0.75 and timed.learning_rate() == pytest.approx(0.5 * 1e-3)


def test_the_average_follows_the_weights(make):
    trainer = make("optimizer.ema=0.0")
    trainer.step()
    assert equal(trainer.average(), weights_of(trainer))
    trainer = make("optimizer.ema=0.9")
    before = weights_of(trainer)
    trainer.step()
    decay = 2 / 11
    for name, mean in trainer.average().items():
        expected = decay * before[name] + (1 - decay) * weights_of(trainer)[name]
        torch.testing.assert_close(mean, expected)


def test_the_log_says_what_happens(make):
    lines = []
    trainer = make("run.iterations=4", "optimizer.lr=0.05")
    trainer.run(lines.append, lambda: False)
    assert [line["iteration"] for line in lines] == [2, 4] and lines[1]["samples"] == 16
    line = lines[1]
    assert 0 < line["flip_rate"] < 1 and set(line["flip_rate_by_layer"]) == set(trainer.latent_names())
    assert line["samples_per_second"] > 0 and line["gradient_norm"] > 0 and line["part_done"] == 1
    assert set(line["loss_by_group"]) <= set(range(5)) and json.loads(json.dumps(line))


def test_a_loss_that_explodes_is_told(make):
    trainer = make("optimizer.clip=null")
    with torch.no_grad():
        next(trainer.network.parameters()).fill_(float("nan"))
    with pytest.raises(BidiffsrError, match="no longer finite"):
        trainer.run(lambda _: None, lambda: False)


@pytest.mark.parametrize(("bits", "largest_error"), [(8, 0.01), (4, 0.13)])
def test_few_bits_keep_signs_and_about_the_rest(bits, largest_error):
    weight = torch.randn(5, 3, 3, 3) * torch.tensor([1.0, 1e-3, 50, 1, 0]).view(-1, 1, 1, 1)
    back = decode(encode(weight, bits))
    assert back.shape == weight.shape and torch.equal(back >= 0, weight >= 0)
    peaks = weight.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-30)
    assert float(((back - weight).abs() / peaks).max()) < largest_error


def test_a_compact_state_fits_and_goes_on(make, tmp_path):
    trainer = make()
    trainer.run(lambda _: None, lambda: trainer.progress.iteration == 3)
    save_state(trainer, tmp_path)
    whole = (tmp_path / "state.safetensors").stat().st_size
    (tmp_path / "state.safetensors").unlink()
    for budget, bits in ((whole, (8, 8)), (whole // 5, None)):
        assert save_compact_state(trainer, tmp_path, budget, max_file=20_000) == (bits or (4, 0)) or bits is None
        pieces = sorted(tmp_path.iterdir())
        assert sum(piece.stat().st_size for piece in pieces) <= budget
        assert all(piece.stat().st_size <= 20_000 for piece in pieces) and has_state(tmp_path)
        again = make()
        assert load_state(again, tmp_path) is False and again.progress.samples == trainer.progress.samples == 12
        assert again.part_done() == 0 and again.learning_rate() == pytest.approx(again.config.optimizer.lr / 2)
        for name, weight in weights_of(again).items():
            peak = weights_of(trainer)[name].abs().max()
            torch.testing.assert_close(weight, weights_of(trainer)[name], atol=0.13 * float(peak), rtol=0)
        again.run(lambda _: None, lambda: False)
        assert again.progress.iteration == 9
    with pytest.raises(UsageError, match="budget"):
        save_compact_state(trainer, tmp_path, 1000)


def test_damaged_states_are_refused(make, tmp_path):
    trainer = make()
    with pytest.raises(CheckpointError):
        load_state(trainer, tmp_path)
    save_state(trainer, tmp_path)
    path = tmp_path / "state.safetensors"
    data = path.read_bytes()
    for damaged in (data[:1000], b"", data[:8] + b"x" + data[9:]):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            load_state(trainer, tmp_path)
    path.write_bytes(data)
    with pytest.raises(CheckpointError):
        load_state(make("model.network.inner_channel=8"), tmp_path)


def test_a_run_leaves_a_model_behind(make, tmp_path):
    prepare_folder(tmp_path / "run", resume=False)
    asked = []

    def validate(checkpoint):
        asked.append(checkpoint)
        return {"2": {"1": {"psnr_y": 30.0, "lpips_alex": 0.1}}}

    outputs = Outputs(tmp_path / "run", "three photos", budget=10**7, max_file=10**5, validate=validate)
    stops = itertools.chain([False, True], itertools.repeat(True))
    assert train(make("run.save_every=0"), outputs, lambda: next(stops)) is False
    again = make("run.save_every=0")
    assert "iteration 2." in resumed(again, outputs.folder)
    with pytest.raises(UsageError):
        prepare_folder(outputs.folder, resume=False)
    assert train(again, outputs) is True
    names = {path.name for path in outputs.folder.iterdir()}
    assert names == {
        "config.json",
        "log.jsonl",
        "state.safetensors",
        "model.safetensors",
        "weights.safetensors",
        "compact",
    }
    packed, floats = (read_checkpoint(outputs.folder / f"{name}.safetensors") for name in ("model", "weights"))
    assert "24 crops of 32x32, on three photos" in packed.origin and '"psnr_y": 30.0' in packed.origin
    assert equal(dict(floats.build().state_dict()), again.average()) and len(asked) == 2
    lines = [json.loads(line) for line in (outputs.folder / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["scores"]["2"]["1"]["psnr_y"] == 30.0


def test_other_weights_to_begin_with(config, sampler, make):
    weights = {name: value.clone() for name, value in make("run.seed=5").network.state_dict().items()}
    trainer = Trainer(config, sampler, CPU, weights=weights)
    assert equal(weights_of(trainer), weights) and equal(trainer.average(), weights)


PROCESS = """
import dataclasses, sys, torch, torch.distributed as distributed
from pathlib import Path
from bidiffsr_cli.training.config import read_config
from bidiffsr_cli.training.data import CropSampler, open_pictures
from bidiffsr_cli.training.objective import Question
from bidiffsr_cli.training.trainer import Trainer
out, cache, changes = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
torch.set_num_threads(1)
world = int(__import__("os").environ.get("WORLD_SIZE", "1"))
if world > 1: distributed.init_process_group("gloo")
config = read_config("fast", changes)
pictures = open_pictures(config.data, config.model.scales, cache)
trainer = Trainer(config, CropSampler(pictures, config, torch.device("cpu")), torch.device("cpu"))
source = torch.Generator().manual_seed(1)
batch = trainer.sampler.draw(2, source)
whole = Question(batch, torch.full((4,), 799), torch.randn(batch.hr.shape, generator=source))
part = whole.split(world)[trainer.rank]
trainer._differentiate([part], len(part.t))
if trainer.rank == 0:
    torch.save({n: p.grad for n, p in trainer.network.named_parameters()}, out)
if world > 1: distributed.destroy_process_group()
"""


def test_two_processes_have_the_gradients_of_one(config, folder, tmp_path):
    script = tmp_path / "process.py"
    script.write_text(PROCESS)
    changes = [
        "model.network.inner_channel=4", "model.network.norm_groups=1", "data.crop=32", "data.batch=4",
        "run.precision=fp32", f"data.pictures=['{folder}']", "model.tile={size=64,overlap=8}",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    for name in ("one", "two"):
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if name == "two" else []
        command = [sys.executable, "-W", "ignore", *launcher, str(script)]
        command += [str(tmp_path / name), str(tmp_path / "cache"), *changes]
        subprocess.run(command, env=environment, check=True, capture_output=True, timeout=300)
    one, two = (torch.load(tmp_path / name, weights_only=True) for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=1e-5, rtol=1e-3)
