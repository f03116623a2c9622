"""The picture files of a folder, by their names; what they are is told by their content when they are read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ..errors import InputError
from ..suffixes import READ


@dataclass
class Listing:
    """What a folder holds; hidden files and folders are no part of it.

    Attributes:
        pictures: their paths, sorted; a link to nothing is among them, for reading it tells what is wrong.
        others: how many other files there are, by suffix.
        closed: folders that cannot be listed, each with the reason.
    """

    pictures: list[Path] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    closed: dict[Path, str] = field(default_factory=dict)


def is_hidden(name: str) -> bool:
    """Whether a file, or a folder that it is in, has a name with a dot before it."""
    return any(part.startswith(".") for part in PurePosixPath(name).parts)


def is_picture(name: str) -> bool:
    """Whether a file is a picture by its name, which may have folders before it, and is not hidden."""
    return PurePosixPath(name).suffix.lower() in READ and not is_hidden(name)


def list_folder(folder: Path, *, recursive: bool = True) -> Listing:
    """Look through a folder, and through the folders in it; links to folders are not followed."""
    listing, waiting = Listing(), [folder]
    while waiting:  # folders may lie deeper in each other than Python calls itself
        current = waiting.pop()
        try:
            with os.scandir(current) as entries:
                visible = [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            listing.closed[current] = error.strerror or str(error)
            continue
        for entry in visible:
            if _is(entry.is_dir, follow_symlinks=False):
                waiting += [current / entry.name] if recursive else []
            elif is_picture(entry.name):
                if _is(entry.is_file) or _is(entry.is_symlink):
                    listing.pictures.append(current / entry.name)
            elif _is(entry.is_file):
                listing.others[PurePosixPath(entry.name).suffix.lower()] += 1
    listing.pictures.sort()
    return listing


def _is(what: Callable[..., bool], **how: bool) -> bool:
    """Whether an entry is something; a link in a circle, or to where nobody may look, is nothing but a link."""
    try:
        return what(**how)
    except OSError:
        return False


def list_pictures(folder: Path) -> list[Path]:
    """The picture files in a folder and the folders in it, by name.

    Raises:
        InputError: a folder cannot be listed.
    """
    listing = list_folder(folder)
    for path, reason in listing.closed.items():
        closed = _is(path.is_dir)
        hint = "Change its permissions, or leave it out." if closed else "Check the spelling and the folder."
        raise InputError(f"'{path}' cannot be listed: {reason}.", hint)
    return listing.pictures
