"""Runs tasks: done is a no-op, interrupted continues, and what comes out is as published."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cifar_noisy.errors import InterruptedRunError, InvalidInputError, RecomputeError
from cifar_noisy.evaluation.evaluate import accuracy_bound, count_pairs
from cifar_noisy.loading.recomputed import read_pyx, read_train_mask, write_record
from cifar_noisy.recompute.checkpoints import load_checkpoint, only_one, save_checkpoint
from cifar_noisy.recompute.collecting import collect
from cifar_noisy.recompute.coteaching import CoteachingTrainer
from cifar_noisy.recompute.datasets import Dataset, folds_of
from cifar_noisy.recompute.hardware import defaults_of_libraries, hardware, other_hardware
from cifar_noisy.recompute.kept_sets import estimated_error_rate, kept_training, with_test
from cifar_noisy.recompute.layout import (
    State,
    checkpoint_files,
    file_paths,
    hold_configuration,
    record_path,
    remove_leftovers,
    state_of,
    work_folder,
)
from cifar_noisy.recompute.malloc import freed_memory_kept
from cifar_noisy.recompute.plan import make_plan
from cifar_noisy.recompute.progress import step_bar
from cifar_noisy.recompute.recipes import check_device_name, make_trainer
from cifar_noisy.recompute.run_config import (
    Request,
    Task,
    check_fit,
    find_task,
    selects_on_test,
    tasks_of,
)
from cifar_noisy.recompute.stop_signals import stop_signals
from cifar_noisy.recompute.training import Trainer, TrainingData
from cifar_noisy.settings import Setting
from cifar_noisy.store.registry import npy_bytes

_SECONDS_BETWEEN_CHECKPOINTS = 120.0

OnStep = Callable[[Task, Trainer], object]


def run_tasks(
    request: Request,
    dataset: Dataset,
    folder: Path,
    *,
    task_ids: tuple[str, ...] | None = None,
    device: str = "cpu",
    threads: int | None = None,
    allow_other_hardware: bool = False,
    on_step: OnStep = lambda *_: None,
) -> Iterator[tuple[Task, State]]:
    """Run tasks one after the other, each once those that it needs are done.

    Settings of torch, numpy and the C library, and signal handlers, are put back after each.

    Parameters
    ----------
    request : Request
        Of the plan that `folder` belongs to.
    dataset : Dataset
        What the request was made for.
    folder : Path
    task_ids : tuple of str, optional
        By default all.
    device : str, default "cpu"
    threads : int, optional
        Of the CPU; results are the same to the bit only for the same number.
    allow_other_hardware : bool, default False
        Continue trainings that were begun with another device, CPU, number of threads or version of
        torch, to other bits; the record names all of them.
    on_step : callable, optional
        Called after each step of a training with the task and its trainer.

    Yields
    ------
    (Task, state)
        What the task was before it was run: a task that was "done" is left alone.

    Raises
    ------
    InvalidInputError
        If a task is not in the plan, or the images are not those of the plan.
    RecomputeError
        If the device is not there, the loss is no number, something that is needed is not done, or
        a training was begun on other hardware.
    InterruptedRunError
        After SIGTERM, SIGINT or SIGUSR1, once the state is saved.
    StorageError
        If the folder cannot be written; the last checkpoint stays.
    """
    check_device(device)
    if dataset.digest() != request.data_digest:
        raise InvalidInputError(
            "these images are not those that the plan was made for: pass the same root, or plan "
            "in another folder"
        )
    check_fit(request, dataset.labels)
    chosen = [task.id for task in tasks_of(request)] if task_ids is None else task_ids
    tasks = [find_task(request, task_id) for task_id in chosen]
    run = _Run(request, dataset, folder, device, allow_other_hardware, on_step)
    for task in tasks:
        before = state_of(task, request, folder)
        if before == "waiting":
            raise RecomputeError(f"{task.id} needs tasks that are not done: run those first")
        if before != "done":
            with (
                only_one(work_folder(task, folder), task.id),
                stop_signals(run.stops),
                freed_memory_kept(),
                defaults_of_libraries(threads),
            ):
                remove_leftovers(task, folder)
                run.do(task)
        yield task, before


def recompute_settings(settings: Iterable[Setting], folder: Path) -> None:
    """Plan and run all tasks of some settings, with the images in the cache and the defaults.

    On stderr a bar shows the steps where that is a terminal, else a line each epoch.
    """
    request, dataset = make_plan(settings, folder)
    with step_bar() as show:
        for _ in run_tasks(request, dataset, folder, on_step=show):
            pass


def check_device(device: str) -> None:
    """Hold that a device is there.

    Raises
    ------
    InvalidInputError
        If it is no name of a device.
    RecomputeError
        If this machine does not have it.
    """
    check_device_name(device)
    wanted = torch.device(device)
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        raise RecomputeError(
            f"device {device!r} is not there: this torch ({torch.__version__}) sees "
            f"{torch.cuda.device_count()} CUDA devices; use --device cpu"
        )


@dataclass(frozen=True, eq=False)
class _Run:
    """A plan at work on a device."""

    request: Request
    dataset: Dataset
    folder: Path
    device: str
    allow_other_hardware: bool
    on_step: OnStep
    stops: list[int] = field(default_factory=list)

    def do(self, task: Task) -> None:
        if task.kind == "collect":
            collect(task, self.request, self.dataset, self.folder)
            return
        try:
            trainer = self._fold_trainer(task) if task.kind == "train" else self._kept_trainer(task)
            begun_on = self._train(trainer, task)
            probabilities = trainer.predict()
        except RuntimeError as error:
            # The CPU's allocator has no error type of its own.
            is_memory = isinstance(error, torch.OutOfMemoryError) or "can't allocate" in str(error)
            if not is_memory:
                raise
            raise RecomputeError(
                f"{task.id} does not fit in the memory of {self.device}: lower batch_size or "
                "width, in another folder; the last checkpoint is kept"
            ) from error
        files = {file_paths(task)[0]: _log_text(trainer)}
        record = {
            "configuration": self.request.digest(),
            "hardware": begun_on,
            "seconds": round(trainer.seconds, 3),
        }
        if task.kind == "train":
            files[file_paths(task)[1]] = npy_bytes(probabilities)
        else:
            record |= self._tested(task, trainer, probabilities)
        write_record(self.folder, record_path(task), record, files)
        for checkpoint in checkpoint_files(task, self.folder):
            checkpoint.unlink(missing_ok=True)

    def _fold_trainer(self, task: Task) -> Trainer:
        """Train on all folds but the task's, whose rows are predicted."""
        held_out = folds_of(self.dataset.labels, self.request.n_folds)[task.fold or 0]
        given = self.dataset.noisy_labels(task.setting)
        pixels, labels, test = self.dataset.pixels, given, None
        if selects_on_test(self.request.recipe):
            pixels, labels, test = with_test(self.dataset, given)
        data = TrainingData(
            pixels=pixels,
            labels=labels,
            train=np.setdiff1d(np.arange(len(self.dataset.labels)), held_out),
            held_out=held_out,
            n_classes=int(self.dataset.labels.max()) + 1,
            is_mirrored=self.dataset.is_mirrored,
            key=f"{self.request.seed}/{self.request.dataset}/{task.id}",
            monitored=test,
        )
        trainer = make_trainer(self.request.recipe, data, self.device)
        bound = accuracy_bound(count_pairs(given, self.dataset.labels, data.n_classes))
        trainer.log.append(f"The noise allows an accuracy of {bound:.2%} against given labels")
        return trainer

    def _kept_trainer(self, task: Task) -> Trainer:
        """Train on what the task's mask keeps; the test set is predicted."""
        n_examples = len(self.dataset.labels)
        is_kept = read_train_mask(self.folder, task.setting, task.kept_method, n_examples)
        given = self.dataset.noisy_labels(task.setting)
        key = f"{self.request.seed}/{self.request.dataset}/{task.id}"
        try:
            training = kept_training(self.dataset, given, is_kept, key)
        except InvalidInputError as error:
            raise InvalidInputError(f"{task.id}: {error}") from error
        if task.kind == "kept" or self.request.coteaching is None:
            return make_trainer(self.request.recipe, training, self.device)
        forget_rate = None
        if self.request.coteaching.estimate_forget_rate:
            pyx = read_pyx(self.folder, task.setting, n_examples)
            forget_rate = estimated_error_rate(given[is_kept], pyx[is_kept])
        return CoteachingTrainer(self.request.coteaching, training, self.device, forget_rate)

    def _train(self, trainer: Trainer, task: Task) -> list[dict[str, Any]]:
        """Train to the end, from the task's checkpoint if it has one; return the hardware.

        The state is saved at epoch ends, every two minutes, and when told to stop.
        """
        checkpoints = checkpoint_files(task, self.folder)
        here = hardware(self.device)
        used = [here]
        saved = load_checkpoint(checkpoints, task.id)
        if saved is not None:
            hold_configuration(checkpoints[0], saved, self.request)
            used = saved["hardware"]
            if used[-1] != here:
                if not self.allow_other_hardware:
                    raise other_hardware(task.id, used[-1], here, self.folder)
                used = [*used, here]
            trainer.load_state_dict(saved)
        begun = {"configuration": self.request.digest(), "task": task.id, "hardware": used}
        last = time.monotonic()

        def should_stop(trainer: Trainer) -> bool:
            nonlocal last
            self.on_step(task, trainer)
            is_old = time.monotonic() - last > _SECONDS_BETWEEN_CHECKPOINTS
            if self.stops or is_old or trainer.step % trainer.steps_per_epoch == 0:
                save_checkpoint(checkpoints, {**begun, **trainer.state_dict()})
                last = time.monotonic()
            return bool(self.stops)

        if not trainer.run(should_stop):
            raise InterruptedRunError(
                f"{task.id} stopped by a signal after step {trainer.step} of {trainer.n_steps} and "
                "saved: the same command continues it"
            )
        return used

    def _tested(
        self, task: Task, trainer: Trainer, probabilities: NDArray[np.float32]
    ) -> dict[str, Any]:
        """Return what the record of a training on a kept set has beside."""
        training = trainer.data
        hits = probabilities.argmax(axis=1) == training.labels[training.held_out]
        record = {
            "setting": asdict(task.setting),
            "method": task.kept_method,
            "training": "coteaching" if task.kind == "coteaching" else self.request.recipe_name,
            "train_size": len(training.train),
            "test_size": len(training.held_out),
            "test_accuracy": float(hits.mean()),
        }
        if isinstance(trainer, CoteachingTrainer):
            record["forget_rate"] = trainer.forget_rate
        return record


def _log_text(trainer: Trainer) -> bytes:
    minutes, seconds = divmod(trainer.seconds, 60)
    return "\n".join([*trainer.log, f"\nreal\t{minutes:.0f}m{seconds:.3f}s", ""]).encode()
