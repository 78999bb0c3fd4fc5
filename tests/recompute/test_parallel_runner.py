"""Several tasks at a time on one machine, as real processes: same bytes, failures, signals."""

import errno
import os
import re
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from cifar_noisy import InvalidInputError, RecomputeError, Setting
from cifar_noisy.recompute.checkpoints import save_checkpoint
from cifar_noisy.recompute.datasets import open_dataset
from cifar_noisy.recompute.hardware import hardware
from cifar_noisy.recompute.parallel_runner import run_tasks_in_parallel
from cifar_noisy.recompute.plan_file import save_plan
from cifar_noisy.recompute.run_command import RunCommand
from cifar_noisy.recompute.run_config import RunConfig, make_run_config, tasks_of
from cifar_noisy.recompute.task_files import checkpoint_files, state_of
from cifar_noisy.recompute.task_runner import run_tasks

# Long enough to be met at work.
LONG = {"epochs": 15, "width": 4}


@pytest.fixture(scope="module")
def config() -> RunConfig:
    digest = open_dataset("digits").digest()
    return make_run_config([Setting(0.4, 0.2)], digest, dataset="digits", n_folds=3, overrides=LONG)


@pytest.fixture(scope="module")
def serial(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serial")
    save_plan(config, folder)
    list(run_tasks(config, open_dataset("digits"), folder, threads=1))
    return folder


def arrays(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.npy")}


def program(folder: Path, *more: str) -> subprocess.Popen[str]:
    words = [*RunCommand(folder, threads=1).argv(), "--jobs-per-device", "2", *more]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    said, complained = process.communicate()
    return process.returncode, said, complained


def epochs(complained: str) -> tuple[list[str], str]:
    """Return the lines that tell of epochs, and the others."""
    lines = complained.splitlines(keepends=True)
    told = [line for line in lines if ": epoch " in line]
    return [line.rstrip() for line in told], "".join(x for x in lines if x not in told)


def test_a_stopped_run_continues_to_the_bytes_of_a_serial_one(
    config: RunConfig, serial: Path, tmp_path: Path
) -> None:
    save_plan(config, tmp_path)
    process = program(tmp_path)
    while len(list(tmp_path.glob("work/*/checkpoint.pt"))) < 2:  # both slots are at work
        assert process.poll() is None, ended(process)
        time.sleep(0.001)
    children = psutil.Process(process.pid).children()
    assert len(children) == 2
    process.send_signal(signal.SIGUSR1)
    status, _, complained = ended(process)
    complained = epochs(complained)[1]
    assert (status, complained.count("\n")) == (75, 1)
    assert "2 tasks were stopped by a signal and saved, 2 not begun" in complained
    assert not any(child.is_running() for child in children)
    states = [state_of(task, config, tmp_path) for task in tasks_of(config)]
    assert states == ["started", "started", "ready", "waiting"]

    status, said, complained = ended(program(tmp_path))
    assert (status, epochs(complained)[1]) == (0, "")
    order = re.findall(r"^(\S+): done$", said, re.MULTILINE)
    assert sorted(order) == sorted(task.id for task in tasks_of(config))
    assert order[-1] == tasks_of(config)[-1].id
    assert "the noise allows 0.617" in said
    assert arrays(tmp_path) == arrays(serial)


def test_what_is_done_is_left_alone(config: RunConfig, serial: Path) -> None:
    before = arrays(serial)
    outcomes = run_tasks_in_parallel(config, RunCommand(serial), ["cpu", "cpu"])
    assert [state for _, state in outcomes] == ["done"] * 4
    assert arrays(serial) == before


def test_failed_tasks_are_told_and_the_others_go_on(config: RunConfig, tmp_path: Path) -> None:
    """One was begun on other hardware, one is killed, one ends well, one needs all three."""
    save_plan(config, tmp_path)
    first, second, *_ = [checkpoint_files(task, tmp_path) for task in tasks_of(config)]
    begun = {
        "configuration": config.config_sha256(),
        "hardware": [hardware("cpu") | {"threads": 7}],
    }
    save_checkpoint(first, {"task": tasks_of(config)[0].id, **begun})
    process = program(tmp_path, "--devices", "cpu")
    while not second[0].exists():
        assert process.poll() is None, ended(process)
        time.sleep(0.001)
    for child in psutil.Process(process.pid).children():
        if tasks_of(config)[1].id in child.cmdline():
            child.kill()
    status, said, complained = ended(process)
    assert (status, said) == (1, f"{tasks_of(config)[2].id}: done\n")
    told, problem = epochs(complained)
    assert f"{tasks_of(config)[2].id}: epoch 15 of 15, 00:00 left" in told
    assert re.fullmatch(r"cifar-noisy: [^\n]+\n", problem)
    assert "fold0 was begun with threads 7; here threads 1: continue it with" in problem
    assert "fold1: its process was killed by SIGKILL; what it saved is kept" in problem
    states = [state_of(task, config, tmp_path) for task in tasks_of(config)]
    assert states == ["started", "started", "done", "waiting"]


def test_a_process_that_cannot_be_started_is_one_line(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the system says where ulimit -u is reached, at the second process or its thread."""
    save_plan(config, tmp_path)
    start = subprocess.Popen
    started: list[subprocess.Popen[str]] = []

    def limited(*words: Any, **more: Any) -> subprocess.Popen[str]:
        if started:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        started.append(start(*words, **more))
        return started[0]

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", limited)
        with pytest.raises(RecomputeError, match=r"\(Resource temporarily unavail.*ulimit -u"):
            list(run_tasks_in_parallel(config, RunCommand(tmp_path), ["cpu", "cpu"]))
    assert started[0].poll() is not None

    def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(ThreadPoolExecutor, "submit", no_thread)
    with pytest.raises(RecomputeError, match=r"\(can't start new thread\).*ulimit -u"):
        list(run_tasks_in_parallel(config, RunCommand(tmp_path), ["cpu", "cpu"]))


def test_a_run_that_is_killed_ends_its_processes_within_an_epoch(
    config: RunConfig, tmp_path: Path
) -> None:
    save_plan(config, tmp_path)
    process = program(tmp_path)
    while len(list(tmp_path.glob("work/*/checkpoint.pt"))) < 2:
        assert process.poll() is None, ended(process)
        time.sleep(0.001)
    children = psutil.Process(process.pid).children()
    process.kill()
    ended(process)
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []
    states = [state_of(task, config, tmp_path) for task in tasks_of(config)]
    assert states == ["started", "started", "ready", "waiting"]


def test_runs_are_refused_where_they_make_no_sense(config: RunConfig, tmp_path: Path) -> None:
    save_plan(config, tmp_path)
    command = RunCommand(tmp_path)
    collect = tasks_of(config)[-1].id
    with pytest.raises(RecomputeError, match="needs tasks that are not done"):
        list(run_tasks_in_parallel(config, command, ["cpu", "cpu"], task_ids=[collect]))
    with pytest.raises(RecomputeError, match="'cuda:77' is not there"):
        list(run_tasks_in_parallel(config, command, ["cpu", "cuda:77"]))
    with pytest.raises(InvalidInputError, match="is not in this plan"):
        list(run_tasks_in_parallel(config, command, ["cpu", "cpu"], task_ids=["fold9"]))
    status, _, complained = ended(program(tmp_path, "--device", "cuda", "--devices", "cpu"))
    assert (status, complained.count("\n")) == (2, 1)
    assert "pass one of them" in complained


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_two_processes_share_a_cuda_device(config: RunConfig, tmp_path: Path) -> None:
    save_plan(config, tmp_path)
    assert ended(program(tmp_path, "--devices", "cuda:0"))[0] == 0
    assert [state_of(task, config, tmp_path) for task in tasks_of(config)] == ["done"] * 4
