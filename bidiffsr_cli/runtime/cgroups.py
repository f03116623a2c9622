"""What a container, a cluster or systemd leaves to this process of memory and of processors: Linux's control groups.

A group's limit holds for all groups in it, so each group from the process's own up to the outermost one is asked. Both
versions are read, v1 (`memory.limit_in_bytes`) and v2 (`memory.max`), as mounted below /sys/fs/cgroup. Within a
container the outermost group that can be seen is the container's, and its name as /proc tells it may mean nothing.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NO_LIMIT = 1 << 60
"""Bytes; v1 has no word for "no limit", but a number as large as this."""


@dataclass(frozen=True)
class _Version:
    """What the files of a controller are called."""

    limit: str
    used: str
    cached: str

    def free(self, group: Path) -> int | None:
        """Bytes that a group may still take. Files that were read and are not in use count as free."""
        limit = _number(group / self.limit)
        used = _number(group / self.used)
        if limit is None or used is None or limit >= NO_LIMIT:
            return None
        return max(0, limit - used + min(used, _entry(group / "memory.stat", self.cached)))


V1 = _Version("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
V2 = _Version("memory.max", "memory.current", "inactive_file")


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process may still take; None where nothing limits it.

    Args:
        root: of the file system.
    """
    found = [
        free
        for controller, version in (("memory", V1), ("", V2))
        for group in _groups(root, controller)
        if (free := version.free(group)) is not None
    ]
    return min(found, default=None)


def processors(root: Path = Path("/")) -> float | None:
    """As many processors as the quota of time is worth, such as 1.5 of `docker run --cpus 1.5`; None without one.

    Args:
        root: of the file system.
    """
    shares: list[float] = []
    for group in _groups(root, "cpu"):
        quota, period = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
        if quota is not None and quota > 0 and period:
            shares.append(quota / period)
    for group in _groups(root, ""):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):  # ValueError: the quota is "max"
            limit, length = (group / "cpu.max").read_text().split()
            shares.append(int(limit) / int(length))
    return min((share for share in shares if math.isfinite(share) and share > 0), default=None)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the groups that this process is in, from its own to the outermost one that can be seen.

    Args:
        root: of the file system.
        controller: of v1; empty for v2.
    """
    top = root / "sys/fs/cgroup"
    mounts = [top / controller] if controller else [top, top / "unified"]
    if controller == "cpu":
        mounts.append(top / "cpu,cpuacct")
    name = _name(root, controller)
    for mount in mounts:
        group = mount / name
        while group != mount:
            yield group
            group = group.parent
        yield mount


def _name(root: Path, controller: str) -> Path:
    """The process's own group, as a path in the controller's tree."""
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            parts = line.split(":", 2)
            if len(parts) == 3 and (controller in parts[1].split(",") if controller else parts[:2] == ["0", ""]):
                inside = [part for part in parts[2].split("/") if part not in ("", ".", "..")]
                return Path(*inside)
    return Path()


def _number(path: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError):  # ValueError: it is "max"
        return int(path.read_text())
    return None


def _entry(path: Path, name: str) -> int:
    """A line of a table of names and numbers."""
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0
