"""What a network is asked at training, and how far off its answer is.

    for question in objective.ask(batch, generator, noise_generator):
        loss = objective(network, question)

Of a noised original it is asked at a time step drawn in one of two ways: from the grid of few-step samplers (recipe
"ours"), or the authors' one t for each micro-batch. A share of batches are rollouts, states of the sampler itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..configs import ModelConfig
from ..diffusion.samplers import parameterization, sample_ddim
from ..diffusion.schedule import NoiseLevel, noise_levels, signal_and_noise
from . import penalties
from .config import SPECTRUM, LossConfig
from .data import Batch
from .questions import Question, Rollout, View

Network = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""(x_t, condition, t, step) -> prediction, as UNet."""
Perceptual = Callable[[Tensor, Tensor], Tensor]
"""Pictures B×3×H×W in [0, 1], originals -> B distances."""


@dataclass(frozen=True)
class Loss:
    """Of one question.

    Attributes:
        total: what is minimized.
        parts: what it is the weighted sum of, by name, detached; first what the prediction is off by.
        group: what was asked: "4" is the fifth segment of the time, "2of5" the second of five steps.
        count: how many crops it is the mean of.
    """

    total: Tensor
    parts: dict[str, Tensor]
    group: str
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
        if batch.noise_gain is not None:
            noise *= batch.noise_gain
        share = self.config.rollout.share
        if share and float(torch.rand((), generator=generator)) < share:
            return [self._ask_rollout(batch, noise, generator)]
        questions = []
        for first, t in self.draw_times(len(batch.hr), generator):
            which = slice(first, first + len(t))
            questions.append(Question(batch[which], t, noise[which]))
        return questions

    def predict(self, network: Network, question: Question) -> tuple[Tensor, Tensor]:
        """(x_t, what the network predicts there), B×3×H×W each; x_t has no gradient."""
        if isinstance(question, Rollout):
            x_t = self.roll_out(network, question)
            alpha: Tensor | float = question.levels[-1].alpha
        else:
            alpha, sigma = self._signal_and_noise(question.t)
            x_t = alpha * self.clean(question.batch) + sigma * question.noise
        return x_t, self._answer(network, x_t, alpha, question.t, question.batch)

    @torch.no_grad()
    def roll_out(self, network: Network, rollout: Rollout) -> Tensor:
        """Where the sampler's steps before the last of the rollout's levels lead from its noise: B×3×H×W."""

        def predict(x: Tensor, level: NoiseLevel) -> Tensor:
            return self._answer(network, x, level.alpha, torch.full_like(rollout.t, level.t), rollout.batch)

        start, to_x0_eps = rollout.noise * self.diffusion.temperature, parameterization(self.diffusion)
        return sample_ddim(predict, start, rollout.levels, to_x0_eps, eta=0.0, noise=lambda _: rollout.noise)

    def __call__(self, network: Network, question: Question) -> Loss:
        """The loss of a network's answer."""
        x_t, predicted = self.predict(network, question)
        if isinstance(question, Rollout):
            return self._judge_rollout(question, x_t, predicted)
        return self._judge(question, x_t, predicted)

    def _judge(self, question: Question, x_t: Tensor, predicted: Tensor) -> Loss:
        """By what it predicts, and LPIPS near the clean end."""
        batch, t, config = question.batch, question.t, self.config
        alpha, sigma = self._signal_and_noise(t)
        epsilon = self.diffusion.parameterization == "epsilon"
        wanted = question.noise if epsilon else alpha * question.noise - sigma * self.clean(batch)
        total = F.mse_loss(predicted, wanted) if config.kind == "mse" else F.l1_loss(predicted, wanted)
        parts = {config.kind: total.detach()}
        if config.lpips and self.segment(int(t[0])) < config.lpips_groups:
            assert self.perceptual is not None
            x0 = (x_t - sigma * predicted) / alpha if epsilon else alpha * x_t - sigma * predicted
            distance = self.perceptual(self.picture(x0, batch), batch.hr).mean()
            total, parts["lpips"] = total + config.lpips * distance, distance.detach()
        return Loss(total, parts, str(self.segment(int(t[0]))), len(t))

    def _judge_rollout(self, rollout: Rollout, x_t: Tensor, predicted: Tensor) -> Loss:
        """By the picture that it comes to."""
        batch, config, clean = rollout.batch, self.config.rollout, self.clean(rollout.batch)
        x0, _ = parameterization(self.diffusion)(predicted, x_t, rollout.levels[-1])
        picture = self.picture(x0, batch)
        parts = {"mse": F.mse_loss(x0, clean)}
        if config.lpips:
            assert self.perceptual is not None
            parts["lpips"] = self.perceptual(rollout.view.of(picture), rollout.view.of(batch.hr)).mean()
        if config.comb or config.cross:
            top, left = rollout.window
            part = ..., slice(top, top + SPECTRUM), slice(left, left + SPECTRUM)
            powers = penalties.spectrum(picture[part]), penalties.spectrum(batch.hr[part])
            parts |= {"comb": penalties.comb(*powers), "cross": penalties.cross(*powers)}
        if config.weave:
            parts["weave"] = penalties.weave(x0 - clean, batch.hr)
        total = torch.stack([getattr(config, name) * part for name, part in parts.items()]).sum()
        parts = {name: part.detach() for name, part in parts.items()}
        return Loss(total, parts, f"{len(rollout.levels)}of{rollout.steps}", len(rollout.t))

    def _ask_rollout(self, batch: Batch, noise: Tensor, generator: torch.Generator) -> Rollout:
        """Draw the sampler's steps, which of them is asked about, and how its picture is looked at."""

        def below(count: int) -> int:
            return int(torch.randint(count, (), generator=generator))

        config, crop = self.config.rollout, batch.hr.shape[-1]
        steps = config.steps[below(len(config.steps))]
        stop = steps if config.stop == "last" else 2 + below(steps - 1)
        view = View.draw(crop, config.lpips_shift, config.lpips_zooms, config.lpips_turn, generator)
        room = max(1, crop - SPECTRUM + 1)
        window = below(room), below(room)
        levels = noise_levels(self.diffusion, steps)[:stop]
        t = torch.full((len(batch.hr),), levels[-1].t)
        group = penalties.TOGETHER if config.comb or config.cross or config.weave else 1
        return Rollout(batch, t, noise, steps, levels, view, window, group)

    def _answer(self, network: Network, x: Tensor, alpha: Tensor | float, t: Tensor, batch: Batch) -> Tensor:
        """What a network predicts of x at time steps of one TaR/TaA group."""
        seen = alpha * x if self.diffusion.input_gain == "alpha" else x
        cell = int(t[0]) * self.cells // self.diffusion.total_steps
        step = -(-self.diffusion.total_steps * cell // self.cells)  # says the group; its first t, the same every time
        return network(seen, batch.condition, t.to(x.device), step).float()

    def clean(self, batch: Batch) -> Tensor:
        """x_0: the picture, or the residual in units of s."""
        return (batch.hr - batch.up) / self._scale(batch) if self.diffusion.target == "residual" else batch.hr

    def picture(self, x0: Tensor, batch: Batch) -> Tensor:
        """The picture that x_0 stands for, in [0, 1]."""
        if self.diffusion.target == "image":
            return x0.clamp(0, 1)
        if batch.residual_gain is not None:
            x0 = x0 * batch.residual_gain
        return (batch.up + self._scale(batch) * x0).clamp(0, 1)

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
