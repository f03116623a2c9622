"""One browser for all pages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser import Browser, open_browser


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, or the test is skipped."""
    with open_browser() as browser:
        yield browser


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A browser takes its time: the quick run leaves it out."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
