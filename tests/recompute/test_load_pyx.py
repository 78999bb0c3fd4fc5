"""Probabilities and masks from a folder of recomputed files, and what is said where none are."""

import dataclasses
import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cifar_noisy import (
    InvalidInputError,
    UnavailableError,
    evaluate_published,
    load_images,
    load_noisy_labels,
    load_pyx,
    load_train_mask,
)
from cifar_noisy.cli import main
from cifar_noisy.loading.recomputed import provenance_path, read_record, write_record
from cifar_noisy.recompute import plan_file
from cifar_noisy.recompute.probe import Probe
from cifar_noisy.recompute.recipes import FastRecipe
from cifar_noisy.settings import Setting, pyx_path, train_mask_path
from cifar_noisy.store.artifact_store import Store
from cifar_noisy.store.registry import npy_bytes
from cifar_noisy.store.sealed import write_sealed_json
from tests.conftest import JpegCopy
from tests.json_schemas import answer_of

SETTING = Setting(0.9, 0.2)  # labels alone were published


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    pyx = rng.dirichlet(np.ones(10), 50_000).astype(np.float16)
    mask = rng.random(50_000) < 0.5
    contents = {
        pyx_path(SETTING): npy_bytes(pyx),
        train_mask_path(SETTING, "cl_pbc", "2021"): npy_bytes(mask),
    }
    write_record(tmp_path, provenance_path(SETTING), {}, contents)
    return tmp_path


def test_a_folder_is_read_like_what_was_published(folder: Path, published: str) -> None:
    pyx = load_pyx(0.9, 0.2, source=folder)
    np.testing.assert_array_equal(pyx, np.load(folder / pyx_path(SETTING)))
    keep = load_train_mask("cl_pbc", 0.9, 0.2, source=folder)
    np.testing.assert_array_equal(
        keep, np.load(folder / train_mask_path(SETTING, "cl_pbc", "2021"))
    )
    with pytest.raises(
        InvalidInputError, match="it is for published masks, not for those of source="
    ):
        load_train_mask("cl_pbc", 0.9, 0.2, source=folder, edition="2021")
    with pytest.raises(InvalidInputError, match="leave mmap out to get a source"):
        load_pyx(0.9, 0.2, source=folder, mmap=True)


def test_a_folder_that_is_not_as_it_was_written(folder: Path) -> None:
    with pytest.raises(UnavailableError, match=r"has no recomputed .* --noise 0.9 --sparsity 0 "):
        load_pyx(0.9, 0, source=folder)
    with pytest.raises(UnavailableError, match=r"No such file .* recompute run --folder"):
        load_train_mask("argmax", 0.9, 0.2, source=folder)
    path = folder / pyx_path(SETTING)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UnavailableError, match="is not as it was recomputed"):
        load_pyx(0.9, 0.2, source=folder)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UnavailableError, match="it is a pipe"):
        load_pyx(0.9, 0.2, source=folder)
    (folder / provenance_path(SETTING)).write_text("{")
    with pytest.raises(UnavailableError, match="is not as it was recomputed"):
        load_train_mask("cl_pbc", 0.9, 0.2, source=folder)


PYX = np.full((50_000, 10), 0.1, dtype=np.float16)


@pytest.mark.parametrize(
    "pyx",
    [PYX[:1797], PYX[:, :9], PYX.astype(np.float64), PYX.astype(np.int64), PYX[0]],
)  # fmt: skip
def test_what_is_no_probabilities_of_these_examples_is_refused(
    pyx: NDArray[Any], tmp_path: Path
) -> None:
    contents = {
        pyx_path(SETTING): npy_bytes(pyx),
        train_mask_path(SETTING, "cl_pbc", "2021"): npy_bytes(pyx),
    }
    write_record(tmp_path, provenance_path(SETTING), {}, contents)
    with pytest.raises(InvalidInputError, match=r"of shape \(.*, not \(50000, 10\) probab"):
        load_pyx(0.9, 0.2, source=tmp_path)
    with pytest.raises(InvalidInputError, match="not a mask of 50000 examples"):
        load_train_mask("cl_pbc", 0.9, 0.2, source=tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04", npy_bytes(PYX)[:200], b"\x93NUMPY\x01\x00\xff\xff"],
    ids=["empty", "zip", "cut", "header"],
)
def test_a_record_made_by_hand_has_no_other_way_in(content: bytes, tmp_path: Path) -> None:
    write_record(tmp_path, provenance_path(SETTING), {}, {pyx_path(SETTING): content})
    with pytest.raises(UnavailableError, match="is not as it was recomputed"):
        load_pyx(0.9, 0.2, source=tmp_path)
    write_sealed_json(tmp_path / provenance_path(SETTING), {"files": [pyx_path(SETTING)]})
    assert read_record(tmp_path, provenance_path(SETTING), [pyx_path(SETTING)]) is None
    with pytest.raises(UnavailableError, match="is not as it was recomputed"):
        load_pyx(0.9, 0.2, source=tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda pyx: pyx * 100, r"\[0, 0\] is .*probabilities lie between 0 and 1"),
        (lambda pyx: np.log(pyx), "of log-probabilities"),
        (lambda pyx: np.where(pyx == pyx[7, 3], np.nan, pyx), r"\[7, 3\] is nan"),
    ],
)
def test_what_a_folder_holds_is_probabilities_of_cifar10(
    folder: Path, change: Callable[[Any], Any], said: str
) -> None:
    path = pyx_path(SETTING)
    content = npy_bytes(change(np.load(folder / path).astype(np.float32)))
    write_record(folder, provenance_path(SETTING), {}, {path: content})
    with pytest.raises(InvalidInputError, match=said):
        load_pyx(0.9, 0.2, source=folder)


def test_what_is_missing_comes_with_the_command_that_makes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CIFAR_NOISY_OFFLINE", "1")
    monkeypatch.setenv("CIFAR_NOISY_MIRRORS", "")
    with pytest.raises(UnavailableError) as caught:
        load_pyx(0.4, 0.2)
    said = str(caught.value)
    assert re.search(r"about \d+ minutes on this machine's \d+ cores", said)
    assert "cifar-noisy recompute --noise 0.4 --sparsity 0.2" in said
    assert "cifar-noisy recompute" in said.split("\n")[0]
    with pytest.raises(UnavailableError, match="CIFAR-10's images are not in the cache"):
        load_pyx(0.4, 0.2, on_missing="recompute")


@pytest.fixture
def one_epoch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the defaults of `fast` those of the shortest training there is, on one thread."""
    fields = dataclasses.asdict(FastRecipe()) | {
        "epochs": 1,
        "small_epochs": 1,
        "small_scale": 0.25,
    }
    monkeypatch.setattr(FastRecipe.__init__, "__defaults__", tuple(fields.values()))
    measured = Probe("cpu", "made up", 2, {("float32", 2): (1e-6, 1e-6)})
    monkeypatch.setattr(plan_file, "measure", lambda device: measured)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_what_is_missing_is_trained_once_and_kept(
    official_jpeg: JpegCopy, one_epoch: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIFAR_NOISY_OFFLINE", "1")
    load_images(official_jpeg.batches)
    with pytest.raises(UnavailableError, match="or train again"):
        load_pyx(0.2, 0)
    pyx = load_pyx(0.2, 0, on_missing="recompute")
    files = list(Store.from_environment().cache.rglob("recomputed/**/*.npy"))
    assert len(files) == 4 + 6
    before = [file.stat().st_mtime_ns for file in files]
    again = load_pyx(0.2, 0, on_missing="recompute", order="torchvision")
    assert before == [file.stat().st_mtime_ns for file in files]
    assert pyx.shape == (50_000, 10)
    # One epoch of the smallest network: far from good, and far from chance.
    assert (pyx.argmax(axis=1) == load_noisy_labels(0.2, 0)).mean() > 0.15
    assert (again.argmax(axis=1) == load_noisy_labels(0.2, 0, order="torchvision")).mean() > 0.15


def test_verify_trains_before_it_compares(
    published: str,
    jpeg: JpegCopy,
    one_epoch: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = "verify --retrain --noise 0.2 --sparsity 0 --json - --trust pixels --root"
    folders = (str(jpeg.batches), "--recomputed", str(tmp_path / "again"))
    monkeypatch.setattr("sys.argv", ["cifar-noisy", *words.split(), *folders])
    with pytest.raises(SystemExit) as ended:
        main()
    said, told = capsys.readouterr()
    assert ended.value.code == 1  # one epoch is worse than what was published
    assert told.count(": done\n") == 5
    rows = {row["quantity"]: row for row in answer_of(said, "verify")["comparisons"]}
    assert rows["accuracy against given labels"]["verdict"] == "below"
    assert rows["accuracy against given labels"]["published"] == pytest.approx(0.651, abs=1e-3)
    assert load_pyx(0.2, 0, source=tmp_path / "again").shape == (50_000, 10)

    # Collecting again prints the published scores beside.
    again = ["recompute", "collect", "--trust", "pixels", "--root"]
    folders = (str(jpeg.batches), "--folder", str(tmp_path / "again"))
    monkeypatch.setattr("sys.argv", ["cifar-noisy", *again, *folders])
    with pytest.raises(SystemExit):
        main()
    table = capsys.readouterr().out
    assert re.search(r"\(published 0\.651, the noise allows 0\.801\).*published 0\.804\)", table)
    row = re.search(r"^argmax +(.*)$", table, re.MULTILINE)
    theirs = {found.name: found for found in evaluate_published(0.2, 0)}["argmax"]
    assert row is not None
    assert row[1].split()[3:] == [f"{v:.4f}" for v in (theirs.precision, theirs.recall, theirs.f1)]


def test_a_file_system_that_refuses_memory_maps(
    published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENODEV, "No such device")

    mapped = load_pyx(0.4, 0.2, mmap=True)
    monkeypatch.setattr("mmap.mmap", refuse)
    pyx = load_pyx(0.4, 0.2, mmap=True)
    assert np.array_equal(pyx, mapped)
    assert not pyx.flags.writeable
    assert load_pyx(0.4, 0.2).flags.writeable
