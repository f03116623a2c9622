"""States that a run resumes from: full ones, and compact ones to be carried elsewhere.

A full state (`state.safetensors`) has everything, so that a resumed run takes the steps that it would have taken. A
compact one has no moments of Adam and quantizes binary convolutions' weights to 8 or 4 bits, whichever fits the budget.
It is cut into pieces (`compact.0000`, ...); `compact.json`, which is written last, has their number and hash.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors
import torch
import torch.distributed as distributed
from torch import Tensor

from ..atomic import make_folder, write_atomic
from ..checkpoints.files import serialize_tensors
from ..errors import CheckpointError, UsageError
from ..networks.latent_conv import latent_names
from .config import TrainConfig
from .progress import TrainingProgress
from .trainer import Trainer

STATE_FORMAT = "bidiffsr-training"
STATE_VERSION = "1"
FULL, PIECE, MANIFEST = "state.safetensors", "compact.{:04}", "compact.json"
BIT_WIDTHS = ((8, 8), (8, 4), (4, 4), (4, 0))
"""Bits of binary convolutions' weights in a compact state, and of their average; 0 leaves the average out."""
BitWidths = tuple[int, int]


def save_state(trainer: Trainer, folder: Path) -> None:
    """Replace the full state. Every process calls this, and the first one writes.

    Raises:
        BidiffsrError: the weights are no longer finite; the last state stays.
        OutputError: it cannot be written; the last state stays.
    """
    trainer.check_finite()
    generators = _generators(trainer)
    if trainer.rank > 0:
        return
    tensors = _weights(trainer)
    for shard in trainer.shards:
        for name, parameter in shard.named:
            moments = shard.optimizer.state.get(parameter, {})
            tensors |= {f"adam/{key}/{name}": value for key, value in moments.items()}
    for rank, states in enumerate(generators):
        tensors |= {f"generator/{rank}/{index}": state for index, state in enumerate(states)}
    write_atomic(serialize_tensors(tensors, _metadata(trainer)), folder / FULL, overwrite=True)


def choose_bit_widths(trainer: Trainer, budget: int) -> BitWidths:
    """The most bits with which a compact state is no larger than `budget` bytes.

    Raises:
        UsageError: even the smallest state is larger.
    """
    latent, sizes = set(latent_names(trainer.network)), []
    for weight_bits, average_bits in BIT_WIDTHS:
        size = 300 * sum(len(shard.named) for shard in trainer.shards) * 4 + 20_000  # names and shapes in the header
        for shard in trainer.shards:
            for name, parameter in shard.named:
                count = parameter.numel()
                scales = 4 * len(parameter)
                if name in latent:
                    size += count * (weight_bits + average_bits) // 8 + 2 * scales
                else:
                    size += 2 * count * (2 if average_bits else 1)
        if size <= budget:
            return weight_bits, average_bits
        sizes.append(size)
    raise UsageError(f"A state takes {min(sizes) / 1e6:.1f} MB, more than the budget.", "Raise --state-budget.")


def save_compact_state(trainer: Trainer, folder: Path, bits: BitWidths, max_file: int | None = None) -> None:
    """Replace the compact state, in pieces.

    Args:
        trainer: its weights and averages are written.
        folder: where the pieces go; it is made where it is missing.
        bits: as `choose_bit_widths` returns them.
        max_file: bytes of one piece at most; None for one piece.

    Raises:
        BidiffsrError: the weights are no longer finite.
        OutputError: it cannot be written.
    """
    trainer.check_finite()
    latent = set(latent_names(trainer.network))
    bits_of = dict(zip(("weights", "average"), bits, strict=True))
    tensors: dict[str, Tensor] = {}
    for key, value in _weights(trainer).items():
        kind, _, name = key.partition("/")
        if not bits_of[kind]:
            continue
        if name in latent:
            tensors |= {f"{key}/{part}": x for part, x in quantize(value, bits_of[kind]).items()}
        else:
            half = value.half()
            tensors[key] = half if bool(half.isfinite().all()) else value
    data = serialize_tensors(tensors, _metadata(trainer))
    size = max_file or len(data)
    pieces = [data[first : first + size] for first in range(0, len(data), size)]
    make_folder(folder)
    (folder / MANIFEST).unlink(missing_ok=True)
    for index, piece in enumerate(pieces):
        write_atomic(piece, folder / PIECE.format(index), overwrite=True)
    for path in set(folder.glob("compact.[0-9]*")) - {folder / PIECE.format(index) for index in range(len(pieces))}:
        path.unlink()
    manifest = {"pieces": len(pieces), "sha256": hashlib.sha256(data).hexdigest()}
    write_atomic(json.dumps(manifest).encode(), folder / MANIFEST, overwrite=True)


def has_state(folder: Path) -> bool:
    """Whether a folder has a state."""
    return (folder / FULL).is_file() or (folder / MANIFEST).is_file()


def read_config_of(folder: Path) -> TrainConfig:
    """The config of the run whose state is in a folder.

    Raises:
        CheckpointError: there is no state, or it is damaged.
    """
    return TrainConfig.from_dict(_read(folder)[1]["config"])


def load_state(trainer: Trainer, folder: Path) -> bool:
    """Bring a trainer to the state in a folder; a compact one begins the schedule anew.

    Returns:
        Whether the state had everything, so that the run goes on as if it had not been stopped.

    Raises:
        CheckpointError: there is no state, or it is damaged or of another network.
    """
    tensors, header = _read(folder)
    try:
        return _restore(trainer, tensors, header["progress"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"The state in '{folder}' does not fit: {error}.", "Start the run anew.") from None


def quantize(weight: Tensor, bits: int) -> dict[str, Tensor]:
    """A binary convolution's weights in few bits: the sign is exact, |w| is rounded, more finely where it is small.

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


def dequantize(parts: Mapping[str, Tensor]) -> Tensor:
    """The weights that `quantize` encoded, in float32."""
    bits = 8 if "codes8" in parts else 4
    codes, levels = parts[f"codes{bits}"], 2 ** (bits - 1)
    if bits == 4:
        codes = torch.stack([codes & 15, codes >> 4], dim=1).flatten()
    codes = codes[: int(parts["shape"].prod())].view(parts["shape"].tolist()).int()
    magnitude = ((codes % levels + 0.5) / levels).square() * parts["largest"]
    return torch.where(codes >= levels, magnitude, -magnitude)


def _weights(trainer: Trainer) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for shard in trainer.shards:
        for (name, parameter), average in zip(shard.named, shard.average, strict=True):
            tensors[f"weights/{name}"] = parameter.detach().contiguous().cpu()
            tensors[f"average/{name}"] = average.contiguous().cpu()
    return tensors


def _generators(trainer: Trainer) -> list[list[Tensor]]:
    """The states of every process's generators."""
    own = [generator.get_state() for generator in (trainer.generator, trainer.noise_generator)]
    cuda = trainer.device.type == "cuda"
    own.append(torch.cuda.get_rng_state(trainer.device) if cuda else torch.get_rng_state())  # dropout draws from it
    if trainer.world == 1:
        return [own]
    gathered: list[list[Tensor]] = [[] for _ in range(trainer.world)]
    for state in own:  # as tensors: gathering objects would need numpy
        states = [torch.empty_like(state, device=trainer.device) for _ in range(trainer.world)]
        distributed.all_gather(states, state.to(trainer.device))
        for one, of_rank in zip(states, gathered, strict=True):
            of_rank.append(one.cpu())
    return gathered


def _metadata(trainer: Trainer) -> dict[str, str]:
    return {
        "format": STATE_FORMAT,
        "format_version": STATE_VERSION,
        "config": json.dumps(trainer.config.to_dict()),
        "progress": json.dumps(asdict(trainer.progress)),
    }


def _restore(trainer: Trainer, tensors: Mapping[str, Tensor], progress: dict[str, Any]) -> bool:
    weights = _dequantized(tensors, "weights")
    averages = _dequantized(tensors, "average") or weights
    full = any(name.startswith("adam/") for name in tensors)
    with torch.no_grad():
        for shard in trainer.shards:
            for (name, parameter), average in zip(shard.named, shard.average, strict=True):
                for target, source in ((parameter, weights[name]), (average, averages[name])):
                    if source.shape != target.shape or not bool(source.isfinite().all()):
                        raise ValueError(f"weight {name} has another shape, or is not finite")
                    target.copy_(source)
                if f"adam/step/{name}" in tensors:  # what no batch has asked for yet has none
                    shard.optimizer.state[parameter] = {
                        "step": tensors[f"adam/step/{name}"].to(parameter.device),  # as the fused Adam keeps it
                        "exp_avg": torch.empty_like(parameter).copy_(tensors[f"adam/exp_avg/{name}"]),
                        "exp_avg_sq": torch.empty_like(parameter).copy_(tensors[f"adam/exp_avg_sq/{name}"]),
                    }
    trainer.progress = TrainingProgress(**progress)
    if not full:
        trainer.progress.since_iteration = trainer.progress.iteration
        trainer.progress.since_seconds = trainer.progress.seconds
    trainer.meter.reset()
    return _restore_generators(trainer, tensors) and full


def _restore_generators(trainer: Trainer, tensors: Mapping[str, Tensor]) -> bool:
    """Whether the state had this process's generators; otherwise they get a new seed."""
    saved = [tensors[key] for key in sorted(tensors) if key.startswith(f"generator/{trainer.rank}/")]
    if len(saved) == 3 and len(saved[1]) == len(trainer.noise_generator.get_state()):  # of the same kind of device
        trainer.generator.set_state(saved[0])
        trainer.noise_generator.set_state(saved[1])
        if trainer.device.type == "cuda":
            torch.cuda.set_rng_state(saved[2], trainer.device)
        else:
            torch.set_rng_state(saved[2])
        return True
    trainer.seed(trainer.progress.iteration + 1)  # otherwise the run would see its first crops again
    return False


def _read(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors of a state, and the config and progress in its header."""
    try:
        if (folder / FULL).is_file():
            return _read_file(folder / FULL)
        if not (folder / MANIFEST).is_file():
            raise CheckpointError(f"There is no state in '{folder}'.", "Give the folder of a run.")
        manifest = json.loads((folder / MANIFEST).read_text())
        data = b"".join((folder / PIECE.format(index)).read_bytes() for index in range(int(manifest["pieces"])))
        if hashlib.sha256(data).hexdigest() != manifest["sha256"]:
            raise ValueError("its pieces do not belong together")
        with tempfile.TemporaryDirectory() as joined:
            path = Path(joined) / FULL
            path.write_bytes(data)
            return _read_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"The state in '{folder}' is damaged: {error}.", "Start the run anew.") from None


def _read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if metadata.get("format") != STATE_FORMAT or metadata.get("format_version") != STATE_VERSION:
            raise CheckpointError(f"{path.name} is not a training state of this version.")
        header = {name: json.loads(metadata[name]) for name in ("config", "progress")}
        return {name: file.get_tensor(name).clone() for name in file.keys()}, header  # noqa: SIM118 - no mapping


def _dequantized(tensors: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Name -> weight, of the tensors of a kind ("weights" or "average")."""
    result: dict[str, Tensor] = {}
    encoded: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        first, name, *part = [*key.split("/"), ""][:3] if "/" in key else (key, "")
        if first == kind and any(part):
            encoded.setdefault(name, {})[part[0]] = value
        elif first == kind:
            result[name] = value.float()
    return result | {name: dequantize(parts) for name, parts in encoded.items()}
