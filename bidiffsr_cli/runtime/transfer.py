"""From the CPU to the device that computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def sent(x: Tensor, device: torch.device) -> Tensor:
    """x on a device; to CUDA it goes from pinned memory, so that nobody waits for it."""
    if device.type == "cuda" and x.device.type == "cpu":
        return x.pin_memory().to(device, non_blocking=True)
    return x.to(device)
