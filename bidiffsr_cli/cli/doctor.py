"""Look whether everything works on this machine.

Examples:
  bidiffsr doctor
  bidiffsr doctor --json > doctor.json

Shows versions, devices and what computes the 1-bit layers, checks the
bundled models against their sha256, and runs a self-test: the network as it
runs on the CPU against a plainer form of it, one thread against several, and
the default device against the CPU.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import typer

from ..errors import BidiffsrError
from ..text import scales_in_words
from . import _options as o
from ._errors import explain
from ._output import out

PACKAGES = ("torch", "pillow", "safetensors", "huggingface-hub", "typer", "rich")
SCHEMA = "bidiffsr-doctor/1"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; `exit_code` is 0 where it is well."""

    name: str
    found: str
    exit_code: int = 0

    @property
    def ok(self) -> bool:
        """Whether it is well."""
        return self.exit_code == 0


def doctor(json: o.JsonOption = False, debug: o.DebugOption = False) -> None:
    """Look at everything, say it, and exit with the code of the first thing that is wrong."""
    out.configure(json=json, debug=debug)
    sections = {
        title: _section(title, look)
        for title, look in (
            ("versions", versions),
            ("machine", machine),
            ("models", bundled_models),
            ("self-test", self_test),
        )
    }
    failed = [check for checks in sections.values() for check in checks if not check.ok]
    for title, checks in sections.items():
        out.answer(title.capitalize())
        out.rows((check.name if check.ok else f"! {check.name}", check.found) for check in checks)
    out.answer("Something is wrong: see the lines marked with '!'." if failed else "All is well.")
    out.json(_as_json(sections, bool(failed)))
    if failed:
        raise typer.Exit(failed[0].exit_code)


def versions() -> list[Check]:
    """bidiffsr, Python, and the packages that it needs."""
    from importlib.metadata import PackageNotFoundError, version

    from .. import __version__

    checks = [Check("bidiffsr", __version__), Check("python", platform.python_version())]
    for package in PACKAGES:
        try:
            checks.append(Check(package, version(package)))
        except PackageNotFoundError:
            checks.append(Check(package, "not installed", 1))
    return [*checks, Check("platform", platform.platform())]


def machine() -> list[Check]:
    """Devices, backends, memory and disk."""
    from ..runtime import Machine, choose_runtime, find_devices, usable_cores

    devices = find_devices()
    checks = [Check(name, what) for name, what in devices.usable.items()]
    checks += [Check(name, f"cannot be used: {why}") for name, why in devices.unusable.items()]
    checks.append(Check("cores", str(usable_cores())))
    device = _checked("default device", lambda: str(choose_runtime(Machine()).device))
    return [*checks, device, *_backends(), _memory(), _disk()]


def bundled_models() -> list[Check]:
    """Every bundled model: whether its file is whole and the one of the catalog."""
    from ..checkpoints.catalog import CatalogEntry, catalog
    from ..checkpoints.models import load_checkpoint

    def look(entry: CatalogEntry) -> str:
        checkpoint = load_checkpoint(entry.full_name)
        return f"{scales_in_words(checkpoint.config.scales)}, sha256 {checkpoint.sha256[:12]} as in the catalog"

    try:
        entries = [entry for entry in catalog() if entry.bundled]
    except BidiffsrError as error:
        return [_failed("catalog", error)]
    return [_checked(entry.full_name, partial(look, entry)) for entry in entries]


def self_test() -> list[Check]:
    """Enlarge a small picture in ways that must agree."""
    from ..runtime import Machine, choose_runtime
    from ..tasks.selftest import SelfTest

    try:
        test = SelfTest()
    except Exception as error:
        return [_failed("default model", error)]
    checks = [_checked("inference form", test.inference_form), _checked("threads", test.threads)]
    default = choose_runtime(Machine(), **test.checkpoint.runtime_facts)
    return checks if default.kind == "cpu" else [*checks, _checked(default.device, partial(test.device, default))]


def _backends() -> list[Check]:
    """Which backends could run, and why the others cannot; none but the chosen one is needed."""
    from ..ops import native
    from ..runtime import Machine, choose_runtime

    def look(name: str) -> str:
        chosen = "; runs by default" if choose_runtime(Machine()).backend == name else ""
        if name == "reference":
            return f"plain torch{chosen}"
        why = native.why_unavailable()
        if why is not None:
            return f"not here: {why}"
        return f"{native.choose_isa()} of {', '.join(native.supported_isas())}{chosen}"

    return [_checked(f"backend {name}", partial(look, name)) for name in ("native", "reference")]


def _memory() -> Check:
    from ..runtime import available_memory

    free = available_memory()
    return Check("free memory", "unknown" if free is None else f"{free / 1e9:.1f} GB")


def _disk() -> Check:
    return _checked("free disk", lambda: f"{shutil.disk_usage(Path.cwd()).free / 1e9:.1f} GB in the current folder")


def _section(title: str, look: Callable[[], list[Check]]) -> list[Check]:
    """What a whole section found, or the error that it ended with: a broken driver must not hide the rest."""
    try:
        return look()
    except Exception as error:
        return [_failed(title, error)]


def _checked(name: str, look: Callable[[], str]) -> Check:
    """What `look` says, or the error it ends with."""
    try:
        return Check(name, look())
    except Exception as error:  # a doctor must get to the end, whatever is broken
        return _failed(name, error)


def _failed(name: str, error: Exception) -> Check:
    out.traceback(error)
    failure = explain(error)
    return Check(name, failure.message, failure.exit_code)


def _as_json(sections: dict[str, list[Check]], failed: bool) -> dict[str, Any]:
    return {"schema": SCHEMA, "status": "failed" if failed else "ok"} | {
        name.replace("-", "_"): {check.name: {"ok": check.ok, "found": check.found} for check in checks}
        for name, checks in sections.items()
    }
