"""States of a run, from which it goes on: whole, or compact for carrying.

A whole state holds everything, so that a resumed run takes the steps that it would have taken. A compact one drops
Adam's moments and rounds binary convolutions' weights to 8 or 4 bits, whatever fits the budget; it may be cut into
pieces. Both are safetensors, the config and the counters in the header.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors
import torch
import torch.distributed as distributed
from torch import Tensor

from ..atomic import write_atomic
from ..checkpoints.files import serialize_tensors
from ..errors import CheckpointError, UsageError
from .config import TrainConfig
from .trainer import Progress, Trainer

FORMAT = "bidiffsr-training"
FORMAT_VERSION = "1"
NAME = "state.safetensors"
LEVELS = ((8, 8), (8, 4), (4, 4), (4, 0))
"""Bits of binary convolutions' weights in a compact state: their own, and their average's; 0 leaves the average out."""


def save_state(trainer: Trainer, folder: Path) -> None:
    """Write the whole state, in the place of the last one; every process calls it, the first one writes.

    Raises:
        OutputError: it cannot be written; the last one is still there.
    """
    tensors = _weights(trainer)
    for share in trainer.shares:
        for name, parameter in share.named:
            moments = share.optimizer.state.get(parameter, {})
            tensors |= {f"adam/{key}/{name}": value for key, value in moments.items()}
    for rank, states in enumerate(_generators(trainer)):
        tensors |= {f"generator/{rank}/{index}": state for index, state in enumerate(states)}
    if trainer.rank == 0:
        write_atomic(serialize_tensors(tensors, _metadata(trainer)), folder / NAME, overwrite=True)


def save_compact_state(trainer: Trainer, folder: Path, budget: int, max_file: int | None = None) -> tuple[int, int]:
    """Write a compact state as NAME, or in pieces NAME.000, NAME.001, ...

    Args:
        budget: bytes of all pieces together.
        max_file: bytes of one piece.

    Returns:
        The bits that binary convolutions' weights and their averages were rounded to.

    Raises:
        UsageError: even the smallest state is larger than the budget.
        OutputError: it cannot be written.
    """
    latent = set(trainer.latent_names())
    for weight_bits, average_bits in LEVELS:
        tensors: dict[str, Tensor] = {}
        for key, value in _weights(trainer).items():
            kind, _, name = key.partition("/")
            bits = weight_bits if kind == "weights" else average_bits
            if name in latent:
                tensors |= {f"{key}/{part}": x for part, x in encode(value, bits).items()} if bits else {}
            elif kind == "weights" or average_bits:
                tensors[key] = value.half() if bool(value.half().isfinite().all()) else value
        data = serialize_tensors(tensors, _metadata(trainer))
        if len(data) <= budget:
            break
    else:
        raise UsageError(f"A state takes {len(data)} bytes at least, more than the budget.", "Raise --state-budget.")
    size = max_file or len(data)
    if size >= len(data):
        write_atomic(data, folder / NAME, overwrite=True)
        return weight_bits, average_bits
    for index, first in enumerate(range(0, len(data), size)):
        write_atomic(data[first : first + size], folder / f"{NAME}.{index:03}", overwrite=True)
    for stale in _pieces(folder)[-(-len(data) // size) :]:
        stale.unlink()
    return weight_bits, average_bits


def has_state(folder: Path) -> bool:
    """Whether a folder holds a state."""
    return (folder / NAME).is_file() or bool(_pieces(folder))


def read_config_of(folder: Path) -> TrainConfig:
    """The config that the state in a folder was trained with.

    Raises:
        CheckpointError: there is no whole state.
    """
    _, metadata = _read(folder)
    return TrainConfig.from_dict(json.loads(metadata["config"]))


def load_state(trainer: Trainer, folder: Path) -> bool:
    """Put a trainer where the state in a folder was; from a compact one, with its schedule at the beginning.

    Returns:
        Whether everything was there: then the run goes on as if it had not been stopped.

    Raises:
        CheckpointError: there is no whole state, or it is one of another network.
    """
    tensors, metadata = _read(folder)
    trainer.progress = Progress(**json.loads(metadata["progress"]))
    weights = _decoded(tensors, "weights")
    averages = _decoded(tensors, "average") or weights
    exact = any(name.startswith("adam/") for name in tensors)
    with torch.no_grad():
        for share in trainer.shares:
            for (name, parameter), average in zip(share.named, share.average, strict=True):
                for target, source in ((parameter, weights), (average, averages)):
                    if name not in source or source[name].shape != target.shape:
                        raise CheckpointError(f"The state has no weight {name} as this network needs it.")
                    target.copy_(source[name])
                if exact:
                    share.optimizer.state[parameter] = {
                        "step": tensors[f"adam/step/{name}"].to(parameter.device),  # as the fused Adam keeps it
                        "exp_avg": _like(tensors[f"adam/exp_avg/{name}"], parameter),
                        "exp_avg_sq": _like(tensors[f"adam/exp_avg_sq/{name}"], parameter),
                    }
    if not exact:
        trainer.progress.since_iteration = trainer.progress.iteration
        trainer.progress.since_seconds = trainer.progress.seconds
    states = [tensors[key] for key in sorted(tensors) if key.startswith(f"generator/{trainer.rank}/")]
    if states:
        trainer.generator.set_state(states[0])
        trainer.noise_generator.set_state(states[1])
        torch.set_rng_state(states[2])
    else:  # another seed, or the run would see the crops of its beginning again
        seed = trainer.config.run.seed * 1000 + trainer.rank + trainer.progress.iteration * 1_000_003
        trainer.generator.manual_seed(seed)
        trainer.noise_generator.manual_seed(seed)
    trainer.forget_figures()
    return exact and bool(states)


def encode(weight: Tensor, bits: int) -> dict[str, Tensor]:
    """A binary convolution's weights in few bits: the sign is exact, |w| is rounded, finely where it is small.

    |w| = largest of the output channel · ((k + 1/2) / 2^(bits-1))², k = 0..2^(bits-1)-1.

    Args:
        weight: O×I×k×k.
        bits: 8 or 4.
    """
    levels = 2 ** (bits - 1)
    largest = weight.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-30)
    k = ((weight.abs() / largest).sqrt() * levels).floor().clamp(max=levels - 1)
    codes = (k + levels * (weight >= 0)).to(torch.uint8).flatten()
    if bits == 4:
        codes = torch.nn.functional.pad(codes, (0, len(codes) % 2))
        codes = codes[0::2] | codes[1::2] << 4
    return {f"codes{bits}": codes, "largest": largest, "shape": torch.tensor(weight.shape)}


def decode(parts: Mapping[str, Tensor]) -> Tensor:
    """What `encode` gave, as float32."""
    bits = 8 if "codes8" in parts else 4
    codes, levels = parts[f"codes{bits}"], 2 ** (bits - 1)
    if bits == 4:
        codes = torch.stack([codes & 15, codes >> 4], dim=1).flatten()
    shape = parts["shape"].tolist()
    codes = codes[: parts["shape"].prod()].view(shape).int()
    magnitude = ((codes % levels + 0.5) / levels).square() * parts["largest"]
    return torch.where(codes >= levels, magnitude, -magnitude)


def _weights(trainer: Trainer) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for share in trainer.shares:
        for (name, parameter), average in zip(share.named, share.average, strict=True):
            tensors[f"weights/{name}"] = parameter.detach().contiguous().cpu()
            tensors[f"average/{name}"] = average.contiguous().cpu()
    return tensors


def _like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """On the parameter's device, in its memory order."""
    return torch.empty_like(parameter).copy_(tensor)


def _generators(trainer: Trainer) -> list[list[Tensor]]:
    """States of the generators of every process."""
    own = [trainer.generator.get_state(), trainer.noise_generator.get_state(), torch.get_rng_state()]
    if trainer.world == 1:
        return [own]
    gathered: list[Any] = [None] * trainer.world
    distributed.all_gather_object(gathered, own)
    return gathered


def _metadata(trainer: Trainer) -> dict[str, str]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "config": json.dumps(trainer.config.to_dict()),
        "progress": json.dumps(asdict(trainer.progress)),
    }


def _pieces(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(f"{NAME}.*") if re.fullmatch(r"\.\d{3}", path.suffix))


def _read(folder: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a state, and its header."""
    path, pieces = folder / NAME, _pieces(folder)
    try:
        if path.is_file():
            return _read_file(path)
        if not pieces:
            raise CheckpointError(f"There is no state in '{folder}'.", "Give the folder of a run.")
        with tempfile.NamedTemporaryFile(suffix=".safetensors") as joined:
            for piece in pieces:
                joined.write(piece.read_bytes())
            joined.flush()
            return _read_file(Path(joined.name))
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"The state in '{folder}' is damaged: {error}.", "Start the run anew.") from None


def _read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT or metadata.get("format_version") != FORMAT_VERSION:
            raise CheckpointError(f"{path.name} is no state of a training run, or one of another version.")
        return {name: file.get_tensor(name).clone() for name in file.keys()}, metadata  # noqa: SIM118 - no mapping


def _decoded(tensors: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Name -> weight, of the tensors of a kind."""
    result: dict[str, Tensor] = {}
    encoded: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        first, name, *part = key.split("/")
        if first == kind and part:
            encoded.setdefault(name, {})[part[0]] = value
        elif first == kind:
            result[name] = value.float()
    return result | {name: decode(parts) for name, parts in encoded.items()}
