"""The loop: draw, predict, step, average; and what it says about itself.

    trainer = Trainer(config, sampler, device)
    trainer.run(on_log, stop, breaks)

The learning rate follows the part of the run that is over, in iterations or in seconds, so that a run always ends with
a small one. With iterations alone, a run that was stopped and resumed takes exactly the steps of one that was not.

On a CPU every thread computes its share of the batch, and later its share of the weights, with one of torch's threads:
the many small operations of a step gain little from more, and nothing spins.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import BidiffsrError, UsageError
from ..networks.binary_conv import BatchNorm, anneal, measuring
from ..networks.blocks import ResBlock
from ..networks.latent_conv import latent_names
from ..networks.unet import UNet
from ..runtime import multiplies_bfloat16
from .config import TrainConfig
from .data import CropSampler
from .objective import Loss, Objective, Perceptual
from .questions import Question

MEASURED = 16
"""Batches on which the statistics of BatchNorm are measured."""
CROPS_OF_BATCH_NORM = 16
"""Crops that BatchNorm sees together, of a larger batch: whatever the number of threads, the training is the same."""
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        iteration: steps taken.
        samples: crops seen, by all processes together.
        seconds: of training, without interruptions and validations.
        since_iteration, since_seconds: where the schedule began, anew where a run goes on from a compact state.
    """

    iteration: int = 0
    samples: int = 0
    seconds: float = 0.0
    since_iteration: int = 0
    since_seconds: float = 0.0


@dataclass(frozen=True)
class Break:
    """Something that is done between iterations, whenever it is due."""

    due: Callable[[], bool]
    action: Callable[[], None]


class Share:
    """Some of a network's parameters, which one thread updates: gradients, Adam, moving average."""

    def __init__(self, named: Sequence[tuple[str, nn.Parameter]], latent: set[str], config: TrainConfig) -> None:
        self.config = config.optimizer
        self.named = list(named)
        self.parameters: list[Tensor] = [parameter for _, parameter in named]
        self.average = [parameter.detach().clone() for parameter in self.parameters]
        of_latents = [parameter for name, parameter in named if name in latent]
        others = [parameter for name, parameter in named if name not in latent]
        groups = [
            {"params": of_latents, "factor": self.config.latent_lr},
            {"params": others, "factor": 1.0},
        ]
        groups = [group for group in groups if group["params"]]
        self.optimizer = torch.optim.Adam(groups, lr=self.config.lr, betas=self.config.betas, fused=True)

    def square_norm(self) -> Tensor:
        """Of the gradient."""
        norms = torch._foreach_norm([p.grad for p in self.parameters if p.grad is not None])
        return torch.stack(list(norms)).square().sum()

    @torch.no_grad()
    def update(self, factor: Tensor, lr: float, decay: float) -> None:
        """One step of Adam on the gradient times `factor`, and of the average."""
        torch._foreach_mul_([p.grad for p in self.parameters if p.grad is not None], factor)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["factor"]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        torch._foreach_lerp_(self.average, self.parameters, 1 - decay)


class Trainer:
    """A network in training.

    Args:
        config: of the run.
        sampler: draws the batches.
        device: where the network is.
        perceptual: LPIPS on that device, if the config gives it a weight.
        weights: to start from; names as of UNet.
        threads: of a CPU. Results depend on their number in the last bits, as sums of gradients do.

    Attributes:
        network: what is trained, float32.
        progress: how far the run is.
    """

    def __init__(
        self,
        config: TrainConfig,
        sampler: CropSampler,
        device: torch.device,
        perceptual: Perceptual | None = None,
        weights: dict[str, Tensor] | None = None,
        threads: int = 1,
    ) -> None:
        self.config, self.sampler, self.device, self.threads = config, sampler, device, threads
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.run.seed)
            network = UNet(config.model.network, config.model.condition_channels)
        if weights is not None:
            network.load_state_dict(weights)
        for block in network.modules():
            if isinstance(block, ResBlock):
                block.dropout = config.loss.dropout
        self.network = network.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.normalizes_batches = any(isinstance(module, BatchNorm) for module in self.network.modules())
        self.objective = Objective(config.model, config.loss, device, perceptual)
        self.shares = self._share_out()
        parallel = distributed.is_initialized()
        self.rank, self.world = (distributed.get_rank(), distributed.get_world_size()) if parallel else (0, 1)
        self.generator, self.noise_generator = torch.Generator(), torch.Generator(device)
        self.seed(0)
        precision = config.run.precision
        self.bf16 = precision == "bf16" or (precision == "auto" and multiplies_bfloat16(device))
        if device.type == "cuda" and not self.bf16:
            torch.backends.cudnn.allow_tf32 = False  # as it is when the model is validated
        self.progress = Progress()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="train") if threads > 1 else None
        self._forward: Any = torch.compile(self.network) if config.run.compile else self.network
        if self.world > 1:
            self._forward = DistributedDataParallel(self._forward)
        self._losses: list[Loss]
        self._norms: list[Tensor]
        self._signs: dict[str, Tensor]
        self.forget_figures()

    def seed(self, leg: int) -> None:
        """Set all generators, each process's to its own; `leg` tells the parts of an interrupted run apart."""
        seed = self.config.run.seed * 1000 + self.rank + leg * 1_000_003
        self.generator.manual_seed(seed)
        self.noise_generator.manual_seed(seed)
        if self.config.loss.dropout:
            torch.manual_seed(seed)  # there is no generator to give to it

    def part_done(self) -> float:
        """The part of the schedule that is over, 0 to 1."""
        run, progress = self.config.run, self.progress
        parts = [
            (progress.iteration - progress.since_iteration) / run.iterations if run.iterations else 0.0,
            (progress.seconds - progress.since_seconds) / run.seconds if run.seconds else 0.0,
        ]
        return min(1.0, max(parts))

    def learning_rate(self) -> float:
        """Of the next step: grows over `warmup`, stays, falls linearly over the last `decay` of the run."""
        config = self.config.optimizer
        growing = min(1.0, (self.progress.iteration - self.progress.since_iteration + 1) / max(1, config.warmup))
        falling = min(1.0, (1 - self.part_done()) / config.decay) if config.decay else 1.0
        return config.lr * growing * falling

    def step(self) -> None:
        """One iteration."""
        anneal(self.network, self.part_done())
        questions = self._ask(self.generator, self.noise_generator)
        pieces = [piece for question in questions for piece in self._split(question)]
        count = sum(len(question.t) for question in questions)
        self._losses += self._differentiate(pieces, count)
        norm = torch.stack(list(self._map(Share.square_norm, self.shares))).sum().sqrt()
        self._norms.append(norm)
        clip, iteration = self.config.optimizer.clip, self.progress.iteration + 1
        age = iteration - self.progress.since_iteration
        factor = torch.ones_like(norm) if clip is None else (clip / (norm + 1e-6)).clamp(max=1.0)
        decay = min(self.config.optimizer.ema, (1 + age) / (10 + age))
        self._map(partial(Share.update, factor=factor, lr=self.learning_rate(), decay=decay), self.shares)
        self.progress.iteration = iteration
        self.progress.samples += count * self.world

    def run(
        self, on_log: Callable[[dict[str, Any]], None], stop: Callable[[], bool], breaks: Sequence[Break] = ()
    ) -> None:
        """Train until the end of the run, or until `stop`.

        Several processes take all decisions together after every iteration: what one wants, all do.

        Args:
            on_log: is given the figures of the last iterations.
            stop: whether to stop now.
            breaks: what else is done now and then, while training time stands still.

        Raises:
            BidiffsrError: the loss is no longer finite.
        """
        since = (self.progress.iteration, self.progress.seconds)
        while self.part_done() < 1:
            began = time.perf_counter()
            self.step()
            if self.device.type == "cuda" and self.progress.iteration % 10 == 0:
                torch.cuda.synchronize(self.device)  # else the clock would run ahead of the device
            seconds = time.perf_counter() - began
            seconds, stopping, *due = self._largest([seconds, stop(), *(pause.due() for pause in breaks)])
            self.progress.seconds += seconds
            if self.progress.iteration % self.config.run.log_every == 0:
                on_log(self._figures(*since))
                since = (self.progress.iteration, self.progress.seconds)
            for pause, now in zip(breaks, due, strict=True):
                if now:
                    pause.action()
            if stopping:
                break

    def average(self) -> dict[str, Tensor]:
        """The averaged weights and what else a checkpoint holds, on the CPU, with the names of UNet."""
        averages = {
            name: mean for share in self.shares for (name, _), mean in zip(share.named, share.average, strict=True)
        }
        if not self.normalizes_batches:
            return {name: averages[name].cpu().clone() for name, _ in self.network.named_parameters()}
        averaged = copy.deepcopy(self.network)
        averaged.load_state_dict(averages, strict=False)
        self._measure(averaged)
        return {name: value.cpu() for name, value in averaged.state_dict().items()}

    def latent_names(self) -> list[str]:
        """Names of the binary convolutions' weights."""
        return latent_names(self.network)

    def forget_figures(self) -> None:
        """Begin the figures of the log anew."""
        self._losses, self._norms, self._signs = [], [], self._current_signs()

    def _ask(self, generator: torch.Generator, noise_generator: torch.Generator) -> list[Question]:
        """Draw a batch, and what is asked about it."""
        scales = self.config.model.scales
        scale = scales[int(torch.randint(len(scales), (), generator=generator))]
        return self.objective.ask(self.sampler.draw(scale, generator), generator, noise_generator)

    def _split(self, question: Question) -> list[Question]:
        """The pieces that are computed one by one: one for each thread, or those whose statistics BatchNorm takes."""
        if not self.normalizes_batches:
            return question.split(self.threads)
        values = len(question.t) * (self.config.data.crop // self.config.model.network.multiple_of) ** 2
        if values == 1:
            raise UsageError("BatchNorm cannot work on a single value.", "Raise data.crop or data.batch.")
        return question.split(max(1, len(question.t) // CROPS_OF_BATCH_NORM))

    @torch.no_grad()
    def _measure(self, network: UNet) -> None:
        """The statistics of a network's BatchNorm, on batches that are the same every time."""
        generators = torch.Generator(), torch.Generator(self.device)
        for generator in generators:
            generator.manual_seed(self.config.run.seed)
        for block in network.modules():
            if isinstance(block, ResBlock):
                block.dropout = 0.0
        with measuring(network):
            for _ in range(MEASURED):
                for question in self._ask(*generators):
                    for piece in self._split(question):
                        with self._precision():
                            self.objective.predict(network, piece)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def _differentiate(self, pieces: Sequence[Question], count: int) -> list[Loss]:
        """Set every parameter's gradient to that of the mean loss over `count` crops."""

        def loss_of(piece: Question) -> tuple[Loss, Tensor]:
            with self._precision():
                loss = self.objective(self._forward, piece)
            return loss, loss.total * (loss.count / count)

        if self._pool is None:
            losses = [loss_of(piece) for piece in pieces]
            torch.stack([weighted for _, weighted in losses]).sum().backward()
            return [loss.detached() for loss, _ in losses]
        parameters = list(self.network.parameters())

        def differentiate(piece: Question) -> tuple[Loss, Sequence[Tensor | None]]:
            loss, weighted = loss_of(piece)
            return loss.detached(), torch.autograd.grad(weighted, parameters, allow_unused=True)

        results = self._map(differentiate, pieces)
        for parameter, *gradients in zip(parameters, *(gradients for _, gradients in results), strict=True):
            for gradient in gradients:  # in the pieces' order, whichever was quicker
                if gradient is not None:
                    parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        return [loss for loss, _ in results]

    def _map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        return list(map(function, items) if self._pool is None else self._pool.map(function, items))

    def _share_out(self) -> list[Share]:
        """The parameters in as many shares as there are threads, of about the same size."""
        latent = set(self.latent_names())
        named: list[list[tuple[str, nn.Parameter]]] = [[] for _ in range(self.threads)]
        sizes = [0] * self.threads
        for name, parameter in sorted(self.network.named_parameters(), key=lambda item: -item[1].numel()):
            least = sizes.index(min(sizes))
            named[least].append((name, parameter))
            sizes[least] += parameter.numel()
        return [Share(part, latent, self.config) for part in named]

    def check_finite(self) -> None:
        """Raise BidiffsrError if a weight is not finite: such weights replace no sound ones."""
        norms = [norm for share in self.shares for norm in torch._foreach_norm(share.parameters)]
        if not bool(torch.stack(norms).isfinite().all()):
            raise self._diverged()

    def _diverged(self) -> BidiffsrError:
        return BidiffsrError(
            f"The loss is no longer finite at iteration {self.progress.iteration}.",
            "Resume with a smaller optimizer.lr, or run.precision=fp32.",
        )

    def _largest(self, values: list[float]) -> list[float]:
        """Of each value the largest of all processes, the same number in all of them."""
        if self.world == 1:
            return values
        # not every device has float64
        tensor = torch.tensor(values, dtype=torch.float32, device=self.device)
        distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
        return tensor.tolist()

    def _figures(self, iteration: int, seconds: float) -> dict[str, Any]:
        """What happened since an iteration, for the log."""
        losses, norms, before = self._losses, self._norms, self._signs
        self.forget_figures()
        by_group: dict[str, dict[str, list[tuple[int, float]]]] = {}
        for loss in losses:
            for name, part in loss.parts.items():
                by_group.setdefault(loss.group, {}).setdefault(name, []).append((loss.count, float(part)))
        total = mean((loss.count, float(loss.total)) for loss in losses)
        if not math.isfinite(total):
            raise self._diverged()
        done, signs = self.progress.iteration - iteration, self._signs
        flips = {name: float((sign != before[name]).float().mean()) / done for name, sign in signs.items()}
        return {
            "iteration": self.progress.iteration,
            "samples": self.progress.samples,
            "seconds": round(self.progress.seconds, 3),
            "part_done": round(self.part_done(), 5),
            "lr": self.learning_rate(),
            "samples_per_second": done * self.config.data.batch * self.world / (self.progress.seconds - seconds),
            "loss": total,
            "loss_by_group": {
                group: {name: mean(values) for name, values in parts.items()}
                for group, parts in sorted(by_group.items(), key=lambda item: [int(n) for n in item[0].split("of")])
            },
            "gradient_norm": float(torch.stack(norms).mean()),
            "flip_rate": mean((signs[name].numel(), rate) for name, rate in flips.items()),
            "flip_rate_by_layer": flips,
        }

    def _current_signs(self) -> dict[str, Tensor]:
        weights = dict(self.network.named_parameters())
        return {name: weights[name].detach() >= 0 for name in self.latent_names()}


def mean(values: Iterable[tuple[int, float]]) -> float:
    """The weighted mean of (weight, value); 0 of nothing."""
    pairs = list(values)
    return sum(weight * value for weight, value in pairs) / max(1, sum(weight for weight, _ in pairs))
