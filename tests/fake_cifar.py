"""Small made-up data in every form in which people have CIFAR-10, and a release that pins it."""

import hashlib
import io
import pickle
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cifar_noisy.images.readers import ARCHIVE, BATCH_FOLDER, CIFAR10, Release
from cifar_noisy.loading.row_order import torchvision_order_labels
from cifar_noisy.settings import CLASSES

BATCHES = tuple(CIFAR10.batch_md5)
PNG_ARCHIVES = tuple(CIFAR10.png_blobs)


@dataclass(frozen=True)
class FakeCifar:
    """Both splits in the official order."""

    pixels: dict[bool, NDArray[np.uint8]]
    labels: dict[bool, NDArray[np.int64]]

    @classmethod
    def random(cls, n_train: int = 100, n_test: int = 20) -> "FakeCifar":
        rng = np.random.default_rng(0)
        sizes = {True: n_train, False: n_test}
        return cls(
            {t: rng.integers(0, 256, (n, 32, 32, 3), np.uint8) for t, n in sizes.items()},
            {t: rng.permutation(np.arange(n) % 10) for t, n in sizes.items()},
        )

    @classmethod
    def numbered(cls) -> "FakeCifar":
        """As many images as CIFAR-10 has, each with its official index in its first pixels."""
        n_train, n_test = 50_000, 10_000
        rng = np.random.default_rng(0)
        sizes = {True: n_train, False: n_test}
        pixels = {}
        for train, n_images in sizes.items():
            images = np.zeros((n_images, 32, 32, 3), np.uint8)
            for digit in range(3):
                images[:, 0, 0, digit] = np.arange(n_images) // 256**digit % 256
            pixels[train] = images
        labels = rng.permutation(np.arange(n_test) % 10)
        return cls(pixels, {True: torchvision_order_labels().astype(np.int64), False: labels})

    @property
    def labels_sha256(self) -> str:
        return hashlib.sha256(self.labels[True].astype(np.uint8).tobytes()).hexdigest()

    def batch(self, name: str) -> dict[str, Any]:
        train = name != "test_batch"
        parts = 5 if train else 1
        number = BATCHES.index(name) if train else 0
        size = len(self.labels[train]) // parts
        rows = slice(number * size, (number + 1) * size)
        planes = self.pixels[train][rows].transpose(0, 3, 1, 2).reshape(size, -1)
        return {"batch_label": name, "labels": self.labels[train][rows].tolist(), "data": planes}

    def write_batches(self, root: Path, protocol: int = 4) -> Path:
        folder = root / BATCH_FOLDER
        folder.mkdir(parents=True)
        for name in BATCHES:
            (folder / name).write_bytes(pickle.dumps(self.batch(name), protocol))
        meta = {"label_names": list(CLASSES), "num_vis": 3072}
        (folder / "batches.meta").write_bytes(pickle.dumps(meta, 2))
        return folder

    def write_archive(self, root: Path) -> Path:
        """Write the official archive, as Python 2 pickled it."""
        root.mkdir(parents=True, exist_ok=True)
        with tarfile.open(root / ARCHIVE, "w:gz") as tar:
            add(tar, f"{BATCH_FOLDER}/readme.html", b"<html>")
            for name in BATCHES:
                add(tar, f"{BATCH_FOLDER}/{name}", pickle.dumps(self.batch(name), 2))
        return root / ARCHIVE

    def png(self, train: bool, index: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(self.pixels[train][index]).save(file, "PNG")
        return file.getvalue()

    def name(self, train: bool, index: int) -> str:
        name = CLASSES[self.labels[train][index]]
        return f"{name}/{index}_{name}.png"

    def write_png_archives(self, root: Path) -> Path:
        root.mkdir(parents=True, exist_ok=True)
        for archive in PNG_ARCHIVES:
            train = archive != "test.tar.gz"
            with tarfile.open(root / archive, "w:gz") as tar:
                for index in range(len(self.labels[train])):
                    if not train or (index % 2 == 0) == ("1_of_2" in archive):
                        split = "train" if train else "test"
                        add(tar, f"{split}/{self.name(train, index)}", self.png(train, index))
                add(tar, "train/airplane/._10_airplane.png", b"resource fork")
        return root

    def write_tree(self, root: Path) -> Path:
        for train, split in ((True, "train"), (False, "test")):
            for name in CLASSES:
                (root / split / name).mkdir(parents=True)
            for index in range(len(self.labels[train])):
                (root / split / self.name(train, index)).write_bytes(self.png(train, index))
        return root

    def release(self, folder: Path) -> Release:
        """Return a release that pins the files below a folder, whichever of them are there."""
        archive = folder / ARCHIVE
        content = archive.read_bytes() if archive.is_file() else b""
        batches = folder / BATCH_FOLDER
        return Release(
            n_train=len(self.labels[True]),
            n_test=len(self.labels[False]),
            train_labels_sha256=self.labels_sha256,
            archive_size=len(content),
            archive_md5=hashlib.md5(content).hexdigest(),
            archive_sha256=hashlib.sha256(content).hexdigest(),
            batch_md5={
                name: hashlib.md5((batches / name).read_bytes()).hexdigest()
                if batches.is_dir()
                else "none"
                for name in BATCHES
            },
            png_blobs={
                name: blob((folder / name).read_bytes()) if (folder / name).is_file() else "none"
                for name in PNG_ARCHIVES
            },
            records_sha256={name: self.records_sha256(name) for name in BATCHES},
        )

    def records_sha256(self, name: str) -> str:
        """Return the digest of what a batch file of the binary version would be."""
        digest = hashlib.sha256()
        for label, planes in zip(self.batch(name)["labels"], self.batch(name)["data"], strict=True):
            digest.update(bytes([label]) + planes.tobytes())
        return digest.hexdigest()


def blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
