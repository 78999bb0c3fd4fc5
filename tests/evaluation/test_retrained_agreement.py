"""Recomputed probabilities against the published ones."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cifar_noisy import (
    Comparison,
    InvalidInputError,
    RecomputedComparison,
    Setting,
    compare_recomputed,
    evaluate_pyx,
    label_errors,
    load_noisy_labels,
    load_pyx,
    load_true_labels,
)
from cifar_noisy.evaluation.retrained_agreement import agreement, shuffled_among_alike
from cifar_noisy.loading.recomputed import provenance_path, write_record
from cifar_noisy.settings import METHODS, pyx_path
from cifar_noisy.store.registry import npy_bytes
from tests.json_schemas import answer_of

SETTING = Setting(0.4, 0.2)
SETTING_WORDS = ("--noise", "0.4", "--sparsity", "0.2")


def write(folder: Path, pyx: NDArray[np.floating]) -> None:
    write_record(folder, provenance_path(SETTING), {}, {pyx_path(SETTING): npy_bytes(pyx)})


def test_agreement_is_that_of_a_plain_loop(published: str) -> None:
    one, other = load_pyx(0.4, 0.2), load_pyx(0.4, 0.2)
    other[:20_000] = other[np.random.default_rng(0).permutation(20_000)]
    found = agreement(SETTING, one, other)
    same = sum(int(a.argmax() == b.argmax()) for a, b in zip(one, other, strict=True))
    assert found["same argmax"] == same / 50_000
    given = load_noisy_labels(0.4, 0.2)
    ranks = [np.unique(pyx[range(50_000), given], return_inverse=True)[1] for pyx in (one, other)]
    # Spearman's correlation is Pearson's of the mean ranks of ties.
    means = []
    for rank in ranks:
        ends = np.cumsum(np.bincount(rank))
        means.append((ends - (np.bincount(rank) - 1) / 2)[rank])
    assert found["rank correlation of self-confidence"] == pytest.approx(
        np.corrcoef(*means)[0, 1], abs=1e-9
    )
    for method in METHODS:
        both = label_errors(given, one)[method] == label_errors(given, other)[method]
        assert found[f"agreement of {method}"] == both.mean()
    assert min(agreement(SETTING, one, one).values()) == pytest.approx(1.0)


def test_rows_of_a_wrong_order_are_found_though_accuracies_are_right(
    published: str, tmp_path: Path
) -> None:
    """Shuffle rows among those of the same given and true label, in a loop of its own."""
    pyx = load_pyx(0.4, 0.2)
    given, true = load_noisy_labels(0.4, 0.2), load_true_labels()
    rng, wrong = np.random.default_rng(1), pyx.copy()
    for label in range(10):
        for truth in range(10):
            rows = np.flatnonzero((given == label) & (true == truth))
            wrong[rows] = pyx[rng.permutation(rows)]
    write(tmp_path, wrong)
    for row in compare_recomputed(tmp_path, SETTING).rows:
        if row.published is None:
            assert row.verdict == "below"
            # Another shuffle of the same kind: the band begins just above this, but for chance.
            assert row.recomputed == pytest.approx(row.band[0] - 0.01, abs=0.01)
        else:
            assert row.recomputed == row.published, row
    np.testing.assert_array_equal(
        np.sort(shuffled_among_alike(SETTING, pyx), axis=0), np.sort(pyx, axis=0)
    )


def test_what_is_expected_by_chance_is_that_of_a_loop_over_shares(
    published: str, tmp_path: Path
) -> None:
    """Two that know no more than labels agree in a cell of labels as often as the shares say."""
    theirs = load_pyx(0.4, 0.2)
    ours = theirs.copy()
    ours[::4] = np.roll(ours[::4], 1, axis=1)  # less than theirs, so that it matters whose is whose
    given, true = load_noisy_labels(0.4, 0.2), load_true_labels()
    chosen = {
        "same argmax": [np.eye(10)[pyx.argmax(axis=1)] for pyx in (ours, theirs)],
        **{
            f"agreement of {method}": [np.eye(2)[masks[method].astype(int)] for masks in both]
            for both in [[label_errors(given, pyx) for pyx in (ours, theirs)]]
            for method in METHODS
        },
    }
    write(tmp_path, ours)
    found = {row.quantity: row for row in compare_recomputed(tmp_path, 0.4, 0.2).rows}
    for quantity, (mine, other) in chosen.items():
        by_chance = []
        for one in (mine, other):  # the published ones too: what a network as good agrees by chance
            cells = (
                (given == label) & (true == truth) for label in range(10) for truth in range(10)
            )
            by_chance.append(
                sum(
                    rows.mean() * (one[rows].mean(axis=0) @ other[rows].mean(axis=0))
                    for rows in cells
                    if rows.any()
                )
            )
        low, high = found[quantity].band
        assert low - 0.01 == pytest.approx(max(by_chance), abs=0.005), quantity
        # Three of four rows are as published: more than chance, less than seeds.
        assert found[quantity].verdict == "within", found[quantity]
        assert low < found[quantity].recomputed < high < 1


def shuffled_in_part(pyx: NDArray[np.floating], share: float) -> NDArray[np.floating]:
    """Return rows as good as these, a share of which says no more than labels do."""
    other = pyx.copy()
    chosen = np.random.default_rng(2).random(len(pyx)) < share
    other[chosen] = shuffled_among_alike(SETTING, pyx)[chosen]
    return other


def wrong_in_part(pyx: NDArray[np.floating], accuracy: float) -> NDArray[np.floating]:
    """Return rows of which so many have their true label, the others' columns being moved."""
    true = load_true_labels()
    is_right = np.flatnonzero(pyx.argmax(axis=1) == true)
    n_wrong = len(is_right) - round(accuracy * len(pyx))
    made = pyx.copy()
    rng = np.random.default_rng(3)
    for row in rng.choice(is_right, n_wrong, replace=False):
        made[row] = np.roll(made[row], rng.integers(1, 10))
    assert (made.argmax(axis=1) == true).mean() == pytest.approx(accuracy, abs=0.01)
    return made


def blurred(pyx: NDArray[np.floating], accuracy: float) -> NDArray[np.floating]:
    """Return log-probabilities with noise, as much as leaves this accuracy."""
    rng = np.random.default_rng(4)
    logits, noise = np.log(pyx.astype(np.float64) + 1e-4), rng.normal(size=pyx.shape)
    low, high = 0.0, 20.0
    for _ in range(20):
        scale = (low + high) / 2
        made = np.exp(logits + scale * noise)
        is_good = (made.argmax(axis=1) == load_true_labels()).mean() > accuracy
        low, high = (scale, high) if is_good else (low, scale)
    rows: NDArray[np.floating] = made / made.sum(axis=1, keepdims=True)
    return rows.astype(np.float32)


def test_a_network_of_30_percent_fails_in_every_row(published: str, tmp_path: Path) -> None:
    pyx = load_pyx(0.4, 0.2)
    for name, made in (
        ("wrong", wrong_in_part(pyx, 0.3)),
        ("blurred", blurred(pyx, 0.3)),
    ):
        write(tmp_path / name, made)
        compared = compare_recomputed(tmp_path / name, 0.4, 0.2)
        assert not compared.is_as_good
        for row in compared.rows:
            assert row.verdict == "below", row
        assert compared.verdict.startswith(
            "not as good as published: of 14 quantities against the published network of noise "
            "0.4, sparsity 0.2, 14 are below (accuracy against given labels, accuracy against true"
        )
        (row,) = (row for row in compared.rows if row.quantity == "accuracy against true labels")
        assert re.fullmatch(
            r"accuracy against true labels: 0\.(29|30)\d, published 0\.739, "
            r"band 0\.729 to 0\.749: below",
            str(row),
        )


def test_a_good_network_and_the_published_one_itself_pass(published: str, tmp_path: Path) -> None:
    pyx = load_pyx(0.4, 0.2)
    write(tmp_path / "good", shuffled_in_part(pyx, 0.35))
    compared = compare_recomputed(tmp_path / "good", 0.4, 0.2)
    assert compared.is_as_good
    assert {row.verdict for row in compared.rows} == {"within"}, str(compared)
    assert "14 are within their band, 0 above it and none below it" in compared.verdict
    write(tmp_path / "same", pyx)
    compared = compare_recomputed(tmp_path / "same", 0.4, 0.2)
    assert compared.is_as_good
    for row in compared.rows:  # two trainings do not agree as the same one does
        assert row.verdict == ("above" if row.published is None else "within")
        assert row.published in (None, row.recomputed)


def test_a_quantity_that_is_not_a_number_is_below() -> None:
    row = Comparison("rank correlation", float("nan"), None, (0.5, 1.0), "by hand")
    assert row.verdict == "below"
    assert not RecomputedComparison(SETTING, (row,)).is_as_good


def test_what_is_below_is_said(published: str, tmp_path: Path) -> None:
    pyx = load_pyx(0.4, 0.2)
    write(tmp_path / "same", pyx)
    worse = pyx.copy()
    worse[::4] = worse[::4, ::-1]
    write(tmp_path / "worse", worse)
    compared = compare_recomputed(tmp_path / "worse", 0.4, 0.2)
    row = compared.rows[1]
    assert (row.quantity, row.verdict) == ("accuracy against true labels", "below")
    assert row.recomputed == evaluate_pyx(worse, 0.4, 0.2).against_true.accuracy
    assert row.published is not None
    assert row.band == (row.published - 0.01, row.published + 0.01)
    frame = compared.frame
    assert frame.loc[1, "verdict"] == "below"
    assert frame.published.isna().sum() == 7
    write(tmp_path / "digits", pyx[:1797])
    with pytest.raises(InvalidInputError, match=r"of shape \(1797, 10\), not"):
        compare_recomputed(tmp_path / "digits", 0.4, 0.2)
    program = Path(sys.executable).with_name("cifar-noisy")
    for name, status in (("same", 0), ("worse", 1)):
        words: list[str | Path] = [program, "verify", "--recomputed", tmp_path / name]
        words += SETTING_WORDS
        said = subprocess.run([*words, "--json", "-"], capture_output=True, text=True, check=False)
        assert (said.returncode, said.stderr) == (status, "")
        answer = answer_of(said.stdout, "verify")
        assert len(answer["comparisons"]) == 14
        assert answer["is_as_good"] == (status == 0)
    shown = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    published_text = f"{row.published:.4f}".replace(".", r"\.")
    pattern = (
        rf"^accuracy against true labels +0\.\d{{4}} +{published_text} +0\.729 to 0\.749 +below$"
    )
    assert re.search(pattern, shown, re.MULTILINE)
    assert "a choice, since one training of the published recipe is known" in shown
    assert shown.splitlines()[-1] == compared.verdict
