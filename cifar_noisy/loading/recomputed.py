"""Files that a recomputing wrote, read like the published ones.

They lie in a folder under the published paths, each setting's beside a ``provenance.json``. Such a
record is sealed, and has the checksums of the files that it tells of.
"""

import hashlib
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.confident_learning.array_checks import check_probabilities
from cifar_noisy.errors import InvalidInputError, UnavailableError
from cifar_noisy.loading.given_labels import LabelSource, command_options
from cifar_noisy.loading.noise_generation import N_EXAMPLES
from cifar_noisy.settings import (
    CLASSES,
    Method,
    Setting,
    Trainer,
    pyx_path,
    train_mask_path,
    training_log_path,
)
from cifar_noisy.store.files import open_regular, reason
from cifar_noisy.store.sealed import read_sealed_json, write_durably, write_sealed_json

PROVENANCE_FILE = "provenance.json"
"""Beside the files of a setting: versions, hardware, seeds, times, checksums and scores."""

_LARGEST = 1 << 22  # twice the bytes of the largest file


def recomputed_pyx_path(source: LabelSource) -> str:
    """Return where probabilities lie in a folder of recomputed files."""
    return pyx_path(source) if isinstance(source, Setting) else f"{source.name}/pyx.npy"


def recomputed_mask_path(source: LabelSource, method: Method) -> str:
    """Return where a train mask lies in a folder of recomputed files."""
    if isinstance(source, Setting):
        return train_mask_path(source, method, "2021")
    return f"{source.name}/train_pruned_{method}/train_mask.npy"


def recomputed_log_path(source: LabelSource, method: Method, trainer: Trainer) -> str:
    """Return where the log of a training on kept examples lies in a folder of recomputed files."""
    if isinstance(source, Setting):
        return training_log_path(source, method, trainer)
    return f"{source.name}/train_pruned_{method}/{trainer}/out"


def provenance_path(source: LabelSource) -> str:
    """Return where the record of given labels lies in a folder of recomputed files."""
    return recomputed_pyx_path(source).rpartition("/")[0] + "/" + PROVENANCE_FILE


def write_record(
    folder: Path, path: str, record: Mapping[str, Any], files: Mapping[str, bytes]
) -> None:
    """Write files by their paths in a folder, and last the record, which gets their checksums."""
    for name, content in files.items():
        write_durably(folder / name, (content,))
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    write_sealed_json(folder / path, {**record, "files": digests})


def read_record(folder: Path, path: str, names: Iterable[str]) -> dict[str, Any] | None:
    """Return what `write_record` wrote; None unless it and the named files are as they were."""
    record = read_sealed_json(folder / path)
    if record is None:
        return None
    try:
        for name in names:
            with open_regular(folder / name) as file:
                found = hashlib.file_digest(file, "sha256")
            if found.hexdigest() != record["files"][name]:
                return None
    except Exception:  # whatever a record that was made by hand leads to
        return None
    return record


def read_pyx(
    folder: Path, source: LabelSource, n_examples: int = N_EXAMPLES
) -> NDArray[np.floating[Any]]:
    """Return the (N, 10) float16 or float32 probabilities in a folder of recomputed files."""
    path = recomputed_pyx_path(source)
    pyx = _read(folder, path, source)
    if pyx.shape != (n_examples, len(CLASSES)) or pyx.dtype not in (np.float16, np.float32):
        raise _of_another_kind(folder / path, pyx, f"({n_examples}, 10) probabilities")
    return check_probabilities(pyx, f"pyx of {folder}")


def read_train_mask(
    folder: Path, source: LabelSource, method: Method, n_examples: int = N_EXAMPLES
) -> NDArray[np.bool_]:
    """Return the (N,) bool train mask in a folder of recomputed files; True = keep."""
    path = recomputed_mask_path(source, method)
    mask = _read(folder, path, source)
    if mask.shape != (n_examples,) or mask.dtype != np.bool_:
        raise _of_another_kind(folder / path, mask, f"a mask of {n_examples} examples")
    return mask


def _of_another_kind(path: Path, array: NDArray[Any], expected: str) -> InvalidInputError:
    return InvalidInputError(
        f"{path} holds {array.dtype} of shape {array.shape}, not {expected}: name another folder"
    )


def _read(folder: Path, path: str, source: LabelSource) -> NDArray[Any]:
    try:
        with open_regular(folder / path) as file:
            content = file.read(_LARGEST)
        record = read_sealed_json(folder / provenance_path(source)) or {}
        if hashlib.sha256(content).hexdigest() != record["files"][path]:
            raise ValueError
        array: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # whatever a record that was made by hand leads to
        why = reason(error) if isinstance(error, OSError) else "it is not as it was recomputed"
        raise UnavailableError(
            f"{folder} has no recomputed {path} ({why}): make it with cifar-noisy recompute run "
            f"--folder {folder}, or where nothing is planned cifar-noisy recompute "
            f"{command_options(source)} --folder {folder}"
        ) from error
    return array
