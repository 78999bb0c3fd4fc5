"""The five methods: worked by hand, against a plain loop and against cleanlab."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cifar_noisy import (
    InvalidInputError,
    confident_joint,
    estimate_joint,
    estimate_noise_matrix,
    label_errors,
)
from cifar_noisy.confident_learning import keep_enough
from cifar_noisy.settings import METHODS, Method
from tests import plain_confident_learning as plain

Problem = tuple[NDArray[np.int64], NDArray[np.floating]]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Draw labels and probabilities with ties, tiny classes and classes that nobody predicts."""
    k = draw(st.integers(2, 20))
    n = draw(st.integers(k, 150))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weights = rng.dirichlet(np.full(k, draw(st.sampled_from([0.2, 1.0, 10.0]))))
    labels = np.concatenate([np.arange(k), rng.choice(k, n - k, p=weights)])
    pyx = rng.dirichlet(np.full(k, draw(st.sampled_from([0.1, 0.5, 3.0]))), n)
    pyx[np.arange(n), labels] += draw(st.sampled_from([0.0, 0.5, 2.0]))
    pyx /= pyx.sum(axis=1, keepdims=True)
    if draw(st.booleans()):
        unpredicted = draw(st.integers(0, k - 1))
        pyx[:, unpredicted] = pyx.min(axis=1)
    steps = draw(st.sampled_from([None, 4, 16, 64]))
    if steps is not None:  # Coarse probabilities tie all over.
        pyx = np.round(pyx * steps) / steps
    return labels, pyx.astype(draw(st.sampled_from([np.float16, np.float32, np.float64])))


@given(problems())
@settings(max_examples=300, deadline=None)
def test_equals_the_plain_loop(problem: Problem) -> None:
    found, expected = label_errors(*problem), plain.label_errors(*problem)
    assert list(found) == list(METHODS)
    for method in METHODS:
        np.testing.assert_array_equal(found[method], expected[method], err_msg=method)


@given(problems())
@settings(max_examples=100, deadline=None)
def test_joint_keeps_the_totals_of_the_given_labels(problem: Problem) -> None:
    labels, pyx = problem
    joint = confident_joint(labels, pyx)
    assert (joint >= 0).all()
    assert joint.sum(axis=1).tolist() == np.bincount(labels).tolist()
    assert estimate_joint(labels, pyx).sum() == pytest.approx(1)
    noise_matrix = estimate_noise_matrix(labels, pyx)
    unseen = joint.sum(axis=0) == 0
    assert np.isnan(noise_matrix[:, unseen]).all()
    np.testing.assert_allclose(noise_matrix[:, ~unseen].sum(axis=0), 1)


def test_worked_by_hand() -> None:
    # Ten examples a class. In class 0 two look like 1; in class 1 one looks like 0.
    labels = np.repeat([0, 1], 10)
    own = [0.9] * 8 + [0.2, 0.1] + [0.8] * 9 + [0.3]
    pyx = np.array([[p, 1 - p] if i < 10 else [1 - p, p] for i, p in enumerate(own)])
    # Thresholds 0.75 and 0.75: the eight of class 0 are confident in it, its two others (0.8, 0.9)
    # in class 1; of class 1 nine are confident, the last (0.7 for class 0) in neither.
    assert confident_joint(labels, pyx).tolist() == [[8, 2], [0, 10]]
    found = {
        method: np.flatnonzero(mask).tolist() for method, mask in label_errors(labels, pyx).items()
    }
    assert found == {
        "argmax": [8, 9, 19],
        "conf_joint_only": [8, 9],
        "cl_pbc": [8, 9],
        "cl_pbnr": [8, 9],
        "cl_both": [8, 9],
    }


def test_equal_remainders_are_taken_in_stable_order() -> None:
    # Row 0 scales to 7/3 each: one is missing, and of equal remainders the last entry gets it.
    labels = np.repeat([0, 1, 2], [7, 10, 10])
    pyx = np.full((27, 3), 0.05)
    for i, confident in enumerate([0, 0, 1, 1, 2, 2]):
        pyx[i, confident] = 0.9
    pyx[7:17, 1] = pyx[17:, 2] = 0.9
    pyx[6] = 0.2
    joint = confident_joint(labels, pyx)
    assert joint[0].tolist() == [2, 2, 3]


def test_a_diagonal_is_raised_evenly_and_cut_to_whole_numbers() -> None:
    # Class 0 lacks 3, from two donors: 1.5 each, and 4.5 and 0.5 are cut to 4 and 0.
    counts = np.array([[2, 6, 2, 0], [0, 9, 0, 0], [0, 0, 9, 0], [0, 0, 0, 9]])
    assert keep_enough(counts)[0].tolist() == [5, 4, 0, 0]


def test_classes_of_five_or_fewer_are_left_alone() -> None:
    labels = np.repeat([0, 1], [5, 20])
    pyx = np.tile([[0.1, 0.9]], (25, 1))
    found = label_errors(labels, pyx)
    assert found["argmax"][:5].all()
    for method in ("cl_pbc", "cl_pbnr", "cl_both"):
        assert not found[method].any()


def test_agrees_with_cleanlab_where_it_has_the_same_rules() -> None:
    from cleanlab.count import compute_confident_joint
    from cleanlab.filter import find_label_issues

    rng = np.random.default_rng(7)
    for _ in range(10):
        k, n = int(rng.integers(2, 9)), 20_000
        true = rng.integers(0, k, n)
        labels = (true + rng.choice(k, n, p=rng.dirichlet(np.ones(k)) / 2 + np.eye(k)[0] / 2)) % k
        pyx = rng.dirichlet(np.ones(k), n)
        pyx[np.arange(n), true] += rng.uniform(0, 2, n)
        pyx /= pyx.sum(axis=1, keepdims=True)
        found = label_errors(labels, pyx)
        joint, off_diagonal = compute_confident_joint(
            labels, pyx, return_indices_of_off_diagonals=True
        )
        # No row of this seed has equal remainders, which cleanlab takes in no defined order.
        np.testing.assert_array_equal(confident_joint(labels, pyx), joint)
        np.testing.assert_array_equal(np.flatnonzero(found["conf_joint_only"]), off_diagonal)
        names: dict[Method, str] = {
            "argmax": "predicted_neq_given",
            "cl_pbc": "prune_by_class",
            "cl_pbnr": "prune_by_noise_rate",
            "cl_both": "both",
        }
        for method, name in names.items():
            theirs = find_label_issues(
                labels, pyx, filter_by=name, n_jobs=1, min_examples_per_class=5
            )
            np.testing.assert_array_equal(found[method], theirs, err_msg=method)


@pytest.mark.parametrize(
    ("labels", "pyx", "said"),
    [
        ([0, 1], [[0.5, np.nan], [0.5, 0.5]], r"pyx\[0, 1\] is nan"),
        ([0, 1], [[0.5, 0.5], [-0.1, 0.5]], r"pyx\[1, 0\] is -0.1"),
        ([0, 1], [[0.5, 1.5], [0.5, 0.5]], r"pyx\[0, 1\] is 1.5"),
        ([0, 1], [0.5, 0.5], "a row per example"),
        ([0, 0], [[1.0], [1.0]], "2 at least"),
        ([0, 1], [[1, 0], [0, 1]], "dtype int64"),
        ([0, 2], [[0.5, 0.5], [0.5, 0.5]], r"labels\[1\] is 2"),
        ([0, -1], [[0.5, 0.5], [0.5, 0.5]], r"labels\[1\] is -1"),
        ([0, 1, 1], [[0.5, 0.5], [0.5, 0.5]], "one label per row"),
        ([0.0, 1.0], [[0.5, 0.5], [0.5, 0.5]], "dtype float64"),
        ([0, 0], [[0.5, 0.5], [0.5, 0.5]], "class 1 has no example"),
        ([0, 1], [[0.5, 0.5], [0.5]], "pyx is no array"),
        ([0, [1]], [[0.5, 0.5], [0.5, 0.5]], "labels is no array"),
    ],
)
def test_bad_input_is_named(labels: list[int], pyx: list[list[float]], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        label_errors(labels, pyx)
