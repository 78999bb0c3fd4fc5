"""The recipe `fast`: out-of-sample probabilities of a small residual network, in minutes.

Measured figures, with hardware, versions and number of runs, stand in ``docs/results.md``.

What it does, in order of what it saves: images stay on the device as uint8, padded once; one gather
per batch crops and flips them; most epochs see them shrunk; tensors are channels-last; Nesterov SGD
follows a triangular schedule by step; the last step's weights predict, an image and its mirror
image averaged. No test data, and nothing held out, ever chooses anything.

All randomness of an epoch is drawn at once from (seed, dataset, setting, fold, epoch), so a
checkpoint after any step continues to the same bits on the same device and thread count.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from cifar_noisy.errors import InvalidInputError, RecomputeError

_SMALLEST_SIDE = 8
_MONITORED = 1_000
_LOGGED_EVERY = 50
_PREDICTED_AT_ONCE = 1_000


@dataclass(frozen=True)
class FastRecipe:
    """The hyperparameters; the defaults are for CIFAR-10.

    Attributes
    ----------
    epochs : int
        Passes over the training folds.
    small_epochs : int
        How many of them, from the first on, see shrunk images.
    small_scale : float
        Side of a shrunk image as a fraction of the side of the image.
    batch_size : int
        Images per step; what is left over at the end of an epoch is dropped.
    peak_rate : float
        Learning rate at the top of the triangle.
    warmup : float
        Fraction of all steps on which the rate rises.
    momentum, weight_decay : float
        Of Nesterov SGD.
    width : int
        Channels of the first convolution; the last has eight times as many. Plans take the
        `suited_width` of the device that they are made for.
    """

    epochs: int = 20
    small_epochs: int = 14
    small_scale: float = 0.625
    batch_size: int = 256
    peak_rate: float = 0.4
    warmup: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    width: int = 16


class Training(NamedTuple):
    """What a training sees and what it predicts.

    Attributes
    ----------
    pixels : (N, H, W, C) uint8
        All images of the dataset.
    labels : (N,) int64
        Given labels.
    train, held_out : (n,) int64
        Rows to train on, and rows to predict.
    n_classes : int
    is_mirrored : bool
        Whether a mirror image shows the same class.
    key : str
        What, with the epoch, all randomness is drawn from.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    train: NDArray[np.int64]
    held_out: NDArray[np.int64]
    n_classes: int
    is_mirrored: bool
    key: str


class Epoch(NamedTuple):
    """The randomness of one epoch, all on the CPU, so that devices see the same."""

    order: Tensor  # (n,) int64, indices into the training rows
    shifts: Tensor  # (n, 2) int64, where each crop begins
    flips: Tensor  # (n,) bool


class Residual(nn.Module):
    """Two convolutions, added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(channels, channels), _convolution(channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        return x + self.body(x)  # type: ignore[no-any-return]


class Network(nn.Module):
    """Eight convolutions and a linear layer: the residual network of the DAWNBench entries."""

    def __init__(self, n_channels: int, n_classes: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(n_channels, width),
            _convolution(width, 2 * width),
            nn.MaxPool2d(2),
            Residual(2 * width),
            _convolution(2 * width, 4 * width),
            nn.MaxPool2d(2),
            _convolution(4 * width, 8 * width),
            nn.MaxPool2d(2),
            Residual(8 * width),
        )
        self.head = nn.Linear(8 * width, n_classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) images to (B, K) logits."""
        # Scaled down, logits start near a uniform softmax and noisy labels are fitted later.
        return 0.125 * self.head(self.body(x).amax(dim=(2, 3)))  # type: ignore[no-any-return]


def _convolution(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()
    )


class Trainer:
    """One training, which can be stopped after any step, saved, loaded and continued.

    Parameters
    ----------
    recipe : FastRecipe
    training : Training
    device : str
        "cpu", "cuda" or "cuda:1".

    Raises
    ------
    InvalidInputError
        If a batch is larger than the training set, or images are shrunk to nothing.
    """

    def __init__(self, recipe: FastRecipe, training: Training, device: str = "cpu") -> None:
        self.recipe, self.training, self.device = recipe, training, torch.device(device)
        n_train = len(training.train)
        if not 0 < recipe.batch_size <= n_train:
            raise InvalidInputError(
                f"batch_size {recipe.batch_size:,} does not fit {n_train:,} training examples: "
                f"choose 1 to {n_train:,}"
            )
        self.is_bfloat16 = has_fast_bfloat16(self.device)
        self.small_side = round(recipe.small_scale * training.pixels.shape[1])
        if recipe.small_epochs and self.small_side < _SMALLEST_SIDE:
            raise InvalidInputError(
                f"small_scale {recipe.small_scale:g} shrinks images to {self.small_side} pixels, "
                f"and the network halves them three times: keep {_SMALLEST_SIDE} or more"
            )
        self.steps_per_epoch = n_train // recipe.batch_size
        self.n_steps = recipe.epochs * self.steps_per_epoch
        self.step = 0
        self.seconds = 0.0
        self.log = [f"Train size: {n_train}"]
        self.running = [0.0, 0.0, 0.0]  # of this epoch: summed loss, hits, hits in the top five
        self._place_data()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed("weights"))
            network = Network(training.pixels.shape[3], training.n_classes, recipe.width)
        self.network = network.to(self.device).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(
            self.network.parameters(),
            lr=0.0,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=True,
        )

    def run(self, should_stop: Callable[["Trainer"], bool] = lambda _: False) -> bool:
        """Train to the end, or until `should_stop`, asked after each step; True at the end.

        Raises
        ------
        RecomputeError
            If the loss is no longer a number.
        """
        while self.step < self.n_steps:
            epoch_index, first = divmod(self.step, self.steps_per_epoch)
            epoch = self._draw(epoch_index)
            if first == 0:
                self.running = [0.0, 0.0, 0.0]
            for batch_index in range(first, self.steps_per_epoch):
                self._train_step(epoch_index, batch_index, epoch)
                if batch_index + 1 == self.steps_per_epoch:
                    self._end_epoch(epoch_index)
                if should_stop(self):
                    return self.step == self.n_steps
        return True

    def predict(self) -> NDArray[np.float32]:
        """Return the (n, K) float32 probabilities of the held-out rows."""
        return self._probabilities(torch.from_numpy(self.training.held_out)).cpu().numpy()

    def state(self) -> dict[str, Any]:
        """Return all that a later `load_state` needs to continue to the same bits."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "log": list(self.log),
            "running": list(self.running),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.step, self.seconds = state["step"], state["seconds"]
        self.log, self.running = list(state["log"]), list(state["running"])
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _place_data(self) -> None:
        """Put images, padded by reflection, and labels on the device, once."""
        pixels = self.training.pixels
        self.pad = pixels.shape[1] // 8
        edges = ((0, 0), (self.pad, self.pad), (self.pad, self.pad), (0, 0))
        padded = np.pad(pixels, edges, mode="reflect")
        self.pixels = torch.from_numpy(padded).to(self.device)
        self.labels = torch.from_numpy(self.training.labels).to(self.device)
        self.train_rows = torch.from_numpy(self.training.train)
        # Of the training images alone: nothing of what is held out enters the training.
        sample = pixels[self.training.train].reshape(-1, pixels.shape[3])
        mean, deviation = _moments(sample)
        self.mean = torch.tensor(mean, dtype=torch.float32, device=self.device)
        self.deviation = torch.tensor(deviation, dtype=torch.float32, device=self.device)

    def _draw(self, epoch: int) -> Epoch:
        generator = torch.Generator().manual_seed(self._seed(str(epoch)))
        n = len(self.train_rows)
        order = torch.randperm(n, generator=generator)
        shifts = torch.randint(2 * self.pad + 1, (n, 2), generator=generator)
        flips = torch.rand(n, generator=generator) < 0.5
        return Epoch(order, shifts, flips & self.training.is_mirrored)

    def _seed(self, part: str) -> int:
        digest = hashlib.sha256(f"{self.training.key}/{part}".encode()).digest()
        return int.from_bytes(digest[:7], "big")

    def _train_step(self, epoch_index: int, batch_index: int, epoch: Epoch) -> None:
        started = time.perf_counter()
        size = self.recipe.batch_size
        part = slice(batch_index * size, (batch_index + 1) * size)
        rows = self.train_rows[epoch.order[part]]
        images = self._images(rows, epoch.shifts[part], epoch.flips[part])
        if epoch_index < self.recipe.small_epochs:
            small = (self.small_side, self.small_side)
            images = F.interpolate(images, small, mode="bilinear", antialias=True)
        labels = self.labels[rows.to(self.device)]
        ready = time.perf_counter()

        self.network.train()
        logits = self._logits(images)
        loss = F.cross_entropy(logits, labels)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(self.step, self.n_steps, self.recipe)
        self.optimizer.step()
        self.step += 1
        self._count(batch_index, epoch_index, logits.detach(), labels, loss, started, ready)

    def _count(
        self,
        batch: int,
        epoch: int,
        logits: Tensor,
        labels: Tensor,
        loss: Tensor,
        started: float,
        ready: float,
    ) -> None:
        """Add a step to the epoch's sums, and to the log where it is due."""
        value = loss.item()
        if not np.isfinite(value):
            raise RecomputeError(
                f"the loss of epoch {epoch + 1}, batch {batch + 1} is {value}: lower peak_rate "
                f"({self.recipe.peak_rate:g}); the last checkpoint is kept"
            )
        hits = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
        numbers = [value, float(hits[:, :1].sum()) / len(labels), float(hits.sum()) / len(labels)]
        self.running = [total + number for total, number in zip(self.running, numbers, strict=True)]
        now = time.perf_counter()
        self.seconds += now - started
        if batch % _LOGGED_EVERY == 0 or batch + 1 == self.steps_per_epoch:
            times = f"{now - started:.3f} ({self.seconds / self.step:.3f})"
            data = f"{ready - started:.3f} ({ready - started:.3f})"
            means = [total / (batch + 1) for total in self.running]
            self.log.append(
                f"Epoch: [{epoch}][{batch}/{self.steps_per_epoch}]\tTime {times}\tData {data}"
                f"\tLoss {value:.4f} ({means[0]:.4f})"
                f"\tAcc@1 {100 * numbers[1]:.3f} ({100 * means[1]:.3f})"
                f"\tAcc@5 {100 * numbers[2]:.3f} ({100 * means[2]:.3f})"
            )

    def _end_epoch(self, epoch: int) -> None:
        """Log the accuracy on some held-out rows against their given labels; nothing uses it."""
        started = time.perf_counter()
        held_out = self.training.held_out
        rows = torch.from_numpy(held_out[:: max(1, len(held_out) // _MONITORED)])
        top = self._probabilities(rows).topk(min(5, self.training.n_classes)).indices
        hits = top == self.labels[rows.to(self.device)][:, None]
        first, five = 100 * hits[:, :1].sum().item(), 100 * hits.sum().item()
        self.log.append(f" * Acc@1 {first / len(rows):.3f} Acc@5 {five / len(rows):.3f}")
        rate = rate_at(self.step - 1, self.n_steps, self.recipe)
        # The schedule row comes before the epoch's first batch in the published logs.
        start = len(self.log) - 1 - sum(line.startswith(f"Epoch: [{epoch}]") for line in self.log)
        self.log.insert(start, f"epoch: {epoch + 1} | lr: {rate:.6f}")
        self.seconds += time.perf_counter() - started

    @torch.inference_mode()
    def _probabilities(self, rows: Tensor) -> Tensor:
        self.network.eval()
        parts = []
        for some in torch.split(rows, _PREDICTED_AT_ONCE):
            probabilities = self._logits(self._centred(some, is_flipped=False)).softmax(1)
            if self.training.is_mirrored:
                mirrored = self._logits(self._centred(some, is_flipped=True)).softmax(1)
                probabilities = (probabilities + mirrored) / 2
            parts.append(probabilities)
        return torch.cat(parts)

    def _logits(self, images: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.is_bfloat16):
            logits: Tensor = self.network(images)
        return logits.float()

    def _centred(self, rows: Tensor, is_flipped: bool) -> Tensor:
        shifts = torch.full((len(rows), 2), self.pad)
        return self._images(rows, shifts, torch.full((len(rows),), is_flipped))

    def _images(self, rows: Tensor, shifts: Tensor, flips: Tensor) -> Tensor:
        """Crop and flip rows in one gather; return normalised (B, C, H, W), channels last."""
        rows, shifts, flips = (t.to(self.device) for t in (rows, shifts, flips))
        side = torch.arange(self.training.pixels.shape[1], device=self.device)
        down = shifts[:, :1] + side
        across = shifts[:, 1:] + torch.where(flips[:, None], side.flip(0), side)
        images = self.pixels[rows[:, None, None], down[:, :, None], across[:, None, :]]
        return ((images - self.mean) / self.deviation).permute(0, 3, 1, 2)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies matrices of bfloat16 faster than those of float32.

    GPUs do, and of CPUs those with AMX; on others PyTorch's bfloat16 is slower.

    Examples
    --------
    >>> has_fast_bfloat16(torch.device("meta"))
    False
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    # Versions of torch that cannot tell are taken for not having it.
    capabilities: Callable[[], dict[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)
    return device.type == "cpu" and bool(capabilities().get("amx_bf16"))


def suited_width(device: str) -> int:
    """Return the width that a device trains within the half hour that a setting may take.

    Wider networks give better probabilities; without fast bfloat16 two CPU cores have no time for
    them. GPUs, for which nothing was measured, get what a CPU with AMX gets.

    Examples
    --------
    >>> suited_width("cpu") in (16, 24)
    True
    """
    return 24 if has_fast_bfloat16(torch.device(device)) else 16


def rate_at(step: int, n_steps: int, recipe: FastRecipe) -> float:
    """Return the learning rate of a step: up to the peak, then down to 0, in straight lines.

    Examples
    --------
    >>> recipe = FastRecipe(peak_rate=1.0, warmup=0.5)
    >>> [rate_at(step, 4, recipe) for step in range(4)]
    [0.25, 0.75, 0.75, 0.25]
    """
    position = (step + 0.5) / n_steps
    rising = position / recipe.warmup if recipe.warmup else 1.0
    return recipe.peak_rate * min(rising, (1 - position) / (1 - recipe.warmup))


def _moments(pixels: NDArray[np.uint8]) -> tuple[list[float], list[float]]:
    """Return each channel's mean and standard deviation, from exact counts of its 256 values."""
    values = np.arange(256)
    means, deviations = [], []
    for counts in _histograms(pixels):
        mean = float(counts @ values) / counts.sum()
        means.append(mean)
        deviations.append(float(np.sqrt(counts @ (values - mean) ** 2 / counts.sum())) or 1.0)
    return means, deviations


def _histograms(pixels: NDArray[np.uint8]) -> Iterator[NDArray[np.int64]]:
    for channel in pixels.T:
        yield np.bincount(channel, minlength=256)
