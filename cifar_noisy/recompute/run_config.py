"""A request, and the tasks that it comes down to."""

import dataclasses
import hashlib
import json
import operator
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.errors import InvalidInputError
from cifar_noisy.recompute.datasets import DATASETS, DatasetName
from cifar_noisy.recompute.recipes import (
    COTEACHING_PREFIX,
    RECIPES,
    CoteachingRecipe,
    PaperRecipe,
    Recipe,
    RecipeName,
    make_coteaching,
    make_recipe,
)
from cifar_noisy.settings import METHODS, Method, Setting, check_choice
from cifar_noisy.store.files import user_path

DType = Literal["float16", "float32"]

_MOST_FOLDS = 5_000  # CIFAR-10 has as many examples of a class
_LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Request:
    """All that decides what comes out, but for the device and its threads; and where images are.

    Attributes
    ----------
    dataset : {"cifar10", "digits"}
    settings : tuple of Setting
    recipe_name : {"fast", "paper"}
    recipe : FastRecipe or PaperRecipe
    seed : int
    n_folds : int
    dtype : {"float16", "float32"}
        Of the probabilities that are written; the masks follow from these.
    data_digest : str
        Hex sha256 of the images and true labels.
    kept_methods : tuple of str
        Methods whose kept sets the recipe is trained on, to a test accuracy.
    coteaching_methods : tuple of str
        The same with Co-Teaching.
    coteaching : CoteachingRecipe, optional
        Where there are such methods.
    root, trust : str, optional
        Where CIFAR-10's images are, as for `load_images`. Requests that differ in these are equal.
    """

    dataset: DatasetName
    settings: tuple[Setting, ...]
    recipe_name: RecipeName
    recipe: Recipe
    seed: int
    n_folds: int
    dtype: DType
    data_digest: str
    kept_methods: tuple[Method, ...] = ()
    coteaching_methods: tuple[Method, ...] = ()
    coteaching: CoteachingRecipe | None = None
    root: str | None = dataclasses.field(default=None, compare=False)
    trust: str | None = dataclasses.field(default=None, compare=False)

    @property
    def needs_test(self) -> bool:
        """Whether a task needs the test set."""
        return selects_on_test(self.recipe) or bool(self.kept_methods or self.coteaching_methods)

    def needs(self, task: "Task") -> tuple["Task", ...]:
        """Return the tasks that a task needs."""
        tasks = {other.id: other for other in tasks_of(self)} if task.needs else {}
        return tuple(tasks[task_id] for task_id in task.needs)

    def as_json(self) -> dict[str, Any]:
        """Return all that decides what comes out, as plain values."""
        fields: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        del fields["root"], fields["trust"]
        return fields

    def digest(self) -> str:
        """Return the hex sha256 of the request; equal requests have equal digests."""
        return hashlib.sha256(json.dumps(self.as_json(), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Task:
    """One piece of work, done when its last file is there.

    Attributes
    ----------
    id : str
        Such as "train-noise0.4-sparsity0.2-fold1", "collect-noise0.4-sparsity0.2" or
        "kept-noise0.4-sparsity0.2-cl_pbc".
    kind : {"train", "collect", "kept", "coteaching"}
        Train on all folds but one and predict that one; combine the folds into pyx and masks; or
        train on the examples that a method keeps, plain or with Co-Teaching, and test.
    setting : Setting
    fold : int or None
    needs : tuple of str
        Tasks to be done before.
    method : str or None
        Of the kept set.
    """

    id: str
    kind: Literal["train", "collect", "kept", "coteaching"]
    setting: Setting
    fold: int | None = None
    needs: tuple[str, ...] = ()
    method: Method | None = None

    @property
    def kept_method(self) -> Method:
        """The method whose kept set is trained on; only tasks of that kind have one."""
        if self.method is None:
            raise InvalidInputError(f"{self.id} trains on no kept set")
        return self.method


def make_request(
    settings: Iterable[Setting],
    data_digest: str,
    *,
    dataset: str = "cifar10",
    seed: int = 0,
    n_folds: int = 4,
    dtype: str = "float16",
    device: str = "cpu",
    recipe: str = "fast",
    overrides: Mapping[str, str | float] | None = None,
    kept_methods: Iterable[str] = (),
    coteaching_methods: Iterable[str] = (),
    root: str | os.PathLike[str] | None = None,
    trust: str | None = None,
) -> Request:
    """Make a request, with the recipe's defaults for the dataset where nothing is overridden.

    Parameters
    ----------
    settings : iterable of Setting
    data_digest : str
        Of the dataset.
    dataset, seed, n_folds, dtype
        As in `Request`.
    device : str, default "cpu"
        What it is planned for: decides the width of `fast`'s network.
    recipe : {"fast", "paper"}
    overrides : mapping, optional
        Values of hyperparameters by name; Co-Teaching's begin with "coteaching.".
    kept_methods, coteaching_methods, root, trust
        As in `Request`.

    Raises
    ------
    InvalidInputError
        If there is no setting, a number makes no sense, or a hyperparameter is unknown.
    UnknownArtifactError
        If the dataset, the dtype, the recipe or a method is unknown.

    Examples
    --------
    >>> request = make_request([Setting(0.4, 0.2)], "-", overrides={"epochs": "2"})
    >>> request.recipe.epochs, [task.id for task in tasks_of(request)][-1]
    (2, 'collect-noise0.4-sparsity0.2')
    """
    name = check_choice(dataset, DATASETS, "dataset")
    chosen = tuple(sorted(set(settings)))
    if not chosen:
        raise InvalidInputError("no setting to recompute: name at least one")
    values = dict(overrides or {})
    kept, taught = (
        tuple(method for method in METHODS if method in methods)
        for methods in (_checked(kept_methods), _checked(coteaching_methods))
    )
    if not taught and any(key.startswith(COTEACHING_PREFIX) for key in values):
        raise InvalidInputError("Co-Teaching has hyperparameters but no method to be trained on")
    return Request(
        dataset=name,
        settings=chosen,
        recipe_name=check_choice(recipe, RECIPES, "recipe"),
        recipe=make_recipe(recipe, name, values, device),
        seed=_whole("seed", seed, -_LARGEST_SEED, _LARGEST_SEED),
        n_folds=_whole("folds", n_folds, 2, _MOST_FOLDS),
        dtype=check_choice(dtype, get_args(DType), "dtype"),
        data_digest=str(data_digest),
        kept_methods=kept,
        coteaching_methods=taught,
        coteaching=make_coteaching(name, values) if taught else None,
        root=None if root is None else str(user_path(root).absolute()),
        trust=trust,
    )


def _whole(name: str, value: object, low: int, high: int) -> int:
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise InvalidInputError(f"{name} is {value!r}: pass a whole number") from None
    if not low <= number <= high:
        said = number if number.bit_length() < 64 else "of many digits"
        raise InvalidInputError(f"{name} is {said}: use {low} to {high}")
    return number


def selects_on_test(recipe: Recipe) -> bool:
    """Return whether a training of this recipe picks its checkpoint on the test set."""
    return isinstance(recipe, PaperRecipe) and recipe.checkpoint == "best-test"


def _checked(methods: Iterable[str]) -> list[Method]:
    return [check_choice(method, METHODS, "method") for method in methods]


def tasks_of(request: Request) -> tuple[Task, ...]:
    """Return the tasks of a request, each after those that it needs."""
    tasks: list[Task] = []
    for setting in request.settings:
        name = f"noise{setting.noise:g}-sparsity{setting.sparsity:g}"
        folds = tuple(
            Task(f"train-{name}-fold{fold}", "train", setting, fold)
            for fold in range(request.n_folds)
        )
        needs = tuple(task.id for task in folds)
        collect = Task(f"collect-{name}", "collect", setting, needs=needs)
        tasks += [*folds, collect]
        tasks += [
            Task(f"kept-{name}-{method}", "kept", setting, None, (collect.id,), method)
            for method in request.kept_methods
        ]
        tasks += [
            Task(f"coteaching-{name}-{method}", "coteaching", setting, None, (collect.id,), method)
            for method in request.coteaching_methods
        ]
    return tuple(tasks)


def find_task(request: Request, task_id: str) -> Task:
    """Return a task by its id."""
    tasks = {task.id: task for task in tasks_of(request)}
    if task_id not in tasks:
        raise InvalidInputError(
            f"task {task_id!r} is not in this plan: its {len(tasks)} tasks are "
            f"{next(iter(tasks))} to {list(tasks)[-1]}"
        )
    return tasks[task_id]


def check_fit(request: Request, labels: NDArray[np.int64]) -> None:
    """Hold folds and batches to a dataset's true labels, before anything is written or trained.

    Raises
    ------
    InvalidInputError
        If a class has fewer examples than there are folds, or a training fewer than a batch.
    """
    smallest = int(np.bincount(labels).min())
    if request.n_folds > smallest:
        raise InvalidInputError(
            f"{request.n_folds:,} folds of {smallest:,} examples of a class: use {smallest:,} at "
            "most"
        )
    n_train = len(labels) - -(-len(labels) // request.n_folds)
    if request.recipe.batch_size > n_train:
        raise InvalidInputError(
            f"batch_size {request.recipe.batch_size:,} does not fit {n_train:,} training examples: "
            f"choose 2 to {n_train:,}"
        )
