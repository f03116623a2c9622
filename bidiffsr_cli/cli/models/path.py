"""Print where a model's file lies on this machine.

Examples:
  bidiffsr models path fast
  cp "$(bidiffsr models path org/repo)" here.safetensors

Never uses the network; exits with 5 if the model is not here.
"""

from __future__ import annotations

from typing import Annotated

import typer

from .. import _options as o
from .._output import out


def path(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="As --model takes it.")],
    debug: o.DebugOption = False,
) -> None:
    """Find it, print it."""
    out.configure(debug=debug)
    from ...checkpoints.hub import missing_error
    from ...checkpoints.models import find_model
    from ...errors import ModelError

    model = find_model(name)
    found = model.local_path()
    if found is None:
        raise missing_error(model.sources[0])
    if not found.is_file():
        raise ModelError(f"There is no file {found}.", "Install bidiffsr again.")
    out.data(f"{found}\n".encode())
