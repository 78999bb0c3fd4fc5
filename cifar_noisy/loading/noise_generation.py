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
    return draw_noise_matrix(setting.noise, setting.sparsity, _SEED)


def generate_noisy_labels(
    setting: Setting, labels: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Generate the noisy labels of a setting from its seed.

    `labels` are the true labels of another dataset of ten classes; by default CIFAR-10's in the
    published order, whose noisy labels equal the published JSON bit for bit.
    """
    true = true_labels() if labels is None else labels
    return draw_labels(true, generate_noise_matrix(setting), _SEED)


def draw_noise_matrix(
    noise: float, sparsity: float, seed: int, n_classes: int = N_CLASSES
) -> NDArray[np.float64]:
    """Draw a (K, K) noise matrix of a trace of K * (1 - noise).

    Of the entries off the diagonal, K * (K - 1) * sparsity are zero; at most K - 2 in each column
    can be.
    """
    rng = np.random.RandomState(seed)
    # Both are rounded, since 1 - 0.7 is a little more than 0.3 in binary.
    diagonal = _random_shares(rng, n_classes, round(n_classes * (1 - noise), 9), 1.0)
    n_zeros = int(round(n_classes * (n_classes - 1) * sparsity, 9))
    matrix = np.diag(diagonal)
    noisy_classes = np.flatnonzero(diagonal != 1)
    zeros_per_class = _random_counts(rng, len(noisy_classes), n_zeros, n_classes - 2)
    for true, n_zero in zip(noisy_classes, zeros_per_class, strict=True):
        n_rates = n_classes - 1 - int(n_zero)
        total = 1 - diagonal[true]
        rates = _random_shares(rng, n_rates, total, max(_MAX_NOISE_RATE, total / n_rates))
        others = np.delete(np.arange(n_classes), true)
        matrix[rng.choice(others, n_rates, replace=False), true] = rates[::-1]
    return matrix


def draw_labels(
    true: NDArray[np.int64], noise_matrix: NDArray[np.float64], seed: int
) -> NDArray[np.int64]:
    """Flip, of each class, as many labels to each other class as the noise matrix says."""
    n_classes = len(noise_matrix)
    shares = np.bincount(true, minlength=n_classes) / len(true)
    flip_counts = (noise_matrix * shares * len(true)).astype(int)
    np.fill_diagonal(flip_counts, 0)
    rng = np.random.RandomState(seed)
    noisy = true.copy()
    for k in range(n_classes):
        flipped = np.repeat(np.arange(n_classes), flip_counts[:, k])
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
