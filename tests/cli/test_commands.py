"""Every command and option, run for real: the table below must use all that the program has.

What is not listed is found, and fails: `test_every_option_is_in_the_table` asks the program itself.
Light commands run as processes; those that load torch or scikit-learn run in this one, which has
them loaded.
"""

import itertools
import os
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main

from cifar_noisy import load_label_errors, load_pyx
from cifar_noisy.cli import main
from cifar_noisy.cli.app import app
from cifar_noisy.evaluation.tables import FORMATS, NETWORKS, RULES
from cifar_noisy.images import archive_download, readers
from cifar_noisy.loading.row_order import from_imagefolder_order
from cifar_noisy.settings import EDITIONS, METHODS, ORDERS, OTHER_METHODS, SETTINGS, TRAINERS
from cifar_noisy.store.registry import KINDS
from conftest import MIRROR, NO_FILES
from tests.conftest import write_example_scores
from tests.fake_cifar import FakeCifar
from tests.file_server import serving
from tests.range_server import Behaviour, serving_ranges

PROGRAM = Path(sys.executable).with_name("cifar-noisy")
FAKE = FakeCifar.random()
SETTING = "--noise 0.4 --sparsity 0.2"
NOISES = sorted({f"{setting.noise:g}" for setting in SETTINGS})
SPARSITIES = sorted({f"{setting.sparsity:g}" for setting in SETTINGS})
DIGITS = f"--dataset digits {SETTING} --folds 2 --set epochs=1 --set width=4"


@dataclass(frozen=True)
class Run:
    """One call and what comes of it: a pattern in stdout, the exit status, all of stderr."""

    line: str
    says: str
    status: int = 0
    notices: str = ""


RUNS = {
    "": [
        Run("--version", r"^cifar-noisy 0\."),
        Run("--help", "Example: cifar-noisy "),
        Run("-h", "Example: cifar-noisy "),
        Run("--offline cache path", "/"),
        Run(
            "--offline cache export with.tar --kind noise_matrix --images", "",
            3, r"cifar-noisy: .* could not be had: .*\n(  .*\n)*",
        ),
        Run("--show-completion bash", "cifar-noisy"),
        Run("--install-completion bash", "completion installed"),
    ],
    "list": [
        Run("", r"340 files, 141.8 MB; \d+ on this machine"),
        Run(f"--kind noisy_labels {SETTING}", "^1 file, 3.4 MB"),
        Run("--kind noise_matrix --files --json", r'"path": "cifar10/'),
        Run("--kind pyx --json", r'"published": 1'),
        Run("--kind images", "^1 file, 170.5 MB; 0 on this machine"),
        Run("--kind images --json", '"licence": "none stated"'),
        *(Run(f"--noise {noise}", rf"^{noise} +0 ") for noise in NOISES),
        *(Run(f"--sparsity {sparsity}", rf"^0.2 +{sparsity} ") for sparsity in SPARSITIES),
        *(Run(f"--method {method} --files", rf" {method} +2021 ") for method in METHODS),
        *(Run(f"--method {method}", "^12 files") for method in OTHER_METHODS),
        *(Run(f"--edition {year} --kind train_mask", "^6[05] files") for year in EDITIONS),
        *(Run(f"--trainer {name} --kind training_log", "^[67]. files") for name in TRAINERS),
    ],
    "info": [
        Run("0.7 0.2", "69.92% of the labels are wrong"),
        Run("0.4 0 --json", r'"upstream_key": "frac_zero_noise_rates__0_0__noise_amount__0_4"'),
    ],
    "download": [
        Run(f"--kind pyx {SETTING}", "^1 file, 1.0 MB, checked: 1 in /.*cache$"),
        Run(f"--kind pyx {SETTING} --copy", "^1 file, 1.0 MB, checked: 1 in /.*cache$"),
        Run(f"--method cl_pbc --edition 2019 {SETTING} --json", r'"size": 50128'),
        Run(f"--kind training_log --trainer coteaching --method argmax {SETTING}", "^1 file"),
    ],
    "evaluate": [
        Run(f"mine.npy {SETTING}", "^cl_both 2019 +0.8114"),
        Run(f"mask.npy {SETTING} --edition 2021 --by true --json", '"breakdown"'),
        Run(f"mask.npy {SETTING} --by given", "^airplane "),
        Run(f"pyx.npy {SETTING} --by pair --order imagefolder", "^given labels +0.4"),
        Run(f"official.npy {SETTING} --order torchvision", "^cl_pbnr 2019 +0.80"),
    ],
    "tables": [
        Run("--format text --rule last --network max", r"^F1 +C_confusion +0\.71 "),
        Run("--format markdown --rule best --network first", r"^\| F1 "),
        Run("--format latex --network second --edition 2019", r"\\toprule"),
        Run("--format csv --network mean --edition 2021", "^table,group,"),
        Run("--json", '"Finding label errors"'),
    ],
    "report": [
        Run(
            f"{SETTING} --pyx pyx.npy --mask mask.npy --order imagefolder --examples 5 --json",
            '"has_images": false',
        ),
        Run(
            f"{SETTING} --images batches --trust pixels --out mine.html", "",
            status=2, notices="cifar-noisy: .*100.*\n",
        ),
    ],
    "images": [
        Run("--root batches --to written --layout imagefolder", "^120 images in written$"),
        Run(
            "--root batches --to again --layout torchvision --trust pixels --json",
            '"images": 120',
        ),
    ],
    "check-alignment": [
        Run("tree/train", "^misaligned: it has 100 rows", status=1),
        Run("tree/train --json", '"verdict": "misaligned"', status=1),
    ],
    "verify": [
        Run(f"{SETTING} --method cl_pbc --edition 2021 --fail-fast", "train mask 2021: 1/1 exact"),
        Run("--noise 0.9 --sparsity 0.2 --json -", '"verdict": "exact"'),
        Run("--noise 0.9 --sparsity 0.2 --json /dev/stdout", r"\A\[(?s:.*)\]\s*\Z"),
        Run(
            f"--recomputed trained {SETTING} --root batches --trust pixels --device cpu", "",
            status=2, notices="cifar-noisy: trained is no folder.*\n",
        ),
        Run(
            f"--retrain --recomputed trained {SETTING} --root batches --trust pixels", "",
            status=2, notices="cifar-noisy: .*\n",
        ),
    ],
    "cache path": [Run("", "^/.*cache")],
    "cache ls": [
        Run("", "^noise  sparsity  pyx "),
        Run("--json", '"images": '),
    ],
    "cache verify": [
        Run("", r"files: \d+ right"),
        Run("--json", '"is_right": true'),
    ],
    "cache prune": [Run("", "leftovers"), Run("--json", r"^\[")],
    "cache export": [
        Run(f"one.tar --kind pyx {SETTING}", "^1 file written to one.tar$"),
        Run("labels.tar --kind noise_matrix --json", '"bundle": "labels.tar"'),
    ],
    "cache import": [
        Run("pyx.tar", "^13 files checked and imported from pyx.tar$"),
        Run("pyx.tar --json", '"bundle": "pyx.tar"'),
        Run("missing.tar", "", 2, "cifar-noisy: .*missing.tar .*\n"),
    ],
    "cache clear": [
        Run("--yes", r"^\d+ files \(.*\) removed from "),
        Run("--yes --images", "removed from|nothing to remove"),
    ],
    "recompute": [
        Run(
            f"--folder done --dataset digits {SETTING} --folds 2 --seed 3 --recipe fast --dtype "
            "float32 --device cpu --threads 1 --train-kept cl_pbc --coteaching cl_pbc "
            "--set coteaching.epochs=2",
            "^collect-noise0.4-sparsity0.2: done$",
        ),
        Run(f"--folder done2 {DIGITS} --threads 1 --allow-other-hardware --json", '"summary"'),
        Run(
            f"--folder never {SETTING} --root batches --trust pixels", "",
            status=2, notices="cifar-noisy: .*\n",
        ),
    ],
    "recompute plan": [
        Run(f"--folder planned {DIGITS}", "^ +2  collect-noise0.4-sparsity0.2 +waiting$"),
        Run(
            f"--folder planned2 {DIGITS} --seed 1 --recipe paper --dtype float16 --device cpu "
            "--train-kept cl_pbc --coteaching cl_pbc --json",
            '"state": "ready"',
        ),
        Run(
            f"--folder never {SETTING} --root batches --trust pixels", "",
            status=2, notices="cifar-noisy: .*\n",
        ),
    ],
    "recompute run": [
        Run("--folder planned --tasks 0 --threads 1 --device cpu", "^train-.*-fold0: done$"),
        Run(
            "--folder planned --task train-noise0.4-sparsity0.2-fold1 --threads 1 --root . "
            "--trust pixels --json",
            '"before": "ready"',
        ),
        Run(
            "--folder planned --devices cpu --jobs-per-device 1 --threads 1 --allow-other-hardware",
            ": done before$",
        ),
    ],
    "recompute status": [
        Run("--folder planned", "^ +0  train-noise0.4-sparsity0.2-fold0  "),
        Run("--folder planned --json", '"state": '),
        Run("--folder nowhere", "", 2, "cifar-noisy: .*nowhere.*\n"),
    ],
    "recompute slurm": [
        Run(
            "--folder planned2 --partition gpu --gres gpu:1 --time 4:00:00 --cpus-per-task 2 "
            "--mem 4G --account mine --array-limit 10 --max-parallel 2 --setup 'module load cuda' "
            "--root . --trust pixels --device cuda --threads 2 --allow-other-hardware",
            "^planned2/slurm/level1",
        ),
        Run("--folder planned2 --array-limit 10 --submit --json", '"job": "1"'),
    ],
    "recompute collect": [
        Run("--folder done --root . --trust pixels", "^collect-.*: done before$"),
        Run("--folder done --json", '"before": "done"'),
    ],
}  # fmt: skip
"""By command; those below have tests of their own, or stand behind an option of the program."""

OTHERS = {"images": ["--download"], "demo": ["--out"], "cache export": ["--images"]}

EPOCHS = re.compile(r"^\S+: epoch \d+ of \d+, \S+ left\n", re.MULTILINE)
"""What a training that no terminal shows tells of itself."""

IN_THIS_PROCESS = (
    "evaluate", "tables", "report", "images", "check-alignment", "verify", "demo", "recompute"
)  # fmt: skip

CHOICES: dict[str, tuple[object, ...]] = {
    "--kind": KINDS,
    "--method": (*METHODS, *OTHER_METHODS),
    "--edition": EDITIONS,
    "--trainer": TRAINERS,
    "--noise": tuple(NOISES),
    "--sparsity": tuple(SPARSITIES),
    "--format": FORMATS,
    "--rule": RULES,
    "--network": NETWORKS,
    "--order": ORDERS,
    "--by": ("given", "true", "pair"),
    "--layout": ("imagefolder", "torchvision"),
    "--recipe": ("fast", "paper"),
    "--dtype": ("float16", "float32"),
}


def tree(command: Any, words: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each command of the program with its words."""
    yield words, command
    for name, subcommand in getattr(command, "commands", {}).items():
        yield from tree(subcommand, f"{words} {name}".strip())


COMMANDS = dict(tree(typer.main.get_command(app)))
USED = {
    command: [word for run in RUNS.get(command, ()) for word in shlex.split(run.line)]
    + OTHERS.get(command, [])
    for command in COMMANDS
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_in_the_table(command: str) -> None:
    assert USED[command] or command in RUNS or command == "cache"  # which does nothing by itself
    for parameter in COMMANDS[command].params:
        if parameter.param_type_name == "argument":
            continue  # no run is right without it
        for name in (*parameter.opts, *parameter.secondary_opts):
            assert name in USED[command], f"no test runs cifar-noisy {command} {name}"


@pytest.mark.parametrize("option", CHOICES)
def test_every_value_is_in_the_table(option: str) -> None:
    words = [word for used in USED.values() for word in used]
    values = {value for name, value in itertools.pairwise(words) if name == option}
    assert {str(choice) for choice in CHOICES[option]} <= values


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Make a folder of the files that the runs name; return an environment that finds a server."""
    if MIRROR is None or not Path(MIRROR).is_dir():
        pytest.skip(NO_FILES)
    folder = tmp_path_factory.mktemp("place")
    FAKE.write_batches(folder / "batches")
    FAKE.write_tree(folder / "tree")
    for program, says in (("sbatch", "echo 1"), ("squeue", "")):
        (folder / program).write_text(f"#!/bin/sh\n{says}\n")
        (folder / program).chmod(0o755)
    environment = {
        "CIFAR_NOISY_CACHE": str(folder / "cache"),
        "HOME": str(folder),
        "PATH": f"{folder}:{os.environ['PATH']}",
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",  # --install-completion takes a name
    }
    with pytest.MonkeyPatch.context() as patch, serving(Path(MIRROR)) as server:
        patch.setenv("CIFAR_NOISY_MIRRORS", MIRROR)
        write_example_scores(folder)
        pyx, found = load_pyx(0.4, 0.2), load_label_errors("cl_pbnr", 0.4, 0.2)
        np.save(folder / "pyx.npy", pyx)
        np.save(folder / "mask.npy", found)
        np.save(folder / "official.npy", from_imagefolder_order(found, "torchvision"))
        export = shlex.split("cache export pyx.tar --kind pyx")
        subprocess.run([PROGRAM, *export], cwd=folder, check=True, capture_output=True)
        yield environment | {"CIFAR_NOISY_MIRRORS": server.url}


@pytest.fixture
def in_place(place: dict[str, str], own_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(place["HOME"])
    monkeypatch.setattr(readers, "CIFAR10", FAKE.release(Path("batches")))


def run_here(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the program in this process; return its exit status."""
    monkeypatch.setattr(sys, "argv", ["cifar-noisy", *words])
    with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("command", "run"),
    [
        pytest.param(command, run, id=f"{command} {run.line}")
        for command, runs in RUNS.items()
        for run in runs
    ],
)
def test_run(
    command: str,
    run: Run,
    in_place: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = [*command.split(), *shlex.split(run.line)]
    # The images packed here are of a small release, which other processes do not know.
    if words[0] in IN_THIS_PROCESS or command == "cache verify":
        status = run_here(words, monkeypatch)
        said, notices = capsys.readouterr()
    else:
        process = subprocess.run([PROGRAM, *words], capture_output=True, text=True, check=False)
        status, said, notices = process.returncode, process.stdout, process.stderr
    assert status == run.status, notices
    assert re.search(run.says, said, re.MULTILINE), said
    notices = EPOCHS.sub("", notices)
    assert re.fullmatch(run.notices, notices), notices


def test_demo_needs_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    assert run_here(["demo", "--out", str(page)], monkeypatch) == 0
    said, notices = capsys.readouterr()
    assert EPOCHS.sub("", notices) == ""
    assert f"a page to look at: {page}" in said
    assert "collect-noise0.4-sparsity0.2: done" in said
    scores = re.findall(r"^(\w+) +(?:0\.\d+ +){2}(0\.\d+)", said, re.MULTILINE)
    assert len(scores) == 5
    assert all(float(f1) > 0.8 for _, f1 in scores)
    assert "noisy labels: 17/17 exact" in said
    assert "masks whose files are not on this machine were not checked" in said


def test_images_download(in_place: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = FAKE.write_archive(tmp_path).read_bytes()
    with serving_ranges() as server:
        server.files["/official"] = Behaviour(content)
        monkeypatch.setattr(archive_download, "ARCHIVE_URLS", (server.url("/official"),))
        monkeypatch.setattr(readers, "CIFAR10", FAKE.release(tmp_path))
        monkeypatch.setenv("CIFAR_NOISY_CACHE", str(tmp_path / "cache"))
        assert run_here(["images", "--download"], monkeypatch) == 0
        assert server.asked
