"""Mutated files into the loaders."""

from pathlib import Path

import pytest

from tests.faults.fuzz import TIMES_REGISTERED_SIZE, fuzz, fuzz_foreign


@pytest.mark.long
def test_mutated_files(published: str, tmp_path: Path) -> None:
    outcome = fuzz(tmp_path, 1500)
    assert outcome.crashes == []
    assert outcome.most_memory <= TIMES_REGISTERED_SIZE
    assert outcome.n_refused > outcome.n / 2


@pytest.mark.long
def test_mutated_files_of_people(tmp_path: Path) -> None:
    outcome = fuzz_foreign(tmp_path, 2000)
    assert outcome.crashes == []
    assert outcome.most_memory <= TIMES_REGISTERED_SIZE
    assert outcome.n_refused > outcome.n / 4
