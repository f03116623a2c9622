"""bidiffsr: enlarge pictures with BI-DiffSR, a diffusion model with 1-bit weights and activations.

from bidiffsr_cli import SuperResolver

result = SuperResolver.from_pretrained("fast").upscale("photo.jpg", scale=2)
result.image.save("big.png")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0.dev0"
__all__ = ["SuperResolver", "UpscaleOptions", "load_checkpoint"]

if TYPE_CHECKING:
    from .checkpoints.models import load_checkpoint
    from .configs import UpscaleOptions
    from .pipeline import SuperResolver

_HOMES = {"SuperResolver": "pipeline", "UpscaleOptions": "configs", "load_checkpoint": "checkpoints.models"}


def __getattr__(name: str) -> Any:
    """Import on first use: `bidiffsr --help` must not wait for it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import warnings
    from importlib import import_module

    # numpy is not needed, and torch, which is imported where it is, remarks on its absence
    warnings.filterwarnings("ignore", message="Failed to initialize NumPy", category=UserWarning)
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
