"""The training objective: draws time steps and noise for crops, and computes the loss of a network's prediction.

    for batch in objective.draw(crops, generator, noise_generator):
        loss = objective(network, batch)

Time steps of noised originals are drawn in one of two ways: from the grid of few-step samplers, or the authors' one t
for each micro-batch. A share of batches are rollouts, states of the sampler itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..configs import ModelConfig
from ..diffusion.detail import raise_diagonals
from ..diffusion.samplers import parameterization, sample_ddim
from ..diffusion.schedule import NoiseLevel, asks_network, noise_levels, signal_and_noise
from ..diffusion.upsampling import Upsampler, upsample_crops
from ..runtime import sent
from . import penalties
from .batches import Batch, Rollout, TrainingBatch, UpsamplerBatch, View
from .config import SPECTRUM, LossConfig
from .crops import Crops

Predictor = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""(x_t, condition, t, step) -> prediction, like `UNet.forward`."""
Upsamplers = Mapping[str, Upsampler]
"""Those of a network, by their scales."""
PerceptualDistance = Callable[[Tensor, Tensor], Tensor]
"""(pictures, originals), B×3×H×W in [0, 1] each -> B distances."""


@dataclass(frozen=True)
class Loss:
    """The loss on one batch.

    Attributes:
        total: what is minimized.
        parts: the terms of which it is the weighted sum, by name, detached; first the error of the prediction.
        group: the kind of batch: "4" is the fifth segment of the time, "2of5" the second of five steps, "upsampler".
        count: number of crops that it is the mean of.
    """

    total: Tensor
    parts: dict[str, Tensor]
    group: str
    count: int

    def detached(self) -> Loss:
        """The same without its graph."""
        return replace(self, total=self.total.detach())


class Objective:
    """Draws batches, and computes the loss of a network on them.

    Args:
        model: config of the network and the diffusion.
        config: of the loss.
        device: where crops are.
        perceptual: LPIPS, where the config gives it a weight.
    """

    def __init__(
        self,
        model: ModelConfig,
        config: LossConfig,
        device: torch.device,
        perceptual: PerceptualDistance | None = None,
    ) -> None:
        self.diffusion, self.config, self.perceptual = model.diffusion, config, perceptual
        # a uniform t must not leave its TaR/TaA group either
        self.cells = math.lcm(config.segments, model.network.tar_groups, model.network.taa_groups)
        self.alphas, self.sigmas = (table.to(device) for table in signal_and_noise(model.diffusion))

    def draw(self, crops: Crops, generator: torch.Generator, noise_generator: torch.Generator) -> list[TrainingBatch]:
        """Draw time steps (`generator` is on the CPU) and noise (`noise_generator` is on the crops' device)."""
        noise = torch.empty_like(crops.hr).normal_(generator=noise_generator)
        if crops.noise_gain is not None:
            noise *= crops.noise_gain
        share = self.config.rollout.share
        if share and float(torch.rand((), generator=generator)) < share:
            return [self._draw_rollout(crops, noise, generator)]
        batches = []
        for first, t in self.draw_times(len(crops.hr), generator):
            which = slice(first, first + len(t))
            batches.append(TrainingBatch(crops[which], t, noise[which]))
        return batches

    def predict(self, network: Predictor, batch: TrainingBatch) -> tuple[Tensor, Tensor]:
        """(x_t, what the network predicts from it), B×3×H×W each; x_t has no gradient."""
        if isinstance(batch, Rollout):
            x_t = self.roll_out(network, batch)
            alpha: Tensor | float = batch.levels[-1].alpha
        else:
            alpha, sigma = self._signal_and_noise(batch.t)
            x_t = alpha * self.clean(batch.crops) + sigma * batch.noise
        return x_t, self._predict(network, x_t, alpha, batch.t, batch.crops)

    @torch.no_grad()
    def roll_out(self, network: Predictor, rollout: Rollout) -> Tensor:
        """The state after all but the last of the rollout's steps, starting from its noise: B×3×H×W."""

        def predict(x: Tensor, level: NoiseLevel) -> Tensor:
            if not asks_network(self.diffusion, level):
                return torch.zeros_like(x)
            return self._predict(network, x, level.alpha, torch.full_like(rollout.t, level.t), rollout.crops)

        start, to_x0_eps = rollout.noise * self.diffusion.temperature, parameterization(self.diffusion)
        return sample_ddim(predict, start, rollout.levels, to_x0_eps, eta=0.0, noise=lambda _: rollout.noise)

    def __call__(self, network: Predictor, batch: Batch, upsamplers: Upsamplers | None = None) -> Loss:
        """The loss of a network's prediction, or of an upsampler's."""
        if isinstance(batch, UpsamplerBatch):
            assert upsamplers is not None
            return self._upsampler_loss(batch, upsamplers[str(batch.scale)])
        assert isinstance(batch, TrainingBatch)
        x_t, predicted = self.predict(network, batch)
        if isinstance(batch, Rollout):
            return self._rollout_loss(batch, x_t, predicted)
        return self._denoising_loss(batch, x_t, predicted)

    def _upsampler_loss(self, batch: UpsamplerBatch, upsampler: Upsampler) -> Loss:
        """The error of up(LR)."""
        with torch.autocast(batch.hr.device.type, enabled=False):
            error = F.l1_loss(upsample_crops(batch.small, batch.scale, self.diffusion, upsampler), batch.hr)
        return Loss(error, {"l1": error.detach()}, "upsampler", batch.count)

    def _denoising_loss(self, batch: TrainingBatch, x_t: Tensor, predicted: Tensor) -> Loss:
        """The error of the prediction, and LPIPS near the clean end."""
        crops, t, config = batch.crops, batch.t, self.config
        alpha, sigma = self._signal_and_noise(t)
        epsilon = self.diffusion.parameterization == "epsilon"
        target = batch.noise if epsilon else alpha * batch.noise - sigma * self.clean(crops)
        total = F.mse_loss(predicted, target) if config.kind == "mse" else F.l1_loss(predicted, target)
        parts = {config.kind: total.detach()}
        if config.lpips and self.segment(int(t[0])) < config.lpips_groups:
            assert self.perceptual is not None
            x0 = (x_t - sigma * predicted) / alpha if epsilon else alpha * x_t - sigma * predicted
            distance = self.perceptual(self.picture(x0, crops), crops.hr).mean()
            total, parts["lpips"] = total + config.lpips * distance, distance.detach()
        return Loss(total, parts, str(self.segment(int(t[0]))), len(t))

    def _rollout_loss(self, rollout: Rollout, x_t: Tensor, predicted: Tensor) -> Loss:
        """The errors of the picture that the prediction stands for."""
        crops, config, clean = rollout.crops, self.config.rollout, self.clean(rollout.crops)
        x0, _ = parameterization(self.diffusion)(predicted, x_t, rollout.levels[-1])
        picture = self.picture(x0, crops)
        parts = {"mse": F.mse_loss(x0, clean)}
        if config.lpips:
            assert self.perceptual is not None
            parts["lpips"] = self.perceptual(rollout.view.of(picture), rollout.view.of(crops.hr)).mean()
        if config.comb or config.cross:
            top, left = rollout.window
            part = ..., slice(top, top + SPECTRUM), slice(left, left + SPECTRUM)
            powers = penalties.spectrum(picture[part]), penalties.spectrum(crops.hr[part])
            parts |= {"comb": penalties.comb(*powers), "cross": penalties.cross(*powers)}
        if config.weave:
            parts["weave"] = penalties.weave(x0 - clean, crops.hr)
        total = torch.stack([getattr(config, name) * part for name, part in parts.items()]).sum()
        parts = {name: part.detach() for name, part in parts.items()}
        return Loss(total, parts, f"{len(rollout.levels)}of{rollout.steps}", len(rollout.t))

    def _draw_rollout(self, crops: Crops, noise: Tensor, generator: torch.Generator) -> Rollout:
        """Draw the number of steps, the one that is trained on, and the parts that LPIPS and the spectra see."""

        def below(count: int) -> int:
            return int(torch.randint(count, (), generator=generator))

        config, crop = self.config.rollout, crops.hr.shape[-1]
        steps = config.steps[below(len(config.steps))]
        stop = steps if config.stop == "last" else 2 + below(steps - 1)
        view = View.draw(crop, config.lpips_shift, config.lpips_zooms, config.lpips_turn, generator)
        room = max(1, crop - SPECTRUM + 1)
        window = below(room), below(room)
        levels = noise_levels(self.diffusion, steps)[:stop]
        t = torch.full((len(crops.hr),), levels[-1].t)
        group_size = penalties.GROUP if config.comb or config.cross or config.weave else 1
        return Rollout(crops, t, noise, steps, levels, view, window, group_size)

    def _predict(self, network: Predictor, x: Tensor, alpha: Tensor | float, t: Tensor, crops: Crops) -> Tensor:
        """What a network predicts from x at time steps of one TaR/TaA group."""
        scaled = alpha * x if self.diffusion.input_gain == "alpha" else x
        cell = int(t[0]) * self.cells // self.diffusion.total_steps
        step = -(-self.diffusion.total_steps * cell // self.cells)  # names the group: its first t, always the same one
        return network(scaled, crops.condition, sent(t, x.device), step).float()

    def clean(self, crops: Crops) -> Tensor:
        """x_0: the picture, or the residual in units of s."""
        return (crops.hr - crops.up) / self._scale(crops) if self.diffusion.target == "residual" else crops.hr

    def picture(self, x0: Tensor, crops: Crops) -> Tensor:
        """The picture that x_0 stands for, in [0, 1]."""
        if self.diffusion.target == "image":
            return x0.clamp(0, 1)
        x0 = raise_diagonals(x0, crops.scale, self.diffusion)
        if crops.residual_gain is not None:
            x0 = x0 * crops.residual_gain
        return (crops.up + self._scale(crops) * x0).clamp(0, 1)

    def segment(self, t: int) -> int:
        """The grid's segment in which a time step lies, from 0."""
        return t * self.config.segments // self.diffusion.total_steps

    def draw_times(self, count: int, generator: torch.Generator) -> list[tuple[int, Tensor]]:
        """Draw the time steps of `count` crops: (index of the first crop, its t and those of the crops after it), ….

        The time steps of each item lie in one TaR/TaA group. Their distribution does not depend on the network.
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
        alpha, sigma = (table[sent(t, table.device)].view(-1, 1, 1, 1) for table in (self.alphas, self.sigmas))
        return alpha, sigma

    def _scale(self, crops: Crops) -> float:
        assert self.diffusion.residual_scale is not None
        return self.diffusion.residual_scale[str(crops.scale)]
