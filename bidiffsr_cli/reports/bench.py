"""What a benchmark found, as tables for the terminal and for Markdown, 80 columns wide; each with its conditions."""

from __future__ import annotations

from collections.abc import Sequence

from ..benchmarks.measuring import EAGER, NATIVE, REFERENCE, UPSTREAM_STYLE, WARM, Conditions, Row
from .tables import Table, tables_with_conditions
from .terminal import Rows

NONE = "-"


def conditions_as_rows(conditions: Conditions) -> Rows:
    """Names and values of the conditions."""
    versions = conditions.environment
    rows = [
        ("processor", versions["cpu"]),
        ("device", conditions.device),
        ("threads", f"{conditions.threads}; the upstream style has torch's {conditions.torch_threads}"),
        ("instruction set", f"{conditions.isa or 'none'} of {', '.join(conditions.isas) or 'none'}"),
    ]
    if conditions.native_missing is not None:
        rows.append(("no native engine", conditions.native_missing))
    if conditions.clock is not None:
        rows.append(("clock", f"{conditions.clock / 1e9:.2f} GHz, measured now"))
    if conditions.port_limit is not None:
        rows.append(("port limit", f"{conditions.port_limit:.0f} binary MAC per cycle and core"))
    if conditions.load_average is not None:
        rows.append(("load before", f"{conditions.load_average:.2f}"))
    return [
        *rows,
        ("versions", f"bidiffsr {versions['bidiffsr']}, torch {versions['torch']}, Python {versions['python']}"),
        ("platform", versions["platform"]),
        ("started", conditions.started),
        ("measurements", f"{conditions.repeats} of each, in turn; their median"),
    ]


def tables(rows: Sequence[Row]) -> list[Table]:
    """The tables of all rows that are there."""
    makers = {"layer": layers_table, "step": steps_table, "profile": profile_table, "picture": pictures_table}
    found = {kind: [row for row in rows if row.kind == kind] for kind in makers}
    return [maker(found[kind]) for kind, maker in makers.items() if found[kind]]


def layers_table(rows: Sequence[Row]) -> Table:
    """One line for each layer: native and reference in one thread, native in all."""
    most = max(row.threads for row in rows)
    cells: list[tuple[str, ...]] = []
    for group in _grouped(rows):
        reference = next(row for row in group if row.what == REFERENCE)
        one = next((row for row in group if row.what == NATIVE and row.threads == 1), None)
        many = next((row for row in group if row.what == NATIVE and row.threads == most), None)
        cells.append(
            (
                reference.name,
                _median(reference),
                _median(one),
                _ratio(None if one is None else one.ratio),
                _rate(one),
                NONE if one is None or one.mac_per_cycle is None else f"{one.mac_per_cycle:.0f}",
                NONE if one is None or one.port_share is None else f"{one.port_share:.0%}",
                _median(many),
            )
        )
    header = ("binary layer", "ref ms", "ms", "ratio", "GMAC/s", "MAC/cy", "of port", f"ms, {most} thr")
    return Table(
        "Binary layers, with all that is fused with them",
        header,
        cells,
        "ref is plain torch, channels last, in one thread, as the reference backend computes a window; in one thread "
        "is the native engine too, but in the last column. MAC/cy is of one core, of port what part that is of its "
        "limit. 3x3 is half a ResBlock, 1x1 a CS-Fusion.",
    )


def steps_table(rows: Sequence[Row]) -> Table:
    """One line for each way to compute a step."""
    cells: list[tuple[str, ...]] = [
        (row.name, _way(row), _milliseconds(row.median), _milliseconds(row.min), _ratio(row.ratio)) for row in rows
    ]
    header: tuple[str, ...] = ("step", "computed by", "ms", "min", "ratio")
    note = "reference is plain torch, channels last, weights binarized once; ratios are to it."
    if any(row.what == EAGER for row in rows):
        note += " eager is that without CUDA graphs; x4 computes 4 windows at once."
    if any(row.what == UPSTREAM_STYLE for row in rows):
        header = (*header, "to upstream")
        cells = [(*line, _ratio(row.ratio_upstream_style)) for line, row in zip(cells, rows, strict=True)]
        note += " upstream-style computes as the authors' code does."
    return Table("One step of the network at one window", header, cells, note, words=2)


def profile_table(rows: Sequence[Row]) -> Table:
    """One line for each kind of work, one column for each network and precision."""
    columns = list(dict.fromkeys((row.name, row.dtype) for row in rows))
    totals = {c: sum(row.median for row in rows if (row.name, row.dtype) == c) for c in columns}
    cells: list[tuple[str, ...]] = []
    for part in dict.fromkeys(row.part or "" for row in rows):
        found = {(row.name, row.dtype): row.median for row in rows if row.part == part}
        cells.append((part, *(_milliseconds(found.get(c)) for c in columns)))
    cells.append(("together", *(_milliseconds(totals[c]) for c in columns)))
    header = ("native, ms", *(f"{name.split()[0]} {_short(dtype)}" for name, dtype in columns))
    return Table("Where the time of a native step goes", header, cells, "Medians of each kind of work.")


def pictures_table(rows: Sequence[Row]) -> Table:
    """One line for each way to enlarge a whole picture."""
    cells = [
        (
            row.name,
            _way(row),
            _seconds(row.median),
            _seconds(row.min),
            _ratio(row.ratio),
            NONE if row.peak_memory_bytes is None else f"{row.peak_memory_bytes / 1e6:.0f}",
        )
        for row in rows
    ]
    header = ("picture", "computed by", "s", "min", "ratio", "peak MB")
    note = "Default steps; without loading the model."
    if any(row.name.endswith(WARM) for row in rows):
        note += " warm is in a process that has enlarged it before, without its files."
    return Table("A whole picture, in a process of its own", header, cells, note)


def as_markdown(conditions: Conditions, rows: Sequence[Row]) -> str:
    """All tables in Markdown, and below them their conditions."""
    return tables_with_conditions(tables(rows), conditions_as_rows(conditions))


def _grouped(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of the same name together."""
    return [[row for row in rows if row.name == name] for name in dict.fromkeys(row.name for row in rows)]


def _milliseconds(seconds: float | None) -> str:
    """Three digits where there are so many."""
    if seconds is None:
        return NONE
    milliseconds = seconds * 1e3
    return f"{milliseconds:.{2 if milliseconds < 10 else 1 if milliseconds < 100 else 0}f}"


def _seconds(seconds: float) -> str:
    """Two digits at least."""
    return f"{seconds:.{2 if seconds >= 0.1 else 3}f}"


def _median(row: Row | None) -> str:
    return NONE if row is None else _milliseconds(row.median)


def _rate(row: Row | None) -> str:
    return NONE if row is None or row.macs is None else f"{row.macs / row.median / 1e9:.0f}"


def _ratio(ratio: float | None) -> str:
    return NONE if ratio is None else f"{ratio:.1f}x" if ratio >= 1 else f"{ratio:.2f}x"


def _way(row: Row) -> str:
    return f"{row.what} {_short(row.dtype)}"


def _short(dtype: str) -> str:
    """fp32 of float32, bf16 of bfloat16, as --precision calls them."""
    return dtype.replace("bfloat", "bf").replace("float", "fp")
