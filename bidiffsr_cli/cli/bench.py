"""Measure the speed of this machine.

Examples:
  bidiffsr bench                                  two to three minutes
  bidiffsr bench --against-upstream-style         and the authors' way
  bidiffsr bench --only steps --network model     the default model alone
  bidiffsr bench --only layers --threads 1
  bidiffsr bench --json > bench.json
  bidiffsr bench --markdown > bench.md

Times binary layers, one step of the network and a whole picture on the
native engine and in plain torch, in turn within one run, and says the
conditions that the figures depend on. Ratios are of medians. On a GPU it
times plain torch in fp16 and fp32, on 1 to 16 windows at once and, of CUDA,
with and without graphs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from ..errors import UsageError
from . import _options as o
from ._output import out

if TYPE_CHECKING:
    from ..tasks.bench import BenchResult

WHAT = "What is measured"


@o.expanded
def bench(
    *,
    only: Annotated[
        Literal["all", "layers", "steps", "picture"],
        o.option("WHAT", "layers, steps (with a profile), picture, or all.", panel=WHAT),
    ] = "all",
    network: Annotated[
        Literal["both", "published", "model"],
        o.option(
            "WHICH", "Steps of the published network at 256x256, of the model at its window, or both.", panel=WHAT
        ),
    ] = "both",
    against_upstream_style: Annotated[
        bool,
        o.option(
            o.FLAG,
            "Also time the step as the authors' code computes it, seconds each.",
            "--against-upstream-style",
            panel=WHAT,
        ),
    ] = False,
    repeats: Annotated[
        int, o.option("N", "Measurements of each figure; at most 3 of what takes long.", panel=WHAT, min=1, max=1000)
    ] = 7,
    model: o.OneModelOption = None,
    machine: o.MachineOptions,
    markdown: Annotated[
        bool, o.option(o.FLAG, "Print Markdown on stdout instead.", "--markdown", panel=o.MESSAGES)
    ] = False,
    messages: o.Brief,
) -> None:
    """Measure, and show the conditions and one section after the other; the help is the module's docstring."""
    messages.configure()
    out.quiet = out.quiet or markdown
    if messages.json and markdown:
        raise UsageError("--json and --markdown exclude each other.", "Give one of them.")

    from ..reports.bench import as_markdown, conditions_as_rows, tables
    from ..runtime import keep_freed_memory
    from ..tasks.bench import BenchRequest, run

    def show(found: BenchResult) -> None:
        if not found.rows:
            out.answer("Conditions")
            out.rows(conditions_as_rows(found.conditions))
        for table in tables(found.rows):
            out.table(**vars(table))

    out.show = show
    keep_freed_memory()
    request = BenchRequest(
        only=only,
        network=network,
        against_upstream_style=against_upstream_style,
        repeats=repeats,
        model=model,
        machine=machine.machine,
    )
    result = run(request, out)
    if markdown:
        out.write(as_markdown(result.conditions, result.rows).encode())
    out.json(result.to_dict())
