"""Share a packed model on the Hugging Face Hub.

Examples:
  bidiffsr models push me/my-upscaler -m mine.safetensors --dry-run
  bidiffsr models push me/my-upscaler -m mine.safetensors --private

Sends three files in one commit: model.safetensors, its config.json, and a
README.md generated from what the file says of itself. Others then say
--model me/my-upscaler. Needs a token that may write: HF_TOKEN, or hf auth
login. The licence is the file's: models pack --license sets it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...errors import UsageError
from .. import _options as o
from .._output import out

SCHEMA = "bidiffsr-push/1"


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
    """Read, check, describe, send."""
    messages.configure()
    from ...checkpoints import hub
    from ...checkpoints.models import find_model
    from ...reports.model_card import config_json, model_card

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
    out.rows([(name, f"{len(content):,} bytes") for name, content in files.items()])
    out.message(f"Dry run: nothing was sent to {repo}." if dry_run else f"{repo} is at commit {commit}.")
    if out.as_json:
        sizes = {name: len(content) for name, content in files.items()}
        status = "planned" if dry_run else "done"
        out.json({"schema": SCHEMA, "status": status, "repo": repo, "commit": commit, "files": sizes})
