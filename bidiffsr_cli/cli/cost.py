"""Count what a network costs, as the paper does.

Examples:
  bidiffsr cost                                   the default model
  bidiffsr cost reactnet                          one of the paper's systems
  bidiffsr cost mine.safetensors --size 512
  bidiffsr cost mine.toml                         what train would train
  bidiffsr cost --all                             all rows of the paper

Params: numbers, a binary weight 1/32 of one. OPs: multiply-adds of one step
of the diffusion, a binary one 1/64 of one; each value through GroupNorm
counts 5, through BatchNorm 2, a repeated pixel 1, and all else nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from . import _options as o
from ._output import out

if TYPE_CHECKING:
    from ..networks.complexity import Complexity
    from ..networks.systems import System

SCHEMA = "bidiffsr-cost/1"
PAPER_SIZE = 256


@o.expanded
def cost(
    *,
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="SYSTEM|MODEL|TOML",
            help="Of the paper, as --model takes it, or of train.",
            show_default="the default model",
        ),
    ] = None,
    every: Annotated[bool, o.option(o.FLAG, "All systems, beside the paper's figures.", "--all")] = False,
    markdown: Annotated[bool, o.option(o.FLAG, "Print --all as Markdown on stdout.", "--markdown")] = False,
    size: Annotated[int, o.option("N", "Side of the result, pixels.", min=8, max=16384)] = PAPER_SIZE,
    offline: o.OfflineOption = False,
    messages: o.Brief,
) -> None:
    """Find the network, count, show."""
    messages.configure()
    if every:
        if what is not None or size != PAPER_SIZE:
            raise UsageError("--all is of all systems at the paper's size.", "Leave the name and --size out.")
        if messages.json and markdown:
            raise UsageError("--json and --markdown exclude each other.", "Give one of them.")
        _all(markdown=markdown)
        return
    if markdown:
        raise UsageError("--markdown is the table of --all.", "Add --all, or leave it out.")
    from ..configs import UNetConfig
    from ..networks.complexity import complexity
    from ..networks.systems import SYSTEMS

    system = next((system for system in SYSTEMS if system.name == what), None)
    if system is None and what is not None and what.endswith(".toml"):
        name, counted = _of_config(what, size)
    elif system is None:
        name, counted = _of_model(what, size, offline=offline)
    else:
        name, counted = system.title, complexity(system.applied_to(UNetConfig()), size=size)
    kinds = sorted(counted.kinds, key=counted.ops_of, reverse=True)
    rows = [(kind, _millions(counted.kinds[kind].params), _billions(counted.ops_of(kind))) for kind in kinds]
    rows.append(("all", _millions(counted.params), _billions(counted.ops)))
    notes = [f"{counted.weights / 1e6:.2f} M numbers, {counted.binary_weights / 1e6:.2f} M of them one bit each."]
    if system is not None:
        notes.append(f"The paper prints {system.params:.2f} M and, at 256x256, {system.ops:.2f} G.")
        notes += [f"Ours are {system.note}."] if system.note else []
    title = f"{name}, one step of {counted.size}x{counted.size} pixels"
    out.table(title, ("layers", "Params, M", "OPs, G"), rows, " ".join(notes), words=1)
    out.json({"schema": SCHEMA, "name": what or name, **_figures(counted), **_printed(system)})


def _all(*, markdown: bool) -> None:
    """Every row of the paper's tables, ours beside it."""
    from ..configs import UNetConfig
    from ..networks.complexity import complexity
    from ..networks.systems import SYSTEMS
    from ..reports.cost import table
    from ..reports.tables import table_lines

    counted = [(system, complexity(system.applied_to(UNetConfig()), size=PAPER_SIZE)) for system in SYSTEMS]
    shown = table(counted)
    if markdown:
        out.write(("\n".join(table_lines(shown)) + "\n").encode())
        return
    out.table(shown.title, shown.header, shown.rows, shown.note, shown.words)
    rows = [{"name": system.name, **_figures(cost), **_printed(system)} for system, cost in counted]
    out.json({"schema": SCHEMA, "systems": rows})


def _of_config(name: str, size: int) -> tuple[str, Complexity]:
    """Of a training config's network."""
    from ..networks.complexity import complexity
    from ..training.config_files import read_config

    model = read_config(name).model
    return name, complexity(model.network, model.condition_channels, size)


def _of_model(name: str | None, size: int, *, offline: bool) -> tuple[str, Complexity]:
    """A model's name and cost; it is fetched if it is not here."""
    from ..checkpoints.catalog import default_model
    from ..checkpoints.header import read_header
    from ..checkpoints.models import find_model
    from ..errors import ModelError
    from ..networks.complexity import complexity

    try:
        found = find_model(name or default_model())
        here = found.local_path()
    except ModelError as error:
        raise ModelError(error.message, f"{error.hint} Systems of the paper: bidiffsr cost --all") from None
    with out.progress(found.name, "bytes") as progress:
        path = here or found.fetch(offline=offline, progress=progress)
    config = read_header(path).config
    return found.name, complexity(config.network, config.condition_channels, size)


def _figures(counted: Complexity) -> dict[str, Any]:
    return {
        "size": counted.size,
        "params": counted.params,
        "ops": counted.ops,
        "weights": counted.weights,
        "binary_weights": counted.binary_weights,
        "layers": {
            kind: {"params": of_kind.params, "ops": counted.ops_of(kind)} for kind, of_kind in counted.kinds.items()
        },
    }


def _printed(system: System | None) -> dict[str, Any]:
    """What the paper prints of a system."""
    if system is None:
        return {}
    printed = {"params": system.params * 1e6, "ops": system.ops * 1e9}
    return {"title": system.title, "table": system.table, "paper": printed, "note": system.note}


def _millions(count: float) -> str:
    return f"{count / 1e6:.4f}" if count else ""


def _billions(count: float) -> str:
    return f"{count / 1e9:.4f}" if count else ""
