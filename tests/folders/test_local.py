"""The engine of one machine: lanes, small pictures side by side, and how it stops."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cli.support import environment, picture, tiny_checkpoint

from bidiffsr_cli.enlarging import Writing
from bidiffsr_cli.errors import DeviceError
from bidiffsr_cli.folders import local
from bidiffsr_cli.folders.disk import LocalFolder
from bidiffsr_cli.folders.jobs import Job, Selection, find_jobs
from bidiffsr_cli.folders.ledger import Ledger
from bidiffsr_cli.folders.work import Outcome, Watch, Work
from bidiffsr_cli.options import UpscaleOptions
from bidiffsr_cli.pipeline import SuperResolver
from bidiffsr_cli.runtime import TORCH_KERNELS, Machine, resident_memory

LARGE = (40, 30)
"""Of a picture that the tiny model, whose window is of 32 pixels, sees through several windows."""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve pictures, of which three are large and one is broken, and the tiny model beside them."""
    (tmp_path / "tiny.safetensors").write_bytes(tiny_checkpoint())
    (tmp_path / "in").mkdir()
    for index in range(12):
        picture(size=LARGE if index % 4 == 0 else (16, 12)).save(tmp_path / "in" / f"{index:02}.png")
    (tmp_path / "in" / "05.png").write_bytes(b"broken")
    return tmp_path / "in"


def work(photos: Path, threads: int, **options: Any) -> Work:
    model, machine = str(photos.with_name("tiny.safetensors")), Machine("cpu", "fp32", "auto", threads)
    return Work(model, machine, UpscaleOptions(**{"steps": 1} | options), Writing())


def enlarge(
    photos: Path, how: Work, output: str, devices: Sequence[str] = ("cpu",), **options: Any
) -> tuple[list[Job], list[Outcome]]:
    jobs = find_jobs(
        LocalFolder(photos), LocalFolder(photos.with_name(output)), Selection(), suffix="", extension=".png"
    ).jobs
    with Ledger(LocalFolder(photos.with_name(output)), {}, (1, 1)) as ledger:
        return jobs, list(local.run(jobs, how, ledger, devices=devices, io_threads=2, **options))


def contents(jobs: Sequence[Job]) -> dict[str, bytes]:
    return {job.name: Path(job.target).read_bytes() for job in jobs if Path(job.target).exists()}


def test_threads_and_lanes_give_the_same_bytes_and_end(photos: Path) -> None:
    found, before = [], set(threading.enumerate())  # other libraries' threads are no concern of it
    for threads, devices in ((1, ["cpu"]), (1, ["cpu", "cpu"]), (3, ["cpu"]), (40, ["cpu"])):
        output = f"out{len(found)}"
        jobs, outcomes = enlarge(photos, work(photos, threads), output, devices)
        assert sorted(item.job.name for item in outcomes) == [job.name for job in jobs]
        assert [item.job.name for item in outcomes if item.error] == ["05.png"]
        found.append(contents(jobs))
        # stopped in the middle, all lanes end
        with Ledger(LocalFolder(photos.with_name(output)), {}, (1, 1)) as ledger:
            running = local.run(jobs, work(photos, threads), ledger, devices=devices, io_threads=2)
            next(running)
            running.close()
        assert {thread.name.partition("_")[0] for thread in set(threading.enumerate()) - before} <= {"band"}
    assert all(results == found[0] for results in found) and len(found[0]) == 11


def test_small_pictures_share_the_threads_and_large_ones_follow(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=30)
    sample = local.sample_job

    def meet(job: Job, decoded: Any, how: Work, resolver: SuperResolver, watch: Watch) -> Any:
        if decoded.picture.size == (16, 12) and job.name < "03":
            both.wait()  # breaks if they do not run at the same time
        return sample(job, decoded, how, resolver, watch)

    monkeypatch.setattr(local, "sample_job", meet)
    _, outcomes = enlarge(photos, work(photos, 2), "out")
    good = [item for item in outcomes if not item.error]
    assert [item.result["threads"] for item in good] == [1] * 8 + [2] * 3
    assert [item.job.name for item in good[8:]] == ["00.png", "04.png", "08.png"]


def test_little_memory_lets_them_run_alone(photos: Path) -> None:
    """Where memory suffices for one small picture and not for two, nothing fails."""
    resolver = work(photos, 2).resolver()
    planner, runtime = resolver.planner, resolver.runtime
    assert len(planner.side_by_side(UpscaleOptions(), runtime, 9)) == 2
    assert len(planner.side_by_side(UpscaleOptions(), runtime, 1)) == 1
    just = resident_memory() + TORCH_KERNELS + 300_000
    assert len(planner.side_by_side(UpscaleOptions(max_memory=just), runtime, 9)) == 1


def test_what_memory_refuses_side_by_side_is_tried_alone(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bidiffsr_cli.errors import out_of_memory

    sample = local.sample_job

    def refuse(job: Job, decoded: Any, how: Work, resolver: SuperResolver, watch: Watch) -> Any:
        if resolver.runtime.threads == 1 and job.name == "06.png":
            raise out_of_memory()
        return sample(job, decoded, how, resolver, watch)

    monkeypatch.setattr(local, "sample_job", refuse)
    _, outcomes = enlarge(photos, work(photos, 2), "out")
    assert [item.job.name for item in outcomes if item.error] == ["05.png"]


def test_what_memory_refuses_beside_others_is_done_at_the_end(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that suffices for a picture suffices for it in a folder, whatever was read ahead of it."""
    decode, order = local.decode_job, list[str]()

    def refuse(job: Job, how: Work) -> Any:
        order.append(job.name)
        if job.name == "03.png" and order.count(job.name) == 1:
            raise DeviceError("This needs more memory than may be used.")
        return decode(job, how)

    monkeypatch.setattr(local, "decode_job", refuse)
    _, outcomes = enlarge(photos, work(photos, 1), "out")
    assert [item.job.name for item in outcomes if item.error] == ["05.png"]
    assert outcomes[-1].job.name == "03.png" == order[-1] and not outcomes[-1].error


@pytest.mark.parametrize("threads", [1, 2])
def test_fail_fast_tells_of_all_that_was_done(photos: Path, threads: int) -> None:
    for index in range(12, 60):
        picture(size=(16, 12)).save(photos / f"{index:02}.png")
    jobs, outcomes = enlarge(photos, work(photos, threads), "out", fail_fast=True)
    assert "05.png" in [item.job.name for item in outcomes if item.error]
    assert len(outcomes) < 40
    assert {item.job.name for item in outcomes if not item.error} == set(contents(jobs))


@pytest.mark.slow
def test_a_full_disk_stops_the_run(photos: Path) -> None:
    """On a disk of 60 kB; what fitted on it is known, and a later run goes on from there."""
    for index in range(12, 60):
        picture(size=(15, 16)).save(photos / f"{index:02}.png")
    command = [sys.executable, "-m", "bidiffsr_cli", "batch", "in", "-o", "disk", "-m", "tiny.safetensors"]
    (photos.parent / "disk").mkdir()
    script = (
        'mount -t tmpfs -o size=60k none disk && "$@"; echo $?; ls disk | wc -l; '
        'mount -o remount,size=9m disk; "$@" --quiet; echo $?; ls disk | wc -l'
    )
    ran = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *command, "--steps", "1", "--threads", "2"],
        cwd=photos.parent,
        env=environment(),
        capture_output=True,
        text=True,
    )
    if "unshare" in ran.stderr or "mount:" in ran.stderr:
        pytest.skip(f"no disk of one's own here: {ran.stderr.strip()}")
    stopped, some, again, all_but_one = map(int, ran.stdout.split())
    assert (stopped, again) == (2, 3), ran.stderr
    assert 5 < some < all_but_one == 59
    first = ran.stderr.partition("1 of 60 pictures failed")[0]
    assert first.count("The disk is full") == 1 and "[40/60]" not in first and "Traceback" not in ran.stderr
