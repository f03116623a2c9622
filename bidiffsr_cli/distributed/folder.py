"""Which pictures of a folder are to be enlarged, and where each of them goes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from ..errors import InputError, OutputError, UsageError
from ..images.pairing import list_pictures

SYSTEM = frozenset(("__macosx", "@eadir", "$recycle.bin", "system volume information"))
"""Folders that systems make beside people's pictures."""


@dataclass(frozen=True)
class Job:
    """One picture.

    Attributes:
        name: its path in the folder, with slashes.
        source: its path.
        target: of the enlarged picture.
    """

    name: str
    source: Path
    target: Path


@dataclass(frozen=True)
class Selection:
    """Which pictures of a folder.

    Attributes:
        recursive: of the folders in it, too.
        include: patterns such as "*.jpg" or "2024/*"; if there are any, a picture must match one.
        exclude: patterns of pictures to leave out.
        limit: the first ones alone, in the order of their names.
        shard: (i, n): the i-th of n parts, 1..n, which together are all pictures; a picture's part depends on its name.
    """

    recursive: bool = False
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    limit: int | None = None
    shard: tuple[int, int] = (1, 1)

    def takes(self, name: str) -> bool:
        """Whether a picture is meant; limit and shard apart."""
        if "/" in name and not self.recursive:
            return False
        included = not self.include or any(_matches(name, pattern) for pattern in self.include)
        return included and not any(_matches(name, pattern) for pattern in self.exclude)

    def in_shard(self, name: str) -> bool:
        """Whether a picture is in the part."""
        index, count = self.shard
        return (
            int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8], "big") % count
            == index - 1
        )


def find_jobs(folder: Path, output: Path, selection: Selection, *, suffix: str, extension: str) -> list[Job]:
    """All pictures that are meant, by name; those in the output folder are never among them.

    Args:
        folder: of the pictures.
        output: folder of the results, in which the folder's tree is kept.
        suffix: of the results' names, such as "_x2".
        extension: of the results, such as ".png".

    Raises:
        InputError: there is no such folder, or no picture in it.
        OutputError: the output is the folder itself.
        UsageError: two pictures would have one result, or the suffix is no part of a name.
    """
    if set(suffix) & set("/\\\0"):
        raise UsageError(f"A suffix of {suffix!r} is not possible.", "Give a part of a name.")
    if not folder.is_dir():
        raise InputError(f"There is no folder '{folder}'.", "Check its name.")
    inside, outside = folder.resolve(), output.resolve()
    if inside == outside:
        raise OutputError(f"'{output}' is the folder of the pictures itself.", "Give another one with -o.")
    jobs = []
    for source in list_pictures(folder):
        name = source.relative_to(folder).as_posix()
        of_system = any(part.lower() in SYSTEM for part in source.relative_to(folder).parts)
        own = outside.is_relative_to(inside) and source.resolve().is_relative_to(outside)
        if of_system or own or not selection.takes(name):
            continue
        target = output / source.relative_to(folder).with_name(f"{source.stem}{suffix}{extension}")
        jobs.append(Job(name, source, target))
    if not jobs:
        raise InputError(
            f"There are no pictures in '{folder}' that are meant.", "Check --recursive, --include, --exclude."
        )
    _check_clashes(jobs)
    return [job for job in jobs if selection.in_shard(job.name)][: selection.limit]


def _check_clashes(jobs: Sequence[Job]) -> None:
    """Results are told apart even where the file system takes A for a."""
    by_target: dict[str, list[str]] = {}
    for job in jobs:
        by_target.setdefault(str(job.target).casefold(), []).append(job.name)
    clashes = [" and ".join(names) for names in by_target.values() if len(names) > 1]
    if clashes:
        more = "" if len(clashes) <= 3 else f"; and {len(clashes) - 3} more"
        raise UsageError(
            f"Several pictures would have one result: {'; '.join(clashes[:3])}{more}.",
            "Rename one of each, or leave it out with --exclude.",
        )


def _matches(name: str, pattern: str) -> bool:
    """A pattern without a slash is of the name alone, in any folder."""
    of_what = name if "/" in pattern else re.sub(r".*/", "", name)
    return fnmatch(of_what.lower(), pattern.lower())
