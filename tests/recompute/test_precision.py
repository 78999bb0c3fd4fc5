"""Training in bfloat16: every step multiplies by the weights of that step."""

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from cifar_noisy.recompute.fast import FastTrainer
from cifar_noisy.recompute.hardware import defaults_of_libraries
from cifar_noisy.recompute.recipes import FastRecipe
from cifar_noisy.recompute.training import TrainingData


@contextlib.contextmanager
def no_context() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def trained(precision: str) -> tuple[FastTrainer, float, float]:
    """Train on images whose brightness tells the class; return the first and last mean loss."""
    labels = np.arange(256) % 2
    noise = np.random.default_rng(0).integers(0, 40, (256, 16, 16, 3))
    pixels = (noise + 200 * labels[:, None, None, None]).astype(np.uint8)
    rows = np.arange(256)
    data = TrainingData(pixels, labels, rows, rows[:32], 2, False, "key")
    recipe = FastRecipe(
        epochs=5, small_epochs=0, batch_size=32, width=8, peak_rate=0.05, precision=precision
    )
    trainer = FastTrainer(recipe, data)
    losses = []
    while not trainer.run(lambda trainer: trainer.step % trainer.steps_per_epoch == 0):
        losses.append(trainer.state_dict()["totals"]["loss"])
    return trainer, losses[0], trainer.state_dict()["totals"]["loss"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_defaults_of_libraries_change_no_bit(precision: str) -> None:
    """Autocast's cache, inside another autocast, kept the first weights for all steps."""
    with no_context():
        plain, *_ = trained(precision)
        expected = plain.predict()
    with defaults_of_libraries(1), torch.autocast("cpu", torch.bfloat16, enabled=False):
        within, first, last = trained(precision)
        found = within.predict()
    np.testing.assert_array_equal(found, expected)
    assert last < 0.5 * first
    assert (found.argmax(axis=1) == np.arange(32) % 2).all()


def test_bfloat16_comes_to_about_the_same() -> None:
    with no_context():
        (_, _, single), (_, _, half) = trained("float32"), trained("bfloat16")
    assert single != half
    assert half == pytest.approx(single, rel=0.2)
