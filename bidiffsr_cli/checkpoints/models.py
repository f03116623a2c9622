"""From a user's word to a checkpoint: the one grammar of `--model`.

    fast, fast@2                a model of the catalog: bundled, or on the Hub
    org/repo, org/repo@v1:x.safetensors        a file on the Hugging Face Hub
    runs/mine.safetensors       a file

A file that is bundled or cached is taken without any word to the network.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CheckpointError, ModelError
from ..results import Progress
from . import hub
from .catalog import AUTO, CatalogEntry, catalog, find_entry
from .hub import DEFAULT_REVISION, HubFile

if TYPE_CHECKING:
    from .files import Checkpoint


@dataclass(frozen=True)
class Model:
    """What a word stands for.

    Attributes:
        name: what the model is called in reports.
        entry: its entry in the catalog, if it has one.
        file: a file that is no download: bundled, or the user's own.
        sources: where on the Hub it is to be had, the best first.
    """

    name: str
    entry: CatalogEntry | None = None
    file: Path | None = None
    sources: tuple[HubFile, ...] = ()

    @property
    def sha256(self) -> str:
        """What its content must have; empty where only the Hub knows."""
        return self.entry.sha256 if self.entry else ""

    def local_path(self) -> Path | None:
        """Where it lies on this machine, if it does; a file of one's own may be missing. No network."""
        return self.file or next(filter(None, map(hub.cached_file, self.sources)), None)

    def fetch(self, *, offline: bool = False, progress: Progress = lambda *_: None) -> Path:
        """Fetch it from the first of its sources that has it, unless it is here as it is there today.

        Raises:
            ModelError: none has it; of several failures the first.
        """
        if self.file:
            return self.file
        failures: list[ModelError] = []
        for source in self.sources:
            try:
                return hub.download(source, sha256=self.sha256, offline=offline, progress=progress)
            except ModelError as error:
                failures.append(error)
        raise failures[0]

    def read(self, path: Path) -> Checkpoint:
        """Read and check its file.

        Raises:
            CheckpointError: the file is damaged, or is not the one of the catalog.
        """
        from .files import read_checkpoint  # which a list of models does without

        if self.sources:
            hub.check_cached(path, self.pull_hint)
        checkpoint = read_checkpoint(path)
        entry = self.entry
        if entry is None:
            revision = hub.commit_of(path) if self.sources else ""
            return dataclasses.replace(checkpoint, name=self.name, revision=revision)
        if checkpoint.sha256 != entry.sha256:
            whence, hint = ("bundled", "Install bidiffsr again.") if self.file else ("cached", self.pull_hint)
            raise CheckpointError(f"The {whence} {entry.file} is not the one of the catalog.", hint)
        facts = {name: getattr(entry, name) for name in ("name", "revision", "bf16_psnr", "fp16_psnr")}
        return dataclasses.replace(checkpoint, **facts)

    @property
    def pull_hint(self) -> str:
        """How to fetch it anew."""
        return f"Fetch it again: bidiffsr models pull {self.entry.full_name if self.entry else self.name}"


def find_model(word: str | Path) -> Model:
    """What a word stands for: a name of the catalog, else a file that exists, else a name on the Hub.

    Raises:
        ModelError: it is nothing of that.
    """
    text = str(word)
    name, _, revision = text.partition("@")
    entry = find_entry(name, revision) if isinstance(word, str) else None
    if entry is not None:
        sources = tuple(filter(None, map(HubFile.parse, entry.sources)))
        return Model(entry.name, entry, entry.bundled, sources)
    if os.path.isdir(text):  # noqa: PTH112 - unlike Path.is_dir, false for a name that is too long
        raise ModelError(f"'{text}' is a folder.", "Name a file in it.")
    if os.path.exists(text):  # noqa: PTH110 - likewise
        return Model(_called(Path(text)), file=Path(text))
    remote = HubFile.parse(text) if isinstance(word, str) else None
    if remote is None:
        known = ", ".join(dict.fromkeys(entry.name for entry in catalog()))
        raise ModelError(
            f"There is no model or checkpoint file {text!r}.", f"Models: {known}; a file; or ORG/REPO on the Hub."
        )
    return Model(str(dataclasses.replace(remote, revision=DEFAULT_REVISION)), sources=(remote,))


def absolute_word(word: str) -> str:
    """The same model for a process with another working folder."""
    found = None if word == AUTO else find_model(word)
    return str(found.file.absolute()) if found and found.file and not found.entry else word


def load_checkpoint(model: str | Path, *, offline: bool = False, progress: Progress = lambda *_: None) -> Checkpoint:
    """Find a model, fetch it if it is not on this machine, and read it.

    Args:
        model: a name of the catalog, NAME@REVISION, ORG/REPO[@REV][:FILE] on the Hub, or the path of a checkpoint file.
        offline: never use the network.
        progress: is told (bytes here, bytes in all) while it is fetched.

    Raises:
        ModelError: there is no such model or file, or it cannot be fetched.
        CheckpointError: the file is damaged; for a named one, also when its sha256 is not the catalog's.
    """
    found = find_model(model)
    path = found.local_path() or found.fetch(offline=offline, progress=progress)
    return found.read(path)


def _called(file: Path) -> str:
    """What a model is called that is a file: by its name, or its folder's, as every run's model has the same name."""
    return file.absolute().parent.name if file.name in ("model.safetensors", "weights.safetensors") else file.stem
