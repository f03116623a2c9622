"""Enlarged pictures in words: the cells of a small table, and the conditions that its figures depend on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .markdown import plain, table_row

HEADER = ("picture", "from", "to", "model", "steps", "windows", "seconds", "s per step", "peak memory")


def as_markdown(results: Sequence[dict[str, Any]]) -> str:
    """A table with one row for each result, and a list of conditions for each machine and setting among them."""
    good = [result for result in results if "error" not in result]
    lines = ["# Pictures enlarged by bidiffsr", "", table_row(HEADER), table_row(["---"] * len(HEADER))]
    lines += [table_row(list(map(plain, cells(result)))) for result in good]
    lines += ["", "Conditions:", ""]
    lines += dict.fromkeys(f"- {plain(conditions(result))}" for result in good)
    notes = [f"- {plain(result['input'])}: {plain(warning)}" for result in good for warning in result["warnings"]]
    if notes:
        lines += ["", "Warnings:", "", *notes]
    failures = [f"- {plain(result['input'])}: {plain(result['error'])}" for result in results if "error" in result]
    if failures:
        lines += ["", "Failed:", "", *failures]
    return "\n".join(lines) + "\n"


def cells(result: dict[str, Any]) -> list[str]:
    """One row of the table, under HEADER."""
    seconds, host = result["seconds"], result["peak_memory_bytes"]["host"]
    return [
        result["input"] or "-",
        "x".join(map(str, result["input_size"])),
        "x".join(map(str, result["output_size"])),
        model_name(result["model"]),
        str(result["steps"]),
        str(result["tiles"]["count"]),
        f"{seconds['total']:.2f}",
        f"{seconds['per_step']:.3f}",
        "unknown" if host is None else f"{host / 1e6:.0f} MB",
    ]


def conditions(result: dict[str, Any]) -> str:
    """What the figures of a result depend on."""
    tiles, versions = result["tiles"], result["environment"]
    return ", ".join(
        [
            f"x{result['scale']} with {model_name(result['model'])} (sha256 {result['model']['sha256'][:12]})",
            f"{result['sampler']} with eta {result['eta']:g}",
            f"temperature {result['temperature']:g}",
            f"seed {result['seed']}",
            f"windows of {tiles['size'][0]}x{tiles['size'][1]} with overlap {tiles['overlap']}",
            f"{tiles['concurrent']} at once",
            f"{result['device']} in {result['dtype']} ({result['backend']}, {result['threads']} threads)",
            f"bidiffsr {versions['bidiffsr']}",
            f"torch {versions['torch']}",
            f"Python {versions['python']}",
            versions["platform"],
            versions["cpu"],
        ]
    )


def model_name(model: dict[str, str]) -> str:
    """NAME@REVISION, or what a model without a revision is called."""
    return f"{model['name']}@{model['revision']}" if model["revision"] else model["name"]
