"""The configuration of a run, and the tasks that follow from it."""

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
from cifar_noisy.loading.given_labels import LabelSource, identity
from cifar_noisy.recompute.datasets import DATASETS, DatasetName
from cifar_noisy.recompute.recipes import (
    COTEACHING_PREFIX,
    RECIPES,
    CoteachingRecipe,
    Recipe,
    RecipeName,
    make_coteaching,
    make_recipe,
)
from cifar_noisy.settings import METHODS, Method, Setting, check_choice
from cifar_noisy.store.files import user_path
from cifar_noisy.store.registry import array_digest

DType = Literal["float16", "float32"]

_MAX_FOLDS = 5_000  # CIFAR-10 has as many examples of a class
_MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class GivenMask:
    """A train mask that no task makes: given labels, and the digest of which of them are kept."""

    labels: LabelSource
    digest: str

    @classmethod
    def of(cls, labels: LabelSource, keep: NDArray[np.bool_]) -> "GivenMask":
        """Return the mask (N,), True = keep."""
        return cls(labels, array_digest(keep)[:16])

    @property
    def name(self) -> str:
        """Such as noise0.4-sparsity0.2-mask-0123456789abcdef."""
        return f"{self.labels.name}-mask-{self.digest}"


@dataclass(frozen=True)
class RunConfig:
    """Everything that determines the results, and where the images are.

    `settings` are the given labels to train on: the paper's, label sets, or the user's own.
    The examples that `kept_methods` keep are trained on by the recipe, and those that
    `coteaching_methods` keep with Co-Teaching. What `masks` keep is trained on by the recipe too;
    these determine no other result, so a plan may get further ones. `data_digest` is the sha256 of
    images and true labels, empty until `make_plan` has opened them. `root` and `trust` are those of
    `load_images`.
    """

    dataset: DatasetName
    settings: tuple[LabelSource, ...]
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
    masks: tuple[GivenMask, ...] = dataclasses.field(default=(), compare=False)

    @property
    def labels(self) -> tuple[LabelSource, ...]:
        """All given labels that a task needs."""
        return tuple(dict.fromkeys([*self.settings, *(mask.labels for mask in self.masks)]))

    @property
    def selects_on_test(self) -> bool:
        """Whether the trainings of the folds choose their checkpoint on the test set."""
        return getattr(self.recipe, "checkpoint", None) == "best-test"

    @property
    def needs_test(self) -> bool:
        """Whether a task needs the test set."""
        is_tested = self.kept_methods or self.coteaching_methods or self.masks
        return self.selects_on_test or bool(is_tested)

    def to_dict(self) -> dict[str, Any]:
        """Return everything that determines the results, as plain values of JSON."""
        fields = dataclasses.asdict(dataclasses.replace(self, settings=(), masks=()))
        fields["settings"] = [identity(source) for source in self.settings]
        del fields["root"], fields["trust"], fields["masks"]
        plain: dict[str, Any] = json.loads(json.dumps(fields))
        return plain

    def config_sha256(self) -> str:
        """Return the hex sha256 of the configuration; equal ones have equal digests."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Task:
    """One piece of work, such as "train-noise0.4-sparsity0.2-fold1", after those it depends on.

    By kind: train on all folds but one and predict that one; "collect" the folds, that is merge
    them into pyx and masks; train on the examples that a method keeps, plain ("kept") or with
    Co-Teaching, and test; the same on what a given mask keeps ("mask").
    """

    id: str
    kind: Literal["train", "collect", "kept", "coteaching", "mask"]
    setting: LabelSource
    fold: int | None = None
    depends_on: tuple[str, ...] = ()
    method: Method | None = None
    mask: GivenMask | None = None

    @property
    def kept_method(self) -> Method:
        """The method whose kept examples are trained on."""
        if self.method is None:
            raise InvalidInputError(f"{self.id} trains on no kept set")
        return self.method


def make_run_config(
    settings: Iterable[LabelSource],
    data_digest: str = "",
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
    masks: Iterable[GivenMask] = (),
    root: str | os.PathLike[str] | None = None,
    trust: str | None = None,
) -> RunConfig:
    """Check all choices and return them as a configuration.

    The recipe has its defaults for the dataset where `overrides` has no value; hyperparameters of
    Co-Teaching begin with "coteaching.". The device decides the default width of `fast`.

    Examples
    --------
    >>> config = make_run_config([Setting(0.4, 0.2)], overrides={"epochs": "2"})
    >>> config.recipe.epochs, [task.id for task in tasks_of(config)][-1]
    (2, 'collect-noise0.4-sparsity0.2')
    """
    name = check_choice(dataset, DATASETS, "dataset")
    chosen = tuple(sorted(set(settings), key=lambda source: source.name))
    given_masks = tuple(sorted(set(masks), key=lambda mask: mask.name))
    if not chosen and not given_masks:
        raise InvalidInputError("no setting to recompute: name at least one")
    for source in [*chosen, *(mask.labels for mask in given_masks)]:
        if name != "cifar10" and not isinstance(source, Setting):
            raise InvalidInputError(f"{source} is of CIFAR-10: leave dataset={name!r} out")
    values = dict(overrides or {})
    kept, with_coteaching = _methods(kept_methods), _methods(coteaching_methods)
    if not with_coteaching and any(key.startswith(COTEACHING_PREFIX) for key in values):
        raise InvalidInputError("Co-Teaching has hyperparameters but no method to be trained on")
    return RunConfig(
        dataset=name,
        settings=chosen,
        recipe_name=check_choice(recipe, RECIPES, "recipe"),
        recipe=make_recipe(recipe, name, values, device),
        seed=_integer("seed", seed, -_MAX_SEED, _MAX_SEED),
        n_folds=_integer("folds", n_folds, 2, _MAX_FOLDS),
        dtype=check_choice(dtype, get_args(DType), "dtype"),
        data_digest=str(data_digest),
        kept_methods=kept,
        coteaching_methods=with_coteaching,
        coteaching=make_coteaching(name, values) if with_coteaching else None,
        root=None if root is None else str(user_path(root).absolute()),
        trust=trust,
        masks=given_masks,
    )


def _methods(names: Iterable[str]) -> tuple[Method, ...]:
    """Check names of methods, and return them in the usual order, each once."""
    chosen = [check_choice(name, METHODS, "method") for name in names]
    return tuple(method for method in METHODS if method in chosen)


def _integer(name: str, value: object, low: int, high: int) -> int:
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise InvalidInputError(f"{name} is {value!r}: pass a whole number") from None
    if not low <= number <= high:
        shown = number if number.bit_length() < 64 else "of many digits"
        raise InvalidInputError(f"{name} is {shown}: use {low} to {high}")
    return number


def tasks_of(config: RunConfig) -> tuple[Task, ...]:
    """Return the tasks of a configuration, each after those that it depends on."""
    tasks: list[Task] = []
    for setting in config.settings:
        name = setting.name
        folds = [
            Task(f"train-{name}-fold{fold}", "train", setting, fold)
            for fold in range(config.n_folds)
        ]
        fold_ids = tuple(fold.id for fold in folds)
        collect = Task(f"collect-{name}", "collect", setting, depends_on=fold_ids)
        tasks += [*folds, collect]
        tasks += [
            Task(f"kept-{name}-{method}", "kept", setting, None, (collect.id,), method)
            for method in config.kept_methods
        ]
        tasks += [
            Task(f"coteaching-{name}-{method}", "coteaching", setting, None, (collect.id,), method)
            for method in config.coteaching_methods
        ]
    tasks += [Task(f"kept-{m.name}", "mask", m.labels, mask=m) for m in config.masks]
    return tuple(tasks)


def find_tasks(config: RunConfig, task_ids: Iterable[str] | None) -> list[Task]:
    """Return the tasks with these ids, each once; all tasks if `task_ids` is None."""
    tasks = {task.id: task for task in tasks_of(config)}
    chosen = list(tasks if task_ids is None else dict.fromkeys(task_ids))
    for task_id in chosen:
        if task_id not in tasks:
            raise InvalidInputError(
                f"task {task_id!r} is not in this plan: its {len(tasks)} tasks are "
                f"{next(iter(tasks))} to {list(tasks)[-1]}"
            )
    return [tasks[task_id] for task_id in chosen]


def check_folds_and_batch_size(config: RunConfig, labels: NDArray[np.int64]) -> None:
    """Raise if a class has fewer examples than there are folds, or a fold fewer than a batch."""
    smallest = int(np.bincount(labels).min())
    if config.n_folds > smallest:
        raise InvalidInputError(
            f"{config.n_folds:,} folds of {smallest:,} examples of a class: use {smallest:,} at "
            "most"
        )
    n_train = len(labels) - -(-len(labels) // config.n_folds)
    if config.recipe.batch_size > n_train:
        raise InvalidInputError(
            f"batch_size {config.recipe.batch_size:,} does not fit {n_train:,} training examples: "
            f"choose 2 to {n_train:,}"
        )
