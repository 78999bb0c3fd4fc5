"""The settings, methods and editions that were published, and upstream's spelling of each.

Upstream names its files by a *noise key*, a number that went into ``int(10 * (1 - key))``: 0.6 came
out as 3 correct labels in 10, so the files of key ``0_6`` hold 70 % noise, those of ``0_8`` 90 %.
Only this module uses upstream's keys. Everywhere else `noise` is the fraction of wrong labels.
"""

import contextlib
import difflib
import math
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from cifar_noisy.errors import InvalidInputError, UnknownArtifactError, printable
from cifar_noisy.records import Records
from cifar_noisy.rendering import Cell, html_facts

Method = Literal["argmax", "conf_joint_only", "cl_pbc", "cl_pbnr", "cl_both"]
Edition = Literal["2019", "2021"]
Order = Literal["imagefolder", "torchvision"]
OtherMethod = Literal["coteaching", "coteaching_plus", "sceloss"]
Trainer = Literal["resnet50", "coteaching"]

METHODS: tuple[Method, ...] = get_args(Method)
EDITIONS: tuple[Edition, ...] = get_args(Edition)
ORDERS: tuple[Order, ...] = get_args(Order)
OTHER_METHODS: tuple[OtherMethod, ...] = get_args(OtherMethod)
TRAINERS: tuple[Trainer, ...] = get_args(Trainer)

PAPER_NAMES: dict[Method | OtherMethod, str] = {
    "argmax": "C_confusion",
    "conf_joint_only": "C_y~,y*",
    "cl_pbc": "CL: PBC",
    "cl_pbnr": "CL: PBNR",
    "cl_both": "CL: C+NR",
    "coteaching": "Co-Teaching",
    "coteaching_plus": "Co-Teaching+",
    "sceloss": "SCE-loss",
}
"""What the paper calls each method."""

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
"""The ten classes; a label is an index into them."""

NOISE_LEVELS = (0.0, 0.2, 0.4, 0.7, 0.9)
SPARSITIES = (0.0, 0.2, 0.4, 0.6)

_TOLERANCE = 1e-6
_SHOWN = 60  # characters of a wrong value in a message

Choice = TypeVar("Choice", bound=str)


@dataclass(frozen=True, order=True)
class Setting:
    """One noise setting of the paper's CIFAR-10 experiments.

    Parameters
    ----------
    noise : float
        Fraction of the labels that are wrong: 0, 0.2, 0.4, 0.7 or 0.9. A float that means one of
        them (0.1 + 0.3) is accepted and stored as it.
    sparsity : float
        Fraction of the off-diagonal noise rates that are zero: 0, 0.2, 0.4 or 0.6. Noise 0 exists
        at sparsity 0 only.

    Raises
    ------
    UnknownArtifactError
        If the setting was never published.

    Examples
    --------
    >>> Setting(0.1 + 0.3, 0.2)
    Setting(noise=0.4, sparsity=0.2)
    >>> pyx_path(Setting(0.7, 0))  # doctest: +ELLIPSIS
    'cifar10/cifar10_noisy_labels__frac_zero_noise_rates__0_0__noise_amount__0_6/...'
    """

    noise: float
    sparsity: float

    def __post_init__(self) -> None:
        noise, sparsity = check_noise(self.noise), check_sparsity(self.sparsity)
        if noise == 0 and sparsity != 0:
            raise UnknownArtifactError(
                f"noise 0 was not published at sparsity {sparsity:g}: without noise there are no "
                "noise rates to be sparse; use sparsity=0"
            )
        object.__setattr__(self, "noise", noise)
        object.__setattr__(self, "sparsity", sparsity)

    @classmethod
    def of(cls, noise: "float | Setting", sparsity: float | None = None) -> "Setting":
        """Return the setting that a function's arguments `noise` and `sparsity` mean.

        Sparsity may be left out where noise is 0 or a Setting; elsewhere no default would be right.

        Raises
        ------
        UnknownArtifactError
            If the setting was never published, or sparsity is missing.
        InvalidInputError
            If a Setting has another sparsity beside it.

        Examples
        --------
        >>> Setting.of(0.4, 0.2) == Setting.of(Setting(0.4, 0.2))
        True
        """
        if isinstance(noise, Setting):
            if sparsity not in (None, noise.sparsity):
                raise InvalidInputError(f"leave sparsity={sparsity!r} out: {noise!r} has its own")
            return noise
        level = check_noise(noise)
        if sparsity is None and level != 0:
            raise UnknownArtifactError(
                f"sparsity is missing: noise={level:g} was published for sparsity= "
                f"{', '.join(f'{sparsity:g}' for sparsity in SPARSITIES)}"
            )
        return cls(level, 0 if sparsity is None else sparsity)

    def __str__(self) -> str:
        return f"noise {self.noise:g}, sparsity {self.sparsity:g}"

    @property
    def name(self) -> str:
        """The name of its labels among all label sets, such as "noise0.4-sparsity0.2"."""
        return f"noise{self.noise:g}-sparsity{self.sparsity:g}"

    @property
    def has_probabilities(self) -> bool:
        """Whether pyx, masks and logs exist; at noise 0.9 only labels and the noise matrix do."""
        return self.noise != 0.9

    @property
    def noise_key(self) -> float:
        """The exact float that upstream's script looped over, as ``numpy.arange`` computes it."""
        return NOISE_LEVELS.index(self.noise) * 0.2

    @property
    def sparsity_key(self) -> float:
        """The exact float that upstream's script looped over, as ``numpy.arange`` computes it."""
        return SPARSITIES.index(self.sparsity) * 0.2

    @property
    def upstream_key(self) -> str:
        """The setting in the names of upstream's folders."""
        sparsity, noise = _digits(self)
        return f"frac_zero_noise_rates__0_{sparsity}__noise_amount__0_{noise}"

    def as_dict(self) -> dict[str, Any]:
        """Return noise, sparsity and what follows from them, for a data frame or JSON."""
        return {
            "noise": self.noise,
            "sparsity": self.sparsity,
            "name": self.name,
            "has_probabilities": self.has_probabilities,
            "upstream_key": self.upstream_key,
        }

    def shown(self) -> dict[str, Cell]:
        """Return what people look at, by name."""
        return {
            "setting": self.name,
            "wrong labels": f"{self.noise:.0%}",
            "noise rates that are zero": f"{self.sparsity:.0%}",
            "probabilities, masks, logs": self.has_probabilities,
            "upstream's name": self.upstream_key,
        }

    def _repr_html_(self) -> str:
        return html_facts(self.shown())


def check_choice(value: object, choices: tuple[Choice, ...], what: str) -> Choice:
    """Return `value` if it is one of `choices`, else raise with the nearest of them.

    Raises
    ------
    UnknownArtifactError
        If it is none of them.

    Examples
    --------
    >>> check_choice("cl_pbc", METHODS, "method")
    'cl_pbc'
    """
    if isinstance(value, str) and value in choices:
        return value
    if str(value) in choices:
        raise UnknownArtifactError(f"{what} {value!r} is no text: pass {str(value)!r}")
    near: list[str] = difflib.get_close_matches(str(value), choices, n=2, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    shown = printable(repr(value), _SHOWN)
    raise UnknownArtifactError(f"{what} {shown} is unknown: {hint}there are {', '.join(choices)}")


def check_noise(noise: object) -> float:
    """Return the published noise level that the number means.

    Raises
    ------
    UnknownArtifactError
        If it means none, says why 0.6 and 0.8 do not.

    Examples
    --------
    >>> check_noise(0.1 + 0.3)
    0.4
    """
    value = _number(noise, "noise")
    for key, level in ((0.6, 0.7), (0.8, 0.9)):
        if math.isclose(value, key, abs_tol=_TOLERANCE):
            raise UnknownArtifactError(
                f"noise {key:g} was not published: upstream's files of key 0_{key * 10:g} hold "
                f"{level:.0%} noise, so ask for noise={level:g}"
            )
    return _nearest(value, NOISE_LEVELS, "noise")


def check_sparsity(sparsity: object) -> float:
    """Return the published sparsity that the number means.

    Raises
    ------
    UnknownArtifactError
        If it means none.

    Examples
    --------
    >>> check_sparsity(0.2)
    0.2
    """
    return _nearest(_number(sparsity, "sparsity"), SPARSITIES, "sparsity")


def _number(value: object, what: str) -> float:
    # Of numpy's kinds, integers and floats: a boolean or a text in it is none.
    is_number = getattr(getattr(value, "dtype", None), "kind", "f") in "iuf"
    if is_number and not isinstance(value, str | bytes | bool) and hasattr(value, "__float__"):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            return float(value)
    shown = printable(repr(value), _SHOWN)
    raise UnknownArtifactError(f"{what} {shown} is not a number: pass a float such as {what}=0.2")


def _nearest(value: float, published: tuple[float, ...], what: str) -> float:
    for candidate in published:
        if math.isclose(value, candidate, abs_tol=_TOLERANCE):
            return candidate
    choices = ", ".join(f"{candidate:g}" for candidate in published)
    raise UnknownArtifactError(f"{what} {value:g} was not published: there are {choices}")


SETTINGS = Records(
    Setting(noise, sparsity)
    for noise in NOISE_LEVELS
    for sparsity in SPARSITIES
    if noise or not sparsity
)
"""All 17 published settings, by noise and then sparsity."""


def pyx_path(setting: Setting) -> str:
    """Upstream's path of the out-of-sample predicted probabilities."""
    return f"{_folder(setting)}/cifar10__train__model_resnet50__pyx.npy"


def train_mask_path(setting: Setting, method: Method, edition: Edition) -> str:
    """Upstream's path of a train mask."""
    folder = _folder(setting) if edition == "2021" else _results_folder(setting)
    return f"{folder}/train_pruned_{method}/train_mask.npy"


def noisy_labels_path(setting: Setting) -> str:
    """Upstream's path of the noisy labels, a JSON object from file name to label."""
    return f"cifar10/cifar10_noisy_labels/cifar10_noisy_labels__{_dotted_key(setting)}.json"


def noise_matrix_path(setting: Setting) -> str:
    """Upstream's path of the pickled noise matrix."""
    return f"cifar10/cifar10_noisy_labels/cifar10_noise_matrix__{_dotted_key(setting)}.pickle"


def training_log_path(setting: Setting, method: Method, trainer: Trainer) -> str:
    """Upstream's path of the log of a training on the examples that `method` keeps."""
    if trainer == "resnet50":
        return f"{_folder(setting)}/train_pruned_{method}/out"
    return f"{_results_folder(setting)}/train_pruned_{method}/out_{_short_key(setting)}.log"


def other_log_path(setting: Setting, method: OtherMethod) -> str:
    """Upstream's path of the log of another method for learning with noisy labels."""
    return f"other_methods/{method}/{method}_results/out_{_short_key(setting)}.log"


def _folder(setting: Setting) -> str:
    return f"cifar10/cifar10_noisy_labels__{setting.upstream_key}"


def _results_folder(setting: Setting) -> str:
    return f"cifar10/confidentlearning_and_coteaching/results/{_short_key(setting)}"


def _short_key(setting: Setting) -> str:
    return "{}_{}".format(*_digits(setting))


def _dotted_key(setting: Setting) -> str:
    return setting.upstream_key.replace("__0_", "__0.")


def _digits(setting: Setting) -> tuple[int, int]:
    """Return upstream's sparsity and noise keys in tenths."""
    return 2 * SPARSITIES.index(setting.sparsity), 2 * NOISE_LEVELS.index(setting.noise)
