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

from bidiffsr_cli.checkpoints.files import read_checkpoint, serialize_tensors
from bidiffsr_cli.errors import BidiffsrError, CheckpointError, UsageError
from bidiffsr_cli.networks.latent_conv import latent_names
from bidiffsr_cli.training.config_files import changed
from bidiffsr_cli.training.run import Outputs, prepare_folder, resumed, train_run
from bidiffsr_cli.training.state import (
    BIT_WIDTHS,
    choose_bit_widths,
    dequantize,
    has_state,
    load_state,
    quantize,
    save_compact_state,
    save_state,
)
from bidiffsr_cli.training.trainer import Trainer
from bidiffsr_cli.training.upsamplers import turn

from .process import LOSSES, UPSAMPLING, WITH_UPSAMPLER, train, train_together
from .support import CPU, TINY, equal, weights_of


@pytest.fixture
def make(config, sampler):
    """A trainer of the tiny config, with changes."""

    def make(*changes, threads=1, weights=None):
        changes = [*WITH_UPSAMPLER, *changes] if UPSAMPLING in changes else changes
        return Trainer(changed(config, changes), sampler, CPU, weights=weights, threads=threads)

    return make


@pytest.mark.parametrize(
    ("threads", "change"),
    [
        (1, "loss.dropout=0.0"),
        (2, "loss.times=uniform"),
        (1, "loss.rollout={share=0.7, weave=60.0}"),
        (2, "loss.rollout={share=0.7, weave=60.0}"),
        (2, UPSAMPLING),
    ],
)
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
        straight = make("loss.dropout=0.5")
        straight.run(lambda _: None, lambda: False)
        stopped = make("loss.dropout=0.5")
        stopped.run(lambda _: None, lambda: stopped.progress.iteration == 3)
        save_state(stopped, tmp_path)
        torch.rand(5)
        again = make("loss.dropout=0.5")
        load_state(again, tmp_path)
        again.run(lambda _: None, lambda: False)
        other = make("loss.dropout=0.5", "run.seed=1")
        other.run(lambda _: None, lambda: False)
    assert equal(weights_of(again), weights_of(straight)) and not equal(weights_of(other), weights_of(straight))


def test_threads_change_last_bits_alone(make):
    one, two = make(threads=1), make(threads=3)
    for trainer in (one, two):
        trainer.step()
    for (name, a), b in zip(weights_of(one).items(), weights_of(two).values(), strict=True):
        difference = (a - b).abs()  # Adam's first step is lr times the gradient's sign, which may be that of a rounding
        assert float((difference > 1e-4).float().mean()) < 0.02, name


@pytest.mark.parametrize("threads", [1, 2])
def test_every_weight_moves_against_its_own_gradient(make, threads):
    """Fused Adam walks through memory: gradients must lie there in the order of their weights."""
    trainer = make(threads=threads)
    crops = trainer.sampler.draw(2, trainer.generator)
    batches = trainer.objective.draw(crops, trainer.generator, trainer.noise_generator)
    trainer._differentiate([part for batch in batches for part in batch.split(threads)], 4)
    before, gradients = weights_of(trainer), {n: p.grad.clone() for n, p in trainer.network.named_parameters()}
    for shard in trainer.shards:
        shard.update(factor=torch.ones(()), lr=1e-3, decay=0.0)
    for name, after in weights_of(trainer).items():
        clear = gradients[name].abs() > 1e-6  # Adam's first step has the length lr
        torch.testing.assert_close(
            (after - before[name])[clear], -1e-3 * gradients[name].sign()[clear], atol=2e-5, rtol=0
        )


@pytest.mark.parametrize("share", [0, 1])
def test_an_upsampler_learns_from_its_own_batches_alone(make, share):
    weights = make(UPSAMPLING).network.state_dict()
    trainer = make(UPSAMPLING, f"loss.upsampler={share}", "data.batch=6", weights=weights)
    before = weights_of(trainer)
    for _ in range(6):
        trainer.step()
    moved = {name for name, weight in weights_of(trainer).items() if not torch.equal(weight, before[name])}
    of_upsampler = {name for name in before if name.startswith("upsamplers.")}
    assert moved == of_upsampler if share else moved and not moved & of_upsampler
    assert ("upsampler" in trainer.meter.read()["loss_by_group"]) == bool(share)


def test_an_upsampler_has_its_share_of_the_batches_and_every_scale_its_turn():
    turns = [turn(0.3, (2, 4), iteration) for iteration in range(40)]
    assert (turns.count(2), turns.count(4)) == (6, 6)


def test_an_upsampler_learns_to_enlarge(make):
    trainer = make(UPSAMPLING, "loss.upsampler=1", "optimizer.lr=0.005", "model.scales=[2]", "run.iterations=60")

    def loss() -> float:
        trainer.generator.manual_seed(7)
        (batch,) = trainer._draw_pairs(2)
        with torch.no_grad():
            return float(trainer.objective(trainer.network, batch, trainer.network.upsamplers).total)

    at_bicubic = loss()
    for _ in range(60):
        trainer.generator.manual_seed(7)  # the same crops for ever
        trainer.step()
    assert loss() < 0.95 * at_bicubic


def test_the_learning_rate_follows_the_run(make):
    trainer = make("run.iterations=100", "optimizer.warmup=10", "optimizer.decay=0.5", "optimizer.lr=1.0")
    rates = []
    for trainer.progress.iteration in range(101):
        rates.append(trainer.learning_rate())
    assert rates[:3] == [0.1, 0.2, pytest.approx(0.3)] and rates[9:51] == [1.0] * 42
    assert rates[75] == pytest.approx(0.5) and rates[100] == 0
    timed = make("run.iterations=null", "run.seconds=50.0", "optimizer.warmup=0", "optimizer.decay=0.5")
    timed.progress.seconds = 37.5
    assert timed.part_done() == 0.75 and timed.learning_rate() == pytest.approx(0.5 * timed.config.optimizer.lr)


def test_the_average_follows_the_weights(make):
    trainer = make("optimizer.ema=0.0")
    trainer.step()
    assert equal(trainer.average(), weights_of(trainer))
    trainer = make("optimizer.ema=0.9")
    before = weights_of(trainer)
    trainer.step()
    decay = 2 / 11
    after = weights_of(trainer)
    for name, mean in trainer.average().items():
        expected = decay * before[name] + (1 - decay) * after[name]
        torch.testing.assert_close(mean, expected)


def test_the_log_says_what_happens(make):
    lines = []
    trainer = make("run.iterations=4", "optimizer.lr=0.05")
    trainer.run(lines.append, lambda: False)
    assert [line["iteration"] for line in lines] == [2, 4] and lines[1]["samples"] == 16
    line = lines[1]
    assert 0 < line["flip_rate"] < 1 and set(line["flip_rate_by_layer"]) == set(latent_names(trainer.network))
    assert line["samples_per_second"] > 0 and line["gradient_norm"] > 0 and line["part_done"] == 1
    assert set(line["loss_by_group"]) <= set("01234") and json.loads(json.dumps(line)) == line


def test_a_loss_that_explodes_is_told_and_spoils_no_state(make, tmp_path):
    trainer = make("optimizer.clip=null")
    save_state(trainer, tmp_path)
    before = (tmp_path / "state.safetensors").read_bytes()
    with torch.no_grad():
        trainer.network.stem.weight.fill_(float("nan"))
    with pytest.raises(BidiffsrError, match="no longer finite"):
        trainer.run(lambda _: None, lambda: False)
    for save in (save_state, lambda *args: save_compact_state(*args, (8, 8))):
        with pytest.raises(BidiffsrError, match="no longer finite"):
            save(trainer, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]
    assert (tmp_path / "state.safetensors").read_bytes() == before


@pytest.mark.parametrize(("bits", "largest_error"), [(8, 0.01), (4, 0.13)])
def test_few_bits_keep_signs_and_about_the_rest(bits, largest_error):
    weight = torch.randn(5, 3, 3, 3) * torch.tensor([1.0, 1e-3, 50, 1, 0]).view(-1, 1, 1, 1)
    back = dequantize(quantize(weight, bits))
    assert back.shape == weight.shape and torch.equal(back >= 0, weight >= 0)
    peaks = weight.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-30)
    assert float(((back - weight).abs() / peaks).max()) < largest_error


def size_of(folder):
    return sum(path.stat().st_size for path in folder.glob("compact.*"))


def test_a_compact_state_fits_and_goes_on(make, tmp_path):
    trainer = make()
    trainer.run(lambda _: None, lambda: trainer.progress.iteration == 3)
    sizes = []
    for bits in BIT_WIDTHS:
        save_compact_state(trainer, tmp_path, bits, max_file=20_000)
        sizes.append(size_of(tmp_path))
        assert has_state(tmp_path)
        assert all(path.stat().st_size <= 20_000 for path in tmp_path.iterdir())
        again = make()
        assert load_state(again, tmp_path) is False and again.progress.samples == trainer.progress.samples == 12
        assert again.part_done() == 0 and again.learning_rate() == pytest.approx(again.config.optimizer.lr / 2)
        kept = weights_of(trainer)
        for name, weight in weights_of(again).items():
            tolerance = (0.01 if bits[0] == 8 else 0.13) * float(kept[name].abs().max())
            torch.testing.assert_close(weight, kept[name], atol=tolerance, rtol=0)
            assert torch.equal(weight >= 0, kept[name] >= 0) or name not in latent_names(trainer.network)
    again.run(lambda _: None, lambda: False)
    assert again.progress.iteration == 9
    assert sorted(sizes, reverse=True) == sizes  # and no piece of a larger one was left over


def test_a_compact_state_loses_little(make, tmp_path):
    """The loss on batches that it was not trained on, of a network that has learned something."""
    trainer = make("run.iterations=24", "optimizer.lr=2e-2", "model.scales=[2]", "loss.last=1.0", "loss.grid=0.0")
    source = torch.Generator().manual_seed(5)
    batches = [
        batch for _ in range(8) for batch in trainer.objective.draw(trainer.sampler.draw(2, source), source, source)
    ]

    def loss(trainer):
        with torch.no_grad():
            return float(torch.stack([trainer.objective(trainer.network, batch).total for batch in batches]).mean())

    before = loss(trainer)
    trainer.run(lambda _: None, lambda: False)
    learned = loss(trainer)
    assert learned < 0.95 * before
    for bits in BIT_WIDTHS:
        save_compact_state(trainer, tmp_path, bits)
        again = make("run.seed=3")
        load_state(again, tmp_path)
        assert abs(loss(again) - learned) < 0.1 * (before - learned), bits


def test_the_bits_follow_the_budget(make, tmp_path):
    trainer = make("model.network.inner_channel=32", "model.network.norm_groups=4")
    found = set()
    for budget in range(200_000, 12_000_000, 200_000):
        try:
            bits = choose_bit_widths(trainer, budget)
        except UsageError as error:
            assert "budget" in error.message and not found
            continue
        if bits not in found:
            found.add(bits)
            save_compact_state(trainer, tmp_path, bits)
            assert size_of(tmp_path) <= budget
    assert found == set(BIT_WIDTHS)


def test_pieces_that_do_not_belong_together_are_refused(make, tmp_path):
    trainer = make()
    save_compact_state(trainer, tmp_path, (8, 8), max_file=20_000)
    some = tmp_path / f"compact.{json.loads((tmp_path / 'compact.json').read_text())['pieces'] - 2:04}"
    old = some.read_bytes()
    trainer.step()
    save_compact_state(trainer, tmp_path, (8, 8), max_file=20_000)
    new = some.read_bytes()
    assert old != new and len(old) == len(new)
    some.write_bytes(old)
    with pytest.raises(CheckpointError, match="belong together"):
        load_state(make(), tmp_path)
    some.unlink()
    with pytest.raises(CheckpointError):
        load_state(make(), tmp_path)
    some.write_bytes(new)
    load_state(make(), tmp_path)
    (tmp_path / "compact.json").unlink()  # as while they are written
    assert not has_state(tmp_path)


def test_a_state_of_another_device_goes_on_with_other_crops(make, tmp_path, monkeypatch):
    trainer = make()
    trainer.step()
    own = [trainer.generator.get_state(), torch.zeros(16, dtype=torch.uint8), torch.zeros(16, dtype=torch.uint8)]
    monkeypatch.setattr("bidiffsr_cli.training.state._generators", lambda _: [own])  # as a CUDA device has them
    save_state(trainer, tmp_path)
    again = make()
    assert load_state(again, tmp_path) is False and again.progress.since_iteration == 0
    assert not torch.equal(again.generator.get_state(), make().generator.get_state())


def test_damaged_states_are_refused(make, tmp_path, monkeypatch):
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
    weight = weights_of(trainer)["stem.weight"]
    with torch.no_grad():
        trainer.network.stem.weight[0, 0, 0, 0] = float("inf")
    monkeypatch.setattr(Trainer, "check_finite", lambda _: None)
    save_state(trainer, tmp_path)
    with pytest.raises(CheckpointError, match=r"stem\.weight"):
        load_state(make(), tmp_path)
    path.write_bytes(data)
    with pytest.raises(CheckpointError):
        load_state(make("model.network.inner_channel=8"), tmp_path)
    tensors = {"weights/stem.weight": weight, "noslash": weight}
    for header in ({}, {"config": "{}", "progress": "{}"}, {"config": "{}", "progress": '{"iteration": 1, "odd": 2}'}):
        metadata = {"format": "bidiffsr-training", "format_version": "1", **header}
        path.write_bytes(serialize_tensors(tensors, metadata))
        with pytest.raises(CheckpointError):
            load_state(make(), tmp_path)


def test_a_run_leaves_a_model_behind(make, folder, tmp_path):
    prepare_folder(tmp_path / "run", resume=False)
    asked = []

    def validate(checkpoint):
        asked.append(checkpoint)
        return {"2": {"1": {"psnr_y": 30.0, "lpips_alex": 0.1}}}

    outputs = Outputs(tmp_path / "run", "three photos", compact=(8, 8), max_file=10**5, validate=validate)
    stops = itertools.chain([False, True], itertools.repeat(True))
    assert train_run(make("run.save_every=0"), outputs, lambda: next(stops)) is False
    again = make("run.save_every=0")
    assert "iteration 2." in resumed(again, outputs.folder)
    with pytest.raises(UsageError):
        prepare_folder(outputs.folder, resume=False)
    assert json.loads((outputs.folder / "log.jsonl").read_text().splitlines()[-1])["scores"] == {}  # it was stopped
    assert train_run(again, outputs) is True
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
    assert equal(dict(floats.build().state_dict()), again.average()) and len(asked) == 1
    assert str(folder) not in packed.origin  # where the pictures lie is nobody's concern
    lines = [json.loads(line) for line in (outputs.folder / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["scores"]["2"]["1"]["psnr_y"] == 30.0


def test_other_weights_to_begin_with(config, sampler, make):
    weights = {name: value.clone() for name, value in make("run.seed=5").network.state_dict().items()}
    trainer = Trainer(config, sampler, CPU, weights=weights)
    assert equal(weights_of(trainer), weights) and equal(trainer.average(), weights)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Grad strides")  # DDP's own
def test_two_processes(folder, tmp_path):
    """They have the gradients of one with the joined batch, stay alike, and go on where they were stopped."""
    changes = [*TINY, f"data.pictures=['{folder}']", "run.iterations=4"]
    places = [tmp_path / alone / str(index) for alone in ("one", "two") for index in range(len(LOSSES))]
    for place in places:
        place.mkdir(parents=True)
    apart, together = places[: len(LOSSES)], places[len(LOSSES) :]
    for loss, place in zip(LOSSES, apart, strict=True):
        train(place, [*changes, *loss])
    script, environment = Path(__file__).with_name("process.py"), {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", script, tmp_path / "two", *changes]
    with subprocess.Popen(command, env=environment, cwd=tmp_path) as other:
        train_together(0, tmp_path / "two", changes)
    assert other.returncode == 0
    for loss, alone, both in zip(LOSSES, apart, together, strict=True):
        outs = alone / "out.0", both / "out.0", both / "out.1"
        one, first, second = (torch.load(out, weights_only=True) for out in outs)
        assert one["samples"] == 16 and first["samples"] == 32
        assert equal(first["gradients"], second["gradients"])
        for name, gradient in one["gradients"].items():
            difference = (gradient - first["gradients"][name]).norm() / gradient.norm()
            assert difference < 1e-3 or "dropout" in loss[0], name
        assert equal(first["straight"], second["straight"]) and not equal(first["straight"], one["straight"])
        for result in (one, first, second):
            assert equal(result["straight"], result["again"])
