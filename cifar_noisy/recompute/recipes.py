"""The recipes by name, with their values for each dataset, and the trainer of each."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args

from cifar_noisy.errors import InvalidInputError
from cifar_noisy.recompute.coteaching import CoteachingRecipe
from cifar_noisy.recompute.datasets import DatasetName
from cifar_noisy.recompute.fast import FastRecipe, FastTrainer, suited_width
from cifar_noisy.recompute.paper import PaperRecipe, PaperTrainer
from cifar_noisy.recompute.training import Trainer, Training, device_named
from cifar_noisy.settings import check_choice

RecipeName = Literal["fast", "paper"]
Recipe = FastRecipe | PaperRecipe
Values = TypeVar("Values", FastRecipe, PaperRecipe, CoteachingRecipe)

RECIPES: tuple[RecipeName, ...] = get_args(RecipeName)
COTEACHING_PREFIX = "coteaching."

# The digits are small, few and soon learned.
_FAST_DIGITS: dict[str, Any] = {
    "epochs": 12,
    "small_epochs": 0,
    "small_scale": 1.0,
    "batch_size": 64,
    "peak_rate": 0.2,
    "width": 16,
}
_PAPER_DIGITS: dict[str, Any] = {"epochs": 12, "padding": 1, "width": 8}
_COTEACHING_DIGITS: dict[str, Any] = {"epochs": 12, "decay_start": 6, "padding": 1, "width": 16}


def make_recipe(
    name: str, dataset: DatasetName, overrides: Mapping[str, Any], device: str = "cpu"
) -> Recipe:
    """Return a recipe with its values for a dataset, but for those overridden.

    Parameters
    ----------
    name : {"fast", "paper"}
    dataset : {"cifar10", "digits"}
    overrides : mapping
        Values, as numbers or text; names that begin with "coteaching." are passed over.
    device : str, default "cpu"
        What it is meant for: decides the width of `fast`.

    Raises
    ------
    UnknownArtifactError
        If there is no such recipe.
    InvalidInputError
        If a hyperparameter is unknown or has no such value, or the device is no name of one.

    Examples
    --------
    >>> make_recipe("paper", "cifar10", {"epochs": "2"}).epochs
    2
    """
    device_named(device)
    own = {key: value for key, value in overrides.items() if not key.startswith(COTEACHING_PREFIX)}
    is_digits = dataset == "digits"
    if check_choice(name, RECIPES, "recipe") == "paper":
        return _filled(PaperRecipe, (_PAPER_DIGITS if is_digits else {}) | own)
    defaults = _FAST_DIGITS if is_digits else {"width": suited_width(device)}
    return _filled(FastRecipe, defaults | own)


def make_coteaching(dataset: DatasetName, overrides: Mapping[str, Any]) -> CoteachingRecipe:
    """Return Co-Teaching's values: those overridden are called "coteaching.epochs" and so on.

    Raises
    ------
    InvalidInputError
        If a hyperparameter is unknown or has no such value.
    """
    prefix = COTEACHING_PREFIX
    own = {k.removeprefix(prefix): v for k, v in overrides.items() if k.startswith(prefix)}
    defaults = _COTEACHING_DIGITS if dataset == "digits" else {}
    return _filled(CoteachingRecipe, defaults | own, prefix)


def make_trainer(recipe: Recipe, training: Training, device: str) -> Trainer:
    """Return the trainer of a recipe."""
    if isinstance(recipe, PaperRecipe):
        return PaperTrainer(recipe, training, device)
    return FastTrainer(recipe, training, device)


def _filled(kind: type[Values], values: Mapping[str, Any], prefix: str = "") -> Values:
    defaults = dataclasses.asdict(kind())
    unknown = values.keys() - defaults.keys()
    if unknown:
        raise InvalidInputError(
            f"hyperparameter {prefix + min(unknown)!r} is unknown: there are "
            f"{', '.join(prefix + name for name in defaults)}"
        )
    return kind(**{name: _converted(prefix + name, value, defaults[name])
                   for name, value in values.items()})  # fmt: skip


def _converted(name: str, value: Any, example: Any) -> Any:
    """Return a value as the type of an example, from a number or its text."""
    if isinstance(example, bool):
        if str(value).lower() in ("true", "false"):
            return str(value).lower() == "true"
        raise InvalidInputError(f"{name} is {value!r}: it takes true or false")
    if isinstance(example, str):
        return value
    try:
        number = float(value)
        if isinstance(example, float) or number.is_integer():
            return type(example)(number)
    except (ValueError, TypeError, OverflowError):
        pass
    kind = "a whole number" if isinstance(example, int) else "a number"
    raise InvalidInputError(f"{name} is {value!r:.60}: it takes {kind} such as {example}")
