"""Files on the Hub, and in the cache that all of its tools share: what is here, download, upload, removal.

The folder of ORG/REPO is `models--ORG--REPO`. In it content lies in `blobs/HASH`; `snapshots/COMMIT/FILE` links to
it, `refs/BRANCH` says which commit a branch is. The library takes content as it comes; here it is compared with its
hash after a download and whenever it is read.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import CheckpointError, ModelError, OutputError
from ...results import Progress
from ..header import ForeignFileError, read_header, sha256_of
from .client import COMMIT, ETAG, host, hub_errors_explained, hub_library, no_hub_error, offline_error, quiet, words
from .names import HubFile

LONGEST_DOWNLOAD = 4 << 30
"""Bytes; no model that can be read has more."""
MOST_TRANSFERS = 4
"""How often a file may be received, as the library begins anew where a connection is cut."""


@dataclass(frozen=True)
class CachedModel:
    """A checkpoint file in the Hub's cache.

    Attributes:
        name: what it is called; the revision is a commit.
        branches: branches and tags that led to this commit when they were last asked for.
        path: of the file.
        size: in bytes.
    """

    name: HubFile
    branches: tuple[str, ...]
    path: Path
    size: int


def cached_file(name: HubFile) -> Path | None:
    """Where the cache holds a file; a branch or tag is what it was when it was last downloaded. No network."""
    with hub_errors_explained(name):
        found = hub_library().try_to_load_from_cache(name.repo, name.file, cache_dir=_cache(), revision=name.revision)
    return Path(found) if isinstance(found, str) else None


def commit_of(path: Path) -> str:
    """The commit that a cached file is part of."""
    return path.relative_to(_cache()).parts[2] if path.is_relative_to(_cache()) else ""


def check_cached(path: Path, hint: str = "") -> None:
    """Compare a cached file's content with the hash that the cache names it by.

    Raises:
        CheckpointError: they differ.
        ModelError: it cannot be read.
    """
    try:
        etag = path.readlink().name if path.is_symlink() else ""  # where the system has no links, the name is lost
        sound = not ETAG.fullmatch(etag) or _hash(path, like=etag) == etag
    except OSError as error:
        raise ModelError(
            f"The cached {path.name} cannot be read: {error.strerror}.", "Check its permissions."
        ) from None
    if not sound:
        raise CheckpointError(f"The cached {path.name} is damaged: its content does not have its hash.", hint)


def download(name: HubFile, *, sha256: str = "", offline: bool = False, progress: Progress = lambda *_: None) -> Path:
    """Ask the Hub for a file as it is today, and fetch it unless it is here already, whole.

    Args:
        name: of the file.
        sha256: what its content must have, where that is known from elsewhere.
        offline: only take what a commit's name alone decides, without the network.
        progress: is told how far the download is.

    Returns:
        Its path in the cache.

    Raises:
        ModelError: there is no network, no such repository, revision or file; a token is needed; or the hash differs.
    """
    present = cached_file(name)
    if present is not None and COMMIT.fullmatch(name.revision) and _is_whole(present, sha256):
        return present  # a commit never changes
    hub = hub_library()
    if offline or hub.is_offline_mode():
        raise offline_error(name)
    with hub_errors_explained(name), quiet():
        # asked for by itself, as the library hides it when the Hub cannot be reached and a file is here
        facts = hub.get_hf_file_metadata(hub.hf_hub_url(name.repo, name.file, revision=name.revision))
        if facts.etag is None or facts.commit_hash is None:
            raise no_hub_error()
        expected = sha256 or facts.etag
        if len(facts.etag) == len(expected) and facts.etag != expected:
            raise _hash_differs(name, facts.etag, expected)
        if facts.size is None or facts.size > LONGEST_DOWNLOAD:
            stated = "an unknown number of" if facts.size is None else f"{facts.size:,}"
            raise ModelError(f"{name} has {stated} bytes.", "Check its name.")
        bar = _bar(facts.size, progress)
        for _ in range(2):  # what is here may be damaged
            path = Path(hub.hf_hub_download(name.repo, name.file, revision=facts.commit_hash, tqdm_class=bar))
            found = _hash(path, like=expected)
            if found == expected:
                break
            _remove_file(path)
        else:
            raise _hash_differs(name, found, expected)
        if cached_file(name) != path:  # the branch led elsewhere, until the file was here and found right
            hub.hf_hub_download(name.repo, name.file, revision=name.revision, tqdm_class=bar)
    return path


def upload(repo: str, files: Mapping[str, bytes], message: str, *, private: bool) -> str:
    """Put files into a repository in one commit; it is made if it is not there.

    Returns:
        The commit.

    Raises:
        ModelError: there is no network, or no token that may write there.
    """
    hub = hub_library()
    with hub_errors_explained(HubFile(repo)), quiet():
        api = hub.HfApi()
        api.create_repo(repo, private=private, exist_ok=True)
        operations = [hub.CommitOperationAdd(name, content) for name, content in files.items()]
        return str(api.create_commit(repo, operations, commit_message=message).oid)


def cached_models() -> list[CachedModel]:
    """All checkpoint files of bidiffsr in the cache, and .safetensors files too damaged to tell.

    Raises:
        ModelError: the cache cannot be read.
    """
    return [
        CachedModel(
            HubFile(repo.repo_id, revision.commit_hash, file.file_path.relative_to(revision.snapshot_path).as_posix()),
            tuple(sorted(revision.refs)),
            file.file_path,
            file.size_on_disk,
        )
        for repo in sorted(_scan().repos, key=lambda repo: repo.repo_id)
        if repo.repo_type == "model"
        for revision in sorted(repo.revisions, key=lambda revision: revision.last_modified)
        for file in sorted(revision.files, key=lambda file: str(file.file_path))
        if file.file_name.endswith(".safetensors") and _may_be_ours(file.file_path)
    ]


def remove(models: Sequence[CachedModel], repos: Sequence[str]) -> int:
    """Remove the revisions of cached models of some repositories, and what killed downloads of these left behind.

    A revision goes with all its files.

    Returns:
        The bytes that became free.

    Raises:
        OutputError: they cannot be removed.
    """
    freed, cache = 0, _scan()
    for repo in set(repos):
        commits = {model.name.revision for model in models if model.name.repo == repo}
        # revisions are told apart by their commits alone, which a copy of a repository shares
        only = frozenset(known for known in cache.repos if known.repo_type == "model" and known.repo_id == repo)
        with hub_errors_explained(HubFile(repo)), quiet():
            strategy = dataclasses.replace(cache, repos=only).delete_revisions(*commits)
            strategy.execute()
            freed += strategy.expected_freed_size
            for file in cache.incomplete_files:
                if file.file_path.parent.parent.name == f"models--{repo.replace('/', '--')}":
                    file.file_path.unlink(missing_ok=True)
                    freed += file.size_on_disk
    left = [model for model in models if model.path.exists()]
    if left:
        raise OutputError(f"{left[0].path} cannot be removed.", "Check its permissions.")
    return freed


def _bar(size: int, progress: Progress) -> type:
    """A progress bar as the library makes and moves it, which draws nothing: it tells `progress` how far a file is.

    It also ends a download from a mirror that sends without end.
    """
    from huggingface_hub.utils import tqdm

    most = 0.0  # where a connection is cut the library may begin anew, and for some files it moves two bars

    class Bar(tqdm):
        monitor_interval = 0  # no thread of tqdm's
        received = 0.0

        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings | {"disable": True})
            self.update(0)

        def update(self, n: float | None = 1) -> None:
            nonlocal most
            self.n += n or 0
            self.received += max(n or 0, 0)
            if self.received > MOST_TRANSFERS * size:
                raise ModelError(f"{host()} sends more than the {size:,} bytes that the file has.", "Do not use it.")
            most = max(most, min(self.n, size))
            progress(int(most), size)

    return Bar


def _is_whole(path: Path, sha256: str) -> bool:
    """Whether a cached file has the hash of its name, and the one that is known from elsewhere, if there is one."""
    try:
        check_cached(path)
    except CheckpointError:
        return False
    return not sha256 or sha256_of(path) == sha256


def _hash(path: Path, *, like: str) -> str:
    """The hash of a file's content, of the kind of another: sha256, or git's sha1."""
    if len(like) == 64:
        return sha256_of(path)
    named = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: named).hexdigest()


def _remove_file(path: Path) -> None:
    """Remove a file from the cache, with the content that it links to."""
    if path.is_symlink() and ETAG.fullmatch(path.readlink().name):  # else it is no link of the cache's own
        (path.parent / path.readlink()).unlink(missing_ok=True)
    path.unlink()


def _hash_differs(name: HubFile, found: str, expected: str) -> ModelError:
    return ModelError(
        f"{name} has another hash than expected ({found[:12]}… instead of {expected[:12]}…) and was not taken.",
        "Try again; if it stays so, do not trust that source.",
    )


def _may_be_ours(path: Path) -> bool:
    """Whether a safetensors header names our format, or cannot be read."""
    try:
        read_header(path)
    except ForeignFileError:
        return False
    except ModelError:
        pass
    return True


def _cache() -> Path:
    """The folder of the cache; links are followed, as in most of what the library answers."""
    return Path(hub_library().constants.HF_HUB_CACHE).expanduser().resolve()


def _scan() -> Any:
    """What the cache holds (an HFCacheInfo)."""
    hub, cache = hub_library(), _cache()
    if not cache.exists():
        return hub.HFCacheInfo(size_on_disk=0, repos=frozenset(), incomplete_files=frozenset(), warnings=[])
    try:
        return hub.scan_cache_dir(cache)
    except (OSError, ValueError) as error:
        raise ModelError(f"The cache '{cache}' cannot be read ({words(error)}).", "Check HF_HOME.") from None
