"""What the tests share: the published files where they are at hand, and an environment of its own.

Tests and documentation examples that need the published files find them in the folder or URL that
``CIFAR_NOISY_MIRRORS`` names, else in ``../shared/upstream`` beside the checkout; those that need
the files of other repositories in ``../shared/label_sets``. Where these are not there the tests are
skipped, and pytest's summary says so.
"""

import os
from pathlib import Path

import pytest

from cifar_noisy.store.artifact_store import CACHE_VARIABLE, MIRRORS_VARIABLE, OFFLINE_VARIABLE

REPOSITORY = Path(__file__).parent
NO_FILES = f"needs the published files: set {MIRRORS_VARIABLE} to a folder or URL that has them"


def published_mirror() -> str | None:
    """Return the folder or URL that has the published files, if there is one."""
    beside = REPOSITORY.parent / "shared" / "upstream"
    return os.environ.get(MIRRORS_VARIABLE) or (str(beside) if beside.is_dir() else None)


MIRROR = published_mirror()
LABEL_SETS = REPOSITORY.parent / "shared" / "label_sets"


@pytest.fixture(autouse=True)
def own_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Give each test an empty cache and no mirrors, whatever the caller's environment says."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv(MIRRORS_VARIABLE, raising=False)
    monkeypatch.delenv(OFFLINE_VARIABLE, raising=False)


@pytest.fixture
def published(own_environment: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make the published files a mirror of the test's store; skip where there are none."""
    if MIRROR is None:
        pytest.skip(NO_FILES)
    monkeypatch.setenv(MIRRORS_VARIABLE, MIRROR)
    return MIRROR


@pytest.fixture
def label_sets(published: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the other repositories' files a mirror too, and return their folder; or skip."""
    if not LABEL_SETS.is_dir():
        pytest.skip("needs the files of other repositories in ../shared/label_sets")
    monkeypatch.setenv(MIRRORS_VARIABLE, f"{published},{LABEL_SETS}")
    return LABEL_SETS


@pytest.fixture
def upstream(published: str) -> Path:
    """Return the folder of the published files; skip where they are not in a folder."""
    if not Path(published).is_dir():
        pytest.skip(f"needs the published files as a folder, and {MIRRORS_VARIABLE} is a URL")
    return Path(published)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give documentation examples the files that a comment marks them with, or skip them."""
    marks = {"# published files": "published", "# published label sets": "label_sets"}
    for item in items:
        if isinstance(item, pytest.DoctestItem):
            sources = "".join(example.source for example in item.dtest.examples)
            item.fixturenames += [fixture for mark, fixture in marks.items() if mark in sources]
