"""Loss of power while images are packed, and disks that change bits, at every file of a pack.

A file system may keep a file's name and lose its content. So each file is cut to nothing and to
half, and flipped bit by bit in every region; what is served then must be right or absent, and the
next reading of the source must mend it.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np

from cifar_noisy import UnavailableError, load_images
from cifar_noisy.images import readers
from cifar_noisy.images.packs import IMAGES_FOLDER, Images
from tests.fake_cifar import FakeCifar

N_REGIONS = 100


@dataclass
class Losses:
    """What came of it, over all damages."""

    n: int = 0
    n_wrong: int = 0
    n_stuck: int = 0


def power_loss_of_packs(folder: Path) -> Losses:
    """Damage each file of an official pack and of one of other pixels, in each way."""
    fake, losses = FakeCifar.random(), Losses()
    fake.write_batches(folder / "official")
    release = fake.release(folder / "official")
    other = FakeCifar({t: pixels // 2 for t, pixels in fake.pixels.items()}, fake.labels)
    other.write_batches(folder / "other")
    cache = folder / "cache"
    with (
        mock.patch.object(readers, "CIFAR10", release),
        mock.patch.dict(os.environ, {"CIFAR_NOISY_CACHE": str(cache)}),
    ):
        for root, owner, trust in (("official", fake, None), ("other", other, "pixels")):
            for train in (True, False):
                load_images(folder / root, train=train, trust=trust)
                for file in _files(cache):
                    for content in _damaged(file.read_bytes()):
                        _try(file, content, folder / root, owner, train, trust, losses)
                for file in _files(cache):
                    file.unlink()
    return losses


def _files(cache: Path) -> list[Path]:
    return [path for path in (cache / IMAGES_FOLDER).rglob("*") if path.is_file()]


def _damaged(content: bytes) -> Iterator[bytes]:
    for size in {0, 1, len(content) // 2, len(content) - 1}:
        yield content[:size]
    for offset in np.linspace(0, len(content) - 1, N_REGIONS, dtype=int).tolist():
        yield content[:offset] + bytes([content[offset] ^ 1]) + content[offset + 1 :]
    yield bytes(len(content))


def _try(
    file: Path,
    content: bytes,
    root: Path,
    owner: FakeCifar,
    train: bool,
    trust: str | None,
    losses: Losses,
) -> None:
    # A new file, as after a crash: what other processes have mapped stays as it is.
    file.unlink()
    file.write_bytes(content)
    losses.n += 1
    try:
        losses.n_wrong += not _is_right(load_images(train=train, trust=trust), owner, train, trust)
    except UnavailableError:
        pass
    except Exception:
        losses.n_stuck += 1
    try:
        mended = load_images(root, train=train, trust=trust)
        losses.n_wrong += not _is_right(mended, owner, train, trust)
        load_images(train=train, trust=trust)
    except Exception:
        losses.n_stuck += 1


def _is_right(images: Images, owner: FakeCifar, train: bool, trust: str | None) -> bool:
    return (
        bool((images.pixels == owner.pixels[train][images.torchvision_index]).all())
        and bool((images.labels == owner.labels[train][images.torchvision_index]).all())
        and images.is_official == (trust is None)
    )
