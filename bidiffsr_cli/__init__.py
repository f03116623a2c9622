"""bidiffsr: enlarge pictures with BI-DiffSR, a diffusion model with 1-bit weights and activations.

from bidiffsr_cli import SuperResolver

result = SuperResolver.from_pretrained("fast").upscale("photo.jpg", scale=2)
result.image.save("big.png")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"  # the only place that has it
if TYPE_CHECKING:
    from .checkpoints.models import load_checkpoint as load_checkpoint
    from .enlarging import Writing as Writing
    from .folders.jobs import Selection as Selection
    from .images.degrading import Degradation as Degradation
    from .options import UpscaleOptions as UpscaleOptions
    from .pipeline import SuperResolver as SuperResolver
    from .runtime import Machine as Machine
    from .tasks.batch import batch as batch
    from .tasks.bench import bench as bench
    from .tasks.compare import compare as compare
    from .tasks.evaluate import evaluate as evaluate
    from .tasks.pack import pack as pack
    from .tasks.train import train as train
    from .tasks.upscale import upscale as upscale

_HOMES = {
    "Degradation": "images.degrading",
    "Machine": "runtime",
    "Selection": "folders.jobs",
    "SuperResolver": "pipeline",
    "UpscaleOptions": "options",
    "Writing": "enlarging",
    "batch": "tasks.batch",
    "bench": "tasks.bench",
    "compare": "tasks.compare",
    "evaluate": "tasks.evaluate",
    "load_checkpoint": "checkpoints.models",
    "pack": "tasks.pack",
    "train": "tasks.train",
    "upscale": "tasks.upscale",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Import on first use: `bidiffsr --help` must not wait for it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import warnings
    from importlib import import_module

    # numpy is not needed, and torch, which is imported where it is, remarks on its absence
    warnings.filterwarnings("ignore", message="Failed to initialize NumPy", category=UserWarning)
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
