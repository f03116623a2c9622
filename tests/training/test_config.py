"""Training configs: presets, files, changes, and what is refused."""

import dataclasses
import json

import pytest

from bidiffsr_cli.checkpoints.models import load_checkpoint
from bidiffsr_cli.cli import train as command
from bidiffsr_cli.configs import UNetConfig
from bidiffsr_cli.diffusion.schedule import noise_levels
from bidiffsr_cli.errors import UsageError
from bidiffsr_cli.training.config import TrainConfig
from bidiffsr_cli.training.config_files import changed, presets, read_config, to_toml


def test_the_presets_are_those_of_the_help():
    assert f"Presets: {', '.join(presets())}." in command.__doc__
    assert set(presets()) == {"fast", "photo", "base", "league", "paper-x2", "paper-x4", "smoke"}


@pytest.mark.parametrize("name", presets())
def test_a_config_survives_json_and_toml(name, tmp_path):
    config = read_config(name)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    (tmp_path / "mine.toml").write_text(to_toml(config))
    assert read_config(str(tmp_path / "mine.toml")) == config


def test_fast_is_the_bundled_model():
    """What was set after training is in its card."""
    trained, bundled = read_config("fast").trained_model, load_checkpoint("fast").config
    after = {name: getattr(trained.diffusion, name) for name in ("residual_scale", "temperature", "diagonal_gain")}
    ratios = [bundled.diffusion.residual_scale[scale] / after["residual_scale"][scale] for scale in ("2", "4")]
    assert all(0.75 <= ratio < 1 for ratio in ratios)
    diffusion = dataclasses.replace(bundled.diffusion, **after)
    assert trained == dataclasses.replace(bundled, diffusion=diffusion)


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ([], (2, 4)),
        (["loss.rollout.steps=[5,2,5]"], (2, 5)),
        (["loss.rollout.steps=[3]", "model.diffusion.trained_steps=[2,4]"], (3,)),
        (["loss.rollout.share=0"], ()),
        (["model.diffusion.spacing=leading", "model.diffusion.first_step=network"], ()),
    ],
)
def test_a_model_knows_the_steps_of_its_rollouts(changes, steps):
    config = read_config("fast", changes)
    made = config.trained_model.diffusion
    assert made == dataclasses.replace(config.model.diffusion, trained_steps=steps)
    evenly = dataclasses.replace(made, trained_steps=())
    for count in config.loss.rollout.steps:  # rollouts take even steps, whatever else was said
        assert noise_levels(made, count) == noise_levels(evenly, count)


def test_the_paper_is_the_papers():
    config = read_config("paper-x4")
    assert config.model.network == UNetConfig() and config.model.diffusion.parameterization == "epsilon"
    assert (config.loss.kind, config.loss.times, config.loss.dropout) == ("l1", "uniform", 0.2)
    assert (config.optimizer.lr, config.optimizer.betas, config.optimizer.decay) == (1e-4, (0.9, 0.99), 0)
    assert (config.optimizer.clip, config.optimizer.ema, config.data.batch) == (None, 0, 16)
    assert (config.run.iterations, config.data.crop // 4) == (1_000_000, 64)


def test_a_file_changes_a_preset(tmp_path):
    (tmp_path / "mine.toml").write_text('preset = "fast"\n[optimizer]\nlr = 0.5\n')
    config = read_config(str(tmp_path / "mine.toml"), ["data.crop=128", "loss.kind=l1", "optimizer.clip=null"])
    assert (config.optimizer.lr, config.data.crop, config.loss.kind, config.optimizer.clip) == (0.5, 128, "l1", None)
    assert changed(config, ["run.seed=3"]).run.seed == 3


@pytest.mark.parametrize(
    "change",
    [
        "optimizer.lr=fast",
        "optimizer.lr=-1",
        "data.crop=65",
        "nonsense.field=1",
        "run.seed",
        "run.seed.deeper=1",
        "run.iterations=0",
        "loss.kind=huber",
        "data.low_res={3='x'}",
    ],
)
def test_a_wrong_change_is_refused(change):
    with pytest.raises(UsageError) as caught:
        read_config("fast", [change])
    assert caught.value.hint


def test_shares_of_a_whole_may_be_all_of_it():
    assert read_config("paper-x2", ["loss.last=0.8", "loss.grid=0.2"]).loss.grid == 0.2
    with pytest.raises(UsageError):
        read_config("paper-x2", ["loss.last=0.8", "loss.grid=0.21"])


def test_wrong_files_are_refused(tmp_path):
    for text in ("[data", "preset = 'none'", "preset = 'unknown'"):
        (tmp_path / "bad.toml").write_text(text)
        with pytest.raises(UsageError):
            read_config(str(tmp_path / "bad.toml"))
    with pytest.raises(UsageError, match="no preset"):
        read_config("unknown")
