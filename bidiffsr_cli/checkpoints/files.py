"""Checkpoint files: one safetensors file, float (for training and exchange) or packed (for use).

What comes before the tensors is told in `header`. Float storage has the authors' parameter names. Packed storage has
ours, with each binary weight as sign bits (`...sign`, laid out as in `ops/packing.py`) and a scale per output channel
(`...alpha`). Nothing in a file is believed before it was checked.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from ..configs import ModelConfig
from ..errors import CheckpointError
from ..networks.packed import PackedBIConv, pack, unpack
from ..networks.unet import UNet, meta_network
from ..ops.packing import filler_is_zero
from .header import FORMAT, FORMAT_VERSION, METADATA, no_whole_file, read_header, refusals, sha256_of
from .upstream import from_upstream, infer_config, read_pth, to_upstream

NORMS = ("stem", "norm", "norm1", "norm2", "head_norm")
EXACT = (*NORMS, "tar", "taa")
"""Layers whose values reach a sign next, so that rounding them may flip it; training keeps them in float32."""
_FLOATS = ("F32", "F16")


@dataclass(frozen=True)
class Checkpoint:
    """A model's weights and all that is known about them.

    Attributes:
        config: Network, diffusion, scales and window.
        state: Name -> tensor. In float storage the names of `UNet.state_dict()`, binary weights latent; in
            packed storage each of these is `...sign`, uint8, and `...alpha`. All else is float32.
        license: Of the weights; free text.
        origin: How, on what data and for how long they were trained; free text.
        storage: "float" or "packed", as the file was.
        sha256: Of the file, in hexadecimal; empty for a checkpoint that came from no file.
        name, revision: What it is called; empty where it has no name.
        bf16_psnr: How near its pictures in bf16 are to those in fp32, dB; None where nobody measured it.
    """

    config: ModelConfig
    state: Mapping[str, Tensor]
    license: str
    origin: str
    storage: str = "float"
    sha256: str = ""
    name: str = ""
    revision: str = ""
    bf16_psnr: float | None = None

    @property
    def runtime_facts(self) -> dict[str, Any]:
        """What `choose_runtime` wants to know of a model."""
        return {"bf16_psnr": self.bf16_psnr, "why_not_packed": self.config.network.why_not_packed}

    def build(self) -> UNet:
        """The network in the form that is trained, on the CPU, in float32; it shares its memory with `state`.

        Latent weights of packed storage are alpha Sign(w).

        Raises:
            CheckpointError: the storage is packed, and the method's BatchNorm folded for good.
        """
        if self.storage == "packed" and self.config.network.method not in ("bi_diffsr", "bbcu"):
            raise CheckpointError(
                f"A packed {self.config.network.method} has lost its BatchNorm, without which it cannot be trained.",
                "Take the float file that it was packed from.",
            )
        return unpack(self.build_packed()) if self.storage == "packed" else self._fill(meta_network(self.config))

    def build_packed(self) -> UNet:
        """The network with packed binary convolutions: what a `Runtime` prepares."""
        return self._fill(pack(meta_network(self.config))) if self.storage == "packed" else pack(self.build())

    def _fill(self, network: UNet) -> UNet:
        network.load_state_dict(self.state, assign=True)
        return network


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a float or packed checkpoint file, and check all of it.

    Raises:
        ModelError: there is no such file.
        CheckpointError: the file is damaged, of another format or version, or its tensors do not fit its config;
            the message names the first tensor that is wrong.
    """
    header = read_header(path)
    with refusals(path), _opened(path) as file:
        sha256 = sha256_of(path)
        state = (_read_packed if header.storage == "packed" else _read_float)(file, header.config)
    return Checkpoint(header.config, state, header.license, header.origin, header.storage, sha256)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[safetensors.safe_open]:
    """A safetensors file."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            yield file
    except safetensors.SafetensorError as error:
        raise no_whole_file(str(error)[:200]) from None


def read_pth_checkpoint(path: Path, scales: tuple[int, ...], norm_groups: int | None = None) -> Checkpoint:
    """Import one of the authors' .pth files; the network is inferred from shapes, see `upstream.infer_config`.

    Args:
        path: the file, as the authors' code saved it.
        scales: what the weights enlarge by, which the file does not say.
        norm_groups: groups of GroupNorm, which it does not say either; by default as the authors set them.

    Raises:
        CheckpointError: the file holds no BI-DiffSR; the message names the first tensor that is wrong.
    """
    upstream = read_pth(path)
    config = infer_config(upstream, scales, norm_groups)
    state = from_upstream(upstream, config)
    return Checkpoint(config, state, license="unknown", origin=f"imported from {path.name}", name=path.stem)


def serialize_float(checkpoint: Checkpoint) -> bytes:
    """The bytes of a float checkpoint file: the authors' names, float32."""
    return _serialize(to_upstream(checkpoint.build().state_dict(), checkpoint.config), checkpoint, "float")


def serialize_packed(checkpoint: Checkpoint, float32: Collection[str] = ()) -> bytes:
    """The bytes of a packed checkpoint file.

    What is not binary is stored as float16, scales apart; where that would change pictures (a value rounded before a
    sign can flip it), parts can be kept in float32.

    Args:
        checkpoint: what to pack.
        float32: names of layers that keep float32, at any depth: "stem", "norm1", "tar", "taa", "time", ...

    Raises:
        CheckpointError: the method has nothing that could be packed.
    """
    network = checkpoint.config.network
    if network.why_not_packed:
        raise CheckpointError(
            f"A network of method {network.method} cannot be packed: {network.why_not_packed}.",
            "Use the float file; it runs in plain torch.",
        )
    tensors = {}
    for name, tensor in checkpoint.build_packed().state_dict().items():
        *layers, kind = name.split(".")
        exact = kind in ("sign", "alpha") or bool(set(layers) & set(float32))
        half = tensor.half()
        tensors[name] = tensor if exact or not bool(half.isfinite().all()) else half
    return _serialize(tensors, checkpoint, "packed")


def _serialize(tensors: Mapping[str, Tensor], checkpoint: Checkpoint, storage: str) -> bytes:
    values = (FORMAT, FORMAT_VERSION, storage, checkpoint.config.to_json(), checkpoint.license, checkpoint.origin)
    return serialize_tensors(tensors, dict(zip(METADATA, values, strict=True)))


def serialize_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a safetensors file, the same for the same content."""
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}  # alive while pointed at
    specs = {
        name: safetensors.TensorSpec(
            dtype=str(tensor.dtype).removeprefix("torch."),
            shape=list(tensor.shape),
            data_ptr=tensor.data_ptr(),
            data_len=tensor.nbytes,
        )
        for name, tensor in kept.items()
    }
    return _with_sorted_metadata(bytes(safetensors.serialize(specs, dict(metadata))))


def _with_sorted_metadata(file: bytes) -> bytes:
    """The same safetensors file with its metadata in order; the library's order is random, and files are hashed."""
    length = int.from_bytes(file[:8], "little")
    header = json.loads(file[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8
    return len(text).to_bytes(8, "little") + text + file[8 + length :]


def _read_float(file: safetensors.safe_open, config: ModelConfig) -> dict[str, Tensor]:
    names = to_upstream(meta_network(config).state_dict(), config)
    expected = {name: (tuple(tensor.shape), _FLOATS) for name, tensor in names.items()}
    state = from_upstream(_read_tensors(file, expected), config)
    for name, tensor in state.items():
        if name.endswith(".norm.variance") and bool((tensor < 0).any()):
            raise CheckpointError(f"tensor {name} has a negative variance.")
    return state


def _read_packed(file: safetensors.safe_open, config: ModelConfig) -> dict[str, Tensor]:
    if config.network.why_not_packed:
        raise CheckpointError(f"its method, {config.network.method}, cannot be packed.")
    network = pack(meta_network(config))
    types = {"sign": ("U8",), "alpha": ("F32",)}
    expected = {
        name: (tuple(tensor.shape), types.get(name.rpartition(".")[2], _FLOATS))
        for name, tensor in network.state_dict().items()
    }
    tensors = _read_tensors(file, expected)
    for name, module in network.named_modules():
        if isinstance(module, PackedBIConv):
            if not filler_is_zero(tensors[f"{name}.sign"], module.inputs * module.kernel**2):
                raise CheckpointError(f"tensor {name}.sign has bits set behind the end of a row.")
            if bool((tensors[f"{name}.alpha"] < 0).any()):
                raise CheckpointError(f"tensor {name}.alpha has a negative scale.")
    return tensors


def _read_tensors(
    file: safetensors.safe_open, expected: Mapping[str, tuple[tuple[int, ...], tuple[str, ...]]]
) -> dict[str, Tensor]:
    """Read exactly the expected tensors: name -> (shape, admitted types); float16 becomes float32."""
    present = set(file.keys())
    for name in expected:
        if name not in present:
            raise CheckpointError(f"tensor {name} is missing.")
    if len(present) > len(expected):
        raise CheckpointError(f"tensor {min(present - expected.keys())[:120]} is not part of this network.")
    for name, (shape, dtypes) in expected.items():
        entry = file.get_slice(name)
        if tuple(entry.get_shape()) != shape:
            raise CheckpointError(f"tensor {name} has shape {tuple(entry.get_shape())}; expected {shape}.")
        if entry.get_dtype() not in dtypes:
            raise CheckpointError(f"tensor {name} has type {entry.get_dtype()}; expected {' or '.join(dtypes)}.")
    tensors = {}
    for name in expected:
        tensor = file.get_tensor(name)
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(f"tensor {name} holds values that are not finite.")
        dtype = torch.uint8 if tensor.dtype == torch.uint8 else torch.float32
        tensors[name] = tensor.to(dtype, copy=True)  # out of the mapped file, which may change, to an aligned place
    return tensors
