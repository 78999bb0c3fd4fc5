"""Scenes for the faults: the published files, a mask to fetch, limits that fit a test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cifar_noisy.store import http_download
from tests.faults.server import FaultServer, serving


@pytest.fixture
def good(upstream: Path) -> Iterator[FaultServer]:
    with serving(upstream) as server:
        yield server


@pytest.fixture
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make what takes half a minute in life take a second or two."""
    monkeypatch.setattr(http_download, "READ_SECONDS", 1.0)
    monkeypatch.setattr(http_download, "RETRY_AFTER_SECONDS", 2.0)
