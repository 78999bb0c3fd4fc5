"""The JPEG copy of CIFAR-10, written in the forms that people have and packed once."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from cifar_noisy import load_images
from cifar_noisy.store import CACHE_VARIABLE, MIRRORS_VARIABLE
from conftest import REPOSITORY

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
