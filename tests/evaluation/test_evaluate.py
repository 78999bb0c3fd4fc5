"""Evaluation against plain loops, scikit-learn and cleanlab, and what it says of bad input."""

import json
import math
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import cleanlab.rank
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
import torch
from numpy.typing import NDArray

import cifar_noisy
import conftest
from cifar_noisy import (
    CLASSES,
    EDITIONS,
    METHODS,
    SETTINGS,
    Detection,
    InvalidInputError,
    SuspectMaskWarning,
    UnknownArtifactError,
    evaluate,
    evaluate_published,
    evaluate_pyx,
    label_error_scores,
    load_noise_matrix,
    load_noisy_labels,
    load_pyx,
    load_train_mask,
    load_true_labels,
)
from cifar_noisy.loading.row_order import from_imagefolder_order
from cifar_noisy.settings import Method, Setting
from tests.cli.test_app import run
from tests.json_schemas import answer_of

RATES = ("precision", "recall", "f1", "accuracy")
GIVEN, TRUE = load_noisy_labels(0.4, 0.2), load_true_labels()
IS_ERROR: NDArray[np.bool_] = np.not_equal(GIVEN, TRUE)


def noisy_scores(seed: int = 0, *, digits: int | None = None) -> NDArray[np.float64]:
    """Return scores that say something of the truth; few digits make ties."""
    scores: NDArray[np.float64] = IS_ERROR + np.random.default_rng(seed).normal(size=len(IS_ERROR))
    return scores if digits is None else scores.round(digits)


def noisy_mask(share_flipped: float = 0.2) -> NDArray[np.bool_]:
    flipped: NDArray[np.bool_] = np.random.default_rng(1).random(len(IS_ERROR)) < share_flipped
    return np.not_equal(IS_ERROR, flipped)


def detection(mask: NDArray[np.bool_], noise: float = 0.4, sparsity: float = 0.2) -> Detection:
    found = evaluate(mask, noise, sparsity).detection
    assert found is not None
    return found


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is not at hand be absent at once."""
    monkeypatch.setenv("CIFAR_NOISY_OFFLINE", "1")


def by_loop(mask: NDArray[np.bool_], rows: NDArray[np.bool_]) -> dict[str, float]:
    """Count one row at a time."""
    counts = {"n_examples": 0, "n_errors": 0, "n_found": 0, "n_correct": 0}
    n_right = 0
    for given, true, flagged, counted in zip(GIVEN, TRUE, mask, rows, strict=True):
        if counted:
            counts["n_examples"] += 1
            counts["n_errors"] += int(given != true)
            counts["n_found"] += int(flagged)
            counts["n_correct"] += int(flagged and given != true)
            n_right += int(flagged == (given != true))
    precision = counts["n_correct"] / counts["n_found"]
    recall = counts["n_correct"] / counts["n_errors"]
    f1 = 2 * precision * recall / (precision + recall)
    accuracy = n_right / counts["n_examples"]
    return {**counts, "precision": precision, "recall": recall, "f1": f1, "accuracy": accuracy}


def test_a_mask_as_a_plain_loop_counts_it() -> None:
    mask = noisy_mask()
    found = detection(mask)
    everything = np.ones_like(mask)
    expected = by_loop(mask, everything)
    assert {name: getattr(found, name) for name in expected} == pytest.approx(expected, abs=1e-15)
    for by, labels in (("given", GIVEN), ("true", TRUE)):
        parts = found.breakdown(cast(Any, by))
        assert [part.name for part in parts] == list(CLASSES)
        expected = by_loop(mask, labels == 3)
        assert {name: getattr(parts[3], name) for name in expected} == pytest.approx(expected)


def test_a_mask_as_scikit_learn_has_it() -> None:
    mask = noisy_mask()
    found = detection(mask)
    precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(
        IS_ERROR, mask, average="binary"
    )
    accuracy = sklearn.metrics.accuracy_score(IS_ERROR, mask)
    rates = [getattr(found, name) for name in RATES]
    assert rates == pytest.approx([precision, recall, f1, accuracy])
    names = ("name", "n_examples", "n_errors", "n_found", "n_correct", *RATES)
    assert found.row() == {
        "noise": 0.4, "sparsity": 0.2, **{name: getattr(found, name) for name in names}
    }  # fmt: skip


def test_pairs_hold_all_examples_and_have_a_recall_off_the_diagonal_alone() -> None:
    mask = noisy_mask()
    pairs = detection(mask).breakdown("pair")
    assert sum(pair.n_examples for pair in pairs) == 50_000
    assert sum(pair.n_found for pair in pairs) == mask.sum()
    for k, pair in enumerate(pairs):
        i, j = divmod(k, 10)
        cell: NDArray[np.bool_] = np.equal(GIVEN * 10 + TRUE, k)
        assert pair.name == f"given {CLASSES[i]}, true {CLASSES[j]}"
        assert (pair.n_examples, pair.n_found) == (cell.sum(), mask[cell].sum())
        if i == j or not cell.any():
            assert (pair.precision, pair.recall, pair.f1) == (None, None, None)
        else:
            assert pair.recall == pytest.approx(mask[cell].mean())
        assert (pair.accuracy is None) == (not cell.any())
    with pytest.raises(UnknownArtifactError, match=r"by 'class' is unknown: .*given, true, pair"):
        detection(mask).breakdown(cast(Any, "class"))


@pytest.mark.parametrize("digits", [None, 1, 0])
def test_a_score_as_scikit_learn_has_it(digits: int | None) -> None:
    scores = noisy_scores(digits=digits)
    result = evaluate(scores, 0.4, 0.2)
    ranking, found = result.ranking, result.detection
    assert ranking is not None
    assert found is not None
    expected = sklearn.metrics.average_precision_score(IS_ERROR, scores)
    assert ranking.average_precision == pytest.approx(expected)
    assert ranking.roc_auc == pytest.approx(sklearn.metrics.roc_auc_score(IS_ERROR, scores))
    # F1 of every cut, one by one where there are few, of some where there are many.
    cuts = np.unique(scores)[:: 1 if digits is not None else 500]
    f1_of_cuts = [sklearn.metrics.f1_score(IS_ERROR, scores >= cut) for cut in cuts]
    assert ranking.best_f1 is not None
    assert ranking.best_f1 >= max(f1_of_cuts) - 1e-12
    assert ranking.best_f1 == pytest.approx(max(f1_of_cuts), abs=0 if digits is not None else 1e-3)
    assert ranking.best_cut is not None
    at_cut = sklearn.metrics.f1_score(IS_ERROR, scores >= ranking.best_cut)
    assert ranking.best_f1 == pytest.approx(at_cut)
    assert found.f1 == pytest.approx(at_cut)
    assert found.name == "yours, at best F1"


@pytest.mark.parametrize("digits", [None, 1, 0])
def test_precision_at_the_number_of_errors_is_the_mean_over_orders_of_ties(
    digits: int | None,
) -> None:
    scores = noisy_scores(digits=digits)
    ranking = evaluate(scores, 0.4, 0.2).ranking
    assert ranking is not None
    shuffles = np.random.default_rng(2)
    precisions = []
    for _ in range(1 if digits is None else 200):
        shuffled = shuffles.permutation(len(scores))
        first = shuffled[np.argsort(-scores[shuffled], kind="stable")][: IS_ERROR.sum()]
        precisions.append(IS_ERROR[first].mean())
    spread = np.std(precisions) / math.sqrt(len(precisions))
    assert ranking.precision_at_n_errors == pytest.approx(
        np.mean(precisions), abs=4 * spread + 1e-12
    )


def test_a_perfect_score_and_the_scores_of_other_dtypes() -> None:
    ranking = evaluate(IS_ERROR.astype(np.float16), 0.4, 0.2).ranking
    assert ranking is not None
    assert ranking.best_cut == 1
    values = (ranking.average_precision, ranking.roc_auc, ranking.best_f1)
    assert (*values, ranking.precision_at_n_errors) == (1, 1, 1, 1)
    wide = evaluate(noisy_scores(digits=1), 0.4, 0.2)
    as_list = evaluate(noisy_scores(digits=1).tolist(), 0.4, 0.2)
    assert wide == as_list


def test_scores_are_those_of_cleanlab(published: str) -> None:
    pyx = load_pyx(0.4, 0.2)
    for name, scores in label_error_scores(GIVEN, pyx).items():
        theirs = cleanlab.rank.get_label_quality_scores(GIVEN, pyx.astype(np.float64), method=name)
        np.testing.assert_allclose(scores, 1 - theirs, atol=1e-12)


def test_the_published_methods_stand_beside(published: str) -> None:
    for edition in EDITIONS:
        result = evaluate(noisy_mask(), 0.4, 0.2, edition=edition)
        assert (result.edition, result.published_missing) == (edition, None)
        assert [row.name for row in result.published] == list(METHODS)
        for row in result.published:
            kept = load_train_mask(cast(Method, row.name), 0.4, 0.2, edition=edition)
            assert row.f1 == pytest.approx(sklearn.metrics.f1_score(IS_ERROR, ~kept))
    assert evaluate(noisy_mask(), 0.4, 0.2).edition == "2019"
    assert evaluate(noisy_mask(), 0).edition == "2021"
    with pytest.raises(UnknownArtifactError, match="edition 2019 does not exist for noise 0"):
        evaluate(noisy_mask(), 0, edition="2019")


def test_without_the_published_files_the_reason_is_there() -> None:
    result = evaluate(noisy_mask(), 0.4, 0.2)
    assert result.detection is not None
    assert result.published == ()
    assert "could not be had" in str(result.published_missing)
    result = evaluate(noisy_mask(), 0.9, 0)
    assert (result.published, result.edition) == ((), None)
    assert result.published_missing == "no method was published at noise 0.9"
    unknown: Any = "2020"
    with pytest.raises(UnknownArtifactError, match="edition '2020' is unknown"):
        evaluate(noisy_mask(), 0.9, 0, edition=unknown)


def test_rows_in_torchvision_order_come_out_the_same(published: str) -> None:
    mask, scores, pyx = noisy_mask(), noisy_scores(), load_pyx(0.4, 0.2)
    for evaluation, rows in ((evaluate, mask), (evaluate, scores), (evaluate_pyx, pyx)):
        other: Any = from_imagefolder_order(rows, "torchvision")
        assert evaluation(other, 0.4, 0.2, order="torchvision") == evaluation(rows, 0.4, 0.2)
    unknown: Any = "cifar"
    with pytest.raises(UnknownArtifactError, match="order 'cifar' is unknown"):
        evaluate(mask, 0.4, 0.2, order=unknown)


def test_no_errors_to_find() -> None:
    found = detection(noisy_mask(), 0, 0)
    assert (found.precision, found.recall, found.f1) == (None, None, None)
    assert found.accuracy == pytest.approx((~noisy_mask()).mean())
    result = evaluate(noisy_scores(), 0)
    assert result.detection is None
    assert (result.detections, len(result.rankings)) == ((), 1)
    assert set(vars(result.rankings[0]).values()) == {"yours", None, Setting(0, 0)}


def test_nothing_and_everything_found() -> None:
    nothing = detection(np.zeros(50_000, bool))
    assert (nothing.precision, nothing.recall, nothing.f1) == (None, 0, 0)
    assert nothing.accuracy == pytest.approx((~IS_ERROR).mean())
    everything = detection(np.ones(50_000, bool))
    assert everything.precision == pytest.approx(IS_ERROR.mean())
    assert everything.recall == 1


with_nan, with_inf = noisy_scores(), noisy_scores()
with_nan[7], with_inf[9] = np.nan, -np.inf


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([], r"found has shape \(0,\): pass a bool mask or float scores of shape \(50000,\)"),
        (noisy_mask()[:-1], r"found has shape \(49999,\)"),
        (noisy_scores()[:, None], r"found has shape \(50000, 1\)"),
        (np.float64(3), r"found has shape \(\)"),
        (np.flatnonzero(IS_ERROR), r"indices of label errors, make a mask of them \(mask = np.ze"),
        (np.arange(50_000), r"found holds int64 of shape \(50000,\): if these are indices"),
        (IS_ERROR.astype(np.uint8), r"holds 0 and 1: pass found.astype\(bool\), True = label err"),
        (IS_ERROR.astype(object), "found has dtype object"),
        (IS_ERROR.astype(str), "found has dtype <U5"),
        (noisy_scores().astype(complex), "found has dtype complex128"),
        ([[0.5], [0.5, 0.1]], "found is no array"),
        (with_nan, r"found\[7\] is nan, as are 0 others not finite"),
        (with_inf, r"found\[9\] is -inf"),
        (np.full(50_000, 0.25), "found is constant: a score of 0.25 for every example"),
    ],
)
def test_bad_input_is_named(found: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        evaluate(found, 0.4, 0.2)


@pytest.mark.parametrize(
    ("pyx", "message"),
    [
        (np.zeros((50_000, 9)), r"pyx has shape \(50000, 9\): pass a row for each of the 50,000"),
        (np.zeros((9, 10)), r"pyx has shape \(9, 10\)"),
        (np.zeros((50_000, 10), np.int64), "pyx has dtype int64"),
        (np.full((50_000, 10), np.nan), r"pyx\[0, 0\] is nan: probabilities lie between 0 and 1"),
        (np.full((50_000, 10), 1.5), r"pyx\[0, 0\] is 1.5"),
        (np.full((50_000, 10), 0.1), "its self_confidence is constant"),
        ([[1], [1, 2]], "pyx is no array"),
    ],
)
def test_bad_probabilities_are_named(pyx: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        evaluate_pyx(pyx, 0.4, 0.2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("noise", [0, 0.2, 0.7])
def test_a_published_train_mask_is_recognised(method: Method, noise: float, published: str) -> None:
    keep = load_train_mask(method, noise, 0)
    expected = re.escape(f"the published train mask of {method}, where True means keep")
    with pytest.warns(SuspectMaskWarning, match=expected):
        evaluate(keep, noise, 0)
    evaluate(~keep, noise, 0)  # warnings are errors here


def test_polarity_of_masks_and_scores_of_ones_own() -> None:
    with pytest.warns(SuspectMaskWarning, match=r"flags right labels .*pass ~found if True means"):
        evaluate(~noisy_mask(), 0.4, 0.2)
    with pytest.warns(SuspectMaskWarning, match=r"ranks first right labels .*pass -found"):
        evaluate(-noisy_scores(), 0.4, 0.2)


def test_other_editions_train_masks_are_recognised_too(published: str) -> None:
    for setting in cifar_noisy.SETTINGS:
        if setting.noise and setting.has_probabilities:
            keep = load_train_mask("cl_both", setting.noise, setting.sparsity, edition="2021")
            with pytest.warns(SuspectMaskWarning, match="True means keep"):
                evaluate(keep, setting.noise, setting.sparsity, edition="2019")


def test_what_is_not_certain_is_not_said(published: str) -> None:
    random = np.random.default_rng(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for share in (0.001, 0.1, 0.5, 0.9):
            for _ in range(20):
                evaluate(random.random(50_000) < share, 0.4, 0.2)
        evaluate(random.random(50_000), 0.4, 0.2)
        evaluate(noisy_mask(0.49), 0.4, 0.2)
        evaluate(GIVEN == 3, 0.4, 0.2)  # whole classes
        evaluate(TRUE == 3, 0.4, 0.2)


def test_rows_in_the_other_order_are_recognised(published: str) -> None:
    for rows, evaluation in (
        (noisy_mask(), evaluate),
        (noisy_scores(), evaluate),
        (load_pyx(0.4, 0.2), evaluate_pyx),
    ):
        other: Any = from_imagefolder_order(rows, "torchvision")
        with pytest.warns(SuspectMaskWarning, match="pass order='torchvision'"):
            evaluation(other, 0.4, 0.2)
        with pytest.warns(SuspectMaskWarning, match="pass order='imagefolder'"):
            evaluation(rows, 0.4, 0.2, order="torchvision")


PERMUTED = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
REARRANGED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "reversed": (lambda pyx: pyx[:, ::-1], ") were reversed: pass pyx[:, ::-1]"),
    "rolled": (
        lambda pyx: np.roll(pyx, 3, axis=1),
        ") were rolled by 3: pass np.roll(pyx, -3, axis=1)",
    ),
    "swapped": (lambda pyx: pyx[:, [0, 1, 2, 5, 4, 3, 6, 7, 8, 9]], "pass pyx[:, [0, 1, 2, 5, 4"),
    "permuted": (lambda pyx: pyx[:, PERMUTED], ") were in another order: pass pyx[:, ["),
    "1 - p": (lambda pyx: 1 - pyx, "looks like 1 - p or a distance"),
    "distance": (lambda pyx: np.abs(np.log(pyx + 1e-7)) / 20, "looks like 1 - p or a distance"),
}


@pytest.mark.parametrize("kind", REARRANGED)
def test_what_columns_look_like_is_said(kind: str, published: str) -> None:
    rearrange, said = REARRANGED[kind]
    for setting in SETTINGS[::3]:
        # At noise 0.7, what is more than the simplest is doubted too, but not sure to be named.
        if setting.noise < (0.9 if kind in ("reversed", "rolled", "1 - p") else 0.7):
            pyx = load_pyx(setting.noise, setting.sparsity)
            with pytest.warns(SuspectMaskWarning, match=re.escape(said)) as caught:
                evaluate_pyx(rearrange(pyx.astype(np.float32)), setting)
            assert caught[0].filename == __file__
            message = str(caught[0].message)
            if "another order" in message:  # what is to be passed mends it
                columns = json.loads(message.rpartition("pyx[:, ")[2].removesuffix("]"))
                np.testing.assert_array_equal(rearrange(pyx)[:, columns], pyx)


def test_rows_in_the_other_order_and_columns_besides(published: str) -> None:
    pyx, scores = (
        load_pyx(0.4, 0.2, order="torchvision"),
        from_imagefolder_order(noisy_scores(), "torchvision"),
    )
    with pytest.warns(SuspectMaskWarning, match=r"in torchvision order .*it also .* reversed"):
        evaluate_pyx(pyx[:, ::-1], 0.4, 0.2)
    with pytest.warns(SuspectMaskWarning, match=r"in torchvision order .*it also .* pass -found"):
        evaluate(-scores, 0.4, 0.2)


def test_probabilities_that_are_as_they_should_be_are_not_suspected(published: str) -> None:
    random, identity = np.random.default_rng(0), np.eye(10)
    for setting in SETTINGS:
        if setting.has_probabilities:
            evaluate_pyx(load_pyx(setting.noise, setting.sparsity), setting)  # no warning
    for setting in SETTINGS[1::5]:
        given = load_noisy_labels(setting.noise, setting.sparsity)
        by_noise = load_noise_matrix(setting.noise, setting.sparsity).T[TRUE]
        suspects = [
            (identity[given] + by_noise) / 2,
            identity[TRUE],
            identity[by_noise.argmax(axis=1)],  # what a learner of the noisy labels comes to
            *(share * identity[TRUE] + (1 - share) * by_noise for share in (0.1, 0.3, 0.6)),
            identity[np.array([2, 1, 2, 3, 4, 3, 3, 4, 1, 9])[TRUE]],  # only some classes
            random.dirichlet(np.full(10, 0.2), 50_000),
        ]
        for pyx in suspects:
            evaluate_pyx(pyx, setting)


OTHER_PROBABILITIES = conftest.REPOSITORY.parent / "shared" / "label_sets"


@pytest.mark.parametrize(
    "file",
    sorted(OTHER_PROBABILITIES.rglob("pred_probs.npy")),
    ids=lambda file: f"{file.parts[-3]}, {file.parts[-2].rpartition('_cv_')[2]}",
)
def test_probabilities_of_other_networks_are_not_suspected(file: Path) -> None:
    true_labels = next(file.parent.parent.rglob("true_labels.npy"))  # in the order of the rows
    pyx = np.load(file)[np.argsort(np.load(true_labels), kind="stable")]
    for setting in SETTINGS[::4]:
        evaluate_pyx(pyx, setting)  # warnings are errors here


def test_rows_that_carry_an_index_are_aligned(published: str) -> None:
    index = np.random.default_rng(0).permutation(50_000)
    for rows, evaluation in (
        (noisy_mask(), evaluate),
        (noisy_scores(), evaluate),
        (load_pyx(0.4, 0.2), evaluate_pyx),
    ):
        values: Any = rows
        carried: Any = (pd.Series if rows.ndim == 1 else pd.DataFrame)(values).loc[index]
        assert evaluation(carried, 0.4, 0.2) == evaluation(values, 0.4, 0.2)
        by_score = carried.iloc[::-1]
        assert evaluation(by_score, 0.4, 0.2) == evaluation(values, 0.4, 0.2)
        with pytest.raises(InvalidInputError, match=r"carry the index .* not 0 to 49,999"):
            evaluation(carried.set_axis([f"{i}.png" for i in index]), 0.4, 0.2)
        with pytest.raises(InvalidInputError, match=r"carry the index .* not 0 to 49,999"):
            evaluation(carried.set_axis(index // 2), 0.4, 0.2)
        tensor: Any = torch.from_numpy(values)
        assert evaluation(tensor, 0.4, 0.2) == evaluation(values, 0.4, 0.2)


def test_the_setting_is_never_guessed_and_always_named(published: str, tmp_path: Path) -> None:
    mask, said = noisy_mask(), r"sparsity is missing: noise=0.4 was published for sparsity= 0, 0.2"
    for evaluation, rows in (
        (evaluate, mask), (evaluate, noisy_scores()), (evaluate_pyx, load_pyx(0.4, 0.2)),
        (lambda _, noise: evaluate_published(noise), mask),
    ):  # fmt: skip
        what: Any = evaluation
        with pytest.raises(UnknownArtifactError, match=said):
            what(rows, 0.4)
    with pytest.raises(UnknownArtifactError, match=r"noise 0\.6 was not published"):
        evaluate(mask, 0.6)
    command = run("evaluate", saved(tmp_path, mask), "--noise", "0.4")
    assert (command.returncode, command.stdout) == (2, "")
    assert "sparsity is missing" in command.stderr
    setting = Setting(0.4, 0.6)
    results = (
        evaluate(mask, setting), evaluate(noisy_scores(), setting),
        evaluate_pyx(load_pyx(0.4, 0.6), setting),
    )  # fmt: skip
    for result in results:
        for part in (result, *result.detections, *result.rankings, *result.published):
            assert part.setting == setting
            assert repr(setting) in repr(part)
        pairs = result.detections[0].breakdown("pair")
        named = [part.row() for part in (*result.detections, *pairs)]
        for row in named + [ranking.row() for ranking in result.rankings]:
            assert {"noise": 0.4, "sparsity": 0.6}.items() <= row.items()
    assert evaluate(mask, 0).setting == Setting(0, 0)


def test_how_the_caller_has_set_numpy_and_pandas_changes_nothing(published: str) -> None:
    pyx = load_pyx(0.4, 0.2).astype(np.float64) ** 30  # squares of these are less than any float
    expected = evaluate_pyx(pyx, 0.4, 0.2), evaluate(noisy_scores(), 0.4, 0.2)
    with np.errstate(all="raise"), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (evaluate_pyx(pyx, 0.4, 0.2), evaluate(noisy_scores(), 0.4, 0.2)) == expected
        filters, state = list(warnings.filters), np.geterr()
        evaluate(noisy_mask(), 0.4, 0.2)
        assert (warnings.filters, np.geterr()) == (filters, state)


def test_the_caller_keeps_the_state_of_random() -> None:
    program = (
        "import random, numpy as np, cifar_noisy\n"
        "random.seed(0)\n"
        "before = random.getstate(), str(np.random.get_state())\n"
        "cifar_noisy.evaluate(np.arange(50_000.0), 0.4, 0.2)\n"
        "cifar_noisy.evaluate_pyx(np.random.default_rng(0).random((50_000, 10)), 0.4, 0.2)\n"
        "cifar_noisy.load_noise_matrix(0.4, 0.2)\n"
        "print(before == (random.getstate(), str(np.random.get_state())))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout == "True\n"


def test_means_of_softmax_outputs_are_evaluated_as_they_are(published: str) -> None:
    pyx = load_pyx(0.4, 0.2).astype(np.float64)
    expected = evaluate_pyx(pyx, 0.4, 0.2)
    pyx[pyx > 0.9999] = 1 + 1e-7
    pyx[pyx == 0] = -1e-17
    result = evaluate_pyx(pyx, 0.4, 0.2)
    assert result.detections == expected.detections
    assert result.against_true.ece == pytest.approx(expected.against_true.ece, abs=1e-4)
    for ranking in result.rankings:
        assert np.isfinite([v for v in ranking.row().values() if not isinstance(v, str)]).all()


def test_arrays_of_any_memory_are_read_only_read(published: str, tmp_path: Path) -> None:
    for rows, evaluation in (
        (noisy_mask(), evaluate), (noisy_scores(), evaluate), (load_pyx(0.4, 0.2), evaluate_pyx)
    ):  # fmt: skip
        what: Any = evaluation
        expected = what(rows, 0.4, 0.2)
        mapped = np.load(saved(tmp_path, rows), mmap_mode="r")
        frozen = rows.copy()
        frozen.flags.writeable = False
        for other in (mapped, frozen, np.asfortranarray(rows), np.repeat(rows, 2, axis=0)[::2]):
            assert what(other, 0.4, 0.2) == expected
        np.testing.assert_array_equal(mapped, rows)


def test_the_fit_of_probabilities(published: str) -> None:
    pyx = load_pyx(0.4, 0.2).astype(np.float64)
    pyx /= pyx.sum(axis=1, keepdims=True)  # scikit-learn wants rows that sum to 1
    result = evaluate_pyx(pyx, 0.4, 0.2)
    for fit, labels in ((result.against_given, GIVEN), (result.against_true, TRUE)):
        assert fit.accuracy == sklearn.metrics.accuracy_score(labels, pyx.argmax(axis=1))
        brier = sklearn.metrics.brier_score_loss(labels, pyx, labels=range(10), scale_by_half=False)
        assert fit.brier == pytest.approx(brier)
        assert fit.ece == pytest.approx(ece_by_loop(pyx, labels))
    names = [ranking.name for ranking in result.rankings]
    assert names == ["self_confidence", "normalized_margin"]
    for ranking, scores in zip(
        result.rankings, label_error_scores(GIVEN, pyx).values(), strict=True
    ):
        assert ranking.roc_auc == pytest.approx(sklearn.metrics.roc_auc_score(IS_ERROR, scores))
    for row, (method, mask) in zip(
        result.detections, cifar_noisy.label_errors(GIVEN, pyx).items(), strict=True
    ):
        assert row.name == method
        assert row.f1 == pytest.approx(sklearn.metrics.f1_score(IS_ERROR, mask))


def ece_by_loop(pyx: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    confidence, is_hit = pyx.max(axis=1), pyx.argmax(axis=1) == labels
    total = 0.0
    for k in range(15):
        inside = (confidence >= k / 15) & ((confidence < (k + 1) / 15) | (k == 14))
        if inside.any():
            gap = abs(confidence[inside].mean() - is_hit[inside].mean())
            total += inside.mean() * gap
    return total


def test_the_calibration_error_of_two_bins_by_hand() -> None:
    """Let half be 95 % sure and always right, the others, a bin below, 92 % and always wrong."""
    rows, first_half = np.arange(50_000), np.arange(50_000) % 2 == 0
    pyx = np.zeros((50_000, 10))
    pyx[rows, np.where(first_half, TRUE, (TRUE + 1) % 10)] = np.where(first_half, 0.95, 0.92)
    fit = evaluate_pyx(pyx, 0.4, 0.2).against_true
    assert fit.accuracy == 0.5
    assert fit.ece == pytest.approx((0.05 + 0.92) / 2)
    assert fit.brier == pytest.approx((0.05**2 + 0.92**2 + 1) / 2)


@pytest.mark.parametrize(
    ("noise", "bound", "against_true", "against_given"),
    [(0, 1, 0.858, 0.858), (0.2, 0.801, 0.804, 0.651), (0.4, 0.601, 0.754, 0.478),
     (0.7, 0.356, 0.383, 0.279)],
)  # fmt: skip
def test_the_published_probabilities_stay_under_the_bound_of_the_noise(
    noise: float, bound: float, against_true: float, against_given: float, published: str
) -> None:
    result = evaluate_pyx(load_pyx(noise, 0), noise, 0)
    assert round(result.accuracy_bound, 3) == bound
    assert round(result.against_true.accuracy, 3) == against_true
    assert round(result.against_given.accuracy, 3) == against_given
    assert result.setting == Setting(noise, 0)


def test_the_bound_is_the_accuracy_of_who_knows_every_true_label() -> None:
    best = np.zeros((50_000, 10))
    for true in range(10):
        best[true == TRUE, np.bincount(GIVEN[true == TRUE]).argmax()] = 1
    result = evaluate_pyx(best, 0.4, 0.2)
    assert result.against_given.accuracy == result.accuracy_bound


def saved(folder: Path, array: Any) -> str:
    np.save(folder / "mine.npy", array)
    return str(folder / "mine.npy")


def test_the_command(published: str, tmp_path: Path) -> None:
    file = saved(tmp_path, noisy_scores())
    arguments = ("evaluate", file, "--noise", "0.4", "--sparsity", "0.2")
    result = run(*arguments)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("noise 0.4, sparsity 0.2\n")
    assert "yours, at best F1" in result.stdout
    assert "cl_pbnr 2019" in result.stdout
    answer = answer_of(run(*arguments, "--json", "--by", "pair").stdout, "evaluate")
    expected = evaluate(noisy_scores(), 0.4, 0.2)
    assert answer["detection"]["f1"] == expected.detections[0].f1
    assert (answer["noise"], answer["sparsity"]) == (0.4, 0.2)
    assert answer["ranking"]["roc_auc"] == expected.rankings[0].roc_auc
    assert [row["name"] for row in answer["published"]] == list(METHODS)
    assert len(answer["breakdown"]["yours, at best F1"]) == 100


def test_the_command_on_probabilities_and_in_the_other_order(
    published: str, tmp_path: Path
) -> None:
    file = saved(tmp_path, load_pyx(0.4, 0.2, order="torchvision"))
    arguments = ("evaluate", file, "--noise", "0.4", "--sparsity", "0.2", "--order", "torchvision")
    result = run(*arguments, "--by", "given")
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(r"given labels +0\.4812 +0\.6014", result.stdout)
    assert result.stdout.count("airplane") == 5
    answer = answer_of(run(*arguments, "--json").stdout, "evaluate")
    expected = evaluate_pyx(load_pyx(0.4, 0.2), 0.4, 0.2).as_dict()
    assert answer == json.loads(json.dumps({"schema_version": 1, **expected}))


def test_the_command_says_what_is_suspect_and_what_is_missing(tmp_path: Path) -> None:
    result = run("evaluate", saved(tmp_path, ~noisy_mask()), "--noise", "0.4", "--sparsity", "0.2")
    assert result.returncode == 3
    assert re.fullmatch(r"cifar-noisy: found flags right labels .*\n", result.stderr)
    assert "the published methods are left out: 5 files (" in result.stdout
    no_methods = run("evaluate", saved(tmp_path, IS_ERROR), "--noise", "0.9", "--sparsity", "0.2")
    assert no_methods.returncode == 0
    nothing = run("evaluate", saved(tmp_path, noisy_scores()), "--noise", "0")
    assert "-: undefined" in nothing.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no .npy file of numbers, or not a whole one"),
        (b"hello", "is no .npy file of numbers"),
        (b"PK\x03\x04", "is an archive of arrays"),
        (b"\x93NUMPY\x01\x00\x06\x00abcdef", "is no .npy file of numbers"),
        ("cut", "or not a whole one"),
        ("objects", "is no .npy file of numbers"),
        ("archive", "is an archive of arrays"),
        ("indices", "if these are indices"),
    ],
)
def test_files_that_hold_nothing_to_evaluate(
    content: bytes | str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "archive":
        with path.open("wb") as file:
            np.savez(file, a=IS_ERROR)
    else:
        arrays: dict[str, Any] = {"objects": IS_ERROR.astype(object), "indices": [1, 2]}
        saved(tmp_path, arrays.get(content, IS_ERROR))
        if content == "cut":
            path.write_bytes(path.read_bytes()[:-1])
    result = run("evaluate", str(path), "--noise", "0.4", "--sparsity", "0")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    result = run("evaluate", str(tmp_path / "no.npy"), "--noise", "0.4", "--sparsity", "0")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "no.npy does not exist: name an .npy file" in result.stderr
