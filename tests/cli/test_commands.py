"""Every command and option, run for real: the table below must use all that the program has.

What is not listed is found, and fails: `test_every_option_is_in_the_table` asks the program itself.
Light commands run as processes; those that load torch or scikit-learn run in this one, which has
them loaded.
"""

import contextlib
import io
import itertools
import json
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

from cifar_noisy import generate_labels, load_label_errors, load_noisy_labels, load_pyx
from cifar_noisy.cli import main
from cifar_noisy.cli.app import app
from cifar_noisy.cli.export_command import HUGGINGFACE, IMAGE_FOLDERS
from cifar_noisy.evaluation.table_formats import FORMATS
from cifar_noisy.evaluation.tables import NETWORKS, RULES
from cifar_noisy.images import archive_download, readers
from cifar_noisy.loading.label_exports import EXPORT_FORMATS
from cifar_noisy.loading.noise_models import NOISE_MODELS
from cifar_noisy.loading.row_order import from_imagefolder_order
from cifar_noisy.settings import EDITIONS, METHODS, ORDERS, OTHER_METHODS, SETTINGS, TRAINERS
from cifar_noisy.store.registry import KINDS
from conftest import LABEL_SETS, MIRROR, NO_FILES
from tests.conftest import write_example_scores
from tests.fake_cifar import FakeCifar
from tests.file_server import serving
from tests.json_schemas import answer_of
from tests.range_server import Behaviour, serving_ranges

PROGRAM = Path(sys.executable).with_name("cifar-noisy")
FAKE = FakeCifar.random()
SETTING = "--noise 0.4 --sparsity 0.2"
NOISES = sorted({f"{setting.noise:g}" for setting in SETTINGS})
SPARSITIES = sorted({f"{setting.sparsity:g}" for setting in SETTINGS})
HUMAN = "--noise cifar10n-worst"
LICENCE = "cifar-noisy: files of https://github.com/.*, licence: .*\n"
DIGITS = f"--dataset digits {SETTING} --folds 2 --set epochs=1 --set width=4"


DETECTORS = """
NUMBER = 1

def disagree(labels, pyx):
    return pyx.argmax(axis=1) != labels

def doubtful(labels, pyx):
    return 1 - pyx[range(len(labels)), labels]
"""


@dataclass(frozen=True)
class Run:
    """One call and what comes of it: a pattern in stdout, the exit status, all of stderr."""

    line: str
    says: str
    status: int = 0
    notices: str = ""
    needs_label_sets: bool = False


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
        Run("--labels", r"^cifar10n-worst +40\.21% +human +5 +CC BY-NC 4\.0$"),
        Run("--labels --json", '"noise_kind": "human"'),
        Run("--labels --files", "", 2, "cifar-noisy: --labels lists all label sets: .*\n"),
        Run(HUMAN, r"^cifar10n-worst +0/5 +0/1 +22.4 MB +0 B$"),
        Run(f"{HUMAN} --model resnet18 --files", "^pyx +cifar10n-worst +resnet18 +4.0 MB"),
        Run("--kind test_labels", "^5 files"),
        Run("--noise cifar10n-wurst", "", 2, "cifar-noisy: .* did you mean cifar10n-worst.*\n"),
        *(Run(f"--sparsity {sparsity}", rf"^0.2 +{sparsity} ") for sparsity in SPARSITIES),
        *(Run(f"--method {method} --files", rf" {method} +2021 ") for method in METHODS),
        *(Run(f"--method {method}", "^12 files") for method in OTHER_METHODS),
        *(Run(f"--edition {year} --kind train_mask", "^6[05] files") for year in EDITIONS),
        *(Run(f"--trainer {name} --kind training_log", "^[67]. files") for name in TRAINERS),
    ],
    "info": [
        Run("0.7 0.2", "69.92% of the labels are wrong"),
        Run("cifar10n-worst", "^from .*/cifar-10-100n, licence: CC BY-NC 4.0$"),
        Run("cluster-0.35 --json", '"measured_noise": 0.34944'),
        Run("cifar10s 0.4", "", 2, "cifar-noisy: leave .*0.4 out: cifar10s is a label set.*\n"),
        Run("0.7", "", 2, "cifar-noisy: sparsity is missing: .*\n"),
        Run("0.4 0 --json", r'"upstream_key": "frac_zero_noise_rates__0_0__noise_amount__0_4"'),
    ],
    "download": [
        Run(f"--kind pyx {SETTING}", "^1 file, 1.0 MB, checked: 1 in /.*cache$"),
        Run(f"--kind pyx {SETTING} --copy", "^1 file, 1.0 MB, checked: 1 in /.*cache$"),
        Run(f"--method cl_pbc --edition 2019 {SETTING} --json", r'"size": 50128'),
        Run(
            f"{HUMAN} --model resnet18 --json", r'"size": 4000128',
            notices=LICENCE, needs_label_sets=True,
        ),
        Run(f"--kind training_log --trainer coteaching --method argmax {SETTING}", "^1 file"),
    ],
    "evaluate": [
        Run(f"mine.npy {SETTING}", "^cl_both 2019 +0.8114"),
        Run(f"mask.npy {SETTING} --edition 2021 --by true --json", '"breakdown"'),
        Run(f"mask.npy {SETTING} --by given", "^airplane "),
        Run(f"pyx.npy {SETTING} --by given --json", '"breakdown"'),
        Run(f"mine.npy {SETTING} --json", '"best_cut"'),
        Run("mine.npy --noise 0 --json", '"detection": null'),
        Run(f"pyx.npy {SETTING} --by pair --order imagefolder", "^given labels +0.4"),
        Run(f"official.npy {SETTING} --order torchvision", "^cl_pbnr 2019 +0.80"),
        Run(f"mask.npy {HUMAN}", "^the published methods are left out: no masks were published for",
            needs_label_sets=True),
        Run(f"mask.npy {HUMAN} --model resnet18", r"^argmax +0\.", needs_label_sets=True),
        Run("mask.npy --labels labels.json", "^yours +0.8"),
        Run("mask.npy", "", 2, "cifar-noisy: name the given labels: pass --noise or --labels.*\n"),
    ],
    "benchmark": [
        Run("detectors:disagree --over noise0.4-sparsity0.2,noise0.2-sparsity0 --baselines "
            "cl_pbc,self_confidence", r"^yours +2 +0\.7689 +"),
        Run("detectors:disagree --over noise0.4-sparsity0.2 --baselines all --json",
            '"method": "cleanlab-both"'),
        Run("detectors:disagree --over paper --baselines none --jobs 2 --csv table.csv",
            r"^yours +12 +0\.7783 "),
        Run("detectors:disagree --over noise0.2-sparsity0 --csv -", r"\Acase,labels,.*\n.*,yours,"),
        Run("loud:disagree --over noise0.4-sparsity0.2 --baselines none --json", r"\A\{\n",
            notices="imported\n"),
        Run("found --over noise0.4-sparsity0.2 --baselines default", "^cl_pbnr +1 +0.82"),
        Run("found --over noise0.4-sparsity0.2,noise0.2-sparsity0", "^yours failed in .*exist", 1),
        Run("found --over noise0.4-sparsity0.2,noise0.2-sparsity0 --json", '"failed": 1', 1),
        Run("detectors:disagree --over human --model resnet18", r"^yours +2 +0\.",
            needs_label_sets=True),
        Run("detectors:doubtful --over all --baselines none --json", '"range_cifar10s"',
            needs_label_sets=True),
        *(
            Run(line, "", 2, f"cifar-noisy: {notices}.*\n")
            for line, notices in (
                ("detectors:disagree --root batches", "--root and --trust go with --images or"),
                ("detectors:disagree --seed 1", "--plan-only, --device, .* go with --train"),
                # With images, they run in tests/benchmarking/test_training.py.
                ("detectors:disagree --images --root found --trust pixels", "found has no CIFAR"),
                ("detectors:disagree --train trained --plan-only --root found --trust pixels "
                 "--device cpu --threads 1 --seed 1 --set epochs=1", "found has no CIFAR-10"),
                ("detectors:disagre", "detectors has no disagre: did you mean disagree"),
                ("detectors:NUMBER", "detectors:NUMBER is of type int, which cannot be called"),
                ("detectors", "detector 'detectors' is neither a folder nor a function"),
                ("detectors.py:disagree", "detectors.py is a file: write .* detectors:disagree"),
                ("nowhere:disagree", "there is no module nowhere: run in its folder"),
                ("broken:disagree", r".* SyntaxError: .* \(broken.py, line 2\)"),
                ("needy:disagree", r".* No module named 'absent' \(needy.py, line 1\)"),
                ("batches", "batches has no array for any of the 12 cases: name the first"),
                ("detectors:disagree --over papers", "case 'papers' is unknown: did you mean"),
                ("detectors:disagree --over cifar10n-random1", "no probabilities were published"),
                ("detectors:disagree --model resnet18", "model 'resnet18' is unknown"),
                ("detectors:disagree --baselines cl_pcb", ".* did you mean cl_pbc"),
                ("detectors:disagree --jobs 0", "--jobs 0 is no number of processes"),
                ("detectors:disagree --json --csv a.csv", "leave --json or --csv out"),
                ("detectors:disagree --csv batches", "batches is a folder"),
            )
        ),
    ],
    "generate": [
        *(
            Run(f"made.npy --model {name} --rate 0.4 --seed 0", rf"^{name}, asked 0.4, got 0\.")
            for name in NOISE_MODELS
            if name != "confident-learning"
        ),
        *(
            Run(
                f"made.npy --model confident-learning --rate 0.4 --seed 7 --sparsity {sparsity} "
                f"--order {order} --json",
                '"got": 0.39',
            )
            for sparsity, order in itertools.product(SPARSITIES, ORDERS)
        ),
        Run(
            "made.npy --model pairflip --rate 2 --seed 0", "",
            status=2, notices="cifar-noisy: rate 2.0 is no fraction: .*\n",
        ),
        Run(
            "made.npy --model pairflip --rate 0.4 --seed 0 --sparsity 0", "",
            status=2, notices="cifar-noisy: leave --sparsity 0.0 out: .*\n",
        ),
    ],
    "tables": [
        Run("--format text --rule last --network max", r"^F1 +C_confusion +0\.71 "),
        Run("--format markdown --rule best --network first", r"^\| F1 "),
        Run("--format latex --network second --edition 2019", r"\\toprule"),
        Run("--format csv --network mean --edition 2021", "^table,edition,rule,group,"),
        Run("--json", '"Finding label errors"'),
        Run("--noise 0.4 --sparsity 0.2 --method cl_pbc", r"^F1 +CL: PBC +0\.84$"),
        Run("--against print --method argmax --noise 0.7", "^All prints together: 23 of 28 cells"),
        Run("--against print --method sceloss --json", '"n_agreeing": 12'),
        Run("--against print --format csv --noise 0", "^print,source,edition,"),
        Run("--json --format csv", "", 2, "cifar-noisy: leave --json or --format out: .*\n"),
        Run("--against paper", "", 2, "cifar-noisy: against 'paper' is unknown: .*\n"),
        Run("--noise 0.9", "", 2, "cifar-noisy: nothing published matches all filters: .*\n"),
    ],
    "report": [
        Run(
            f"{SETTING} --pyx pyx.npy --mask mask.npy --order imagefolder --examples 5 --json",
            '"has_images": false',
        ),
        Run(
            f"{HUMAN} --model resnet18 --examples 5 --out human.html",
            "^human.html: .*without images",
            needs_label_sets=True,
        ),
        Run("--labels labels.json --pyx pyx.npy --examples 5 --out own.html", "^own.html: "),
        Run("--labels labels.json --examples 5", "", 2, "cifar-noisy: no probabilities were .*\n"),
        Run(
            f"{SETTING} --images batches --trust pixels --out mine.html", "",
            status=2, notices="cifar-noisy: .*100.*\n",
        ),
    ],
    "export": [
        Run(f"noise.json {SETTING} --for dividemix", r"^noise.json: 50,000 labels .*39\.93% of"),
        Run(f"promix.json {SETTING} --for promix --json", r'"wrong": 19967'),
        Run(f"human.pt {SETTING} --for cifar-n", "^human.pt: 50,000 labels for cifar-n"),
        Run(f"new/IDN_0.4_C10.pt {SETTING} --for sop", "^new/IDN_0.4_C10.pt: 50,000 labels"),
        Run(f"labels.npy {SETTING} --for npy", "^labels.npy: 50,000 labels"),
        Run(f"kept.csv {SETTING} --for csv --clean cl_pbc --edition 2021", "^kept.csv: 25,664 "),
        Run(
            f"sop.pt {SETTING} --for sop --clean cl_pbc", "", 2,
            "cifar-noisy: leave --clean out: .* for sop has all .*; --for csv has rows .*\n",
        ),
        Run(
            f"a.csv {SETTING} --for csv --edition 2021", "", 2,
            "cifar-noisy: leave --edition 2021 out, or pass --clean and a method\n",
        ),
        Run(
            f"a.csv {SETTING} --for csv --root batches", "", 2,
            "cifar-noisy: leave --root and --trust out: .*\n",
        ),
        Run(
            f"noisy {SETTING} --for imagefolder --root batches --trust pixels", "", 2,
            "cifar-noisy: .* has 100 images: name all 50,000\n",
        ),
        Run(
            f"train.parquet {SETTING} --for huggingface --no-images --masks cl_pbc,cl_both "
            "--edition 2021",
            "^train.parquet: 50,000 labels for huggingface, 39.93% of",
        ),
        Run(
            f"a.parquet {SETTING} --for huggingface --images --root batches --trust pixels", "", 2,
            "cifar-noisy: .* has 100 images: name all 50,000\n",
        ),
        Run(
            f"a.parquet {SETTING} --for huggingface --clean cl_pbc", "", 2,
            "cifar-noisy: leave --clean out: all rows are written, --masks adds masks\n",
        ),
        Run(
            f"a.parquet {SETTING} --for huggingface --no-images --edition 2021", "", 2,
            "cifar-noisy: leave --edition out, or pass --masks: nothing else reads it\n",
        ),
        Run(
            f"a.csv {SETTING} --for csv --masks cl_pbc", "", 2,
            "cifar-noisy: leave --masks and --no-images out: csv has neither\n",
        ),
        Run(f"human.json {HUMAN} --for dividemix", "40.21% of them wrong", needs_label_sets=True),
        Run("own.json --labels labels.json --for promix", "39.93% of them wrong"),
        Run(
            f"clean.csv {HUMAN} --for csv --clean argmax --model resnet18",
            r"^clean.csv: 28,894 labels for csv, 6\.51%", needs_label_sets=True,
        ),
        Run(f"a {SETTING} --for dividmix", "", 2, "cifar-noisy: .*did you mean dividemix.*\n"),
        Run(f"a {SETTING} --for hugginface", "", 2, "cifar-noisy: .*did you mean huggingface.*\n"),
        Run(
            "own.parquet --labels labels.json --for huggingface --no-images --json",
            '"wrong": 19967',
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
        Run("--noise 0.9 --sparsity 0.2 --json batches", "exact", 2,
            "cifar-noisy: batches is a folder: name a file in it\n"),
        Run("--noise 0.9 --sparsity 0.2 --json /dev/stdout", r"\A\{(?s:.*)\}\s*\Z"),
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
        Run("", "^noise +sparsity +pyx "),
        Run("--json", '"images": '),
    ],
    "cache verify": [
        Run("", r"files: \d+ right"),
        Run("--json", '"is_right": true'),
    ],
    "cache prune": [Run("", "leftovers"), Run("--json", '"removed": ')],
    "cache export": [
        Run(f"one.tar --kind pyx {SETTING}", "^1 file written to one.tar$"),
        Run("labels.tar --kind noise_matrix --json", '"bundle": "labels.tar"'),
        Run(
            f"human.tar {HUMAN} --model resnet18", "^1 file written to human.tar$",
            notices=f"(?:{LICENCE})?", needs_label_sets=True,
        ),
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
        Run(f"--folder done2 {DIGITS} --minutes 15 --threads 1 --json", '"before": "done"'),
        Run(f"--folder own {DIGITS} --probe absent.json", "", 2, "cifar-noisy: leave the .*\n"),
        Run("--folder own --labels missing.json", "", 2, "cifar-noisy: missing.json .*\n"),
        Run("--folder own", "", 2, "cifar-noisy: which labels\\? .*\n"),
    ],
    "recompute plan": [
        Run(f"--folder planned {DIGITS}", "^ +2  collect-noise0.4-sparsity0.2 +waiting$"),
        Run(
            f"--folder planned2 {DIGITS} --seed 1 --recipe paper --dtype float16 --device cpu "
            "--train-kept cl_pbc --coteaching cl_pbc --json",
            '"state": "ready"',
        ),
        Run(f"--folder planned {DIGITS} --minutes 15", "^ +2  collect-"),
        Run(f"--folder own {DIGITS} --probe absent.json", "", 2, "cifar-noisy: leave the .*\n"),
        Run(f"--folder own {DIGITS} --labels labels.json", "", 2,
            "cifar-noisy: labels of your own .* is of CIFAR-10: .*\n"),
        Run(
            f"--folder never {SETTING} --root batches --trust pixels", "",
            status=2, notices="cifar-noisy: .*\n",
        ),
    ],
    "recompute probe": [
        Run("--out probe.json --device cpu", r"^float32 +16 +[\d,]+ "),
        Run("--json", '"precision": "bfloat16"'),
        Run("--device gpu", "", 2, "cifar-noisy: device 'gpu' is unknown.*\n"),
    ],
    "recompute run": [
        Run("--folder planned --tasks 0 --threads 1 --device cpu", "^train-.*-fold0: done$"),
        Run(
            "--folder planned --task train-noise0.4-sparsity0.2-fold1 --threads 1 --root . "
            "--trust pixels --json",
            '"before": "ready"',
        ),
        Run("--folder done --json", '"forget_rate": '),
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
    "benchmark", "evaluate", "export", "tables", "report", "images", "check-alignment", "verify",
    "demo", "recompute",
)  # fmt: skip

CHOICES: dict[str, tuple[object, ...]] = {
    "--kind": KINDS,
    "--model": NOISE_MODELS,
    "--method": (*METHODS, *OTHER_METHODS),
    "--edition": EDITIONS,
    "--trainer": TRAINERS,
    "--noise": tuple(NOISES),
    "--sparsity": tuple(SPARSITIES),
    "--format": FORMATS,
    "--rule": RULES,
    "--network": NETWORKS,
    "--against": ("print",),
    "--order": ORDERS,
    "--by": ("given", "true", "pair"),
    "--layout": ("imagefolder", "torchvision"),
    "--for": (*EXPORT_FORMATS, IMAGE_FOLDERS, HUGGINGFACE),
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
    sources = [Path(MIRROR), *([LABEL_SETS] if LABEL_SETS.is_dir() else [])]
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
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as servers:
        urls = [servers.enter_context(serving(source)).url for source in sources]
        patch.setenv("CIFAR_NOISY_MIRRORS", MIRROR)
        write_example_scores(folder)
        pyx, found = load_pyx(0.4, 0.2), load_label_errors("cl_pbnr", 0.4, 0.2)
        np.save(folder / "pyx.npy", pyx)
        np.save(folder / "mask.npy", found)
        np.save(folder / "official.npy", from_imagefolder_order(found, "torchvision"))
        (folder / "detectors.py").write_text(DETECTORS)
        (folder / "broken.py").write_text("def disagree(labels, pyx):\n    return (\n")
        (folder / "loud.py").write_text(f"print('imported')\n{DETECTORS}")
        (folder / "needy.py").write_text("import absent\n")
        (folder / "found").mkdir()
        np.save(folder / "found" / "noise0.4-sparsity0.2.npy", found)
        export = shlex.split("cache export pyx.tar --kind pyx")
        subprocess.run([PROGRAM, *export], cwd=folder, check=True, capture_output=True)
        (folder / "labels.json").write_text(
            json.dumps(load_noisy_labels(0.4, 0.2, order="torchvision").tolist())
        )
        yield environment | {"CIFAR_NOISY_MIRRORS": ",".join(urls)}


@pytest.fixture
def in_place(place: dict[str, str], own_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(place["HOME"])
    monkeypatch.setattr(readers, "CIFAR10", FAKE.release(Path("batches")))


def run_here(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the program in this process; return its exit status."""
    monkeypatch.setattr(sys, "argv", ["cifar-noisy", *words])
    monkeypatch.setattr(sys, "path", sys.path.copy())
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
    if run.needs_label_sets and not LABEL_SETS.is_dir():
        pytest.skip("needs the files of other repositories in ../shared/label_sets")
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
    if "--json" in words and said.startswith("{"):
        answer_of(said, command)
    elif "--json" in words:  # without an answer, the request failed
        assert status != 0
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


@pytest.mark.parametrize("output", ["made.npy", "-", "/dev/stdout"])
@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_generate_writes_the_labels_and_says_the_rates(
    output: str, as_json: list[str], tmp_path: Path
) -> None:
    words = ["generate", output, "--model", "asymmetric", "--rate", "0.4", "--seed", "3", *as_json]
    ran = subprocess.run([PROGRAM, *words], cwd=tmp_path, capture_output=True, check=True)
    is_file = output == "made.npy"
    content = (tmp_path / output).read_bytes() if is_file else ran.stdout
    expected = generate_labels("asymmetric", 0.4, seed=3)
    labels = np.load(io.BytesIO(content), allow_pickle=False)
    np.testing.assert_array_equal(labels, expected.labels)
    said = (ran.stdout if is_file else ran.stderr).decode()
    assert f"got {expected.got:.4f}" in said or answer_of(said, "generate")["got"] == expected.got
    assert not (ran.stderr if is_file else b"")
    assert [path.name for path in tmp_path.iterdir()] == (["made.npy"] if is_file else [])
