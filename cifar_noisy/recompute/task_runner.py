"""Run the tasks of a plan: finished ones are skipped, interrupted ones resume.

What comes out has upstream's file layout.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cifar_noisy.errors import InterruptedRunError, InvalidInputError, RecomputeError
from cifar_noisy.evaluation.evaluate import accuracy_bound, count_pairs
from cifar_noisy.loading.given_labels import identity
from cifar_noisy.loading.recomputed import read_pyx, read_train_mask, write_record
from cifar_noisy.recompute.checkpoints import exclusive_lock, load_checkpoint, save_checkpoint
from cifar_noisy.recompute.coteaching import CoteachingTrainer
from cifar_noisy.recompute.datasets import Dataset, folds_of, open_dataset
from cifar_noisy.recompute.fast import FastTrainer
from cifar_noisy.recompute.hardware import (
    check_device,
    defaults_of_libraries,
    hardware,
    other_hardware,
)
from cifar_noisy.recompute.kept_sets import append_test_set, estimated_error_rate, kept_training
from cifar_noisy.recompute.malloc import keep_freed_memory
from cifar_noisy.recompute.merge_folds import merge_folds
from cifar_noisy.recompute.paper import PaperTrainer
from cifar_noisy.recompute.plan_file import make_plan, probe_for, read_given_mask
from cifar_noisy.recompute.progress import step_bar
from cifar_noisy.recompute.recipes import PaperRecipe, Recipe
from cifar_noisy.recompute.run_config import (
    RunConfig,
    Task,
    check_folds_and_batch_size,
    find_tasks,
    make_run_config,
)
from cifar_noisy.recompute.stop_signals import stop_signals
from cifar_noisy.recompute.task_files import (
    State,
    check_configuration,
    checkpoint_files,
    file_paths,
    probabilities_path,
    record_path,
    remove_leftovers,
    state_of,
    work_folder,
)
from cifar_noisy.recompute.training import Trainer, TrainingData
from cifar_noisy.settings import Setting
from cifar_noisy.store.registry import npy_bytes

_SECONDS_BETWEEN_CHECKPOINTS = 120.0

OnStep = Callable[[Task, Trainer], object]


def run_tasks(
    config: RunConfig,
    dataset: Dataset,
    folder: Path,
    *,
    task_ids: Iterable[str] | None = None,
    device: str = "cpu",
    threads: int | None = None,
    allow_other_hardware: bool = False,
    on_step: OnStep = lambda *_: None,
) -> Iterator[tuple[Task, State]]:
    """Run tasks of a plan, by default all, and yield each with the state that it had before.

    Results are the same to the bit only for the same device and number of threads. A training that
    was begun on other hardware is refused unless `allow_other_hardware`; its record names both.

    On SIGTERM, SIGINT or SIGUSR1 the state is saved and `InterruptedRunError` raised; a task whose
    last step is done is finished first. Signal handlers and settings of torch, numpy and the C
    library are as the caller had them whenever a task is yielded.
    """
    check_device(device)
    if dataset.digest() != config.data_digest:
        raise InvalidInputError(
            "these images are not those that the plan was made for: pass the same root, or plan "
            "in another folder"
        )
    check_folds_and_batch_size(config, dataset.labels)
    runner = _TaskRunner(config, dataset, folder, device, allow_other_hardware, on_step)
    for task in find_tasks(config, task_ids):
        before = state_of(task, config, folder)
        if before == "waiting":
            raise RecomputeError(f"{task.id} needs tasks that are not done: run those first")
        if before != "done":
            if runner.signals:
                raise InterruptedRunError(
                    f"stopped by a signal before {task.id}: the same command continues"
                )
            with (
                exclusive_lock(work_folder(task, folder), task.id),
                stop_signals(runner.signals),
                keep_freed_memory(),
                defaults_of_libraries(threads),
            ):
                remove_leftovers(task, folder)
                runner.run(task)
        yield task, before


def recompute_settings(
    settings: Iterable[Setting], folder: Path, progress: bool | None = None
) -> None:
    """Plan and run some settings with the images in the cache; show the progress on stderr."""
    config = make_plan(make_run_config(settings, probe=probe_for(folder, "cpu")), folder)
    dataset = open_dataset(config.dataset, load_test_set=config.needs_test)
    with step_bar(progress) as show:
        for _ in run_tasks(config, dataset, folder, on_step=show):
            pass


@dataclass(frozen=True, eq=False)
class _TaskRunner:
    """Runs single tasks of a plan on a device; `signals` are those received so far."""

    config: RunConfig
    dataset: Dataset
    folder: Path
    device: str
    allow_other_hardware: bool
    on_step: OnStep
    signals: list[int] = field(default_factory=list)

    def run(self, task: Task) -> None:
        if task.kind == "collect":
            merge_folds(task, self.config, self.dataset, self.folder)
            return
        try:
            trainer = self._fold_trainer(task) if task.kind == "train" else self._kept_trainer(task)
            used_hardware = self._train(trainer, task)
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
        if path := probabilities_path(task):
            files[path] = npy_bytes(probabilities)
        record = {
            "configuration": self.config.config_sha256(),
            "hardware": used_hardware,
            "seconds": round(trainer.seconds, 3),
        }
        if task.kind != "train":
            record |= self._test_result(task, trainer, probabilities)
        write_record(self.folder, record_path(task), record, files)
        for checkpoint in checkpoint_files(task, self.folder):
            checkpoint.unlink(missing_ok=True)

    def _fold_trainer(self, task: Task) -> Trainer:
        """Train on all folds except the task's, whose rows are predicted."""
        held_out = folds_of(self.dataset.labels, self.config.n_folds)[task.fold or 0]
        given = self.dataset.noisy_labels(task.setting)
        pixels, labels, test = self.dataset.pixels, given, None
        if self.config.selects_on_test:
            pixels, labels, test = append_test_set(self.dataset, given)
        data = TrainingData(
            pixels=pixels,
            labels=labels,
            train=np.setdiff1d(np.arange(len(self.dataset.labels)), held_out),
            held_out=held_out,
            n_classes=int(self.dataset.labels.max()) + 1,
            allow_flip=self.dataset.allow_flip,
            key=self._key(task),
            monitored=test,
        )
        trainer = _make_trainer(self.config.recipe, data, self.device)
        bound = accuracy_bound(count_pairs(given, self.dataset.labels, data.n_classes))
        trainer.log.append(f"The noise allows an accuracy of {bound:.2%} against given labels")
        return trainer

    def _kept_trainer(self, task: Task) -> Trainer:
        """Train on the examples that the task's mask keeps; the test set is predicted."""
        n_examples = len(self.dataset.labels)
        if task.mask is not None:
            is_kept = read_given_mask(task.mask, self.folder, n_examples)
        else:
            is_kept = read_train_mask(self.folder, task.setting, task.kept_method, n_examples)
        given = self.dataset.noisy_labels(task.setting)
        try:
            training = kept_training(self.dataset, given, is_kept, self._key(task))
        except InvalidInputError as error:
            raise InvalidInputError(f"{task.id}: {error}") from error
        if task.kind != "coteaching" or self.config.coteaching is None:
            return _make_trainer(self.config.recipe, training, self.device)
        forget_rate = None
        if self.config.coteaching.estimate_forget_rate:
            pyx = read_pyx(self.folder, task.setting, n_examples)
            forget_rate = estimated_error_rate(given[is_kept], pyx[is_kept])
        return CoteachingTrainer(self.config.coteaching, training, self.device, forget_rate)

    def _key(self, task: Task) -> str:
        return f"{self.config.seed}/{self.config.dataset}/{task.id}"

    def _train(self, trainer: Trainer, task: Task) -> list[dict[str, Any]]:
        """Train to the end, from the task's checkpoint if it has one; return the hardware used.

        A checkpoint is saved at the end of each epoch, every two minutes, and after a signal.
        """
        checkpoints = checkpoint_files(task, self.folder)
        here = hardware(self.device)
        used = [here]
        saved = load_checkpoint(checkpoints, task.id)
        if saved is not None:
            check_configuration(checkpoints[0], saved, self.config)
            used = saved["hardware"]
            if used[-1] != here:
                if not self.allow_other_hardware:
                    raise other_hardware(task.id, used[-1], here, self.folder)
                used = [*used, here]
            trainer.load_state_dict(saved)
        origin = {"configuration": self.config.config_sha256(), "task": task.id, "hardware": used}
        last_saved = time.monotonic()

        def should_stop(trainer: Trainer) -> bool:
            nonlocal last_saved
            self.on_step(task, trainer)
            is_old = time.monotonic() - last_saved > _SECONDS_BETWEEN_CHECKPOINTS
            if self.signals or is_old or trainer.step % trainer.steps_per_epoch == 0:
                save_checkpoint(checkpoints, {**origin, **trainer.state_dict()})
                last_saved = time.monotonic()
            return bool(self.signals)

        if not trainer.run(should_stop):
            raise InterruptedRunError(
                f"{task.id} stopped by a signal after step {trainer.step} of {trainer.n_steps} and "
                "saved: the same command continues it"
            )
        return used

    def _test_result(
        self, task: Task, trainer: Trainer, probabilities: NDArray[np.float32]
    ) -> dict[str, Any]:
        """Return what only the record of a training on a kept set has."""
        training = trainer.data
        is_hit = probabilities.argmax(axis=1) == training.labels[training.held_out]
        result = {
            "setting": identity(task.setting),
            "method": task.method if task.mask is None else task.mask.name,
            "training": "coteaching" if task.kind == "coteaching" else self.config.recipe_name,
            "train_size": len(training.train),
            "test_size": len(training.held_out),
            "test_accuracy": float(is_hit.mean()),
        }
        if isinstance(trainer, CoteachingTrainer):
            result["forget_rate"] = trainer.forget_rate
        return result


def _make_trainer(recipe: Recipe, data: TrainingData, device: str) -> Trainer:
    if isinstance(recipe, PaperRecipe):
        return PaperTrainer(recipe, data, device)
    return FastTrainer(recipe, data, device)


def _log_text(trainer: Trainer) -> bytes:
    minutes, seconds = divmod(trainer.seconds, 60)
    return "\n".join([*trainer.log, f"\nreal\t{minutes:.0f}m{seconds:.3f}s", ""]).encode()
