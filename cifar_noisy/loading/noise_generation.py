"""Noise matrices and noisy labels, from the seed that upstream used.

Nothing here is downloaded. Upstream drew both with ``cleanlab.benchmarking.noise_generation``; the
draws below are the same ones, from a generator of their own. (The import of cleanlab takes a second
and 100 MB, and cleanlab draws from numpy's global generator.)
"""

import functools

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
_TOLERANCE = 1e-6  # cleanlab's, by which a sum of probabilities may exceed its maximum
_MAX_NOISE_RATE = 1 - 1e-5


def true_labels() -> NDArray[np.int64]:
    """Return CIFAR-10's labels in the published order: 5,000 of each class, class by class."""
    return np.repeat(np.arange(N_CLASSES), EXAMPLES_PER_CLASS)


def generate_noise_matrix(setting: Setting) -> NDArray[np.float64]:
    """Generate the (10, 10) noise matrix of a setting from its seed.

    Entry (i, j) is the probability that an example of true class j is labelled i; columns sum to 1.
    It equals the published pickle bit for bit.
    """
    rng = np.random.RandomState(_SEED)
    # int() of these floats is what makes key 0.6 a trace of 3, that is 70 % noise.
    diagonal = _random_shares(rng, N_CLASSES, int(N_CLASSES * (1 - setting.noise_key)), 1.0)
    matrix = np.diag(diagonal)
    noisy_classes = np.flatnonzero(diagonal != 1)
    n_zeros = int(N_CLASSES * (N_CLASSES - 1) * setting.sparsity_key)
    zeros_per_class = _random_counts(rng, len(noisy_classes), n_zeros, N_CLASSES - 2)
    for true, n_zero in zip(noisy_classes, zeros_per_class, strict=True):
        n_rates = N_CLASSES - 1 - int(n_zero)
        rates = _random_shares(rng, n_rates, 1 - diagonal[true], _MAX_NOISE_RATE)
        others = np.delete(np.arange(N_CLASSES), true)
        matrix[rng.choice(others, n_rates, replace=False), true] = rates[::-1]
    return matrix


def generate_noisy_labels(
    setting: Setting, labels: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Generate the noisy labels of a setting from its seed.

    `labels` are the true labels of another dataset of ten classes; by default CIFAR-10's in the
    published order, whose noisy labels equal the published JSON bit for bit.
    """
    true = true_labels() if labels is None else labels
    shares = np.bincount(true, minlength=N_CLASSES) / len(true)
    flip_counts = (generate_noise_matrix(setting) * shares * len(true)).astype(int)
    np.fill_diagonal(flip_counts, 0)
    rng = np.random.RandomState(_SEED)
    noisy = true.copy()
    for k in range(N_CLASSES):
        flipped = np.repeat(np.arange(N_CLASSES), flip_counts[:, k])
        if len(flipped):
            rows = np.flatnonzero(true == k)
            noisy[rng.choice(rows, len(flipped), replace=False)] = flipped
    return noisy


def shipped_noisy_labels(setting: Setting) -> NDArray[np.int64]:
    """Return the (50000,) noisy labels that ship with the package, in the published order."""
    return _shipped(setting).astype(np.int64)


def shipped_name(setting: Setting) -> str:
    """Return the name of a setting's array in the shipped file."""
    return f"noise_{setting.noise:g}_sparsity_{setting.sparsity:g}"


@functools.cache
def _shipped(setting: Setting) -> NDArray[np.uint8]:
    with np.load(registry_folder() / LABELS_FILE, allow_pickle=False) as arrays:
        labels: NDArray[np.uint8] = arrays[shipped_name(setting)]
    return labels


def _random_shares(
    rng: np.random.RandomState, n: int, total: float, highest: float
) -> NDArray[np.float64]:
    """Draw `n` numbers of at most `highest` that sum to `total`."""
    shares: NDArray[np.float64] = rng.dirichlet(np.ones(n)) * total
    while shares.max() > highest + _TOLERANCE:
        raised = shares.min() + (shares.max() - highest)
        exchanged = (highest - raised) * rng.rand()
        shares[shares.argmin()] = raised + exchanged
        shares[shares.argmax()] = highest - exchanged
    return shares


def _random_counts(
    rng: np.random.RandomState, n: int, total: int, highest: int
) -> NDArray[np.float64]:
    """Draw `n` whole numbers of at most `highest` that sum to `total`."""
    if total == 0:
        return np.zeros(n)
    counts = np.round(_random_shares(rng, n, 1, min(highest, total) / total) * total)
    while counts.sum() > total:
        counts[counts.argmax()] -= 1
    while counts.sum() < total:
        counts[counts.argmin()] += 1
    return counts
