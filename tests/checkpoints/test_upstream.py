"""The authors' files: import, export, and everything that can be wrong with them."""

import contextlib
import json
import pickle
import random
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bidiffsr_cli.checkpoints.files import read_checkpoint, read_pth_checkpoint
from bidiffsr_cli.checkpoints.upstream import from_upstream, read_pth, serialize_pth, to_upstream
from bidiffsr_cli.configs import DiffusionConfig, ModelConfig, UNetConfig
from bidiffsr_cli.errors import CheckpointError
from bidiffsr_cli.networks.unet import meta_network

TINY = ModelConfig(
    UNetConfig(inner_channel=8, norm_groups=8, channel_mults=(1, 2), res_blocks=1), DiffusionConfig(), (2,)
)


def random_state(config: ModelConfig) -> dict[str, torch.Tensor]:
    return {name: torch.randn(tensor.shape) for name, tensor in meta_network(config).state_dict().items()}


def test_published_network_has_exactly_the_authors_names_and_shapes(golden):
    published = ModelConfig(UNetConfig(), DiffusionConfig(), (2,))
    exported = to_upstream(meta_network(published).state_dict(), published)
    expected = json.loads((golden / "official_state_dict_shapes.json").read_text())
    assert {name: list(tensor.shape) for name, tensor in exported.items()} == expected
    assert len(expected) == 1371


def test_the_authors_file_is_imported_with_its_config(golden):
    checkpoint = read_pth_checkpoint(golden / "tiny_official_format.pth", scales=(4,))
    network = checkpoint.config.network
    assert network == UNetConfig(inner_channel=8, norm_groups=8)
    assert checkpoint.config.diffusion == DiffusionConfig() and checkpoint.config.scales == (4,)


def test_export_gives_back_every_value(golden, tmp_path):
    original = read_pth(golden / "tiny_official_format.pth")
    checkpoint = read_pth_checkpoint(golden / "tiny_official_format.pth", scales=(2,))
    (tmp_path / "again.pth").write_bytes(serialize_pth(checkpoint.state, checkpoint.config))
    again = torch.load(tmp_path / "again.pth", weights_only=True)["params"]
    assert again.keys() == original.keys()
    assert all(torch.equal(again[name], original[name]) for name in original)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tar_groups": 1, "taa_groups": 3},
        {"res_blocks": 3},
        {"channel_mults": (1,), "full_precision_levels": (0,)},
        {"channel_mults": (1, 2, 4), "full_precision_levels": (1,)},
        {"full_precision_levels": ()},
        {"pixel_unshuffle": 2},
        {"inner_channel": 16, "norm_groups": 16},
    ],
    ids=str,
)
def test_the_config_is_inferred_from_shapes(changes, tmp_path):
    import dataclasses

    config = dataclasses.replace(TINY, network=dataclasses.replace(TINY.network, **changes))
    state = random_state(config)
    (tmp_path / "w.pth").write_bytes(serialize_pth(state, config))
    checkpoint = read_pth_checkpoint(tmp_path / "w.pth", scales=(2,))
    assert checkpoint.config == config
    assert all(torch.equal(checkpoint.state[name], state[name]) for name in state)


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"params": s}, lambda s: {"params_ema": s}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_usual_wrapping_is_understood(wrap, prefix, tmp_path):
    upstream = to_upstream(random_state(TINY), TINY)
    torch.save(wrap({prefix + name: tensor for name, tensor in upstream.items()}), tmp_path / "w.pth")
    read = read_pth(tmp_path / "w.pth")
    assert read.keys() == upstream.keys()


def damaged(change) -> dict[str, torch.Tensor]:
    upstream = to_upstream(random_state(TINY), TINY)
    change(upstream)
    return upstream


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: s.pop("mid.0.attn.qkv.weight"), "mid.0.attn.qkv.weight is missing"),
        (lambda s: s.update(extra=torch.zeros(1)), "extra is not part of this network"),
        (
            lambda s: s.update({"mid.1.res_block.block2.block.0.bias": torch.zeros(3)}),
            r"mid.1.res_block.block2.block.0.bias has shape \(3,\); expected \(16,\)",
        ),
        (lambda s: s["downs.0.bias"].fill_(float("nan")), "downs.0.bias holds values that are not finite"),
    ],
)
def test_the_first_wrong_tensor_is_named(change, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        from_upstream(damaged(change), TINY)


def with_head(head: torch.Tensor) -> dict[str, torch.Tensor]:
    upstream = to_upstream(random_state(TINY), TINY)
    upstream["final_conv.block.3.weight"] = head
    return upstream


class Malice:
    """Pickled, it would run code on loading."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_a_malicious_pickle_is_refused_and_not_run(tmp_path):
    for name, save in (("zip.pth", torch.save), ("raw.pth", lambda value, path: path.write_bytes(pickle.dumps(value)))):
        save({"params": Malice(tmp_path / "hacked")}, tmp_path / name)
        with pytest.raises(CheckpointError, match="more than tensors"):
            read_pth(tmp_path / name)
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_text("no weights"),
        lambda path: path.write_bytes(b""),
        lambda path: path.mkdir(),
        lambda path: torch.save([1, 2], path),
        lambda path: torch.save({}, path),
        lambda path: torch.save({"params": {"a": "text"}}, path),
        lambda path: torch.save({"params": {1: torch.zeros(1)}}, path),
        lambda path: torch.save({"params": {"a": torch.zeros(1, dtype=torch.int64)}}, path),
        lambda path: torch.save({"params": {"downs.0.weight": torch.zeros(8, 6, 3, 3)}}, path),
        lambda path: torch.save({"params": {"a": torch.zeros(2, 2).to_sparse()}}, path),
        lambda path: torch.save({"params": {"a": torch.zeros(2, device="meta")}}, path),
        lambda path: torch.save({"params": {"a": torch.zeros(2, dtype=torch.float8_e5m2)}}, path),
        lambda path: torch.save(with_head(torch.zeros(())), path),
        lambda path: torch.save(with_head(torch.zeros(3)), path),
        lambda path: None,
    ],
)
def test_what_is_no_such_file_is_said_so(write, tmp_path):
    write(tmp_path / "w.pth")
    with pytest.raises(CheckpointError):
        read_pth_checkpoint(tmp_path / "w.pth", scales=(2,))


@given(st.integers(0, 2**31))
def test_damaged_bytes_raise_nothing_but_checkpoint_errors(tmp_path_factory, seed):
    path = tmp_path_factory.mktemp("damaged") / "w.pth"
    path.write_bytes(serialize_pth(random_state(TINY), TINY))
    content, dice = bytearray(path.read_bytes()), random.Random(seed)
    start = content.index(b"data.pkl")  # the pickle, where damage does most
    for _ in range(dice.randint(1, 8)):
        content[start + dice.randrange(8000)] = dice.randrange(256)
    path.write_bytes(content)
    with contextlib.suppress(CheckpointError):
        read_pth_checkpoint(path, scales=(2,))


def test_a_truncated_file_is_refused(golden, tmp_path):
    whole = (golden / "tiny_official_format.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"w\.pth"):
        read_pth(tmp_path / "w.pth")


def test_a_compressed_file_is_refused_before_it_is_unpacked(golden, tmp_path):
    whole = golden / "tiny_official_format.pth"
    with (
        zipfile.ZipFile(whole) as source,
        zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for part in source.infolist():
            target.writestr(part.filename, source.read(part))
    with pytest.raises(CheckpointError, match="compressed"):
        read_pth(tmp_path / "packed.pth")


def test_a_zip_that_only_torch_understands_is_refused(golden, tmp_path):
    data = bytearray((golden / "tiny_official_format.pth").read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 6] = 70  # the version that is needed to unpack it
    (tmp_path / "odd.pth").write_bytes(data)
    with pytest.raises(CheckpointError, match="compressed"):
        read_pth(tmp_path / "odd.pth")


def test_one_number_does_not_stand_for_many(tmp_path):
    """With a stride of 0 a file of a few hundred bytes would become gigabytes."""
    torch.save({"params": {"downs.0.weight": torch.zeros(1).expand(1 << 20, 1 << 10)}}, tmp_path / "wide.pth")
    assert (tmp_path / "wide.pth").stat().st_size < 5000
    with pytest.raises(CheckpointError, match="not a parameter"):
        read_pth(tmp_path / "wide.pth")


@pytest.mark.parametrize("read", [read_pth, read_checkpoint])
def test_a_pointer_of_git_lfs_is_called_so(read, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 3700000\n")
    with pytest.raises(CheckpointError, match="Git LFS pointer") as refused:
        read(path)
    assert "git lfs pull" in refused.value.hint
