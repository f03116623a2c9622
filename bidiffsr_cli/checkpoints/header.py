"""What a checkpoint file says of itself before its tensors. Read without torch, which takes a second to be imported.

The header of a safetensors file is JSON: name -> type, shape and place of a tensor, and `__metadata__`, in which ours
carries `format`, `format_version`, `storage`, `config` (JSON), `license` and `origin`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..configs import ModelConfig
from ..errors import CheckpointError, ModelError, check_no_pointer, is_out_of_memory

FORMAT = "bidiffsr"
FORMAT_VERSION = "1"
BYTES = {"F32": 4, "F16": 2, "I8": 1, "U8": 1}
"""Types of our tensors -> bytes of a number."""
METADATA = ("format", "format_version", "storage", "config", "license", "origin")
LONGEST_HEADER = 1 << 20
"""Bytes; that of the published network has 56 thousand."""
MOST_DIMENSIONS, LONGEST_DIMENSION = 8, 1 << 62
"""Of a tensor."""


class ForeignFileError(CheckpointError):
    """It is a file of another program."""


@dataclass(frozen=True)
class Entry:
    """What a header says of a tensor.

    Attributes:
        dtype: F32, F16, I8, U8, or something that is none of ours.
        shape: as long as `dtype` is one of ours, of as many numbers as lie in its place.
        first, last: its place in the file, bytes from its beginning; the last one is not in it.
    """

    dtype: str
    shape: tuple[int, ...]
    first: int
    last: int

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.last - self.first


@dataclass(frozen=True)
class Header:
    """What a checkpoint file says of itself before its tensors.

    Attributes:
        config, license, origin, storage: as of `files.Checkpoint`.
        entries: name of a tensor, as in the file -> what is said of it.
        start: where the tensors begin, bytes from the file's beginning.
    """

    config: ModelConfig
    license: str
    origin: str
    storage: str
    entries: dict[str, Entry]
    start: int


def read_header(path: Path) -> Header:
    """Read what a checkpoint file says of itself. Its tensors are not looked at.

    Raises:
        ModelError: there is no such file.
        CheckpointError: the file is damaged, or of another format or version (ForeignFileError: another program's).
    """
    with refusals(path):
        metadata, entries, start = _read(path)
        if metadata.get("format") != FORMAT:
            raise ForeignFileError("it is a safetensors file, but not one of bidiffsr.")
        version = metadata.get("format_version")
        if version != FORMAT_VERSION:
            raise CheckpointError(
                f"its format version is {(version or '')[:40]!r}; this bidiffsr reads {FORMAT_VERSION!r}.",
                "Upgrade bidiffsr.",
            )
        for name in METADATA:
            if name not in metadata:
                raise CheckpointError(f"its header lacks {name!r}.")
        if metadata["storage"] not in ("float", "packed"):
            raise CheckpointError(f"its storage is {metadata['storage'][:40]!r}; known are 'float' and 'packed'.")
        config = ModelConfig.from_json(metadata["config"])
        return Header(config, metadata["license"], metadata["origin"], metadata["storage"], entries, start)


def _read(path: Path) -> tuple[dict[str, str], dict[str, Entry], int]:
    """The metadata of any safetensors file, its tensors, and where they begin; the file is as long as it should be."""
    with path.open("rb") as file:
        length, whole = int.from_bytes(file.read(8), "little"), path.stat().st_size - 8
        if LONGEST_HEADER < length <= whole:
            raise ForeignFileError("its header is too long for a checkpoint of bidiffsr.")
        text = file.read(min(length, LONGEST_HEADER))
    try:
        header = json.loads(text.decode())
        metadata = header.pop("__metadata__", {})
        types = [entry["dtype"] for entry in header.values()]
        "".join([*metadata, *metadata.values(), *header, *types]).encode()  # texts alone, and whole ones
        entries, start, end, sound = {}, 8 + length, 0, True
        for name, entry in header.items():
            (first, last), shape = entry["data_offsets"], entry["shape"]
            numbers = (first, last, *shape[:MOST_DIMENSIONS])
            known = all(type(number) is int and 0 <= number < LONGEST_DIMENSION for number in numbers)
            if not known or len(shape) > MOST_DIMENSIONS:
                raise ValueError
            size = BYTES.get(entry["dtype"])
            sound &= first <= last and (size is None or last - first == size * math.prod(shape))
            entries[name] = Entry(entry["dtype"], tuple(shape), start + first, start + last)
            end = max(end, last)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        sound = False
    if not sound:
        raise no_whole_file("its header cannot be read")
    if end != whole - length:
        raise no_whole_file("it has another length than its header says")
    return metadata, entries, start


@contextlib.contextmanager
def refusals(path: Path) -> Iterator[None]:
    """While a checkpoint file is read: what is no such file is refused first, and every error names it."""
    if not path.is_file():
        raise ModelError(f"There is no checkpoint file {path}.", "Give the path of a .safetensors file.")
    if path.suffix in (".pth", ".pt", ".ckpt"):
        raise CheckpointError(
            f"{path.name} is a PyTorch file, not a checkpoint of bidiffsr.",
            f"Convert it: bidiffsr models convert {path.name} -o {path.stem}.safetensors",
        )
    check_no_pointer(path)
    try:
        yield
    except CheckpointError as error:
        raise type(error)(f"{path.name}: {error.message}", error.hint) from None
    except OSError as error:
        if is_out_of_memory(error):  # libraries are loaded first
            raise
        raise ModelError(f"{path.name} cannot be read: {error.strerror or error}.", "Check its permissions.") from None


def no_whole_file(why: str) -> CheckpointError:
    """What is told of a file that is no safetensors file, or a part of one."""
    return CheckpointError(f"this is not a whole safetensors file ({why}).", "Download or copy it again.")


def sha256_of(path: Path) -> str:
    """Of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
