"""Checkpoint files: round trips, sizes, and every check on loading."""

import dataclasses
import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import needs_native
from safetensors.torch import load_file

from bidiffsr_cli.checkpoints.files import (
    Checkpoint,
    read_checkpoint,
    serialize_float,
    serialize_packed,
)
from bidiffsr_cli.checkpoints.header import LONGEST_HEADER, ForeignFileError, read_header
from bidiffsr_cli.checkpoints.upstream import serialize_pth
from bidiffsr_cli.configs import DiffusionConfig, ModelConfig, UNetConfig, UpsamplerConfig
from bidiffsr_cli.errors import CheckpointError, ModelError
from bidiffsr_cli.networks.packed import freeze
from bidiffsr_cli.networks.unet import meta_network
from bidiffsr_cli.ops import native

TINY = ModelConfig(
    UNetConfig(inner_channel=8, norm_groups=4, channel_mults=(1, 2), res_blocks=1), DiffusionConfig(), (2,)
)

WITH_UPSAMPLER = dataclasses.replace(
    TINY, network=dataclasses.replace(TINY.network, upsampler=UpsamplerConfig({"2": 1}, channels=3))
)


def random_checkpoint(config: ModelConfig = TINY) -> Checkpoint:
    state = {name: 0.2 * torch.randn(tensor.shape) for name, tensor in meta_network(config).state_dict().items()}
    return Checkpoint.of_tensors(config, state, license="CC0-1.0", origin="random")


@pytest.mark.parametrize("config", [TINY, WITH_UPSAMPLER], ids=["", "upsampler"])
def test_float_storage_keeps_every_value(config, tmp_path):
    checkpoint = random_checkpoint(config)
    (tmp_path / "f.safetensors").write_bytes(serialize_float(checkpoint))
    read = read_checkpoint(tmp_path / "f.safetensors")
    assert read.config == config and read.storage == "float"
    assert (read.license, read.origin) == ("CC0-1.0", "random")
    assert read.state.keys() == checkpoint.state.keys() == checkpoint.arrays.keys()
    assert all(torch.equal(read.state[name], tensor) for name, tensor in checkpoint.state.items())


def test_the_authors_files_have_no_upsampler():
    checkpoint = random_checkpoint(WITH_UPSAMPLER)
    with pytest.raises(CheckpointError, match="authors' code does not know"):
        serialize_pth(checkpoint.state, checkpoint.config)


@pytest.mark.parametrize("config", [TINY, WITH_UPSAMPLER], ids=["", "upsampler"])
@pytest.mark.parametrize("parts", [((), ()), (("tar", "norm1", "norm2", "stem"), ()), ((), ("upsamplers", "qkv"))])
def test_float_packed_float_packed_is_a_fixed_point(parts, config, tmp_path):
    packed = serialize_packed(random_checkpoint(config), *parts)
    (tmp_path / "p.safetensors").write_bytes(packed)
    once = read_checkpoint(tmp_path / "p.safetensors")
    (tmp_path / "f.safetensors").write_bytes(serialize_float(once))
    twice = read_checkpoint(tmp_path / "f.safetensors")
    assert serialize_packed(twice, *parts) == packed


@pytest.mark.parametrize("engine", [True, False])
def test_convolutions_of_eight_bits(engine, tmp_path, monkeypatch):
    """Each output's largest weight is 127 of its units; the others are within half a unit."""
    checkpoint, path = random_checkpoint(WITH_UPSAMPLER), tmp_path / "p.safetensors"
    name = "upsamplers.2.head.weight"
    weight = checkpoint.state[name]
    weight[0], weight[1] = 0, weight[1] * 1e-44  # nothing, and what is too small to be told from nothing
    path.write_bytes(serialize_packed(checkpoint, eight_bits=("head",)))
    if not engine:
        monkeypatch.setattr(native, "why_unavailable", lambda: "it is not there")
    read = read_checkpoint(path)
    assert read.arrays.keys() == read_checkpoint(path).build_packed().state_dict().keys()
    unit = weight.flatten(1).abs().amax(1)[:, None, None, None] / 127
    assert bool(((read.state[name] - weight).abs() <= 0.501 * unit + 1e-43).all())
    assert len(path.read_bytes()) < len(serialize_packed(checkpoint))
    header, body = split(path.read_bytes())
    first, _ = header[f"{name}.scale"]["data_offsets"]
    path.write_bytes(join(header, body[:first] + struct.pack("<f", 3e38) + body[first + 4 :]))
    with pytest.raises(CheckpointError, match=f"{name} holds values that are not finite"):
        read_checkpoint(path)
    for change, told in (
        ({name: header[name] | {"dtype": "U8"}}, f"{name} has type U8"),
        ({"stray.scale": header.pop(f"{name}.scale")}, f"{name}.scale is missing"),
    ):
        path.write_bytes(join(header | change, body))
        with pytest.raises(CheckpointError, match=told):
            read_checkpoint(path)


def test_packed_network_computes_what_the_float_network_computes(tmp_path):
    checkpoint = random_checkpoint()
    everything = {part for name in checkpoint.state for part in name.split(".")}
    (tmp_path / "p.safetensors").write_bytes(serialize_packed(checkpoint, float32=everything))
    x, t = torch.randn(1, 3, 16, 16), torch.tensor([700])
    with torch.no_grad():
        expected = freeze(checkpoint.build())(x, x, t)
        assert torch.equal(freeze(read_checkpoint(tmp_path / "p.safetensors").build())(x, x, t), expected)


@pytest.mark.slow
def test_published_network_takes_at_most_12_5_megabytes():
    published = random_checkpoint(ModelConfig(UNetConfig(), DiffusionConfig(), (2,)))
    assert sum(tensor.numel() for tensor in published.state.values()) == 51_280_387
    assert len(serialize_packed(published)) <= 12_500_000


def test_bytes_depend_on_the_content_alone():
    one, two = random_checkpoint(), None
    for _ in range(5):
        two = serialize_packed(dataclasses.replace(one))
        assert two == serialize_packed(one)


def split(file: bytes) -> tuple[dict, bytes]:
    length = struct.unpack("<Q", file[:8])[0]
    return json.loads(file[8 : 8 + length]), file[8 + length :]


def join(header: dict, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


CONV = "encoder.0.conv1"


def with_metadata(**changes):
    def damage(file: bytes) -> bytes:
        header, body = split(file)
        header["__metadata__"] |= changes
        return join(header, body)

    return damage


def without_metadata(name):
    def damage(file: bytes) -> bytes:
        header, body = split(file)
        del header["__metadata__"][name]
        return join(header, body)

    return damage


def with_config(change):
    def damage(file: bytes) -> bytes:
        header, body = split(file)
        config = json.loads(header["__metadata__"]["config"])
        change(config)
        header["__metadata__"]["config"] = json.dumps(config)
        return join(header, body)

    return damage


def renamed(old, new):
    def damage(file: bytes) -> bytes:
        header, body = split(file)
        header[new] = header.pop(old)
        return join(header, body)

    return damage


def redescribed(name, **changes):
    def damage(file: bytes) -> bytes:
        header, body = split(file)
        header[name] |= changes
        return join(header, body)

    return damage


def moved(name, by):
    """Say that a tensor begins so many bytes later."""

    def damage(file: bytes) -> bytes:
        header, body = split(file)
        first, last = header[name]["data_offsets"]
        header[name]["data_offsets"] = [first + by, last + by]
        return join(header, body)

    return damage


def with_a_gap(file: bytes) -> bytes:
    """Every tensor begins 8 bytes later than it has to."""
    header, body = split(file)
    for name in header.keys() - {"__metadata__"}:
        header[name]["data_offsets"] = [place + 8 for place in header[name]["data_offsets"]]
    return join(header, bytes(8) + body)


def overwritten(name, octets):
    def damage(file: bytes) -> bytes:
        header, body = split(file)
        _, end = header[name]["data_offsets"]
        return join(header, body[: end - len(octets)] + octets + body[end:])

    return damage


OF_HEADERS = [
    (lambda f: b"", "not a whole safetensors file"),
    (lambda f: f[:5], "not a whole safetensors file"),
    (lambda f: f[:1000], "not a whole safetensors file"),
    (lambda f: f[:-1], "not a whole safetensors file"),
    (lambda f: f + b"\0" * 8, "not a whole safetensors file"),
    (lambda f: b"\xff" * 8 + f[8:], "not a whole safetensors file"),
    (lambda f: b"GIF89a" + f, "not a whole safetensors file"),
    (with_metadata(format="other"), "not one of bidiffsr"),
    (without_metadata("format"), "not one of bidiffsr"),
    (with_metadata(format_version="2"), "format version is '2'"),
    (without_metadata("license"), "lacks 'license'"),
    (with_metadata(storage="zip"), "storage is 'zip'"),
    (with_metadata(config="{"), "config is not JSON"),
    (with_config(lambda c: c.update(colour=1)), "a field that this version does not know: 'colour'"),
    (with_config(lambda c: c.pop("scales")), "lacks 'scales'"),
    (with_config(lambda c: c["network"].update(inner_channel=10**9)), "inner_channel cannot be 1000000000"),
    (with_config(lambda c: c["network"].update(res_blocks="2")), "res_blocks has a value of the wrong kind"),
    (with_config(lambda c: c["network"].update(res_blocks=True)), "res_blocks has a value of the wrong kind"),
    (with_config(lambda c: c["network"].update(channel_mults=[1] * 100_000)), "channel_mults cannot be"),
    (with_config(lambda c: c["network"].update(tar_groups=1000)), "tar_groups cannot be 1000"),
    (with_config(lambda c: c["network"].update(norm_groups=3)), "norm_groups cannot be 3"),
    (with_config(lambda c: c.update(scales=[2] * 1000)), "scales cannot be"),
    (with_config(lambda c: c["diffusion"].update(beta_start=10**400)), "beta_start has a value of the wrong kind"),
    (with_config(lambda c: c["diffusion"].update(beta_start=1e-12, beta_end=1e-12)), "beta_start cannot be 1e-12"),
    (with_config(lambda c: c["diffusion"].update(beta_start=0.5, beta_end=0.9)), "beta_end cannot be 0.9"),
    (with_config(lambda c: c["diffusion"].update(clip=[-1e300, 1e300])), "clip"),
]
DAMAGES = [
    *OF_HEADERS,
    (with_config(lambda c: c["network"].update(inner_channel=16)), "has shape"),
    (renamed(f"{CONV}.alpha", f"{CONV}.beta"), f"tensor {CONV}.alpha is missing"),
    (renamed("head.bias", "tail.bias"), "tensor head.bias is missing"),
    (redescribed("head.weight", shape=[3, 8, 9]), r"head.weight has shape \(3, 8, 9\); expected \(3, 8, 3, 3\)"),
    (redescribed("head.bias", dtype="BF16"), "head.bias has type BF16; expected F32 or F16"),
    (redescribed(f"{CONV}.sign", dtype="I8"), f"{CONV}.sign has type I8; expected U8"),
    (redescribed(f"{CONV}.sign", dtype="x" * 10_000), f"{CONV}.sign has type x{{40}}; expected U8"),
    (moved("head.bias", -2), "not a whole safetensors file"),
    (moved("encoder.0.norm1.weight", 2), "not a whole safetensors file"),
    (with_a_gap, "not a whole safetensors file"),
    (overwritten("head.bias", struct.pack("<e", float("nan"))), "head.bias holds values that are not finite"),
    (overwritten("head.bias", struct.pack("<e", float("-inf"))), "head.bias holds values that are not finite"),
    (overwritten(f"{CONV}.alpha", struct.pack("<f", float("inf"))), f"{CONV}.alpha holds values that are not finite"),
    (overwritten(f"{CONV}.alpha", struct.pack("<f", -0.5)), f"{CONV}.alpha has a negative scale"),
    (overwritten(f"{CONV}.sign", b"\x80"), f"{CONV}.sign has bits set behind the end"),
]


@pytest.fixture(scope="module")
def packed() -> bytes:
    """A packed file."""
    return serialize_packed(random_checkpoint())


@pytest.mark.parametrize(
    ("read", "damage", "sentence"),
    [(read_checkpoint, *damage) for damage in DAMAGES] + [(read_header, *damage) for damage in OF_HEADERS],
)
def test_whatever_is_wrong_is_named(read, damage, sentence, packed, tmp_path):
    path = tmp_path / "p.safetensors"
    path.write_bytes(damage(packed))
    with pytest.raises(CheckpointError, match=sentence) as caught:
        read(path)
    assert caught.value.message.startswith("p.safetensors")
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    "header",
    [
        [],
        None,
        {"__metadata__": []},
        {"__metadata__": {"format": 1}},
        {"x": 1},
        {"x": {"data_offsets": []}},
        {"x": {"dtype": "U8", "shape": [1], "data_offsets": [0, float("inf")]}},
        {"x": {"dtype": "U8", "shape": [1], "data_offsets": [0, 10**30]}},
        {"x": {"dtype": "U8", "shape": [-1], "data_offsets": [1, 0]}},
        {"x": {"dtype": "U8", "shape": [1], "data_offsets": ["0", "1"]}},
        {"x": {"dtype": "F16", "shape": [1], "data_offsets": [0, 1]}},
        {"x": {"data_offsets": [0, 0]}},
        {"x": {"dtype": "U8", "shape": [10**6, 10**6, [None]], "data_offsets": [0, 0]}},
        {"x": {"dtype": "U8", "shape": [1] * 9, "data_offsets": [0, 1]}},
        {"__metadata__": {"license": "\ud800"}},
        {"x": {"dtype": 7, "shape": [1], "data_offsets": [0, 0]}},
        {"x": {"dtype": "\ud800", "shape": [1], "data_offsets": [0, 0]}},
        {"x": {"dtype": "F64", "shape": [10**400], "data_offsets": [0, 0]}},
    ],
)
def test_headers_of_another_shape(header, tmp_path):
    path = tmp_path / "p.safetensors"
    path.write_bytes(join(header, b""))
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        read_header(path)


def test_a_header_without_end_is_another_programs(tmp_path):
    path = tmp_path / "p.safetensors"
    path.write_bytes(join({"a": [[]] * (LONGEST_HEADER // 4)}, b""))
    for read in (read_header, read_checkpoint):
        with pytest.raises(ForeignFileError, match="too long"):
            read(path)


def test_an_extra_tensor_is_refused(packed, tmp_path):
    header, body = split(packed)
    header["zzz"] = {"dtype": "U8", "shape": [8], "data_offsets": [len(body), len(body) + 8]}
    (tmp_path / "p.safetensors").write_bytes(join(header, body + b"\0" * 8))
    with pytest.raises(CheckpointError, match="tensor zzz is not part of this network"):
        read_checkpoint(tmp_path / "p.safetensors")


def test_missing_file_and_foreign_suffix_are_told_apart(tmp_path, golden):
    with pytest.raises(ModelError, match="There is no checkpoint file"):
        read_checkpoint(tmp_path / "absent.safetensors")
    with pytest.raises(CheckpointError, match="is a PyTorch file"):
        read_checkpoint(golden / "tiny_official_format.pth")


@pytest.mark.parametrize("count", [40, pytest.param(2500, marks=pytest.mark.slow)])
@pytest.mark.skipif(sys.platform != "linux", reason="the limits are Linux's")
def test_hostile_files_are_refused_at_once_and_in_little_memory(count):
    script = Path(__file__).with_name("hostile.py")
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", script, str(count)], capture_output=True, text=True, timeout=300
    )
    assert finished.returncode == 0, finished.stderr[-1000:]
    results = json.loads(finished.stdout)
    assert results["refused"] > 0.6 * count and results["read"] > 0.02 * count


@pytest.mark.parametrize("engine", [True, False])
def test_with_and_without_the_engine_the_same_is_read(engine, tmp_path, monkeypatch):
    checkpoint, path = random_checkpoint(), tmp_path / "p.safetensors"
    path.write_bytes(serialize_packed(checkpoint, ("tar",)))
    if not engine:
        monkeypatch.setattr(native, "why_unavailable", lambda: "there is none")
    elif native.why_unavailable():
        pytest.skip("the native engine is not here")
    read, expected = read_checkpoint(path).state, load_file(path)
    assert read.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(read[name], tensor if tensor.dtype == torch.uint8 else tensor.float())
    path.write_bytes(overwritten("head.bias", struct.pack("<e", float("nan")))(path.read_bytes()))
    with pytest.raises(CheckpointError, match=r"head\.bias holds values that are not finite"):
        read_checkpoint(path)


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from bidiffsr_cli.checkpoints.catalog import weights_folder
from bidiffsr_cli.checkpoints.files import read_checkpoint
from bidiffsr_cli.networks.complexity import complexity
from bidiffsr_cli.networks.native_unet import NativeUNet
from bidiffsr_cli.networks.program import program_of
from bidiffsr_cli.ops import native
checkpoint = read_checkpoint(weights_folder() / "fast.safetensors")
program = program_of(checkpoint.config, checkpoint.packed_arrays(), "float32")
network = NativeUNet(checkpoint.config, checkpoint.arrays, native.supported_isas()[-1], "bfloat16")
cost = complexity(checkpoint.config.network, checkpoint.config.condition_channels)
print(len(program.operations), network.network.nbytes > 500_000, cost.weights)
"""


@needs_native
def test_a_packed_file_is_read_and_brought_onto_the_engine_without_torch(fast, tmp_path):
    command = [sys.executable, "-c", WITHOUT_TORCH]  # elsewhere: a tree that is no installation has no engine
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr[-1000:]
    latent = sum(tensor.numel() for name, tensor in fast.build().state_dict().items())
    assert finished.stdout.split() == ["65", "True", str(latent)]
