"""The commands of `bidiffsr models` that find and keep models; the docstring of each is its help."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ModelError, UsageError
from . import _options as o
from ._output import out
from .sharing import convert, pack, push

if TYPE_CHECKING:
    from ..checkpoints.catalog import CatalogEntry
    from ..checkpoints.models import Model

models = typer.Typer(no_args_is_help=True, help="Find, fetch, check, convert and share models.")


@models.command("list")
@o.expanded
def list_models(*, messages: o.Brief) -> None:
    """List the models: those of the catalog, and those in the Hub's cache.

    Examples:
      bidiffsr models list
      bidiffsr models list --json

    A model is bundled (part of the package), cached (downloaded before), or
    remote (models pull, or its first use, downloads it). Never uses the network.
    """
    messages.configure()
    from ..checkpoints.listing import known_models

    known = known_models()
    if messages.quiet:
        out.names(item.name for item in known)
    rows = []
    for item in known:
        name = re.sub(r"@([0-9a-f]{12})[0-9a-f]{28}", r"@\1", item.name)  # with a commit's first letters alone
        scales, size = " ".join(f"x{scale}" for scale in item.scales), f"{item.size / 1e6:.1f} MB"
        rows.append((name, item.place, scales, item.license[:24], size))
    note = "Take one with --model NAME. models show NAME tells more."
    out.table("Models", ("model", "place", "scales", "licence", "size"), rows, note, words=4)
    for problem in filter(None, [item.problem for item in known]):
        out.warning(problem)
    out.json({"schema": "bidiffsr-models/1", "models": [item.to_dict() for item in known]})


@models.command()
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
    """Show all that is known of a model.

    Examples:
      bidiffsr models show                            the default one
      bidiffsr models show org/repo
      bidiffsr models show mine.safetensors --json

    Network, diffusion, Params and OPs as the paper counts them, licence, origin,
    scores, and what takes how much of the file. A model that is not on this
    machine is downloaded.
    """
    messages.configure()
    from ..checkpoints.catalog import default_model
    from ..checkpoints.header import read_header
    from ..checkpoints.models import find_model
    from ..networks.complexity import complexity
    from ..reports.model_card import model_facts, storage_of

    found = find_model(model or default_model())
    with out.progress(found.name, "bytes") as progress:
        path = found.local_path() or found.fetch(offline=offline, progress=progress)
    checkpoint = found.read(path)
    parts = storage_of(read_header(path))
    cost = complexity(checkpoint.config.network, checkpoint.config.condition_channels)
    out.answer(f"{checkpoint.name}@{checkpoint.revision}" if checkpoint.revision else checkpoint.name)
    out.rows(
        [
            ("file", f"{path}, {checkpoint.storage}, {path.stat().st_size / 1e6:.2f} MB"),
            ("sha256", checkpoint.sha256),
            *model_facts(checkpoint.config, cost).items(),
            ("storage", ", ".join(f"{kind} {count / 1e6:.2f}" for kind, count in parts.items()) + " MB"),
            ("licence", textwrap.shorten(checkpoint.license, 200, placeholder=" … (--json shows all)")),
        ]
    )
    if checkpoint.origin:
        out.answer("  origin")
        for line in textwrap.wrap(checkpoint.origin, 74, max_lines=6, placeholder=" … (--json shows all)"):
            out.answer(f"    {line}")
    if found.entry and found.entry.scores:
        _tell_scores(found.entry)
    out.json(
        {
            "schema": "bidiffsr-model/1",
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


@models.command(no_args_is_help=True)
def pull(
    names: Annotated[list[str] | None, typer.Argument(metavar="MODEL...", help="As --model takes them.")] = None,
    all: Annotated[bool, o.option(o.FLAG, "All of the catalog.", "--all")] = False,
    offline: o.OfflineOption = False,
    json: o.JsonOption = False,
    quiet: o.QuietOption = False,
    no_progress: o.NoProgressOption = False,
    debug: o.DebugOption = False,
) -> None:
    """Download models, or look whether there is something newer.

    Examples:
      bidiffsr models pull org/repo
      bidiffsr models pull org/repo@v2:big.safetensors
      bidiffsr models pull --all                      the catalog's remote ones

    What was downloaded lies in the Hugging Face cache (HF_HOME) and is used from
    there without a network; pull alone asks the Hub again. Content is compared
    with its sha256. HF_ENDPOINT names a mirror, HF_TOKEN a token.
    """
    out.configure(quiet=quiet, json=json, progress=not no_progress, debug=debug)
    from ..checkpoints.catalog import catalog
    from ..checkpoints.models import find_model

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
    out.json({"schema": "bidiffsr-pull/1", "models": pulled})


@models.command()
@o.expanded
def verify(
    *,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL...", help="As --model takes them.", show_default="all that are here"),
    ] = None,
    messages: o.Brief,
) -> None:
    """Check model files: hashes, and everything that loading checks.

    Examples:
      bidiffsr models verify                          all bundled and cached ones
      bidiffsr models verify fast mine.safetensors

    Never uses the network. Exits with 5 if a file is damaged or missing.
    """
    messages.configure()
    from ..checkpoints.listing import known_models

    if names:
        results = [_look(name) for name in names]
    else:
        results = [_look(item.name, item.model) for item in known_models() if item.place != "remote"]
    wrong = [result["name"] for result in results if not result["ok"]]
    for result in results:
        out.answer(f"{'ok' if result['ok'] else '! '} {result['name']}: {result['found']}")
    out.json({"schema": "bidiffsr-verify/1", "status": "failed" if wrong else "done", "models": results})
    if wrong:
        if out.quiet or out.as_json:
            out.error(f"{len(wrong)} of {len(results)} models cannot be used: {', '.join(wrong)}.")
        raise typer.Exit(ModelError.exit_code)


@models.command(no_args_is_help=True)
@o.expanded
def rm(
    *,
    name: Annotated[str, typer.Argument(metavar="MODEL", help=r"ORG/REPO\[@REV], or a remote one of the catalog.")],
    messages: o.Brief,
) -> None:
    """Remove downloaded models from the cache.

    Examples:
      bidiffsr models rm org/repo                     all its revisions
      bidiffsr models rm org/repo@v1

    A repository's revision goes with all its files. Bundled models and files
    outside the cache are never touched.
    """
    messages.configure()
    from ..checkpoints import hub
    from ..checkpoints.models import find_model

    model = find_model(name)
    if model.file:
        kind = "is bundled with the package" if model.entry else "is a file of your own"
        raise UsageError(f"{name} {kind}.", "Only downloaded models are removed.")
    if ":" in name:
        raise UsageError(f"{name} is one file of a revision.", "A revision is removed whole: leave out the colon.")
    every = model.entry is None and "@" not in name
    found = [
        cached
        for cached in hub.cached_models()
        for source in model.sources
        if cached.name.repo == source.repo and (every or source.revision in (*cached.branches, cached.name.revision))
    ]
    freed = hub.remove(found, [source.repo for source in model.sources])
    if not found and not freed:
        raise ModelError(f"{name} is not in the cache.", "bidiffsr models list shows what is.")
    for cached in found:
        out.message(f"Removed {cached.name}.")
    out.message(f"{freed / 1e6:.1f} MB are free again.")
    out.json({"schema": "bidiffsr-rm/1", "removed": [str(cached.name) for cached in found], "freed_bytes": freed})


@models.command(no_args_is_help=True)
def path(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="As --model takes it.")],
    debug: o.DebugOption = False,
) -> None:
    """Print where a model's file lies on this machine.

    Examples:
      bidiffsr models path fast
      cp "$(bidiffsr models path org/repo)" here.safetensors

    Never uses the network; exits with 5 if the model is not here.
    """
    out.configure(debug=debug)
    _, found = _here(name)
    if not found.is_file():
        raise ModelError(f"There is no file {found}.", "Install bidiffsr again.")
    out.write(f"{found}\n".encode())


for command in (convert, pack, push):
    models.command(no_args_is_help=True)(command)


def _tell_scores(entry: CatalogEntry) -> None:
    rows = [(dataset, f"x{scale}", *cells.values()) for dataset, scale, cells in entry.score_rows]
    counts = entry.score_rows[0][2]
    header = ("set", "", *(f"{count} step{'s' if count != '1' else ''}" for count in counts))
    out.table("Scores: PSNR-Y in dB / LPIPS-Alex", header, rows, "", words=2)


def _look(name: str, model: Model | None = None) -> dict[str, Any]:
    """What `verify` finds of a model."""
    try:
        model, path = _here(name, model)
        checkpoint = model.read(path)
    except ModelError as error:
        return {"name": name, "ok": False, "found": error.message}
    return {"name": name, "ok": True, "found": f"sha256 {checkpoint.sha256[:12]}, {checkpoint.storage}"}


def _here(name: str, model: Model | None = None) -> tuple[Model, Path]:
    """A model and where it lies on this machine; raises ModelError if it does not."""
    from ..checkpoints.hub import missing_error
    from ..checkpoints.models import find_model

    model = model or find_model(name)
    path = model.local_path()
    if path is None:
        raise missing_error(model.sources[0])
    return model, path
