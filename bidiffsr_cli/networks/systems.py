"""Every system in the paper's tables as changes to a network's config, with the cost that the paper prints.

    find_system("reactnet").applied_to(UNetConfig())

Table 2 compares methods; table 1 takes BI-DiffSR apart: (a) block by block, (b) fusions, (c) time-aware parts, (d) K.
The methods' own UNet is nowhere described; that its binarized ones are SR3's, and which of its blocks stay full
precision, is a reconstruction from their printed costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..configs import UNetConfig
from ..errors import UsageError

SWITCHES = ("type", "method", "fusion", "resample", "identity", "tar_groups", "taa_groups", "full_precision_blocks")
FIXED: dict[str, Any] = {"tar_groups": 1, "taa_groups": 1}
SR3: dict[str, Any] = {"type": "sr3", "fusion": "join", "resample": "strided", **FIXED}
PLAIN: dict[str, Any] = {"fusion": "concat", "resample": "conv", "identity": False, **FIXED}


@dataclass(frozen=True)
class System:
    """A row of a table.

    Attributes:
        name: by which it is chosen.
        title: as the paper calls it.
        table: 2, or 1a to 1d.
        params, ops: in units of 10^6 and 10^9, as printed.
        switches: fields of UNetConfig that differ from BI-DiffSR's.
        note: why our count differs, where it does.
    """

    name: str
    title: str
    table: str
    params: float
    ops: float
    switches: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    def applied_to(self, config: UNetConfig) -> UNetConfig:
        """The system in a network of the config's size; whatever else the config is, its own switches are gone.

        Of SR3's binarized networks the full-precision blocks are those of the level next to the finest, and the last.
        """
        plain = UNetConfig()
        changes = {name: getattr(plain, name) for name in SWITCHES} | dict(self.switches)
        changes["full_precision_levels"] = tuple(level for level in (0, 1) if level < config.levels)
        if changes["type"] == "sr3":
            last = f"decoder.{config.levels - 1}.blocks.{config.res_blocks}"
            binarized = changes["method"] != "full_precision"
            changes["full_precision_levels"] = (1,) if binarized and config.levels > 1 else ()
            changes["full_precision_blocks"] = (last,) if binarized else ()
        return replace(config, **changes)


def _method(name: str, title: str, params: float, ops: float, note: str = "") -> System:
    method = "full_precision" if name == "sr3" else name
    return System(name, title, "2", params, ops, {**SR3, "method": method}, note)


_FOUR = "with BatchNorm's parameters; the paper's four rows lie at least 0.002 M lower, and nothing it says explains it"
SYSTEMS = (
    _method("sr3", "SR3", 55.41, 176.41),
    _method("bnn", "BNN", 4.78, 37.93, _FOUR),
    _method("dorefa", "DoReFa", 4.78, 37.93, _FOUR),
    _method("xnor", "XNOR", 4.78, 37.93, _FOUR),
    _method("irnet", "IRNet", 4.78, 37.93, _FOUR),
    _method("reactnet", "ReActNet", 4.85, 37.93),
    _method("bbcu", "BBCU", 4.82, 37.75),
    System("bi-diffsr", "BI-DiffSR", "2", 4.58, 36.67),
    System("a-baseline", "Baseline", "1a", 4.29, 36.67, PLAIN),
    System("a-identity", "+ Identity", "1a", 4.29, 36.67, PLAIN | {"identity": True}),
    System("a-cp", "+ CP-Down & CP-Up", "1a", 4.29, 36.67, {"fusion": "concat", **FIXED}),
    System("a-cs", "+ CS-Fusion", "1a", 4.30, 36.67, FIXED),
    System("a-time-aware", "+ TaR & TaA", "1a", 4.58, 36.67),
    System(
        "b-add",
        "Add",
        "1b",
        4.10,
        33.40,
        {"fusion": "add", **FIXED},
        "plain sums have no parameters; the paper's row has at least 0.001 M more",
    ),
    System("b-concat", "Concat", "1b", 4.29, 36.67, {"fusion": "concat", **FIXED}),
    System("b-split", "Split", "1b", 4.30, 36.67, {"fusion": "split", **FIXED}),
    System("b-cs", "CS-Fusion", "1b", 4.30, 36.67, FIXED),
    System("c-without", "w/o", "1c", 4.30, 36.67, FIXED),
    System("c-in", "In", "1c", 4.37, 36.67, {"taa_groups": 1}),
    System("c-out", "Out", "1c", 4.51, 36.67, {"tar_groups": 1}),
    System("c-all", "All", "1c", 4.58, 36.67),
    System("d-1", "K = 1", "1d", 4.30, 36.67, FIXED),
    System("d-2", "K = 2", "1d", 4.37, 36.67, {"tar_groups": 2, "taa_groups": 2}),
    System("d-5", "K = 5", "1d", 4.58, 36.67),
)


def find_system(name: str) -> System:
    """A system by its name.

    Raises:
        UsageError: there is none of that name.
    """
    for system in SYSTEMS:
        if system.name == name:
            return system
    raise UsageError(f"There is no system {name!r}.", f"Choose one of: {', '.join(s.name for s in SYSTEMS)}.")
