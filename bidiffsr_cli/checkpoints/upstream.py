"""The authors' checkpoints: reading their .pth files, and their parameter names.

Upstream numbers the time-aware parameters (`downs.1.res_block.block1.conv.TaR.dynamic_move_0.bias`, 1×C×1×1); here the
K of a layer are one tensor (`encoder.0.conv1.tar.bias`, K×C). This file is the only one that knows the foreign names.
Float checkpoints use them too, so that weights can be exchanged.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..configs import DiffusionConfig, ModelConfig, UNetConfig
from ..errors import CheckpointError, check_no_pointer, is_out_of_memory
from ..networks.binary_conv import BIConv
from ..networks.blocks import ResBlock
from ..networks.unet import DecoderLevel, UNet, meta_network

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_TOP = {
    "time_embedding.linear1": "timestep_level_mlp.1",
    "time_embedding.linear2": "timestep_level_mlp.3",
    "stem": "downs.0",
    "head_norm": "final_conv.block.0",
    "head": "final_conv.block.3",
}
_RES_BLOCK = {
    "norm1": "res_block.block1.block.0",
    "conv1": "res_block.block1.conv",
    "time": "res_block.timestep_func.1",
    "norm2": "res_block.block2.block.0",
    "conv2": "res_block.block2.conv",
    "attention": "attn",
}
_RESAMPLE = {"conv1": "biconv1", "conv2": "biconv2", "conv": "biconv"}
_FUSION = {"conv1": "biconv_1", "conv2": "biconv_2", "conv": "biconv"}
_BI_CONV = {
    "tar.bias": "TaR.dynamic_move_{}.bias",
    "taa.shift": "TaA.dynamic_relu_{}.pr_bias0.bias",
    "taa.slope": "TaA.dynamic_relu_{}.pr_prelu.weight",
    "taa.offset": "TaA.dynamic_relu_{}.pr_bias1.bias",
}


def read_pth(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a .pth file as the authors save them: under `params` or `params_ema`, or bare.

    Only plain tensors are read (`torch.load(weights_only=True)`); nothing in the file is executed.

    Returns:
        The authors' names without `module.` -> tensor.

    Raises:
        CheckpointError: the file is no .pth file, or holds anything but tensors.
    """
    check_no_pointer(path)
    if _is_packed_tightly(path):
        raise CheckpointError(f"{path.name} is a damaged or compressed .pth file, as PyTorch does not write them.")
    try:
        with warnings.catch_warnings():  # of old pickle protocols, about which nobody can do anything here
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises almost anything
        if is_out_of_memory(error):
            raise
        reason = "it could not be opened" if isinstance(error, OSError) else "it is damaged or holds more than tensors"
        raise CheckpointError(f"{path.name} cannot be read as a .pth file: {reason}.") from None
    for key in ("params", "params_ema"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{path.name} holds no parameters.")
    for name, value in content.items():
        if not isinstance(name, str) or not _is_parameter(value):
            raise CheckpointError(f"{path.name} holds something that is not a parameter: {str(name)[:80]!r}.")
    return {name.removeprefix("module."): value for name, value in content.items()}


def _is_parameter(value: object) -> bool:
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_nested:
        return False
    if value.device.type != "cpu" or value.dtype not in _FLOATS:
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()  # no number stands for many


def _is_packed_tightly(path: Path) -> bool:
    """Whether a file is a ZIP whose parts are compressed: a few bytes may stand for any number of them."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            stored = all(part.compress_type == zipfile.ZIP_STORED for part in parts)
            return not stored or sum(part.file_size for part in parts) > path.stat().st_size
    except OSError:  # torch will tell
        return False
    except Exception:  # a ZIP that Python does not understand, and torch might
        return True


def infer_config(state: Mapping[str, Tensor], scales: tuple[int, ...], norm_groups: int | None = None) -> ModelConfig:
    """Work out the network from the shapes of upstream parameters; the diffusion is the authors' own.

    Args:
        state: upstream names -> tensor.
        scales: what the weights enlarge by; no shape tells.
        norm_groups: GroupNorm's groups; no shape tells. The default is the authors' 16, or fewer where 16 do not
            divide the channels.

    Raises:
        CheckpointError: a tensor that the inference rests on is missing, or the shapes make no BI-DiffSR.
    """
    stem, head = (_tensor(state, name).shape for name in ("downs.0.weight", "final_conv.block.3.weight"))
    first_conv = "downs.1.res_block.block1.conv"
    for name in ("TaR.dynamic_move_0.bias", "TaA.dynamic_relu_0.pr_prelu.weight", "binary_conv.weight"):
        _tensor(state, f"{first_conv}.{name}")
    unshuffle = math.isqrt(head[0] // 3) if len(head) == 4 else 0
    if len(stem) != 4 or stem[1] != 6 * unshuffle**2 or not unshuffle:
        raise CheckpointError(
            f"Tensors downs.0.weight {tuple(stem)} and final_conv.block.3.weight {tuple(head)} do not belong to "
            "a network that sees one condition."
        )
    kinds = _kinds_of_downs(state)
    res_blocks = kinds.index("down") if "down" in kinds else len(kinds)
    levels = kinds.count("down") + 1
    per_level = 2 * (res_blocks + 1) + 1
    network = UNetConfig(
        inner_channel=stem[0],
        channel_mults=tuple(2**level for level in range(levels)),
        res_blocks=res_blocks,
        norm_groups=norm_groups or math.gcd(16, stem[0]),
        full_precision_levels=tuple(
            level for level in range(levels) if f"ups.{(levels - 1 - level) * per_level}.biconv_1.weight" in state
        ),
        pixel_unshuffle=unshuffle,
        tar_groups=_count(state, first_conv + ".TaR.dynamic_move_{}.bias"),
        taa_groups=_count(state, first_conv + ".TaA.dynamic_relu_{}.pr_prelu.weight"),
    )
    return ModelConfig(network, DiffusionConfig(total_steps=network.total_steps), scales)


def has_upstream_names(config: UNetConfig) -> bool:
    """Whether the authors' code has names for the network's parameters; methods and parts it lacks have ours."""
    own = config.full_precision_blocks or config.upsampler
    return config.type == config.method == "bi_diffsr" and not own


def from_upstream(state: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Rename and stack upstream parameters, strictly.

    Returns:
        The names of `UNet.state_dict()` -> float32 tensor.

    Raises:
        CheckpointError: naming the first tensor that is missing, superfluous, of the wrong shape or not finite.
    """
    remaining = dict(state)
    result = {}
    for ours, shape, foreign in _name_table(meta_network(config)):
        parts = []
        for name, part_shape in foreign:
            tensor = _tensor(remaining, name)
            del remaining[name]
            if tuple(tensor.shape) != part_shape:
                raise CheckpointError(f"Tensor {name} has shape {tuple(tensor.shape)}; expected {part_shape}.")
            if not bool(tensor.isfinite().all()):
                raise CheckpointError(f"Tensor {name} holds values that are not finite.")
            parts.append(tensor.to(torch.float32))
        result[ours] = torch.stack([part.flatten() for part in parts]).reshape(shape)
    if remaining:
        raise CheckpointError(f"Tensor {min(remaining)} is not part of this network.")
    return result


def to_upstream(state: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Undo `from_upstream`: the authors' names and shapes."""
    result = {}
    for ours, _, foreign in _name_table(meta_network(config)):
        for part, (name, shape) in zip(state[ours].reshape(len(foreign), -1), foreign, strict=True):
            result[name] = part.reshape(shape).clone()
    return result


def check_upstream(config: ModelConfig) -> None:
    """Raise CheckpointError if the authors' code does not know the network."""
    if not has_upstream_names(config.network):
        raise CheckpointError(
            "The authors' code does not know this network's method or parts.", "Write .safetensors instead."
        )


def serialize_pth(state: Mapping[str, Tensor], config: ModelConfig) -> bytes:
    """A state dict as the authors' code saves and loads it: `{"params": {...}}` under their names.

    Raises:
        CheckpointError: their code does not know the network.
    """
    check_upstream(config)
    file = io.BytesIO()
    torch.save({"params": to_upstream(state, config)}, file)
    return file.getvalue()


Foreign = list[tuple[str, tuple[int, ...]]]


def _name_table(network: UNet) -> Iterator[tuple[str, tuple[int, ...], Foreign]]:
    """For each of our tensors: its name, its shape, and the upstream tensors that make it up."""
    if not has_upstream_names(network.config):
        for name, tensor in network.state_dict().items():
            yield name, tuple(tensor.shape), [(name, tuple(tensor.shape))]
        return
    for ours, upstream, layer in _layers(network):
        for leaf, tensor in layer.state_dict().items():
            shape = tuple(tensor.shape)
            if not isinstance(layer, BIConv):
                foreign = [(f"{upstream}.{leaf}", shape)]
            elif leaf == "weight":
                foreign = [(f"{upstream}.binary_conv.weight", shape)]
            else:
                groups, channels = shape
                part = (channels,) if leaf == "taa.slope" else (1, channels, 1, 1)
                foreign = [(f"{upstream}.{_BI_CONV[leaf].format(group)}", part) for group in range(groups)]
            yield f"{ours}.{leaf}", shape, foreign


def _layers(network: UNet) -> Iterator[tuple[str, str, nn.Module]]:
    """Every layer with its name here and upstream."""
    for ours, upstream in _TOP.items():
        yield ours, upstream, network.get_submodule(ours)
    for ours, upstream, names in _blocks(network):
        for name, layer in network.get_submodule(ours).named_children():
            yield f"{ours}.{name}", f"{upstream}.{names[name]}", layer


def _blocks(network: UNet) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Every block with its name here and upstream, and its layers' upstream names."""
    for index, block in enumerate(network.encoder):
        names = _RES_BLOCK if isinstance(block, ResBlock) else _RESAMPLE
        yield f"encoder.{index}", f"downs.{index + 1}", names
    for index in range(len(network.middle)):
        yield f"middle.{index}", f"mid.{index}", _RES_BLOCK
    place = itertools.count()  # upstream has one flat list of decoder modules
    for level, stage in enumerate(network.decoder):
        assert isinstance(stage, DecoderLevel)
        for index in range(len(stage.blocks)):
            yield f"decoder.{level}.fusions.{index}", f"ups.{next(place)}", _FUSION
            yield f"decoder.{level}.blocks.{index}", f"ups.{next(place)}", _RES_BLOCK
        if stage.up is not None:
            yield f"decoder.{level}.up", f"ups.{next(place)}", _RESAMPLE


def _tensor(state: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in state:
        raise CheckpointError(f"Tensor {name} is missing.", "The file holds no BI-DiffSR, or only a part of it.")
    return state[name]


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return next(group for group in itertools.count() if pattern.format(group) not in state)


def _kinds_of_downs(state: Mapping[str, Tensor]) -> list[str]:
    """What upstream's `downs.1`, `downs.2`, ... are: "res_block" or "down"."""
    kinds = []
    for index in itertools.count(1):
        if f"downs.{index}.res_block.timestep_func.1.weight" in state:
            kinds.append("res_block")
        elif f"downs.{index}.biconv1.binary_conv.weight" in state:
            kinds.append("down")
        else:
            return kinds
    raise AssertionError("unreachable")
