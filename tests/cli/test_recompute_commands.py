"""The commands of recompute as real processes, in a folder of their own."""

import json
import os
import pty
import re
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifar_noisy.cli.app import recompute_app
from tests.json_schemas import answer_of

PROGRAM = Path(sys.executable).with_name("cifar-noisy")
SHORT = ("--set", "epochs=2", "--set", "width=4")  # a second in all
PLAN = ("recompute", "plan", "--dataset", "digits", "--noise", "0.4", "--sparsity", "0.2")


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


def test_every_help_ends_in_an_example_and_they_follow_each_other(tmp_path: Path) -> None:
    ran = []
    for name in ("probe", "plan", "slurm", "run", "status", "collect", None):
        words = ("recompute", *([name] if name else []))
        said = subprocess.run(
            [PROGRAM, *words, "--help"], capture_output=True, text=True, check=True,
            env=os.environ | {"COLUMNS": "200"},
        ).stdout  # fmt: skip
        example = re.search(r"Example: cifar-noisy (.*\S)\s*$", said)
        assert example is not None, said
        arguments = example[1].split()
        assert tuple(arguments[: len(words)]) == words
        short = SHORT if name in ("plan", None) else ()
        result = run(tmp_path, *arguments, *short)
        assert result.returncode == 0, result.stderr
        assert [line for line in result.stderr.splitlines() if ": epoch " not in line] == []
        ran.append(name)
        if name == "status":
            states = re.findall(r" (done|ready|waiting|started)\s*$", result.stdout, re.MULTILINE)
            assert states == ["done"] * 4 + ["ready"]
    assert {command.name for command in recompute_app.registered_commands} == {*ran} - {None}
    assert result.stdout.count("done before") == 5
    assert re.search(r"argmax +0\.\d{4} +0\.\d{4} +0\.\d{4}", result.stdout)
    assert re.search(r"given labels 0\.\d{3} \(the noise allows 0\.\d{3}\)", result.stdout)


def status_of(folder: Path) -> Any:
    answer = answer_of(run(folder, "recompute", "status", "--json").stdout, "recompute status")
    return answer["tasks"]


def test_json_tells_tasks_and_summaries(tmp_path: Path) -> None:
    tasks = answer_of(run(tmp_path, *PLAN, *SHORT, "--json").stdout, "recompute plan")["tasks"]
    assert [task["state"] for task in tasks] == ["ready"] * 4 + ["waiting"]
    assert tasks[4]["needs"] == [task["id"] for task in tasks[:4]]
    assert status_of(tmp_path) == tasks
    result = run(tmp_path, "recompute", "run", "--task", tasks[2]["id"], "--tasks", "3", "--json")
    folds = [
        {"task": task["id"], "before": "ready", "record": None, "published": None}
        for task in tasks[2:4]
    ]
    assert answer_of(result.stdout, "recompute run")["tasks"] == folds
    states = status_of(tmp_path)
    assert [task["state"] for task in states] == ["ready", "ready", "done", "done", "waiting"]
    result = run(tmp_path, "recompute", "run", "--json")
    *before, collected = answer_of(result.stdout, "recompute run")["tasks"]
    assert [task["before"] for task in before] == ["ready", "ready", "done", "done"]
    for path in collected["record"]["files"]:
        assert len(np.load(tmp_path / "recomputed" / path)) == 1797


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planned")
    assert run(folder, *PLAN).returncode == 0
    return folder


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("run", "--tasks", "3-5"), 2, r"--tasks 3-5 is no range of this plan's tasks, 0-4"),
        (("run", "--tasks", "x"), 2, "is no range"),
        (("run", "--task", "fold9"), 2, "'fold9' is not in this plan"),
        (("run", "--device", "cuda:77"), 1, "is not there"),
        (("collect",), 1, "needs tasks that are not done"),
        ((*PLAN[1:], "--seed", "1"), 1, "another configuration"),
        ((*PLAN[1:], "--set", "epoch=1"), 2, "'epoch' is unknown"),
        (("plan", "--sparsity", "0.4"), 2, "Pass --noise and --sparsity"),
        (("status", "--folder", "nowhere"), 2, r"has no plan\.json"),
        (("--folder", "elsewhere", "status"), 2, "options of recompute status stand before it"),
        ((*PLAN[1:], "--device", "tpu"), 2, "device 'tpu' is unknown"),
        (("run", "--devices", "meta,meta"), 2, "device 'meta' is unknown"),
        (("slurm", "--device", "gpu"), 2, "device 'gpu' is unknown"),
        ((*PLAN[1:], "--set", "width"), 2, "'width' is no pair"),
        (("run", "--tasks", "0-"), 2, "--tasks 0- is no range"),
        (("run", "--tasks", "1" * 5000), 2, "is no range"),
        (("run", "--devices", ""), 2, "device '' is unknown"),
        (("status", "--folder", os.devnull), 2, r"has no plan\.json"),
        (("plan", "--noise", "0.4", "--dataset", "digits"), 2, "sparsity is missing"),
        ((*PLAN[1:], "--root", "."), 2, "leave out --root and --trust: the digits need no images"),
        ((*PLAN[1:], "--trust", "pixels"), 2, "leave out --root and --trust"),
        ((*PLAN[2:], "--root", "nowhere"), 2, "leave out --root and --trust"),
        ((*PLAN[2:], "--root", ".", "--trust", "pixel"), 2, "leave out --root and --trust"),
    ],
)
def test_an_error_is_one_line(
    arguments: tuple[str, ...], status: int, said: str, planned: Path
) -> None:
    result = run(planned, "recompute", *arguments)
    assert (result.returncode, result.stdout) == (status, "")
    assert re.fullmatch(rf"cifar-noisy: .*{said}.*\n", result.stderr)


def test_sparsity_may_be_left_out_where_noise_is_0(tmp_path: Path) -> None:
    words = (*PLAN[1:4], "--noise", "0", "--json")
    tasks = answer_of(run(tmp_path, "recompute", *words).stdout, "recompute plan")["tasks"]
    assert tasks[0]["id"] == "train-noise0-sparsity0-fold0"


def test_jobs_have_a_bound(planned: Path) -> None:
    result = run(planned, "recompute", "run", "--jobs-per-device", "100000000000")
    assert (result.returncode, result.stdout) == (2, "")
    assert "--jobs-per-device" in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--set", "batch_size=1348"), "does not fit 1,347 training examples"),
        (("--folds", "200"), "200 folds of 174 examples of a class"),
    ],
)
def test_what_cannot_be_trained_is_not_planned(
    words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    result = run(tmp_path, *PLAN, *words)
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(rf"cifar-noisy: .*{said}.*\n", result.stderr)
    assert list(tmp_path.iterdir()) == []


def test_a_terminal_sees_the_steps_of_a_training(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (24, 120))  # nothing is drawn where there is no column
    words = ("recompute", *PLAN[2:], "--threads", "1", "--set", "epochs=1", "--folds", "2")
    with subprocess.Popen([PROGRAM, *words], cwd=tmp_path, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        seen = b""
        try:
            while part := os.read(ours, 4096):
                seen += part
        except OSError:  # how Linux says that the other end was closed
            pass
    os.close(ours)
    assert process.returncode == 0, seen
    assert re.search(rb"train-noise0.4-sparsity0.2-fold0: .*step", seen), seen
    # A bar is wiped away before a line is printed, which therefore begins one.
    for line in (rb"train-noise0.4-sparsity0.2-fold0: done", rb"noise 0.4, sparsity 0.2: accuracy"):
        assert re.search(rb"[\r\n]" + line, seen), seen
    assert b"epoch" not in seen


def test_a_pipe_sees_a_line_for_each_epoch(tmp_path: Path) -> None:
    words = ("recompute", *PLAN[2:], "--threads", "1", "--set", "epochs=2", "--folds", "2")
    told = run(tmp_path, *words).stderr.splitlines()
    name = "train-noise0.4-sparsity0.2-fold"
    assert [line.rpartition(",")[0] for line in told] == [
        f"{name}{fold}: epoch {epoch} of 2" for fold in (0, 1) for epoch in (1, 2)
    ]
    assert re.fullmatch(r".*, \d\d:\d\d left", told[0])
    assert told[1].endswith(", 00:00 left")


def test_a_training_is_continued_on_the_hardware_that_it_was_begun_on(tmp_path: Path) -> None:
    """Refused with other threads; the command that is told fits, as does the option."""
    planned = run(tmp_path, *PLAN, "--folds", "2", "--set", "epochs=40", "--set", "width=4")
    assert planned.returncode == 0
    for number, (threads, fits) in enumerate((("1", True), ("2", False))):
        task = f"train-noise0.4-sparsity0.2-fold{number}"
        begin = [str(PROGRAM), "recompute", "run", "--task", task, "--threads", threads]
        with subprocess.Popen(begin, cwd=tmp_path, stderr=subprocess.PIPE) as process:
            while not (tmp_path / "recomputed/work" / task / "checkpoint.pt").exists():
                assert process.poll() is None
                time.sleep(0.001)
            process.terminate()
        other = "2" if threads == "1" else "1"
        words = ("recompute", "run", "--task", task, "--threads", other)
        result = run(tmp_path, *words)
        assert (result.returncode, result.stdout) == (1, "")
        found = re.fullmatch(
            rf"cifar-noisy: {task} was begun with threads {threads}; here threads {other}: "
            r"continue it with cifar-noisy (.*), or, to get other bits, add --allow-other-.*\n",
            result.stderr,
        )
        assert found is not None, result.stderr
        words = (*found[1].split(), "--task", task) if fits else (*words, "--allow-other-hardware")
        result = run(tmp_path, *words)
        assert result.returncode == 0, result.stderr
        about = json.loads((tmp_path / "recomputed/work" / task / "about.json").read_text())
        used = [hardware["threads"] for hardware in about["hardware"]]
        assert used == ([int(threads)] if fits else [int(threads), int(other)])


@pytest.mark.parametrize("labels", ["--noise cifar10n-worst", "--labels mine.npy",
                                    "--noise noise0.4-sparsity0.2"])  # fmt: skip
def test_a_sparsity_that_goes_with_nothing_is_refused(labels: str, tmp_path: Path) -> None:
    np.save(tmp_path / "mine.npy", np.repeat(np.arange(10), 5_000))
    for command in ("recompute plan", "recompute"):
        result = run(tmp_path, *command.split(), *labels.split(), "--sparsity", "0.4")
        assert result.returncode == 2
        assert "leave --sparsity 0.4 out: it goes with a fraction as --noise" in result.stderr
    assert not (tmp_path / "recomputed").exists()


@pytest.mark.parametrize(
    ("labels", "status", "said"),
    [
        ("--noise cifar10n-worst", 2, "no training of the recipe was published for cifar10n-worst"),
        ("--noise 0.9 --sparsity 0.2", 2, "pyx does not exist for noise 0.9"),
        ("--noise 0.4 --sparsity 0.2", 3, "could not be had"),
    ],
)
def test_nothing_is_trained_that_cannot_be_compared(
    labels: str, status: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIFAR_NOISY_OFFLINE", "1")
    result = run(tmp_path, "verify", "--retrain", *labels.split())
    assert (result.returncode, result.stdout) == (status, "")
    assert said in result.stderr
    assert not (tmp_path / "recomputed").exists()
