"""What a checkpoint file says of itself before its tensors. Read without torch, which takes a second to be imported.

The header of a safetensors file is JSON: name -> type, shape and place of a tensor, and `__metadata__`, in which ours
carries `format`, `format_version`, `storage`, `config` (JSON), `license` and `origin`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..configs import ModelConfig
from ..errors import CheckpointError, ModelError, check_no_pointer

FORMAT = "bidiffsr"
FORMAT_VERSION = "1"
METADATA = ("format", "format_version", "storage", "config", "license", "origin")
LONGEST_HEADER = 100_000_000
"""Bytes; safetensors itself reads no more."""


@dataclass(frozen=True)
class Header:
    """What a checkpoint file says of itself before its tensors.

    Attributes:
        config, license, origin, storage: as of `files.Checkpoint`.
        bytes: name of a tensor, as in the file -> bytes that it takes there.
    """

    config: ModelConfig
    license: str
    origin: str
    storage: str
    bytes: dict[str, int]


def read_header(path: Path) -> Header:
    """Read what a checkpoint file says of itself. Its tensors are not looked at.

    Raises:
        ModelError: there is no such file.
        CheckpointError: the file is damaged, or of another format or version.
    """
    with refusals(path):
        header = json_header(path)
        metadata = checked_metadata(header.pop("__metadata__", {}))
        config = ModelConfig.from_json(metadata["config"])
        sizes = {name: end - begin for name, (begin, end) in _places(header).items()}
        return Header(config, metadata["license"], metadata["origin"], metadata["storage"], sizes)


def json_header(path: Path) -> dict[str, Any]:
    """The header of any safetensors file, which is as long as it should be.

    Raises:
        CheckpointError: it is none, or not whole.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header: dict[str, Any] = json.loads(file.read(length if length <= LONGEST_HEADER else 0))
            rest = path.stat().st_size - 8 - length
            texts = header.get("__metadata__", {})
            places = _places({name: entry for name, entry in header.items() if name != "__metadata__"})
            sound = all(isinstance(text, str) for text in texts.values())
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError):
            raise no_whole_file("its header cannot be read") from None
    if not sound:
        raise no_whole_file("its metadata are no texts")
    if rest != max((end for _, end in places.values()), default=0):
        raise no_whole_file("it has another length than its header says")
    return header


def _places(header: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Name of a tensor -> where it begins and ends."""
    return {name: (int(entry["data_offsets"][0]), int(entry["data_offsets"][1])) for name, entry in header.items()}


def checked_metadata(metadata: Mapping[str, str]) -> Mapping[str, str]:
    """What a header carries, whole and of our format.

    Raises:
        CheckpointError: it is not.
    """
    if metadata.get("format") != FORMAT:
        raise CheckpointError("it is a safetensors file, but not one of bidiffsr.")
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
    return metadata


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
        raise CheckpointError(f"{path.name}: {error.message}", error.hint) from None
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read: {error.strerror or error}.", "Check its permissions.") from None


def no_whole_file(why: str) -> CheckpointError:
    """What is told of a file that is no safetensors file, or a part of one."""
    return CheckpointError(f"this is not a whole safetensors file ({why}).", "Download or copy it again.")


def sha256_of(path: Path) -> str:
    """Of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
