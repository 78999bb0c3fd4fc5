"""Steps of a training read nothing back from the device, and send nothing to it.

A dispatch mode of torch sees every operation: reading a number, a choice by mask (whose size must
be known) and a copy to another device make a GPU's host wait for it.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from cifar_noisy import RecomputeError
from cifar_noisy.recompute.coteaching import CoteachingTrainer
from cifar_noisy.recompute.fast import FastTrainer
from cifar_noisy.recompute.log_writers import LOG_INTERVAL
from cifar_noisy.recompute.paper import PaperTrainer
from cifar_noisy.recompute.recipes import CoteachingRecipe, FastRecipe, PaperRecipe
from cifar_noisy.recompute.training import Trainer, TrainingData

WAITS = ("_local_scalar_dense", "item", "nonzero", "masked_select", "is_nonzero", "equal")
N_TRAIN, BATCH_SIZE = 208, 4  # so an epoch has more steps than lie between two lines of the log


class Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations that wait for a device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name, named = function.overloadpacket.__name__, kwargs or {}
        is_moved = name == "_to_copy" and named.get("device") is not None
        is_masked = name == "index" and any(
            i is not None and i.dtype == torch.bool for i in args[1]
        )
        if name in WAITS or is_moved or is_masked:
            self.found[name] += 1
        return function(*args, **named)


def data() -> TrainingData:
    rng = np.random.default_rng(0)
    n = N_TRAIN + 40
    pixels = rng.integers(0, 256, (n, 32, 32, 3), np.uint8)
    labels, clean = rng.integers(0, 10, n), rng.random(n) < 0.7
    rows = np.arange(n)
    return TrainingData(
        pixels, labels, rows[:N_TRAIN], rows[N_TRAIN:], 10, True, "key",
        class_weights=np.ones(10, np.float32), is_clean=clean,
    )  # fmt: skip


def fast() -> Trainer:
    recipe = FastRecipe(epochs=2, small_epochs=1, batch_size=BATCH_SIZE, width=2)
    return FastTrainer(recipe, data())


def paper() -> Trainer:
    return PaperTrainer(PaperRecipe(epochs=2, batch_size=BATCH_SIZE, width=1), data())


def coteaching() -> Trainer:
    return CoteachingTrainer(CoteachingRecipe(epochs=3, batch_size=BATCH_SIZE, width=2), data())


def uncounted(step: Callable[[], object]) -> Callable[[], object]:
    """Leave out Adam, which counts its steps on the CPU, whatever the device."""

    def run() -> object:
        with _disable_current_modes():
            return step()

    return run


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.mark.parametrize("make", [fast, paper, coteaching])
def test_a_step_that_is_not_logged_waits_for_nothing(make: Callable[[], Trainer]) -> None:
    trainer = make()
    for optimizer in getattr(trainer, "optimizers", ()):
        optimizer.step = uncounted(optimizer.step)
    randomness = trainer.sample_epoch(0)
    by_step = []
    for number in range(trainer.steps_per_epoch - 1):
        with Waits() as waits:
            trainer._train_step(0, number, randomness)
        by_step.append(sum(waits.found.values()))
    logged = {number for number in range(len(by_step)) if trainer._is_logged(number)}
    assert 1 <= len(logged) <= len(by_step) // LOG_INTERVAL + 1
    assert {number for number, count in enumerate(by_step) if count} <= logged


def test_the_count_sees_what_waits() -> None:
    values = torch.arange(4.0)
    for waiting in (
        lambda: values[0].item(), lambda: float(values.sum()), lambda: bool(values[0] > 1),
        lambda: values[values > 1], lambda: values.to(torch.device("meta")),
    ):  # fmt: skip
        with Waits() as waits:
            waiting()
        assert sum(waits.found.values()) == 1


@pytest.mark.parametrize("make", [fast, coteaching])
@pytest.mark.parametrize("when", ["line of the log", "checkpoint"])
def test_the_first_loss_that_is_not_finite_is_named(make: Callable[[], Trainer], when: str) -> None:
    """It is read with those of later steps, and before a checkpoint is saved."""
    trainer = make()
    train_batch = trainer._train_batch

    def broken(batch: Any) -> torch.Tensor:
        metrics = train_batch(batch)
        return metrics * float("nan") if batch.number == 7 else metrics

    trainer._train_batch = broken  # type: ignore[method-assign]
    if when == "checkpoint":
        trainer.run(lambda trainer: trainer.step == 10)
    go_on = trainer.state_dict if when == "checkpoint" else trainer.run
    with pytest.raises(RecomputeError, match=r"the loss of epoch 1, batch 8 is nan: lower"):
        go_on()
    assert trainer.step == (10 if when == "checkpoint" else LOG_INTERVAL + (make is fast))
