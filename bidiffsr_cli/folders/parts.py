"""From folders and pictures as they are named to parts of the work: a folder of pictures and that of their results."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import InputError, UsageError
from .jobs import Job, NothingToDo, Part, Selection, find_jobs
from .remote import open_folder
from .storage import Folder


def find_parts(
    names: Sequence[str],
    output: str | None,
    selection: Selection,
    *,
    ending: str,
    suffix: str,
    extension: str,
    absolute: bool = False,
) -> tuple[list[Part], list[str]]:
    """Find every folder that is named, and every folder that named pictures lie in, with what is to be done of it.

    Args:
        names: paths and URLs.
        output: folder of the results, or of such folders where several are named; None puts one beside each.
        selection: which pictures; those that are named are all meant.
        ending: what the name of a folder beside another one ends with, such as "_x2".
        suffix, extension: of the results, as `find_jobs` takes them.
        absolute: make paths absolute, for processes whose current folder is another.

    Returns:
        The parts; and a sentence for each folder that holds nothing, or cannot be listed.

    Raises:
        UsageError: two of them would have one folder of results.
        InputError: a folder is missing, or nothing is to be done at all.
    """
    wanted: list[tuple[Folder, Folder, Selection]] = []
    for folder, pictures in _grouped(names).items():
        source = open_folder(folder, absolute=absolute)
        if output is None and pictures:
            raise UsageError("Pictures that are named need a folder for their results.", "Give one with -o.")
        if output is None:
            target = source.sibling(ending)
        else:
            inside = len(names) > 1 and not pictures
            target = open_folder(f"{output.rstrip('/')}/{source.name()}" if inside else output, absolute=absolute)
        meant = replace(selection, recursive=False, names=frozenset(pictures)) if pictures else selection
        wanted.append((source, target, meant))
    for index, (source, target, _) in enumerate(wanted):
        for other, where, _ in wanted[:index]:
            if where.identity() == target.identity():
                raise UsageError(f"The results of '{other}' and '{source}' would lie in one folder.", "Do one by one.")
    targets = [target for _, target, _ in wanted]
    parts, empty = list[Part](), list[str]()
    for source, target, meant in wanted:
        try:
            parts.append(find_jobs(source, target, meant, suffix=suffix, extension=extension, results=targets))
        except NothingToDo as error:
            if len(wanted) == 1:
                raise
            empty.append(error.message)
    if not parts:
        raise InputError("There are no pictures in any of the folders.", "Check --recursive, --include, --exclude.")
    return parts, [*empty, *closed(parts)]


class FolderProgress:
    """How far a folder is. The share that is done goes by the files' sizes, as small pictures come first.

    Args:
        left: pictures that are to be done.
        advance: is told how many are, their `share`, what is the `current` one, and how far that is as `detail`.
    """

    def __init__(self, left: Sequence[Job], advance: Callable[..., None]) -> None:
        self._count, self._advance = len(left), advance
        self._bytes = sum(job.status.bytes for job in left) or 1
        self._finished = self._passed = 0
        self._begun: dict[Job, float] = {}

    def watch(self, job: Job, passes: int, total: int) -> None:
        """A window of a picture is done."""
        self._begun[job] = passes / total
        self._tell(job, f", {passes}/{total} windows")

    def finish(self, job: Job) -> None:
        """A picture is written, or has failed."""
        self._finished += 1
        self._passed += job.status.bytes
        self._begun.pop(job, None)
        self._tell(next(iter(self._begun.copy()), job))

    def _tell(self, job: Job, detail: str = "") -> None:
        begun = sum(part * job.status.bytes for job, part in self._begun.copy().items())
        share = (self._passed + begun) / self._bytes
        self._advance(self._finished, self._count, share=share, current=job.name, detail=detail)


def closed(parts: Sequence[Part]) -> list[str]:
    """A sentence for each folder that cannot be listed."""
    return [sentence for part in parts for sentence in part.closed]


def left_out(parts: Sequence[Part]) -> Counter[str]:
    """How many files are no pictures, by suffix."""
    return sum((part.others for part in parts), Counter())


def _grouped(names: Sequence[str]) -> dict[str, list[str]]:
    """Folders, each with the pictures in it that are meant; none stands for all."""
    whole = [name for name in names if "://" in name or not os.path.isfile(name)]  # noqa: PTH113 - of odd names, false
    folders: dict[str, list[str]] = {name: [] for name in whole}
    for name in names:
        parent = os.path.dirname(name) or "."  # noqa: PTH120 - Path would take a/./b for a/b
        if name not in folders and not any(_same_folder(parent, folder) for folder in whole):
            folders.setdefault(parent, []).append(Path(name).name)
    return folders


def _same_folder(a: str, b: str) -> bool:
    try:
        return os.path.samefile(a, b)  # noqa: PTH121
    except OSError:
        return False
