"""Checkpoint files: one safetensors file, float (for training and exchange) or packed (for use).

What comes before the tensors is told in `header`, and the tensors are read in `packed`, without torch. Float storage
has the authors' parameter names. Packed storage has ours, with each binary weight as sign bits (`...sign`, laid out as
in `ops/packing.py`) and a scale per output channel (`...alpha`). Nothing in a file is believed before it was checked.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..configs import ModelConfig
from ..errors import CheckpointError
from ..ops import Array
from .header import FORMAT, FORMAT_VERSION, METADATA, read_header, refusals, sha256_of
from .packed import FLOAT_TYPES, SCALE, read_arrays, read_packed

if TYPE_CHECKING:
    from torch import Tensor

    from ..networks.unet import UNet
    from .header import Header

EIGHT_BITS = ("upsamplers",)
"""Layers whose weights 8 bits are enough for: what they add to a picture is small."""
NORMS = ("stem", "norm", "norm1", "norm2", "head_norm")
EXACT = (*NORMS, "tar", "taa")
"""Layers whose values reach a sign next, so that rounding them may flip it; training keeps them in float32."""


@dataclass(frozen=True)
class Checkpoint:
    """A model's weights and all that is known about them.

    Attributes:
        config: Network, diffusion, scales and window.
        arrays: Name -> numbers. In float storage the names of `UNet.state_dict()`, binary weights latent; in
            packed storage each of these is `...sign`, uint8, and `...alpha`. All else is float32.
        license: Of the weights; free text.
        origin: How, on what data and for how long they were trained; free text.
        storage: "float" or "packed", as the file was.
        sha256: Of the file, in hexadecimal; empty for a checkpoint that came from no file.
        name, revision: What it is called; empty where it has no name.
        bf16_psnr, fp16_psnr: How near its pictures in these are to those in fp32, dB; None where nobody measured it.
    """

    config: ModelConfig
    arrays: Mapping[str, Array]
    license: str
    origin: str
    storage: str = "float"
    sha256: str = ""
    name: str = ""
    revision: str = ""
    bf16_psnr: float | None = None
    fp16_psnr: float | None = None

    @classmethod
    def of_tensors(
        cls, config: ModelConfig, state: Mapping[str, Tensor], license: str, origin: str, **more: Any
    ) -> Checkpoint:
        """Of torch's tensors, whose memory is shared where they lie on the CPU; `more` is the other attributes."""
        arrays = {name: Array.of(tensor) for name, tensor in state.items()}
        return cls(config, arrays, license, origin, **more)

    @property
    def state(self) -> dict[str, Tensor]:
        """`arrays` as torch's tensors, which share their memory."""
        return {name: array.tensor() for name, array in self.arrays.items()}

    @property
    def runtime_facts(self) -> dict[str, Any]:
        """What `choose_runtime` wants to know of a model."""
        psnrs = {"bf16_psnr": self.bf16_psnr, "fp16_psnr": self.fp16_psnr}
        return psnrs | {"why_not_packed": self.config.network.why_not_packed}

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
        from ..networks.packed import unpack
        from ..networks.unet import meta_network

        if self.storage == "packed":
            return unpack(self.build_packed())
        network = meta_network(self.config)
        network.load_state_dict(self.state, assign=True)
        return network

    def build_packed(self) -> UNet:
        """The network with packed binary convolutions, on the CPU; it shares its memory with `state`."""
        from ..networks.packed import pack, packed_network

        return packed_network(self.config, self.state) if self.storage == "packed" else pack(self.build())

    def packed_arrays(self) -> Mapping[str, Array]:
        """What `arrays` is, or would be, in packed storage: what the native engine takes."""
        if self.storage == "packed":
            return self.arrays
        return {name: Array.of(tensor) for name, tensor in self.build_packed().state_dict().items()}


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a float or packed checkpoint file, and check all of it.

    Raises:
        ModelError: there is no such file.
        CheckpointError: the file is damaged, of another format or version, or its tensors do not fit its config;
            the message names the first tensor that is wrong.
    """
    header = read_header(path)
    with refusals(path):
        sha256 = sha256_of(path)
        arrays = read_packed(path, header) if header.storage == "packed" else _read_float(path, header)
    return Checkpoint(header.config, arrays, header.license, header.origin, header.storage, sha256)


def read_pth_checkpoint(path: Path, scales: tuple[int, ...], norm_groups: int | None = None) -> Checkpoint:
    """Import one of the authors' .pth files; the network is inferred from shapes, see `upstream.infer_config`.

    Args:
        path: the file, as the authors' code saved it.
        scales: what the weights enlarge by, which the file does not say.
        norm_groups: groups of GroupNorm, which it does not say either; by default as the authors set them.

    Raises:
        CheckpointError: the file holds no BI-DiffSR; the message names the first tensor that is wrong.
    """
    from .upstream import from_upstream, infer_config, read_pth

    upstream = read_pth(path)
    config = infer_config(upstream, scales, norm_groups)
    state = from_upstream(upstream, config)
    return Checkpoint.of_tensors(config, state, license="unknown", origin=f"imported from {path.name}", name=path.stem)


def serialize_float(checkpoint: Checkpoint) -> bytes:
    """The bytes of a float checkpoint file: the authors' names, float32."""
    from .upstream import to_upstream

    return _serialize(to_upstream(checkpoint.build().state_dict(), checkpoint.config), checkpoint, "float")


def serialize_packed(checkpoint: Checkpoint, float32: Collection[str] = (), eight_bits: Collection[str] = ()) -> bytes:
    """The bytes of a packed checkpoint file.

    What is not binary is stored as float16, scales apart; where that would change pictures (a value rounded before a
    sign can flip it), parts can be kept in float32, and where less is enough, convolutions' weights can have 8 bits.

    Args:
        checkpoint: what to pack.
        float32: names of layers that keep float32, at any depth: "stem", "norm1", "tar", "taa", "time", ...
        eight_bits: names of layers whose convolutions' weights get 8 bits, likewise, and each output a scale.

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
        if kind == "weight" and tensor.ndim == 4 and set(layers) & set(eight_bits) and bool(tensor.isfinite().all()):
            tensors[name], tensors[name + SCALE] = _levels(tensor)
            continue
        half = tensor.half()
        tensors[name] = tensor if exact or not bool(half.isfinite().all()) else half
    return _serialize(tensors, checkpoint, "packed")


def _levels(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A convolution's weights as whole numbers from -127 to 127, and what each output's count, float32.

    The scales have 16 bits that count, so that 127 of them are a float32: what is read packs to the same file again.
    """
    import torch

    most = weight.flatten(1).abs().amax(1)
    scale = ((most / 127).view(torch.int32) & -256).view(torch.float32)
    levels = weight / torch.where(scale > 0, scale, torch.inf)[:, None, None, None]
    return levels.round().clamp(-127, 127).to(torch.int8), scale


def _serialize(tensors: Mapping[str, Tensor], checkpoint: Checkpoint, storage: str) -> bytes:
    values = (FORMAT, FORMAT_VERSION, storage, checkpoint.config.to_json(), checkpoint.license, checkpoint.origin)
    return serialize_tensors(tensors, dict(zip(METADATA, values, strict=True)))


def serialize_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a safetensors file, the same for the same content."""
    import safetensors

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


def _read_float(path: Path, header: Header) -> dict[str, Array]:
    """The tensors of a float file, by the names of `UNet.state_dict()`."""
    from ..networks.unet import meta_network
    from .upstream import from_upstream, to_upstream

    names = to_upstream(meta_network(header.config).state_dict(), header.config)
    arrays = read_arrays(path, header, {name: (tuple(tensor.shape), FLOAT_TYPES) for name, tensor in names.items()})
    state = from_upstream({name: array.tensor() for name, array in arrays.items()}, header.config)
    for name, tensor in state.items():
        if name.endswith(".norm.variance") and bool((tensor < 0).any()):
            raise CheckpointError(f"tensor {name} has a negative variance.")
    return {name: Array.of(tensor) for name, tensor in state.items()}
