"""Pack a model's weights into one file of sign bits, for upscale --model.

Examples:
  bidiffsr models pack run-fast -o mine.safetensors --license CC0-1.0
  bidiffsr models pack weights.safetensors -o mine.safetensors

Takes a run's folder (its averaged weights), or a float checkpoint. Signs take
a bit each, other numbers 16 or 32. The file is written only if it predicts for
a built-in picture what the float weights do.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from ...errors import UsageError
from .. import _options as o
from .._output import out

SCHEMA = "bidiffsr-pack/1"


def pack(
    source: Annotated[str, typer.Argument(metavar="RUN|FILE", help="A training run, or a checkpoint.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The packed file.")],
    license: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Of the weights.", show_default="the source's")
    ] = None,
    origin: Annotated[
        str | None, typer.Option(metavar="TEXT", help="How they came about.", show_default="the source's")
    ] = None,
    overwrite: o.OverwriteOption = False,
    json: o.JsonOption = False,
    quiet: o.QuietOption = False,
    debug: o.DebugOption = False,
) -> None:
    """Read, check, pack, write."""
    out.configure(quiet=quiet, json=json, debug=debug)
    from ...atomic import check_output, write_atomic
    from ...checkpoints.files import read_checkpoint
    from .._packing import pack_and_test

    path = Path(source)
    if path.is_dir():
        path = path / "weights.safetensors"
        if not path.is_file():
            raise UsageError(
                f"'{source}' is no finished or stopped training run.", "It has no weights.safetensors yet."
            )
    check_output(output, overwrite=overwrite)
    checkpoint = read_checkpoint(path)
    checkpoint = dataclasses.replace(
        checkpoint,
        license=checkpoint.license if license is None else license,
        origin=checkpoint.origin if origin is None else origin,
    )
    data, told = pack_and_test(checkpoint)
    write_atomic(data, output, overwrite=overwrite)
    before = path.stat().st_size
    out.message(f"{output}: {len(data) / 1e6:.2f} MB, {before / len(data):.1f} times smaller than {path.name}; {told}.")
    if out.as_json:
        out.json({"schema": SCHEMA, "source": str(path), "output": str(output), "bytes": len(data)})
