"""Probabilities and masks from a folder of recomputed files, and what is said where none are."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

from cifar_noisy import InvalidInputError, UnavailableError, load_pyx, load_train_mask
from cifar_noisy.recomputed import provenance_path
from cifar_noisy.registry import npy_bytes
from cifar_noisy.settings import Setting, pyx_path, train_mask_path

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
    for path, content in contents.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    checksums = {path: hashlib.sha256(content).hexdigest() for path, content in contents.items()}
    (tmp_path / provenance_path(SETTING)).write_text(json.dumps({"sha256": checksums}))
    return tmp_path


def test_a_folder_is_read_like_what_was_published(folder: Path, published: str) -> None:
    pyx = load_pyx(0.9, 0.2, source=folder)
    np.testing.assert_array_equal(pyx, np.load(folder / pyx_path(SETTING)))
    keep = load_train_mask("cl_pbc", 0.9, 0.2, source=folder)
    np.testing.assert_array_equal(
        keep, np.load(folder / train_mask_path(SETTING, "cl_pbc", "2021"))
    )
    with pytest.raises(InvalidInputError, match="leave it out with source="):
        load_train_mask("cl_pbc", 0.9, 0.2, source=folder, edition="2021")
    with pytest.raises(InvalidInputError, match="leave mmap out to get a source"):
        load_pyx(0.9, 0.2, source=folder, mmap=True)


def test_a_folder_that_is_not_as_it_was_written(folder: Path) -> None:
    with pytest.raises(UnavailableError, match=r"has no recomputed .* --noise 0.9 --sparsity 0 "):
        load_pyx(0.9, 0, source=folder)
    with pytest.raises(UnavailableError, match="is damaged or lacks"):
        load_train_mask("argmax", 0.9, 0.2, source=folder)
    path = folder / pyx_path(SETTING)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UnavailableError, match="is not as it was recomputed"):
        load_pyx(0.9, 0.2, source=folder)
    (folder / provenance_path(SETTING)).write_text("{")
    with pytest.raises(UnavailableError, match="is damaged"):
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
    assert "\n" not in said
    with pytest.raises(UnavailableError, match="CIFAR-10's images are not in the cache"):
        load_pyx(0.4, 0.2, on_missing="recompute")
