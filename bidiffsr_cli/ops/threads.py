"""How many threads one forward pass on the native engine may use. The engine has its own pool, whose threads sleep."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

_threads = ContextVar("threads", default=1)


def threads() -> int:
    """How many threads the forward pass of this context may use."""
    return _threads.get()


@contextlib.contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Let forward passes in this context use so many threads."""
    token = _threads.set(count)
    try:
        yield
    finally:
        _threads.reset(token)
