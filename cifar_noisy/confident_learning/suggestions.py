"""The label that confident learning proposes in place of each given one."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cifar_noisy.confident_learning.label_errors import (
    CheckedInput,
    confident_classes,
    label_errors,
)
from cifar_noisy.settings import METHODS, Method, check_choice


def suggested_labels(
    labels: ArrayLike, pyx: ArrayLike, *, method: Method = "cl_pbnr"
) -> NDArray[np.int64]:
    """Return the label that confident learning proposes for each example.

    An example that `method` flags gets its most probable class, the first of them where several
    tie: what cleanlab calls the predicted label. Only "conf_joint_only" proposes the class that it
    counts the example under in the confident joint, which need not be the most probable one. So a
    proposal differs from the given label exactly where the example is flagged; all others keep
    theirs.

    Parameters
    ----------
    labels, pyx
        As for `label_errors`, which raises the same errors.
    method : {"argmax", "conf_joint_only", "cl_pbc", "cl_pbnr", "cl_both"}, default "cl_pbnr"
        The method that flags.

    Returns
    -------
    (N,) int64
        Proposed labels, 0 to K - 1, in the order of the masks of `label_errors`.

    Raises
    ------
    UnknownArtifactError
        If the method is unknown.

    Examples
    --------
    The last example is labelled 0 and looks like class 1:

    >>> labels = np.repeat([0, 1], 20)
    >>> labels[-1] = 0
    >>> pyx = np.repeat([[0.9, 0.1], [0.2, 0.8]], 20, axis=0)
    >>> suggested_labels(labels, pyx)[-3:]
    array([1, 1, 1])
    """
    check_choice(method, METHODS, "method")
    problem = CheckedInput.of(labels, pyx)
    is_flagged = label_errors(problem.labels, problem.pyx)[method]
    proposed = confident_classes(problem) if method == "conf_joint_only" else problem.predicted
    return np.where(is_flagged, proposed, problem.labels).astype(np.int64)
