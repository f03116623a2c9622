"""What a measurement depends on and can be told without importing torch: versions, platform, processor."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import platform
import re
from pathlib import Path

from .. import __version__


def environment() -> dict[str, str]:
    """What a measurement depends on: versions, platform, processor."""
    return {
        "bidiffsr": __version__,
        "torch": torch_version().get("__version__") or "unknown",
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
    }


def cpu_name() -> str:
    """The processor's name, as far as the system tells."""
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if found:
            return found[1].strip()
    return platform.processor() or platform.machine()


@functools.cache
def torch_version() -> dict[str, str]:
    """What torch's version.py states, read without importing torch: its version, and the devices that it is built for.

    Where it has another form than today, everything is stated, and torch itself will be asked.
    """
    spec = importlib.util.find_spec("torch")
    text = ""
    with contextlib.suppress(OSError, ValueError):
        text = Path(spec.origin or "").with_name("version.py").read_text() if spec is not None else ""
    found = re.findall(r"^(\w+)\s*(?::[^=]+)?=\s*(?:'([^']*)'|None)\s*$", text, re.MULTILINE)
    return dict(found) if found else {"cuda": "?", "xpu": "?"}
