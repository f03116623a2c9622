"""What both processes of `test_two_processes` do; the second one is python process.py FOLDER CHANGE..."""

import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as distributed

from bidiffsr_cli.training.batches import TrainingBatch
from bidiffsr_cli.training.config_files import changed, read_config
from bidiffsr_cli.training.crops import CropSampler
from bidiffsr_cli.training.dataset import open_dataset
from bidiffsr_cli.training.state import load_state, save_state
from bidiffsr_cli.training.trainer import Trainer

CPU = torch.device("cpu")
WITH_UPSAMPLER = ["model.network.upsampler={channels=4, blocks={2=1, 4=1}}", "model.diffusion.first_step=mean"]
"""What makes the tiny config one with an upsampler."""
UPSAMPLING = "loss={last=0, upsampler=0.5, rollout={share=0.5}}"
LOSSES = [["loss.dropout=0.1"], ["loss.rollout={share=0.5, weave=60.0}"], [*WITH_UPSAMPLER, UPSAMPLING]]
"""Changes of the config."""


def train(folder: Path, changes: list[str]) -> None:
    """Differentiate a batch, train straight on, and stop and go on; what comes of it is in the folder's out.RANK."""
    config = read_config("fast", changes)
    together = distributed.is_initialized()
    rank, world = (distributed.get_rank(), distributed.get_world_size()) if together else (0, 1)
    pictures = open_dataset(config.data, config.model.scales, folder / f"cache{rank}")
    sampler = CropSampler(pictures, config, CPU)

    def weights(trainer):
        return {name: parameter.detach().clone() for name, parameter in trainer.network.named_parameters()}

    no_signs = changed(config, ["model.network.full_precision_levels=[0, 1]"])  # sums of another order tip some
    trainer = Trainer(no_signs, sampler, CPU)
    source = torch.Generator().manual_seed(1)
    crops = sampler.draw(2, source)
    whole = TrainingBatch(crops, torch.full((4,), 799), torch.randn(crops.hr.shape, generator=source))
    part = whole.split(world)[rank]
    trainer._differentiate([part], len(part.t))
    named = trainer.network.named_parameters()
    result = {"gradients": {name: parameter.grad for name, parameter in named if parameter.grad is not None}}

    straight = Trainer(config, sampler, CPU)
    straight.run(lambda _: None, lambda: False)
    stopped = Trainer(config, sampler, CPU)
    stopped.run(lambda _: None, lambda: rank == world - 1 and stopped.progress.iteration == 2)  # one process stops all
    assert stopped.progress.iteration == 2
    save_state(stopped, folder)
    if together:
        distributed.barrier()
    again = Trainer(config, sampler, CPU)
    assert load_state(again, folder)
    again.run(lambda _: None, lambda: False)
    result |= {"straight": weights(straight), "again": weights(again), "samples": again.progress.samples}
    torch.save(result, folder / f"out.{rank}")


def train_together(rank: int, folder: Path, changes: list[str]) -> None:
    """Train in two processes with each of the losses, in a folder by its number."""
    meeting = f"file://{folder / 'meeting'}"
    distributed.init_process_group("gloo", meeting, timedelta(minutes=2), world_size=2, rank=rank)
    try:
        for index, loss in enumerate(LOSSES):
            train(folder / str(index), [*changes, *loss])
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    train_together(1, Path(sys.argv[1]), sys.argv[2:])
