"""Fixtures of the training's tests: a few real tiles, and a network that takes milliseconds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from bidiffsr_cli.training.config import TrainConfig
from bidiffsr_cli.training.config_files import read_config
from bidiffsr_cli.training.crops import CropSampler
from bidiffsr_cli.training.dataset import Dataset, open_dataset

CPU = torch.device("cpu")
PICTURES = Path(__file__).parent.parent / "pictures"
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
    "loss.rollout.share=0.0",
    "data.plain=0.0",
    "data.synthetic={}",
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three photos, small enough to be decoded at once."""
    folder = tmp_path_factory.mktemp("photos")
    for name in ("houses", "lighthouse", "parrot"):
        Image.open(PICTURES / f"{name}.png").convert("RGB").crop((0, 0, 120, 96)).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="session")
def config(folder: Path) -> TrainConfig:
    return read_config("fast", [*TINY, f"data.pictures=['{folder}']"])


@pytest.fixture(scope="session")
def pictures(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(config.data, config.model.scales, tmp_path_factory.mktemp("cache"))


@pytest.fixture
def sampler(pictures: Dataset, config: TrainConfig) -> CropSampler:
    return CropSampler(pictures, config, CPU)
