"""Noise matrices and noisy labels, from the seed that upstream used.

Nothing here is downloaded: ``cleanlab.benchmarking.noise_generation`` gives every published matrix
and label bit for bit. Because that import takes a second, the labels also ship with the package.
"""

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.settings import CLASSES, Setting
from cifar_noisy.store.registry import registry_folder

EXAMPLES_PER_CLASS = 5_000
N_CLASSES = len(CLASSES)
N_EXAMPLES = N_CLASSES * EXAMPLES_PER_CLASS
"""Images in CIFAR-10's train set."""

LABELS_FILE = "noisy_labels.npz"
"""The shipped labels, one uint8 array per setting, written by ``scripts/build_registry.py``."""

_SEED = 0
_global_state_lock = threading.Lock()


def true_labels() -> NDArray[np.int64]:
    """Return CIFAR-10's labels in the published order: 5,000 of each class, class by class.

    Returns
    -------
    (50000,) int64

    Examples
    --------
    >>> true_labels()[[0, 4_999, 5_000, 49_999]]
    array([0, 0, 1, 9])
    """
    return np.repeat(np.arange(N_CLASSES), EXAMPLES_PER_CLASS)


def generate_noise_matrix(setting: Setting) -> NDArray[np.float64]:
    """Generate the noise matrix of a setting from its seed.

    Parameters
    ----------
    setting : Setting

    Returns
    -------
    (10, 10) float64
        Entry (i, j) is the probability that an example of true class j is labelled i; columns sum
        to 1. Equal to the published pickle bit for bit.

    Examples
    --------
    >>> matrix = generate_noise_matrix(Setting(0.4, 0.2))
    >>> float(matrix.trace().round(12))
    6.0
    """
    from cleanlab.benchmarking.noise_generation import generate_noise_matrix_from_trace

    with _numpy_state_kept():
        matrix: NDArray[np.float64] = generate_noise_matrix_from_trace(
            K=N_CLASSES,
            # int() of these floats is what makes key 0.6 a trace of 3, that is 70 % noise.
            trace=int(N_CLASSES * (1 - setting.noise_key)),
            valid_noise_matrix=False,
            frac_zero_noise_rates=setting.sparsity_key,
            seed=_SEED,
        )
    return matrix


def generate_noisy_labels(
    setting: Setting, labels: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Generate the noisy labels of a setting from its seed.

    Parameters
    ----------
    setting : Setting
    labels : (N,) int64, optional
        True labels of another dataset of ten classes; by default CIFAR-10's in the published order.

    Returns
    -------
    (N,) int64
        Given labels; CIFAR-10's are equal to the published JSON bit for bit.

    Examples
    --------
    >>> bool((generate_noisy_labels(Setting(0, 0)) == true_labels()).all())
    True
    """
    from cleanlab.benchmarking.noise_generation import generate_noisy_labels as generate

    matrix = generate_noise_matrix(setting)
    with _numpy_state_kept():
        np.random.seed(_SEED)
        noisy: NDArray[np.int64] = generate(true_labels() if labels is None else labels, matrix)
    return noisy


def shipped_noisy_labels(setting: Setting) -> NDArray[np.int64]:
    """Return the noisy labels that ship with the package, without cleanlab or a network.

    Returns
    -------
    (50000,) int64
        In the published order.

    Examples
    --------
    >>> labels = shipped_noisy_labels(Setting(0.7, 0))
    >>> float((labels != true_labels()).mean())
    0.69912
    """
    return _shipped(setting).astype(np.int64)


def shipped_name(setting: Setting) -> str:
    """Return the name of a setting's array in the shipped file."""
    return f"noise_{setting.noise:g}_sparsity_{setting.sparsity:g}"


@functools.cache
def _shipped(setting: Setting) -> NDArray[np.uint8]:
    with np.load(registry_folder() / LABELS_FILE, allow_pickle=False) as arrays:
        labels: NDArray[np.uint8] = arrays[shipped_name(setting)]
    return labels


@contextmanager
def _numpy_state_kept() -> Iterator[None]:
    """Leave numpy's global generator, which cleanlab seeds and draws from, as the caller had it."""
    with _global_state_lock:
        state = np.random.get_state()
        try:
            yield
        finally:
            np.random.set_state(state)
