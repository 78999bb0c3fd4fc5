"""Labels in the files that the code of other repositories reads."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cifar_noisy.confident_learning.array_checks import as_array
from cifar_noisy.errors import InvalidInputError, printable
from cifar_noisy.loading.label_files import LabelFile, check_labels, check_order
from cifar_noisy.loading.noise_generation import N_EXAMPLES
from cifar_noisy.loading.row_order import (
    from_imagefolder_order,
    to_imagefolder_order,
    torchvision_order_labels,
)
from cifar_noisy.settings import CLASSES, ORDERS, Order, check_choice
from cifar_noisy.store.files import output_file, storage_errors, user_path

ExportFormat = Literal["dividemix", "promix", "cifar-n", "sop", "npy", "csv"]
EXPORT_FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)

CIFAR_N_NAMES = (
    "aggre_label", "worse_label", "random_label1", "random_label2", "random_label3",
)  # fmt: skip
"""The noisy labels of CIFAR-10N's file; AQuA reads four of them at once."""


def export_labels(
    file: str | os.PathLike[str],
    labels: ArrayLike,
    *,
    format: ExportFormat,  # noqa: A002, the word that a user looks for
    order: Order = "imagefolder",
    keep: ArrayLike | None = None,
) -> Path:
    """Write labels as the code of another repository reads them, rows in torchvision's order.

    Parameters
    ----------
    file : path
        The file to write; it replaces a file of that name when it is complete.
    labels : (50000,) array of int
        Labels from 0 to 9, of the train set.
    format : {"dividemix", "promix", "cifar-n", "sop", "npy", "csv"}
        "dividemix" and "promix" (and what descends from them): a JSON list, for ``noise_file``.
        "cifar-n" (also AQuA, Docta): a ``.pt`` file of numpy arrays, ``clean_label`` and the five
        names of noisy labels, all of them these labels; as with CIFAR-10N's own file, torch 2.6 and
        later load it with ``weights_only=False`` only. "sop": a ``.pt`` file of two tensors, for
        ``cifar-noisy/IDN_0.4_C10.pt`` or the like below SOP's root. "npy": an int64 array.
        "csv": lines of file name, label and true label.
    order : {"imagefolder", "torchvision"}, default "imagefolder"
        The order of `labels` and `keep`.
    keep : (50000,) bool array, optional
        True = write this image; "csv" only, as the others are read by row number.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    UnknownArtifactError
        If the format or order is unknown.
    InvalidInputError
        If the labels are no 50,000 labels, or are plainly in the other order; if `keep` does not go
        with the format; or if `file` is a folder.
    StorageError
        If it cannot be written.

    Examples
    --------
    >>> import cifar_noisy
    >>> labels = cifar_noisy.load_noisy_labels(noise=0.4, sparsity=0.2)
    >>> file = getfixture("tmp_path") / "noise.json"
    >>> export_labels(file, labels, format="dividemix") == file
    True
    >>> bool((cifar_noisy.read_labels(file).in_order("imagefolder") == labels).all())
    True
    """
    check_choice(format, EXPORT_FORMATS, "format")
    check_choice(order, ORDERS, "order")
    if not isinstance(file, str | os.PathLike) or "\0" in str(file):
        raise InvalidInputError(f"{printable(file, 60)} is no path: pass that of the file to write")
    noisy, kept = checked_labels_and_mask(labels, keep, order)
    if keep is not None and format != "csv":
        raise InvalidInputError(
            f"leave keep= out: a file for {format} has all {N_EXAMPLES:,} labels; format='csv' has "
            "rows with file names, which can be fewer"
        )
    content = _CONTENTS[format](noisy, kept)
    path = user_path(file)
    with storage_errors(path, "name another file"), output_file(path) as out:
        out.write(content)
    return path


def checked_labels_and_mask(
    labels: ArrayLike, keep: ArrayLike | None, order: Order
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return 50,000 labels, and which are kept, in torchvision's order."""
    if isinstance(labels, LabelFile):
        raise InvalidInputError(
            f"labels is a LabelFile: pass its labels, and order={labels.order!r}"
        )
    noisy = check_labels(labels, "labels")
    if len(noisy) != N_EXAMPLES:
        raise InvalidInputError(
            f"labels has {len(noisy):,} entries, where the train set has {N_EXAMPLES:,}: pass them "
            "all, and keep= for a part"
        )
    check_order(noisy, order, "labels")
    kept = np.ones(N_EXAMPLES, np.bool_) if keep is None else as_array(keep, "keep")
    if kept.dtype != np.bool_ or kept.shape != noisy.shape or not kept.any():
        raise InvalidInputError(
            f"keep has {int(np.count_nonzero(kept)):,} entries that are not zero, dtype "
            f"{kept.dtype} and shape {kept.shape}: pass a bool for each of the {N_EXAMPLES:,} "
            "images, True = keep"
        )
    in_official_order = [
        from_imagefolder_order(to_imagefolder_order(array, order), "torchvision")
        for array in (noisy, kept)
    ]
    return in_official_order[0], in_official_order[1]


def file_names() -> list[str]:
    """Return upstream's name of each train image, with its folder, in torchvision's order.

    >>> file_names()[0]
    'frog/0_frog.png'
    """
    names = [CLASSES[label] for label in torchvision_order_labels()]
    return [f"{name}/{i}_{name}.png" for i, name in enumerate(names)]


def _json_list(labels: NDArray[np.int64], _: NDArray[np.bool_]) -> bytes:
    return json.dumps(labels.tolist()).encode()


def _npy(labels: NDArray[np.int64], _: NDArray[np.bool_]) -> bytes:
    file = io.BytesIO()
    np.save(file, labels)
    return file.getvalue()


def _csv(labels: NDArray[np.int64], keep: NDArray[np.bool_]) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("file", "label", "true_label"))
    rows = zip(file_names(), labels.tolist(), torchvision_order_labels().tolist(), strict=True)
    writer.writerows(row for row, is_kept in zip(rows, keep, strict=True) if is_kept)
    return file.getvalue().encode()


def _cifar_n(labels: NDArray[np.int64], _: NDArray[np.bool_]) -> bytes:
    """Return a zip with the two members of CIFAR-10N's own file.

    torch.save would name ``numpy._core``, which the numpy of those repositories does not know.
    """
    true = torchvision_order_labels().astype(np.int64)
    arrays = {"clean_label": true} | {name: labels.copy() for name in CIFAR_N_NAMES}
    pickled = pickle.dumps(arrays, protocol=2).replace(b"cnumpy._core.", b"cnumpy.core.")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in (("data.pkl", pickled), ("version", b"3\n")):
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content)
    return file.getvalue()


def _sop(labels: NDArray[np.int64], _: NDArray[np.bool_]) -> bytes:
    import torch

    true = torchvision_order_labels().astype(np.int64)
    tensors = {
        "clean_label_train": torch.from_numpy(true),
        "noise_label_train": torch.from_numpy(labels),
    }
    file = io.BytesIO()
    torch.save(tensors, file)
    return file.getvalue()


_CONTENTS = {
    "dividemix": _json_list,
    "promix": _json_list,
    "cifar-n": _cifar_n,
    "sop": _sop,
    "npy": _npy,
    "csv": _csv,
}
