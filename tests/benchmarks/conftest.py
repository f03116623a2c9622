"""Fixtures of the benchmark's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bidiffsr_cli.runtime import torch_threads


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Small tensors on busy cores are quickest in one thread."""
    with torch_threads(1):
        yield
