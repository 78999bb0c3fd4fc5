"""Accuracy on the test set: against a plain loop, in both orders, and rubbish."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cifar_noisy import (
    InvalidInputError,
    UnknownArtifactError,
    load_test_labels,
    test_accuracy,
)
from cifar_noisy.loading.row_order import torchvision_index_of

PYX = "cleanlab/label-errors/cross_validated_predicted_probabilities/cifar10_test_set_pyx.npy"


@pytest.fixture
def pyx(label_sets: Path) -> Any:
    return np.load(label_sets / PYX)


def test_equals_the_plain_loop(pyx: Any) -> None:
    original, soft, corrected = (
        load_test_labels(kind, order="torchvision") for kind in ("original", "soft", "corrected")
    )
    right = n_corrected = right_corrected = 0
    share = bound = 0.0
    for i in range(10_000):
        best = max(range(10), key=lambda k: (pyx[i, k], -k))
        right += best == original[i]
        if corrected[i] >= 0:
            n_corrected += 1
            right_corrected += best == corrected[i]
        share += soft[i, best]
        bound += max(soft[i])
    result = test_accuracy(pyx, order="torchvision")
    assert result.original == right / 10_000 == pytest.approx(0.9294)
    assert n_corrected == 9_996
    assert result.n_without_class == 4
    assert result.corrected == right_corrected / n_corrected
    assert result.soft == pytest.approx(share / 10_000)
    assert result.soft_bound == pytest.approx(bound / 10_000)
    assert result.corrected > result.original > result.soft
    assert json.loads(json.dumps(result.as_dict())) == result.as_dict()


def test_the_form_of_the_predictions_does_not_matter(pyx: Any) -> None:
    expected = test_accuracy(pyx, order="torchvision")
    classes = pyx.argmax(axis=1)
    rows = torchvision_index_of(load_test_labels("original", order="torchvision"))
    shuffled = np.random.default_rng(0).permutation(10_000)
    for predictions, order in (
        (classes, "torchvision"),
        (classes.astype(np.uint8), "torchvision"),
        (classes.tolist(), "torchvision"),
        (pd.Series(classes).iloc[shuffled], "torchvision"),
        (pd.DataFrame(pyx).iloc[shuffled], "torchvision"),
        (np.asfortranarray(pyx), "torchvision"),
        (pyx[rows], "imagefolder"),
        (classes[rows], "imagefolder"),
    ):
        assert test_accuracy(predictions, order=order) == expected  # type: ignore[arg-type]
    wrong = test_accuracy(pyx, order="imagefolder")
    assert 0.08 < wrong.original < 0.12


def test_labels_as_predictions(pyx: Any) -> None:
    own = test_accuracy(load_test_labels("original"), order="imagefolder")
    assert (own.original, own.corrected) == (1, (9_996 - 18) / 9_996)
    best = load_test_labels("soft").argmax(axis=1)
    people = test_accuracy(best, order="imagefolder")
    assert people.soft == people.soft_bound == own.soft_bound > own.soft
    assert people.original == (10_000 - 79) / 10_000


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        (np.zeros(9_999, np.int64), "pass 10,000 whole numbers"),
        (np.zeros((10_000, 9)), "pass 10,000 whole numbers"),
        (np.zeros((50_000, 10)), "pass 10,000 whole numbers"),
        (np.zeros((10_000, 1, 1)), "pass 10,000 whole numbers"),
        (np.zeros(10_000), "pass 10,000 whole numbers"),
        (np.zeros(10_000, bool), "pass 10,000 whole numbers"),
        (["cat"] * 10_000, "pass 10,000 whole numbers"),
        (3, "pass 10,000 whole numbers"),
        (None, "pass 10,000 whole numbers"),
        (np.full(10_000, 10), "pass classes, 0 to 9"),
        (np.full(10_000, -1), "pass classes, 0 to 9"),
        (np.full(10_000, 2**64 - 1, np.uint64), "pass classes, 0 to 9"),
        (np.full((10_000, 10), np.nan), "is nan"),
        (np.full((10_000, 10), 7.5), "softmax of logits"),
        (np.zeros((10_000, 10), np.int64), "pass probabilities as float16"),
        ({1, 2}, "has no order"),
    ],
)
def test_rubbish(predictions: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        test_accuracy(predictions, order="torchvision")


@pytest.mark.parametrize("order", ["official", None, 3])
def test_orders_that_are_unknown(order: Any) -> None:
    with pytest.raises(UnknownArtifactError, match="there are imagefolder, torchvision"):
        test_accuracy(np.zeros(10_000, np.int64), order=order)
