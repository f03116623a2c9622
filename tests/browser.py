"""A headless Chromium for the tests of pages, driven through chromedriver.

Without Chromium the tests are skipped; BIDIFFSR_REQUIRE_BROWSER=1 makes that an error.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("chromium", "chromedriver")
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")


class Browser:
    """One tab. `open` begins anew: light, 1280 pixels wide, with scripts, and nothing logged."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path, *, width: int = 1280, scheme: str = "light", scripts: bool = True) -> None:
        """Load a page, and wait until all its pictures are there."""
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.command("Emulation.setDeviceMetricsOverride", **screen)
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.command("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.driver.get("about:blank")
        self.messages(), self.requests()
        self.driver.get(page.as_uri())

    def command(self, name: str, **arguments: Any) -> Any:
        """A command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, arguments)

    def find(self, selector: str) -> Any:
        """The first element, or an error."""
        return self.driver.find_element("css selector", selector)

    def middle(self, selector: str) -> Any:
        """The first element, scrolled to the middle of the window: only what is in sight can be pointed at."""
        element = self.find(selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        return element

    def all(self, selector: str) -> list[Any]:
        """All elements."""
        return self.driver.find_elements("css selector", selector)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)

    def style(self, selector: str, name: str) -> str:
        """A computed property of the first element."""
        return self.run(
            "return getComputedStyle(arguments[0]).getPropertyValue(arguments[1])", self.find(selector), name
        )

    def messages(self) -> list[str]:
        """What the console said since last time."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """What was asked for since last time, but for data: URIs."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in urls if not url.startswith("data:")]


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """Start a browser, and end it; skips the test where there is none."""
    try:
        from selenium import webdriver
    except ImportError:
        missing = ["selenium"]
    else:
        missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        reason = f"pages are looked at in a browser, and here is no {' and no '.join(missing)}"
        if os.environ.get("BIDIFFSR_REQUIRE_BROWSER", "0") not in ("0", ""):
            pytest.fail(reason)
        pytest.skip(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for option in OPTIONS:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
