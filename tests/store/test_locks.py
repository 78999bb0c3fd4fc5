"""Locks that somebody planted a link for."""

from pathlib import Path

from cifar_noisy.store.locks import LockTimeout, is_unheld, lock_path, locked


def test_a_planted_link_leads_nowhere(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    target = tmp_path / "target"
    lock_path(target).symlink_to(victim)
    assert not is_unheld(lock_path(target))
    with locked(target, LockTimeout(0.1)):
        target.write_text("written")
    assert victim.read_text() == "precious"
