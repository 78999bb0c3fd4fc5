"""scikit-learn's handwritten digits with noisy labels: a dataset that every machine has."""

import functools

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from cifar_noisy import label_errors
from cifar_noisy.report.explorer import Examples


@functools.cache
def noisy_digits(noise: float = 0.2) -> Examples:
    """Return the 1,797 digits, some of whose labels were replaced by another at random."""
    digits = load_digits()
    true = digits.target.astype(np.int64)
    rng = np.random.default_rng(0)
    is_wrong = rng.random(len(true)) < noise
    given = np.where(is_wrong, (true + rng.integers(1, 10, len(true))) % 10, true)
    model = LogisticRegression(C=0.1, max_iter=1_000)
    with threadpool_limits(1):  # more threads gain nothing here, and lose much on busy cores
        pyx = cross_val_predict(model, digits.data / 16, given, cv=4, method="predict_proba")
    pyx = pyx.round(2).astype(np.float32)  # so that some tie
    return Examples(
        given,
        true,
        pyx,
        {str(method): found for method, found in label_errors(given, pyx).items()},
        [str(digit) for digit in range(10)],
        (255 - digits.images * 15.9).astype(np.uint8)[..., None],
        {"scikit-learn": np.arange(len(true))},
    )
