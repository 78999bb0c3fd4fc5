"""The recipes: their hyperparameters, and the values for each dataset."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from cifar_noisy.errors import InvalidInputError
from cifar_noisy.settings import check_choice

if TYPE_CHECKING:
    from cifar_noisy.recompute.datasets import DatasetName

RecipeName = Literal["fast", "paper"]
RECIPES: tuple[RecipeName, ...] = get_args(RecipeName)
CHECKPOINTS = ("last", "best-test")
PRECISIONS = ("float32", "bfloat16")
COTEACHING_PREFIX = "coteaching."

_MAX = 1e9  # upper end of a hyperparameter that has no other
_RANGES = {
    "epochs": (1, _MAX), "batch_size": (2, _MAX), "rate": (1e-9, _MAX), "peak_rate": (1e-9, _MAX),
    "small_epochs": (0, _MAX), "small_scale": (0.01, 1), "warmup": (0, 0.99),
    "momentum": (0, 0.999), "weight_decay": (0, _MAX), "decay_start": (0, _MAX),
    "late_beta1": (0, 0.999), "forget_rate": (0, 0.999), "gradual_epochs": (0, _MAX),
    "padding": (0, 64), "width": (1, 4096),
}  # fmt: skip


def _check_ranges(recipe: object, prefix: str = "") -> None:
    """Raise InvalidInputError if a hyperparameter is outside its range, both ends included."""
    for name, (low, high) in _RANGES.items():
        value = getattr(recipe, name, low)
        if not low <= value <= high:
            said = f"{low:g} or more" if high == _MAX > value else f"{low:g} to {high:g}"
            raise InvalidInputError(f"{prefix}{name} is {value:g}: use {said}")


@dataclass(frozen=True)
class FastRecipe:
    """The hyperparameters of `fast`; the defaults are for CIFAR-10."""

    epochs: int = 18
    small_epochs: int = 12  # so many epochs, from the first on, see shrunk images
    small_scale: float = 0.625  # side of a shrunk image as a fraction of the image's
    batch_size: int = 256
    peak_rate: float = 0.4  # learning rate at the top of the triangular schedule
    warmup: float = 0.2  # fraction of all steps on which the learning rate rises
    momentum: float = 0.9  # of Nesterov SGD, as the weight decay
    weight_decay: float = 5e-4
    width: int = 16  # channels of the first convolution; plans choose it by measurement
    precision: str = "float32"  # of the network's multiplications, or "bfloat16"; likewise

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise InvalidInputError(
                f"precision is {self.precision!r}: it takes {' or '.join(PRECISIONS)}"
            )
        _check_ranges(self)


@dataclass(frozen=True)
class PaperRecipe:
    """The hyperparameters of the original experiment."""

    epochs: int = 350
    batch_size: int = 64
    rate: float = 0.1  # learning rate; a tenth of it from epoch 150 of 350 on, again from 250 on
    momentum: float = 0.9  # of SGD, as the weight decay
    weight_decay: float = 1e-4
    padding: int = 4  # zeros on each side, from which the random crop may take some
    drop_last: bool = True  # leave out the last batch of an epoch if it is not full
    width: int = 64  # channels per group of torchvision's ResNet-50, which has 64
    checkpoint: str = "last"  # these weights predict; or "best-test": the best on the test set
    holdout_augmentation: bool = False  # crop and flip held-out images as in training

    def __post_init__(self) -> None:
        if self.checkpoint not in CHECKPOINTS:
            raise InvalidInputError(
                f"checkpoint is {self.checkpoint!r}: it takes {' or '.join(CHECKPOINTS)}"
            )
        _check_ranges(self)


@dataclass(frozen=True)
class CoteachingRecipe:
    """The hyperparameters of the published Co-Teaching runs."""

    epochs: int = 250  # the first is an evaluation before any training, as in the published logs
    batch_size: int = 128
    rate: float = 0.001  # learning rate of Adam
    decay_start: int = 80  # epoch, counted from 0, from which the learning rate falls to 0
    late_beta1: float = 0.1  # Adam's beta1 from that epoch on; it is 0.9 before
    forget_rate: float = 0.2  # final share of each batch that is not learned from
    estimate_forget_rate: bool = False  # use the share of label errors that is estimated instead
    gradual_epochs: int = 10  # epochs in which the forget rate rises from 0
    padding: int = 4
    width: int = 128  # channels of the first convolutions

    def __post_init__(self) -> None:
        if self.epochs < 2:
            raise InvalidInputError(
                f"coteaching.epochs is {self.epochs}: the first is an evaluation, so use 2 or more"
            )
        _check_ranges(self, COTEACHING_PREFIX)


Recipe = FastRecipe | PaperRecipe
_AnyRecipe = TypeVar("_AnyRecipe", FastRecipe, PaperRecipe, CoteachingRecipe)

# The digits are small, few and soon learned.
_FAST_DIGITS: dict[str, Any] = {
    "epochs": 12, "small_epochs": 0, "small_scale": 1.0,
    "batch_size": 64, "peak_rate": 0.2, "width": 16,
}  # fmt: skip
_PAPER_DIGITS: dict[str, Any] = {"epochs": 12, "padding": 1, "width": 8}
_COTEACHING_DIGITS: dict[str, Any] = {"epochs": 12, "decay_start": 6, "padding": 1, "width": 16}


def check_device_name(name: str) -> None:
    """Raise InvalidInputError unless it names a CPU or GPU, whether this machine has it or not."""
    if not re.fullmatch(r"(cpu|cuda)(:(0|[1-9][0-9]?))?", name):
        raise InvalidInputError(f"device {name!r} is unknown: use cpu, cuda or cuda:1")


def make_recipe(name: str, dataset: "DatasetName", overrides: Mapping[str, Any]) -> Recipe:
    """Return a recipe with its values for a dataset, except those overridden.

    Overrides are numbers or text; those whose names begin with "coteaching." are ignored.

    >>> make_recipe("paper", "cifar10", {"epochs": "2"}).epochs
    2
    """
    own = {key: value for key, value in overrides.items() if not key.startswith(COTEACHING_PREFIX)}
    is_digits = dataset == "digits"
    if check_choice(name, RECIPES, "recipe") == "paper":
        return _filled(PaperRecipe, (_PAPER_DIGITS if is_digits else {}) | own)
    return _filled(FastRecipe, (_FAST_DIGITS if is_digits else {}) | own)


def make_coteaching(dataset: "DatasetName", overrides: Mapping[str, Any]) -> CoteachingRecipe:
    """Return Co-Teaching's values; those overridden are called "coteaching.epochs" and so on."""
    prefix = COTEACHING_PREFIX
    own = {k.removeprefix(prefix): v for k, v in overrides.items() if k.startswith(prefix)}
    defaults = _COTEACHING_DIGITS if dataset == "digits" else {}
    return _filled(CoteachingRecipe, defaults | own, prefix)


def _filled(kind: type[_AnyRecipe], values: Mapping[str, Any], prefix: str = "") -> _AnyRecipe:
    defaults = dataclasses.asdict(kind())
    unknown = values.keys() - defaults.keys()
    if unknown:
        raise InvalidInputError(
            f"hyperparameter {prefix + min(unknown)!r} is unknown: there are "
            f"{', '.join(prefix + name for name in defaults)}"
        )
    converted = {
        name: _converted(prefix + name, value, defaults[name]) for name, value in values.items()
    }
    return kind(**converted)


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
