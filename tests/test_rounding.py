"""The bounds hold for every rounding, and are tight enough that a wrong mask falls out of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar_noisy import (
    InvalidInputError,
    artifacts,
    label_errors,
    load_label_errors,
    load_noisy_labels,
    load_pyx,
)
from cifar_noisy.rounding import RoundingAnalysis, half_ulp_interval
from cifar_noisy.settings import METHODS
from cifar_noisy.verification import compare


@given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.sampled_from([20, 80, 400, 2000]))
@settings(max_examples=150, deadline=None)
def test_full_precision_never_leaves_the_bounds(seed: int, k: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(k), rng.integers(0, k, n)])
    exact = rng.dirichlet(np.full(k, 0.5), n + k)
    exact[np.arange(n + k), labels] += rng.uniform(0, 1)
    exact /= exact.sum(axis=1, keepdims=True)
    rounded = exact.astype(np.float16)
    found, bounds = label_errors(labels, exact), RoundingAnalysis(labels, rounded).bounds
    for method in METHODS:
        assert (bounds[method].certain <= found[method]).all(), method
        assert (found[method] <= bounds[method].possible).all(), method


def test_the_interval_is_what_rounds_to_the_number() -> None:
    every = np.arange(0, 0x3C01, dtype=np.uint16).view(np.float16)  # 0 to 1
    low, high = half_ulp_interval(every)
    inside = np.nextafter(low, 1), np.nextafter(high, 0)
    assert (inside[0].astype(np.float16) == every).all()
    assert (inside[1].astype(np.float16) == every).all()
    assert (np.nextafter(low[1:], 0).astype(np.float16) < every[1:]).all()
    assert (np.nextafter(high, 2).astype(np.float16) > every).all()


def test_wider_probabilities_were_not_rounded() -> None:
    with pytest.raises(InvalidInputError, match="only float16 was rounded"):
        RoundingAnalysis([0, 1], [[0.5, 0.5], [0.5, 0.5]])


@pytest.mark.parametrize(("noise", "sparsity"), [(0.2, 0.0), (0.4, 0.6), (0.7, 0.2), (0.7, 0.4)])
def test_random_bit_flips_come_out_unexplained(
    noise: float, sparsity: float, published: str
) -> None:
    labels, pyx = load_noisy_labels(noise, sparsity), load_pyx(noise, sparsity)
    rounding, recomputed = RoundingAnalysis(labels, pyx), label_errors(labels, pyx)
    rng = np.random.default_rng(0)
    for method in METHODS:
        wrong = load_label_errors(method, noise, sparsity, edition="2019")
        flipped = rng.choice(len(wrong), 1000, replace=False)
        wrong[flipped] ^= True
        differences = compare(recomputed[method], wrong, method, rounding, {})
        unexplained = {d.index for d in differences if d.is_unexplained}
        assert len(unexplained & set(flipped.tolist())) >= 990, method


def test_a_wrong_setting_or_method_is_no_rounding(published: str) -> None:
    labels, pyx = load_noisy_labels(0.4, 0.2), load_pyx(0.4, 0.2)
    rounding, recomputed = RoundingAnalysis(labels, pyx), label_errors(labels, pyx)
    for other in artifacts(kind="train_mask", noise=0.4, sparsity=0.4, edition="2021"):
        wrong = load_label_errors(str(other.method), 0.4, 0.4)
        differences = compare(recomputed["argmax"], wrong, "argmax", rounding, {})
        assert sum(difference.is_unexplained for difference in differences) > 1000
