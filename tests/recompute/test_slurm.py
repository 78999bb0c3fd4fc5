"""A plan as Slurm job arrays: the scripts as text, and a real Slurm that is disturbed at work."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from cifar_noisy import InvalidInputError, RecomputeError, Setting
from cifar_noisy.recompute import slurm
from cifar_noisy.recompute.checkpoints import save_checkpoint
from cifar_noisy.recompute.datasets import open_dataset
from cifar_noisy.recompute.hardware import hardware
from cifar_noisy.recompute.plan_file import load_plan, make_plan, save_plan
from cifar_noisy.recompute.run_command import RunCommand
from cifar_noisy.recompute.run_config import GivenMask, Task, make_run_config, tasks_of
from cifar_noisy.recompute.task_files import checkpoint_files, state_of
from cifar_noisy.recompute.task_runner import run_tasks
from tests.json_schemas import answer_of
from tests.slurm_cluster import Cluster, cluster, wait_for, why_not

PROGRAM = Path(sys.executable).with_name("cifar-noisy")
SETTING = Setting(0.4, 0.2)
ODD = 'it\'s a "plan" #1, 100%a $HOME `x`'


def task(task_id: str, *needs: str) -> Task:
    kind: Literal["collect", "train"] = "collect" if task_id.startswith("collect") else "train"
    return Task(task_id, kind, SETTING, depends_on=needs)


# Two chains that meet, and one task beside them.
TASKS = [task("a"), task("b"), task("c", "a"), task("d", "c", "b"), task("e")]


def ids(arrays: tuple[slurm.JobArray, ...]) -> list[tuple[str, tuple[str, ...]]]:
    return [(array.name, array.task_ids) for array in arrays]


def test_a_level_holds_what_needs_only_the_levels_before() -> None:
    assert ids(slurm.job_arrays(TASKS, (), 1000)) == [
        ("level1-part1", ("a", "b", "e")),
        ("level2-part1", ("c",)),
        ("level3-part1", ("d",)),
    ]
    assert ids(slurm.job_arrays(TASKS, {"a", "e"}, 1000)) == [
        ("level1-part1", ("b", "c")),
        ("level2-part1", ("d",)),
    ]
    assert slurm.job_arrays(TASKS, {"a", "e"}, 1000)[1].depends_on == ("c", "b")
    assert slurm.job_arrays(TASKS, {"a", "b", "c", "d", "e"}, 1000) == ()


def test_an_array_is_no_longer_than_the_site_allows() -> None:
    assert ids(slurm.job_arrays(TASKS, (), 2))[:3] == [
        ("level1-part1", ("a", "b")),
        ("level1-part2", ("e",)),
        ("level2-part1", ("c",)),
    ]
    many = [task(f"t{number}") for number in range(2500)]
    arrays = slurm.job_arrays(many, (), 1000)
    assert [len(array.task_ids) for array in arrays] == [1000, 1000, 500]
    assert [i for array in arrays for i in array.task_ids] == [t.id for t in many]
    with pytest.raises(InvalidInputError, match="array limit 0"):
        slurm.job_arrays(TASKS, (), 0)


def test_the_scripts_are_bash_and_say_what_was_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / ODD
    command = RunCommand(folder, tmp_path / "im ages", "pixels", "cuda", 8)
    resources = slurm.Resources(8, "gpu", "gpu:a100:1", "4:00:00", "16G", "it's mine")
    arrays = slurm.job_arrays(TASKS, (), 2)
    paths = slurm.write_scripts(arrays, command, resources, tmp_path / "ca che")
    names = {path.name for path in folder.joinpath("slurm").iterdir()}
    assert names == {*(path.name for path in paths), "submit.sh"}
    for path in folder.joinpath("slurm").iterdir():
        subprocess.run(["bash", "-n", path], check=True)
    text = paths[0].read_text()
    for option in ("array=0-1", "partition=gpu", "gres=gpu:a100:1", "time=4:00:00", "mem=16G",
                   "cpus-per-task=8", "requeue", "open-mode=append"):  # fmt: skip
        assert f"\n#SBATCH --{option}\n" in text
    words = shlex.split(text, comments=True)
    options = words[words.index("srun") : words.index("--task")]
    assert options[options.index("--folder") + 1] == str(folder)
    assert options[options.index("--root") + 1] == str(tmp_path / "im ages")
    assert options[options.index("--threads") + 1] == "8"
    assert f"CIFAR_NOISY_CACHE={tmp_path / 'ca che'}" in words

    slurm.write_scripts(arrays[:1], command, resources, tmp_path)
    assert not paths[-1].exists()
    with pytest.raises(InvalidInputError, match="cannot stand in a script"):
        slurm.array_script(arrays[0], RunCommand(tmp_path / "a\nb"), resources, tmp_path)


def test_collecting_asks_for_no_gpu_and_waits_for_its_own_setting(tmp_path: Path) -> None:
    tasks = [task("a0"), task("a1"), task("collect-a", "a0", "a1"), task("collect-b", "b0"),
             task("k", "collect-a")]  # fmt: skip
    arrays = slurm.job_arrays(tasks, {"b0"}, 10)
    assert ids(arrays) == [
        ("level1-part1", ("a0", "a1")),
        ("level1-part2", ("collect-b",)),
        ("level2-part1", ("collect-a",)),
        ("level3-part1", ("k",)),
    ]
    resources = slurm.Resources(gres="gpu:1", max_parallel=1, setup=("module load cuda", "set -x"))
    command = RunCommand(tmp_path, device="cuda", allow_other_hardware=True)
    for array in arrays:
        text = slurm.array_script(array, command, resources, tmp_path)
        trains = array.task_ids[0][:7] != "collect"
        assert (("gpu:1" in text), ("--device cuda " in text)) == (trains, trains)
        assert f"array=0-{len(array.task_ids) - 1}%1\n" in text
        assert "\nmodule load cuda\nset -x\n\nsrun" in text
        assert "--allow-other-hardware" in text
    script = slurm.submit_script(arrays, tmp_path)
    assert 'afterok:${level1_part1%%;*}_0:${level1_part1%%;*}_1" level2-part1.sh' in script
    assert 'afterok:${level2_part1%%;*}_0" level3-part1.sh' in script
    assert script.count("afterok") == 2
    odd = slurm.Resources(setup=("a\nb",))
    with pytest.raises(InvalidInputError, match="cannot stand in a script"):
        slurm.array_script(arrays[0], command, odd, tmp_path)


def test_a_path_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/\xff"
    plan(Path(os.fsdecode(folder)))
    result = subprocess.run(
        [PROGRAM, b"recompute", b"slurm", b"--folder", folder], capture_output=True, check=False
    )
    assert (result.returncode, result.stdout) == (2, b"")
    assert re.fullmatch(rb"cifar-noisy: .*udcff.* cannot stand in a script: .*\n", result.stderr)


def test_a_gpu_that_is_asked_for_is_used() -> None:
    assert slurm.Resources(gres="gpu:1").device == "cuda"
    assert slurm.Resources(gres="shard:1").device == slurm.Resources().device == "cpu"


def test_without_slurm_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm.site_array_limit() == 1000
    with pytest.raises(RecomputeError, match="sbatch is not on this machine"):
        slurm.submit(tmp_path)


@pytest.fixture(scope="module")
def site() -> Iterator[Cluster]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with cluster() as found:
        yield found


@pytest.fixture
def on_site(site: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    for name, value in site.environment.items():
        monkeypatch.setenv(name, value)
    return site


def plan(folder: Path) -> None:
    """Three folds, each long enough to be met at work."""
    digest = open_dataset("digits").digest()
    overrides = {"epochs": 25, "width": 4}
    config = make_run_config(
        [SETTING], digest, dataset="digits", n_folds=3, overrides=overrides
    )  # fmt: skip
    save_plan(config, folder)


def submit(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, "recompute", "slurm", "--folder", folder, "--submit", "--json", *more],
        capture_output=True, text=True, check=False, env=os.environ,
    )  # fmt: skip


def jobs_of(result: subprocess.CompletedProcess[str]) -> list[str]:
    assert (result.returncode, result.stderr) == (0, "")
    return [array["job"] for array in answer_of(result.stdout, "recompute slurm")["arrays"]]


def states(folder: Path) -> list[str]:
    config = load_plan(folder)
    return [state_of(task, config, folder) for task in tasks_of(config)]


def logs(folder: Path) -> str:
    return "".join(path.read_text() for path in sorted(folder.glob("slurm/*.log")))


def test_a_plan_that_is_disturbed_ends_with_the_bytes_of_a_local_run(
    on_site: Cluster, tmp_path: Path
) -> None:
    """Requeue one task, tell one that its time is up, cancel one; then submit again."""
    folder = tmp_path / ODD
    plan(folder)
    tasks = tasks_of(load_plan(folder))
    first, second, collect = jobs_of(submit(folder))  # arrays of two: the site's limit
    refused = submit(folder)
    assert refused.returncode == 1
    assert re.fullmatch(r"cifar-noisy: .*scancel \d+ \d+ \d+\)\n", refused.stderr)

    def wait_until_begun(number: int) -> None:
        checkpoint = folder / "work" / tasks[number].id / "checkpoint.pt"
        wait_for(checkpoint.exists, f"a checkpoint of task {number}: {logs(folder)}")

    wait_until_begun(0)
    on_site.run("scontrol", "requeue", f"{first}_0")
    wait_until_begun(1)
    on_site.run("scancel", "--signal=USR1", f"{first}_1")
    wait_until_begun(2)
    on_site.run("scancel", f"{second}_0")
    wait_for(lambda: not on_site.queue(), f"the queue to be empty: {logs(folder)}")

    assert [on_site.job(f"{first}_{index}")["Restarts"] for index in (0, 1)] == ["1", "1"]
    assert logs(folder).count("stopped by a signal") == 3, logs(folder)
    assert on_site.job(f"{second}_0")["JobState"] == "CANCELLED"
    assert on_site.job(f"{second}_0")["Restarts"] == "0"
    assert on_site.job(f"{collect}_0")["JobState"] == "CANCELLED"
    assert states(folder) == ["done", "done", "started", "waiting"]

    again = jobs_of(submit(folder))
    assert len(again) == 2
    wait_for(lambda: not on_site.queue(), f"the queue to be empty: {logs(folder)}")
    assert states(folder) == ["done"] * 4, logs(folder)
    assert jobs_of(submit(folder)) == []

    local = tmp_path / "local"
    plan(local)
    list(run_tasks(load_plan(local), open_dataset("digits"), local, threads=1))
    arrays = sorted(path.relative_to(local) for path in local.rglob("*.npy"))
    assert len(arrays) == 3 + 6
    for array in arrays:
        assert (folder / array).read_bytes() == (local / array).read_bytes(), array


def test_a_failed_fold_cancels_its_own_setting_alone(
    on_site: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Submitted within a job whose settings exclude each other, with a throttle and a setup."""
    settings = [SETTING, Setting(0.2, 0)]
    digest = open_dataset("digits").digest()
    overrides = {"epochs": 1, "width": 4}
    config = make_run_config(settings, digest, dataset="digits", n_folds=2, overrides=overrides)
    save_plan(config, tmp_path)
    bad = tasks_of(config)[0]
    begun = {
        "configuration": config.config_sha256(),
        "hardware": [hardware("cpu") | {"threads": 7}],
    }
    save_checkpoint(checkpoint_files(bad, tmp_path), {"task": bad.id, **begun})
    for name, value in {"JOB_ID": "1", "MEM_PER_CPU": "1", "MEM_PER_NODE": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    setup = 'env > "$SLURM_ARRAY_JOB_ID.environment"'
    jobs = jobs_of(submit(tmp_path, "--max-parallel", "1", "--setup", setup))
    assert len(jobs) == 2 + 2
    wait_for(lambda: not on_site.queue(), f"the queue to be empty: {logs(tmp_path)}")
    assert states(tmp_path) == ["started", "done", "waiting"] + ["done"] * 3, logs(tmp_path)
    assert [on_site.job(f"{job}_0")["JobState"] for job in jobs[2:]] == ["CANCELLED", "COMPLETED"]
    assert f"{bad.id} was begun with threads 7; here threads 1" in logs(tmp_path)
    seen = (tmp_path / "slurm" / f"{jobs[0]}.environment").read_text()
    assert "SLURM_MEM_PER_CPU" not in seen


def test_trainings_on_given_masks(on_site: Cluster, tmp_path: Path) -> None:
    """As a benchmark plans them: one level, and nothing to merge."""
    digits = open_dataset("digits", load_test_set=True)
    keeps = [np.arange(len(digits.labels)) % n > 0 for n in (2, 3)]
    arrays = {GivenMask.of(SETTING, keep): keep for keep in keeps}
    overrides = {"epochs": 1, "width": 4}
    make_plan(
        make_run_config([], masks=arrays, dataset="digits", overrides=overrides), tmp_path, arrays
    )
    assert len(jobs_of(submit(tmp_path))) == 1
    wait_for(lambda: not on_site.queue(), f"the queue to be empty: {logs(tmp_path)}")
    assert states(tmp_path) == ["done"] * 2, logs(tmp_path)
    assert logs(tmp_path).count(": test accuracy 0.") == 2


def test_what_slurm_refuses_is_one_line(on_site: Cluster, tmp_path: Path) -> None:
    plan(tmp_path)
    result = submit(tmp_path, "--partition", "nowhere")
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(
        r"cifar-noisy: nothing more was submitted \(.*invalid partition.*\)\n", result.stderr
    )
    assert on_site.queue() == []
