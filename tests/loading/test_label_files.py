"""Label files of other repositories: recognised and lined up, or refused with one line."""

import io
import json
import os
import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cifar_noisy import (
    SETTINGS,
    CifarNoisyError,
    InvalidInputError,
    LabelFile,
    MissingInputError,
    UnknownArtifactError,
    load_noisy_labels,
    load_true_labels,
    read_labels,
)
from cifar_noisy.settings import CLASSES, ORDERS, Order, noisy_labels_path
from tests.images.test_readers import bounded

TRUE = load_true_labels(order="torchvision")
NOISY = load_noisy_labels(0.4, 0.2, order="torchvision")
NAMES = [f"train/{CLASSES[label]}/{i}_{CLASSES[label]}.png" for i, label in enumerate(TRUE)]
RNG = np.random.default_rng(0)


def lines(header: str, *columns: Any) -> bytes:
    rows = (",".join(map(str, row)) for row in zip(*columns, strict=True))
    return "\n".join((header, *rows)).encode()


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def saved(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


FORMS: dict[str, tuple[bytes, str]] = {
    "list": (json.dumps(NOISY.tolist()).encode(), "JSON list"),
    "list of floats": (json.dumps([*map(float, NOISY)]).encode(), "JSON list"),
    "indented": (b"\xef\xbb\xbf \n" + json.dumps(NOISY.tolist(), indent=1).encode(), "JSON list"),
    "int64": (npy(NOISY), "npy"),
    "uint8": (npy(NOISY.astype(np.uint8)), "npy"),
    "big-endian": (npy(NOISY.astype(">i2")), "npy"),
    "float32": (npy(NOISY.astype(np.float32)), "npy"),
    "column": (npy(NOISY[:, np.newaxis]), "npy"),
    "tensor": (saved(torch.from_numpy(NOISY)), "torch array"),
    "array": (saved(NOISY), "torch array"),
    "torch list": (saved(NOISY.tolist()), "torch array"),
    "CIFAR-N": (
        saved({"clean_label": TRUE, "worse_label": NOISY}), "torch dict, key worse_label"
    ),
    "the same twice": (
        saved({"clean_label": TRUE, "aggre_label": NOISY, "worse_label": NOISY, "rate": 0.4}),
        "torch dict, key aggre_label",
    ),
    "SOP": (
        saved({
            "clean_label_train": torch.from_numpy(TRUE),
            "noise_label_train": torch.from_numpy(NOISY),
        }),
        "torch dict, key noise_label_train",
    ),
    "IDN": (lines("label,label_noisy", TRUE, NOISY), "CSV, key label_noisy"),
    "one column": (lines("label", NOISY), "CSV"),
    "Windows": (lines("label", NOISY).replace(b"\n", b"\r\n") + b"\r\n\r\n", "CSV"),
    "old Mac": (lines("label", NOISY).replace(b"\n", b"\r"), "CSV"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_forms(name: str, tmp_path: Path) -> None:
    content, form = FORMS[name]
    (tmp_path / "file").write_bytes(content)
    found = read_labels(tmp_path / "file")
    assert (found.format, found.order, found.polarity) == (form, "torchvision", None)
    assert found.noise_rate == float((NOISY != TRUE).mean())
    assert found.labels.dtype == np.int64
    assert (found.labels == NOISY).all()
    assert not found.labels.flags.writeable
    for order in ORDERS:
        assert (found.in_order(order) == load_noisy_labels(0.4, 0.2, order=order)).all()
        assert not found.in_order(order).flags.writeable
        if order == "torchvision":
            assert read_labels(str(tmp_path / "file"), order=order).order == order
    with pytest.raises(UnknownArtifactError):
        found.in_order("tfds")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(dict(zip(NAMES, NOISY.tolist(), strict=True))).encode(),
        lines("file,label", NAMES, NOISY),
        lines("given,path,true_label", NOISY, NAMES, TRUE),
    ],
)
def test_file_names_say_which_image_it_is(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    found = read_labels(tmp_path / "file")
    assert found.order == "imagefolder"
    assert (found.labels == load_noisy_labels(0.4, 0.2)).all()
    with pytest.raises(InvalidInputError, match="leave order='torchvision' out"):
        read_labels(tmp_path / "file", order="torchvision")


def test_a_part_of_the_images_by_name(tmp_path: Path) -> None:
    chosen = RNG.permutation(50_000)[:45_000]
    part = {NAMES[i].rpartition("/")[2]: int(NOISY[i]) for i in chosen}
    (tmp_path / "part.json").write_text(json.dumps(part))
    found = read_labels(tmp_path / "part.json")
    expected = np.full(50_000, -1)
    expected[chosen] = NOISY[chosen]
    assert (found.in_order("torchvision") == expected).all()
    assert found.noise_rate == float((NOISY != TRUE)[chosen].mean())


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_the_published_files(setting: Any, upstream: Path) -> None:
    found = read_labels(upstream / noisy_labels_path(setting))
    assert (found.labels == load_noisy_labels(setting)).all()
    assert (found.format, found.order) == ("JSON dict of file names", "imagefolder")


OTHERS = {
    **{
        f"UCSC-REAL/cifar-10-100n/data/CIFAR-10_human.pt {key}": rate
        for key, rate in {
            "aggre_label": 0.0901, "random_label1": 0.17234, "random_label2": 0.18122,
            "random_label3": 0.1764, "worse_label": 0.40208,
        }.items()
    },
    **{f"chenpf1025/IDN/data/CIFAR10/label_noisy/dependent0.{n}.csv": n / 10 for n in range(1, 5)},
    **{
        "KlemenVovk/noisy-labels/src/reproducibility/learning_strategies/CAL/assets/"
        f"IDN_{name}_C10.pt": rate
        for name, rate in {"0.2": 0.20766, "0.4": 0.4033, "0.6": 0.5986}.items()
    },
    **{
        f"gordon-lim/soft-neighbor-labels/label_noise/cifar10-{name}.npy": rate
        for name, rate in {
            "cluster-0.35": 0.34944, "cluster-0.70": 0.70164,
            "pmd-0.35": 0.34874, "pmd-0.70": 0.70136,
        }.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_the_files_of_other_repositories(name: str, label_sets: Path) -> None:
    path, _, key = name.partition(" ")
    found = read_labels(label_sets / path, key=key or None)
    assert (found.order, found.noise_rate) == ("torchvision", OTHERS[name])
    assert key in found.format


def test_files_whose_rows_are_folds_put_together(label_sets: Path) -> None:
    """Labels that are right in most rows, and yet do not belong to the images of their rows."""
    folder = label_sets / "cleanlab/label-error-detection-benchmarks/src/experiments"
    files = [*folder.rglob("noisy_labels.npy"), *folder.rglob("true_labels.npy")]
    assert len(files) == 6
    for file in files:
        with pytest.raises(InvalidInputError, match=r"rows out of place|do not tell"):
            read_labels(file)


def folds_put_together(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    from sklearn.model_selection import StratifiedKFold

    folds = StratifiedKFold(5).split(labels, labels)
    rows = np.concatenate([held_out for _, held_out in folds])
    return np.asarray(labels[rows], np.int64)


def flipped(share: float, rows: slice = slice(None)) -> NDArray[np.int64]:
    """Draw other labels for a share of some rows."""
    labels = TRUE.copy()
    is_flipped = np.zeros(len(labels), np.bool_)
    is_flipped[rows] = RNG.random(len(labels[rows])) < share
    labels[is_flipped] = (labels + RNG.integers(1, 10, len(labels)))[is_flipped] % 10
    return labels


def in_file(folder: Path, labels: NDArray[Any]) -> Path:
    np.save(folder / "labels.npy", labels)
    return folder / "labels.npy"


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("noise", [0, 0.0002, 0.01, 0.2, 0.8, 0.85])
def test_the_order_is_told_by_the_labels(order: Order, noise: float, tmp_path: Path) -> None:
    labels = LabelFile(flipped(noise), "torchvision", noise, "").in_order(order)
    assert read_labels(in_file(tmp_path, labels)).order == order


def test_orders_that_labels_do_not_tell(tmp_path: Path) -> None:
    for labels in (
        flipped(0.9),
        RNG.permutation(NOISY),
        np.full(50_000, 3),
        (TRUE + 1) % 10,
        np.concatenate([NOISY[:25_000], load_noisy_labels(0.4, 0.2)[25_000:]]),
    ):
        path = in_file(tmp_path, labels)
        with pytest.raises(InvalidInputError, match=r"pass order= if you know it") as error:
            read_labels(path)
        assert "where chance gives 10%" in str(error.value)
        for order in ORDERS:
            assert (read_labels(path, order=order).in_order(order) == labels).all()


def test_an_order_that_the_labels_contradict(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"pass order='torchvision' for .*60\.1% in torch"):
        read_labels(in_file(tmp_path, NOISY), order="imagefolder")
    assert read_labels(in_file(tmp_path, NOISY), order="torchvision").order == "torchvision"


def test_rows_out_of_place_in_stretches(tmp_path: Path) -> None:
    for labels in (
        folds_put_together(NOISY),
        folds_put_together(TRUE),
        np.roll(NOISY, 0)[np.r_[:30_000, RNG.permutation(np.arange(30_000, 50_000))]],
        np.r_[NOISY[:40_000], NOISY[40_001:], 0],
    ):
        path = in_file(tmp_path, labels)
        with pytest.raises(InvalidInputError, match="has rows out of place: in torchvision order"):
            read_labels(path)
        assert (read_labels(path, order="torchvision").labels == labels).all()
    torch.save({"clean_label": TRUE, "labels": folds_put_together(NOISY)}, tmp_path / "file.pt")
    with pytest.raises(InvalidInputError, match=r"file.pt, labels, has rows out of place"):
        read_labels(tmp_path / "file.pt")


def test_a_few_wrong_labels_may_lie_together(tmp_path: Path) -> None:
    assert read_labels(in_file(tmp_path, flipped(1, slice(100, 120)))).noise_rate == 20 / 50_000


def test_true_labels_in_the_file_decide_the_order(tmp_path: Path) -> None:
    very_noisy = load_noisy_labels(0.9, 0)
    for order in ORDERS:
        pair = {"clean_label": load_true_labels(order=order),
                "noisy_label": load_noisy_labels(0.9, 0, order=order)}  # fmt: skip
        torch.save(pair, tmp_path / "file.pt")
        found = read_labels(tmp_path / "file.pt")
        assert found.order == order
        assert (found.in_order("imagefolder") == very_noisy).all()
        other: Order = "imagefolder" if order == "torchvision" else "torchvision"
        with pytest.raises(InvalidInputError, match=f"clean_label, is in {order} order: pass"):
            read_labels(tmp_path / "file.pt", order=other)
    torch.save(pair | {"clean_label": TRUE + 1}, tmp_path / "file.pt")
    with pytest.raises(InvalidInputError, match="clean_label, has labels from 1 to 10"):
        read_labels(tmp_path / "file.pt")
    torch.save(pair | {"clean_label": np.roll(TRUE, 1)}, tmp_path / "file.pt")
    with pytest.raises(InvalidInputError, match="has not CIFAR-10's labels in either order"):
        read_labels(tmp_path / "file.pt")


@pytest.mark.parametrize("says", ["True = wrong label", "True = right label", None])
def test_a_mask_beside_the_labels(says: str | None, tmp_path: Path) -> None:
    mask = {"True = wrong label": NOISY != TRUE, "True = right label": NOISY == TRUE}.get(
        str(says), RNG.random(50_000) < 0.4
    )
    torch.save({"noise_or_not": mask, "labels": NOISY}, tmp_path / "file.pt")
    found = read_labels(tmp_path / "file.pt")
    assert (found.polarity, found.format) == (says, "torch dict, key labels")


def test_several_labels(tmp_path: Path) -> None:
    several = {"clean_label": TRUE, "aggre_label": TRUE, "worse_label": NOISY}
    torch.save(several, tmp_path / "file.pt")
    (tmp_path / "file.csv").write_bytes(lines("a,b", TRUE, NOISY))
    with pytest.raises(InvalidInputError, match=r"pass key= with one of aggre_label, worse_label$"):
        read_labels(tmp_path / "file.pt")
    with pytest.raises(InvalidInputError, match=r"pass key= with one of a, b$"):
        read_labels(tmp_path / "file.csv")
    assert read_labels(tmp_path / "file.csv", key="b").format == "CSV, key b"
    for key in ("clean_label", "none", ""):
        with pytest.raises(InvalidInputError, match=r"pass one of aggre_label, worse_label$"):
            read_labels(tmp_path / "file.pt", key=key)
    with pytest.raises(InvalidInputError, match=r"key='a': leave it out$"):
        read_labels(in_file(tmp_path, NOISY), key="a")
    torch.save({"clean_label": TRUE, "rate": 0.1}, tmp_path / "file.pt")
    with pytest.raises(InvalidInputError, match=r"has no noisy labels, only clean_label:"):
        read_labels(tmp_path / "file.pt")


def changed(value: object, row: int = 7) -> list[Any]:
    values: list[Any] = NOISY.tolist()
    values[row] = value
    return values


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


ONE_TEST_IMAGE = {"test/cat/0_cat.png": 3}
BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "texts": (lambda: as_json([str(label) for label in NOISY]), r"'\d' in row 0, which is text"),
    "names": (lambda: lines("label", [CLASSES[i] for i in NOISY]), r"row 0, which is text"),
    "a name": (lambda: as_json(changed("cat")), r"'cat' in row 7, which is text"),
    "a half": (lambda: as_json(changed(2.5)), r"has 2.5 in row 7: labels are whole numbers"),
    "half of npy": (lambda: npy(NOISY + 0.5), r"in row 0: labels are whole numbers"),
    "NaN": (lambda: as_json(changed(float("nan"))), r"has nan in row 7: labels are whole"),
    "NaN of CSV": (lambda: lines("label", changed("nan")), r"has nan in row 7"),
    "infinity": (lambda: npy(np.array(changed(np.inf))), r"has inf in row 7"),
    "one-hot": (lambda: npy(np.eye(10)[NOISY]), r"\(50000, 10\): these are one-hot labels"),
    "one-hot of torch": (lambda: saved(torch.eye(10)[torch.from_numpy(NOISY)]), r"one-hot"),
    "two columns": (lambda: npy(np.c_[NOISY, NOISY]), r"shape \(50000, 2\): pass one label"),
    "from 1": (lambda: as_json((NOISY + 1).tolist()), r"labels from 1 to 10: subtract 1"),
    "negative": (lambda: npy(np.array(changed(-3))), r"has -3 in row 7: pass CIFAR-10's"),
    "CIFAR-100": (lambda: npy(RNG.integers(0, 100, 50_000)), r"in row [\d,]+: pass CIFAR-10's"),
    "too large": (lambda: npy(np.array(changed(1 << 63), np.uint64)), r"has 92233720368547758"),
    "30 digits": (lambda: as_json(changed(10**30)), r"in row 7: pass CIFAR-10's"),
    "400 digits": (lambda: as_json(changed(10**400)), r"number of hundreds of digits"),
    "5,000 digits": (lambda: b"[" + b"9" * 5000 + b"]", r"is no JSON, or not the whole"),
    "true": (lambda: as_json(changed(True)), r"True in row 7, which is no number"),
    "null": (lambda: as_json(changed(None)), r"None in row 7, which is no number"),
    "a mask": (lambda: npy(NOISY == TRUE), r"is a mask \(30,033 of 50,000 are True\), not labels"),
    "a mask of torch": (lambda: saved({"noise_or_not": NOISY == TRUE}), r"is a mask \(30,033"),
    "nested": (lambda: as_json(changed([1])), r"\[1\] in row 7, which is no number"),
    "pairs": (lambda: as_json([[i, 1] for i in range(50_000)]), r"row 0, which is no number"),
    "records": (lambda: as_json([{"label": 1}] * 50_000), r"row 0, which is no number"),
    "deep": (lambda: b"[" * 100_000, r"is no JSON, or not the whole of it \(maximum recursion"),
    "a dict of a list": (lambda: as_json({"labels": NOISY.tolist()}), r"the name 'labels', which"),
    "a dict of rows": (lambda: as_json(dict(enumerate(NOISY.tolist()))), r"the name '0', which"),
    "an empty dict": (lambda: b"{}", r"shape \(0,\)"),
    "an empty list": (lambda: b"[]", r"shape \(0,\)"),
    "a list of names": (lambda: as_json(NAMES), r"0_frog.png' in row 0, which is text"),
    "a nested dict": (lambda: as_json({NAMES[0]: {"a": 1}}), r"in row 0, which is no number"),
    "test images": (lambda: as_json(ONE_TEST_IMAGE), r"which is no image of the train set"),
    "50,000": (lambda: as_json({"50000_cat.png": 1}), r"which is no image of the train set"),
    "an image twice": (
        lambda: f'{{"{NAMES[0]}": 1, "a/{NAMES[0]}": 2}}'.encode(), r"has image 0 twice, again as"
    ),
    "a name twice": (lambda: f'{{"{NAMES[0]}": 1, "{NAMES[0]}": 2}}'.encode(), r"image 0 twice"),
    "another truth": (
        lambda: lines("file,label,true_label", NAMES[:2], [1, 1], [6, 1]), r"truly of class 1"
    ),
    "the test set": (lambda: npy(TRUE[:10_000]), r"10,000 labels, .* as many as the test set has"),
    "a split": (lambda: npy(TRUE[:45_000]), r"45,000 .* nothing says which images it has"),
    "both sets": (lambda: npy(np.r_[TRUE, TRUE[:10_000]]), r"60,000 .* those of both sets"),
    "one less": (lambda: as_json(NOISY[1:].tolist()), r"has 49,999 labels, where .* 50,000"),
    "no header": (lambda: lines("6", NOISY), r"has no header: write a first line"),
    "no header, names": (lambda: lines(f"{NAMES[0]},6", NAMES, NOISY), r"has no header"),
    "ragged": (lambda: lines("label,a", NOISY, TRUE) + b"\n3", r"1 cells in its row 50,002, where"),
    "two of a name": (lambda: lines("a,a", NOISY, NOISY), r"is no CSV with names of columns"),
    "header alone": (lambda: b"label\n", r"is no CSV with names of columns"),
    "many lines": (lambda: b"a" + b"\n1" * 200_000, r"has more than 100,000 lines"),
    "a quote": (lambda: b'a\n"1', r"is no CSV \(unexpected end of data\)"),
    "a long cell": (lambda: b"a\n" + b"1" * 200_000, r"is no CSV \(field larger than"),
    "cut list": (lambda: as_json(NOISY.tolist())[:-9], r"is no JSON, or not the whole of it"),
    "cut npy": (lambda: npy(NOISY)[:-8], r"is no .npy file of numbers, or not a whole one"),
    "cut torch": (lambda: saved(NOISY)[:-8], r"is no file of torch.save with plain arrays"),
    "objects": (lambda: npy(np.array([{}])), r"is no .npy file of numbers"),
    "a network": (lambda: saved(torch.nn.Linear(2, 2)), r"is no file of torch.save"),
    "a zip": (lambda: b"PK\x05\x06" + bytes(18), r"is no file of torch.save"),
    "complex": (lambda: npy(NOISY + 0j), r"has dtype complex128, where labels are numbers"),
    "an image": (lambda: b"\x89PNG\r\n\x1a\n", r"is of an unknown format: pass a JSON list"),
    "nothing": (lambda: b"", r"is empty: pass a JSON list"),
    "spaces": (lambda: b" \n\n", r"is empty: pass a JSON list"),
    "huge JSON": (lambda: b"[" + b"1," * (1 << 22) + b"1]", r"has more than 8 MiB of text"),
    "huge": (lambda: bytes(1 << 25), r"has more than 16 MiB, too many for labels"),
    "a word": (lambda: b"hello", r"is no CSV with names"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_files(name: str, tmp_path: Path) -> None:
    make, problem = BAD[name]
    (tmp_path / "labels").write_bytes(make())
    with pytest.raises(InvalidInputError, match=problem) as error:
        read_labels(tmp_path / "labels")
    said = str(error.value)
    assert str(tmp_path / "labels") in said
    assert "\n" not in said
    assert len(said) < 500


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero"), "a\0b", tmp_path / "pipe" / "a"):
        with pytest.raises(InvalidInputError, match=r"cannot be read \(.*\): name a file") as error:
            read_labels(path)
        assert not isinstance(error.value, MissingInputError)
    with pytest.raises(MissingInputError, match="none does not exist: name a file"):
        read_labels(tmp_path / "none")
    for value in (3, None, NOISY, b"a"):
        with pytest.raises(InvalidInputError, match="is no path: pass that of a label file"):
            read_labels(value)  # type: ignore[arg-type]
    with pytest.raises(UnknownArtifactError, match="order 'tfds' is unknown"):
        read_labels(tmp_path, order="tfds")  # type: ignore[arg-type]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read any file")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = in_file(tmp_path, NOISY)
    path.chmod(stat.S_IWUSR)
    with pytest.raises(InvalidInputError, match="Permission denied"):
        read_labels(path)


def test_names_with_control_characters_do_not_reach_a_terminal(tmp_path: Path) -> None:
    torch.save({"a\x1b[2J\n": NOISY, "b": TRUE}, tmp_path / "file.pt")
    (tmp_path / "file.json").write_text(json.dumps({"\x1b[2J": 1}))
    for name in ("file.pt", "file.json"):
        with pytest.raises(CifarNoisyError) as error:
            read_labels(tmp_path / name)
        assert not re.search(r"[\x00-\x1f]", str(error.value))


BOMBS = {
    "lists": b"[" + b"[]," * 2_700_000 + b"[]]",
    "objects": b"[" + b"{}," * 2_700_000 + b"{}]",
    "lines": b"a" + b"\n1" * 4_000_000,
    "cells": b"a\n" + b"," * 8_000_000,
    "empty lines": b"a\n1" + b"\n" * 8_000_000,
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
@pytest.mark.parametrize("name", BOMBS)
def test_memory_is_bounded(name: str, tmp_path: Path) -> None:
    (tmp_path / "labels").write_bytes(BOMBS[name])
    said = bounded(
        "from cifar_noisy import read_labels\ndef run():\n    read_labels(sys.argv[1])\n",
        tmp_path / "labels",
        megabytes=500,
    )
    assert str(tmp_path / "labels") in said
