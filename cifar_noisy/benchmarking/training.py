"""What a network reaches on the test set that was trained on what each method keeps."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.benchmarking.cases import Case
from cifar_noisy.errors import (
    InterruptedRunError,
    InvalidInputError,
    RecomputeError,
    UnavailableError,
)
from cifar_noisy.evaluation.testset_accuracy import test_accuracy
from cifar_noisy.loading.given_labels import labels_of
from cifar_noisy.loading.noise_generation import true_labels
from cifar_noisy.loading.npy_files import open_npy
from cifar_noisy.recompute.datasets import open_dataset
from cifar_noisy.recompute.plan_file import make_plan, prepare_folder, probe_for
from cifar_noisy.recompute.probe import Probe
from cifar_noisy.recompute.run_config import GivenMask, RunConfig, Task, make_run_config, tasks_of
from cifar_noisy.recompute.task_files import probabilities_path, record_of
from cifar_noisy.rendering import html_facts
from cifar_noisy.store.files import user_path

KEEP_ALL = "keep all"
TRUE_ERRORS = "true errors"
"""References of a training: nothing removed, and exactly the wrong labels removed."""

TRAINING_COLUMNS = ("n_kept", "test_accuracy", "test_corrected", "test_soft", "error")

Mask = NDArray[np.bool_]
Kept = Mapping[tuple[Case, str], Mask]
Row = dict[str, Any]


@dataclass(frozen=True)
class Training:
    """How `benchmark` trains a network on what each method keeps: by the recipe `fast`.

    Attributes
    ----------
    folder : path
        Of the plan and all results. What is done there is not done again, also where the detector
        has changed since: then only its own trainings are new.
    root, trust
        The images, as for `load_images`.
    device : str, default "cpu"
        Such as "cuda".
    threads : int, optional
        Of the CPU; by default torch's.
    seed : int, default 0
        All randomness of the trainings is drawn from it.
    hyperparameters : mapping of str to number, optional
        Of the recipe, such as ``{"epochs": 2}``.
    plan_only : bool, default False
        Write the plan and take what is trained already, but train nothing now: that is for
        ``cifar-noisy recompute run --folder FOLDER``, or ``slurm`` in place of ``run``.

    Examples
    --------
    >>> Training("trained", hyperparameters={"epochs": 4}, plan_only=True).device
    'cpu'
    """

    folder: str | os.PathLike[str]
    root: str | os.PathLike[str] | None = None
    trust: str | None = None
    device: str = "cpu"
    threads: int | None = None
    seed: int = 0
    hyperparameters: Mapping[str, str | float] = field(default_factory=dict)
    plan_only: bool = False

    def _repr_html_(self) -> str:
        values = {name: value for name, value in vars(self).items() if name != "plan_only"}
        texts = {name: None if value is None else str(value) for name, value in values.items()}
        return html_facts({**texts, "plan_only": self.plan_only})


def check_training(training: Training, cases: Sequence[Case]) -> Probe | None:
    """Raise what would stop the trainings, before the work that comes ahead of them.

    The reference that each case has is written into the folder, which tells whether that can be.
    Returns by what the width and precision of the trainings are chosen.
    """
    open_dataset("cifar10", training.root, trust=training.trust, load_test_set=True)
    if not training.plan_only:
        from cifar_noisy.recompute.hardware import check_device

        check_device(training.device)
    keep_all = np.ones(len(true_labels()), np.bool_)
    masks = {GivenMask.of(case.source, keep_all): keep_all for case in cases[:1]}
    folder = user_path(training.folder)
    probe = probe_for(folder, training.device, overrides=training.hyperparameters)
    prepare_folder(_configuration(masks, training, probe), folder, masks)
    return probe


def train_and_test(
    kept: Kept, training: Training, probe: Probe | None
) -> dict[tuple[Case, str], Row]:
    """Train on what each mask keeps, as far as that is asked for; return rows of the table.

    The references are added in each case.
    """
    kept = _with_references(kept)
    if not kept:
        return {}
    folder = user_path(training.folder)
    masks = {key: GivenMask.of(key[0].source, keep) for key, keep in kept.items()}
    arrays = {mask: kept[key] for key, mask in masks.items()}
    config = make_plan(_configuration(arrays, training, probe), folder, arrays)
    failed = {} if training.plan_only else _train(config, training, folder)
    tested = {
        task.mask: _test_row(task, config, folder) | failed.get(task.id, {})
        for task in tasks_of(config)
    }
    return {key: {"n_kept": int(kept[key].sum())} | tested[mask] for key, mask in masks.items()}


def _with_references(kept: Kept) -> Kept:
    true = true_labels()
    references: dict[tuple[Case, str], Mask] = {}
    for case in dict.fromkeys(case for case, _ in kept):
        references[case, KEEP_ALL] = np.ones(len(true), np.bool_)
        references[case, TRUE_ERRORS] = labels_of(case.source) == true
    return {**kept, **references}


def _configuration(
    masks: Iterable[GivenMask], training: Training, probe: Probe | None
) -> RunConfig:
    return make_run_config(
        [],
        masks=masks,
        seed=training.seed,
        overrides=training.hyperparameters,
        probe=probe,
        root=training.root,
        trust=training.trust,
    )


def _train(config: RunConfig, training: Training, folder: Path) -> dict[str, Row]:
    """Train what is not done; return what stands in the table for each task that cannot be."""
    from cifar_noisy.recompute.checkpoints import BusyError
    from cifar_noisy.recompute.progress import step_bar
    from cifar_noisy.recompute.task_runner import run_tasks

    dataset = open_dataset(config.dataset, config.root, trust=config.trust, load_test_set=True)
    failed: dict[str, Row] = {}
    left = [task.id for task in tasks_of(config)]
    with step_bar() as show:
        while left:
            try:
                for task, _ in run_tasks(
                    config, dataset, folder, task_ids=left, device=training.device,
                    threads=training.threads, on_step=show,
                ):  # fmt: skip
                    left.remove(task.id)
            except InterruptedRunError:
                raise
            except BusyError:
                left.pop(0)  # no failure: the process that works on it will have done it
            except (RecomputeError, InvalidInputError) as error:
                failed[left.pop(0)] = {"error": str(error)}
    return failed


def _test_row(task: Task, config: RunConfig, folder: Path) -> Row:
    """Return the accuracies of a training that is done; against other labels if they can be had."""
    path = probabilities_path(task)
    record = record_of(task, config, folder)
    if record is None or path is None:
        return {}
    row = {"test_accuracy": record["test_accuracy"]}
    try:
        found = test_accuracy(open_npy(folder / path), order="imagefolder")
    except UnavailableError:
        return row
    return row | {"test_corrected": found.corrected, "test_soft": found.soft}
