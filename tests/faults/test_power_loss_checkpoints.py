"""Checkpoints, folds and plans after a loss of power, with fewer repetitions than the figures."""

from pathlib import Path

from tests.faults.power_loss_checkpoints import power_losses


def test_what_is_damaged_is_neither_used_nor_in_the_way(tmp_path: Path) -> None:
    outcome = power_losses(tmp_path, n_flips=50, n_resumes=3)
    assert (outcome.n_wrong, outcome.n_stuck) == (0, 0)
    assert (outcome.n_flips, outcome.n_resumes) == (50, 2 * 6 + 3)
