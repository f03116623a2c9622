"""Named models, and the bundled one."""

import hashlib
import shutil

import pytest

from bidiffsr_cli.checkpoints import catalog as module
from bidiffsr_cli.checkpoints.catalog import catalog, load_checkpoint, weights_folder
from bidiffsr_cli.errors import CheckpointError, ModelError


def test_every_bundled_file_is_the_one_of_the_catalog():
    assert next(iter(catalog())) == "fast"
    for entry in catalog().values():
        content = entry.path.read_bytes()
        assert len(content) == entry.size
        assert hashlib.sha256(content).hexdigest() == entry.sha256
        checkpoint = load_checkpoint(entry.name)
        assert checkpoint.storage == "packed" and checkpoint.origin
        assert checkpoint.license == entry.license and checkpoint.config.scales == entry.scales


def test_names_revisions_and_paths():
    fast = load_checkpoint("fast")
    assert (fast.name, fast.revision) == ("fast", "2")
    assert load_checkpoint("fast@2").sha256 == fast.sha256
    by_path = load_checkpoint(weights_folder() / "fast.safetensors")
    assert by_path.sha256 == fast.sha256 and by_path.name == "fast" and by_path.revision == ""


@pytest.mark.parametrize("model", ["slow", "fast@9", "./no/such.safetensors", "", "org/repo", "x" * 300, "nul\0"])
def test_unknown_models(model):
    with pytest.raises(ModelError) as caught:
        load_checkpoint(model)
    assert caught.value.hint


def test_a_bundled_file_that_changed_is_refused(tmp_path, monkeypatch):
    shutil.copytree(weights_folder(), tmp_path / "weights")
    file = tmp_path / "weights" / "fast.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    monkeypatch.setattr(module, "weights_folder", lambda: tmp_path / "weights")
    with pytest.raises(CheckpointError, match="not the one of the catalog"):
        load_checkpoint("fast")
