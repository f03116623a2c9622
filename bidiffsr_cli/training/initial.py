"""Initial weights of a run: those of a model, whose magnitudes another model may provide where it has signs alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from ..checkpoints.files import Checkpoint
from ..configs import ModelConfig
from ..errors import UsageError
from ..networks.latent_conv import latent_names
from ..networks.unet import UNet, meta_network
from .config import TrainConfig


def initial_weights(config: ModelConfig, model: Checkpoint, magnitudes: Checkpoint | None = None) -> dict[str, Tensor]:
    """The weights of a model, by the names of `UNet`; without upsamplers, where the model has none.

    A packed model no longer knows how far each binary weight is from the other sign: all of a channel are equally far,
    and training has to find out anew which of them are undecided. An earlier float model's |w| tell. Every sign stays,
    and so does every channel's scale, so that the convolutions compute the same.

    Args:
        config: of the run's network.
        model: provides the weights.
        magnitudes: a float model of the same network, whose |w| the binary weights get.

    Raises:
        UsageError: a network is not the config's, `magnitudes` is packed too, or the model is not packed.
        CheckpointError: the model is packed, and its method's BatchNorm is folded for good.
    """
    weights = _weights(config, model)
    if magnitudes is None:
        return weights
    if model.storage != "packed":
        raise UsageError(f"{_name(model)} has magnitudes of its own.", "Leave --magnitudes out.")
    if magnitudes.storage == "packed":
        raise UsageError(f"{_name(magnitudes)} is packed, without magnitudes.", "Give a float model.")
    theirs = _weights(config, magnitudes)
    for name in latent_names(meta_network(config)):
        weights[name] = _scaled(weights[name], theirs[name].abs())
    return weights


def load_weights(network: UNet, weights: Mapping[str, Tensor]) -> None:
    """Load initial weights, of which those of upsamplers may be missing; of none at all the network stays as it is."""
    if weights:
        fresh = network.state_dict()
        network.load_state_dict({**weights, **{name: fresh[name] for name in _begin_anew(network, weights)}})


def check_upsampler(config: TrainConfig, weights: Mapping[str, Tensor]) -> None:
    """Refuse a run that begins with these weights and would never train its upsampler.

    Raises:
        UsageError: it has none to begin with, and no batches are the upsampler's.
    """
    if not config.loss.upsampler and _begin_anew(meta_network(config.model), weights):
        hint = "Set loss.upsampler, or begin with a model that has one."
        raise UsageError("The run would never train its upsampler.", hint)


def _begin_anew(network: UNet, weights: Mapping[str, Tensor]) -> list[str]:
    """Names of the upsamplers' weights that are not among those to begin with."""
    return [name for name in network.state_dict() if name.startswith("upsamplers.") and name not in weights]


def _weights(config: ModelConfig, checkpoint: Checkpoint) -> dict[str, Tensor]:
    theirs, upsampler = checkpoint.config, config.network.upsampler
    network = theirs.network
    if network.upsampler is None:  # which then begins anew
        network = replace(network, upsampler=upsampler)
    if (network, theirs.condition_channels) != (config.network, config.condition_channels):
        hint = "Choose another preset, or another model."
        raise UsageError(f"The network of {_name(checkpoint)} is not the config's.", hint)
    return dict(checkpoint.build().state_dict())


def _name(checkpoint: Checkpoint) -> str:
    return checkpoint.name or "the model"


def _scaled(weight: Tensor, magnitude: Tensor) -> Tensor:
    """Magnitudes with the weight's signs, and for each output channel the weight's mean of |w|."""
    mean = magnitude.mean((1, 2, 3), keepdim=True)
    magnitude = magnitude.clamp(min=1e-3 * mean).clamp(min=1e-12)  # otherwise a zero would lose its sign
    scale = weight.abs().mean((1, 2, 3), keepdim=True) / magnitude.mean((1, 2, 3), keepdim=True)
    return (magnitude * scale).where(weight >= 0, -magnitude * scale)
