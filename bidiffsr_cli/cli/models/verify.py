"""Check model files: hashes, and everything that loading checks.

Examples:
  bidiffsr models verify                          all bundled and cached ones
  bidiffsr models verify fast mine.safetensors

Never uses the network. Exits with 5 if a file is damaged or missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import ModelError
from .. import _options as o
from .._output import out

if TYPE_CHECKING:
    from ...checkpoints.models import Model

SCHEMA = "bidiffsr-verify/1"


@o.expanded
def verify(
    *,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL...", help="As --model takes them.", show_default="all that are here"),
    ] = None,
    messages: o.Brief,
) -> None:
    """Read one after the other, and say at the end whether all are sound."""
    messages.configure()
    from ...checkpoints.listing import known_models

    if names:
        results = [_look(name) for name in names]
    else:
        results = [_look(item.name, item.model) for item in known_models() if item.place != "remote"]
    wrong = [result["name"] for result in results if not result["ok"]]
    for result in results:
        out.answer(f"{'ok' if result['ok'] else '! '} {result['name']}: {result['found']}")
    if out.as_json:
        out.json({"schema": SCHEMA, "status": "failed" if wrong else "done", "models": results})
    if wrong:
        if out.quiet or out.as_json:
            out.error(f"{len(wrong)} of {len(results)} models cannot be used: {', '.join(wrong)}.")
        raise typer.Exit(ModelError.exit_code)


def _look(name: str, model: Model | None = None) -> dict[str, Any]:
    from ...checkpoints.hub import missing_error
    from ...checkpoints.models import find_model

    try:
        model = model or find_model(name)
        path = model.local_path()
        if path is None:
            raise missing_error(model.sources[0])
        checkpoint = model.read(path)
    except ModelError as error:
        return {"name": name, "ok": False, "found": error.message}
    return {"name": name, "ok": True, "found": f"sha256 {checkpoint.sha256[:12]}, {checkpoint.storage}"}
