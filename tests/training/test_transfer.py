"""A training step on a device that computes nothing, torch's meta device: little is sent there, and nobody waits."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bidiffsr_cli.evaluation.metrics import LPIPS
from bidiffsr_cli.networks.unet import UNet
from bidiffsr_cli.training import crops
from bidiffsr_cli.training.config_files import changed
from bidiffsr_cli.training.crops import CropSampler
from bidiffsr_cli.training.objective import Objective

META = torch.device("meta")
"""Asking for a value there is an error; on a GPU it would wait."""
BATCH = 16


class Watch(TorchDispatchMode):
    """Counts the bytes that are sent, and refuses to compute with tensors of both devices."""

    sent = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        devices = {value.device for value in tree_leaves(args) if isinstance(value, torch.Tensor) and value.dim()}
        if function is torch.ops.aten._to_copy.default and devices != {result.device}:
            self.sent += result.nbytes
        else:
            assert len(devices) < 2, f"{function} on {devices}"
        return result


ROLLOUT = "{rollout={share=1.0, lpips=1.0, comb=1.0, cross=1.0, weave=1.0}}"


@pytest.mark.parametrize("loss", ["{lpips=1.0}", pytest.param(ROLLOUT, marks=pytest.mark.slow)])
def test_a_step_sends_few_numbers_and_waits_for_none(config, pictures, monkeypatch, loss):
    monkeypatch.setattr(crops, "device_free_memory", lambda _: 10**12)
    gains = ["model.diffusion.noise_by_detail=0.03", "model.diffusion.residual_by_detail=0.002"]
    config = changed(config, [*gains, f"data.batch={BATCH}", "data.crop=64", "data.plain=0.5", f"loss={loss}"])
    with META:
        network, perceptual = UNet(config.model.network, config.model.condition_channels), LPIPS()
    sampler = CropSampler(pictures, config, META)
    objective = Objective(config.model, config.loss, META, perceptual.to(META))
    generator, sent = torch.Generator().manual_seed(0), []
    for _ in range(4):
        with Watch() as watch:
            for batch in objective.draw(sampler.draw(2, generator), generator, None):
                objective(network, batch).total.backward()
        sent.append(watch.sent)
    assert 0 < max(sent[1:]) < 300 * BATCH, sent  # the first step also sends what stays there
