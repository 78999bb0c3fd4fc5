"""Labels and matrices from their seeds."""

import json
from pathlib import Path

import numpy as np
import pytest
from cleanlab.benchmarking import noise_generation

from cifar_noisy import SETTINGS, Setting
from cifar_noisy.loading.noise_generation import (
    generate_noise_matrix,
    generate_noisy_labels,
    shipped_noisy_labels,
    true_labels,
)
from cifar_noisy.store.registry import array_digest, find


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_regenerated_equals_published_bit_for_bit(setting: Setting) -> None:
    labels = generate_noisy_labels(setting)
    assert array_digest(labels) == find("noisy_labels", setting).array_sha256
    assert (shipped_noisy_labels(setting) == labels).all()
    matrix = generate_noise_matrix(setting)
    assert array_digest(matrix) == find("noise_matrix", setting).array_sha256
    assert labels.dtype == shipped_noisy_labels(setting).dtype == np.int64


def test_regenerated_equals_the_published_json(upstream: Path) -> None:
    setting = Setting(0.7, 0.2)
    published = json.loads((upstream / find("noisy_labels", setting).path).read_bytes())
    assert generate_noisy_labels(setting).tolist() == list(published.values())


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_noise_and_sparsity_are_what_they_are_called(setting: Setting) -> None:
    wrong = (shipped_noisy_labels(setting) != true_labels()).mean()
    assert wrong == pytest.approx(setting.noise, abs=0.001)
    matrix = generate_noise_matrix(setting)
    np.testing.assert_allclose(matrix.sum(axis=0), 1)
    if setting.noise:
        assert (matrix == 0).sum() == round(90 * setting.sparsity)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_draws_are_those_of_cleanlab(setting: Setting) -> None:
    matrix = noise_generation.generate_noise_matrix_from_trace(
        K=10,
        trace=int(10 * (1 - setting.noise_key)),
        valid_noise_matrix=False,
        frac_zero_noise_rates=setting.sparsity_key,
        seed=0,
    )
    assert generate_noise_matrix(setting).tobytes() == matrix.tobytes()
    others = np.random.default_rng(0).permutation(np.arange(1797) % 10)
    for labels in (true_labels(), others):
        np.random.seed(0)
        expected = noise_generation.generate_noisy_labels(labels, matrix)
        np.testing.assert_array_equal(generate_noisy_labels(setting, labels), expected)


def test_the_caller_keeps_his_random_state() -> None:
    np.random.seed(123)
    expected = np.random.random(3)
    np.random.seed(123)
    generate_noise_matrix(Setting(0.4, 0.2))
    generate_noisy_labels(Setting(0.4, 0.2))
    assert (np.random.random(3) == expected).all()
