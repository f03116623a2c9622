"""Show all that is known of a model.

Examples:
  bidiffsr models show                            the default one
  bidiffsr models show org/repo
  bidiffsr models show mine.safetensors --json

Network, diffusion, Params and OPs as the paper counts them, licence, origin,
scores, and what takes how much of the file. A model that is not on this
machine is downloaded.
"""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from .. import _options as o
from .._output import out

if TYPE_CHECKING:
    from ...checkpoints.catalog import CatalogEntry

SCHEMA = "bidiffsr-model/1"


@o.expanded
def show(
    *,
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="As --model takes it.", show_default="the first of the catalog"),
    ] = None,
    offline: o.OfflineOption = False,
    messages: o.Brief,
) -> None:
    """Find, read, count, show."""
    messages.configure()
    from ...checkpoints.catalog import default_model
    from ...checkpoints.header import read_header
    from ...checkpoints.models import find_model
    from ...networks.complexity import complexity
    from ...reports.model_card import model_facts, storage_of

    found = find_model(model or default_model())
    path = found.local_path()
    if path is None:
        with out.progress(found.name, "bytes") as progress:
            path = found.fetch(offline=offline, progress=progress)
    checkpoint = found.read(path)
    header, cost = read_header(path), complexity(checkpoint.config.network, checkpoint.config.condition_channels)
    parts = storage_of(header)
    name = f"{checkpoint.name}@{checkpoint.revision}" if checkpoint.revision else checkpoint.name
    out.answer(name)
    out.rows(
        [
            ("file", f"{path}, {checkpoint.storage}, {path.stat().st_size / 1e6:.2f} MB"),
            ("sha256", checkpoint.sha256),
            *model_facts(checkpoint.config, cost).items(),
            ("storage", ", ".join(f"{kind} {count / 1e6:.2f}" for kind, count in parts.items()) + " MB"),
            ("licence", textwrap.shorten(checkpoint.license, 200, placeholder=" … (--json shows all)")),
        ]
    )
    _tell_origin(checkpoint.origin)
    _tell_scores(found.entry)
    if out.as_json:
        out.json(
            {
                "schema": SCHEMA,
                "name": checkpoint.name,
                "revision": checkpoint.revision,
                "path": str(path),
                "bytes": path.stat().st_size,
                "sha256": checkpoint.sha256,
                "license": checkpoint.license,
                "origin": checkpoint.origin,
                "config": json.loads(checkpoint.config.to_json()),
                "params": cost.params,
                "ops": cost.ops,
                "ops_size": cost.size,
                "weights": cost.weights,
                "binary_weights": cost.binary_weights,
                "storage": parts,
                "scores": found.entry.scores if found.entry else {},
            }
        )


def _tell_origin(origin: str) -> None:
    """Its first sentences; --json has all of it."""
    if origin:
        out.answer("  origin")
        for line in textwrap.wrap(origin, 74, max_lines=6, placeholder=" … (--json shows all)"):
            out.answer(f"    {line}")


def _tell_scores(entry: CatalogEntry | None) -> None:
    if entry is None or not entry.scores:
        return
    rows = [(dataset, f"x{scale}", *cells.values()) for dataset, scale, cells in entry.score_rows]
    counts = entry.score_rows[0][2]
    header = ("set", "", *(f"{count} step{'s' if count != '1' else ''}" for count in counts))
    out.table("Scores: PSNR-Y in dB / LPIPS-Alex", header, rows, "", words=2)
