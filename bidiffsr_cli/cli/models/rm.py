"""Remove downloaded models from the cache.

Examples:
  bidiffsr models rm org/repo                     all its revisions
  bidiffsr models rm org/repo@v1

A repository's revision goes with all its files. Bundled models and files
outside the cache are never touched.
"""

from __future__ import annotations

from typing import Annotated

import typer

from ...errors import ModelError, UsageError
from .. import _options as o
from .._output import out

SCHEMA = "bidiffsr-rm/1"


@o.expanded
def rm(
    *,
    name: Annotated[str, typer.Argument(metavar="MODEL", help=r"ORG/REPO\[@REV], or a remote one of the catalog.")],
    messages: o.Brief,
) -> None:
    """Find its revisions, remove them, say what became free."""
    messages.configure()
    from ...checkpoints import hub
    from ...checkpoints.models import find_model

    model = find_model(name)
    if model.file:
        kind = "is bundled with the package" if model.entry else "is a file of your own"
        raise UsageError(f"{name} {kind}.", "Only downloaded models are removed.")
    if ":" in name:
        raise UsageError(f"{name} is one file of a revision.", "A revision is removed whole: leave out the colon.")
    every = model.entry is None and "@" not in name
    found = [
        cached
        for cached in hub.cached_models()
        for source in model.sources
        if cached.name.repo == source.repo and (every or source.revision in (*cached.branches, cached.name.revision))
    ]
    freed = hub.remove(found, [source.repo for source in model.sources])
    if not found and not freed:
        raise ModelError(f"{name} is not in the cache.", "bidiffsr models list shows what is.")
    for cached in found:
        out.message(f"Removed {cached.name}.")
    out.message(f"{freed / 1e6:.1f} MB are free again.")
    if out.as_json:
        out.json({"schema": SCHEMA, "removed": [str(cached.name) for cached in found], "freed_bytes": freed})
