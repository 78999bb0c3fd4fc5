"""The bounds hold for every rounding, and are tight enough that a wrong mask falls out of them."""

from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from cifar_noisy import (
    InvalidInputError,
    artifacts,
    confident_joint,
    label_errors,
    load_label_errors,
    load_noisy_labels,
    load_pyx,
)
from cifar_noisy.confident_learning.float16_bounds import RoundingAnalysis, half_ulp_interval
from cifar_noisy.confident_learning.label_errors import keep_enough
from cifar_noisy.evaluation.verification import compare
from cifar_noisy.settings import METHODS, Method


@given(
    seed=st.integers(0, 2**32 - 1),
    k=st.integers(2, 8),
    n=st.sampled_from([20, 80, 400, 2000]),
    spread=st.sampled_from([1.0, 0.03, 0.01, 0.003]),
    some=st.sampled_from(["all", "absent", "unpredicted"]),
)
@settings(max_examples=400, deadline=None)
def test_full_precision_never_leaves_the_bounds(
    seed: int, k: int, n: int, spread: float, some: str
) -> None:
    """A narrow spread leaves few float16 numbers to hold all probabilities, and much undecided."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(k), rng.integers(0, k, n)])
    if some == "absent":
        labels[labels == 0] = 1
    exact = rng.dirichlet(np.full(k, 0.5), n + k)
    exact[np.arange(n + k), labels] += rng.uniform(0, 1)
    exact = 0.25 + spread * exact / exact.sum(axis=1, keepdims=True) / 2
    if some == "unpredicted":  # about the least threshold, and the least float16
        exact[:, 0] = rng.uniform(-1, 1, n + k) * rng.choice([1e-8, 1e-7, 3e-6])
    rounded = exact.astype(np.float16)
    found, analysis = label_errors(labels, exact), RoundingAnalysis(labels, rounded)
    kept = keep_enough(confident_joint(labels, exact))
    assert (analysis.fewest_kept <= kept).all()
    assert (kept <= analysis.most_kept).all()
    for method in METHODS:
        assert (analysis.bounds[method].certain <= found[method]).all(), method
        assert (found[method] <= analysis.bounds[method].possible).all(), method


def test_the_threshold_is_uncertain_too() -> None:
    ulp = 2.0**-11  # of float16 at 0.5
    # In float16 the threshold of class 0 is 0.49 ulp above a half, and the last example, at 1 ulp,
    # was at least at 0.5. But in full precision the threshold was at 0.52 and the example below it.
    exact = np.full((102, 2), 0.1)
    exact[:51, 0] = 0.5 + 0.03 * ulp
    exact[51:100, 0] = 0.5 + 1.03 * ulp
    exact[100, 1] = 0.9
    exact[101, 0] = 0.5 + 0.505 * ulp
    labels = np.repeat([0, 1], [100, 2])
    found = label_errors(labels, exact)["conf_joint_only"]
    bounds = RoundingAnalysis(labels, exact.astype(np.float16)).bounds["conf_joint_only"]
    assert not found[101]
    assert bounds.undecided[101]


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
        wrong = load_label_errors(cast(Method, other.method), 0.4, 0.4)
        differences = compare(recomputed["argmax"], wrong, "argmax", rounding, {})
        assert sum(difference.is_unexplained for difference in differences) > 1000
