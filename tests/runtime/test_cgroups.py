"""Limits of containers and clusters, as the files of control groups state them."""

from pathlib import Path
from typing import Any

import pytest

from bidiffsr_cli import runtime
from bidiffsr_cli.runtime.cgroups import free_memory, processors

GB = 10**9


def system(root: Path, own: str, **files: Any) -> Path:
    """A file system with these files below /sys/fs/cgroup; names are paths with __ for a slash and _ for a dot."""
    files_of = {name.replace("__", "/").replace("-", "."): value for name, value in files.items()}
    for name, value in {"proc/self/cgroup": own, **{f"sys/fs/cgroup/{n}": v for n, v in files_of.items()}}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    return root


def test_nothing_limits(tmp_path: Path) -> None:
    assert free_memory(tmp_path) is None and processors(tmp_path) is None
    none = system(
        tmp_path,
        "4:memory:/a\n1:cpu,cpuacct:/a",
        **{
            "memory__a__memory-limit_in_bytes": 9223372036854771712,
            "memory__a__memory-usage_in_bytes": GB,
            "cpu__a__cpu-cfs_quota_us": -1,
            "cpu__a__cpu-cfs_period_us": 100000,
            "memory-max": "max",
            "memory-current": GB,
            "cpu-max": "max 100000",
        },
    )
    assert free_memory(none) is None and processors(none) is None


def test_a_container_of_version_2_sees_itself_as_the_outermost(tmp_path: Path) -> None:
    files = {"memory-max": 4 * GB, "memory-current": 3 * GB, "cpu-max": "150000 100000"}
    for own in ("0::/", "0::/docker/0123456789abcdef", "0::/../../outside"):
        root = system(tmp_path, own, **files)
        assert free_memory(root) == GB and processors(root) == 1.5


def test_what_was_read_and_is_not_in_use_is_free(tmp_path: Path) -> None:
    stat = "anon 100\nfile 2500000000\ninactive_file 2000000000\nactive_file 5"
    root = system(tmp_path, "0::/", **{"memory-max": 4 * GB, "memory-current": 3 * GB, "memory-stat": stat})
    assert free_memory(root) == 3 * GB
    old = system(
        tmp_path / "v1",
        "9:memory:/",
        **{
            "memory__memory-limit_in_bytes": 4 * GB,
            "memory__memory-usage_in_bytes": 3 * GB,
            "memory__memory-stat": "inactive_file 5\ntotal_inactive_file 500000000",
        },
    )
    assert free_memory(old) == GB + GB // 2


@pytest.mark.parametrize("outer", [2 * GB, 9 * GB])
def test_a_job_of_slurm_or_systemd_has_the_least_of_all_groups_that_it_is_in(tmp_path: Path, outer: int) -> None:
    root = system(
        tmp_path,
        "0::/system.slice/slurm/job_7/step_0",
        **{
            "system.slice__slurm__job_7__memory-max": 8 * GB,
            "system.slice__slurm__job_7__memory-current": GB,
            "system.slice__slurm__job_7__step_0__memory-max": "max",
            "system.slice__slurm__job_7__step_0__memory-current": GB,
            "system.slice__memory-max": outer,
            "system.slice__memory-current": GB,
            "system.slice__slurm__job_7__cpu-max": "400000 100000",
            "system.slice__cpu-max": "250000 100000",
        },
    )
    assert free_memory(root) == min(7 * GB, outer - GB) and processors(root) == 2.5


def test_version_1_with_and_without_its_own_name(tmp_path: Path) -> None:
    for own in ("4:memory:/docker/abc\n1:cpu,cpuacct:/docker/abc", "4:memory:/\n1:cpu:/"):
        root = system(
            tmp_path,
            own,
            **{
                "memory__memory-limit_in_bytes": 4 * GB,
                "memory__memory-usage_in_bytes": GB,
                "cpu,cpuacct__cpu-cfs_quota_us": 50000,
                "cpu,cpuacct__cpu-cfs_period_us": 100000,
            },
        )
        assert free_memory(root) == 3 * GB and processors(root) == 0.5


@pytest.mark.parametrize("text", ["", "rubbish", "100000", "0 0", "-5 100000", "100000 0", "1 2 3"])
def test_odd_files_say_nothing(tmp_path: Path, text: str) -> None:
    root = system(tmp_path, f"{text}\n0:\n::", **{"cpu-max": text, "memory-max": text, "memory-current": text})
    assert processors(root) is None
    assert free_memory(root) in (None, 0)


def test_threads_follow_the_quota_and_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)
    for quota, cores in ((None, 64), (2.0, 2), (1.5, 2), (0.3, 1), (100.0, 64)):
        monkeypatch.setattr("bidiffsr_cli.runtime.cgroups.processors", lambda quota=quota: quota)
        assert runtime.usable_cores() == runtime.default_threads() == cores
    for text, threads in (("3", 3), ("4,2", 4), ("100", 100), ("0", 64), ("", 64), ("many", 64), ("-1", 64)):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert runtime.default_threads() == threads
