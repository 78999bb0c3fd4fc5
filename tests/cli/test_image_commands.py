"""The commands on images, as real processes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import cifar_noisy
from cifar_noisy.cli.app import app
from cifar_noisy.images.readers import BATCH_FOLDER
from cifar_noisy.loading.row_order import from_imagefolder_order
from tests.conftest import JpegCopy
from tests.fake_cifar import FakeCifar
from tests.json_schemas import answer_of

PROGRAM = Path(sys.executable).with_name("cifar-noisy")


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *arguments],
        env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def example(command: str) -> list[str]:
    """Return the words of the example that a command's help ends in."""
    help_ = run(command, "--help", COLUMNS="200").stdout
    found = re.search(r"Example: cifar-noisy (.*\S)\s*$", help_)
    assert found is not None, help_
    return found[1].split()


def test_the_examples(
    jpeg: JpegCopy, published: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mirrors = f"{published},{jpeg.tree}"
    written = run(*example("images"), CIFAR_NOISY_MIRRORS=mirrors)
    assert (written.returncode, written.stderr) == (0, "")
    assert written.stdout == "60,000 images in cifar10\n"
    ours, theirs = (
        {str(path.relative_to(root)) for path in root.rglob("*.png")}
        for root in (tmp_path / "cifar10", jpeg.tree)
    )
    assert ours == theirs
    checked = run(*example("check-alignment"), CIFAR_NOISY_MIRRORS=mirrors)
    assert (checked.returncode, checked.stderr) == (0, "")
    lines = checked.stdout.splitlines()
    assert lines[0] == "aligned: true labels, and images in the published order"
    assert lines[1].startswith("R2 of the published log-probabilities: 0.02")
    assert lines[2].startswith("deviation from the train set's fingerprint: 0.00")


def test_a_wrong_order_is_status_1(jpeg: JpegCopy, published: str) -> None:
    found = run("check-alignment", jpeg.batches, "--json")
    assert (found.returncode, found.stderr) == (1, "")
    assert answer_of(found.stdout, "check-alignment")["mistake"] == "torchvision order"


def test_the_remedy_is_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    labels = from_imagefolder_order(cifar_noisy.load_true_labels(), "torchvision")
    found = cifar_noisy.check_alignment([(image, label) for label in labels])
    monkeypatch.setattr(cifar_noisy, "check_alignment", lambda _: found)
    result = CliRunner().invoke(app, ["check-alignment", "batches"])
    assert result.exit_code == 1
    assert result.stdout.endswith(
        "in the official order; load arrays with --order torchvision to go with it\n"
    )


def test_packing(jpeg: JpegCopy) -> None:
    found = run("images", "--root", jpeg.batches, "--trust", "pixels", "--json")
    assert (found.returncode, found.stderr) == (0, "")
    said = answer_of(found.stdout, "images")
    assert (said["images"], said["is_official"], len(said["paths"])) == (60_000, False, 2)
    without = run("images", "--root", jpeg.batches)
    assert without.returncode == 2
    assert re.match(r"cifar-noisy: .*data_batch_1 has md5 .* pass --trust pixels", without.stderr)


def test_requests_that_cannot_be_met(tmp_path: Path) -> None:
    absent = run("images", "--root", tmp_path, "--to", tmp_path / "new")
    assert absent.returncode == 2
    assert "has no CIFAR-10 images" in absent.stderr
    FakeCifar.random().write_batches(tmp_path)
    wrong = run("images", "--root", tmp_path, "--trust", "pixels")
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1
    assert f"data_batch_1 of {tmp_path / BATCH_FOLDER} is no batch file: it has an array of" in (
        wrong.stderr
    )
    missing = run("check-alignment", tmp_path / "missing")
    assert missing.returncode == 2
    assert "is no folder and no archive of images: name another" in missing.stderr


def test_several_unofficial_packs_are_told_apart_by_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise cifar_noisy.InvalidInputError("pass root= to say which images you mean: a, b")

    monkeypatch.setattr(cifar_noisy, "load_images", fail)
    result = CliRunner().invoke(app, ["report", "--noise", "0", "--trust", "pixels"])
    assert result.exit_code == 2
    assert "pass --images to say which images you mean" in result.stderr
