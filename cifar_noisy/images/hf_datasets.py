"""Images, labels and masks as a dataset of Hugging Face's library."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.errors import InvalidInputError, MissingExtraError
from cifar_noisy.images.packs import load_images
from cifar_noisy.loading.artifact_loading import (
    load_noisy_labels,
    load_train_mask,
    load_true_labels,
)
from cifar_noisy.loading.given_labels import Noise, label_source
from cifar_noisy.loading.row_order import published_torchvision_index
from cifar_noisy.settings import CLASSES, METHODS, ORDERS, Edition, Method, Order, check_choice
from cifar_noisy.store.files import output_file, storage_errors, user_path

if TYPE_CHECKING:
    from pathlib import Path

    import datasets

_ROWS_AT_ONCE = 1000


def as_hf_dataset(
    noise: Noise,
    sparsity: float | None = None,
    *,
    order: Order = "imagefolder",
    train_masks: Method | Iterable[Method] = (),
    edition: Edition | None = None,
    model: str | None = None,
    images: bool = True,
    root: str | os.PathLike[str] | None = None,
    trust: str | None = None,
) -> datasets.Dataset:
    """Return the train set as a ``datasets.Dataset`` of Hugging Face, in memory.

    Its columns are ``image`` (PNG, decoded to PIL images as they are read), ``label`` and
    ``true_label`` (``ClassLabel``), ``index`` (row in every published array) and
    ``torchvision_index``, then ``keep_<method>`` (bool, True = keep) for each train mask. There are
    50,000 rows; ``dataset.filter`` and ``select`` take parts.

    Parameters
    ----------
    noise, sparsity
        Given labels, as for `NoisyCIFAR10`.
    order : {"imagefolder", "torchvision"}, default "imagefolder"
        Order of the rows, and of labels of your own.
    train_masks : str or iterable of str, optional
        Methods whose masks become columns.
    edition, model
        Of those masks, as for `load_train_mask`.
    images : bool, default True
        Whether there is a column of images, about 110 MB as PNG.
    root, trust
        Where the images come from, as for `load_images`.

    Returns
    -------
    datasets.Dataset
        Of the split "train".

    Raises
    ------
    MissingExtraError
        If the library ``datasets`` is not installed.
    UnknownArtifactError
        If labels, mask, edition or order was never published.
    InvalidInputError
        If an argument names something that is not asked for, such as an edition without masks.
    UnavailableError, ImagesError, StorageError
        As `load_images` and `load_train_mask` do.

    Examples
    --------
    >>> train = as_hf_dataset(0.4, 0.2, train_masks="cl_pbc", root="data")  # doctest: +SKIP
    >>> train[0]["label"], train.features["label"].int2str(0)  # doctest: +SKIP
    (5, 'airplane')
    """
    check_choice(order, ORDERS, "order")
    methods = (train_masks,) if isinstance(train_masks, str) else tuple(train_masks)
    methods = tuple(dict.fromkeys(check_choice(name, METHODS, "method") for name in methods))
    for name, value, needed in (
        ("edition", edition, methods),
        ("model", model, methods),
        ("root", root, images),
        ("trust", trust, images),
    ):
        if value is not None and not needed:
            wanted = "train_masks=" if needed is methods else "images=True"
            raise InvalidInputError(f"leave {name}= out, or pass {wanted}: nothing else reads it")
    try:
        import datasets
        import pyarrow as pa
    except ImportError as error:
        raise MissingExtraError("datasets", "pip install 'cifar-noisy[hf]' has it") from error
    source = label_source(noise, sparsity, order=order)
    torchvision_index = published_torchvision_index()
    columns: dict[str, NDArray[Any]] = {
        "label": load_noisy_labels(source),
        "true_label": load_true_labels(),
        "index": np.arange(len(torchvision_index)),
        "torchvision_index": torchvision_index,
    } | {
        f"keep_{method}": load_train_mask(method, source, edition=edition, model=model)
        for method in methods
    }
    rows = np.argsort(torchvision_index) if order == "torchvision" else columns["index"]
    label = datasets.ClassLabel(names=list(CLASSES))
    features: dict[str, Any] = {name: datasets.Value("int64") for name in columns}
    features |= {"label": label, "true_label": label}
    features |= {f"keep_{method}": datasets.Value("bool") for method in methods}
    arrays = {name: pa.array(column[rows]) for name, column in columns.items()}
    if images:
        features = {"image": datasets.Image()} | features
        found = load_images(root, trust=trust)
        if len(found) != len(rows):
            raise InvalidInputError(f"{found.path} has {len(found):,} images: name all 50,000")
        arrays["image"] = _png_column(found.pixels, rows)
    table = pa.table({name: arrays[name] for name in features})
    info = datasets.DatasetInfo(
        description=f"CIFAR-10, {source}, {order} order", features=datasets.Features(features)
    )
    return datasets.Dataset(table, info=info, split=datasets.Split.TRAIN)


def export_hf_dataset(file: str | os.PathLike[str], dataset: datasets.Dataset) -> Path:
    """Write a dataset as Parquet, which ``datasets.load_dataset`` and the Hub read.

    Parameters
    ----------
    file : path
        The file to write; it replaces a file of that name when it is complete.
    dataset : datasets.Dataset
        What `as_hf_dataset` returns, or a part of it.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    StorageError
        If it cannot be written.

    Examples
    --------
    >>> train = as_hf_dataset(0.4, 0.2, root="data")  # doctest: +SKIP
    >>> export_hf_dataset("train.parquet", train)  # doctest: +SKIP
    PosixPath('train.parquet')
    """
    from pyarrow import parquet

    path, schema = user_path(file), dataset.features.arrow_schema
    # dataset.to_parquet would show a progress bar.
    with (
        storage_errors(path, "name another file"),
        output_file(path) as out,
        parquet.ParquetWriter(out, schema) as writer,
    ):
        for rows in dataset.with_format("arrow").iter(_ROWS_AT_ONCE):
            writer.write_table(rows)
    return path


def _png_column(pixels: NDArray[np.uint8], rows: NDArray[np.intp]) -> Any:
    """Return some rows of the images as ``datasets.Image`` stores them, a chunk after the other."""
    import pyarrow as pa

    chunks = []
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        files = pa.array([_png(pixels[row]) for row in rows[start : start + _ROWS_AT_ONCE]])
        paths = pa.nulls(len(files), pa.string())
        chunks.append(pa.StructArray.from_arrays([files, paths], names=["bytes", "path"]))
    return pa.chunked_array(chunks)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()
