"""Images from files that are broken or hostile: refused with one error of ours, or passed over."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cifar_noisy import (
    CorruptFileWarning,
    ImagesError,
    UnavailableError,
    image_sources,
    images,
    load_images,
    order,
)
from cifar_noisy.image_sources import ARCHIVE, BATCH_FOLDER
from tests.fake_cifar import FakeCifar
from tests.range_server import Behaviour, serving_ranges

FAKE = FakeCifar.random()
Pin = Callable[[Path], None]


@pytest.fixture
def pin(monkeypatch: pytest.MonkeyPatch) -> Pin:
    """Return a function that makes the files below a folder the official ones."""

    def pinned(folder: Path) -> None:
        monkeypatch.setattr(image_sources, "CIFAR10", FAKE.release(folder))
        monkeypatch.setattr(order, "OFFICIAL_LABELS_SHA256", FAKE.labels_sha256)

    return pinned


# What broken downloads and extractions leave.


def cut_archive(root: Path) -> None:
    (root / ARCHIVE).write_bytes(FAKE.write_archive(root).read_bytes()[:5000])


def web_page(root: Path) -> None:
    root.mkdir(exist_ok=True)
    (root / ARCHIVE).write_bytes(b"<html>not found</html>")


def half_extracted(root: Path) -> None:
    folder = FAKE.write_batches(root)
    (folder / "data_batch_2").write_bytes(b"\x80\x02")
    (folder / "data_batch_3").unlink()
    (folder / "test_batch").unlink()


def empty_folder(root: Path) -> None:
    (root / BATCH_FOLDER).mkdir(parents=True)


@pytest.mark.parametrize(
    ("leave", "named"),
    [
        *((leave, "root") for leave in (cut_archive, web_page, half_extracted, empty_folder)),
        *((leave, "the broken one") for leave in (cut_archive, web_page, half_extracted)),
    ],
)
def test_broken_leftovers_are_downloaded_again(
    leave: Callable[[Path], None],
    named: str,
    tmp_path: Path,
    pin: Pin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = FAKE.write_archive(tmp_path / "there").read_bytes()
    FAKE.write_batches(tmp_path / "there")
    pin(tmp_path / "there")
    root = tmp_path / "root"
    leave(root)
    left = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    path = root if named == "root" else next(root.iterdir())
    with pytest.raises(ImagesError):
        load_images(path)
    with serving_ranges() as server:
        monkeypatch.setattr(images, "ARCHIVE_URLS", (server.url("/official"),))
        monkeypatch.setattr(images, "PNG_URLS", ())
        with (
            pytest.warns(CorruptFileWarning, match="downloaded again, since"),
            pytest.raises(UnavailableError),
        ):
            load_images(path, download=True)
        server.files["/official"] = Behaviour(content)
        with pytest.warns(CorruptFileWarning, match="downloaded again, since"):
            loaded = load_images(path, download=True)
    assert loaded.is_official
    assert (root / ARCHIVE).read_bytes() == content
    # Whatever else was there is the user's, broken or not.
    assert all(path.read_bytes() == left[path] for path in left if path.name != ARCHIVE)
    assert load_images(root, train=False).is_official


@pytest.mark.parametrize("leave", [half_extracted, empty_folder])
def test_what_is_whole_beside_leftovers_is_used(
    leave: Callable[[Path], None], tmp_path: Path, pin: Pin
) -> None:
    FAKE.write_archive(tmp_path / "there")
    FAKE.write_batches(tmp_path / "there")
    pin(tmp_path / "there")
    root = tmp_path / "root"
    leave(root)
    (tmp_path / "there" / ARCHIVE).rename(root / ARCHIVE)
    assert load_images(root).is_official
    assert load_images(root, download=True).is_official


def test_all_that_is_wrong_is_said(tmp_path: Path, pin: Pin) -> None:
    pin(tmp_path)
    half_extracted(tmp_path)
    web_page(tmp_path)
    with pytest.raises(
        ImagesError, match=r"data_batch_3 cannot be read .*; .*tar\.gz has 22 bytes"
    ):
        load_images(tmp_path)
    (tmp_path / "mine.tar.gz").write_bytes(b"mine")
    with pytest.raises(ImagesError, match=r"mine\.tar\.gz has 4 bytes"):
        load_images(tmp_path / "mine.tar.gz", download=True)
    assert (tmp_path / "mine.tar.gz").read_bytes() == b"mine"
