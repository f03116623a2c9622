"""The cache of the Hugging Face Hub, which all of its tools share: what it holds of ours, whole or not.

The folder of ORG/REPO is `models--ORG--REPO`. In it content lies in `blobs/HASH`; `snapshots/COMMIT/FILE` links to
it, `refs/BRANCH` says which commit a branch is. Content is compared with its hash before it gets that name and
whenever it is read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import CheckpointError, ModelError, OutputError
from ..header import ForeignFileError, read_header, sha256_of
from .client import explained, library, quiet, words
from .names import HubFile

ETAG = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
"""What content is named by: sha256 of large files, git's sha1 of others."""
COMMIT = re.compile("[0-9a-f]{40}")
REMAINS = ".bidiffsr.incomplete"
"""Ending of what a cut download left behind."""


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
    hub = library()
    with explained(name):
        found = hub.try_to_load_from_cache(name.repo, name.file, revision=name.revision)
    return Path(found) if isinstance(found, str) else None


def commit_of(path: Path) -> str:
    """The commit that a cached file is part of."""
    cache = Path(library().constants.HF_HUB_CACHE)
    return path.relative_to(cache).parts[2] if path.is_relative_to(cache) else ""


def check_cached(path: Path, hint: str = "") -> None:
    """Compare a cached file's content with the hash that the cache names it by.

    Raises:
        CheckpointError: they differ.
        ModelError: it cannot be read.
    """
    try:
        etag = path.readlink().name if path.is_symlink() else ""  # where the system has no links, the name is lost
        sound = not ETAG.fullmatch(etag) or has_hash(etag, path)
    except OSError as error:
        raise ModelError(
            f"The cached {path.name} cannot be read: {error.strerror}.", "Check its permissions."
        ) from None
    if not sound:
        raise CheckpointError(f"The cached {path.name} is damaged: its content does not have its hash.", hint)


def is_whole(path: Path, sha256: str) -> bool:
    """Whether a cached file has the hash of its name, and the one that is known from elsewhere, if there is one."""
    try:
        check_cached(path)
    except CheckpointError:
        return False
    return not sha256 or sha256_of(path) == sha256


def has_hash(etag: str, path: Path) -> bool:
    """Whether content has the hash: sha256 of large files, git's sha1 of others."""
    if len(etag) == 64:
        return sha256_of(path) == etag
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest() == etag


def repo_folder(name: HubFile) -> Path:
    """What the cache holds of a repository."""
    return Path(library().constants.HF_HUB_CACHE) / f"models--{name.repo.replace('/', '--')}"


def point(pointer: Path, blob: Path) -> None:
    """Give a blob its name in a snapshot, as the library does: by a link, or, where there are none, by moving it."""
    temporary = pointer.with_name(f"{pointer.name}.{os.getpid()}")
    try:
        temporary.symlink_to(os.path.relpath(blob, pointer.parent))
    except OSError:
        blob.replace(temporary)
    temporary.replace(pointer)


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


def remove(models: Sequence[CachedModel]) -> int:
    """Remove the revisions of cached models from the cache, with all their files.

    Returns:
        The bytes that became free.

    Raises:
        OutputError: they cannot be removed.
    """
    freed, cache = 0, _scan()
    for repo in {model.name.repo for model in models}:
        commits = {model.name.revision for model in models if model.name.repo == repo}
        # revisions are told apart by their commits alone, which a copy of a repository shares
        only = frozenset(known for known in cache.repos if known.repo_type == "model" and known.repo_id == repo)
        with quiet():
            strategy = dataclasses.replace(cache, repos=only).delete_revisions(*commits)
            strategy.execute()
        freed += strategy.expected_freed_size
    left = [model for model in models if model.path.exists()]
    if left:
        raise OutputError(f"{left[0].path} cannot be removed.", "Check its permissions.")
    return freed


def remove_remains(repo: str) -> int:
    """Remove what cut downloads of a repository left behind; returns the bytes that became free."""
    freed = 0
    for path in (repo_folder(HubFile(repo)) / "blobs").glob(f"*{REMAINS}"):
        freed += path.stat().st_size
        path.unlink()
    return freed


def _may_be_ours(path: Path) -> bool:
    """Whether a safetensors header names our format, or cannot be read."""
    try:
        read_header(path)
    except ForeignFileError:
        return False
    except ModelError:
        pass
    return True


def _scan() -> Any:
    """What the cache holds (an HFCacheInfo)."""
    hub = library()
    cache = Path(hub.constants.HF_HUB_CACHE)
    if not cache.exists():
        return hub.HFCacheInfo(size_on_disk=0, repos=frozenset(), incomplete_files=frozenset(), warnings=[])
    try:
        return hub.scan_cache_dir(cache)
    except (OSError, ValueError) as error:
        raise ModelError(f"The cache '{cache}' cannot be read ({words(error)}).", "Check HF_HOME.") from None
