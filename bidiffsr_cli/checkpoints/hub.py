"""The Hugging Face Hub, through huggingface_hub and its cache: download, verify, look after, upload.

    name = HubFile.parse("org/repo@v2:big.safetensors")
    path = cached_file(name) or download(name)

Everything lies in the cache that all of the Hub's tools share (HF_HOME, HF_HUB_CACHE); HF_ENDPOINT, HF_TOKEN,
HF_HUB_OFFLINE and the proxies' variables mean what they mean there. Two things are added to the library: a download
that was cut goes on in the next process where it stopped, and content is compared with the hash that the Hub names it
by, before it gets that name and whenever it is read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import BidiffsrError, CheckpointError, ModelError, OutputError
from .files import FORMAT

DEFAULT_REVISION = "main"
DEFAULT_FILE = "model.safetensors"
Progress = Callable[[int, int], None]
"""(bytes here, bytes in all)."""

_PART = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_NAME = re.compile(rf"(?P<repo>{_PART}/{_PART})(@(?P<revision>[^@:]+))?(:(?P<file>[^:]+))?")
_ETAG = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_COMMIT = re.compile("[0-9a-f]{40}")
_LARGEST_HEADER = 1 << 20
_OF_THE_CACHE = {
    getattr(errno, name, None)
    for name in ["ENOSPC", "EDQUOT", "EACCES", "EPERM", "EROFS", "ENOTDIR", "EEXIST", "EISDIR", "ENAMETOOLONG"]
}
REMAINS = ".bidiffsr.incomplete"
"""Ending of what a cut download left behind."""
PIECE = 32 << 10
"""Bytes that are written at a time."""


@dataclass(frozen=True)
class HubFile:
    """A file on the Hub.

    Attributes:
        repo: ORG/REPO.
        revision: a branch, a tag or a commit.
        file: its path in the repository.
    """

    repo: str
    revision: str = DEFAULT_REVISION
    file: str = DEFAULT_FILE

    @classmethod
    def parse(cls, word: str) -> HubFile | None:
        """ORG/REPO[@REV][:FILE], or None if the word is nothing of the kind."""
        match = _NAME.fullmatch(word)
        if match is None or match["repo"].endswith((".safetensors", ".pth", ".pt")):
            return None
        revision, file = match["revision"] or DEFAULT_REVISION, match["file"] or DEFAULT_FILE
        if any(part in ("", ".", "..") for part in re.split(r"[/\\]", f"{revision}/{file}")):
            return None  # such names could leave the cache
        return cls(match["repo"], revision, file)

    def __str__(self) -> str:
        revision = "" if self.revision == DEFAULT_REVISION else f"@{self.revision}"
        return f"{self.repo}{revision}{'' if self.file == DEFAULT_FILE else f':{self.file}'}"


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
    hub = _library()
    with _explained(name):
        found = hub.try_to_load_from_cache(name.repo, name.file, revision=name.revision)
    return Path(found) if isinstance(found, str) else None


def commit_of(path: Path) -> str:
    """The commit that a cached file is part of."""
    cache = Path(_library().constants.HF_HUB_CACHE)
    return path.relative_to(cache).parts[2] if path.is_relative_to(cache) else ""


def check_cached(path: Path, hint: str = "") -> None:
    """Compare a cached file's content with the hash that the cache names it by.

    Raises:
        CheckpointError: they differ.
        ModelError: it cannot be read.
    """
    try:
        etag = path.readlink().name if path.is_symlink() else ""  # where the system has no links, the name is lost
        sound = not _ETAG.fullmatch(etag) or _is(etag, path)
    except OSError as error:
        raise ModelError(
            f"The cached {path.name} cannot be read: {error.strerror}.", "Check its permissions."
        ) from None
    if not sound:
        raise CheckpointError(f"The cached {path.name} is damaged: its content does not have its hash.", hint)


def download(name: HubFile, *, sha256: str = "", offline: bool = False, progress: Progress = lambda *_: None) -> Path:
    """Ask the Hub for a file as it is today, and fetch it unless it is here already, whole.

    What was fetched before a failure is kept, and the next call goes on from there.

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
    hub = _library()
    present = cached_file(name)
    if present is not None and _COMMIT.fullmatch(name.revision) and _is_whole(present, sha256):
        return present  # a commit never changes
    if offline or hub.constants.HF_HUB_OFFLINE:
        raise offline_error(name)
    with _explained(name), _set_up():
        url = hub.hf_hub_url(name.repo, name.file, revision=name.revision)
        facts = hub.get_hf_file_metadata(url, timeout=hub.constants.HF_HUB_ETAG_TIMEOUT)
        etag, commit = facts.etag or "", facts.commit_hash or ""
        if not _ETAG.fullmatch(etag) or not _COMMIT.fullmatch(commit):
            raise ModelError(f"{_host()} does not answer as the Hub does.", "Check HF_ENDPOINT, proxy and firewall.")
        if sha256 and len(etag) == 64 and etag != sha256:
            raise _hash_differs(name, etag, sha256)
        folder = _folder(name)
        lock, blob = folder.parent / ".locks" / folder.name / f"{etag}.lock", folder / "blobs" / etag
        pointer = folder / "snapshots" / commit / name.file
        for path in (lock, blob, pointer):
            path.parent.mkdir(parents=True, exist_ok=True)
        headers = hub.utils.build_hf_headers()
        if urlsplit(facts.location).netloc != urlsplit(url).netloc:
            headers.pop("authorization", None)  # a token is for the Hub alone
        with hub.utils.WeakFileLock(lock):
            if not (pointer.is_file() and _is(etag, pointer)):
                if not (blob.is_file() and _is(etag, blob)):
                    _fetch(name, facts.location, etag, facts.size, blob, headers, progress)
                _point(pointer, blob)
            if name.revision != commit:
                _write(folder / "refs" / name.revision, commit)
    if sha256 and _sha256(pointer) != sha256:
        raise _hash_differs(name, _sha256(pointer), sha256)
    return pointer


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
        with _set_up():
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
    for path in (_folder(HubFile(repo)) / "blobs").glob(f"*{REMAINS}"):
        freed += path.stat().st_size
        path.unlink()
    return freed


def upload(repo: str, files: Mapping[str, bytes], message: str, *, private: bool) -> str:
    """Put files into a repository in one commit; it is made if it is not there.

    Returns:
        The commit.

    Raises:
        ModelError: there is no network, or no token that may write there.
    """
    hub = _library()
    with _explained(HubFile(repo)), _set_up():
        api = hub.HfApi()
        api.create_repo(repo, private=private, exist_ok=True)
        operations = [hub.CommitOperationAdd(name, content) for name, content in files.items()]
        return str(api.create_commit(repo, operations, commit_message=message).oid)


def is_offline() -> bool:
    """Whether the environment forbids the network."""
    return bool(_library().constants.HF_HUB_OFFLINE)


def offline_error(name: HubFile) -> ModelError:
    """The error where a download would be needed and is forbidden."""
    return ModelError(
        f"{name} is not here, and the network may not be used.",
        f"Without --offline and HF_HUB_OFFLINE: bidiffsr models pull {name}",
    )


def missing_error(name: HubFile) -> ModelError:
    """The error where only what is here is looked for."""
    return ModelError(f"{name} is not on this machine.", f"Fetch it: bidiffsr models pull {name}")


class _Watched(io.BufferedRandom):
    """A file that tells how many bytes it holds."""

    def __init__(self, path: Path, told: Callable[[int], None]) -> None:
        path.touch()
        super().__init__(io.FileIO(path, "r+"))
        self.seek(0, io.SEEK_END)
        self.told = told

    def write(self, data: Any, /) -> int:
        count = super().write(data)
        self.told(self.tell())
        return count


def _fetch(
    name: HubFile, url: str, etag: str, size: int | None, blob: Path, headers: dict[str, str], progress: Progress
) -> None:
    """Fetch a blob, going on with what is there of it."""
    part = blob.with_name(f"{etag}{REMAINS}")
    resumed = part.exists()
    if resumed and size is not None and part.stat().st_size > size:
        part.unlink()
    with _Watched(part, lambda done: progress(done, size or done)) as file:
        _library().file_download.http_get(url, file, resume_size=file.tell(), headers=headers, expected_size=size)
    if _is(etag, part):
        part.replace(blob)
        return
    found = _sha256(part)
    part.unlink()
    if resumed:  # what was there may have been damaged
        return _fetch(name, url, etag, size, blob, headers, progress)
    raise _hash_differs(name, found, etag)


def _folder(name: HubFile) -> Path:
    """What the cache holds of a repository."""
    hub = _library()
    return Path(hub.constants.HF_HUB_CACHE) / hub.file_download.repo_folder_name(repo_id=name.repo, repo_type="model")


def _point(pointer: Path, blob: Path) -> None:
    """Give a blob its name in a snapshot, as the library does: by a link, or, where there are none, by moving it."""
    temporary = pointer.with_name(f"{pointer.name}.{os.getpid()}")
    try:
        temporary.symlink_to(os.path.relpath(blob, pointer.parent))
    except OSError:
        blob.replace(temporary)
    temporary.replace(pointer)


def _write(path: Path, text: str) -> None:
    """Note which commit a branch or tag is, as the library does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)


def _is_whole(path: Path, sha256: str) -> bool:
    try:
        check_cached(path)
    except CheckpointError:
        return False
    return not sha256 or _sha256(path) == sha256


def _is(etag: str, path: Path) -> bool:
    """Whether content has the hash: sha256 of large files, git's sha1 of others."""
    if len(etag) == 64:
        return _sha256(path) == etag
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest() == etag


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _may_be_ours(path: Path) -> bool:
    """Whether a safetensors header names our format, or cannot be read."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length <= _LARGEST_HEADER else {}
        return header.get("__metadata__", {}).get("format") == FORMAT
    except (OSError, ValueError, AttributeError, RecursionError):
        return True


def _scan() -> Any:
    """What the cache holds (an HFCacheInfo)."""
    hub = _library()
    cache = Path(hub.constants.HF_HUB_CACHE)
    if not cache.exists():
        return hub.HFCacheInfo(size_on_disk=0, repos=frozenset(), incomplete_files=frozenset(), warnings=[])
    try:
        return hub.scan_cache_dir(cache)
    except (OSError, ValueError) as error:
        raise ModelError(f"The cache '{cache}' cannot be read ({_words(error)}).", "Check HF_HOME.") from None


def _library() -> Any:
    """huggingface_hub, which reads the environment when it is imported.

    Raises:
        ModelError: it cannot make anything of the environment.
    """
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.file_download
        import huggingface_hub.utils
    except (ImportError, ValueError) as error:
        raise _environment_error(error) from None
    return huggingface_hub


@contextlib.contextmanager
def _set_up() -> Iterator[None]:
    """For a while without the library's own progress bars and messages; and what came of a cut transfer is kept."""
    hub = _library()
    before = hub.constants.DOWNLOAD_CHUNK_SIZE, hub.logging.get_verbosity(), hub.utils.are_progress_bars_disabled()
    hub.constants.DOWNLOAD_CHUNK_SIZE = PIECE  # by default 10 MB, of which a cut one is lost
    hub.logging.set_verbosity(hub.logging.CRITICAL)
    hub.utils.disable_progress_bars()
    try:
        yield
    finally:
        hub.constants.DOWNLOAD_CHUNK_SIZE = before[0]
        hub.logging.set_verbosity(before[1])
        if not before[2]:
            hub.utils.enable_progress_bars()


def _host() -> str:
    endpoint = str(_library().constants.ENDPOINT)
    return urlsplit(endpoint).netloc or endpoint


def _hash_differs(name: HubFile, found: str, expected: str) -> ModelError:
    return ModelError(
        f"{name} has another hash than expected ({found[:12]}… instead of {expected[:12]}…) and was not taken.",
        "Try again; if it stays so, do not trust that source.",
    )


@contextlib.contextmanager
def _explained(name: HubFile) -> Iterator[None]:
    """What the library and the network raise, as one sentence each."""
    errors = _library().errors
    try:
        yield
    except BidiffsrError:
        raise
    except errors.HFValidationError:
        raise ModelError(f"'{name.repo}' is no name of a repository.", "Write it as ORG/REPO.") from None
    except errors.OfflineModeIsEnabled:
        raise offline_error(name) from None
    except errors.RevisionNotFoundError:
        raise ModelError(f"{name.repo} has no revision '{name.revision}'.", "Check the name after the @.") from None
    except errors.EntryNotFoundError:
        raise ModelError(f"{name.repo} has no file '{name.file}'.", "Name another one after a colon.") from None
    except errors.HfHubHTTPError as error:
        raise _refused(name, error.response.status_code) from None
    except errors.HTTPError as error:  # connecting, timeouts, broken protocol
        raise ModelError(
            f"{_host()} cannot be reached ({type(error).__name__}).",
            "Check network and proxy, and run it again: what was loaded so far is kept.",
        ) from None
    except OSError as error:
        if error.errno in _OF_THE_CACHE:
            raise ModelError(
                f"The cache of models cannot be used: {error.strerror}.", "HF_HOME names another folder."
            ) from None
        raise ModelError(
            f"{name}: the transfer failed ({_words(error)}).", "Check network, proxy and certificates; run it again."
        ) from None
    except RuntimeError as error:  # what an upload makes of what went wrong
        raise ModelError(f"{_host()} did not take {name} ({_words(error.__cause__ or error)}).", "Try again.") from None
    except (ImportError, ValueError) as error:
        raise _environment_error(error) from None


def _environment_error(error: Exception) -> ModelError:
    return ModelError(
        f"The Hub's client cannot work like this ({_words(error)}).",
        "Check HF_ENDPOINT, HF_TOKEN and the proxy's variables.",
    )


def _words(error: BaseException) -> str:
    """What a library says, on one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _refused(name: HubFile, status: int) -> ModelError:
    if status in (401, 403):
        return ModelError(
            f"{name.repo} needs a token that may use it, or does not exist ({_host()} says {status}).",
            "Set HF_TOKEN, or check the name; there is no such file here, either.",
        )
    if status == 404:
        return ModelError(f"There is no repository {name.repo} at {_host()}.", "Check the name.")
    return ModelError(f"{_host()} answers {status} for {name}.", "Try again later.")
