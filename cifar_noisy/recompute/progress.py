"""Signs of life on stderr of work that takes minutes: bars on a terminal, else lines."""

import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from tqdm import tqdm

from cifar_noisy.recompute.run_config import Task
from cifar_noisy.recompute.training import Trainer

T = TypeVar("T")


@contextmanager
def step_bar() -> Iterator[Callable[[Task, Trainer], None]]:
    """Show the steps of each training; `run_tasks` calls what is yielded after each."""
    bars: list[tqdm[Any]] = []
    with ExitStack() as stack:

        def show(task: Task, trainer: Trainer) -> None:
            step, n_steps = trainer.step, trainer.n_steps
            if not bars:
                bar = tqdm(desc=task.id, total=n_steps, initial=step - 1, unit="step", leave=False,
                           disable=None)  # fmt: skip
                bars.append(stack.enter_context(bar))
            bars[0].update(step - bars[0].n)
            epoch, rest = divmod(step, trainer.steps_per_epoch)
            if rest == 0:
                left = tqdm.format_interval(trainer.seconds / step * (n_steps - step))
                n_epochs = n_steps // trainer.steps_per_epoch
                tell(f"{epoch_line(task)}{epoch} of {n_epochs}, {left} left")
            if step == n_steps:
                bars.pop().close()

        yield show


def epoch_line(task: Task) -> str:
    """Return how the line begins that ends an epoch of a task."""
    return f"{task.id}: epoch "


def tell(line: str) -> None:
    """Write a line to stderr where that is no terminal; those have bars.

    Where nobody reads it any more, as when the program that started this one was killed, this one
    is told to save and end.
    """
    if sys.stderr is not None and not sys.stderr.isatty():
        try:
            print(line, file=sys.stderr, flush=True)
        except BrokenPipeError:
            signal.raise_signal(signal.SIGTERM)


def task_bar(tasks: Iterable[T], n_tasks: int) -> Iterator[T]:
    """Show how many tasks are done, while they come.

    Examples
    --------
    >>> list(task_bar(iter("ab"), 2))
    ['a', 'b']
    """
    with tqdm(total=n_tasks, unit="task", leave=False, disable=None) as bar:
        for task in tasks:
            bar.update()
            with bar.external_write_mode():  # for what the caller prints
                yield task
