"""The recipe `fast`: out-of-sample probabilities of a small residual network, in minutes.

What it comes to beside the published files, and what was not measured, stands in
``docs/results.md``.

What makes it fast, most saving first: one gather crops and flips a batch of bytes on the device;
most epochs see shrunk images; tensors are channels-last; the learning rate follows a triangle. The
last weights predict, averaged over an image, the same moved by a pixel or shrunk a little, and
their mirror images. No test data, and nothing held out, enters or ends a training; the defaults
were chosen on fold 0 at noise 0.4.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cifar_noisy.errors import InvalidInputError
from cifar_noisy.images.augmentation import NormalizedImages, resize
from cifar_noisy.recompute.hardware import has_bfloat16
from cifar_noisy.recompute.recipes import FastRecipe
from cifar_noisy.recompute.single_network import SingleNetworkTrainer
from cifar_noisy.recompute.training import TrainingData, make_network, predict_in_chunks

_MIN_SIDE = 8


class ResidualBlock(nn.Module):
    """Two convolutions, added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(channels, channels), _convolution(channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        return x + self.body(x)  # type: ignore[no-any-return]


class FastResNet(nn.Module):
    """Eight convolutions and a linear layer: the residual network of the DAWNBench entries."""

    def __init__(self, n_channels: int, n_classes: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(n_channels, width),
            _convolution(width, 2 * width),
            nn.MaxPool2d(2),
            ResidualBlock(2 * width),
            _convolution(2 * width, 4 * width),
            nn.MaxPool2d(2),
            _convolution(4 * width, 8 * width),
            nn.MaxPool2d(2),
            ResidualBlock(8 * width),
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


class FastTrainer(SingleNetworkTrainer):
    """Trains by the recipe."""

    def __init__(self, recipe: FastRecipe, data: TrainingData, device: str = "cpu") -> None:
        self.recipe, pixels, place = recipe, data.pixels, torch.device(device)
        _, side, _, n_channels = pixels.shape
        self.low_res_side = round(recipe.small_scale * side)
        if recipe.small_epochs and self.low_res_side < _MIN_SIDE:
            raise InvalidInputError(
                f"small_scale {recipe.small_scale:g} shrinks images to {self.low_res_side} pixels, "
                f"and the network halves them three times: keep {_MIN_SIDE} or more"
            )
        # Of the training images alone: nothing of what is held out enters the training.
        mean, std = _mean_and_std(pixels[data.train].reshape(-1, n_channels))
        self.network = make_network(
            data, lambda: FastResNet(n_channels, data.n_classes, recipe.width), "weights", place
        )
        self.optimizer = torch.optim.SGD(
            self.network.parameters(),
            lr=0.0,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.momentum > 0,
        )
        images = NormalizedImages(
            pixels, side // 8, place, mean, std, mode="reflect", allow_flip=data.allow_flip
        )
        self.use_bfloat16 = recipe.precision == "bfloat16"
        if self.use_bfloat16 and not has_bfloat16(place):
            raise InvalidInputError(
                f"precision is bfloat16, which {device} does not have: set precision=float32"
            )
        super().__init__(data, images, recipe.epochs, recipe.batch_size)

    def _learning_rate(self, step: int) -> float:
        return learning_rate_at(step, self.n_steps, self.recipe)

    def predict(self) -> NDArray[np.float32]:
        """Return the (n, K) float32 probabilities of the held-out rows."""
        return self._averaged(self.held_out_rows, self._views()).cpu().numpy()

    def _learning_rate_label(self) -> str:
        return f"peak_rate ({self.recipe.peak_rate:g})"

    def _transform_batch(self, images: Tensor, epoch: int) -> Tensor:
        return resize(images, self.low_res_side) if epoch < self.recipe.small_epochs else images

    def _views(self) -> dict[tuple[int, int], float]:
        """Return the views of an image that predict, as offset and side, with their weights."""
        side = self.images.side
        # A pixel of CIFAR-10's 32; smaller images would lose too much.
        offset = side // 32
        if not offset:
            return {(0, side): 1.0}
        views = {(0, side): 0.4, (-offset, side): 0.2, (offset, side): 0.2}
        if self.recipe.small_epochs:  # it lies between the sides that training saw
            views[0, side * 7 // 8] = 0.2
        total = sum(views.values())
        return {view: weight / total for view, weight in views.items()}

    def _probabilities(self, rows: Tensor) -> Tensor:
        return self._averaged(rows, {(0, self.images.side): 1.0})

    def _averaged(self, rows: Tensor, views: dict[tuple[int, int], float]) -> Tensor:
        """Average probabilities over views, by their weights, and over mirror images."""
        self.network.eval()
        flips = (False, True) if self.data.allow_flip else (False,)

        def seen(rows: Tensor, flip: bool, offset: int, side: int) -> Tensor:
            images = resize(self.images.centered(rows, flip, offset), side)
            return self._logits(images).softmax(1)

        def predict(chunk: Tensor) -> Tensor:
            weighted = [
                weight * seen(chunk, flip, offset, side)
                for (offset, side), weight in views.items()
                for flip in flips
            ]
            return torch.stack(weighted).sum(0) / len(flips)

        return predict_in_chunks(rows, predict)


def learning_rate_at(step: int, n_steps: int, recipe: FastRecipe) -> float:
    """Return the learning rate of a step: linearly up to the peak, then linearly down to 0.

    >>> recipe = FastRecipe(peak_rate=1.0, warmup=0.5)
    >>> [learning_rate_at(step, 4, recipe) for step in range(4)]
    [0.25, 0.75, 0.75, 0.25]
    """
    position = (step + 0.5) / n_steps
    rising = position / recipe.warmup if recipe.warmup else 1.0
    return recipe.peak_rate * min(rising, (1 - position) / (1 - recipe.warmup))


def _mean_and_std(pixels: NDArray[np.uint8]) -> tuple[list[float], list[float]]:
    """Return each channel's mean and standard deviation, from exact counts of its 256 values."""
    values = np.arange(256)
    means, stds = [], []
    for channel in pixels.T:
        counts = np.bincount(channel, minlength=256)
        mean = float(counts @ values) / counts.sum()
        means.append(mean)
        stds.append(float(np.sqrt(counts @ (values - mean) ** 2 / counts.sum())) or 1.0)
    return means, stds
