"""What all recipes share: the data of a training, the randomness of an epoch, the training loop.

All randomness of an epoch is drawn at once from (seed, dataset, task, epoch), so a checkpoint after
any step continues to the same bits on the same device and thread count.
"""

import hashlib
import math
import operator
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cifar_noisy.errors import InvalidInputError, RecomputeError
from cifar_noisy.images.augmentation import Crops, NormalizedImages
from cifar_noisy.recompute.log_writers import BatchTime, Metrics

MAX_EVAL_ROWS = 1_000
PREDICT_BATCH_SIZE = 1_000


class TrainingData(NamedTuple):
    """What a training sees and what it predicts."""

    pixels: NDArray[np.uint8]  # (N, H, W, C), those of the test set last, if there are any
    labels: NDArray[np.int64]  # (N,) given labels; true ones of the test set
    train: NDArray[np.int64]  # rows to train on
    held_out: NDArray[np.int64]  # rows to predict
    n_classes: int
    allow_flip: bool  # a mirror image shows the same class, so that images may be flipped
    key: str  # all randomness is drawn from this and the epoch
    monitored: NDArray[np.int64] | None = (
        None  # rows to evaluate after an epoch, else held-out ones
    )
    class_weights: NDArray[np.float32] | None = None  # (K,) of the loss, else all 1
    is_clean: NDArray[np.bool_] | None = None  # (N,) given label is true; only Co-Teaching logs it

    def seed(self, stream: str) -> int:
        """Return the seed of one stream of the training's randomness."""
        digest = hashlib.sha256(f"{self.key}/{stream}".encode()).digest()
        return int.from_bytes(digest[:7], "big")


class EpochRandomness(NamedTuple):
    """The randomness of one epoch, drawn on the CPU, so that devices see the same."""

    order: Tensor  # (n,) int64, indices into the training rows
    crops: Crops  # of the n images in this order


class TrainingBatch(NamedTuple):
    """The examples of a step, on the device."""

    epoch: int
    number: int
    rows: Tensor  # (B,) int64
    images: Tensor  # (B, C, H, W) float32, normalised
    labels: Tensor  # (B,) int64


class Trainer(ABC):
    """One training, which can be stopped after any step, saved, loaded and continued.

    A recipe's trainer fills in the hooks: it trains on a batch, predicts, and logs. What a step
    comes to stays on the device until a line is logged or a checkpoint saved, so that no step waits
    for the one before.
    """

    metrics_type: type[Metrics]
    size_line = "Train size: {}"
    """The first line of the log."""

    def __init__(
        self,
        data: TrainingData,
        images: NormalizedImages,
        epochs: int,
        batch_size: int,
        drop_last: bool = True,
    ) -> None:
        n_train = len(data.train)
        if not 0 < batch_size <= n_train:
            raise InvalidInputError(
                f"batch_size {batch_size:,} does not fit {n_train:,} training examples: "
                f"choose 2 to {n_train:,}"
            )
        if not drop_last and n_train % batch_size == 1:
            raise InvalidInputError(
                f"batch_size {batch_size:,} leaves one of {n_train:,} training examples over, "
                "which batch normalisation cannot take: choose another, or drop_last"
            )
        self.data, self.images, self.device = data, images, images.device
        self.batch_size = batch_size
        self.steps_per_epoch = n_train // batch_size if drop_last else -(-n_train // batch_size)
        self.n_steps = epochs * self.steps_per_epoch
        self.step = 0  # steps done
        self.seconds = 0.0  # of steps and evaluations, before an interruption too
        self.log = [self.size_line.format(n_train)]  # lines that `parse_training_log` reads
        self.totals: Any = (
            self.metrics_type()
        )  # sums over the batches of this epoch, as far as read
        self._unread: list[Tensor] = []  # metrics of the steps since
        self.labels = torch.from_numpy(data.labels).to(self.device)
        self.train_rows = torch.from_numpy(data.train).to(self.device)
        self.held_out_rows = torch.from_numpy(data.held_out).to(self.device)
        monitored = data.monitored
        if monitored is None:
            monitored = data.held_out[:: max(1, len(data.held_out) // MAX_EVAL_ROWS)]
        self.monitored = torch.from_numpy(monitored).to(self.device)
        weights = data.class_weights
        self.class_weights = None if weights is None else torch.from_numpy(weights).to(self.device)

    def run(self, should_stop: Callable[["Trainer"], bool] = lambda _: False) -> bool:
        """Train to the end, or until `should_stop`, asked after each step; True at the end.

        Raises RecomputeError if the loss is no longer finite.
        """
        if self.step == 0:
            self._on_train_start()
        while self.step < self.n_steps:
            epoch, first = divmod(self.step, self.steps_per_epoch)
            randomness = self.sample_epoch(epoch)
            if first == 0:
                self.totals = self.metrics_type()
                self._on_epoch_start(epoch)
            for number in range(first, self.steps_per_epoch):
                self._train_step(epoch, number, randomness)
                if number + 1 == self.steps_per_epoch:
                    started = time.perf_counter()
                    self._on_epoch_end(epoch)
                    self.seconds += time.perf_counter() - started
                if should_stop(self):
                    return self.step == self.n_steps
        return True

    def sample_epoch(self, epoch: int) -> EpochRandomness:
        """Draw all randomness of an epoch."""
        generator = torch.Generator().manual_seed(self.data.seed(str(epoch)))
        n = len(self.train_rows)
        order = torch.randperm(n, generator=generator, device="cpu")
        return EpochRandomness(order.to(self.device), self._sample_crops(n, generator))

    def state_dict(self) -> dict[str, Any]:
        """Return all that a later `load_state_dict` needs to continue to the same bits.

        Raises RecomputeError if a loss since the last state is not finite.
        """
        self._read_metrics()
        return {
            "step": self.step,
            "seconds": self.seconds,
            "log": list(self.log),
            "totals": self.totals._asdict(),
            **{name: part.state_dict() for name, part in self._stateful_modules().items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned.

        Raises RecomputeError, and changes nothing, if another version's trainer returned it.
        """
        modules = self._stateful_modules()
        expected = {"step", "seconds", "log", "totals", *modules}
        if not expected <= state.keys() or tuple(state["totals"]) != self.totals._fields:
            raise RecomputeError(
                "the checkpoint is one of another version of cifar-noisy, which cannot be "
                "continued: train in a new folder"
            )
        self.step, self.seconds = state["step"], state["seconds"]
        self.log, self.totals = list(state["log"]), self.metrics_type(**state["totals"])
        for name, part in modules.items():
            part.load_state_dict(state[name])

    @abstractmethod
    def predict(self) -> NDArray[np.float32]:
        """Return the (n, K) float32 probabilities of the held-out rows."""

    @abstractmethod
    def _stateful_modules(self) -> dict[str, Any]:
        """Return what a checkpoint saves beside the counters."""

    @abstractmethod
    def _train_batch(self, batch: TrainingBatch) -> Tensor:
        """Take a step; return its metrics, float64 on the device, in the order of the type."""

    @abstractmethod
    def _is_logged(self, number: int) -> bool:
        """Whether there is a line for the batch of this number, as there is for the last one."""

    @abstractmethod
    def _log_batch(self, batch: TrainingBatch, metrics: Any, seconds: BatchTime) -> None:
        """Log a step; its metrics are in `totals`."""

    @abstractmethod
    def _on_epoch_end(self, epoch: int) -> None:
        """Evaluate the monitored rows and log the result."""

    @abstractmethod
    def _learning_rate_label(self) -> str:
        """Return name and value of the learning-rate hyperparameter, for the error on a NaN."""

    def _on_train_start(self) -> None:  # noqa: B027 - most recipes do nothing here
        """Do what comes before the first step."""

    def _on_epoch_start(self, epoch: int) -> None:  # noqa: B027
        """Do what comes before the first step of an epoch."""

    def _transform_batch(self, images: Tensor, epoch: int) -> Tensor:
        """Return the augmented images as this epoch sees them."""
        return images

    def _sample_crops(self, n: int, generator: torch.Generator) -> Crops:
        places, allow_flip = 2 * self.images.padding + 1, self.data.allow_flip
        down, right = torch.randint(places, (n, 2), generator=generator, device="cpu").unbind(1)
        flip = torch.rand(n, generator=generator, dtype=torch.float32, device="cpu") < 0.5
        return Crops(*(part.to(self.device) for part in (down, right, flip & allow_flip)))

    def _train_step(self, epoch: int, number: int, randomness: EpochRandomness) -> None:
        started = time.perf_counter()
        chosen = slice(number * self.batch_size, (number + 1) * self.batch_size)
        rows = self.train_rows[randomness.order[chosen]]
        images = self.images.augmented(rows, randomness.crops.select(chosen))
        images = self._transform_batch(images, epoch)
        labels = self.labels[rows]
        ready = time.perf_counter()
        batch = TrainingBatch(epoch, number, rows, images, labels)
        self._unread.append(self._train_batch(batch))
        self.step += 1
        metrics = self._read_metrics() if self._is_logged(number) else None
        now = time.perf_counter()
        self.seconds += now - started
        if metrics is not None:
            seconds = BatchTime(now - started, ready - started, self.seconds / self.step)
            self._log_batch(batch, metrics, seconds)

    def _read_metrics(self) -> Metrics | None:
        """Add up what the steps since the last time came to; return the last one's metrics."""
        if not self._unread:
            return None
        steps = torch.stack(self._unread).tolist()
        self._unread.clear()
        for step, values in enumerate(steps, self.step - len(steps)):
            epoch, number = divmod(step, self.steps_per_epoch)
            for value in values:
                if not math.isfinite(value):
                    raise RecomputeError(
                        f"the loss of epoch {epoch + 1}, batch {number + 1} is {value}: "
                        f"lower {self._learning_rate_label()}; the last checkpoint is kept"
                    )
            self.totals = self.metrics_type(*map(operator.add, self.totals, values))
        return self.metrics_type(*steps[-1])


def make_network(
    data: TrainingData, make: Callable[[], nn.Module], stream: str, device: torch.device
) -> nn.Module:
    """Make a network with weights drawn from the training's key, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(data.seed(stream))  # and no device's
        network = make()
    return network.to(device).to(memory_format=torch.channels_last)


@torch.inference_mode()
def predict_in_chunks(rows: Tensor, probabilities: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the probabilities of rows, computed for so many at a time that memory suffices."""
    return torch.cat([probabilities(chunk) for chunk in torch.split(rows, PREDICT_BATCH_SIZE)])
