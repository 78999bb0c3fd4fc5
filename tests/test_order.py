"""The two orders and the map between them."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_noisy import UnavailableError, UnknownArtifactError, load_noisy_labels, load_true_labels
from cifar_noisy.order import in_order, official_indices, official_indices_published
from cifar_noisy.registry import find
from cifar_noisy.settings import CLASSES, Setting


@given(st.lists(st.integers(0, 9), max_size=300))
def test_official_indices_sort_file_names_as_text(labels: list[int]) -> None:
    names = sorted((CLASSES[label], f"{i}_{CLASSES[label]}.png") for i, label in enumerate(labels))
    expected = [int(name.split("_")[0]) for _, name in names]
    assert official_indices(labels).tolist() == expected


def test_the_map_equals_the_one_read_from_file_names(upstream: Path) -> None:
    names = json.loads((upstream / find("noisy_labels", Setting(0, 0)).path).read_bytes())
    indices = official_indices_published()
    assert indices.tolist() == [int(name.split("/")[-1].split("_")[0]) for name in names]
    official = load_true_labels(order="torchvision")
    assert official_indices(official).tolist() == indices.tolist()
    assert [CLASSES[k] for k in official[:5]] == ["frog", "truck", "truck", "deer", "automobile"]


def test_round_trip(published: str) -> None:
    rows = np.arange(50_000)
    official = in_order(rows, "torchvision")
    assert (official[official_indices_published()] == rows).all()
    noisy = load_noisy_labels(0.4, 0.2, order="torchvision")
    assert (noisy[official_indices_published()] == load_noisy_labels(0.4, 0.2)).all()


def test_without_the_official_labels_it_is_said_what_supplies_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CIFAR_NOISY_OFFLINE", "1")
    with pytest.raises(
        UnavailableError, match=r"official order, .* label file .* cifar-noisy download"
    ):
        load_true_labels(order="torchvision")
    with pytest.raises(UnknownArtifactError, match="order 'pytorch' is unknown"):
        load_true_labels(order="pytorch")  # type: ignore[arg-type]
