"""Files that a recomputing wrote, read like the published ones.

They lie in a folder under the published paths, each setting's beside a ``provenance.json`` with
their checksums, to which they are held.
"""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.errors import UnavailableError
from cifar_noisy.settings import Method, Setting, pyx_path, train_mask_path

PROVENANCE_FILE = "provenance.json"
"""Beside the files of a setting: versions, device, seeds, times, checksums and scores."""


def provenance_path(setting: Setting) -> str:
    """Return where the record of a setting lies in a folder of recomputed files."""
    return pyx_path(setting).rpartition("/")[0] + "/" + PROVENANCE_FILE


def read_pyx(folder: Path, setting: Setting) -> NDArray[np.floating[Any]]:
    """Return the (N, 10) float16 or float32 probabilities in a folder of recomputed files.

    Raises
    ------
    UnavailableError
        If they are not there, or not as they were written.
    """
    pyx = _read(folder, pyx_path(setting), setting)
    if pyx.ndim != 2 or pyx.dtype.kind != "f":
        raise UnavailableError(f"{folder / pyx_path(setting)} holds no probabilities: {_REMEDY}")
    return pyx


def read_train_mask(folder: Path, setting: Setting, method: Method) -> NDArray[np.bool_]:
    """Return the (N,) bool train mask in a folder of recomputed files; True = keep.

    Raises
    ------
    UnavailableError
        If it is not there, or not as it was written.
    """
    path = train_mask_path(setting, method, "2021")
    mask = _read(folder, path, setting)
    if mask.ndim != 1 or mask.dtype != np.bool_:
        raise UnavailableError(f"{folder / path} holds no mask: {_REMEDY}")
    return mask


_REMEDY = "remove its provenance.json, and cifar-noisy recompute collect writes all of it again"


def _read(folder: Path, path: str, setting: Setting) -> NDArray[Any]:
    record = folder / provenance_path(setting)
    try:
        expected = json.loads(record.read_bytes())["sha256"][path]
        content = (folder / path).read_bytes()
    except OSError as error:
        raise UnavailableError(
            f"{folder} has no recomputed {path} ({error.strerror}): make it with cifar-noisy "
            f"recompute --noise {setting.noise:g} --sparsity {setting.sparsity:g} --folder {folder}"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UnavailableError(f"{record} is damaged or lacks {path}: {_REMEDY}") from error
    if hashlib.sha256(content).hexdigest() != expected:
        raise UnavailableError(
            f"{folder / path} is not as it was recomputed (sha256 {expected}): {_REMEDY}"
        )
    array: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    return array
