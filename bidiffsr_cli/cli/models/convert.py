"""Convert the authors' .pth files into packed ones, and back.

Examples:
  bidiffsr models convert BI_DiffSR_x2.pth -o paper-x2.safetensors
  bidiffsr models convert mine.safetensors -o mine.pth

A .pth is read as tensors alone, nothing in it is executed. The packed file is
written only if it predicts for a built-in picture what the float weights do.
A .pth written here has the authors' names; its binary weights are scale x sign.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...errors import UsageError
from .. import _options as o
from .._output import out

if TYPE_CHECKING:
    from ...checkpoints.files import Checkpoint

SCHEMA = "bidiffsr-convert/1"


@o.expanded
def convert(
    *,
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A .pth, or a checkpoint.")],
    output: Annotated[Path, o.option("FILE", "Its suffix says what: .safetensors or .pth.", "--output", "-o")],
    scale: Annotated[
        int | None, o.option("2|4", "What a .pth enlarges by.", "--scale", "-s", show_default="its name's x2, x4")
    ] = None,
    norm_groups: Annotated[
        int | None, o.option("N", "Groups of its GroupNorm.", min=1, show_default="16, or what divides")
    ] = None,
    license: Annotated[str | None, o.option("TEXT", "Of its weights.", show_default="unknown")] = None,
    overwrite: o.OverwriteOption = False,
    messages: o.Brief,
) -> None:
    """Read, convert, test, write."""
    messages.configure()
    of_torch = source.suffix in (".pth", ".pt", ".ckpt")
    if (of_torch, output.suffix) not in ((True, ".safetensors"), (False, ".pth")):
        raise UsageError("One of the two files must be a .pth, and the other a .safetensors.", "Name them so.")
    if scale not in (None, 2, 4):
        raise UsageError(f"A scale of {scale} is not possible.", "Choose 2 or 4.")
    if not of_torch and (scale or norm_groups or license):
        raise UsageError("--scale, --norm-groups and --license are for a .pth.", "Leave them out.")
    from ...atomic import check_output, write_atomic

    check_output(output, overwrite=overwrite)
    if of_torch:
        scale = scale or _scale_in(source.name)
        data, told = _packed(source, scale, norm_groups, license)
    else:
        data, told = _unpacked(source)
    write_atomic(data, output, overwrite=overwrite)
    out.message(f"{output}: {len(data) / 1e6:.2f} MB; {told}.")
    if out.as_json:
        out.json({"schema": SCHEMA, "source": str(source), "output": str(output), "bytes": len(data), "test": told})


def _packed(source: Path, scale: int, norm_groups: int | None, license: str | None) -> tuple[bytes, str]:
    """The smallest packed file that computes the same."""
    from ...checkpoints.files import read_pth_checkpoint
    from ...tasks.pack import pack_and_test

    checkpoint: Checkpoint = read_pth_checkpoint(source, (scale,), norm_groups)
    if license is not None:
        checkpoint = dataclasses.replace(checkpoint, license=license)
    data, snr = pack_and_test(checkpoint)
    return data, f"it enlarges x{scale}, and its predictions agree with the float weights' to {snr:.0f} dB"


def _unpacked(source: Path) -> tuple[bytes, str]:
    from ...checkpoints.files import read_checkpoint
    from ...checkpoints.upstream import check_upstream, serialize_pth

    checkpoint = read_checkpoint(source)
    check_upstream(checkpoint.config)
    data = serialize_pth(checkpoint.build().state_dict(), checkpoint.config)
    if checkpoint.config.diffusion.parameterization != "epsilon":
        out.warning("The authors' code runs diffusions of epsilon alone; this one is another.")
    return data, "the authors' names, float32"


def _scale_in(name: str) -> int:
    found = set(re.findall(r"[xX]([24])(?![0-9])", name))
    if len(found) != 1:
        raise UsageError("A .pth file does not say what it enlarges by.", "Add --scale 2 or --scale 4.")
    return int(found.pop())
