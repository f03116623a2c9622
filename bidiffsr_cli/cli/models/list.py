"""List the models: those of the catalog, and those in the Hub's cache.

Examples:
  bidiffsr models list
  bidiffsr models list --json

A model is bundled (part of the package), cached (downloaded before), or
remote (models pull, or its first use, downloads it). Never uses the network.
"""

from __future__ import annotations

import re

from .. import _options as o
from .._output import out

SCHEMA = "bidiffsr-models/1"


@o.expanded
def list_models(*, messages: o.Brief) -> None:
    """Gather, then show."""
    messages.configure()
    from ...checkpoints.listing import known_models

    known = known_models()
    if messages.quiet:
        out.names(item.name for item in known)
    out.table(
        "Models",
        ("model", "place", "scales", "licence", "size"),
        [
            (
                _short(item.name),
                item.place,
                " ".join(f"x{scale}" for scale in item.scales),
                item.license[:24],
                _size(item.size),
            )
            for item in known
        ],
        "Take one with --model NAME. models show NAME tells more.",
        words=4,
    )
    for item in known:
        if item.problem:
            out.warning(item.problem)
    if out.as_json:
        out.json({"schema": SCHEMA, "models": [item.to_dict() for item in known]})


def _short(name: str) -> str:
    """A name with a commit's first letters alone."""
    return re.sub(r"@([0-9a-f]{12})[0-9a-f]{28}", r"@\1", name)


def _size(count: int) -> str:
    """Bytes in words."""
    return f"{count / 1e6:.1f} MB"
