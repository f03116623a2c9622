"""`bidiffsr models`: every subcommand, and a model's way from one machine over the Hub to another."""

from __future__ import annotations

import dataclasses
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from hub_server import Hub
from huggingface_hub import constants

from bidiffsr_cli.checkpoints.catalog import catalog
from bidiffsr_cli.checkpoints.files import read_checkpoint, read_pth_checkpoint, serialize_packed
from bidiffsr_cli.ops.array import Array

from .support import Finished, Run, decoded, finish, is_one_sentence, spawn, tiny_checkpoint

TINY = tiny_checkpoint()


@pytest.mark.filterwarnings("ignore:Use 'content")  # from within the client
@pytest.mark.parametrize("alone", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_from_one_machine_over_the_hub_to_another(
    hub: Hub, folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    """push -> (empty cache) pull -> verify -> upscale, here or each in a process of its own."""

    def command(*words: str) -> Finished:
        return finish(spawn(words)) if alone else run(*words)

    Path("mine.safetensors").write_bytes(TINY)
    refused = command("models", "push", "me/mine", "-m", "mine.safetensors")
    assert refused.code == 5 and is_one_sentence(refused.err) and "token" in refused.err
    monkeypatch.setenv("HF_TOKEN", hub.token)
    pushed = command("models", "push", "me/mine", "-m", "mine.safetensors", "--json")
    assert pushed.code == 0, pushed.err
    files = hub.repos["me/mine"].commits[pushed.json["commit"]]
    assert files["model.safetensors"] == TINY and "config.json" in files
    card = files["README.md"].decode()
    assert card.startswith("---\n") and "license: cc0-1.0" in card and "--model me/mine" in card
    monkeypatch.delenv("HF_TOKEN")
    offline = command("models", "pull", "me/mine", "--offline")
    assert offline.code == 5 and is_one_sentence(offline.err)
    pulled = command("models", "pull", "me/mine")
    assert pulled.code == 0 and "is here now" in pulled.err
    asked = len(hub.requests)
    verified = command("models", "verify", "--json")
    assert verified.code == 0
    assert [model["ok"] for model in verified.json["models"]] == [True] * (1 + len(catalog()))  # the bundled ones too
    enlarged = command("upscale", "photo.png", "--model", "me/mine", "--steps", "1", "--json")
    assert enlarged.code == 0, enlarged.err
    assert enlarged.json["model"]["name"] == "me/mine"
    assert enlarged.json["model"]["revision"] == pushed.json["commit"]
    assert decoded(folder / "photo_x2.png").size == (48, 32)
    assert len(hub.requests) == asked  # what is here needs no network


def test_list_show_path_rm(hub: Hub, folder: Path, run: Run) -> None:
    commit = hub.commit("org/repo", {"model.safetensors": TINY, "broken.safetensors": TINY[:50]})
    listed = run("models", "list")
    assert listed.code == 0 and "fast@8" in listed.answer and "bundled" in listed.answer
    assert "org/repo" not in listed.answer and run("models", "list", "-q").answer == "fast@8\nphoto@2\n"
    assert run("models", "path", "org/repo").code == 5
    shown = run("models", "show", "org/repo", "--json")
    assert shown.code == 0 and shown.json["revision"] == commit and shown.json["license"] == "CC0-1.0"
    assert sum(shown.json["storage"].values()) < shown.json["bytes"] == len(TINY)
    path = run("models", "path", "org/repo")
    assert Path(path.out.decode().strip()).read_bytes() == TINY
    assert run("models", "pull", "org/repo:broken.safetensors").code == 5
    listed = run("models", "list", "--json")
    by_name = {model["name"]: model for model in listed.json["models"]}
    assert by_name[f"org/repo@{commit}"]["scales"] == [2, 4]
    assert "not a whole" in by_name[f"org/repo@{commit}:broken.safetensors"]["problem"]
    verified = run("models", "verify")
    assert verified.code == 5 and f"ok org/repo@{commit}" in verified.answer and "! " in verified.answer
    for name in ("fast", "photo.png"):
        refused = run("models", "rm", name)
        assert refused.code == 2 and is_one_sentence(refused.err)
    removed = run("models", "rm", "org/repo", "--json")
    assert removed.code == 0 and len(removed.json["removed"]) == 2
    assert run("models", "path", "org/repo").code == 5
    assert run("models", "rm", "org/repo").code == 5


def test_removing_takes_what_was_named_and_nothing_else(hub: Hub, folder: Path, run: Run) -> None:
    commits = {name: hub.commit(name, {"model.safetensors": TINY}) for name in ("org/one", "org/two")}
    hub.repos["org/two"] = hub.repos["org/one"]  # a copy: the same commits
    second = hub.commit("org/one", {"model.safetensors": tiny_checkpoint(seed=1)})
    hub.repos["org/one"].refs["2"] = commits["org/one"]
    for name in ("org/one@2", "org/one", f"org/two@{commits['org/one']}"):
        assert run("models", "pull", name).code == 0
    assert run("models", "rm", "org/one:model.safetensors").code == 2
    removed = run("models", "rm", "org/one@2", "--json")
    assert removed.json["removed"] == [f"org/one@{commits['org/one']}"]
    assert run("models", "path", f"org/one@{second}").code == 0
    assert run("models", "path", f"org/two@{commits['org/one']}").code == 0
    assert run("models", "rm", "org/one@nothing").code == 5
    blobs = Path(constants.HF_HUB_CACHE, "models--org--three", "blobs")
    blobs.mkdir(parents=True)
    (blobs / f"{'0' * 64}.bidiffsr.incomplete").write_bytes(bytes(1000))
    removed = run("models", "rm", "org/three", "--json")
    assert removed.code == 0 and removed.json["freed_bytes"] == 1000 and not list(blobs.iterdir())


def test_a_cache_that_is_none(hub: Hub, folder: Path, run: Run) -> None:
    Path(constants.HF_HUB_CACHE).parent.mkdir(parents=True)
    Path(constants.HF_HUB_CACHE).write_text("a file")
    for words in (["list"], ["verify"], ["rm", "org/repo"]):
        refused = run("models", *words)
        assert refused.code == 5 and is_one_sentence(refused.err)


@pytest.mark.parametrize(
    "name, value",
    [("HF_ENDPOINT", "http://a:b"), ("HF_TOKEN", "ключ"), ("HTTPS_PROXY", "foo://x"), ("HTTP_PROXY", "foo://x")],
)
@pytest.mark.slow
def test_an_environment_that_cannot_work(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    hub.commit("org/repo", {"model.safetensors": TINY})
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv(name, value)
    refused = finish(spawn(["models", "pull", "org/repo"]))
    assert refused.code == 5 and is_one_sentence(refused.err), refused.err
    assert "HF_ENDPOINT, HF_TOKEN and the proxy" in refused.err


def test_pulling_again_takes_what_is_new(hub: Hub, folder: Path, run: Run) -> None:
    hub.commit("org/repo", {"model.safetensors": TINY})
    assert "is here now" in run("models", "pull", "org/repo").err
    assert "as on the Hub" in run("models", "pull", "org/repo").err
    newer = tiny_checkpoint(seed=1)
    hub.commit("org/repo", {"model.safetensors": newer})
    assert "is here now" in run("models", "pull", "org/repo").err
    assert Path(run("models", "path", "org/repo").out.decode().strip()).read_bytes() == newer != TINY
    assert "bundled" in run("models", "pull", "--all").err
    refused = run("models", "pull", "--all", "fast")
    assert refused.code == 2 and is_one_sentence(refused.err)


def test_two_processes_at_once_fetch_it_once(hub: Hub, folder: Path) -> None:
    hub.commit("org/repo", {"model.safetensors": TINY})
    hub.gate = threading.Event()
    processes = [spawn(["models", "pull", "org/repo", "--json"]) for _ in range(2)]
    deadline = time.monotonic() + 60
    while sum(method == "HEAD" for method, _, _ in hub.requests) < 4:  # each asks twice before it fetches
        assert time.monotonic() < deadline and all(process.poll() is None for process in processes)
        time.sleep(0.02)
    time.sleep(0.3)  # and both want to fetch it
    hub.gate.set()
    finished = [finish(process) for process in processes]
    assert [one.code for one in finished] == [0, 0], finished
    paths = {model["path"] for one in finished for model in one.json["models"]}
    assert len(paths) == 1 and Path(paths.pop()).read_bytes() == TINY
    assert hub.transfers() == [""] and not list(Path(constants.HF_HUB_CACHE).rglob("*.incomplete"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_download_that_is_stopped(hub: Hub, folder: Path, run: Run, number: int) -> None:
    hub.commit("org/repo", {"model.safetensors": TINY})
    hub.cut_after = [len(TINY) // 2]
    hub.hold = threading.Event()
    process = spawn(["models", "pull", "org/repo"])
    deadline = time.monotonic() + 60
    while not (parts := list(Path(constants.HF_HUB_CACHE).rglob("*.incomplete"))):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    assert finish(process).code == (-number if number == signal.SIGKILL else 128 + number)
    hub.hold.set()
    assert run("models", "path", "org/repo").code == 5
    assert parts[0].exists() == (number == signal.SIGKILL)
    pulled = run("models", "pull", "org/repo")
    assert pulled.code == 0, pulled.err
    assert run("models", "rm", "org/repo").code == 0 and not parts[0].exists()


def test_the_environment_alone_can_forbid_the_network(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.commit("org/repo", {"model.safetensors": TINY})
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    refused = finish(spawn(["upscale", "photo.png", "--model", "org/repo"]))
    assert refused.code == 5 and is_one_sentence(refused.err) and not hub.requests
    assert not (folder / "photo_x2.png").exists()


def test_the_authors_file_and_back(folder: Path, golden: Path, run: Run) -> None:
    shutil.copy(golden / "tiny_official_format.pth", "tiny.pth")
    unsaid = run("models", "convert", "tiny.pth", "-o", "tiny.safetensors")
    assert unsaid.code == 2 and "--scale" in unsaid.err
    Path("tiny.pth").rename("tiny_x4.pth")
    converted = run("models", "convert", "tiny_x4.pth", "-o", "tiny.safetensors")
    assert converted.code == 0 and "enlarges x4" in converted.err, converted.err
    packed = read_checkpoint(Path("tiny.safetensors"))
    assert packed.storage == "packed" and packed.config.scales == (4,)
    assert run("upscale", "photo.png", "-s", "4", "-m", "tiny.safetensors", "--steps", "2").code == 0
    back = run("models", "convert", "tiny.safetensors", "-o", "back.pth")
    assert back.code == 0, back.err
    original = torch.load("tiny_x4.pth", weights_only=True)["params"]
    original = {name.removeprefix("module."): tensor for name, tensor in original.items()}
    again = torch.load("back.pth", weights_only=True)["params"]
    assert again.keys() == original.keys()
    for name, tensor in original.items():
        if name.endswith("binary_conv.weight"):
            scale = tensor.abs().mean((1, 2, 3), keepdim=True)
            assert torch.allclose(again[name], torch.where(tensor >= 0, scale, -scale), rtol=1e-5)
        else:
            assert torch.allclose(again[name], tensor, rtol=1e-3, atol=1e-6)  # float16 in between
    assert run("models", "convert", "back.pth", "-o", "again.safetensors", "-s", "4").code == 0


def test_what_convert_refuses(folder: Path, golden: Path, run: Run) -> None:
    Path("evil.pth").write_bytes(b"\x80\x04c__builtin__\neval\n(S'1'\ntR.")
    Path("mine.safetensors").write_bytes(TINY)
    for words, code in {
        ("evil.pth", "-o", "out.safetensors", "-s", "2"): 5,
        ("mine.safetensors", "-o", "out.safetensors"): 2,
        ("mine.safetensors", "-o", "out.pth", "-s", "2"): 2,
        ("none.pth", "-o", "out.safetensors"): 4,
        (str(golden / "tiny_official_format.pth"), "-o", "mine.safetensors", "-s", "2"): 2,
    }.items():
        refused = run("models", "convert", *words)
        assert refused.code == code and is_one_sentence(refused.err), (words, refused)
    assert sorted(path.name for path in folder.iterdir()) == ["evil.pth", "mine.safetensors", "photo.png"]


def other_weights(path: Path) -> bytes:
    """A packed file whose last binary convolution has other signs."""
    checkpoint = read_pth_checkpoint(path, (2,))
    names = [name for name in checkpoint.state if name.startswith("middle") and name.endswith("conv1.weight")]
    return serialize_packed(
        dataclasses.replace(
            checkpoint, arrays={**checkpoint.arrays} | {name: Array.of(-checkpoint.state[name]) for name in names}
        )
    )


@pytest.mark.slow
def test_a_packed_file_that_computes_something_else_is_not_written(
    folder: Path, golden: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bidiffsr_cli.tasks.pack._read_back", lambda data: read_checkpoint(folder / "other"))
    Path("other").write_bytes(other_weights(golden / "tiny_official_format.pth"))
    refused = run("models", "convert", golden / "tiny_official_format.pth", "-s", "2", "-o", "out.safetensors")
    assert refused.code == 5 and "something else" in refused.err and not Path("out.safetensors").exists()


def test_what_push_shows_and_refuses(hub: Hub, folder: Path, run: Run) -> None:
    Path("mine.safetensors").write_bytes(TINY)
    shown = run("models", "push", "me/mine", "-m", "mine.safetensors", "--dry-run")
    assert shown.code == 0 and "# me/mine\n" in shown.answer and "nothing was sent" in shown.err
    assert not hub.requests
    for words in (["mine"], ["me/mine@v1"], ["me/mine", "--offline"]):
        refused = run("models", "push", *words, "-m", "mine.safetensors")
        assert refused.code == 2 and is_one_sentence(refused.err)
    trained = run("models", "pack", "mine.safetensors", "-o", "run.safetensors", "--license", "unstated: set it")
    assert trained.code == 0 and "names no licence" not in shown.err
    assert "names no licence" in run("models", "push", "me/mine", "-m", "run.safetensors", "--dry-run").err
    card = run("models", "push", "me/mine", "-m", "fast", "--dry-run").answer
    score = catalog()[0].scores["Kodak"]["2"]["1"]
    assert f"{score['psnr_y']:.2f} / {score['lpips_alex']:.4f}" in card
    assert "## Scores" in card and "license: apache-2.0" in card
