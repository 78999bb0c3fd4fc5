"""What all recipes share: what a training sees, an epoch's randomness, images, the loop of steps.

All randomness of an epoch is drawn at once from (seed, dataset, task, epoch), so a checkpoint after
any step continues to the same bits on the same device and thread count.
"""

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cifar_noisy.errors import InvalidInputError, RecomputeError

LARGEST = 1e9
"""Of a hyperparameter that has no other bound."""

_MONITORED = 1_000
_PREDICTED_AT_ONCE = 1_000


def device_named(name: str) -> torch.device:
    """Return the device of a name, whether this machine has it or not.

    Raises
    ------
    InvalidInputError
        If it is none that trains here.

    Examples
    --------
    >>> device_named("cuda:1")
    device(type='cuda', index=1)
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InvalidInputError(f"device {name!r} is unknown: use cpu, cuda or cuda:1")
    return device


def check_ranges(recipe: object, prefix: str = "", **ranges: tuple[float, float]) -> None:
    """Hold hyperparameters to ranges, both ends included.

    Raises
    ------
    InvalidInputError
        If one is outside, or no number.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> check_ranges(SimpleNamespace(epochs=0), epochs=(1, LARGEST))
    Traceback (most recent call last):
    cifar_noisy.errors.InvalidInputError: epochs is 0: use 1 or more
    """
    for name, (low, high) in ranges.items():
        value = getattr(recipe, name)
        if not low <= value <= high:
            said = f"{low:g} or more" if high == LARGEST > value else f"{low:g} to {high:g}"
            raise InvalidInputError(f"{prefix}{name} is {value:g}: use {said}")


class Training(NamedTuple):
    """What a training sees and what it predicts.

    Attributes
    ----------
    pixels : (N, H, W, C) uint8
        All images, those of the test set behind the others where there are any.
    labels : (N,) int64
        Given labels; true ones of the test set.
    train, held_out : (n,) int64
        Rows to train on, and rows to predict.
    n_classes : int
    is_mirrored : bool
        Whether a mirror image shows the same class.
    key : str
        What, with the epoch, all randomness is drawn from.
    monitored : (m,) int64, optional
        Rows whose accuracy is logged after each epoch; by default some of those held out.
    class_weights : (K,) float32, optional
        Of the loss; by default all are 1.
    is_clean : (N,) bool, optional
        Whether the given label is the true one. Only logged, and by Co-Teaching alone.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    train: NDArray[np.int64]
    held_out: NDArray[np.int64]
    n_classes: int
    is_mirrored: bool
    key: str
    monitored: NDArray[np.int64] | None = None
    class_weights: NDArray[np.float32] | None = None
    is_clean: NDArray[np.bool_] | None = None

    def seed(self, part: str) -> int:
        """Return the seed of one part of the training's randomness."""
        digest = hashlib.sha256(f"{self.key}/{part}".encode()).digest()
        return int.from_bytes(digest[:7], "big")


class Epoch(NamedTuple):
    """The randomness of one epoch, all on the CPU, so that devices see the same."""

    order: Tensor  # (n,) int64, indices into the training rows
    shifts: Tensor  # (n, 2) int64, where each crop begins
    flips: Tensor  # (n,) bool


class Batch(NamedTuple):
    """The images of a step, on the device."""

    epoch: int
    number: int
    rows: Tensor  # (B,) int64, on the CPU
    images: Tensor  # (B, C, H, W) float32, normalised
    labels: Tensor  # (B,) int64


class Images:
    """Images on a device as uint8, padded once; one gather crops and flips a batch of them.

    Parameters
    ----------
    pixels : (N, H, W, C) uint8
    pad : int
        Pixels added on each side.
    mode : {"reflect", "constant"}
        What is added: the mirrored image, or zeros.
    mean, deviation : (C,) sequence of float
        Of pixel values from 0 to 255.
    device : torch.device
    """

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        pad: int,
        mode: Any,
        mean: list[float],
        deviation: list[float],
        device: torch.device,
    ) -> None:
        self.pad, self.side, self.device = pad, pixels.shape[1], device
        edges = ((0, 0), (pad, pad), (pad, pad), (0, 0))
        self.pixels = torch.from_numpy(np.pad(pixels, edges, mode=mode)).to(device)
        self.mean = torch.tensor(mean, dtype=torch.float32, device=device)
        self.deviation = torch.tensor(deviation, dtype=torch.float32, device=device)

    def cropped(self, rows: Tensor, shifts: Tensor, flips: Tensor) -> Tensor:
        """Crop and flip (B,) rows; return normalised (B, C, H, W), channels last."""
        rows, shifts, flips = (t.to(self.device) for t in (rows, shifts, flips))
        side = torch.arange(self.side, device=self.device)  # device and dtype are always given
        down = shifts[:, :1] + side
        across = shifts[:, 1:] + torch.where(flips[:, None], side.flip(0), side)
        images = self.pixels[rows[:, None, None], down[:, :, None], across[:, None, :]]
        return ((images - self.mean) / self.deviation).permute(0, 3, 1, 2)

    def centred(self, rows: Tensor, is_flipped: bool = False, offset: int = 0) -> Tensor:
        """Return rows as they are, or mirrored, or moved up and left, as `cropped` does."""
        shifts = torch.full((len(rows), 2), self.pad + offset, dtype=torch.int64, device="cpu")
        flips = torch.full((len(rows),), is_flipped, dtype=torch.bool, device="cpu")
        return self.cropped(rows, shifts, flips)

    def draw(self, n: int, is_mirrored: bool, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw where n crops begin, and which are flipped."""
        shifts = torch.randint(2 * self.pad + 1, (n, 2), generator=generator, device="cpu")
        flips = torch.rand(n, generator=generator, dtype=torch.float32, device="cpu") < 0.5
        return shifts, flips & is_mirrored


class Trainer(ABC):
    """One training, which can be stopped after any step, saved, loaded and continued.

    A recipe's trainer learns from a batch, predicts, and logs the end of an epoch.

    Parameters
    ----------
    training : Training
    images : Images
        On the device to train on.
    epochs, batch_size : int
    drop_last : bool, default True
        Whether what is left over of an epoch, less than a batch, is left out.

    Attributes
    ----------
    step, n_steps, steps_per_epoch : int
        Steps done, in all, and of an epoch.
    seconds : float
        Spent on steps and evaluations, before an interruption too.
    log : list of str
        Lines of a log that `parse_training_log` reads.

    Raises
    ------
    InvalidInputError
        If a batch is larger than the training set, or the last batch would hold a single example.
    """

    def __init__(
        self,
        training: Training,
        images: Images,
        epochs: int,
        batch_size: int,
        drop_last: bool = True,
    ) -> None:
        n_train = len(training.train)
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
        self.training, self.images, self.device = training, images, images.device
        self.batch_size = batch_size
        self.steps_per_epoch = n_train // batch_size if drop_last else -(-n_train // batch_size)
        self.n_steps = epochs * self.steps_per_epoch
        self.step = 0
        self.seconds = 0.0
        self.log: list[str] = []
        self.running: list[float] = []  # sums over this epoch, for the log
        self.labels = torch.from_numpy(training.labels).to(self.device)
        self.train_rows = torch.from_numpy(training.train)
        monitored = training.monitored
        if monitored is None:
            monitored = training.held_out[:: max(1, len(training.held_out) // _MONITORED)]
        self.monitored = torch.from_numpy(monitored)
        weights = training.class_weights
        self.class_weights = None if weights is None else torch.from_numpy(weights).to(self.device)

    def run(self, should_stop: Callable[["Trainer"], bool] = lambda _: False) -> bool:
        """Train to the end, or until `should_stop`, asked after each step; True at the end.

        Raises
        ------
        RecomputeError
            If the loss is no longer a number.
        """
        if self.step == 0:
            self._begin()
        while self.step < self.n_steps:
            epoch_index, first = divmod(self.step, self.steps_per_epoch)
            epoch = self.draw(epoch_index)
            if first == 0:
                self.running = []
            for batch_index in range(first, self.steps_per_epoch):
                self._train_step(epoch_index, batch_index, epoch)
                if batch_index + 1 == self.steps_per_epoch:
                    started = time.perf_counter()
                    self._end_epoch(epoch_index)
                    self.seconds += time.perf_counter() - started
                if should_stop(self):
                    return self.step == self.n_steps
        return True

    def draw(self, epoch: int) -> Epoch:
        """Draw all randomness of an epoch."""
        generator = torch.Generator().manual_seed(self.training.seed(str(epoch)))
        n = len(self.train_rows)
        order = torch.randperm(n, generator=generator, device="cpu")
        return Epoch(order, *self.images.draw(n, self.training.is_mirrored, generator))

    def state(self) -> dict[str, Any]:
        """Return all that a later `load_state` needs to continue to the same bits."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "log": list(self.log),
            "running": list(self.running),
            **{name: part.state_dict() for name, part in self._parts().items()},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.step, self.seconds = state["step"], state["seconds"]
        self.log, self.running = list(state["log"]), list(state["running"])
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    @abstractmethod
    def predict(self) -> NDArray[np.float32]:
        """Return the (n, K) float32 probabilities of the held-out rows."""

    @abstractmethod
    def _parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        """Return what has weights to save."""

    @abstractmethod
    def _learn(self, batch: Batch) -> list[float]:
        """Take a step; return what of it is logged, the losses first."""

    @abstractmethod
    def _log_step(self, batch: Batch, numbers: list[float], seconds: float, data: float) -> None:
        """Log a step where it is due; `running` has its numbers added."""

    @abstractmethod
    def _end_epoch(self, epoch: int) -> None:
        """Evaluate the monitored rows and log that."""

    def _begin(self) -> None:  # noqa: B027 - most recipes have nothing to do before the first step
        """Do what comes before the first step."""

    def _prepare(self, images: Tensor, epoch: int) -> Tensor:
        """Return the cropped images as this epoch sees them."""
        return images

    def _train_step(self, epoch_index: int, batch_index: int, epoch: Epoch) -> None:
        started = time.perf_counter()
        part = slice(batch_index * self.batch_size, (batch_index + 1) * self.batch_size)
        rows = self.train_rows[epoch.order[part]]
        images = self.images.cropped(rows, epoch.shifts[part], epoch.flips[part])
        images = self._prepare(images, epoch_index)
        labels = self.labels[rows.to(self.device)]
        ready = time.perf_counter()
        batch = Batch(epoch_index, batch_index, rows, images, labels)
        numbers = self._learn(batch)
        self.step += 1
        if not np.isfinite(numbers).all():
            raise RecomputeError(
                f"the loss of epoch {epoch_index + 1}, batch {batch_index + 1} is {numbers[0]}: "
                f"lower {self._rate_name()}; the last checkpoint is kept"
            )
        sums = self.running or [0.0] * len(numbers)
        self.running = [total + number for total, number in zip(sums, numbers, strict=True)]
        now = time.perf_counter()
        self.seconds += now - started
        self._log_step(batch, numbers, now - started, ready - started)

    @abstractmethod
    def _rate_name(self) -> str:
        """Return name and value of the hyperparameter that a loss may be too high for."""


def make_network(
    training: Training, make: Callable[[], nn.Module], part: str, device: torch.device
) -> nn.Module:
    """Make a network with weights drawn from the training's key, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(training.seed(part))  # and no device's
        network = make()
    return network.to(device).to(memory_format=torch.channels_last)


@torch.inference_mode()
def in_parts(rows: Tensor, probabilities: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the probabilities of rows, computed for so many at a time that memory suffices."""
    return torch.cat([probabilities(some) for some in torch.split(rows, _PREDICTED_AT_ONCE)])
