"""The two orders and the map between them."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from cifar_noisy import UnknownArtifactError, load_noisy_labels, load_true_labels
from cifar_noisy.loading.row_order import (
    OFFICIAL_LABELS_SHA256,
    from_imagefolder_order,
    published_torchvision_index,
    to_imagefolder_order,
    torchvision_index_of,
    torchvision_order_labels,
)
from cifar_noisy.settings import CLASSES, Setting
from cifar_noisy.store.registry import find


@given(st.lists(st.integers(0, 9), max_size=300))
def test_official_indices_sort_file_names_as_text(labels: list[int]) -> None:
    names = sorted((CLASSES[label], f"{i}_{CLASSES[label]}.png") for i, label in enumerate(labels))
    expected = [int(name.split("_")[0]) for _, name in names]
    assert torchvision_index_of(labels).tolist() == expected


def test_the_map_equals_the_one_read_from_file_names(upstream: Path) -> None:
    names = json.loads((upstream / find("noisy_labels", Setting(0, 0)).path).read_bytes())
    indices = published_torchvision_index()
    assert indices.tolist() == [int(name.split("/")[-1].split("_")[0]) for name in names]
    official = load_true_labels(order="torchvision")
    assert torchvision_index_of(official).tolist() == indices.tolist()
    assert [CLASSES[k] for k in official[:5]] == ["frog", "truck", "truck", "deer", "automobile"]


def test_the_shipped_labels_are_the_official_ones() -> None:
    labels = torchvision_order_labels()
    assert (labels.dtype.name, hashlib.sha256(labels.data).hexdigest()) == (
        "uint8",
        OFFICIAL_LABELS_SHA256,
    )
    # torchvision's user, without a network and without images
    noisy = load_noisy_labels(0, 0, order="torchvision")
    assert (noisy == labels).all()


def test_round_trip() -> None:
    rows = np.arange(50_000)
    official = from_imagefolder_order(rows, "torchvision")
    assert (official[published_torchvision_index()] == rows).all()
    assert (to_imagefolder_order(official, "torchvision") == rows).all()
    noisy = load_noisy_labels(0.4, 0.2, order="torchvision")
    assert (noisy[published_torchvision_index()] == load_noisy_labels(0.4, 0.2)).all()


OFFLINE = """
import sys
def refuse(event, arguments):
    if event.startswith("socket.") or str(arguments[0]).startswith(sys.argv[1]):
        raise AssertionError(f"{event} {arguments}")
sys.addaudithook(refuse)
import cifar_noisy
print(cifar_noisy.load_true_labels(order="torchvision")[:5].tolist())
"""


def test_neither_network_nor_images_are_needed(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", OFFLINE, tmp_path],
        env=os.environ | {"CIFAR_NOISY_CACHE": str(tmp_path / "cache")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stdout == "[6, 9, 9, 4, 1]\n"
    assert not (tmp_path / "cache").exists()


def test_unknown_order() -> None:
    with pytest.raises(UnknownArtifactError, match="order 'pytorch' is unknown"):
        load_true_labels(order="pytorch")  # type: ignore[arg-type]
