"""The JPEG copy of CIFAR-10, written in the forms that people have and packed once."""

import dataclasses
import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cifar_noisy import label_error_scores, load_images, load_noisy_labels, load_pyx
from cifar_noisy.images import readers
from cifar_noisy.images.readers import BATCH_FOLDER
from cifar_noisy.store.artifact_store import CACHE_VARIABLE, MIRRORS_VARIABLE
from conftest import REPOSITORY
from tests.fake_cifar import FakeCifar

NUMBERED = FakeCifar.numbered()
SCRIPT = REPOSITORY.parent / "shared" / "cifar10-jpeg" / "make_cifar10.py"


@dataclass(frozen=True)
class JpegCopy:
    """Where the JPEG copy lies.

    Attributes
    ----------
    batches : Path
        A torchvision root, train images in the official order.
    tree : Path
        The same images as PNG files with upstream's names.
    cache : Path
        A cache in which both are packed.
    """

    batches: Path
    tree: Path
    cache: Path


@pytest.fixture(scope="session")
def written_jpeg(tmp_path_factory: pytest.TempPathFactory) -> JpegCopy:
    if not SCRIPT.is_file():
        pytest.skip("needs the JPEG copy of CIFAR-10 in ../shared/cifar10-jpeg")
    folder = tmp_path_factory.mktemp("jpeg")
    copy = JpegCopy(folder / "torchvision", folder / "tree", folder / "cache")
    for layout, target in (("batches", copy.batches), ("imagefolder", copy.tree)):
        subprocess.run([sys.executable, SCRIPT, layout, target], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(copy.cache))
        patch.delenv(MIRRORS_VARIABLE, raising=False)
        for train in (True, False):
            load_images(copy.batches, train=train, trust="pixels")
    return copy


@pytest.fixture
def jpeg(
    written_jpeg: JpegCopy, own_environment: None, monkeypatch: pytest.MonkeyPatch
) -> JpegCopy:
    """Make the cache in which the JPEG copy is packed the test's."""
    monkeypatch.setenv(CACHE_VARIABLE, os.fspath(written_jpeg.cache))
    return written_jpeg


@pytest.fixture
def official_jpeg(written_jpeg: JpegCopy, monkeypatch: pytest.MonkeyPatch) -> JpegCopy:
    """Make the JPEG copy stand for the official files, checksums included."""
    md5 = {
        name: hashlib.md5((written_jpeg.batches / BATCH_FOLDER / name).read_bytes()).hexdigest()
        for name in readers.CIFAR10.batch_md5
    }
    records = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CACHE_VARIABLE, str(written_jpeg.cache))
        for train in (True, False):
            jpeg = load_images(written_jpeg.batches, train=train, trust="pixels")
            rows = np.argsort(jpeg.torchvision_index)
            planes = jpeg.pixels[rows].transpose(0, 3, 1, 2).reshape(len(jpeg), -1)
            table = np.column_stack([jpeg.labels[rows].astype(np.uint8), planes])
            names = readers.CIFAR10.batches(train)
            for name, part in zip(names, np.split(table, len(names)), strict=True):
                records[name] = hashlib.sha256(part.tobytes()).hexdigest()
    release = dataclasses.replace(readers.CIFAR10, batch_md5=md5, records_sha256=records)
    monkeypatch.setattr(readers, "CIFAR10", release)
    return written_jpeg


def write_example_scores(folder: Path) -> None:
    """Write the ``mine.npy`` that the examples of README and help evaluate."""
    scores = label_error_scores(load_noisy_labels(0.4, 0.2), load_pyx(0.4, 0.2))
    np.save(folder / "mine.npy", scores["normalized_margin"])


@pytest.fixture(scope="session")
def packed_fake(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, readers.Release]:
    """Pack made-up images as many as CIFAR-10's, for machines without a copy of it."""
    root, cache = tmp_path_factory.mktemp("fake"), tmp_path_factory.mktemp("cache")
    NUMBERED.write_batches(root)
    release = NUMBERED.release(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR_NOISY_CACHE", str(cache))
        patch.delenv("CIFAR_NOISY_MIRRORS", raising=False)
        patch.setattr(readers, "CIFAR10", release)
        for train in (True, False):
            load_images(root, train=train)
    return cache, release


@pytest.fixture
def fake(
    packed_fake: tuple[Path, readers.Release],
    own_environment: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Make the made-up images the official ones, and the cache they are packed in the test's."""
    cache, release = packed_fake
    monkeypatch.setenv("CIFAR_NOISY_CACHE", str(cache))
    monkeypatch.setattr(readers, "CIFAR10", release)
