"""`--model auto`, and the hint where it was not given: each picture by the model that suits it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from bidiffsr_cli.checkpoints import catalog
from bidiffsr_cli.folders import work
from bidiffsr_cli.ops import native
from bidiffsr_cli.tasks import batch
from bidiffsr_cli.tasks.listener import SILENT

from .support import Run, decoded, picture, tiny_checkpoint

Bundle = Callable[..., None]


@pytest.fixture
def bundle(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bundle]:
    """Bundle small models: name=seed of its weights; the one called photo is for compressed pictures.

    `psnr` says of some how near their pictures in bfloat16 are.
    """
    weights = tmp_path_factory.mktemp("weights")
    monkeypatch.setattr(catalog, "weights_folder", lambda: weights)

    def bundle(psnr: Mapping[str, float] = MappingProxyType({}), **models: int) -> None:
        entries = []
        for name, seed in models.items():
            data = tiny_checkpoint(seed)
            (weights / f"{name}.safetensors").write_bytes(data)
            entry = {"name": name, "revision": "1", "file": f"{name}.safetensors", "size": len(data), "scales": [2, 4]}
            entry |= {"sha256": hashlib.sha256(data).hexdigest(), "summary": "", "license": "CC0-1.0", "scores": {}}
            entry |= {"bf16_psnr": psnr.get(name, 0.0), "fp16_psnr": 0.0, "sources": ["bundled"]}
            entries.append(entry | ({"suits": "compressed"} if name == "photo" else {}))
        (weights / "catalog.json").write_text(json.dumps({"models": entries}))
        forget()

    def forget() -> None:
        """What this process knows of the models before."""
        catalog.catalog.cache_clear()
        work.forget_models()

    bundle(fast=0, photo=1)
    yield bundle
    monkeypatch.undo()
    forget()


@pytest.fixture
def mixed(folder: Path) -> Path:
    """A folder of pictures of several kinds."""
    (folder / "in").mkdir()
    picture().save("in/clean.png")
    picture().save("in/good.jpg", quality=95)
    picture().save("in/poor.jpg", quality=60)
    picture().save("in/weak.webp", quality=50)
    picture().save("in/lossless.webp", lossless=True)
    return folder


SUITED = {"clean": "fast", "good": "fast", "lossless": "fast", "poor": "photo", "weak": "photo"}


@pytest.mark.usefixtures("bundle")
def test_auto_takes_the_model_that_suits(mixed: Path, run: Run) -> None:
    for path in sorted(Path("in").iterdir()):
        answer = run("upscale", path, "-o", f"{path.name}.png", "--model", "auto", "--json").json
        assert answer["model"]["name"] == SUITED[path.stem]
        with decoded(Path(f"{path.name}.png")) as image:
            assert SUITED[path.stem] in str(image.info)  # the provenance
    several = run("upscale", *sorted(Path("in").iterdir()), "-o", "all", "--model", "auto", "--json").json
    assert [item["model"]["name"] for item in several["images"]] == ["fast", "fast", "fast", "photo", "photo"]
    assert [item["input_quality"] for item in several["images"][:4]] == [None, 95, None, 60]
    loading = [item["seconds"]["load_model"] > 0 for item in several["images"]]
    assert loading == [True, False, False, True, False]


def test_a_folder_and_a_rerun(mixed: Path, run: Run, bundle: Bundle) -> None:
    def batch() -> dict[str, tuple[str, str]]:
        finished = run("batch", "in", "-o", "out", "--model", "auto", "--json")
        assert finished.code == 0, finished.err
        assert "--model" not in finished.err  # no hint where it was given
        return {Path(i["input"]).name: (i["model"]["name"], i["status"]) for i in finished.json["images"]}

    first = batch()
    assert first == {name: (SUITED[Path(name).stem], "done") for name in first} and len(first) == 5
    made = {path.name: path.read_bytes() for path in Path("out").glob("*.png")}
    assert batch() == {name: (model, "skipped") for name, (model, _) in first.items()}
    run("upscale", "in/poor.jpg", "-o", "alone.png", "--model", "photo")
    with decoded(Path("alone.png")) as alone, decoded(Path("out/poor.png")) as together:
        assert alone.tobytes() == together.tobytes()
    bundle(fast=0, photo=2)
    assert {status for _, status in batch().values()} == {"done"}
    changed = {path.name for path in Path("out").glob("*.png") if path.read_bytes() != made[path.name]}
    assert changed == {"poor.png", "weak.png"}


def test_the_hint(mixed: Path, run: Run, bundle: Bundle) -> None:
    sentence = "The picture is visibly compressed (quality about 60): --model photo is made for such."
    shown = run("upscale", "in/poor.jpg", "-o", "a.png")
    assert sentence in " ".join(shown.err.split()) and "fast" in shown.err
    for args in (["--model", "fast"], ["--model", "auto"], ["--quiet"]):
        assert "--model" not in run("upscale", "in/poor.jpg", "-o", "a.png", "--overwrite", *args).err
    assert "--model" not in run("upscale", "in/good.jpg", "-o", "b.png").err
    many = " ".join(run("batch", "in", "-o", "out").err.split())
    assert "2 of 5 pictures are visibly compressed: --model photo is made for such, --model auto takes it" in many
    bundle(fast=0)
    assert "--model" not in run("upscale", "in/poor.jpg", "-o", "c.png").err
    assert run("upscale", "in/poor.jpg", "-o", "d.png", "--model", "auto", "--json").json["model"]["name"] == "fast"


@pytest.mark.parametrize(("photo", "precision"), [(0.0, "fp32"), (60.0, "bf16")])
def test_a_folder_has_the_precision_that_all_models_bear(
    photo: float, precision: str, mixed: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle({"fast": 60.0, "photo": photo}, fast=0, photo=1)
    monkeypatch.setattr(native, "multiplies_bfloat16", lambda isa: True)
    work, _ = batch._work(batch.BatchRequest([mixed / "in"], mixed / "out", model="auto"), SILENT)
    assert work.machine.precision == precision
