"""The table: what it covers, that it equals the folder it was made from, that pooch reads it."""

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pooch
import pytest
from torchvision.datasets import CIFAR10

from cifar_noisy import Setting, UnknownArtifactError, artifacts
from cifar_noisy.images import readers
from cifar_noisy.store.registry import REPOSITORY, REVISION, all_artifacts, find, registry_folder

BUILD = Path(__file__).parents[2] / "scripts" / "build_registry.py"


def test_covers_what_was_published() -> None:
    kinds = Counter((artifact.kind, artifact.edition) for artifact in all_artifacts())
    assert kinds == {
        ("pyx", None): 13 + 15,
        ("train_mask", "2021"): 65,
        ("train_mask", "2019"): 60,
        ("noisy_labels", None): 17 + 13,
        ("noise_matrix", None): 17,
        ("training_log", None): 65 + 60 + 36 + 7,
        ("test_labels", None): 5,
        ("images", None): 1,
    }
    strays = [artifact for artifact in all_artifacts() if artifact.is_stray]
    assert {artifact.path.rpartition("/")[2] for artifact in strays} == {"out.log", "out2.log"}
    assert len(strays) == 7
    assert [a.path for a in all_artifacts() if a.size == 0] == [
        find("training_log", Setting(0.2, 0.6), "cl_both", trainer="resnet50").path
    ]


def test_pooch_reads_the_registry(tmp_path: Path) -> None:
    reader = pooch.create(tmp_path, base_url="", registry=None)
    reader.load_registry(registry_folder() / "registry.txt")
    assert reader.registry == {artifact.path: artifact.sha256 for artifact in all_artifacts()}


def test_the_image_archive_is_a_file_like_others() -> None:
    (archive,) = artifacts(kind="images")
    assert archive not in artifacts()
    assert archive.path == "images/cifar-10-python.tar.gz"  # where caches have it
    assert archive.urls[0] == CIFAR10.url
    assert (archive.licence, archive.revision) == ("none stated", None)
    assert str(archive) == "images"
    with pytest.raises(UnknownArtifactError, match="belongs to no noise setting"):
        _ = archive.setting
    # What the image readers hold it to is the same, and torchvision's md5 is of a file so named.
    assert (readers.ARCHIVE, readers.CIFAR10.archive_md5) == (CIFAR10.filename, CIFAR10.tgz_md5)


def test_every_file_says_where_it_comes_from() -> None:
    upstream = f"https://github.com/{REPOSITORY}"
    assert {(a.repository, a.revision, a.licence) for a in artifacts()} == {
        (upstream, REVISION, "MIT")
    }


def test_filters() -> None:
    assert len(artifacts(noise=0.7, sparsity=0.4, kind="train_mask")) == 10
    assert len(artifacts(method="sceloss")) == 12
    assert artifacts(kind="pyx", noise=0.9) == ()
    with pytest.raises(UnknownArtifactError, match="kind 'pyc' is unknown: did you mean pyx"):
        artifacts(kind="pyc")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pyx", Setting(0.9, 0)), "pyx does not exist for noise 0.9, sparsity 0: .* only noisy"),
        (("train_mask", Setting(0, 0), "argmax"), "cifar-noisy list shows what does"),
    ],
)
def test_what_does_not_exist_is_said(arguments: tuple[str, Setting], said: str) -> None:
    with pytest.raises(UnknownArtifactError, match=said):
        find(*arguments)  # type: ignore[arg-type]
    with pytest.raises(UnknownArtifactError, match="use edition='2021'"):
        find("train_mask", Setting(0, 0), "argmax", edition="2019")


def _check(*folders: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, BUILD, "--check", *folders], capture_output=True, text=True, check=False
    )


def test_the_table_equals_the_published_folders(
    upstream: Path, label_sets: Path, tmp_path: Path
) -> None:
    result = _check(upstream, label_sets)
    assert (result.returncode, result.stdout) == (0, "equal\n")

    changed = tmp_path / "upstream"
    shutil.copytree(upstream / "cifar10", changed / "cifar10")
    shutil.copytree(upstream / "other_methods", changed / "other_methods")
    log = changed / artifacts(kind="training_log")[0].path
    log.chmod(0o644)
    log.write_bytes(log.read_bytes() + b"\n")
    result = _check(changed, label_sets)
    assert result.returncode == 1
    assert "registry.txt differs" in result.stdout
    assert "artifacts.csv differs" in result.stdout

    log.parent.chmod(0o755)
    log.unlink()
    result = _check(changed, label_sets)
    assert result.returncode == 1
    assert "is missing: is this upstream at" in result.stderr
