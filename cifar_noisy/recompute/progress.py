"""Progress of work that takes minutes: bars on a terminal or in a notebook, else lines."""

import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from cifar_noisy.progress_bars import is_shown, tqdm_bar
from cifar_noisy.recompute.run_config import Task

if TYPE_CHECKING:
    from tqdm.std import tqdm

    from cifar_noisy.recompute.training import Trainer

T = TypeVar("T")


@contextmanager
def step_bar(progress: bool | None = None) -> Iterator[Callable[[Task, "Trainer"], None]]:
    """Show the steps of each training; yield the function to call after each step.

    With False there are neither bars nor lines.
    """
    bar: tqdm[Any] | None = None

    def show(task: Task, trainer: "Trainer") -> None:
        nonlocal bar
        step, n_steps = trainer.step, trainer.n_steps
        if bar is None:
            bar = tqdm_bar(progress, desc=task.id, total=n_steps, initial=step - 1, unit="step")
        bar.update(step - bar.n)
        epoch, rest = divmod(step, trainer.steps_per_epoch)
        if rest == 0 and progress is not False:
            left = bar.format_interval(trainer.seconds / step * (n_steps - step))
            n_epochs = n_steps // trainer.steps_per_epoch
            print_off_terminal(f"{epoch_prefix(task)}{epoch} of {n_epochs}, {left} left")
        if step == n_steps:
            bar.close()
            bar = None

    try:
        yield show
    finally:
        if bar is not None:
            bar.close()


def epoch_prefix(task: Task) -> str:
    """Return the start of the line that is printed after each epoch of a task."""
    return f"{task.id}: epoch "


def print_off_terminal(line: str) -> None:
    """Write a line to stderr unless bars are shown.

    If the reader of stderr is gone, such as a program that started this one and was killed, this
    program signals itself to save and end.
    """
    if sys.stderr is not None and not is_shown(None):
        try:
            print(line, file=sys.stderr, flush=True)
        except BrokenPipeError:
            signal.raise_signal(signal.SIGTERM)


def task_bar(tasks: Iterable[T], n_tasks: int) -> Iterator[T]:
    """Yield tasks, and show how many there were."""
    with tqdm_bar(None, total=n_tasks, unit="task") as bar:
        for task in tasks:
            bar.update()
            with bar.external_write_mode():  # for what the caller prints
                yield task
