"""Threads of torch, where several of Python's ask for one each."""

import threading

import torch

from bidiffsr_cli.runtime import one_torch_thread, torch_threads
from bidiffsr_cli.runtime.threads import in_threads


def test_contexts_that_overlap_leave_every_thread_as_it_was():
    """Whichever ends first; a thread's setting is its own."""
    entered, leave, found = threading.Event(), threading.Event(), {}

    def other():
        torch.set_num_threads(3)
        with one_torch_thread():
            found["inside"] = torch.get_num_threads()
            entered.set()
            leave.wait(60)
            found["longer"] = torch.get_num_threads()
        found["after"] = torch.get_num_threads()

    with torch_threads(3):
        thread = threading.Thread(target=other, daemon=True)
        with one_torch_thread():
            assert torch.get_num_threads() == 1
            thread.start()
            assert entered.wait(60)
        assert torch.get_num_threads() == 3
        leave.set()
        thread.join(60)
    assert found == {"inside": 1, "longer": 1, "after": 3}


def test_a_context_within_another_ends_with_the_outer_one():
    with torch_threads(3):
        with one_torch_thread():
            with one_torch_thread():
                pass
            assert torch.get_num_threads() == 1
            assert list(in_threads([lambda: [torch.get_num_threads()]], 1)) == [1]
        assert torch.get_num_threads() == 3
