"""Label-error detectors that others are compared with: the paper's, and those of cleanlab."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import Any

from numpy.typing import NDArray

from cifar_noisy.confident_learning.label_errors import label_errors
from cifar_noisy.confident_learning.scores import label_error_scores
from cifar_noisy.errors import InvalidInputError, MissingExtraError
from cifar_noisy.settings import METHODS, check_choice

SCORES = ("self_confidence", "normalized_margin")
CLEANLAB = "cleanlab-"
CLEANLAB_FILTERS = (
    "prune_by_noise_rate",
    "prune_by_class",
    "both",
    "confident_learning",
    "predicted_neq_given",
    "low_normalized_margin",
    "low_self_confidence",
)
CLEANLAB_SCORES = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")

DEFAULT_BASELINES = (*METHODS, *SCORES)
BASELINES = (
    *DEFAULT_BASELINES,
    *(f"{CLEANLAB}{name}" for name in (*CLEANLAB_FILTERS, *CLEANLAB_SCORES)),
)

Baseline = Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]
Baselines = str | Iterable[str]
"""What a benchmark takes as `baselines`."""


def find_baselines(baselines: Baselines) -> tuple[str, ...]:
    """Return the names that `baselines` means, each once.

    >>> find_baselines("default")[-2:]
    ('self_confidence', 'normalized_margin')
    """
    if isinstance(baselines, str):
        baselines = (baselines,)
    if isinstance(baselines, bytes) or not isinstance(baselines, Iterable):
        raise InvalidInputError(
            f"baselines is {baselines!r}: pass names, or 'default', 'all', 'none'"
        )
    has_cleanlab = find_spec("cleanlab") is not None
    groups: dict[str, tuple[str, ...]] = {
        "none": (),
        "default": DEFAULT_BASELINES,
        "all": tuple(n for n in BASELINES if has_cleanlab or not n.startswith(CLEANLAB)),
    }
    names = [check_choice(name, (*groups, *BASELINES), "baseline") for name in baselines]
    found = tuple(dict.fromkeys(name for group in names for name in groups.get(group, (group,))))
    if not has_cleanlab and any(name.startswith(CLEANLAB) for name in found):
        raise MissingExtraError("cleanlab", "pip install cleanlab, or leave its baselines out")
    return found


def baseline_functions(names: Iterable[str]) -> dict[str, Baseline]:
    """Return, for each baseline, the function of labels and probabilities that it is.

    They are for one pair of these: ours all come out of one computation.
    """
    ours: dict[Any, NDArray[Any]] = {}

    def compute(name: str, labels: NDArray[Any], pyx: NDArray[Any]) -> NDArray[Any]:
        if name.startswith(CLEANLAB):
            return _cleanlab(name.removeprefix(CLEANLAB), labels, pyx)
        if not ours:
            ours.update(label_errors(labels, pyx))
            ours.update(label_error_scores(labels, pyx))
        return ours[name]

    return {name: functools.partial(compute, name) for name in names}


def _cleanlab(name: str, labels: NDArray[Any], pyx: NDArray[Any]) -> NDArray[Any]:
    found: NDArray[Any]
    if name in CLEANLAB_SCORES:
        from cleanlab.rank import get_label_quality_scores

        found = 1 - get_label_quality_scores(labels, pyx, method=name)
    else:
        from cleanlab.filter import find_label_issues

        found = find_label_issues(labels, pyx, filter_by=name, n_jobs=1)
    return found
