"""Fixtures of the training's tests: a few real tiles, and a tiny run on them."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from bidiffsr_cli.training.config import TrainConfig
from bidiffsr_cli.training.config_files import read_config
from bidiffsr_cli.training.crops import CropSampler
from bidiffsr_cli.training.dataset import Dataset, open_dataset

from .support import CPU, TINY

PICTURES = Path(__file__).parent.parent / "pictures"


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
