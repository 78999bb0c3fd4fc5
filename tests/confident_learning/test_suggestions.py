"""Proposed labels: against a plain loop, cleanlab and the published files."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

from cifar_noisy import (
    InvalidInputError,
    UnknownArtifactError,
    label_errors,
    load_noisy_labels,
    load_pyx,
    load_true_labels,
    suggested_labels,
)
from cifar_noisy.settings import METHODS, Method
from tests import plain_confident_learning as plain
from tests.confident_learning.test_label_errors import CLEANLAB_NAMES, CheckedInput, problems


@given(problems())
@settings(max_examples=100, deadline=None)
def test_equals_the_plain_loop(problem: CheckedInput) -> None:
    labels, pyx = problem
    flagged = plain.label_errors(labels, pyx)
    predicted = [plain._argmax(row) for row in pyx]
    confident = plain._confident(labels, pyx, predicted)
    for method in METHODS:
        proposals = confident if method == "conf_joint_only" else predicted
        expected = [
            proposals[i] if flagged[method][i] else int(labels[i]) for i in range(len(labels))
        ]
        suggested = suggested_labels(labels, pyx, method=method)
        assert suggested.dtype == np.int64
        assert suggested.tolist() == expected, method


@given(problems())
@settings(max_examples=50, deadline=None)
def test_a_proposal_differs_exactly_where_flagged(problem: CheckedInput) -> None:
    labels, pyx = problem
    for method, flagged in label_errors(labels, pyx).items():
        changed = suggested_labels(labels, pyx, method=method) != labels
        np.testing.assert_array_equal(changed, flagged, err_msg=method)


@pytest.mark.parametrize("method", CLEANLAB_NAMES)
def test_equals_what_cleanlab_proposes(method: Method) -> None:
    from cleanlab.classification import CleanLearning

    # No row of this seed has equal remainders, which cleanlab takes in no defined order.
    rng = np.random.default_rng(8)
    true = rng.choice(5, 2_000)
    labels = np.where(rng.random(2_000) < 0.2, rng.choice(5, 2_000), true)
    pyx = rng.dirichlet(np.ones(5), 2_000)
    pyx[np.arange(2_000), true] += rng.uniform(0, 2, 2_000)
    pyx /= pyx.sum(axis=1, keepdims=True)
    options = {"filter_by": CLEANLAB_NAMES[method], "n_jobs": 1, "min_examples_per_class": 5}
    found = CleanLearning(find_label_issues_kwargs=options, seed=0).find_label_issues(
        labels=labels, pred_probs=pyx
    )
    issues = found["is_label_issue"].to_numpy()
    assert 100 < issues.sum() < 1_000
    theirs = np.where(issues, found["predicted_label"], found["given_label"])
    np.testing.assert_array_equal(suggested_labels(labels, pyx, method=method), theirs)


def test_published_files(published: str) -> None:
    labels, pyx = load_noisy_labels(0.4, 0.2), load_pyx(0.4, 0.2)
    found, predicted = label_errors(labels, pyx), pyx.argmax(axis=1)
    for method in METHODS:
        suggested = suggested_labels(labels, pyx, method=method)
        np.testing.assert_array_equal(suggested != labels, found[method])
        if method != "conf_joint_only":
            np.testing.assert_array_equal(suggested[found[method]], predicted[found[method]])
    # Taking the proposals leaves fewer wrong labels than there were.
    true = load_true_labels()
    assert (suggested_labels(labels, pyx) != true).mean() < 0.3 < (labels != true).mean()


def test_rows_of_pandas_are_put_in_order() -> None:
    labels = np.array([0] * 21 + [1] * 19)
    pyx = np.repeat([[0.9, 0.1], [0.2, 0.8]], 20, axis=0)
    expected = suggested_labels(labels, pyx)
    assert expected.tolist() == [0] * 20 + [1] * 20
    order = np.random.default_rng(0).permutation(40)
    series, frame = pd.Series(labels).iloc[order], pd.DataFrame(pyx).iloc[order]
    np.testing.assert_array_equal(suggested_labels(series, pyx), expected)
    np.testing.assert_array_equal(suggested_labels(labels, frame), expected)
    np.testing.assert_array_equal(suggested_labels(series, frame), expected[order])


@pytest.mark.parametrize("method", ["cl_pbn", "", None, 3])
def test_unknown_methods(method: Any) -> None:
    with pytest.raises(UnknownArtifactError, match="there are argmax"):
        suggested_labels([0, 1], [[0.9, 0.1], [0.2, 0.8]], method=method)


def test_rubbish() -> None:
    with pytest.raises(InvalidInputError, match="pass one label per row"):
        suggested_labels([0], [[0.9, 0.1], [0.2, 0.8]])
    with pytest.raises(InvalidInputError, match="pass integers"):
        suggested_labels([0.0, 1.0], [[0.9, 0.1], [0.2, 0.8]])


def test_the_inputs_stay_as_they_are() -> None:
    labels, pyx = (
        np.array([0, 0, 1], dtype=np.uint8),
        np.array([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8]]),
    )
    before = labels.copy(), pyx.copy()
    suggested_labels(labels, pyx, method="argmax")[:] = 9
    np.testing.assert_array_equal(labels, before[0])
    np.testing.assert_array_equal(pyx, before[1])
