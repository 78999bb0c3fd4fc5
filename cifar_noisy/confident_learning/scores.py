"""How likely each given label is wrong, as a number per example."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cifar_noisy.confident_learning.label_errors import CheckedInput


def label_error_scores(labels: ArrayLike, pyx: ArrayLike) -> dict[str, NDArray[np.float64]]:
    """Score every example: the higher, the more likely its given label is wrong.

    Parameters
    ----------
    labels, pyx
        As for `label_errors`, which raises the same errors.

    Returns
    -------
    dict of (N,) float64
        "self_confidence": one minus the probability of the given label. "normalized_margin": how
        far the most probable other class is above the given one, from 0 to 1, where 0.5 is a tie.
        Each is one minus what ``cleanlab.rank`` calls the label quality score of that name.

    Examples
    --------
    >>> scores = label_error_scores([0, 0, 1], [[0.75, 0.25], [0.25, 0.75], [0.5, 0.5]])
    >>> scores["self_confidence"]
    array([0.25, 0.75, 0.5 ])
    >>> scores["normalized_margin"]
    array([0.25, 0.75, 0.5 ])
    """
    problem = CheckedInput.of(labels, pyx)
    # Exact for float16 probabilities, so that only those that tie tie here.
    probabilities = problem.pyx.astype(np.float64)
    rows = np.arange(len(problem.labels))
    own = probabilities[rows, problem.labels]
    probabilities[rows, problem.labels] = -np.inf
    best_other = probabilities.max(axis=1)
    return {"self_confidence": 1 - own, "normalized_margin": (best_other - own + 1) / 2}
