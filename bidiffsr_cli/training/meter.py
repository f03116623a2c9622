"""The means in a line of the log: losses, gradient norms and flipped signs of the iterations since the last line."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from .objective import Loss


class Meter:
    """Collects what the iterations give.

    Args:
        latent: name -> weight of each binary convolution.
    """

    def __init__(self, latent: Mapping[str, Tensor]) -> None:
        self.latent = latent
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self._losses: list[Loss] = []
        self._norms: list[Tensor] = []
        self._signs = {name: weight.detach() >= 0 for name, weight in self.latent.items()}

    def add(self, losses: Iterable[Loss], norm: Tensor) -> None:
        """Add an iteration: the losses on the parts of its batch, and the norm of its gradient."""
        self._losses += losses
        self._norms.append(norm)

    def read(self) -> dict[str, Any]:
        """The means since the last reset, and reset; `flip_rate` is the share of signs that flip in one iteration."""
        losses, norms, before = self._losses, self._norms, self._signs
        self.reset()
        by_group: dict[str, dict[str, list[tuple[int, float]]]] = {}
        for loss in losses:
            for name, part in loss.parts.items():
                by_group.setdefault(loss.group, {}).setdefault(name, []).append((loss.count, float(part)))
        of_network = [loss for loss in losses if loss.group != "upsampler"]
        signs = self._signs
        flips = {name: float((sign != before[name]).float().mean()) / len(norms) for name, sign in signs.items()}
        return {
            "loss": weighted_mean((loss.count, float(loss.total)) for loss in of_network or losses),
            "loss_by_group": {
                group: {name: weighted_mean(values) for name, values in parts.items()}
                for group, parts in sorted(by_group.items(), key=lambda item: _place(item[0]))
            },
            "gradient_norm": float(torch.stack(norms).mean()),
            "flip_rate": weighted_mean((signs[name].numel(), rate) for name, rate in flips.items()),
            "flip_rate_by_layer": flips,
        }


def _place(group: str) -> list[int]:
    """By what groups are sorted: numbers, and words behind them."""
    return [int(number) for number in group.split("of")] if group[0].isdecimal() else [sys.maxsize]


def weighted_mean(values: Iterable[tuple[int, float]]) -> float:
    """The mean of (weight, value) pairs; 0 if there are none."""
    pairs = list(values)
    return sum(weight * value for weight, value in pairs) / max(1, sum(weight for weight, _ in pairs))
