"""The Hub on loopback, through the real client: downloads, what can go wrong with them, and the cache they fill."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest
from hub_server import Hub
from huggingface_hub import constants

from bidiffsr_cli.checkpoints import hub as hubs
from bidiffsr_cli.checkpoints.hub import (
    HubFile,
    cached_file,
    cached_models,
    check_cached,
    client,
    commit_of,
    download,
    upload,
)
from bidiffsr_cli.errors import CheckpointError, ModelError

DATA = bytes(range(256)) * 400
REPO = HubFile("org/repo")


def partial_files() -> list[Path]:
    return list(Path(constants.HF_HUB_CACHE).rglob("*.incomplete"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the client's waits between its attempts, and with pieces as small as these files, of which it keeps whole
    ones where a connection is cut.
    """
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)


@pytest.mark.parametrize(
    "word, expected",
    [
        ("org/repo", HubFile("org/repo")),
        ("org/repo@v1", HubFile("org/repo", "v1")),
        ("org/repo:sub/x.safetensors", HubFile("org/repo", "main", "sub/x.safetensors")),
        ("o.r-g/r_e.po@refs/pr/1:x", HubFile("o.r-g/r_e.po", "refs/pr/1", "x")),
        ("repo", None),
        ("a/b/c", None),
        ("./repo", None),
        ("../repo", None),
        ("/org/repo", None),
        ("runs/mine.safetensors", None),
        ("org/repo:../../x", None),
        ("org/repo:/etc/passwd", None),
        ("org/repo@../../x", None),
        ("org/repo@v1:", None),
        ("org/repo:a\\..\\b", None),
        ("", None),
    ],
)
def test_names(word: str, expected: HubFile | None) -> None:
    assert HubFile.parse(word) == expected
    if expected:
        assert HubFile.parse(str(expected)) == expected


def test_a_whole_download_and_then_no_network(hub: Hub) -> None:
    commit = hub.commit("org/repo", {"model.safetensors": DATA})
    told: list[tuple[int, int]] = []
    assert cached_file(REPO) is None
    path = download(REPO, progress=lambda *counts: told.append(counts))
    assert path.read_bytes() == DATA and commit_of(path) == commit
    assert told[0] == (0, len(DATA)) and told[-1] == (len(DATA), len(DATA)) and told == sorted(told)
    asked = len(hub.requests)
    assert cached_file(REPO) == path
    assert download(HubFile("org/repo", commit)) == path  # a commit is what it is
    assert len(hub.requests) == asked
    assert not partial_files()


def test_a_small_file_has_the_hash_of_git(hub: Hub) -> None:
    hub.commit("org/repo", {"config.json": b"{}"})
    path = download(HubFile("org/repo", file="config.json"))
    assert path.read_bytes() == b"{}"
    check_cached(path)


@pytest.mark.usefixtures("quick")
def test_a_cut_connection_is_taken_up_again(hub: Hub) -> None:
    hub.commit("org/repo", {"model.safetensors": DATA})
    hub.cut_after = [40_000, 40_000]
    assert download(REPO).read_bytes() == DATA
    assert hub.transfers() == ["", "bytes=40000-", "bytes=80000-"]


@pytest.mark.usefixtures("quick")
def test_a_download_that_fails_leaves_nothing_behind(hub: Hub) -> None:
    hub.commit("org/repo", {"model.safetensors": DATA})
    hub.cut_after = [40_000, 0, 0, 0, 0, 0, 0]
    with pytest.raises(ModelError, match=r"cannot be reached"):
        download(REPO)
    assert cached_file(REPO) is None and not partial_files()
    assert download(REPO).read_bytes() == DATA


@pytest.mark.usefixtures("quick")
def test_a_server_without_ranges(hub: Hub) -> None:
    hub.commit("org/repo", {"model.safetensors": DATA})
    hub.cut_after, hub.ignore_ranges = [70_000, 40_000], True
    told: list[tuple[int, int]] = []
    assert download(REPO, progress=lambda *counts: told.append(counts)).read_bytes() == DATA
    assert told == sorted(told) and told[-1] == (len(DATA), len(DATA))  # a bar does not go back


def test_a_wrong_hash_is_not_taken(hub: Hub) -> None:
    hub.commit("org/repo", {"model.safetensors": DATA})
    hub.corrupt = True
    with pytest.raises(ModelError, match="another hash"):
        download(REPO)
    blobs = Path(constants.HF_HUB_CACHE, "models--org--repo", "blobs")
    assert cached_file(REPO) is None and not list(blobs.iterdir())
    hub.corrupt = False
    with pytest.raises(ModelError, match="another hash"):  # whole, but not what the catalog knows
        download(REPO, sha256="0" * 64)
    assert download(REPO, sha256=hashlib.sha256(DATA).hexdigest()).read_bytes() == DATA


def test_what_the_hub_refuses(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.commit("org/repo", {"model.safetensors": DATA})
    hub.commit("org/secret", {"model.safetensors": DATA}, private=True)
    for name, sentence in {
        HubFile("org/none"): "There is no repository org/none",
        HubFile("org/repo", "v9"): "no revision 'v9'",
        HubFile("org/repo", file="x.safetensors"): "no file 'x.safetensors'",
        HubFile("org/secret"): "needs a token",
    }.items():
        with pytest.raises(ModelError, match=sentence) as caught:
            download(name)
        assert caught.value.exit_code == 5 and caught.value.hint
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert download(HubFile("org/secret")).read_bytes() == DATA
    (headers,) = [headers for _, path, headers in hub.requests if path.startswith("/cdn/")]
    assert "authorization" not in headers  # the token is for the Hub alone


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("status, sentence", [(401, "token"), (403, "token"), (500, "answers 500"), (429, "429")])
def test_other_answers(hub: Hub, status: int, sentence: str) -> None:
    hub.status = status
    with pytest.raises(ModelError, match=sentence):
        download(REPO)


def test_what_is_no_hub(hub: Hub) -> None:
    hub.foreign = True
    with pytest.raises(ModelError, match="does not answer as the Hub does"):
        download(REPO)


@pytest.mark.usefixtures("quick")
def test_no_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = "http://127.0.0.1:9"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", nowhere + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "ENDPOINT", nowhere)
    with pytest.raises(ModelError, match=r"127\.0\.0\.1:9 cannot be reached"):
        download(REPO)


@pytest.mark.usefixtures("quick")
def test_a_slow_server(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.commit("org/repo", {"model.safetensors": DATA})
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.05)
    hub.delay = 0.5
    with pytest.raises(ModelError, match="cannot be reached"):
        download(REPO)
    hub.delay = 0
    assert download(REPO).read_bytes() == DATA


@pytest.mark.parametrize("body", ["gzip", "endless"])
def test_a_mirror_that_sends_more_than_it_said(hub: Hub, body: str) -> None:
    hub.commit("org/repo", {"model.safetensors": DATA})
    hub.body = body
    with pytest.raises(ModelError, match="sends more than the 102,400 bytes"):
        download(REPO)
    assert not partial_files()
    hub.body = ""
    assert download(REPO).read_bytes() == DATA


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("body", ["long", "short", "portal", "ahead", "from the start"])
def test_what_a_mirror_sends_instead_of_the_rest_is_not_taken(hub: Hub, body: str) -> None:
    hub.commit("org/repo", {"model.safetensors": DATA})
    hub.cut_after, hub.body, hub.ignore_ranges = [40_000], body, body in ("long", "short", "portal")
    with pytest.raises(ModelError, match="sends more than" if body == "long" else "does not answer as the Hub does"):
        download(REPO)
    assert 1 < len(hub.transfers()) < 10 and cached_file(REPO) is None and not partial_files()
    hub.body, hub.ignore_ranges = "", False
    assert download(REPO).read_bytes() == DATA


@pytest.mark.usefixtures("quick")
def test_a_mirror_that_sends_one_byte_at_a_time(hub: Hub) -> None:
    hub.commit("org/repo", {"model.safetensors": DATA})
    hub.cut_after = [1] * 1000
    with pytest.raises(ModelError, match="cannot be reached"):
        download(REPO)
    assert len(hub.transfers()) < 10


@pytest.mark.usefixtures("quick")
def test_a_mirror_that_sends_the_same_again_and_again(hub: Hub) -> None:
    hub.commit("org/repo", {"model.safetensors": DATA})
    hub.cut_after, hub.ignore_ranges = [90_000] * 1000, True
    with pytest.raises(ModelError, match="sends more than the 102,400 bytes"):
        download(REPO)
    assert len(hub.transfers()) < 10


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("asked", ["86400", "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_a_mirror_that_asks_for_hours(hub: Hub, asked: str) -> None:
    hub.commit("org/repo", {"model.safetensors": DATA})
    hub.retry_after = asked
    with pytest.raises(ModelError, match="asks to be left alone for"):
        download(REPO)
    hub.retry_after = ""
    assert download(REPO).read_bytes() == DATA


def test_a_mirror_that_answers_an_upload_with_silence_or_nonsense(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.odd_json = True
    with pytest.raises(ModelError, match="does not answer as the Hub does"):
        upload("org/mine", {"model.safetensors": DATA}, "first", private=False)
    hub.odd_json, hub.silent = False, threading.Event()
    monkeypatch.setattr(client, "LONGEST_SILENCE", 0.3)
    with pytest.raises(ModelError, match="cannot be reached"):
        upload("org/mine", {"model.safetensors": DATA}, "first", private=False)
    hub.silent.set()


def test_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.commit("org/repo", {"model.safetensors": DATA})
    with pytest.raises(ModelError, match="the network may not be used"):
        download(REPO, offline=True)
    assert not hub.requests
    path = download(REPO)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert cached_file(REPO) == path == download(HubFile("org/repo", commit))
    with pytest.raises(ModelError, match="the network may not be used"):
        download(REPO)


def test_a_branch_that_moves(hub: Hub) -> None:
    first = hub.commit("org/repo", {"model.safetensors": DATA})
    old = download(REPO)
    second = hub.commit("org/repo", {"model.safetensors": DATA[::-1]})
    assert cached_file(REPO) == old  # nobody asked
    new = download(REPO)
    assert new.read_bytes() == DATA[::-1] and cached_file(REPO) == new
    assert (commit_of(old), commit_of(new)) == (first, second)
    assert download(HubFile("org/repo", first)) == old and old.read_bytes() == DATA


def test_a_damaged_cache_is_noticed_and_mended(hub: Hub) -> None:
    commit = hub.commit("org/repo", {"model.safetensors": DATA})
    path = download(REPO)
    path.resolve().write_bytes(DATA[:-1] + b"?")
    with pytest.raises(CheckpointError, match="damaged"):
        check_cached(path)
    for name in (REPO, HubFile("org/repo", commit)):
        assert download(name).read_bytes() == DATA
        path.resolve().write_bytes(b"")


def test_a_failed_download_leaves_a_good_file_alone(hub: Hub) -> None:
    hub.commit("org/repo", {"model.safetensors": DATA})
    path = download(REPO)
    hub.commit("org/repo", {"model.safetensors": DATA[::-1]})
    hub.corrupt = True
    with pytest.raises(ModelError):
        download(REPO)
    assert path.read_bytes() == DATA and cached_file(REPO) == path


def test_a_failed_download_leaves_a_branch_where_it_was(hub: Hub) -> None:
    hub.commit("org/repo", {"model.safetensors": DATA})
    path = download(REPO)
    second = hub.commit("org/repo", {"model.safetensors": DATA[::-1]})
    hub.corrupt = True
    with pytest.raises(ModelError, match="another hash"):
        download(HubFile("org/repo", second))
    assert cached_file(REPO) == path and cached_file(HubFile("org/repo", second)) is None


def test_a_file_that_a_user_put_into_the_cache_is_not_removed(hub: Hub, tmp_path: Path) -> None:
    hub.commit("org/repo", {"model.safetensors": DATA})
    path, mine = download(REPO), tmp_path / "mine"
    mine.write_bytes(b"precious")
    path.unlink()
    path.symlink_to(mine)
    assert download(REPO).read_bytes() == DATA and mine.read_bytes() == b"precious"


def test_a_cache_behind_a_link(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cache").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    commit = hub.commit("org/repo", {"model.safetensors": DATA})
    path = download(REPO)
    assert commit_of(path) == commit and cached_file(REPO) == path
    asked = len(hub.requests)
    assert download(REPO) == path and len(hub.requests) == asked + 1
    assert [model.path for model in cached_models()] == [path]


def without_links(*_: object, **__: object) -> None:
    raise OSError("no links here")


def test_where_the_system_has_no_links(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "symlink", without_links)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS_WARNING", True)
    hub.commit("org/repo", {"model.safetensors": DATA})
    path = download(REPO)
    assert path.read_bytes() == DATA and not path.is_symlink()
    assert download(REPO) == path and len(hub.transfers()) == 1
    path.write_bytes(DATA[:-1] + b"?")
    assert download(REPO) == path and path.read_bytes() == DATA


@pytest.mark.parametrize("commit", ["../../x", "x" * 5000, "main"])
def test_a_commit_that_is_none(hub: Hub, commit: str) -> None:
    hub.commit("org/repo", {"model.safetensors": DATA})
    hub.repos["org/repo"].commits[commit] = hub.repos["org/repo"].commits.pop(hub.repos["org/repo"].refs["main"])
    hub.repos["org/repo"].refs["main"] = commit
    with pytest.raises(ModelError, match="does not answer as the Hub does"):
        download(REPO)
    assert not hub.transfers()


@pytest.mark.parametrize("told", [{"X-Repo-Commit": "../../x"}, {"X-Linked-Etag": '"../../../x"'}])
def test_a_mirror_that_changes_its_mind(hub: Hub, tmp_path: Path, told: dict[str, str]) -> None:
    hub.commit("org/repo", {"model.safetensors": DATA})
    hub.later = told
    with pytest.raises(ModelError, match="does not answer as the Hub does"):
        download(REPO)
    assert not hub.transfers() and not list(tmp_path.rglob("x*"))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("status, sentence", [(500, "answers 500"), (404, "no repository org/repo")])
def test_a_hub_that_fails_between_two_answers(hub: Hub, status: int, sentence: str) -> None:
    hub.commit("org/repo", {"model.safetensors": DATA})
    hub.later_status = status
    with pytest.raises(ModelError, match=sentence):
        download(REPO)


def test_the_library_is_left_as_it_was(hub: Hub) -> None:
    import huggingface_hub

    session = huggingface_hub.get_session()
    before = (session.timeout, session.event_hooks, huggingface_hub.logging.get_verbosity())
    hub.commit("org/repo", {"model.safetensors": DATA})
    download(REPO)
    assert (session.timeout, session.event_hooks, huggingface_hub.logging.get_verbosity()) == before
    assert not huggingface_hub.utils.are_progress_bars_disabled()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_written(hub: Hub) -> None:
    hub.commit("org/repo", {"model.safetensors": DATA})
    Path(constants.HF_HUB_CACHE).mkdir(parents=True)
    Path(constants.HF_HUB_CACHE).chmod(0o500)
    with pytest.raises(ModelError, match="cannot be used"):
        download(REPO)


def test_a_disk_that_takes_no_more(hub: Hub) -> None:
    resource = pytest.importorskip("resource")
    hub.commit("org/repo", {"model.safetensors": DATA})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(ModelError, match="cannot be used: File too large"):
            download(REPO)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert download(REPO).read_bytes() == DATA


@pytest.mark.filterwarnings("ignore:Use 'content")  # from within the client
def test_upload(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"model.safetensors": DATA, "README.md": b"---\nlicense: mit\n---\n"}
    with pytest.raises(ModelError, match="needs a token"):
        upload("org/mine", files, "first", private=False)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    commit = upload("org/mine", files, "first", private=True)
    assert hub.repos["org/mine"].private and hub.repos["org/mine"].commits[commit] == files
    again = upload("org/mine", files | {"README.md": b"---\nlicense: mit\n---\nMore."}, "second", private=True)
    assert again != commit and download(HubFile("org/mine")).read_bytes() == DATA
    hub.status = 500
    with pytest.raises(ModelError, match="500"):
        upload("org/mine", files, "third", private=True)


def test_models_of_others_are_not_ours(hub: Hub, pictures: Path) -> None:
    assert cached_models() == []
    header = b'{"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'
    theirs = len(header).to_bytes(8, "little") + header
    ours = (Path(__file__).parents[2] / "weights" / "fast.safetensors").read_bytes()
    hub.commit("org/theirs", {"model.safetensors": theirs})
    commit = hub.commit("org/ours", {"model.safetensors": ours, "sub/x.safetensors": ours[:100]})
    for name in ("org/theirs", "org/ours", "org/ours:sub/x.safetensors"):
        parsed = HubFile.parse(name)
        assert parsed
        download(parsed)
    listed = cached_models()
    assert [str(model.name) for model in listed] == [f"org/ours@{commit}", f"org/ours@{commit}:sub/x.safetensors"]
    assert listed[0].branches == ("main",) and listed[0].size == len(ours)
    assert hubs.remove(listed, ["org/ours"]) == len(ours) + 100
    assert cached_models() == [] and cached_file(HubFile("org/theirs")) is not None
