"""The verdicts on the real files, and on files that are wrong."""

import dataclasses
import hashlib
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cifar_noisy import Artifact, Setting, UnknownArtifactError, load_noisy_labels, load_pyx, verify
from cifar_noisy.confident_learning.float16_bounds import RoundingAnalysis
from cifar_noisy.evaluation import verification
from cifar_noisy.evaluation.verification import KNOWN_ANOMALIES, files_needed
from cifar_noisy.settings import Edition
from cifar_noisy.store import registry
from cifar_noisy.store.artifact_store import Folder, Host, Store
from cifar_noisy.store.registry import find, npy_bytes
from tests.file_server import serving


def test_the_published_files_come_out_as_expected(published: str) -> None:
    checks = list(verify())
    verdicts = Counter((c.artifact.kind, c.artifact.edition, c.verdict) for c in checks)
    assert verdicts == {
        ("noisy_labels", None, "exact"): 17,
        ("noise_matrix", None, "exact"): 17,
        ("train_mask", "2021", "exact"): 64,
        ("train_mask", "2021", "known"): 1,
        ("train_mask", "2019", "exact"): 1,
        ("train_mask", "2019", "explained"): 58,
        ("train_mask", "2019", "known"): 1,
    }
    known = {
        (check.artifact.setting, check.artifact.method, check.artifact.edition): {
            difference.index for difference in check.differences if difference.known
        }
        for check in checks
        if check.verdict == "known"
    }
    assert known == {file: set(examples) for file, examples in KNOWN_ANOMALIES.items()}


def test_the_counts_are_those_measured(published: str) -> None:
    differing = Counter[str]()
    ties = 0
    for check in verify(edition="2019"):
        differing[str(check.artifact.method)] += len(check.differences)
        if check.artifact.method == "argmax":
            ties += sum(d.explanation is not None for d in check.differences)
    assert differing == {
        "argmax": 36, "conf_joint_only": 79, "cl_pbc": 76, "cl_pbnr": 120, "cl_both": 143
    }  # fmt: skip
    assert ties == 35


def test_edition_2021_needs_the_probabilities_alone(upstream: Path, tmp_path: Path) -> None:
    pyx = find("pyx", Setting(0.4, 0.2))
    (tmp_path / pyx.path).parent.mkdir(parents=True)
    shutil.copyfile(upstream / pyx.path, tmp_path / pyx.path)
    store = Store(tmp_path / "cache", (Folder(tmp_path),), is_offline=True)
    checks = list(verify(noise=0.4, sparsity=0.2, store=store))
    verdicts = Counter((check.artifact.edition, check.verdict) for check in checks)
    assert verdicts == {(None, "exact"): 2, ("2021", "exact"): 5, ("2019", "not reachable"): 5}
    # Said of each, and with the one command that fetches all of them.
    details = {check.detail for check in checks if check.verdict == "not reachable"}
    assert len(details) == 1
    assert "5 files (250.6 kB), the first of them" in details.pop()


def test_what_cannot_be_had_is_asked_for_once(upstream: Path, tmp_path: Path) -> None:
    with serving(upstream) as server:
        mask = find("train_mask", Setting(0.7, 0.4), "argmax", edition="2021")
        server.answers[f"/mirror/{mask.path}"] = 404
        store = Store(tmp_path, (Host(f"{server.url}/{{path}}"),), public_hosts=())
        checks = list(verify(noise=0.7, sparsity=0.4, method="argmax", store=store))
        assert [check.verdict for check in checks] == ["not reachable", "known"]
        assert len(server.asked) == 3


def test_without_files_labels_and_matrices_remain(tmp_path: Path) -> None:
    checks = list(verify(store=Store(tmp_path, is_offline=True)))
    verdicts = Counter((check.artifact.kind, check.verdict) for check in checks)
    assert verdicts == {
        ("noisy_labels", "exact"): 17,
        ("noise_matrix", "exact"): 17,
        ("train_mask", "not reachable"): 125,
    }


@pytest.mark.parametrize("edition", ["2019", "2021"])
def test_a_wrong_mask_that_was_pinned_is_unexplained(
    edition: Edition, upstream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = find("train_mask", Setting(0.4, 0.2), "cl_pbnr", edition=edition)
    mask = np.load(upstream / right.path)
    # Rounding leaves this example open, which is an excuse for edition 2019 alone.
    analysis = RoundingAnalysis(load_noisy_labels(0.4, 0.2), load_pyx(0.4, 0.2))
    undecided = int(np.flatnonzero(analysis.bounds["cl_pbnr"].undecided)[0])
    mask[[3, undecided, 49_000]] ^= True
    wrong = dataclasses.replace(right, sha256=hashlib.sha256(npy_bytes(mask)).hexdigest())
    (tmp_path / right.path).parent.mkdir(parents=True)
    (tmp_path / right.path).write_bytes(npy_bytes(mask))
    right_other = find("train_mask", Setting(0.4, 0.2), "cl_pbc", edition="2019")
    monkeypatch.setattr(verification, "artifacts", lambda **_: (wrong, right_other))

    checks = list(verify(store=Store(tmp_path, (Folder(upstream),), is_offline=True)))
    assert [check.verdict for check in checks] == ["unexplained", "explained"]
    unexplained = {d.index for d in checks[0].differences if d.is_unexplained}
    assert unexplained == ({3, 49_000} if edition == "2019" else {3, undecided, 49_000})


def test_a_seed_that_gives_other_numbers_is_unexplained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "generate_noisy_labels", lambda _: np.zeros(50_000, np.int64))
    labels, matrix = verify(noise=0.9, sparsity=0)
    assert (labels.verdict, matrix.verdict) == ("unexplained", "exact")
    assert "its seed gives other numbers" in labels.detail


def test_filters_that_leave_nothing() -> None:
    with pytest.raises(UnknownArtifactError, match="nothing published matches all filters"):
        verify(noise=0, edition="2019")
    with pytest.raises(UnknownArtifactError, match="nothing published matches all filters"):
        verify(method="sceloss")


def test_files_needed_are_probabilities_and_masks_of_2019(published: str) -> None:
    masks: list[Artifact] = list(registry.artifacts(kind="train_mask", noise=0.4))
    needed = Counter(artifact.kind for artifact in files_needed(masks))
    assert needed == {"pyx": 4, "train_mask": 20}
