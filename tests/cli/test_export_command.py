"""The command export to stdout, to a pipe that closes, and to a disk that is full."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from cifar_noisy import load_noisy_labels, load_true_labels
from tests.json_schemas import answer_of

PROGRAM = Path(sys.executable).with_name("cifar-noisy")
EXPORT = [str(PROGRAM), "export", "-", "--noise", "0.4", "--sparsity", "0.2", "--for"]


def test_to_stdout() -> None:
    done = subprocess.run([*EXPORT, "promix", "--json"], capture_output=True, check=True)
    assert json.loads(done.stdout) == load_noisy_labels(0.4, 0.2, order="torchvision").tolist()
    wrong = int((load_noisy_labels(0.4, 0.2) != load_true_labels()).sum())
    told = answer_of(done.stderr.decode(), "export")
    assert (told["path"], told["for"]) == ("/dev/stdout", "promix")
    assert (told["labels"], told["wrong"]) == (50_000, wrong)


def test_no_folder_is_written_to_stdout(tmp_path: Path) -> None:
    """Or images would go into a folder that is named "-"."""
    done = subprocess.run(
        [*EXPORT, "imagefolder"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("takes no folder of images: name a folder\n")
    assert not list(tmp_path.iterdir())


def test_a_reader_that_has_enough() -> None:
    with subprocess.Popen(
        [*EXPORT, "csv"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert isinstance(process.stdout, io.TextIOBase)
        assert process.stdout.readline() == "file,label,true_label\n"
        process.stdout.close()
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 141
    assert said == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk() -> None:
    words = ["/dev/full" if word == "-" else word for word in EXPORT]
    done = subprocess.run([*words, "npy"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("cifar-noisy: /dev/full cannot be written (No space left")
    assert done.stderr.count("\n") == 1


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    program = (
        "import sys; from cifar_noisy.cli import main\n"
        f"sys.argv = ['cifar-noisy', 'export', '{tmp_path / 'a'}', '--noise', '0', '--for', "
        "'cifar-n']\ntry:\n    main()\nfinally:\n    print({'torch', 'PIL'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout.endswith("set()\n"), done.stdout + done.stderr
