"""Registry rows for the files of the test set's labels, where the registry has none."""

import hashlib
from pathlib import Path

import pytest

from cifar_noisy.loading import testset_labels
from cifar_noisy.loading.testset_labels import SOFT_FILE, VOTES_FILE
from cifar_noisy.store.registry import Artifact, by_path


def artifact_of(path: str, content: bytes) -> Artifact:
    return Artifact(
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        kind="noisy_labels",
        repository="https://github.com/" + "/".join(path.split("/")[:2]),
        revision=None,
        licence="",
        source_path=path,
    )


def register(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = by_path()
    for path in (SOFT_FILE, VOTES_FILE):
        rows.setdefault(path, artifact_of(path, (folder / path).read_bytes()))
    monkeypatch.setattr(testset_labels, "by_path", lambda: rows)
