"""Bars on stderr, where that is a terminal, of work that takes minutes."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

from cifar_noisy.recompute.plan import Task

T = TypeVar("T")


@contextmanager
def step_bar() -> Iterator[Callable[[Task, int, int], None]]:
    """Show the steps of each training; what is yielded is called after each, as `run_tasks` does.

    Examples
    --------
    >>> with step_bar() as show:
    ...     pass
    """
    shown = ""
    with tqdm(unit="step", leave=False, disable=None) as bar:

        def show(task: Task, step: int, n_steps: int) -> None:
            nonlocal shown
            if task.id != shown:
                shown = task.id
                bar.reset(n_steps)
                bar.set_description(shown)
            bar.update(step - bar.n)

        yield show


def task_bar(tasks: Iterable[T], n_tasks: int) -> Iterator[T]:
    """Show how many tasks are done, while they come.

    Examples
    --------
    >>> list(task_bar(iter("ab"), 2))
    ['a', 'b']
    """
    yield from tqdm(tasks, total=n_tasks, unit="task", leave=False, disable=None)
