"""Which pictures of a folder are to be enlarged, and where each of them goes."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import Any

from ..errors import InputError, OutputError, UsageError, check_least
from ..suffixes import own
from ..text import counted, file_key, listed
from .storage import ABSENT, Contents, Folder, Status

SYSTEM = frozenset(("__macosx", "@eadir", "$recycle.bin", "system volume information"))
"""Folders that systems make beside people's pictures."""


@dataclass(frozen=True)
class Job:
    """One picture.

    Attributes:
        name: its path in the folder, with slashes.
        folder: of the pictures.
        status: as the picture was when it was found.
        result: path of the enlarged picture in the folder of the results.
        output: that folder.
    """

    name: str
    folder: Folder
    status: Status
    result: str
    output: Folder

    @property
    def source(self) -> str:
        """The picture as people name it."""
        return self.folder.where(self.name)

    @property
    def target(self) -> str:
        """The enlarged one."""
        return self.output.where(self.result)


@dataclass(frozen=True)
class Selection:
    """Which pictures of a folder.

    Attributes:
        recursive: of the folders in it, too.
        include: patterns such as "*.jpg" or "2024/*"; if there are any, a picture must match one.
        exclude: patterns of pictures to leave out.
        limit: the first ones alone, in the order of their names.
        names: if there are any, these pictures alone, by their names in the folder.
        shard: (i, n): the i-th of n parts, 1..n, which together are all pictures; a picture's part depends on its name.

    Raises:
        UsageError: patterns are not a list of them, the limit is below 1, or there is no such part.
    """

    recursive: bool = False
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    limit: int | None = None
    shard: tuple[int, int] = (1, 1)
    names: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if isinstance(self.include, str) or isinstance(self.exclude, str):
            raise UsageError("Patterns are given as a list.", 'Write include=["*.jpg"].')
        check_least(1, limit=self.limit)
        index, count = self.shard
        if not 1 <= index <= count:
            raise UsageError(f"There is no part {index} of {count}.", "The parts of 8 are 1/8 to 8/8.")

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


@dataclass(frozen=True)
class Outcome:
    """What came of a picture.

    Attributes:
        job: which one.
        result: its figures, as `UpscaleResult.to_dict`; of a failed one only input, output and status.
        error: why it failed, one sentence; empty if it did not.
        sha256: of the file that was written, in hexadecimal.
    """

    job: Job
    result: dict[str, Any]
    error: str = ""
    sha256: str = ""


@dataclass
class Part:
    """A folder of pictures, and what became of them.

    Attributes:
        target: folder of the results.
        jobs: all pictures that are meant, by name; those in the output folder are never among them.
        others: how many files of other kinds lie beside them, by suffix.
        closed: a sentence for each folder that could not be listed.
        skipped: pictures that were done before, each with its figures.
        outcomes: of those that were done now.
    """

    target: Folder
    jobs: list[Job]
    others: Counter[str]
    closed: list[str]
    skipped: dict[Job, dict[str, Any]] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)

    def __str__(self) -> str:
        """3 pictures, 1 of them done before -> photos_x2"""
        before = f", {len(self.skipped)} of them done before" if self.skipped else ""
        return f"{counted(len(self.jobs), 'picture')}{before} -> {self.target}"

    @property
    def left(self) -> list[Job]:
        """What is not done yet."""
        return [job for job in self.jobs if job not in self.skipped]

    @property
    def failed(self) -> int:
        """How many pictures failed."""
        return sum(outcome.error != "" for outcome in self.outcomes)

    @property
    def images(self) -> list[dict[str, Any]]:
        """The figures of each picture that was done now or before, in order."""
        known = {job: result | {"status": "skipped"} for job, result in self.skipped.items()}
        known |= {outcome.job: outcome.result for outcome in self.outcomes}
        return [known[job] for job in self.jobs if job in known]


class NothingToDo(InputError):
    """No picture in a folder is meant."""


def find_jobs(
    folder: Folder,
    output: Folder,
    selection: Selection,
    *,
    suffix: str,
    extension: str,
    results: Sequence[Folder] = (),
) -> Part:
    """Find the pictures that are meant.

    Args:
        folder: of the pictures.
        output: folder of the results, in which the folder's tree is kept.
        suffix: of the results' names, such as "_x2".
        extension: of the results, such as ".png"; an empty one keeps that of each picture.
        results: folders of other results, whose pictures are left out too.

    Raises:
        InputError: there is no such folder, or no picture in it.
        OutputError: the output is the folder itself.
        UsageError: two pictures would have one result, a name is not possible in the output, or the suffix in none.
    """
    if set(suffix) & set("/\\\0"):
        raise UsageError(f"A suffix of {suffix!r} is not possible.", "Give a part of a name.")
    inside = folder.identity()
    if inside == output.identity():
        raise OutputError(f"'{output}' is the folder of the pictures itself.", "Give another one with -o.")
    results_of = {result.identity() for result in (output, *results)}
    within = [place for place in results_of if place[: len(inside)] == inside and place != inside]
    jobs = []
    contents = _named(folder, selection.names) if selection.names else folder.contents(recursive=selection.recursive)
    for name, status in contents.pictures.items():
        of_system = any(part.lower() in SYSTEM for part in name.split("/"))
        ours = within and _lies_in(folder.identity(name), within)
        if of_system or ours or not selection.takes(name):
            continue
        kind = PurePosixPath(name).suffix
        result = f"{name.removesuffix(kind)}{suffix}{extension or own(kind)}"
        jobs.append(Job(name, folder, status, result, output))
    if not jobs:
        others = f" It holds {described(contents.others)}." if contents.others else ""
        closed = "".join(f" {sentence}" for sentence in contents.closed[:3])
        raise NothingToDo(
            f"There are no pictures in '{folder}' that are meant.{others}{closed}",
            "Check --recursive, --include, --exclude.",
        )
    _check_names(jobs)
    _check_clashes(jobs)
    chosen = [job for job in jobs if selection.in_shard(job.name)][: selection.limit]
    return Part(output, chosen, contents.others, contents.closed)


def _lies_in(place: tuple[str, ...], folders: Iterable[tuple[str, ...]]) -> bool:
    return any(place[: len(folder)] == folder for folder in folders)


def _named(folder: Folder, names: Iterable[str]) -> Contents:
    """Pictures that were named, whatever they are called."""
    return Contents({name: folder.status(name) or ABSENT for name in sorted(names)}, Counter(), [])


def described(others: Counter[str]) -> str:
    """Files that are no pictures, such as "3 other files (.heic, .txt)"."""
    kinds = [suffix or "no suffix" for suffix, _ in others.most_common(4)]
    more = ", …" if len(others) > len(kinds) else ""
    return f"{counted(others.total(), 'other file')} ({', '.join(kinds)}{more})"


def _check_names(jobs: Sequence[Job]) -> None:
    """An object store takes names that would lead out of a folder, or that are none there; a disk no long ones."""
    unsafe = [job.name for job in jobs if not job.output.can_name(job.result)]
    if unsafe:
        raise UsageError(
            f"No file in '{jobs[0].output}' can have the name of {listed(list(map(repr, unsafe)), 3)}.",
            "Rename it, or leave it out with --exclude.",
        )


def _check_clashes(jobs: Sequence[Job]) -> None:
    """Results are told apart even where the file system takes A for a, or é for e and an accent."""
    by_result: dict[str, list[str]] = {}
    for job in jobs:
        by_result.setdefault(file_key(job.result), []).append(job.name)
    clashes = [" and ".join(names) for names in by_result.values() if len(names) > 1]
    if clashes:
        raise UsageError(
            f"Several pictures would have one result: {listed(clashes, 3, separator='; ')}.",
            "Rename one of each, or leave it out with --exclude.",
        )


def _matches(name: str, pattern: str) -> bool:
    """A pattern without a slash is of the name alone, in any folder."""
    of_what = name if "/" in pattern else re.sub(r".*/", "", name)
    return fnmatch(of_what.lower(), pattern.lower())
