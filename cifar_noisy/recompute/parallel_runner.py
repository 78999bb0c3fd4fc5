"""Run several tasks at a time on one machine, each in a process of its own.

A task starts once its dependencies are done and a device is free. What kills one process leaves
the others alone.
"""

import signal
import subprocess
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace

import torch

from cifar_noisy.errors import CifarNoisyWarning, ExitCode, InterruptedRunError, RecomputeError
from cifar_noisy.recompute.hardware import check_device
from cifar_noisy.recompute.progress import epoch_prefix, print_off_terminal
from cifar_noisy.recompute.run_command import RunCommand
from cifar_noisy.recompute.run_config import RunConfig, Task, find_tasks, tasks_of
from cifar_noisy.recompute.stop_signals import stop_signals
from cifar_noisy.recompute.task_files import State, state_of
from cifar_noisy.store.files import reason


def run_tasks_in_parallel(
    config: RunConfig,
    command: RunCommand,
    devices: Sequence[str],
    *,
    task_ids: Iterable[str] | None = None,
) -> Iterator[tuple[Task, State]]:
    """Run tasks as `run_tasks` does, one process per item of `devices`; two may share a device.

    Tasks are yielded in the order in which they end. By default the processes share the threads of
    the CPU. Failures are raised once every task that does not depend on them has been run. Stop
    signals are forwarded, and raise `InterruptedRunError` once every process has ended.
    """
    for device in dict.fromkeys(devices):
        check_device(device)
    tasks = find_tasks(config, task_ids)
    done = {
        task.id for task in tasks_of(config) if state_of(task, config, command.folder) == "done"
    }
    yield from ((task, "done") for task in tasks if task.id in done)
    schedule = _Schedule([task for task in tasks if task.id not in done], done)
    schedule.check_complete()
    if command.threads is None:
        command = replace(command, threads=max(1, torch.get_num_threads() // len(devices)))
    yield from _ProcessScheduler(config, command, schedule, list(devices)).run()


@dataclass(eq=False)
class _Schedule:
    """Which task may start next; knows nothing of processes."""

    todo: list[Task]
    done: set[str]

    def check_complete(self) -> None:
        """Raise if a task depends on one that is neither done nor to be run."""
        reachable = self.done | {task.id for task in self.todo}
        for task in self.todo:
            if not reachable.issuperset(task.depends_on):
                raise RecomputeError(f"{task.id} needs tasks that are not done: run those first")

    def pop_ready(self) -> Task | None:
        """Remove and return the first task whose dependencies are done."""
        for task in self.todo:
            if self.done.issuperset(task.depends_on):
                self.todo.remove(task)
                return task
        return None


@dataclass(frozen=True)
class _Result:
    """How the process of a task ended: its exit status, and stderr without lines of epochs."""

    task: Task
    before: State
    device: str
    status: int
    messages: list[str]

    @property
    def problem(self) -> str:
        if self.messages:
            return self.messages[-1]
        if self.status < 0:
            number = -self.status
            name = next((s.name for s in signal.Signals if s == number), f"signal {number}")
            return f"its process was killed by {name}; what it saved is kept"
        return f"its process ended with status {self.status}"


@dataclass(eq=False)
class _ProcessScheduler:
    """Starts tasks as the schedule has them, and collects their results."""

    config: RunConfig
    command: RunCommand
    schedule: _Schedule
    free_devices: list[str]
    running: dict[Future[_Result], subprocess.Popen[str]] = field(default_factory=dict)
    failed: list[_Result] = field(default_factory=list)
    signals: list[int] = field(default_factory=list)

    def run(self) -> Iterator[tuple[Task, State]]:
        """Yield each task when it has finished; at the end, raise if any failed or was stopped."""
        with (
            ThreadPoolExecutor(len(self.free_devices)) as pool,
            stop_signals(self.signals, self._forward_signal),
        ):
            try:
                self._start_ready_tasks(pool)
                while self.running:
                    ended, _ = wait(self.running, return_when=FIRST_COMPLETED)
                    for future in ended:
                        del self.running[future]
                        result = future.result()
                        self.free_devices.append(result.device)
                        if result.status != 0:
                            self.failed.append(result)
                            continue
                        self.schedule.done.add(result.task.id)
                        for message in result.messages:
                            warning = f"{result.task.id}: {message}"
                            warnings.warn(warning, CifarNoisyWarning, stacklevel=2)
                        yield result.task, result.before
                    self._start_ready_tasks(pool)
            finally:
                self._forward_signal(signal.SIGTERM)  # whatever went wrong, leave nothing running
        self._raise_if_incomplete()

    def _start_ready_tasks(self, pool: ThreadPoolExecutor) -> None:
        while self.free_devices and not self.signals:
            task = self.schedule.pop_ready()
            if task is None:
                return
            before = state_of(task, self.config, self.command.folder)
            device = self.free_devices.pop(0)
            process = _start([*replace(self.command, device=device).argv(), "--task", task.id])
            try:
                future = pool.submit(_wait_for_result, process, task, before, device)
            except RuntimeError as error:
                with process:
                    process.kill()
                raise _cannot_start(str(error)) from error
            self.running[future] = process
            for number in self.signals:  # received while the process was started
                process.send_signal(number)

    def _forward_signal(self, number: int) -> None:
        for process in self.running.values():
            process.send_signal(number)

    def _raise_if_incomplete(self) -> None:
        # A process may get a signal before it has installed its handler; it has nothing to save.
        stop_statuses = {ExitCode.INTERRUPTED, *(-number for number in self.signals)}
        problems = [
            f"{result.task.id}: {result.problem}"
            for result in self.failed
            if result.status not in stop_statuses
        ]
        if problems:
            raise RecomputeError("; ".join(problems))
        if self.failed or (self.signals and self.schedule.todo):
            raise InterruptedRunError(
                f"{len(self.failed)} tasks were stopped by a signal and saved, "
                f"{len(self.schedule.todo)} not begun: the same command continues"
            )


def _start(argv: list[str]) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(  # noqa: S603 - this very program
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise _cannot_start(reason(error)) from error


def _cannot_start(why: str) -> RecomputeError:
    return RecomputeError(
        f"no further process can be started ({why}): use fewer devices or jobs, or raise ulimit -u"
    )


def _wait_for_result(
    process: subprocess.Popen[str], task: Task, before: State, device: str
) -> _Result:
    """Wait for the end of a process, and pass on its lines of epochs meanwhile."""
    messages = []
    with process:
        for line in process.stderr or ():
            if line.startswith(epoch_prefix(task)):
                print_off_terminal(line.rstrip())
            elif line.strip():
                messages.append(line.rstrip("\n").removeprefix("cifar-noisy: "))
    return _Result(task, before, device, process.returncode, messages)
