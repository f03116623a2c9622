"""Threads of torch, where several of Python's ask for one each."""

import threading

import torch

from bidiffsr_cli.runtime import one_torch_thread, torch_threads


def test_contexts_that_overlap_leave_every_thread_as_it_was():
    """Whichever ends first; a thread's setting is its own."""
    inside, entered, outside = (threading.Event() for _ in range(3))
    found = {}

    def other():
        torch.set_num_threads(3)
        inside.wait()
        with one_torch_thread():
            found["inside"] = torch.get_num_threads()
            entered.set()
            outside.wait()
            found["longer"] = torch.get_num_threads()
        found["after"] = torch.get_num_threads()

    with torch_threads(3):
        thread = threading.Thread(target=other)
        with one_torch_thread():
            assert torch.get_num_threads() == 1
            thread.start()
            inside.set()
            entered.wait()
        assert torch.get_num_threads() == 3
        outside.set()
        thread.join()
    assert found == {"inside": 1, "longer": 1, "after": 3}
