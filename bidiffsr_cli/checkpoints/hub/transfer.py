"""Download and upload, by the library's requests, with three things that its own downloads lack.

A download that was cut goes on in the next process where it stopped, content gets its name in the cache only once it
has its hash, and a mirror that lies about sizes is left.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from ...atomic import write_atomic
from ...errors import ModelError
from ..header import sha256_of
from .cache import (
    COMMIT,
    ETAG,
    REMAINS,
    cached_file,
    has_hash,
    is_whole,
    point,
    repo_folder,
)
from .client import explained, host, library, no_hub_error, offline_error, quiet
from .names import HubFile

Progress = Callable[[int, int], None]
"""(bytes here, bytes in all)."""


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
    hub = library()
    present = cached_file(name)
    if present is not None and COMMIT.fullmatch(name.revision) and is_whole(present, sha256):
        return present  # a commit never changes
    if offline or hub.constants.HF_HUB_OFFLINE:
        raise offline_error(name)
    with explained(name), quiet():
        url = hub.hf_hub_url(name.repo, name.file, revision=name.revision)
        facts = hub.get_hf_file_metadata(url, timeout=hub.constants.HF_HUB_ETAG_TIMEOUT)
        etag, commit = facts.etag or "", facts.commit_hash or ""
        if not ETAG.fullmatch(etag) or not COMMIT.fullmatch(commit):
            raise no_hub_error()
        if sha256 and len(etag) == 64 and etag != sha256:
            raise _hash_differs(name, etag, sha256)
        folder = repo_folder(name)
        lock, blob = folder.parent / ".locks" / folder.name / f"{etag}.lock", folder / "blobs" / etag
        pointer = folder / "snapshots" / commit / name.file
        for path in (lock, blob, pointer):
            path.parent.mkdir(parents=True, exist_ok=True)
        headers = hub.utils.build_hf_headers()
        if urlsplit(facts.location).netloc != urlsplit(url).netloc:
            headers.pop("authorization", None)  # a token is for the Hub alone
        with hub.utils.WeakFileLock(lock):
            if not (pointer.is_file() and has_hash(etag, pointer)):
                if not (blob.is_file() and has_hash(etag, blob)):
                    _fetch(name, facts.location, etag, facts.size, blob, headers, progress)
                point(pointer, blob)
            if name.revision != commit:
                branch = folder / "refs" / name.revision
                branch.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(commit.encode(), branch, overwrite=True)
    if sha256 and sha256_of(pointer) != sha256:
        raise _hash_differs(name, sha256_of(pointer), sha256)
    return pointer


def upload(repo: str, files: Mapping[str, bytes], message: str, *, private: bool) -> str:
    """Put files into a repository in one commit; it is made if it is not there.

    Returns:
        The commit.

    Raises:
        ModelError: there is no network, or no token that may write there.
    """
    hub = library()
    with explained(HubFile(repo)), quiet():
        api = hub.HfApi()
        api.create_repo(repo, private=private, exist_ok=True)
        operations = [hub.CommitOperationAdd(name, content) for name, content in files.items()]
        return str(api.create_commit(repo, operations, commit_message=message).oid)


LONGEST_FILE = 4 << 30
"""Bytes; no model that can be read has more."""
MOST_REPEATS = 4
"""How often a file may be begun again."""
MOST_FAILURES = 5
"""How often a connection may fail with nothing new received."""
MOST_ANSWERS = 100
"""How often one may be cut."""


def _fetch(
    name: HubFile, url: str, etag: str, size: int | None, blob: Path, headers: dict[str, str], progress: Progress
) -> None:
    """Fetch a blob, going on with what is there of it."""
    part = blob.with_name(f"{etag}{REMAINS}")
    resumed = part.exists()
    if resumed and size is not None and part.stat().st_size > size:
        part.unlink()
    if size is None or size > LONGEST_FILE:
        raise ModelError(
            f"{name} has {'an unknown number of' if size is None else f'{size:,}'} bytes.", "Check its name."
        )
    with part.open("ab") as file:
        _receive(url, file, size, headers, progress)
    if has_hash(etag, part):
        part.replace(blob)
        return
    found = sha256_of(part)
    part.unlink()
    if resumed:  # what was there may have been damaged
        return _fetch(name, url, etag, size, blob, headers, progress)
    raise _hash_differs(name, found, etag)


def _receive(url: str, file: BinaryIO, size: int, headers: Mapping[str, str], progress: Progress) -> None:
    """Append to a file until it has its size, however often the connection is cut."""
    hub = library()
    received = failures = answers = 0
    while (start := file.tell()) < size:
        error: Exception = no_hub_error()  # an answer that ends too early
        asked = {**headers, "accept-encoding": "identity"} | ({"range": f"bytes={start}-"} if start else {})
        try:
            with _answer(url, asked) as response:
                file.seek(_beginning(response, start, size))
                file.truncate()
                for piece in response.iter_bytes():
                    received += len(piece)
                    # more than was announced, such as what little unpacks to; or the same again and again
                    if file.tell() + len(piece) > size or received > MOST_REPEATS * size:
                        raise ModelError(
                            f"{host()} sends more than the {size:,} bytes that the file has.", "Do not use it."
                        )
                    file.write(piece)
                    progress(file.tell(), size)
        except hub.errors.HfHubHTTPError:  # a refusal
            raise
        except hub.errors.HTTPError as failed:
            error = failed
        answers, failures = answers + 1, 0 if file.tell() > start else failures + 1
        if failures > MOST_FAILURES or answers == MOST_ANSWERS:
            raise error
        if file.tell() < size:
            time.sleep(1)


@contextlib.contextmanager
def _answer(url: str, headers: Mapping[str, str]) -> Iterator[Any]:
    """What an address begins to send."""
    hub = library()
    waits = {"timeout": hub.constants.HF_HUB_DOWNLOAD_TIMEOUT, "retry_on_status_codes": (408, 429)}
    # a failure while it is read is the caller's
    with hub.utils.http_stream_backoff("GET", url, headers=headers, retry_on_exceptions=(), **waits) as response:
        hub.utils.hf_raise_for_status(response)
        yield response


def _beginning(response: Any, start: int, size: int) -> int:
    """Which byte of a file an answer begins with: that which was asked for, or an earlier one.

    Raises:
        ModelError: it is the answer of something else, such as a page that asks for a password.
    """
    begin, about = 0, response.headers
    if response.status_code == 206:
        stated = re.match(r"bytes (\d+)-", about.get("content-range", ""))
        begin = int(stated[1]) if stated else start + 1
    length = about.get("content-length", "") if "content-encoding" not in about else ""
    if begin > start or (length.isdecimal() and int(length) != size - begin):
        raise no_hub_error()
    return begin


def _hash_differs(name: HubFile, found: str, expected: str) -> ModelError:
    return ModelError(
        f"{name} has another hash than expected ({found[:12]}… instead of {expected[:12]}…) and was not taken.",
        "Try again; if it stays so, do not trust that source.",
    )
