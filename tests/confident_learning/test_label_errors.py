"""The five methods: worked by hand, against a plain loop and against cleanlab."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from cifar_noisy import (
    InvalidInputError,
    confident_joint,
    estimate_joint,
    estimate_noise_matrix,
    label_error_scores,
    label_errors,
    load_noisy_labels,
    load_pyx,
)
from cifar_noisy.confident_learning.float16_bounds import RoundingAnalysis
from cifar_noisy.confident_learning.label_errors import keep_enough
from cifar_noisy.settings import CLASSES, METHODS, Method
from tests import plain_confident_learning as plain

CLEANLAB_NAMES: dict[Method, str] = {
    "argmax": "predicted_neq_given",
    "cl_pbc": "prune_by_class",
    "cl_pbnr": "prune_by_noise_rate",
    "cl_both": "both",
}

CheckedInput = tuple[NDArray[np.int64], NDArray[np.floating]]


@st.composite
def problems(draw: st.DrawFn) -> CheckedInput:
    """Draw problems with ties, tiny, absent and unpredicted classes, some of a few rows only."""
    k = draw(st.integers(2, 20))
    n = draw(st.integers(1, 12) | st.integers(1, 150))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weights = rng.dirichlet(np.full(k, draw(st.sampled_from([0.2, 1.0, 10.0]))))
    labels = rng.choice(k, n, p=weights)
    if draw(st.booleans()):  # each class as often as there is room
        labels[:k] = np.arange(k)[:n]
    pyx = rng.dirichlet(np.full(k, draw(st.sampled_from([0.1, 0.5, 3.0]))), n)
    pyx[np.arange(n), labels] += draw(st.sampled_from([0.0, 0.5, 2.0]))
    pyx /= pyx.sum(axis=1, keepdims=True)
    if draw(st.booleans()):
        unpredicted = draw(st.integers(0, k - 1))
        value = draw(st.sampled_from([None, 0.0, 1e-9, 3e-6]))
        pyx[:, unpredicted] = pyx.min(axis=1) if value is None else value
    steps = draw(st.sampled_from([None, 4, 16, 64]))
    if steps is not None:  # Coarse probabilities tie all over.
        pyx = np.round(pyx * steps) / steps
    return labels, pyx.astype(draw(st.sampled_from([np.float16, np.float32, np.float64])))


@given(problems())
@settings(max_examples=300, deadline=None)
def test_equals_the_plain_loop(problem: CheckedInput) -> None:
    found, expected = label_errors(*problem), plain.label_errors(*problem)
    assert list(found) == list(METHODS)
    for method in METHODS:
        np.testing.assert_array_equal(found[method], expected[method], err_msg=method)


@given(problems())
@settings(max_examples=100, deadline=None)
def test_joint_keeps_the_totals_of_the_given_labels(problem: CheckedInput) -> None:
    labels, pyx = problem
    joint = confident_joint(labels, pyx)
    assert (joint >= 0).all()
    assert joint.sum(axis=1).tolist() == np.bincount(labels, minlength=len(joint)).tolist()
    assert estimate_joint(labels, pyx).sum() == pytest.approx(1)
    noise_matrix = estimate_noise_matrix(labels, pyx)
    unseen = joint.sum(axis=0) == 0
    assert np.isnan(noise_matrix[:, unseen]).all()
    np.testing.assert_allclose(noise_matrix[:, ~unseen].sum(axis=0), 1)


@pytest.mark.parametrize("k", [0, 5])
def test_nobody_is_confident_in_a_class_of_probability_0(k: int, published: str) -> None:
    from cleanlab.count import compute_confident_joint

    labels, pyx = load_noisy_labels(0.4, 0.2), load_pyx(0.4, 0.2)
    pyx[:, k] = 0
    expected = compute_confident_joint(labels, pyx, return_indices_of_off_diagonals=True)
    joint = confident_joint(labels, pyx)
    np.testing.assert_array_equal(joint, expected[0])
    assert not np.delete(joint[:, k], k).any()
    found = label_errors(labels, pyx)["conf_joint_only"]
    np.testing.assert_array_equal(np.flatnonzero(found), expected[1])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rounding_errors_outside_0_to_1_are_taken_as_they_are(dtype: type[np.floating]) -> None:
    labels = np.repeat([0, 1], 20)
    labels[-1] = 0
    pyx = np.repeat([[0.9, 0.1], [0.0, 1.0]], 20, axis=0).astype(dtype)
    expected = label_errors(labels, pyx)
    pyx[20:] = [[-1e-17, 1 + 1e-7], [-9e-6, 1 + 9e-6]] * 10
    for method, found in label_errors(labels, pyx).items():
        np.testing.assert_array_equal(found, expected[method], err_msg=method)
    for scores in label_error_scores(labels, pyx).values():
        assert np.isfinite(scores).all()
    if dtype == np.float16:
        bounds = RoundingAnalysis(labels, pyx).bounds["argmax"]
        np.testing.assert_array_equal(bounds.certain, expected["argmax"])
        np.testing.assert_array_equal(bounds.possible, expected["argmax"])


def shuffled(values: Any, index: Any) -> Any:
    """Return a Series or DataFrame with the rows of an index, in its order."""
    return (pd.Series if np.ndim(values) == 1 else pd.DataFrame)(values).loc[index]


def test_masks_are_in_the_order_of_the_index() -> None:
    labels, pyx = np.repeat([0, 1], 20), np.repeat([[0.9, 0.1], [0.2, 0.8]], 20, axis=0)
    labels[-1] = 0  # a label error, example 39
    index = np.random.default_rng(0).permutation(40)
    position = int(np.flatnonzero(index == 39)[0])
    for problem, expected in (
        ((shuffled(labels, index), pyx), 39),
        ((labels, shuffled(pyx, index)), 39),
        ((shuffled(labels, index), shuffled(pyx, index)), position),
    ):
        for mask in label_errors(*problem).values():
            assert type(mask) is np.ndarray
            assert np.flatnonzero(mask).tolist() == [expected]


def test_rows_with_an_index_of_their_own_are_aligned(published: str) -> None:
    labels, pyx = load_noisy_labels(0.4, 0.2), load_pyx(0.4, 0.2)
    expected = label_errors(labels, pyx)["cl_pbnr"]
    one, other = np.random.default_rng(0).permutation(50_000), np.argsort(labels, kind="stable")
    series, frame = shuffled(labels, one), shuffled(pyx, other)
    numbered = pd.DataFrame(pyx)[[3, 1, 2, 0, 4, 5, 6, 7, 9, 8]]
    for problem in (
        (series, pyx), (labels, frame), (series, frame), (labels, numbered),
        (pd.Series(labels), numbered),
        (series, pd.DataFrame(pyx)), (pd.Series(labels[::-1], index=range(49_999, -1, -1)), pyx),
    ):  # fmt: skip
        np.testing.assert_array_equal(label_errors(*problem)["cl_pbnr"], expected)
    # Of one index, rows belong together as they stand, whatever it is: so does the mask.
    np.testing.assert_array_equal(
        label_errors(series, shuffled(pyx, one))["cl_pbnr"], expected[one]
    )
    names = [f"{i}.png" for i in one]
    named = series.set_axis(names), shuffled(pyx, one).set_axis(names)
    np.testing.assert_array_equal(label_errors(*named)["cl_pbnr"], expected[one])


@pytest.mark.parametrize(
    ("index", "shown"),
    [
        (["b", "a", "c"], "b, a, c, …, which is not 0 to 2"),
        ([0, 2, 1, 1], "0, 2, 1, …"),
        ([0.0, 1.0, 2.0], "0.0, 1.0, 2.0"),
        ([3, 1, 2], "3, 1, 2"),
        ([-1, 1, 0], "-1, 1, 0"),
        ([True, False, True], "True, False, True"),
        (pd.MultiIndex.from_product([[0, 1], [0, 1]]), r"\(0, 0\), \(0, 1\)"),
        (pd.date_range("2026", periods=3), "2026"),
        (pd.Index([0, 1, None], dtype="Int64"), "0, 1, <NA>"),
    ],
)
def test_an_index_that_says_no_example_is_refused(index: Any, shown: str) -> None:
    labels = pd.Series(np.arange(len(index)) % 2, index=index)
    with pytest.raises(InvalidInputError, match=rf"{shown}.*pass labels.to_numpy\(\) if"):
        label_errors(labels, np.full((len(index), 2), 0.5))


def test_the_rows_of_two_subsets_do_not_belong_together() -> None:
    pyx = pd.DataFrame(np.full((3, 2), 0.5), index=[1, 5, 9])
    with pytest.raises(InvalidInputError, match="the rows of pyx carry the index 1, 5, 9"):
        label_errors(pd.Series([0, 1, 1], index=[0, 5, 9]), pyx)
    label_errors(pd.Series([0, 1, 1], index=[1, 5, 9]), pyx)
    label_errors(np.array([0, 1, 1]), pyx)  # a subset in order
    with pytest.raises(InvalidInputError, match="the columns of pyx carry the index 2, 1, …"):
        label_errors([0, 1, 1], pyx.set_axis([2, 1], axis=1))


@pytest.mark.parametrize("columns", [list("0123456789"), np.arange(10.0), np.arange(10), CLASSES])
def test_columns_are_the_classes_that_they_name(columns: Any) -> None:
    """Numbers of a CSV's header are text; turned columns would be wrong without a word."""
    generator = np.random.default_rng(0)
    pyx = pd.DataFrame(generator.dirichlet(np.full(10, 0.3), 300), columns=columns)
    labels = generator.integers(0, 10, 300)
    shuffled = pyx.iloc[:, generator.permutation(10)]
    for method, errors in label_errors(labels, pyx.to_numpy()).items():
        assert np.array_equal(label_errors(labels, shuffled)[method], errors), method


def test_columns_of_other_names_stand_as_they_are() -> None:
    pyx = pd.DataFrame([[0.9, 0.1], [0.2, 0.8]], columns=["b", "a"])
    assert np.array_equal(
        label_errors([0, 1], pyx)["argmax"], label_errors([0, 1], pyx.to_numpy())["argmax"]
    )


def test_masked_entries_are_no_labels() -> None:
    labels = np.ma.masked_array([0, 1], mask=[False, True])
    with pytest.raises(InvalidInputError, match="labels has masked entries"):
        label_errors(labels, [[0.5, 0.5], [0.5, 0.5]])


def test_how_the_caller_has_set_numpy_changes_nothing(published: str) -> None:
    labels, pyx = load_noisy_labels(0.4, 0.2), load_pyx(0.4, 0.2)
    pyx[:, 3] = 0
    pyx[::3, 3] = 1e-6  # a mean that float16 has no number for
    for array in (pyx, pyx.astype(np.float64) ** 50):
        expected = label_errors(labels, array)
        with np.errstate(all="raise"):
            found = label_errors(labels, array)
        for method in METHODS:
            np.testing.assert_array_equal(found[method], expected[method])


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
        for method, name in CLEANLAB_NAMES.items():
            theirs = find_label_issues(
                labels, pyx, filter_by=name, n_jobs=1, min_examples_per_class=5
            )
            np.testing.assert_array_equal(found[method], theirs, err_msg=method)


@pytest.mark.parametrize("unpredicted", [False, True])
@pytest.mark.parametrize("kept", [range(1, 7), range(6), [0, 2, 3, 6], [4]])
@pytest.mark.filterwarnings("ignore:May not flag all label issues")
def test_absent_and_unpredicted_classes_are_as_in_cleanlab(
    kept: Sequence[int], unpredicted: bool
) -> None:
    from cleanlab.count import compute_confident_joint
    from cleanlab.filter import find_label_issues

    rng = np.random.default_rng(8)
    n = 20_000
    true, labels = rng.choice(kept, n), rng.choice(kept, n)
    labels = np.where(rng.random(n) < 0.7, true, labels)
    pyx = rng.dirichlet(np.ones(7), n)
    pyx[np.arange(n), true] += rng.uniform(0, 2, n)
    pyx /= pyx.sum(axis=1, keepdims=True)
    if unpredicted:
        pyx[:, kept[0]] = rng.uniform(0, 1e-9, n)  # no two alike: cleanlab cuts ties anyhow
    found = label_errors(labels, pyx)
    joint, off_diagonal = compute_confident_joint(labels, pyx, return_indices_of_off_diagonals=True)
    np.testing.assert_array_equal(confident_joint(labels, pyx), joint)
    np.testing.assert_array_equal(np.flatnonzero(found["conf_joint_only"]), off_diagonal)
    for method, name in CLEANLAB_NAMES.items():
        if len(kept) > 1:  # of one class alone cleanlab prunes nothing by any count
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
        ([], np.zeros((0, 2)), "1 at least"),
        ([0, 1], [[1, 0], [0, 1]], "dtype int64"),
        ([0, 2], [[0.5, 0.5], [0.5, 0.5]], r"labels\[1\] is 2"),
        ([0, -1], [[0.5, 0.5], [0.5, 0.5]], r"labels\[1\] is -1"),
        ([0, 1, 1], [[0.5, 0.5], [0.5, 0.5]], "one label per row"),
        ([0.0, 1.0], [[0.5, 0.5], [0.5, 0.5]], "dtype float64"),
        ([0, 1], [[0.5, 0.5], [0.5]], "pyx is no array"),
        ([0, [1]], [[0.5, 0.5], [0.5, 0.5]], "labels is no array"),
        ({0, 1}, [[0.5, 0.5], [0.5, 0.5]], "labels is a set, which has no order: pass a list or"),
        ({0: 1, 1: 0}, [[0.5, 0.5], [0.5, 0.5]], "labels is a dict, which has no order"),
    ],
)
def test_bad_input_is_named(labels: Any, pyx: list[list[float]], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        label_errors(labels, pyx)


@pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
def test_numbers_of_the_other_byte_order_are_taken(kind: str) -> None:
    rng = np.random.default_rng(0)
    pyx = rng.dirichlet(np.ones(5), 200).astype(f"<{kind}")
    labels = rng.integers(0, 5, 200)
    expected = label_errors(labels, pyx)
    found = label_errors(labels.astype(">i8"), pyx.astype(f">{kind}"))
    for method, mask in expected.items():
        np.testing.assert_array_equal(found[method], mask)
