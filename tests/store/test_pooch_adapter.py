"""The published files as a pooch: what its users know, by our sources and checks."""

import dataclasses
import gzip
import hashlib
import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pooch
import pytest

import cifar_noisy
from cifar_noisy import InvalidInputError, StorageError, UnavailableError, artifacts
from cifar_noisy.store.artifact_store import Host, Store
from cifar_noisy.store.registry import all_artifacts, registry_folder
from tests.file_server import FileServer, serving

ARTIFACT = artifacts(kind="train_mask", noise=0.4, sparsity=0.2, edition="2019")[0]
ARCHIVE = "images/cifar-10-python.tar.gz"


@pytest.fixture
def server(upstream: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """Run a server that is the only source."""
    from_environment = Store.from_environment

    def here() -> Store:
        store = from_environment()
        return Store(store.cache, (mirror,), store.is_offline, ())

    with serving(upstream) as running:
        mirror = Host(f"{running.url}/{{path}}")
        monkeypatch.setattr(Store, "from_environment", here)
        yield running


@pytest.fixture
def pup(server: FileServer) -> Any:
    return cifar_noisy.create_pooch()


def test_fetches_once(pup: Any, server: FileServer, upstream: Path) -> None:
    assert isinstance(pup, pooch.Pooch)
    assert set(pup.registry_files) == {artifact.path for artifact in all_artifacts()}
    path = pup.fetch(ARTIFACT.path)
    assert path == str(pup.abspath / ARTIFACT.path)
    assert Path(path).read_bytes() == (upstream / ARTIFACT.path).read_bytes()
    assert pup.fetch(ARTIFACT.path) == path
    assert server.asked == [f"/mirror/{ARTIFACT.path}"]
    assert pup.get_url(ARTIFACT.path) == f"{server.url}/{ARTIFACT.path}"


def test_the_local_storage(
    server: FileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CIFAR_NOISY_CACHE", "~/cache")
    pup = cifar_noisy.create_pooch()
    assert pup.abspath == tmp_path / "cache"
    assert not pup.abspath.exists()
    pup.path = "~/other"
    assert pup.fetch(ARTIFACT.path) == str(tmp_path / "other" / ARTIFACT.path)


def test_a_mirror_folder_is_copied_to_the_local_storage(published: str) -> None:
    pup = cifar_noisy.create_pooch()
    assert pup.fetch(ARTIFACT.path) == str(pup.abspath / ARTIFACT.path)


def test_processors(pup: Any, server: FileServer) -> None:
    actions = []

    def processor(path: str, action: str, manager: pooch.Pooch) -> int:
        assert manager is pup
        actions.append(action)
        return Path(path).stat().st_size

    for _ in range(2):
        assert pup.fetch(ARTIFACT.path, processor=processor) == ARTIFACT.size
    (pup.abspath / ARTIFACT.path).write_bytes(b"wrong")
    with pytest.warns(cifar_noisy.CorruptFileWarning):
        assert pup.fetch(ARTIFACT.path, processor) == ARTIFACT.size
    assert actions == ["download", "fetch", "update"]


def test_decompress(pup: Any, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    content = gzip.compress(b"images")
    small = dataclasses.replace(
        artifacts(kind="images")[0],
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        urls=(),
    )
    monkeypatch.setattr("cifar_noisy.store.registry.all_artifacts", lambda: (small,))
    pup.registry[ARCHIVE] = small.sha256
    server.answers["/mirror/cifar-10-python.tar.gz"] = content
    path = pup.fetch(ARCHIVE, processor=pooch.Decompress(method="gzip"))
    assert path == str(pup.abspath / f"{ARCHIVE}.decomp")
    assert Path(path).read_bytes() == b"images"


@pytest.mark.parametrize("how", ["progressbar", "downloader"])
def test_a_progress_bar(how: str, pup: Any, capsys: pytest.CaptureFixture[str]) -> None:
    downloader = pooch.HTTPDownloader(progressbar=True) if how == "downloader" else None
    for _ in range(2):
        pup.fetch(ARTIFACT.path, downloader=downloader, progressbar=how == "progressbar")
    err = capsys.readouterr().err
    assert err.count("100%|") >= 1
    assert err.strip().count("\n") == 0  # the second time there was nothing to fetch


class Bar:
    total: int | None = None

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.n = 0.0

    def update(self, n: float | None = 1) -> None:
        self.n += n or 0

    def reset(self) -> None:
        self.n = 0

    def close(self) -> None:
        self.calls.append("close")


def test_a_bar_of_the_callers(pup: Any) -> None:
    bar = Bar()
    pup.fetch(ARTIFACT.path, progressbar=bar)
    assert (bar.n, bar.total, bar.calls) == (ARTIFACT.size, ARTIFACT.size, ["close"])


def test_a_name_that_is_not_in_the_registry(pup: Any) -> None:
    for call in (pup.fetch, pup.get_url, pup.is_available):
        with pytest.raises(ValueError, match=r"'notes\.txt' is not in the registry"):
            call("notes.txt")


def test_wrong_bytes_are_never_returned(pup: Any, server: FileServer) -> None:
    server.answers[f"/mirror/{ARTIFACT.path}"] = b"wrong"
    with pytest.raises(UnavailableError, match=r"offers 5 bytes|holds 5 bytes"):
        pup.fetch(ARTIFACT.path)
    assert not list(pup.abspath.rglob("*.npy*"))


def test_only_what_was_published(pup: Any, server: FileServer) -> None:
    pup.load_registry(io.StringIO(f"{ARTIFACT.path} {'0' * 64}\nmine.txt {'1' * 64}\n"))
    for name in (ARTIFACT.path, "mine.txt"):
        with pytest.raises(ValueError, match=r"use pooch\.create for files of your own"):
            pup.fetch(name)
    pup.load_registry(registry_folder() / "registry.txt")
    assert Path(pup.fetch(ARTIFACT.path)).is_file()


def test_updates_that_are_not_allowed(pup: Any, server: FileServer) -> None:
    path = Path(pup.fetch(ARTIFACT.path))
    path.write_bytes(b"wrong")
    pup.allow_updates = False
    with pytest.raises(ValueError, match="is damaged, and allow_updates is False"):
        pup.fetch(ARTIFACT.path)
    assert path.read_bytes() == b"wrong"


def test_downloaders_of_others(pup: Any) -> None:
    subclass = type("Own", (pooch.HTTPDownloader,), {})
    for downloader in (pooch.HTTPDownloader(auth=("user", "secret")), lambda *_: None, subclass()):
        with pytest.raises(InvalidInputError, match="downloads by itself"):
            pup.fetch(ARTIFACT.path, downloader=downloader)


def test_it_logs(pup: Any, server: FileServer, caplog: pytest.LogCaptureFixture) -> None:
    logger = pooch.get_logger()
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.INFO, logger.name):
            pup.fetch(ARTIFACT.path)
            (pup.abspath / ARTIFACT.path).write_bytes(b"wrong")
            with pytest.warns(cifar_noisy.CorruptFileWarning):
                pup.fetch(ARTIFACT.path)
            pup.fetch(ARTIFACT.path)
    finally:
        logger.removeHandler(caplog.handler)
    messages = list(dict.fromkeys(record.getMessage() for record in caplog.records))
    expected = f"file '{ARTIFACT.path}' from '{pup.get_url(ARTIFACT.path)}' to '{pup.abspath}'."
    assert messages == [f"Downloading {expected}", f"Updating {expected}"]


def test_what_is_available(pup: Any, server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pup.is_available(ARTIFACT.path)
    assert not (pup.abspath / ARTIFACT.path).exists()
    server.answers[f"/mirror/{ARTIFACT.path}"] = 404
    assert not pup.is_available(ARTIFACT.path)
    del server.answers[f"/mirror/{ARTIFACT.path}"]
    monkeypatch.setenv("CIFAR_NOISY_OFFLINE", "1")
    asked = len(server.asked)
    assert not pup.is_available(ARTIFACT.path)
    with pytest.raises(UnavailableError, match="this store is offline"):
        pup.fetch(ARTIFACT.path)
    assert len(server.asked) == asked
    monkeypatch.delenv("CIFAR_NOISY_OFFLINE")
    pup.fetch(ARTIFACT.path)
    monkeypatch.setenv("CIFAR_NOISY_OFFLINE", "1")
    assert pup.is_available(ARTIFACT.path)


def test_what_is_no_file_in_the_local_storage(pup: Any, server: FileServer) -> None:
    path = pup.abspath / ARTIFACT.path
    path.mkdir(parents=True)
    with pytest.raises(StorageError, match=rf"{path} cannot be written \(Is a directory\)"):
        pup.fetch(ARTIFACT.path)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(StorageError, match=rf"{path} cannot be written \(it is a pipe"):
        pup.fetch(ARTIFACT.path)
    assert path.is_fifo()
