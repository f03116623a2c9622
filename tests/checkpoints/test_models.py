"""From a user's word to a checkpoint: the catalog, the Hub, files; and the bundled models themselves."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_server import Hub
from huggingface_hub import constants

from bidiffsr_cli.checkpoints import catalog as catalogs
from bidiffsr_cli.checkpoints.catalog import catalog, default_model, weights_folder
from bidiffsr_cli.checkpoints.hub import HubFile
from bidiffsr_cli.checkpoints.listing import known_models
from bidiffsr_cli.checkpoints.models import find_model, load_checkpoint
from bidiffsr_cli.errors import CheckpointError, ModelError


def test_every_bundled_file_is_the_one_of_the_catalog() -> None:
    assert default_model() == "fast"
    for entry in catalog():
        if not entry.bundled:
            continue
        content = entry.bundled.read_bytes()
        assert len(content) == entry.size
        assert hashlib.sha256(content).hexdigest() == entry.sha256
        checkpoint = load_checkpoint(entry.full_name)
        assert checkpoint.storage == "packed" and checkpoint.origin
        assert checkpoint.license == entry.license and checkpoint.config.scales == entry.scales


def test_every_source_is_bundled_or_pinned() -> None:
    for entry in catalog():
        assert entry.sources
        for source in entry.sources:
            parsed = HubFile.parse(source)
            assert source == catalogs.BUNDLED or (parsed and len(parsed.revision) == 40)


def test_names_revisions_and_paths() -> None:
    fast = load_checkpoint("fast")
    assert (fast.name, fast.revision) == ("fast", "8")
    assert load_checkpoint("fast@8").sha256 == fast.sha256
    by_path = load_checkpoint(weights_folder() / "fast.safetensors")
    assert by_path.sha256 == fast.sha256 and by_path.name == "fast" and by_path.revision == ""


@pytest.mark.parametrize(
    "model", ["slow", "fast@9", "./no/such.safetensors", "", "org/repo:../x", "a/b/c", "x" * 300, "nul\0"]
)
def test_unknown_models(model: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_checkpoint(model)
    assert caught.value.hint


def test_a_file_goes_before_the_hub(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("org").mkdir()
    shutil.copy(weights_folder() / "fast.safetensors", "org/repo")
    assert load_checkpoint("org/repo").name == "repo" and not hub.requests


def test_a_model_of_the_hub(hub: Hub) -> None:
    data = (weights_folder() / "fast.safetensors").read_bytes()
    commit = hub.commit("org/repo", {"model.safetensors": data})
    with pytest.raises(ModelError, match="may not be used"):
        load_checkpoint("org/repo", offline=True)
    checkpoint = load_checkpoint("org/repo")
    assert (checkpoint.name, checkpoint.revision) == ("org/repo", commit)
    asked = len(hub.requests)
    assert load_checkpoint("org/repo", offline=True).sha256 == checkpoint.sha256
    assert load_checkpoint(f"org/repo@{commit}").revision == commit
    assert len(hub.requests) == asked
    hub.commit("org/repo", {"model.safetensors": b"no checkpoint"})
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        find_model("org/repo").read(find_model("org/repo").fetch())


def test_a_damaged_cached_file_is_named(hub: Hub) -> None:
    hub.commit("org/repo", {"model.safetensors": (weights_folder() / "fast.safetensors").read_bytes()})
    path = find_model("org/repo").fetch()
    path.resolve().write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(CheckpointError, match="damaged") as caught:
        load_checkpoint("org/repo")
    assert "models pull" in caught.value.hint


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the folder of bundled weights, to be changed."""
    folder = tmp_path / "weights"
    shutil.copytree(weights_folder(), folder)
    monkeypatch.setattr(catalogs, "weights_folder", lambda: folder)
    catalog.cache_clear()
    yield folder
    catalog.cache_clear()


def test_a_bundled_file_that_changed_is_refused(weights: Path) -> None:
    file = weights / "fast.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(CheckpointError, match="not the one of the catalog"):
        load_checkpoint("fast")


@pytest.fixture
def remote(hub: Hub, weights: Path) -> dict[str, str]:
    """A catalog in which `fast` lies on the Hub in two places; repository -> commit."""
    data = (weights / "fast.safetensors").read_bytes()
    commits = {name: hub.commit(name, {"f.safetensors": data}) for name in ("org/one", "org/two")}
    text = json.loads((weights / "catalog.json").read_text())
    text["models"][0]["sources"] = [f"{name}@{commit}:f.safetensors" for name, commit in commits.items()]
    (weights / "catalog.json").write_text(json.dumps(text))
    (weights / "fast.safetensors").unlink()
    catalog.cache_clear()
    return commits


def test_a_remote_model_of_the_catalog(hub: Hub, remote: dict[str, str]) -> None:
    def known() -> Any:
        (item,) = [item for item in known_models() if item.name == "fast@8"]
        return item

    assert (known().place, known().path) == ("remote", None) and not hub.requests
    assert load_checkpoint("fast").revision == "8"
    assert known().place == "cached" and known().path
    asked = len(hub.requests)
    find_model("fast").fetch()
    assert len(hub.requests) == asked  # a pinned commit is what it is


def test_the_second_source_is_asked_where_the_first_fails(hub: Hub, remote: dict[str, str]) -> None:
    del hub.repos["org/one"]
    path = find_model("fast").fetch()
    assert "org--two" in str(path) and find_model("fast").local_path() == path


def test_other_bytes_than_the_catalogs_are_refused(hub: Hub, remote: dict[str, str]) -> None:
    for name, commit in remote.items():
        hub.repos[name].commits[commit]["f.safetensors"] = b"other"
    hub.blobs[hashlib.sha256(b"other").hexdigest()] = b"other"
    with pytest.raises(ModelError, match="another hash"):
        load_checkpoint("fast")
    assert not list(Path(constants.HF_HUB_CACHE).glob("*/blobs/*"))
