"""Batches on a real Ray cluster of several nodes on this machine."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli.support import picture, tiny_checkpoint
from PIL import Image, ImageChops

from bidiffsr_cli.enlarging import Writing
from bidiffsr_cli.folders import cluster as engine
from bidiffsr_cli.folders import local
from bidiffsr_cli.folders.disk import LocalFolder
from bidiffsr_cli.folders.jobs import Job, Selection, find_jobs
from bidiffsr_cli.folders.ledger import Ledger
from bidiffsr_cli.folders.remote import open_folder
from bidiffsr_cli.folders.work import Outcome, Work
from bidiffsr_cli.options import UpscaleOptions
from bidiffsr_cli.runtime import Machine

ray = pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster whose head does no work; tests add nodes to it."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 100 << 20})
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def work(tmp_path: Path) -> Work:
    """The tiny model with enough steps to be caught at it."""
    (tmp_path / "tiny.safetensors").write_bytes(tiny_checkpoint())
    machine, options = Machine("cpu", "fp32", "auto", 1), UpscaleOptions(steps=5)
    return Work(str(tmp_path / "tiny.safetensors"), machine, options, Writing())


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve pictures."""
    (tmp_path / "in").mkdir()
    for index in range(12):
        picture(size=(60 + index, 50)).save(tmp_path / "in" / f"{index:02}.png")
    return tmp_path / "in"


def jobs_of(photos: Path, output: Path) -> list[Job]:
    return find_jobs(LocalFolder(photos), LocalFolder(output), Selection(), suffix="", extension=".png").jobs


def locally(photos: Path, work: Work) -> dict[str, bytes]:
    output = photos.with_name("local")
    jobs = jobs_of(photos, output)
    with Ledger(LocalFolder(output), {}, (1, 1)) as ledger:
        assert not any(item.error for item in local.run(jobs, work, ledger, devices=["cpu"], io_threads=2))
    return {job.name: Path(job.target).read_bytes() for job in jobs}


def test_same_bytes_on_two_nodes_one_of_them_late_and_a_worker_killed(nodes: Any, photos: Path, work: Work) -> None:
    expected = locally(photos, work)
    output = photos.with_name("out")
    jobs = jobs_of(photos, output)
    outcomes: list[Outcome] = []

    def run() -> None:
        with Ledger(LocalFolder(output), {}, (1, 1)) as ledger:
            outcomes.extend(engine.run(jobs, work, ledger, address=nodes.address))

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(1)
    assert not outcomes  # there is nobody to do it
    nodes.add_node(num_cpus=1)
    victim = wait_for_worker(thread)
    nodes.add_node(num_cpus=1)
    os.kill(victim, signal.SIGKILL)
    thread.join(180)
    assert not thread.is_alive() and not any(item.error for item in outcomes), [item.error for item in outcomes]
    other = {job.name: difference(Path(job.target), photos.with_name("local") / job.result) for job in jobs}
    assert {name: found for name, found in other.items() if found} == {}
    assert {job.name: Path(job.target).read_bytes() for job in jobs} == expected
    assert sorted(item.job.name for item in outcomes) == sorted(expected)
    with Ledger(LocalFolder(output), {}, (1, 1)) as ledger:
        assert len(ledger.survey(jobs)[0]) == len(jobs)


def difference(one: Path, other: Path) -> str:
    """In what two pictures differ."""
    with Image.open(one) as a, Image.open(other) as b:
        levels = ImageChops.difference(a.convert("RGB"), b.convert("RGB")).getextrema()
        texts = "" if a.info == b.info else f" {a.info} {b.info}"
        return f"{levels}{texts}" if texts or any(high for _, high in levels) else ""


def workers(task: bytes) -> list[int]:
    """The processes of this test's clusters whose name begins so."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(task) and is_ours(int(entry.name)):
                found.append(int(entry.name))
        except OSError:  # it has ended
            continue
    return found


def is_ours(process: int) -> bool:
    """Whether a process stems from this one."""
    while process > 1 and process != os.getpid():
        process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    return process == os.getpid()


def wait_for_worker(thread: threading.Thread, task: bytes = b"ray::_enlarge") -> int:
    """The process that has a picture in hand, or another task."""
    deadline = time.time() + 120
    while time.time() < deadline and thread.is_alive():
        for process in workers(task):
            return process
        time.sleep(0.01)
    raise AssertionError("no worker was seen")


def test_a_large_picture_is_done_by_all_workers_and_one_is_killed(nodes: Any, photos: Path, work: Work) -> None:
    for old in photos.iterdir():
        old.unlink()
    for name, size in (("0", (90, 80)), ("1", (16, 12)), ("2", (200, 180)), ("3", (16, 16))):
        picture("RGBA" if name == "0" else "RGB", size).save(photos / f"{name}.png")
    expected = locally(photos, work)
    nodes.add_node(num_cpus=1)
    nodes.add_node(num_cpus=1)
    jobs = jobs_of(photos, photos.with_name("out"))
    outcomes: list[Outcome] = []
    seen: set[int] = set()

    def run() -> None:
        with Ledger(LocalFolder(photos.with_name("out")), {}, (1, 1)) as ledger:
            outcomes.extend(engine.run(jobs, work, ledger, address=nodes.address))

    thread = threading.Thread(target=run)
    thread.start()
    victim = wait_for_worker(thread, b"ray::_predict")
    while thread.is_alive() and len(seen) < 2:
        seen.update(workers(b"ray::_predict"))
    os.kill(victim, signal.SIGKILL)
    thread.join(180)
    assert not thread.is_alive() and not any(item.error for item in outcomes), [item.error for item in outcomes]
    assert len(seen) == 2  # both took part
    assert [item.job.name for item in outcomes][2:] == ["0.png", "2.png"]  # behind the small ones
    assert {job.name: Path(job.target).read_bytes() for job in jobs} == expected
    assert outcomes[-1].result["tiles"]["count"] > 100
    with Ledger(LocalFolder(photos.with_name("out")), {}, (1, 1)) as ledger:
        assert len(ledger.survey(jobs)[0]) == len(jobs)


def test_a_large_picture_whose_windows_fail(nodes: Any, photos: Path, work: Work, tmp_path: Path) -> None:
    """A worker's own error becomes the picture's sentence, and the others are done."""
    for old in photos.iterdir():
        old.unlink()
    picture(size=(90, 80)).save(photos / "0.png")
    picture(size=(16, 12)).save(photos / "1.png")
    nodes.add_node(num_cpus=2)
    jobs = jobs_of(photos, photos.with_name("out"))
    with Ledger(LocalFolder(photos.with_name("out")), {}, (1, 1)) as ledger:
        running = engine.run(jobs, work, ledger, address=nodes.address)
        first = next(running)
        work.resolver()  # this process has the model; new workers will look for it in vain
        Path(work.model).unlink()
        for process in workers(b"ray::IDLE") + workers(b"ray::_"):
            os.kill(process, signal.SIGKILL)
        (second,) = running
    assert not first.error and "tiny.safetensors" in second.error and not Path(jobs[0].target).exists()


def test_a_broken_picture_and_no_cluster(nodes: Any, photos: Path, work: Work) -> None:
    nodes.add_node(num_cpus=1)
    (photos / "05.png").write_bytes(b"broken")
    output = photos.with_name("out")
    jobs = jobs_of(photos, output)[4:7]
    with Ledger(LocalFolder(output), {}, (1, 1)) as ledger:
        outcomes = list(engine.run(jobs, work, ledger, address=nodes.address))
    assert [bool(item.error) for item in sorted(outcomes, key=lambda item: item.job.name)] == [False, True, False]
    assert "05.png" in next(item.error for item in outcomes if item.error)


def test_a_cluster_with_urls(nodes: Any, photos: Path, work: Work, bucket: str) -> None:
    """Nothing is shared but a store; a worker that is killed loses nothing there either."""
    import s3fs

    picture(size=(200, 180)).save(photos / "11.png")  # one for all workers
    expected = locally(photos, work)
    s3fs.S3FileSystem().put(f"{photos}/", f"{bucket}/in/", recursive=True)
    nodes.add_node(num_cpus=1)
    nodes.add_node(num_cpus=1)
    source, target = open_folder(f"s3://{bucket}/in"), open_folder(f"s3://{bucket}/out")
    jobs = find_jobs(source, target, Selection(), suffix="", extension=".png").jobs
    outcomes: list[Outcome] = []

    def run() -> None:
        with Ledger(target, {}, (1, 1)) as ledger:
            outcomes.extend(engine.run(jobs, work, ledger, address=nodes.address))

    thread = threading.Thread(target=run)
    thread.start()
    os.kill(wait_for_worker(thread), signal.SIGKILL)
    thread.join(180)
    assert not thread.is_alive() and not any(item.error for item in outcomes), [item.error for item in outcomes]
    assert {job.name: target.read(job.result) for job in jobs} == expected
    assert outcomes[-1].job.name == "11.png" and outcomes[-1].result["tiles"]["count"] > 100
    assert len(Ledger(target, {}, (1, 1)).survey(jobs)[0]) == len(jobs)
