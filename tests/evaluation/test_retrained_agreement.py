"""Recomputed probabilities against the published ones."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cifar_noisy import (
    InvalidInputError,
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

SETTING = Setting(0.4, 0.2)


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
    rows_ = compare_recomputed(tmp_path, SETTING)
    for row in rows_:
        if row.published is None:
            assert row.verdict == "worse"
            # Another shuffle of the same kind: what is expected is this, but for chance.
            assert row.recomputed == pytest.approx(row.expected[0] - 0.01, abs=0.01)
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
    ours[::2] = np.roll(ours[::2], 1, axis=1)  # less than theirs, so that it matters whose is whose
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
    found = {row.quantity: row for row in compare_recomputed(tmp_path, 0.4, 0.2)}
    for quantity, (mine, other) in chosen.items():
        by_chance = 0.0
        for label in range(10):
            for truth in range(10):
                rows = (given == label) & (true == truth)
                if rows.any():
                    by_chance += rows.mean() * (mine[rows].mean(axis=0) @ other[rows].mean(axis=0))
        low, high = found[quantity].expected
        assert low - 0.01 == pytest.approx(by_chance, abs=0.005), quantity
        # Half of the rows are as published: this agrees by more than chance, less than seeds do.
        assert found[quantity].verdict == "as expected"
        assert by_chance < low < found[quantity].recomputed < high < 1


def test_what_is_worse_is_said(published: str, tmp_path: Path) -> None:
    pyx = load_pyx(0.4, 0.2)
    write(tmp_path / "same", pyx)
    rows = compare_recomputed(tmp_path / "same", 0.4, 0.2)
    assert {row.verdict for row in rows if row.published is not None} == {"as expected"}
    assert all(row.recomputed == row.published for row in rows if row.published is not None)
    worse = pyx.copy()
    worse[::4] = worse[::4, ::-1]
    write(tmp_path / "worse", worse)
    found = {row.quantity: row for row in compare_recomputed(tmp_path / "worse", 0.4, 0.2)}
    row = found["accuracy against true labels"]
    assert row.verdict == "worse"
    assert row.recomputed == evaluate_pyx(worse, 0.4, 0.2).against_true.accuracy
    write(tmp_path / "digits", pyx[:1797])
    with pytest.raises(InvalidInputError, match=r"of shape \(1797, 10\), not"):
        compare_recomputed(tmp_path / "digits", 0.4, 0.2)
    for name, status in (("same", 0), ("worse", 1)):
        said = subprocess.run(
            [Path(sys.executable).with_name("cifar-noisy"), "verify", "--recomputed",
             tmp_path / name, "--noise", "0.4", "--sparsity", "0.2", "--json", "-"],
            env=os.environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (said.returncode, said.stderr) == (status, "")
        assert len(json.loads(said.stdout)) == len(rows)
