"""What `test_two_processes` runs, alone and under torchrun: OUT, then changes of the config."""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as distributed

from bidiffsr_cli.training.batches import TrainingBatch
from bidiffsr_cli.training.config_files import read_config
from bidiffsr_cli.training.crops import CropSampler
from bidiffsr_cli.training.dataset import open_dataset
from bidiffsr_cli.training.state import load_state, save_state
from bidiffsr_cli.training.trainer import Trainer

CPU = torch.device("cpu")
out, changes = Path(sys.argv[1]), sys.argv[2:]
world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
torch.set_num_threads(1)
if world > 1:
    distributed.init_process_group("gloo")
config = read_config("fast", changes)
pictures = open_dataset(config.data, config.model.scales, out.parent / f"cache{rank}")
sampler = CropSampler(pictures, config, CPU)


def weights(trainer):
    return {name: parameter.detach().clone() for name, parameter in trainer.network.named_parameters()}


trainer = Trainer(config, sampler, CPU)
source = torch.Generator().manual_seed(1)
crops = sampler.draw(2, source)
whole = TrainingBatch(crops, torch.full((4,), 799), torch.randn(crops.hr.shape, generator=source))
part = whole.split(world)[rank]
trainer._differentiate([part], len(part.t))
result = {"gradients": {name: parameter.grad for name, parameter in trainer.network.named_parameters()}}

straight = Trainer(config, sampler, CPU)
straight.run(lambda _: None, lambda: False)
stopped = Trainer(config, sampler, CPU)
stopped.run(lambda _: None, lambda: rank == world - 1 and stopped.progress.iteration == 2)  # one process stops all
assert stopped.progress.iteration == 2
save_state(stopped, out.parent)
if world > 1:
    distributed.barrier()
again = Trainer(config, sampler, CPU)
assert load_state(again, out.parent)
again.run(lambda _: None, lambda: False)
result |= {"straight": weights(straight), "again": weights(again), "samples": again.progress.samples}
torch.save(result, f"{out}.{rank}")
if world > 1:
    distributed.barrier()
    distributed.destroy_process_group()
