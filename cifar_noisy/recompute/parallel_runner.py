"""Several tasks at a time on one machine: a process in each slot of its devices.

Tasks are handed out as those that they need are done, and as slots are free. Every task is run by a
process of its own, so that what kills one leaves the others alone.
"""

import signal
import subprocess
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace

import torch

from cifar_noisy.errors import CifarNoisyWarning, ExitCode, InterruptedRunError, RecomputeError
from cifar_noisy.recompute.command import RunCommand
from cifar_noisy.recompute.layout import State, state_of
from cifar_noisy.recompute.progress import epoch_line, tell
from cifar_noisy.recompute.run_config import Request, Task, find_task, tasks_of
from cifar_noisy.recompute.stop_signals import stop_signals
from cifar_noisy.recompute.task_runner import check_device
from cifar_noisy.store.files import reason


def run_in_slots(
    request: Request,
    command: RunCommand,
    devices: Sequence[str],
    *,
    task_ids: Iterable[str] | None = None,
) -> Iterator[tuple[Task, State]]:
    """Run tasks of a plan, one process per slot at a time; the rest is as `run_tasks` has it.

    Parameters
    ----------
    request : Request
        Of the plan that the command's folder belongs to.
    command : RunCommand
        What each slot runs, on its own device; by default with its share of the CPU's threads.
    devices : sequence of str
        Of each slot; two slots may share one.
    task_ids : iterable of str, optional
        By default all.

    Yields
    ------
    (Task, state)
        What the task was before it was run, in the order in which they end.

    Raises
    ------
    InvalidInputError, RecomputeError
        As `run_tasks` does; if no process can be started; or, once all that does not need it is
        done, if a task failed.
    InterruptedRunError
        After SIGTERM, SIGINT or SIGUSR1, which is passed on, once every process has ended.
    """
    for device in dict.fromkeys(devices):
        check_device(device)
    chosen = [task.id for task in tasks_of(request)] if task_ids is None else task_ids
    tasks = [find_task(request, task_id) for task_id in dict.fromkeys(chosen)]
    states = {task.id: state_of(task, request, command.folder) for task in tasks_of(request)}
    done = {task_id for task_id, state in states.items() if state == "done"}
    todo = [task for task in tasks if task.id not in done]
    yield from ((task, "done") for task in tasks if task.id in done)
    within_reach = done | {task.id for task in todo}
    for task in todo:
        if not within_reach.issuperset(task.needs):
            raise RecomputeError(f"{task.id} needs tasks that are not done: run those first")
    if command.threads is None:
        command = replace(command, threads=max(1, torch.get_num_threads() // len(devices)))
    yield from _Run(request, command, list(devices), todo, done).outcomes()


@dataclass(eq=False)
class _Child:
    """A process at work on a task."""

    task: Task
    before: State
    device: str
    process: subprocess.Popen[str]


@dataclass(eq=False)
class _Run:
    """What is still to do, what is being done, and what became of the rest."""

    request: Request
    command: RunCommand
    free: list[str]
    todo: list[Task]
    done: set[str]
    running: dict[Future[str], _Child] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)
    stops: list[int] = field(default_factory=list)

    def outcomes(self) -> Iterator[tuple[Task, State]]:
        """Yield the tasks that come to be done; raise at the end if some did not."""
        with ThreadPoolExecutor(len(self.free)) as pool, stop_signals(self.stops, self._pass_on):
            try:
                while True:
                    self._hand_out(pool)
                    if not self.running:
                        break
                    ended, _ = wait(self.running, return_when=FIRST_COMPLETED)
                    for future in ended:
                        child = self.running.pop(future)
                        self.free.append(child.device)
                        if self._is_done(child, future.result()):
                            yield child.task, child.before
            finally:
                self._pass_on(signal.SIGTERM)  # nothing is left running by whatever went wrong
        self._raise_for_what_is_left()

    def _hand_out(self, pool: ThreadPoolExecutor) -> None:
        for task in [task for task in self.todo if self.done.issuperset(task.needs)]:
            if self.stops or not self.free:
                return
            self.todo.remove(task)
            before = state_of(task, self.request, self.command.folder)
            device = self.free.pop(0)
            process = _started([*replace(self.command, device=device).words(), "--task", task.id])
            try:
                future = pool.submit(_said_by, process, task)
            except RuntimeError as error:
                with process:
                    process.kill()
                raise _no_process(str(error)) from error
            self.running[future] = _Child(task, before, device, process)
            for number in self.stops:  # came while it was started
                process.send_signal(number)

    def _pass_on(self, number: int) -> None:
        for child in self.running.values():
            child.process.send_signal(number)

    def _is_done(self, child: _Child, said: str) -> bool:
        status = child.process.returncode
        lines = [line.removeprefix("cifar-noisy: ") for line in said.splitlines() if line.strip()]
        if status == 0:
            self.done.add(child.task.id)
            for line in lines:
                warnings.warn(f"{child.task.id}: {line}", CifarNoisyWarning, stacklevel=2)
            return True
        # A process that was told to end before it could listen has nothing to save.
        if status == ExitCode.INTERRUPTED or -status in self.stops:
            self.stopped.append(child.task.id)
        else:
            self.failures[child.task.id] = lines[-1] if lines else _ending(status)
        return False

    def _raise_for_what_is_left(self) -> None:
        if self.failures:
            raise RecomputeError(
                "; ".join(f"{name}: {said}" for name, said in self.failures.items())
            )
        if self.stopped or (self.stops and self.todo):
            raise InterruptedRunError(
                f"{len(self.stopped)} tasks were stopped by a signal and saved, {len(self.todo)} "
                "not begun: the same command continues"
            )


def _started(words: list[str]) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(  # noqa: S603 - this very program
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise _no_process(reason(error)) from error


def _no_process(why: str) -> RecomputeError:
    return RecomputeError(
        f"no further process can be started ({why}): use fewer devices or jobs, or raise ulimit -u"
    )


def _said_by(process: subprocess.Popen[str], task: Task) -> str:
    """Wait for a process to end; return what it wrote to stderr but for its epochs, passed on."""
    said = []
    with process:
        for line in process.stderr or ():
            if line.startswith(epoch_line(task)):
                tell(line.rstrip())
            else:
                said.append(line)
    return "".join(said)


def _ending(status: int) -> str:
    if status < 0:
        return f"its process was killed by {signal.Signals(-status).name}; what it saved is kept"
    return f"its process ended with status {status}"
