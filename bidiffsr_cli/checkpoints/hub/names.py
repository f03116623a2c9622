"""A file on the Hugging Face Hub, as a user names it."""

from __future__ import annotations

import re
from dataclasses import dataclass

DEFAULT_REVISION = "main"
DEFAULT_FILE = "model.safetensors"
_PART = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
_NAME = re.compile(rf"(?P<repo>{_PART}/{_PART})(@(?P<revision>[^@:]+))?(:(?P<file>[^:]+))?")


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
