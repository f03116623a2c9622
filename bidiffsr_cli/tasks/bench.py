"""Measure the speed of this machine: binary layers, one step of the network, and a whole picture.

On another device than the CPU: steps of one window and of several, and pictures; on CUDA with graphs and without.

result = bench(only="steps", network="model")
result.conditions.clock, [(row.name, row.what, row.median) for row in result.rows]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field
from functools import partial
from typing import Any, Literal, get_args

from ..benchmarks.layers import measure_layers
from ..benchmarks.measuring import Conditions, Row, choose_runtimes, look_at_conditions
from ..benchmarks.picture import measure_picture, measure_warm_picture
from ..benchmarks.steps import BATCHES, measure_steps, of_model, profile_step, published
from ..benchmarks.upstream_style import check_blocks
from ..checkpoints.catalog import default_model
from ..checkpoints.files import Checkpoint
from ..errors import UsageError, check_least
from ..runtime import Machine, Runtime, out_of_memory_explained
from .listener import SILENT, Listener, as_function, load_model

SCHEMA = "bidiffsr-bench/1"

Section = Literal["all", "layers", "steps", "picture"]
Measured = Literal["both", "published", "model"]


@dataclass(frozen=True)
class BenchRequest:
    """What `bench` is asked for.

    Attributes:
        only: layers, steps (with a profile), picture, or all of them.
        network: measure steps of the published network at 256×256, of the model at its window, or of both.
        against_upstream_style: also time the step as the authors' code computes it, seconds each.
        repeats: measurements of each figure; 3 at most of what takes long.
        model: a name of the catalog, ORG/REPO[@REV][:FILE] on the Hugging Face Hub, or the path of a file; None is the
            first of the catalog.
        machine: where to run. A precision of auto is fp32, and bf16 too where the CPU multiplies it; on another device
            it is fp32 and fp16.
    """

    _: KW_ONLY
    only: Section = "all"
    network: Measured = "both"
    against_upstream_style: bool = False
    repeats: int = 7
    model: str | None = None
    machine: Machine = field(default_factory=Machine)

    def __post_init__(self) -> None:
        for word, known in ((self.only, get_args(Section)), (self.network, get_args(Measured))):
            if word not in known:
                raise UsageError(f"{word!r} cannot be measured.", f"Choose {', '.join(known)}.")
        check_least(1, repeats=self.repeats)
        if self.against_upstream_style and self.only not in ("all", "steps"):
            raise UsageError(
                f"--only {self.only} has nothing in the upstream style.", "Leave --only out, or give --only steps."
            )


@dataclass(frozen=True)
class BenchResult:
    """What was measured, and under which conditions."""

    conditions: Conditions
    rows: list[Row]

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of the contract."""
        return {"schema": SCHEMA, "conditions": asdict(self.conditions), "rows": [asdict(row) for row in self.rows]}


def run(request: BenchRequest, listener: Listener = SILENT) -> BenchResult:
    """Measure the native engine and plain torch, in turn; ratios are of medians.

    Raises:
        UsageError: what is asked for does not go together, or does not suit the model.
        ModelError: the model cannot be had.
        DeviceError: the device or the backend is not there, or memory does not suffice.
    """
    name, backend = request.model or default_model(), request.machine.backend
    checkpoint = load_model(name, listener)
    why_not = checkpoint.config.network.why_not_packed
    runtimes = choose_runtimes(request.machine, why_not)
    if request.only == "layers" and runtimes[0].kind != "cpu":
        raise UsageError("Single layers are measured on the CPU alone.", "Add --device cpu.")
    if why_not and backend == "auto":
        listener.warning(f"The native engine cannot run {name} ({why_not}): all is measured in plain torch.")
        backend = "reference"
    if request.against_upstream_style and request.network != "published":
        check_blocks(checkpoint.config.network)
    result = BenchResult(look_at_conditions(runtimes, backend, request.repeats), [])
    listener.found(BenchResult(result.conditions, []))
    for rows in _sections(request, name, checkpoint, runtimes, result.conditions.port_limit):
        result.rows.extend(rows)
        if rows:
            listener.found(BenchResult(result.conditions, rows))
    return result


def _sections(
    request: BenchRequest, name: str, checkpoint: Checkpoint, runtimes: Sequence[Runtime], port_limit: float | None
) -> Iterator[list[Row]]:
    """The rows of each section: layers, steps, profiles of the steps, picture."""
    only, repeats = request.only, request.repeats
    on_device, eager = runtimes[0].kind != "cpu", runtimes[0].kind == "cuda"
    with out_of_memory_explained():
        if only in ("all", "layers") and not on_device:
            yield measure_layers(runtimes[0], repeats, port_limit)
        if only in ("all", "steps"):
            workloads = [published()] if request.network != "model" else []
            workloads += [of_model(checkpoint)] if request.network != "published" else []
            measure = partial(
                measure_steps,
                runtimes=runtimes,
                repeats=repeats,
                against_upstream_style=request.against_upstream_style,
                batches=BATCHES if on_device else (1,),
                eager=eager,
            )
            yield [row for load in workloads for row in measure(load)]
            profiles = (profile_step(load, runtime, repeats) for load in workloads for runtime in runtimes)
            yield [row for rows in profiles for row in rows]
        if only in ("all", "picture"):
            yield measure_picture(checkpoint, name, runtimes, request.machine.precision, repeats)
            if on_device:
                yield measure_warm_picture(checkpoint, runtimes, repeats, eager=eager)


bench = as_function(BenchRequest, run)
