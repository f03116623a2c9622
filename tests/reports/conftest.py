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
