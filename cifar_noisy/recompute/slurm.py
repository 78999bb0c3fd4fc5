"""Slurm job arrays of a plan: scripts to read, and to change where a site needs something else.

    slurm/level1-part1.sh     an array of tasks that depend on none of the others; part 2, ... if
                              the site allows no array that is long enough for all
    slurm/level2-part1.sh     merges the folds of a setting; part 2, ... of other settings
    slurm/submit.sh           sbatch of all, each array after the tasks that it depends on
    slurm/<array>_<index>.log output of the jobs

Only tasks that are not done are written, so the same command submits again what failed or was
cancelled. sbatch reads SBATCH_* variables too, and lets them override the options in a script.
"""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cifar_noisy.errors import InvalidInputError, RecomputeError
from cifar_noisy.recompute.run_command import RunCommand
from cifar_noisy.recompute.run_config import Task
from cifar_noisy.store.files import stale_partial_files
from cifar_noisy.store.sealed import write_durably

_SECONDS_TO_SAVE = 120
_DEFAULT_ARRAY_LIMIT = 1000
_SCONTROL_TIMEOUT_SECONDS = 30.0
_OPTIONAL = ("partition", "gres", "time", "mem", "account")  # options of sbatch


@dataclass(frozen=True)
class Resources:
    """What each task asks of Slurm; the options of sbatch, None for the site's default.

    Merging the folds of a setting asks for no gres. At most `max_parallel` tasks of an array run at
    a time. The lines of `setup` are bash that runs first.
    """

    cpus_per_task: int = 1
    partition: str | None = None
    gres: str | None = None
    time: str | None = None
    mem: str | None = None
    account: str | None = None
    max_parallel: int | None = None
    setup: tuple[str, ...] = ()

    @property
    def device(self) -> str:
        """What a task trains on: "cuda" where a GPU is asked for."""
        return "cuda" if self.gres is not None and "gpu" in self.gres.lower() else "cpu"


@dataclass(frozen=True)
class JobArray:
    """Tasks, by array index, that depend on the same tasks of other arrays and not on each other.

    `is_training` is False for tasks that only merge folds.
    """

    name: str
    task_ids: tuple[str, ...]
    depends_on: tuple[str, ...] = ()
    is_training: bool = True


def job_arrays(
    tasks: Sequence[Task], done: Collection[str], array_limit: int
) -> tuple[JobArray, ...]:
    """Return arrays, of `array_limit` tasks at most, of all tasks whose ids are not in `done`.

    An array of level n depends on arrays of lower levels. Each task comes after those that it
    depends on.
    """
    if array_limit < 1:
        raise InvalidInputError(f"array limit {array_limit} is too small: it must be 1 or more")
    level_of: dict[str, int] = {}
    groups: dict[tuple[int, tuple[str, ...], bool], list[str]] = {}
    for task in tasks:
        if task.id not in done:
            depends_on = tuple(task_id for task_id in task.depends_on if task_id in level_of)
            level = 1 + max((level_of[task_id] for task_id in depends_on), default=0)
            level_of[task.id] = level
            groups.setdefault((level, depends_on, task.kind != "collect"), []).append(task.id)
    arrays, n_parts = [], Counter[int]()
    for (level, depends_on, is_training), ids in sorted(
        groups.items(), key=lambda item: item[0][0]
    ):
        for first in range(0, len(ids), array_limit):
            n_parts[level] += 1
            chunk = tuple(ids[first : first + array_limit])
            name = f"level{level}-part{n_parts[level]}"
            arrays.append(JobArray(name, chunk, depends_on, is_training))
    return tuple(arrays)


def job_name(folder: Path) -> str:
    """Return the name of a folder's jobs in the queue, which no other folder's have."""
    return f"cifar-noisy-{hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:8]}"


def array_script(array: JobArray, command: RunCommand, resources: Resources, cache: Path) -> str:
    """Return the sbatch script of an array.

    Slurm tells a task to stop two minutes before its time is up. The task saves and puts itself
    back into the queue; there it continues, as it does after a node was lost.
    """
    if not array.is_training:
        resources, command = replace(resources, gres=None), replace(command, device="cpu")
    throttle = f"%{resources.max_parallel}" if resources.max_parallel else ""
    folder = str(command.folder.absolute()).replace("%", "%%")  # a % is Slurm's in names of logs
    options = {
        "job-name": job_name(command.folder),
        "array": f"0-{len(array.task_ids) - 1}{throttle}",
        "output": f"{folder}/slurm/%A_%a.log",
        "open-mode": "append",
        "signal": f"USR1@{_SECONDS_TO_SAVE}",
        "kill-on-invalid-dep": "yes",
        "nodes": "1",
        "ntasks": "1",
        "cpus-per-task": str(resources.cpus_per_task),
        **{name: getattr(resources, name) for name in _OPTIONAL},
    }
    lines = [f"{name}={shlex.quote(value)}" for name, value in options.items() if value is not None]
    for value in (*lines, *command.argv(), str(cache), *resources.setup):
        if not value.isprintable():  # an option of sbatch cannot hold a line break
            raise InvalidInputError(
                f"{value!a} cannot stand in a script: use text without line breaks and the like"
            )
    return _ARRAY.format(
        name=array.name,
        n_tasks=len(array.task_ids),
        options="\n".join(f"#SBATCH --{line}" for line in ["requeue", *lines]),
        tasks="\n".join(f"  {shlex.quote(task_id)}" for task_id in array.task_ids),
        cache=shlex.quote(str(cache.absolute())),
        setup="".join(f"{line}\n" for line in resources.setup),
        cpus=resources.cpus_per_task,
        run=shlex.join(command.argv()),
        seconds=_SECONDS_TO_SAVE,
    )


_ARRAY = """\
#!/bin/bash
# {name}: {n_tasks} of the plan's tasks. Written by cifar-noisy recompute slurm; see submit.sh.
{options}

tasks=(
{tasks}
)
task=${{tasks[$SLURM_ARRAY_TASK_ID]}}
me=${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID
echo "$(date -Is) $task on $(hostname), start $((${{SLURM_RESTART_COUNT:-0}} + 1))"

# Compute nodes need no network: images and labels come from this cache.
export CIFAR_NOISY_CACHE={cache}
export CIFAR_NOISY_OFFLINE=1
{setup}
srun --ntasks=1 --cpus-per-task={cpus} {run} --task "$task"
status=$?

# 75: a signal, USR1 {seconds} s before the time limit, made it stop, and it saved. Continue later,
# unless it is being cancelled or requeued already: then Slurm no longer calls it running.
if [ "$status" -eq 75 ] && [ "$(squeue --noheader --jobs="$me" --format=%T)" = RUNNING ]; then
  scontrol requeue "$me"
fi
exit "$status"
"""


def submit_script(arrays: Sequence[JobArray], folder: Path) -> str:
    """Return the script that submits arrays, each after the tasks that it depends on."""
    lines: list[str] = []
    job_of: dict[str, str] = {}
    for array in arrays:
        variable = array.name.replace("-", "_")
        after = "".join(f":{job_of[task_id]}" for task_id in array.depends_on)
        dependency = f'--dependency="afterok{after}" ' if after else ""
        lines += [
            f"{variable}=$(sbatch --parsable {dependency}{array.name}.sh)",
            f'echo "${{{variable}%%;*}}"',
        ]
        job_of |= {name: f"${{{variable}%%;*}}_{i}" for i, name in enumerate(array.task_ids)}
    return _SUBMIT.format(
        folder=shlex.quote(str(folder.absolute() / "slurm")),
        name=job_name(folder),
        lines="\n".join(lines),
    )


_SUBMIT = """\
#!/bin/bash
# Submits the arrays of this folder, each after the tasks that it needs, and prints their job ids.
set -euo pipefail
cd {folder}

# Of a job that this is called in, nothing is to reach the jobs that it submits.
for name in $(compgen -e SLURM_); do
  case $name in SLURM_CONF | SLURM_CLUSTERS | SLURM_JWT) ;; *) unset "$name" ;; esac
done

queued=$(squeue --me --noheader --format=%F --name={name} | sort -u | tr '\\n' ' ')
if [ -n "$queued" ]; then
  echo "jobs of this plan are in the queue: wait for them, or scancel ${{queued% }}" >&2
  exit 1
fi

{lines}
"""


def write_scripts(
    arrays: Sequence[JobArray], command: RunCommand, resources: Resources, cache: Path
) -> tuple[Path, ...]:
    """Replace the scripts in the plan's folder; return the paths of the arrays' scripts."""
    scripts = {
        f"{array.name}.sh": array_script(array, command, resources, cache) for array in arrays
    } | {"submit.sh": submit_script(arrays, command.folder)}
    folder = command.folder / "slurm"
    for name, text in scripts.items():
        write_durably(folder / name, (text.encode(),))
        for part in stale_partial_files(folder / name):
            part.unlink(missing_ok=True)
    for old in folder.glob("level*-part*.sh"):
        if old.name not in scripts:
            old.unlink()
    return tuple(folder / f"{array.name}.sh" for array in arrays)


def site_array_limit() -> int:
    """Return the most tasks of an array here; 1,000 where Slurm is not there to be asked."""
    try:
        output = subprocess.run(
            ["scontrol", "show", "config"],  # noqa: S607 - the site's, wherever it is
            capture_output=True, text=True, check=True, timeout=_SCONTROL_TIMEOUT_SECONDS,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return _DEFAULT_ARRAY_LIMIT
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", output, re.MULTILINE)
    return max(1, int(found[1])) if found else _DEFAULT_ARRAY_LIMIT


def submit(folder: Path) -> tuple[str, ...]:
    """Run the folder's `submit.sh`; return the arrays' job ids."""
    if shutil.which("sbatch") is None:
        raise RecomputeError(
            "sbatch is not on this machine: submit on a login node of the cluster, or train here "
            "with cifar-noisy recompute run"
        )
    result = subprocess.run(  # noqa: S603 - what write_scripts wrote
        ["bash", str(folder / "slurm" / "submit.sh")],  # noqa: S607
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    jobs = tuple(result.stdout.split())
    if result.returncode != 0:
        said = "; ".join(line for line in result.stderr.splitlines() if line.strip())
        already = f"; submitted before that: scancel {' '.join(jobs)}" if jobs else ""
        raise RecomputeError(f"nothing more was submitted ({said or 'no reason given'}){already}")
    return jobs
