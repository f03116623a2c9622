"""What the training's tests share with those of the commands: a network that takes milliseconds, and its weights."""

from __future__ import annotations

import torch
from torch import Tensor

from bidiffsr_cli.training.trainer import Trainer

CPU = torch.device("cpu")
TINY = [
    "model.network.inner_channel=4",
    "model.network.channel_mults=[1, 2]",
    "model.network.full_precision_levels=[0]",
    "model.network.full_precision_blocks=[]",
    "model.network.res_blocks=1",
    "model.network.norm_groups=1",
    "model.tile={size=64,overlap=8}",
    "data.crop=32",
    "data.batch=4",
    "run.iterations=6",
    "run.seconds=null",
    "run.log_every=2",
    "run.precision=fp32",
    "optimizer.warmup=2",
    "loss.lpips=0.0",
    "model.diffusion.noise_by_detail=null",
    "model.diffusion.residual_by_detail=null",
    "model.network.upsampler=null",
    "model.diffusion.first_step=network",
    "loss.upsampler=0.0",
    "loss.last=0.3",
    "loss.grid=0.55",
    "loss.rollout.share=0.0",
    "data.plain=0.0",
    "data.synthetic={}",
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def weights_of(trainer: Trainer) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in trainer.network.named_parameters()}


def equal(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
