"""`pack`: as few bits as the pictures bear."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bidiffsr_cli.checkpoints.files import Checkpoint, serialize_float
from bidiffsr_cli.checkpoints.header import read_header
from bidiffsr_cli.configs import DiffusionConfig, ModelConfig, UNetConfig, UpsamplerConfig
from bidiffsr_cli.networks.unet import meta_network
from bidiffsr_cli.tasks import pack

NETWORK = UNetConfig(inner_channel=16, norm_groups=4, channel_mults=(1, 2), res_blocks=1)
RESIDUAL = DiffusionConfig(
    parameterization="v",
    target="residual",
    schedule="angle",
    input_gain="alpha",
    residual_scale={"2": 0.04},
    spacing="trailing",
    clip=None,
)


@pytest.mark.parametrize(
    ("diffusion", "upsampler", "of_tar"),
    [(RESIDUAL, UpsamplerConfig({"2": 1}, channels=8), "F16"), (DiffusionConfig(), None, "F32")],
    ids=["residual", "image"],
)
def test_what_is_predicted_counts_as_it_does_in_a_picture(diffusion, upsampler, of_tar, tmp_path: Path) -> None:
    config = ModelConfig(replace(NETWORK, upsampler=upsampler), diffusion, (2,))
    torch.manual_seed(1)
    state = {name: 0.1 * torch.randn(tensor.shape) for name, tensor in meta_network(config).state_dict().items()}
    (tmp_path / "float").write_bytes(serialize_float(Checkpoint.of_tensors(config, state, "CC0-1.0", "random")))
    packed = pack.pack(tmp_path / "float", tmp_path / "packed")
    types = {name: entry.dtype for name, entry in read_header(packed.output).entries.items()}
    assert {kind for name, kind in types.items() if ".tar." in name} == {of_tar}
    assert packed.snr >= (50 if upsampler else 45)
    assert types.get("upsamplers.2.head.weight", "I8") == "I8"
