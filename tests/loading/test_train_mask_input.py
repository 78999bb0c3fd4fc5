"""Train masks in any form, and what is said of those that are none."""

from typing import Any

import numpy as np
import pytest

from cifar_noisy import InvalidInputError, Setting
from cifar_noisy.loading.train_mask_input import resolve_train_mask


@pytest.mark.parametrize(
    ("train_mask", "said"),
    [
        ({1, 2}, "train_mask is a set, which has no order: pass a list or an array"),
        ({1: True}, "train_mask is a dict, which has no order"),
        (3, r"train_mask has shape \(\)"),
        ([], r"train_mask has shape \(0,\)"),
        ([0.5], "train_mask has dtype float64"),
        ([1, 1], "names 2 rows, but only 1 different ones"),
        ([50], "train_mask has row 50: rows go from 0 to 49"),
    ],
)
def test_what_is_no_train_mask_is_named(train_mask: Any, said: str) -> None:
    labels, order = np.repeat(np.arange(10), 5), np.arange(50)
    with pytest.raises(InvalidInputError, match=said):
        resolve_train_mask(train_mask, Setting(0, 0), None, None, labels, labels, order)
