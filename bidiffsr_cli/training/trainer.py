"""The training loop: draw a batch, predict, update, average; and log lines about it.

    trainer = Trainer(config, sampler, device)
    trainer.run(on_log, stop, callbacks)

The learning rate follows the part of the run that is done, in iterations or in seconds, so that a run always ends with
a small one. With iterations alone, a run that was stopped and resumed takes exactly the steps of one that was not.

On a CPU every thread computes its part of the batch, and later updates its shard of the parameters, with one of torch's
threads: the many small operations of a step gain little from more, and nothing spins.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as distributed
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from ..diffusion.upsampling import upsampling_margin
from ..errors import BidiffsrError, UsageError
from ..networks.binary_conv import BatchNorm, anneal, measuring
from ..networks.blocks import ResBlock
from ..networks.latent_conv import latent_names
from ..networks.unet import UNet
from ..runtime import multiplies_bfloat16
from .batches import Batch, TrainingBatch, UpsamplerBatch
from .config import TrainConfig
from .crops import CropSampler
from .initial import load_weights
from .meter import Meter
from .objective import Loss, Objective, PerceptualDistance
from .processes import largest
from .progress import Callback, TrainingProgress
from .shards import ParameterShard, shard_parameters
from .upsamplers import InThreads, average_gradients, turn

BATCHES_TO_MEASURE = 16
"""Batches on which the statistics of BatchNorm are measured."""
CROPS_OF_BATCH_NORM = 16
"""Crops that BatchNorm sees together, of a larger batch: whatever the number of threads, the training is the same."""
Item = TypeVar("Item")
Result = TypeVar("Result")
AnyBatch = TypeVar("AnyBatch", bound=Batch)


class Trainer:
    """A network in training.

    Args:
        config: of the run.
        sampler: draws the crops.
        device: where the network is.
        perceptual: LPIPS on that device, if the config gives it a weight.
        weights: initial ones, by the names of UNet.
        threads: of a CPU. Results depend on their number in the last bits, as sums of gradients do.

    Attributes:
        network: what is trained, float32.
        progress: how far the run is.
        shards: the parameters with their optimizers, one shard for each thread.
        meter: the means for the log.
    """

    def __init__(
        self,
        config: TrainConfig,
        sampler: CropSampler,
        device: torch.device,
        perceptual: PerceptualDistance | None = None,
        weights: dict[str, Tensor] | None = None,
        threads: int = 1,
    ) -> None:
        self.config, self.sampler, self.device, self.threads = config, sampler, device, threads
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.run.seed)
            network = UNet(config.model.network, config.model.condition_channels)
        load_weights(network, weights or {})
        for block in network.modules():
            if isinstance(block, ResBlock):
                block.dropout = config.loss.dropout
        self.network = network.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.normalizes_batches = any(isinstance(module, BatchNorm) for module in self.network.modules())
        self.objective = Objective(config.trained_model, config.loss, device, perceptual)
        self.shards = shard_parameters(self.network, threads, config.optimizer)
        parallel = distributed.is_initialized()
        self.rank, self.world = (distributed.get_rank(), distributed.get_world_size()) if parallel else (0, 1)
        self.generator, self.noise_generator = torch.Generator(), torch.Generator(device)
        self.seed(0)
        precision = config.run.precision
        self.bf16 = precision == "bf16" or (precision == "auto" and multiplies_bfloat16(device))
        if device.type == "cuda" and not self.bf16:
            torch.backends.cudnn.allow_tf32 = False  # as it is when the model is validated
        self.progress = TrainingProgress()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="train") if threads > 1 else None
        self._forward: Any = self.network
        if config.run.compile:
            torch.compiler.config.dynamic_sources = "L['step']"  # else the first step would be compiled for itself
            self._forward = torch.compile(self.network)
        if self.world > 1:
            self.network.upsamplers.requires_grad_(False)  # they are no part of the forward pass
            self._forward = DistributedDataParallel(self._forward)
            self.network.upsamplers.requires_grad_(True)
        named = dict(self.network.named_parameters())
        self.meter = Meter({name: named[name] for name in latent_names(self.network)})

    def seed(self, leg: int) -> None:
        """Seed all generators, differently in each process; `leg` tells the parts of an interrupted run apart."""
        seed = self.config.run.seed * 1000 + self.rank + leg * 1_000_003
        self.generator.manual_seed(seed)
        self.noise_generator.manual_seed(seed)
        if self.config.loss.dropout:
            torch.manual_seed(seed)  # dropout takes no generator

    def part_done(self) -> float:
        """The part of the schedule that is done, 0 to 1."""
        progress, run = self.progress, self.config.run
        parts = [
            (progress.iteration - progress.since_iteration) / run.iterations if run.iterations else 0.0,
            (progress.seconds - progress.since_seconds) / run.seconds if run.seconds else 0.0,
        ]
        return min(1.0, max(parts))

    def learning_rate(self) -> float:
        """The next iteration's: it grows over `warmup`, stays, and falls linearly over the last `decay` of the run."""
        optimizer, age = self.config.optimizer, self.progress.iteration - self.progress.since_iteration
        growing = min(1.0, (age + 1) / max(1, optimizer.warmup))
        falling = min(1.0, (1 - self.part_done()) / optimizer.decay) if optimizer.decay else 1.0
        return optimizer.lr * growing * falling

    def step(self) -> None:
        """One iteration."""
        anneal(self.network, self.part_done())
        scale = turn(self.config.loss.upsampler, self.config.model.scales, self.progress.iteration)
        batches = self._draw(self.generator, self.noise_generator) if scale is None else self._draw_pairs(scale)
        parts = [part for batch in batches for part in self._split(batch)]
        count = sum(batch.count for batch in batches)
        losses = self._differentiate(parts, count)
        if scale is not None and self.world > 1:
            average_gradients(self.network.upsamplers[str(scale)])
        norm = torch.stack(list(self._map(ParameterShard.square_norm, self.shards))).sum().sqrt()
        self.meter.add(losses, norm)
        clip, iteration = self.config.optimizer.clip, self.progress.iteration + 1
        age = iteration - self.progress.since_iteration
        factor = torch.ones_like(norm) if clip is None else (clip / (norm + 1e-6)).clamp(max=1.0)
        decay = min(self.config.optimizer.ema, (1 + age) / (10 + age))
        self._map(partial(ParameterShard.update, factor=factor, lr=self.learning_rate(), decay=decay), self.shards)
        self.progress.iteration = iteration
        self.progress.samples += count * self.world

    def run(
        self, on_log: Callable[[dict[str, Any]], None], stop: Callable[[], bool], callbacks: Sequence[Callback] = ()
    ) -> None:
        """Train until the end of the run, or until `stop` returns true.

        Several processes decide together after every iteration: what is due in one is done in all.

        Args:
            on_log: called with each line of the log.
            stop: asked after every iteration.
            callbacks: what else is done between iterations; it does not count as training time.

        Raises:
            BidiffsrError: the loss is no longer finite.
        """
        since = (self.progress.iteration, self.progress.seconds)
        while self.part_done() < 1:
            began = time.perf_counter()
            self.step()
            if self.device.type == "cuda" and self.progress.iteration % 10 == 0:
                torch.cuda.synchronize(self.device)  # otherwise the clock would run ahead of the device
            seen = [time.perf_counter() - began, stop(), *(callback.due() for callback in callbacks)]
            seconds, stopping, *due = largest(seen, self.device)
            self.progress.seconds += seconds
            if self.progress.iteration % self.config.run.log_every == 0:
                on_log(self._log_line(*since))
                since = (self.progress.iteration, self.progress.seconds)
            for callback, now in zip(callbacks, due, strict=True):
                if now:
                    callback.action()
            if stopping:
                break

    def average(self) -> dict[str, Tensor]:
        """The averaged weights and what else a checkpoint holds, on the CPU, by the names of UNet."""
        averages = {
            name: mean for shard in self.shards for (name, _), mean in zip(shard.named, shard.average, strict=True)
        }
        if not self.normalizes_batches:
            return {name: averages[name].cpu().clone() for name, _ in self.network.named_parameters()}
        averaged = copy.deepcopy(self.network)
        averaged.load_state_dict(averages, strict=False)
        self._measure(averaged)
        return {name: value.cpu() for name, value in averaged.state_dict().items()}

    def check_finite(self) -> None:
        """Raise BidiffsrError if a weight is not finite: such weights must not replace a good state."""
        norms = [norm for shard in self.shards for norm in torch._foreach_norm(shard.parameters)]
        if not bool(torch.stack(norms).isfinite().all()):
            raise self._diverged()

    def _draw(self, generator: torch.Generator, noise_generator: torch.Generator) -> list[TrainingBatch]:
        """Draw crops, and the batches to train on."""
        scales = self.config.model.scales
        scale = scales[int(torch.randint(len(scales), (), generator=generator))]
        upsampler: InThreads | None = None
        if self.network.upsamplers:
            upsampler = InThreads(self.network.upsamplers[str(scale)], self._map, self.threads)
        return self.objective.draw(self.sampler.draw(scale, generator, upsampler), generator, noise_generator)

    def _draw_pairs(self, scale: int) -> list[UpsamplerBatch]:
        """Draw what an upsampler learns from."""
        upsampler: Any = self.network.upsamplers[str(scale)]
        return [UpsamplerBatch(*self.sampler.draw_pairs(scale, self.generator, upsampling_margin(upsampler)), scale)]

    def _split(self, batch: AnyBatch) -> list[AnyBatch]:
        """The parts that are computed one by one: one for each thread, or those whose statistics BatchNorm takes."""
        if not self.normalizes_batches or isinstance(batch, UpsamplerBatch):
            return batch.split(self.threads)
        values = batch.count * (self.config.data.crop // self.config.model.network.multiple_of) ** 2
        if values == 1:
            raise UsageError("BatchNorm cannot work on a single value.", "Raise data.crop or data.batch.")
        return batch.split(max(1, batch.count // CROPS_OF_BATCH_NORM))

    @torch.no_grad()
    def _measure(self, network: UNet) -> None:
        """Measure the statistics of a network's BatchNorm, on batches that are the same every time."""
        generators = torch.Generator(), torch.Generator(self.device)
        for generator in generators:
            generator.manual_seed(self.config.run.seed)
        for block in network.modules():
            if isinstance(block, ResBlock):
                block.dropout = 0.0
        with measuring(network):
            for _ in range(BATCHES_TO_MEASURE):
                for batch in self._draw(*generators):
                    for part in self._split(batch):
                        with self._precision():
                            self.objective.predict(network, part)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def _differentiate(self, parts: Sequence[Batch], count: int) -> list[Loss]:
        """Set every parameter's gradient to that of the mean loss over `count` crops."""

        def loss_of(part: Batch) -> tuple[Loss, Tensor]:
            with self._precision():
                loss = self.objective(self._forward, part, self.network.upsamplers)
            return loss, loss.total * (loss.count / count)

        if self._pool is None:
            losses = [loss_of(part) for part in parts]
            torch.stack([weighted for _, weighted in losses]).sum().backward()
            return [loss.detached() for loss, _ in losses]
        parameters = list(self.network.parameters())

        def differentiate(part: Batch) -> tuple[Loss, Sequence[Tensor | None]]:
            loss, weighted = loss_of(part)
            return loss.detached(), torch.autograd.grad(weighted, parameters, allow_unused=True)

        results = self._map(differentiate, parts)
        for parameter, *gradients in zip(parameters, *(gradients for _, gradients in results), strict=True):
            for gradient in gradients:  # in the parts' order, whichever was quicker
                if gradient is not None:
                    parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        return [loss for loss, _ in results]

    def _map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        return list(map(function, items) if self._pool is None else self._pool.map(function, items))

    def _diverged(self) -> BidiffsrError:
        return BidiffsrError(
            f"The loss is no longer finite at iteration {self.progress.iteration}.",
            "Resume with a smaller optimizer.lr, or run.precision=fp32.",
        )

    def _log_line(self, iteration: int, seconds: float) -> dict[str, Any]:
        """The line of the log on what happened since an iteration and the training time at its end."""
        means = self.meter.read()
        if not math.isfinite(means["loss"]):
            raise self._diverged()
        progress, done = self.progress, self.progress.iteration - iteration
        return {
            "iteration": progress.iteration,
            "samples": progress.samples,
            "seconds": round(progress.seconds, 3),
            "part_done": round(self.part_done(), 5),
            "lr": self.learning_rate(),
            "samples_per_second": done * self.config.data.batch * self.world / (progress.seconds - seconds),
            **means,
        }
