"""Download models, or look whether there is something newer.

Examples:
  bidiffsr models pull org/repo
  bidiffsr models pull org/repo@v2:big.safetensors
  bidiffsr models pull --all                      the catalog's remote ones

What was downloaded lies in the Hugging Face cache (HF_HOME) and is used from
there without a network; pull alone asks the Hub again. Content is compared
with its sha256. HF_ENDPOINT names a mirror, HF_TOKEN a token.
"""

from __future__ import annotations

from typing import Annotated

import typer

from ...errors import UsageError
from .. import _options as o
from .._output import out

SCHEMA = "bidiffsr-pull/1"


def pull(
    names: Annotated[list[str] | None, typer.Argument(metavar="MODEL...", help="As --model takes them.")] = None,
    all: Annotated[bool, o.option(o.FLAG, "All of the catalog.", "--all")] = False,
    offline: o.OfflineOption = False,
    json: o.JsonOption = False,
    quiet: o.QuietOption = False,
    no_progress: o.NoProgressOption = False,
    debug: o.DebugOption = False,
) -> None:
    """Fetch and check one after the other."""
    out.configure(quiet=quiet, json=json, progress=not no_progress, debug=debug)
    from ...checkpoints.catalog import catalog
    from ...checkpoints.models import find_model

    if all == bool(names):
        raise UsageError("Either name models, or give --all.", "bidiffsr models list shows what there is.")
    pulled = []
    for name in names or [entry.full_name for entry in catalog()]:
        model = find_model(name)
        before = model.local_path()
        with out.progress(model.name, "bytes") as progress:
            path = model.fetch(offline=offline, progress=progress)
        checkpoint = model.read(path)
        if model.file:
            told = "is bundled" if model.entry else "is a file on this machine"
        else:
            told = "is here and as on the Hub" if path == before else "is here now"
        out.message(f"{name} {told}: {path}")
        pulled.append({"name": name, "path": str(path), "sha256": checkpoint.sha256, "revision": checkpoint.revision})
    if out.as_json:
        out.json({"schema": SCHEMA, "models": pulled})
