"""Exported labels, read by readers written from the description of each format alone."""

import csv
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from cifar_noisy import (
    InvalidInputError,
    LabelFile,
    StorageError,
    UnknownArtifactError,
    export_labels,
    load_noisy_labels,
    load_train_mask,
    load_true_labels,
    read_labels,
)
from cifar_noisy.loading.label_exports import EXPORT_FORMATS, ExportFormat
from cifar_noisy.settings import CLASSES, ORDERS, Order

TRUE = load_true_labels(order="torchvision")
NOISY = load_noisy_labels(0.4, 0.2, order="torchvision")


def json_list(path: Path) -> Any:
    labels = json.loads(path.read_text())
    assert type(labels) is list
    assert {type(label) for label in labels} == {int}
    return labels


def cifar_n(path: Path) -> Any:
    """Read it with the names of the numpy of that time only, and by torch."""

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            assert module in ("numpy.core.multiarray", "numpy", "_codecs"), module
            return super().find_class(module, name)

    with zipfile.ZipFile(path) as archive, archive.open("archive/data.pkl") as file:
        found = Unpickler(file).load()
    by_torch = torch.load(path, weights_only=False)
    names = {"clean_label", "aggre_label", "worse_label"} | {f"random_label{n}" for n in (1, 2, 3)}
    assert set(found) == set(by_torch) == names
    assert all(np.array_equal(found[name], by_torch[name]) for name in names)
    assert all(array.dtype == np.int64 for array in found.values())
    assert (torch.tensor(found["clean_label"]).numpy() == TRUE).all()
    assert all((found[name] == found["worse_label"]).all() for name in names - {"clean_label"})
    return found["worse_label"].reshape(-1)


def sop(path: Path) -> Any:
    found = torch.load(path)
    assert set(found) == {"clean_label_train", "noise_label_train"}
    assert found["clean_label_train"].tolist() == TRUE.tolist()
    assert found["noise_label_train"].dtype == torch.int64
    return found["noise_label_train"]


def npy(path: Path) -> Any:
    found = np.load(path, allow_pickle=False)
    assert found.dtype == np.int64
    return found


def csv_file(path: Path) -> Any:
    table = pd.read_csv(path)
    assert list(table.columns) == ["file", "label", "true_label"]
    assert table["file"][1] == "truck/1_truck.png"
    assert (table["true_label"] == TRUE).all()
    assert table["file"].str.fullmatch(r"(\w+)/\d+_\1\.png").all()
    assert (table["file"].str.split("/").str[0].map(CLASSES.index) == TRUE).all()
    assert (table["file"].str.extract(r"/(\d+)_")[0].astype(int) == np.arange(50_000)).all()
    return table["label"]


READERS: dict[ExportFormat, Callable[[Path], Any]] = {
    "dividemix": json_list, "promix": json_list, "cifar-n": cifar_n, "sop": sop, "npy": npy,
    "csv": csv_file,
}  # fmt: skip


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("format_", EXPORT_FORMATS)
def test_formats(format_: ExportFormat, order: Order, tmp_path: Path) -> None:
    path = tmp_path / "made" / "file"
    labels = load_noisy_labels(0.4, 0.2, order=order)
    assert export_labels(str(path), labels, format=format_, order=order) == path
    assert (np.asarray(READERS[format_](path)) == NOISY).all()
    assert [file.name for file in path.parent.iterdir()] == ["file"]
    assert (read_labels(path).in_order("torchvision") == NOISY).all()
    before = path.read_bytes()
    export_labels(path, labels, format=format_, order=order)
    assert path.read_bytes() == before


@pytest.mark.parametrize("format_", EXPORT_FORMATS)
def test_labels_that_do_not_tell_their_order(format_: ExportFormat, tmp_path: Path) -> None:
    labels = load_noisy_labels(0.9, 0)
    path = export_labels(tmp_path / "file", labels, format=format_)
    expected = load_noisy_labels(0.9, 0, order="torchvision")
    assert (np.asarray(READERS[format_](path)) == expected).all()


def test_labels_of_any_kind(tmp_path: Path) -> None:
    shuffled = pd.Series(NOISY).sample(frac=1, random_state=0)
    kinds = (NOISY.tolist(), NOISY.astype(np.float32), torch.from_numpy(NOISY), shuffled)
    for labels in kinds:
        path = export_labels(tmp_path / "a", labels, format="npy", order="torchvision")
        assert (np.load(path) == NOISY).all()


def test_the_images_that_a_mask_keeps(tmp_path: Path, published: str) -> None:
    for order in ORDERS:
        labels = load_noisy_labels(0.4, 0.2, order=order)
        keep = load_train_mask("cl_pbc", 0.4, 0.2, order=order)
        path = export_labels(tmp_path / "a.csv", labels, format="csv", order=order, keep=keep)
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        kept = np.flatnonzero(load_train_mask("cl_pbc", 0.4, 0.2, order="torchvision"))
        assert [int(row["file"].split("/")[1].split("_")[0]) for row in rows] == kept.tolist()
        assert [int(row["label"]) for row in rows] == NOISY[kept].tolist()
        read = read_labels(path).in_order(order)
        assert (read == np.where(keep, labels, -1)).all()


KEEP = np.ones(50_000, np.bool_)
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "the other order": ({"order": "imagefolder"}, r"^pass order='torchvision' for labels: they"),
    "few": ({"labels": NOISY[:10]}, r"^labels has 10 entries, where .* pass them all, and keep="),
    "none": ({"labels": []}, r"labels has"),
    "a mask": ({"labels": KEEP}, r"labels is a mask"),
    "one-hot": ({"labels": np.eye(10)[NOISY]}, r"these are one-hot labels"),
    "with -1": ({"labels": np.where(NOISY, NOISY, -1)}, r"labels has -1 in row"),
    "a set": ({"labels": set(NOISY.tolist())}, r"labels is a set"),
    "names": ({"labels": ["cat"] * 50_000}, r"labels has dtype <U3, where labels are numbers"),
    "ragged": ({"labels": [[1], [1, 2]]}, r"labels is no array"),
    "what read_labels returns": (
        {"labels": LabelFile(NOISY, "torchvision", 0.4, "")},
        r"^labels is a LabelFile: pass its labels, and order='torchvision'$",
    ),
    "no labels": ({"labels": None}, r"labels has dtype object"),
    "a part of a list": ({"keep": KEEP}, r"^leave keep= out: a file for dividemix has all 50,000"),
    "rows to keep": ({"keep": np.arange(9), "format": "csv"}, r"dtype int64 and shape \(9,\): "),
    "a short mask": ({"keep": KEEP[:9], "format": "csv"}, r"shape \(9,\): pass a bool for each"),
    "nothing kept": ({"keep": ~KEEP, "format": "csv"}, r"^keep has 0 entries that are not zero"),
    "a number": ({"file": 3}, r"^3 is no path: pass that of the file to write"),
    "a zero byte": ({"file": "a\0b"}, r"^a\\x00b is no path"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    changes, problem = BAD[name]
    given: dict[str, Any] = {"file": "file", "labels": NOISY, "format": "dividemix",
                             "order": "torchvision"} | changes  # fmt: skip
    with pytest.raises(InvalidInputError, match=problem) as error:
        export_labels(**given)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_unknown_words(tmp_path: Path) -> None:
    with pytest.raises(UnknownArtifactError, match="did you mean dividemix"):
        export_labels(tmp_path / "a", NOISY, format="divide-mix")  # type: ignore[arg-type]
    with pytest.raises(UnknownArtifactError, match="order 'tfds' is unknown"):
        export_labels(tmp_path / "a", NOISY, format="npy", order="tfds")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="format"):
        export_labels(tmp_path / "a", NOISY)  # type: ignore[call-arg]


def test_what_is_there_already(tmp_path: Path) -> None:
    def export(path: Path) -> NDArray[Any]:
        return np.asarray(
            json_list(export_labels(path, NOISY, format="promix", order="torchvision"))
        )

    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidInputError, match="folder is a folder: name a file in it"):
        export(tmp_path / "folder")
    (tmp_path / "file").write_text("old")
    (tmp_path / "file").chmod(0o640)
    (tmp_path / "link").symlink_to("file")
    assert (export(tmp_path / "link") == NOISY).all()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    for path in ("/dev/full", tmp_path / "file" / "below"):
        if os.path.exists("/dev/full"):  # noqa: PTH110
            with pytest.raises(StorageError, match=r"cannot be written .*: name another file"):
                export(Path(path))
