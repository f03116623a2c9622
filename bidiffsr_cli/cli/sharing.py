"""The commands of `bidiffsr models` that make files of models and share them; the docstring of each is its help."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError, UsageError
from . import _options as o
from ._output import out


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
    """Convert the authors' .pth files into packed ones, and back.

    Examples:
      bidiffsr models convert BI_DiffSR_x2.pth -o paper-x2.safetensors
      bidiffsr models convert paper-x2.safetensors -o again.pth

    A .pth is read as tensors alone, nothing in it is executed. The packed file is
    written only if it predicts for a built-in picture what the float weights do.
    A .pth is written of the authors' network alone (presets paper-x2, paper-x4),
    with their names; its binary weights are scale x sign.
    """
    messages.configure()
    of_torch = source.suffix in (".pth", ".pt", ".ckpt")
    if (of_torch, output.suffix) not in ((True, ".safetensors"), (False, ".pth")):
        raise UsageError("One of the two files must be a .pth, and the other a .safetensors.", "Name them so.")
    if scale not in (None, 2, 4):
        raise UsageError(f"A scale of {scale} is not possible.", "Choose 2 or 4.")
    if not of_torch and (scale or norm_groups or license):
        raise UsageError("--scale, --norm-groups and --license are for a .pth.", "Leave them out.")
    from ..atomic import check_output, write_atomic

    if not source.exists():
        raise InputError(f"'{source}' does not exist.", "Check the spelling and the folder.")
    check_output(output, overwrite=overwrite)
    if of_torch:
        data, told = _packed(source, scale or _scale_in(source.name), norm_groups, license)
    else:
        data, told = _unpacked(source)
    write_atomic(data, output, overwrite=overwrite)
    out.message(f"{output}: {len(data) / 1e6:.2f} MB; {told}.")
    facts = {"source": str(source), "output": str(output), "bytes": len(data), "test": told}
    out.json({"schema": "bidiffsr-convert/1", **facts})


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
    """Pack a model's weights into one file of sign bits, for upscale --model.

    Examples:
      bidiffsr models pack run-fast -o mine.safetensors --license CC0-1.0
      bidiffsr models pack weights.safetensors -o mine.safetensors

    Takes a run's folder (its averaged weights), or a float checkpoint. Signs take
    a bit each, other numbers 8, 16 or 32. The file is written only if it predicts
    for a built-in picture what the float weights do.
    """
    messages.configure()
    from ..tasks.pack import PackRequest, run

    result = run(PackRequest(source, output, license=license, origin=origin, overwrite=overwrite), out)
    times = result.source_bytes / result.bytes
    out.message(
        f"{output}: {result.bytes / 1e6:.2f} MB, {times:.1f} times smaller than {result.source.name}; "
        f"its predictions agree with the float weights' to {result.snr:.0f} dB."
    )
    out.json(result.to_dict())


@o.expanded
def push(
    *,
    repo: Annotated[str, typer.Argument(metavar="ORG/REPO", help="Made if it is not there.")],
    model: Annotated[str, o.option("NAME|PATH", "The model to share.", "--model", "-m")],
    private: Annotated[bool, o.option(o.FLAG, "If it is made: for you alone.", "--private")] = False,
    message: Annotated[str, o.option("TEXT", "Of the commit.")] = "Upload a model of bidiffsr",
    dry_run: Annotated[bool, o.option(o.FLAG, "Show what would be sent.", "--dry-run")] = False,
    offline: o.OfflineOption = False,
    messages: o.Brief,
) -> None:
    """Share a packed model on the Hugging Face Hub.

    Examples:
      bidiffsr models push me/my-upscaler -m mine.safetensors --dry-run
      bidiffsr models push me/my-upscaler -m mine.safetensors --private

    Sends three files in one commit: model.safetensors, its config.json, and a
    README.md generated from what the file says of itself. Others then say
    --model me/my-upscaler. Needs a token that may write: HF_TOKEN, or hf auth
    login. The licence is the file's: models pack --license sets it.
    """
    messages.configure()
    from ..checkpoints import hub
    from ..checkpoints.models import find_model
    from ..reports.model_card import config_json, model_card

    target = hub.HubFile.parse(repo)
    if target is None or str(target) != target.repo:
        raise UsageError(f"{repo!r} is not the name of a repository.", "Write it as ORG/REPO.")
    found = find_model(model)
    path = found.local_path() or found.fetch(offline=offline)
    checkpoint = found.read(path)
    if checkpoint.storage != "packed":
        raise UsageError(f"{Path(path).name} is not packed.", "First: bidiffsr models pack FILE -o OTHER")
    if checkpoint.license.strip().lower().partition(":")[0] in ("", "unknown", "unstated"):
        out.warning("The file names no licence: nobody may use it. models pack --license sets one.")
    card = model_card(checkpoint, repo, found.entry)
    files = {
        hub.DEFAULT_FILE: path.read_bytes(),
        "config.json": config_json(checkpoint),
        "README.md": card.encode(),
    }
    if dry_run:
        for line in card.splitlines():
            out.answer(line)
        commit = ""
    else:
        if offline or hub.is_offline():
            raise UsageError(
                "Sharing needs the network, which may not be used.", "Leave --offline and HF_HUB_OFFLINE out."
            )
        commit = hub.upload(repo, files, message, private=private)
    sizes = {name: len(content) for name, content in files.items()}
    out.rows([(name, f"{size:,} bytes") for name, size in sizes.items()])
    out.message(f"Dry run: nothing was sent to {repo}." if dry_run else f"{repo} is at commit {commit}.")
    status = "planned" if dry_run else "done"
    out.json({"schema": "bidiffsr-push/1", "status": status, "repo": repo, "commit": commit, "files": sizes})


def _packed(source: Path, scale: int, norm_groups: int | None, license: str | None) -> tuple[bytes, str]:
    """The smallest packed file that computes the same."""
    from ..checkpoints.files import read_pth_checkpoint
    from ..tasks.pack import pack_and_test

    checkpoint = read_pth_checkpoint(source, (scale,), norm_groups)
    if license is not None:
        checkpoint = dataclasses.replace(checkpoint, license=license)
    data, snr = pack_and_test(checkpoint)
    return data, f"it enlarges x{scale}, and its predictions agree with the float weights' to {snr:.0f} dB"


def _unpacked(source: Path) -> tuple[bytes, str]:
    from ..checkpoints.files import read_checkpoint
    from ..checkpoints.upstream import check_upstream, serialize_pth

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
