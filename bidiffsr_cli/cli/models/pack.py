"""Pack a model's weights into one file of sign bits, for upscale --model.

Examples:
  bidiffsr models pack run-fast -o mine.safetensors --license CC0-1.0
  bidiffsr models pack weights.safetensors -o mine.safetensors

Takes a run's folder (its averaged weights), or a float checkpoint. Signs take
a bit each, other numbers 16 or 32. The file is written only if it predicts for
a built-in picture what the float weights do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import _options as o
from .._output import out


@o.expanded
def pack(
    source: Annotated[str, typer.Argument(metavar="RUN|FILE", help="A training run, or a checkpoint.")],
    *,
    output: Annotated[Path, o.option("FILE", "The packed file.", "--output", "-o")],
    license: Annotated[str | None, o.option("TEXT", "Licence of the weights.", show_default="the source's")] = None,
    origin: Annotated[str | None, o.option("TEXT", "How the weights came about.", show_default="the source's")] = None,
    overwrite: o.OverwriteOption = False,
    messages: o.Brief,
) -> None:
    """Pack, and tell how much smaller it is; the help is the module's docstring."""
    messages.configure()
    from ...tasks.pack import PackRequest, run

    result = run(PackRequest(source, output, license=license, origin=origin, overwrite=overwrite), out)
    times = result.source_bytes / result.bytes
    out.message(
        f"{output}: {result.bytes / 1e6:.2f} MB, {times:.1f} times smaller than {result.source.name}; "
        f"its predictions agree with the float weights' to {result.snr:.0f} dB."
    )
    if out.as_json:
        out.json(result.to_dict())
