"""The engine of one machine with several lanes."""

from __future__ import annotations

import threading
from pathlib import Path

from cli.support import picture, tiny_checkpoint

from bidiffsr_cli.configs import UpscaleOptions
from bidiffsr_cli.distributed import local
from bidiffsr_cli.distributed.folder import Selection, find_jobs
from bidiffsr_cli.distributed.ledger import Ledger
from bidiffsr_cli.distributed.work import Work
from bidiffsr_cli.enlarging import Writing


def test_two_lanes_give_the_same_bytes_and_end(tmp_path: Path) -> None:
    (tmp_path / "tiny.safetensors").write_bytes(tiny_checkpoint())
    machine = {"device": "cpu", "precision": "fp32", "backend": "auto", "threads": 1}
    work = Work(str(tmp_path / "tiny.safetensors"), tuple(machine.items()), UpscaleOptions(steps=1), Writing("PNG"))
    (tmp_path / "in").mkdir()
    for index in range(12):
        picture().save(tmp_path / "in" / f"{index:02}.png")
    (tmp_path / "in" / "05.png").write_bytes(b"broken")
    found = {}
    before = threading.active_count()
    for devices in (["cpu"], ["cpu", "cpu"]):
        output = tmp_path / f"out{len(devices)}"
        jobs = find_jobs(tmp_path / "in", output, Selection(), suffix="", extension=".png")
        with Ledger(output, {}, (1, 1)) as ledger:
            outcomes = list(local.run(jobs, work, ledger, devices=devices, io_threads=2))
        assert sorted(item.job.name for item in outcomes) == [job.name for job in jobs]
        assert [item.job.name for item in outcomes if item.error] == ["05.png"]
        found[len(devices)] = {job.name: job.target.read_bytes() for job in jobs if job.target.exists()}
        with Ledger(output, {}, (1, 1)) as ledger:  # stopped in the middle, all lanes end
            running = local.run(jobs, work, ledger, devices=devices, io_threads=2)
            next(running)
            running.close()
        assert threading.active_count() == before
    assert found[1] == found[2] and len(found[1]) == 11
