"""Runs tasks: done is a no-op, interrupted continues, and what comes out is as published.

A folder of a plan holds

    plan.json                          the request
    work/<task>/checkpoint.pt          of a training under way
    work/<task>/{about.json,log.txt,probabilities.npy}   of a training that is done
    cifar10/cifar10_noisy_labels__.../ pyx, five masks and provenance.json, where upstream has them
    .../train_pruned_<method>/         log and test_accuracy.json of a training on a kept set
"""

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

import cifar_noisy
from cifar_noisy.confident_learning import label_errors
from cifar_noisy.errors import InterruptedRunError, InvalidInputError, RecomputeError
from cifar_noisy.evaluation import Detection, accuracy_bound, count_pairs
from cifar_noisy.recompute.checkpoints import (
    load_checkpoint,
    only_one,
    save_checkpoint,
    write_whole,
)
from cifar_noisy.recompute.coteaching import CoteachingTrainer
from cifar_noisy.recompute.kept_sets import kept_training, share_of_errors, with_test
from cifar_noisy.recompute.plan import (
    Request,
    Task,
    find_task,
    make_request,
    needs_test,
    save_plan,
    tasks_of,
)
from cifar_noisy.recompute.progress import step_bar
from cifar_noisy.recompute.recipes import make_trainer
from cifar_noisy.recompute.sources import Dataset, open_dataset
from cifar_noisy.recompute.stop_signals import stop_signals
from cifar_noisy.recompute.training import Trainer, Training
from cifar_noisy.recomputed import provenance_path
from cifar_noisy.registry import npy_bytes
from cifar_noisy.settings import Setting, pyx_path, train_mask_path, training_log_path

_SECONDS_BETWEEN_CHECKPOINTS = 120.0

State = Literal["done", "started", "ready", "waiting"]
OnStep = Callable[[Task, int, int], object]


@dataclass(frozen=True)
class Summary:
    """What the probabilities of a setting are worth.

    Attributes
    ----------
    given_accuracy, true_accuracy : float
        Of the out-of-sample argmax, against given and true labels.
    given_bound : float
        The best that `given_accuracy` can be: the mean of the noise matrix's column maxima, as
        drawn.
    fold_accuracies : tuple of (float, float)
        Against given and true labels, fold by fold.
    scores : dict from method to dict
        Its `Detection.row`.
    """

    given_accuracy: float
    true_accuracy: float
    given_bound: float
    fold_accuracies: tuple[tuple[float, float], ...]
    scores: dict[str, dict[str, Any]]


def folds_of(labels: NDArray[np.int64], n_folds: int) -> tuple[NDArray[np.int64], ...]:
    """Return the held-out rows of each fold, stratified over the *true* labels, as upstream did.

    Examples
    --------
    >>> [len(rows) for rows in folds_of(np.repeat([0, 1], 8), 4)]
    [4, 4, 4, 4]
    """
    from sklearn.model_selection import StratifiedKFold

    folds = StratifiedKFold(n_folds, shuffle=True, random_state=0)
    return tuple(rows.astype(np.int64) for _, rows in folds.split(labels, labels))


def state_of(task: Task, folder: Path) -> State:
    """Say how far a task is, from its files."""
    if _last_file(task, folder).is_file():
        return "done"
    if (_work(task.id, folder) / "checkpoint.pt").is_file():
        return "started"
    if task.kind == "collect":
        needed = [_work(need, folder) / "probabilities.npy" for need in task.needs]
    else:
        needed = [folder / provenance_path(task.setting)] if task.needs else []
    return "ready" if all(path.is_file() for path in needed) else "waiting"


def run_tasks(
    request: Request,
    dataset: Dataset,
    folder: Path,
    *,
    task_ids: tuple[str, ...] | None = None,
    device: str = "cpu",
    threads: int | None = None,
    on_step: OnStep = lambda *_: None,
) -> Iterator[tuple[Task, State]]:
    """Run tasks one after the other, each once those that it needs are done.

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
    on_step : callable, optional
        Called after each step of a training with the task, the step and the number of steps.

    Yields
    ------
    (Task, state)
        What the task was before it was run: a task that was "done" is left alone.

    Raises
    ------
    InvalidInputError
        If a task is not in the plan, or the images are not those of the plan.
    RecomputeError
        If the device is not there, the loss is no number, or something that is needed is not done.
    InterruptedRunError
        After SIGTERM or SIGUSR1, once the state is saved.
    StorageError
        If the folder cannot be written; the last checkpoint stays.
    """
    check_device(device)
    if dataset.digest() != request.data_digest:
        raise InvalidInputError(
            "these images are not those that the plan was made for: pass the same root, or plan "
            "in another folder"
        )
    if threads is not None:
        torch.set_num_threads(threads)
    chosen = [task.id for task in tasks_of(request)] if task_ids is None else task_ids
    tasks = [find_task(request, task_id) for task_id in chosen]
    with stop_signals() as stops:
        for task in tasks:
            before = state_of(task, folder)
            if before == "waiting":
                raise RecomputeError(f"{task.id} needs tasks that are not done: run those first")
            if before != "done":
                with only_one(_work(task.id, folder), task.id):
                    _run(task, request, dataset, folder, device, stops, on_step)
            yield task, before


def recompute_settings(settings: Iterable[Setting], folder: Path) -> None:
    """Plan and run all tasks of some settings, with the images in the cache and the defaults.

    A bar on stderr shows the steps where that is a terminal.

    Raises
    ------
    UnavailableError, ImagesError
        If the images are not there.
    RecomputeError, StorageError
        As `run_tasks` does.
    """
    dataset = open_dataset("cifar10")
    dataset.hold_aligned()
    request = make_request(settings, dataset.digest())
    save_plan(request, folder)
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
    try:
        wanted = torch.device(device)
    except RuntimeError:
        raise InvalidInputError(f"device {device!r} is unknown: use cpu, cuda or cuda:1") from None
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        raise RecomputeError(
            f"device {device!r} is not there: this torch ({torch.__version__}) sees "
            f"{torch.cuda.device_count()} CUDA devices; use --device cpu"
        )


def read_record(task: Task, folder: Path) -> dict[str, Any]:
    """Return what a task that is done wrote about itself.

    Of a collected setting the provenance record, summary included; of a training on a kept set its
    test accuracy.
    """
    record: dict[str, Any] = json.loads(_last_file(task, folder).read_text(encoding="utf-8"))
    return record


def _work(task_id: str, folder: Path) -> Path:
    return folder / "work" / task_id


def _last_file(task: Task, folder: Path) -> Path:
    """Return the file that a task writes last, so that where it is, all is."""
    if task.kind == "train":
        return _work(task.id, folder) / "probabilities.npy"
    if task.kind == "collect":
        return folder / provenance_path(task.setting)
    return _published_log(task, folder).with_name("test_accuracy.json")


def _published_log(task: Task, folder: Path) -> Path:
    """Return where upstream has the log of a training on a kept set."""
    trainer: Literal["resnet50", "coteaching"] = "resnet50" if task.kind == "kept" else "coteaching"
    return folder / training_log_path(task.setting, task.kept_method, trainer)


def _run(
    task: Task,
    request: Request,
    dataset: Dataset,
    folder: Path,
    device: str,
    stops: list[int],
    on_step: OnStep,
) -> None:
    if task.kind == "collect":
        _collect(task, request, dataset, folder)
        return
    make = _fold_trainer if task.kind == "train" else _kept_trainer
    try:
        trainer = make(task, request, dataset, folder, device)
        _train(trainer, task, request, folder, stops, on_step)
        probabilities = trainer.predict()
    except torch.OutOfMemoryError as error:
        raise RecomputeError(
            f"{task.id} does not fit in the memory of {device}: lower batch_size or width, in "
            "another folder; the last checkpoint is kept"
        ) from error
    about = {"device": _device_name(device), "threads": torch.get_num_threads(),
             "seconds": round(trainer.seconds, 3)}  # fmt: skip
    if task.kind == "train":
        _save_fold(task, folder, trainer, about, probabilities)
    else:
        _save_kept(task, request, folder, trainer, about, probabilities)
    (_work(task.id, folder) / "checkpoint.pt").unlink(missing_ok=True)


def _fold_trainer(
    task: Task, request: Request, dataset: Dataset, folder: Path, device: str
) -> Trainer:
    """Train on all folds but the task's, whose rows are predicted."""
    held_out = folds_of(dataset.labels, request.n_folds)[task.fold or 0]
    given = dataset.noisy_labels(task.setting)
    pixels, labels, test = dataset.pixels, given, None
    if needs_test(request.recipe):
        pixels, labels, test = with_test(dataset, given)
    training = Training(
        pixels=pixels,
        labels=labels,
        train=np.setdiff1d(np.arange(len(dataset.labels)), held_out),
        held_out=held_out,
        n_classes=int(dataset.labels.max()) + 1,
        is_mirrored=dataset.is_mirrored,
        key=f"{request.seed}/{request.dataset}/{task.id}",
        monitored=test,
    )
    trainer = make_trainer(request.recipe, training, device)
    bound = accuracy_bound(count_pairs(given, dataset.labels, training.n_classes))
    trainer.log.append(f"The noise allows an accuracy of {bound:.2%} against given labels")
    return trainer


def _kept_trainer(
    task: Task, request: Request, dataset: Dataset, folder: Path, device: str
) -> Trainer:
    """Train on what the task's mask keeps; the test set is predicted."""
    mask_path = folder / train_mask_path(task.setting, task.kept_method, "2021")
    is_kept = np.load(mask_path, allow_pickle=False)
    given = dataset.noisy_labels(task.setting)
    key = f"{request.seed}/{request.dataset}/{task.id}"
    training = kept_training(dataset, given, is_kept, key)
    if task.kind == "kept" or request.coteaching is None:
        return make_trainer(request.recipe, training, device)
    forget_rate = None
    if request.coteaching.estimate_forget_rate:
        pyx = np.load(folder / pyx_path(task.setting), allow_pickle=False)
        forget_rate = share_of_errors(given[is_kept], pyx[is_kept])
    return CoteachingTrainer(request.coteaching, training, device, forget_rate)


def _train(
    trainer: Trainer,
    task: Task,
    request: Request,
    folder: Path,
    stops: list[int],
    on_step: OnStep,
) -> None:
    """Train to the end, from the task's checkpoint if it has one."""
    checkpoint = _work(task.id, folder) / "checkpoint.pt"
    saved = load_checkpoint(checkpoint, request.digest())
    if saved is not None:
        trainer.load_state(saved)
    saving = _Saving(checkpoint, request.digest(), stops)

    def should_stop(trainer: Trainer) -> bool:
        on_step(task, trainer.step, trainer.n_steps)
        return saving(trainer)

    if not trainer.run(should_stop):
        raise InterruptedRunError(
            f"{task.id} stopped by a signal after step {trainer.step} of {trainer.n_steps} and "
            "saved: the same command continues it"
        )


def _save_fold(
    task: Task,
    folder: Path,
    trainer: Trainer,
    about: dict[str, Any],
    probabilities: NDArray[np.float32],
) -> None:
    work = _work(task.id, folder)
    write_whole(work / "log.txt", _log_text(trainer))
    write_whole(work / "about.json", json.dumps(about).encode())
    write_whole(work / "probabilities.npy", npy_bytes(probabilities))


def _save_kept(
    task: Task,
    request: Request,
    folder: Path,
    trainer: Trainer,
    about: dict[str, Any],
    probabilities: NDArray[np.float32],
) -> None:
    """Write the log where upstream has it, and last the test accuracy beside it."""
    training = trainer.training
    log = _log_text(trainer)
    hits = probabilities.argmax(axis=1) == training.labels[training.held_out]
    record = {
        "configuration": request.digest(),
        "setting": asdict(task.setting),
        "method": task.kept_method,
        "training": "coteaching" if task.kind == "coteaching" else request.recipe_name,
        "train_size": len(training.train),
        "test_size": len(training.held_out),
        "test_accuracy": float(hits.mean()),
        "versions": _versions(),
        **about,
        "log_sha256": hashlib.sha256(log).hexdigest(),
    }
    if isinstance(trainer, CoteachingTrainer):
        record["forget_rate"] = trainer.forget_rate
    write_whole(_published_log(task, folder), log)
    write_whole(_last_file(task, folder), (json.dumps(record, indent=2) + "\n").encode())


def _log_text(trainer: Trainer) -> bytes:
    minutes, seconds = divmod(trainer.seconds, 60)
    return "\n".join([*trainer.log, f"\nreal\t{minutes:.0f}m{seconds:.3f}s", ""]).encode()


class _Saving:
    """Asked after each step: saves at epoch ends, every two minutes, and when told to stop."""

    def __init__(self, path: Path, configuration: str, stops: list[int]) -> None:
        self.path, self.configuration, self.stops = path, configuration, stops
        self.last = time.monotonic()

    def __call__(self, trainer: Trainer) -> bool:
        is_old = time.monotonic() - self.last > _SECONDS_BETWEEN_CHECKPOINTS
        if self.stops or is_old or trainer.step % trainer.steps_per_epoch == 0:
            save_checkpoint(self.path, {"configuration": self.configuration, **trainer.state()})
            self.last = time.monotonic()
        return bool(self.stops)


def _collect(task: Task, request: Request, dataset: Dataset, folder: Path) -> None:
    """Combine the folds, and write pyx, masks and last the record of where they came from."""
    started = time.monotonic()
    folds = folds_of(dataset.labels, request.n_folds)
    pyx = np.empty((len(dataset.labels), int(dataset.labels.max()) + 1), dtype=request.dtype)
    trainings = {}
    for need, rows in zip(task.needs, folds, strict=True):
        work = _work(need, folder)
        pyx[rows] = np.load(work / "probabilities.npy", allow_pickle=False)
        trainings[need] = json.loads((work / "about.json").read_text(encoding="utf-8"))
    given = dataset.noisy_labels(task.setting)
    errors = label_errors(given, pyx)
    files = {pyx_path(task.setting): npy_bytes(pyx)}
    for method, is_error in errors.items():
        files[train_mask_path(task.setting, method, "2021")] = npy_bytes(~is_error)
    for path, content in files.items():
        write_whole(folder / path, content)
    record = {
        "configuration": request.digest(),
        "request": request.as_json(),
        "setting": asdict(task.setting),
        "versions": _versions(),
        "machine": {"platform": platform.platform(), "cpus": os.cpu_count()},
        "trainings": trainings,
        "collect_seconds": round(time.monotonic() - started, 3),
        "sha256": {path: hashlib.sha256(content).hexdigest() for path, content in files.items()},
        "summary": asdict(summarise(task, dataset, pyx, given, errors, folds)),
    }
    text = json.dumps(record, indent=2) + "\n"
    write_whole(_last_file(task, folder), text.encode())


def summarise(
    task: Task,
    dataset: Dataset,
    pyx: NDArray[np.floating[Any]],
    given: NDArray[np.int64],
    errors: dict[Any, NDArray[np.bool_]],
    folds: tuple[NDArray[np.int64], ...],
) -> Summary:
    """Measure probabilities and masks against given and true labels."""
    top = pyx.argmax(axis=1)
    is_given, is_true = top == given, top == dataset.labels
    n_classes = pyx.shape[1]
    pairs = count_pairs(given, dataset.labels, n_classes)
    return Summary(
        given_accuracy=float(is_given.mean()),
        true_accuracy=float(is_true.mean()),
        given_bound=accuracy_bound(pairs),
        fold_accuracies=tuple(
            (float(is_given[rows].mean()), float(is_true[rows].mean())) for rows in folds
        ),
        scores={
            method: Detection.of(
                method, pairs, count_pairs(given[found], dataset.labels[found], n_classes)
            ).row()
            for method, found in errors.items()
        },
    )


def _versions() -> dict[str, str]:
    return {
        "cifar-noisy": cifar_noisy.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
    }


def _device_name(device: str) -> str:
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device} ({torch.backends.cpu.get_cpu_capability()})"
