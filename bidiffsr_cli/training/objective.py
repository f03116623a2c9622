"""What a network is asked at training, and how far off its answer is.

    for question in objective.ask(batch, generator, noise_generator):
        loss = objective(network, question)

Two ways to draw t: the grid of few-step samplers (recipe "ours"), and the authors' one t for each micro-batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..configs import ModelConfig
from ..diffusion.schedule import signal_and_noise
from .config import LossConfig
from .data import Batch

Network = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""(x_t, condition, t, step) -> prediction, as UNet."""
Perceptual = Callable[[Tensor, Tensor], Tensor]
"""Pictures B×3×H×W in [0, 1], originals -> B distances."""


@dataclass(frozen=True)
class Question:
    """Crops, their time steps (B, on the CPU, all in one TaR/TaA group), and noise of unit variance, B×3×H×W."""

    batch: Batch
    t: Tensor
    noise: Tensor

    def split(self, count: int) -> list[Question]:
        """The same in `count` parts, fewer where there are fewer crops."""
        size = -(-len(self.t) // count)
        return [self[first : first + size] for first in range(0, len(self.t), size)]

    def __getitem__(self, which: slice) -> Question:
        batch = self.batch
        return Question(
            Batch(batch.hr[which], batch.up[which], batch.condition[which], batch.scale),
            self.t[which],
            self.noise[which],
        )


@dataclass(frozen=True)
class Loss:
    """Of one question.

    Attributes:
        total: what is minimized.
        prediction: the part of it that the prediction is off by, detached.
        group: the segment of the time.
        count: how many crops it is the mean of.
    """

    total: Tensor
    prediction: Tensor
    group: int
    count: int

    def detached(self) -> Loss:
        """Without what it was computed from."""
        return replace(self, total=self.total.detach())


class Objective:
    """The loss of a network on a batch.

    Args:
        model: network and diffusion.
        config: of the loss.
        device: of batches.
        perceptual: LPIPS, where the config gives it a weight.
    """

    def __init__(
        self, model: ModelConfig, config: LossConfig, device: torch.device, perceptual: Perceptual | None = None
    ) -> None:
        self.diffusion, self.config, self.perceptual = model.diffusion, config, perceptual
        # a uniform t must not leave its TaR/TaA group either
        self.cells = math.lcm(config.segments, model.network.tar_groups, model.network.taa_groups)
        self.alphas, self.sigmas = (table.to(device) for table in signal_and_noise(model.diffusion))

    def ask(self, batch: Batch, generator: torch.Generator, noise_generator: torch.Generator) -> list[Question]:
        """Draw time steps (`generator` is on the CPU) and noise (`noise_generator` is on the batch's device)."""
        noise = torch.empty_like(batch.hr).normal_(generator=noise_generator)
        questions = []
        for first, t in self.draw_times(len(batch.hr), generator):
            whole = Question(batch, t.new_zeros(len(batch.hr)), noise)[first : first + len(t)]
            questions.append(Question(whole.batch, t, whole.noise))
        return questions

    def predict(self, network: Network, question: Question) -> tuple[Tensor, Tensor, Tensor]:
        """(x_t, what the network should predict, what it does predict), B×3×H×W each."""
        batch, t, noise = question.batch, question.t, question.noise
        total = self.diffusion.total_steps
        alpha, sigma = self._signal_and_noise(t)
        x0 = self.clean(batch)
        x_t = alpha * x0 + sigma * noise
        wanted = noise if self.diffusion.parameterization == "epsilon" else alpha * noise - sigma * x0
        seen = alpha * x_t if self.diffusion.input_gain == "alpha" else x_t
        cell = int(t[0]) * self.cells // total
        step = -(-total * cell // self.cells)  # says the TaR/TaA group; the first t of it, to be the same every time
        return x_t, wanted, network(seen, batch.condition, t.to(x_t.device), step).float()

    def __call__(self, network: Network, question: Question) -> Loss:
        """The loss of a network's answer."""
        batch, t = question.batch, question.t
        x_t, wanted, predicted = self.predict(network, question)
        loss = F.mse_loss(predicted, wanted) if self.config.kind == "mse" else F.l1_loss(predicted, wanted)
        detached = loss.detach()
        if self.config.lpips and self.segment(int(t[0])) < self.config.lpips_groups:
            assert self.perceptual is not None
            alpha, sigma = self._signal_and_noise(t)
            if self.diffusion.parameterization == "epsilon":
                x0_predicted = (x_t - sigma * predicted) / alpha
            else:
                x0_predicted = alpha * x_t - sigma * predicted
            distances = self.perceptual(self.picture(x0_predicted, batch), batch.hr)
            loss = loss + self.config.lpips * distances.mean()
        return Loss(loss, detached, self.segment(int(t[0])), len(t))

    def clean(self, batch: Batch) -> Tensor:
        """x_0: the picture, or the residual in units of s."""
        return (batch.hr - batch.up) / self._scale(batch) if self.diffusion.target == "residual" else batch.hr

    def picture(self, x0: Tensor, batch: Batch) -> Tensor:
        """The picture that x_0 stands for, in [0, 1]."""
        return (batch.up + self._scale(batch) * x0 if self.diffusion.target == "residual" else x0).clamp(0, 1)

    def segment(self, t: int) -> int:
        """In which of the grid's segments a time step lies."""
        return t * self.config.segments // self.diffusion.total_steps

    def draw_times(self, count: int, generator: torch.Generator) -> list[tuple[int, Tensor]]:
        """(first picture, the time steps of it and those that follow), all of one TaR/TaA group.

        Which t are drawn how often does not depend on the network.
        """
        total, segments = self.diffusion.total_steps, self.config.segments
        if self.config.times == "uniform":
            size = self.config.micro_batch
            starts = range(0, count, size)
            times = torch.randint(total, (len(starts),), generator=generator)
            return [(first, t.expand(min(size, count - first))) for first, t in zip(starts, times, strict=True)]
        kind = float(torch.rand((), generator=generator))
        if kind < self.config.last:
            return [(0, torch.full((count,), total - 1))]
        if kind < self.config.last + self.config.grid:  # the segments that do not end at T-1
            segment = int(torch.randint(max(1, segments - 1), (), generator=generator))
            return [(0, torch.full((count,), total * (segment + 1) // segments - 1))]
        cell = int(torch.randint(self.cells, (), generator=generator))
        low, high = -(-total * cell // self.cells), -(-total * (cell + 1) // self.cells)
        return [(0, torch.randint(low, high, (count,), generator=generator))]

    def _signal_and_noise(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma at t, B×1×1×1 each."""
        alpha, sigma = (table[t.to(table.device)].view(-1, 1, 1, 1) for table in (self.alphas, self.sigmas))
        return alpha, sigma

    def _scale(self, batch: Batch) -> float:
        assert self.diffusion.residual_scale is not None
        return self.diffusion.residual_scale[str(batch.scale)]
