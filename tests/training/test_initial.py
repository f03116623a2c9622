"""What a run begins with: a packed model's network to the last sign, and how firm the signs are from a float one."""

import dataclasses
from pathlib import Path

import pytest
import torch

from bidiffsr_cli.checkpoints.files import EXACT, Checkpoint, read_checkpoint, serialize_packed
from bidiffsr_cli.configs import UpsamplerConfig
from bidiffsr_cli.errors import UsageError
from bidiffsr_cli.networks.latent_conv import latent_names
from bidiffsr_cli.networks.unet import UNet, meta_network
from bidiffsr_cli.training.initial import initial_weights
from bidiffsr_cli.training.trainer import Trainer

from .support import CPU


def checkpoint_of(config, seed):
    torch.manual_seed(seed)
    network = UNet(config.network, config.condition_channels)
    return Checkpoint.of_tensors(config, network.state_dict(), "", "", name=f"seed {seed}")


def packed(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    path = folder / "packed.safetensors"
    path.write_bytes(serialize_packed(checkpoint, EXACT))
    return read_checkpoint(path)


def test_signs_of_one_and_magnitudes_of_the_other(config, tmp_path):
    later, earlier = packed(checkpoint_of(config.model, 1), tmp_path), checkpoint_of(config.model, 2)
    names = latent_names(meta_network(config.model))
    earlier.state[names[0]][0, 0] = 0.0  # even a magnitude of nothing keeps its sign
    plain = initial_weights(config.model, later)
    weights = initial_weights(config.model, later, earlier)
    assert weights.keys() == plain.keys() and names
    for name, weight in weights.items():
        if name not in names:
            assert torch.equal(weight, plain[name])
            continue
        assert torch.equal(weight >= 0, plain[name] >= 0)
        torch.testing.assert_close(weight.abs().mean((1, 2, 3)), plain[name].abs().mean((1, 2, 3)))
        assert len(plain[name][0].abs().unique()) == 1
        ratio = weight.abs() / earlier.state[name].abs().clamp(min=1e-9)
        spread = ratio.flatten(1).median(1).values
        typical = (ratio / spread.view(-1, 1, 1, 1) - 1).abs() < 1e-4
        assert float(typical.float().mean()) > 0.9, name


def test_the_network_is_the_same(config, tmp_path):
    later, earlier = packed(checkpoint_of(config.model, 1), tmp_path), checkpoint_of(config.model, 2)
    one, two = (UNet(config.model.network, config.model.condition_channels).eval() for _ in range(2))
    one.load_state_dict(initial_weights(config.model, later))
    two.load_state_dict(initial_weights(config.model, later, earlier))
    x, condition, t = torch.randn(1, 3, 32, 32), torch.randn(1, 6, 32, 32), torch.tensor([900])
    with torch.no_grad():
        a, b = one(x, condition, t, 900), two(x, condition, t, 900)
    assert float(((a - b).abs() > 1e-3).float().mean()) < 0.02


def test_an_upsampler_that_the_model_lacks_begins_anew(config, sampler):
    network = dataclasses.replace(config.model.network, upsampler=UpsamplerConfig({"2": 1, "4": 1}, 4))
    loss = dataclasses.replace(config.loss, upsampler=0.5)
    other = dataclasses.replace(config, model=dataclasses.replace(config.model, network=network), loss=loss)
    weights = initial_weights(other.model, checkpoint_of(config.model, 1))
    trainer = Trainer(other, sampler, CPU, weights=weights)
    found = trainer.network.state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in weights.items())
    assert {name.split(".")[0] for name in found.keys() - weights.keys()} == {"upsamplers"}
    with pytest.raises(RuntimeError, match="stem"):
        Trainer(other, sampler, CPU, weights={name: x for name, x in weights.items() if "stem" not in name})
    again = initial_weights(other.model, checkpoint_of(other.model, 2))
    assert again.keys() == found.keys()
    with pytest.raises(UsageError, match="not the config's"):
        initial_weights(config.model, checkpoint_of(other.model, 2))


def test_what_does_not_go_together_is_refused(config, tmp_path):
    one = packed(checkpoint_of(config.model, 1), tmp_path)
    with pytest.raises(UsageError, match="packed"):
        initial_weights(config.model, one, one)
    with pytest.raises(UsageError, match="magnitudes of its own"):
        initial_weights(config.model, checkpoint_of(config.model, 1), checkpoint_of(config.model, 2))
    other = dataclasses.replace(config.model, network=dataclasses.replace(config.model.network, inner_channel=8))
    with pytest.raises(UsageError, match="seed 2"):
        initial_weights(config.model, one, checkpoint_of(other, 2))
    with pytest.raises(UsageError, match="not the config's"):
        initial_weights(other, one)
