"""A real browser for the tests: Debian's chromium, which asks the network for nothing."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

BINARY, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
WIDTHS = (360, 1600)


def is_installed() -> bool:
    return all(shutil.which(program) for program in (BINARY, DRIVER))


@contextmanager
def browsing() -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = BINARY
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-background-networking",
                 "disable-dev-shm-usage", "hide-scrollbars"):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = Chrome(options=options, service=Service(DRIVER))
    try:
        yield browser
    finally:
        browser.quit()


def look_at(browser: Chrome, page: Path, width: int = 1600, scheme: str = "light") -> None:
    """Open a page in a window of some width, by a reader of a light or a dark screen."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"},  # a click waits for no scrolling
    ]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(page.as_uri())


def log(browser: Chrome, kind: str) -> list[dict[str, Any]]:
    """Return the browser's log entries of a kind since this was last called."""
    entries: list[dict[str, Any]] = browser.get_log(kind)  # type: ignore[no-untyped-call]
    return entries


def requests(browser: Chrome) -> list[str]:
    """Return the addresses that were asked for since this was last called."""
    events = [json.loads(entry["message"])["message"] for entry in log(browser, "performance")]
    return [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
