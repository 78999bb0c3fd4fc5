"""The recipe `paper`: the original experiment, a ResNet-50 for 350 epochs, done right.

What is set to the honest value by default, and what the published files used:

- ``checkpoint="last"``: the weights of the last step predict. The published probabilities come from
  the epoch that was best on the *test set*: ``checkpoint="best-test"``.
- ``holdout_augmentation=False``: held-out images are predicted as they are. The published
  probabilities saw them through the random crop and flip of the *training*:
  ``holdout_augmentation=True``.

Two differences stay: the original network had 1,000 outputs, of which ten were kept; and the
published logs of trainings on kept sets count the last, partial batch of an epoch as well, which
``drop_last=False`` gives.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cifar_noisy.errors import InvalidInputError
from cifar_noisy.recompute.single_network import ClassifierTrainer
from cifar_noisy.recompute.training import (
    LARGEST,
    Images,
    Training,
    check_ranges,
    in_parts,
    make_network,
)

CHECKPOINTS = ("last", "best-test")
MEAN = (0.4914, 0.4822, 0.4465)
DEVIATION = (0.2023, 0.1994, 0.2010)
_DROPS = ((150, 350), (250, 350))  # of all epochs


@dataclass(frozen=True)
class PaperRecipe:
    """The hyperparameters of the original experiment.

    Attributes
    ----------
    epochs : int
        Passes over the training folds, or over a kept set.
    batch_size : int
        Images per step.
    rate : float
        Learning rate, a tenth of it from 150/350 of the epochs on, a hundredth from 250/350 on.
    momentum, weight_decay : float
        Of SGD.
    padding : int
        Pixels of zeros on each side, of which the random crop takes some.
    drop_last : bool
        Whether what is left over at the end of an epoch is left out.
    width : int
        Channels per group of torchvision's ResNet-50; 64 is the network of that name.
    checkpoint : {"last", "best-test"}
        Which weights predict: the last, or those of the epoch that was best on the test set.
    holdout_augmentation : bool
        Whether held-out images are predicted through the random crop and flip of the training.

    Raises
    ------
    InvalidInputError
        If a value makes no sense.
    """

    epochs: int = 350
    batch_size: int = 64
    rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    padding: int = 4
    drop_last: bool = True
    width: int = 64
    checkpoint: str = "last"
    holdout_augmentation: bool = False

    def __post_init__(self) -> None:
        if self.checkpoint not in CHECKPOINTS:
            raise InvalidInputError(
                f"checkpoint is {self.checkpoint!r}: it takes {' or '.join(CHECKPOINTS)}"
            )
        check_ranges(
            self, epochs=(1, LARGEST), batch_size=(2, LARGEST), rate=(1e-9, LARGEST),
            momentum=(0, 0.999), weight_decay=(0, LARGEST), padding=(0, 64), width=(1, 4096),
        )  # fmt: skip


class PaperTrainer(ClassifierTrainer):
    """Trains by the recipe.

    Parameters
    ----------
    recipe : PaperRecipe
    training : Training
        With checkpoint "best-test", the rows it monitors are those of the test set.
    device : str

    Raises
    ------
    InvalidInputError
        If a batch is larger than the training set.
    """

    def __init__(self, recipe: PaperRecipe, training: Training, device: str = "cpu") -> None:
        self.recipe, place = recipe, torch.device(device)
        n_channels = training.pixels.shape[3]
        network = make_network(
            training,
            lambda: resnet50(n_channels, training.n_classes, recipe.width),
            "weights",
            place,
        )
        optimizer = torch.optim.SGD(
            network.parameters(),
            lr=recipe.rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )
        images = Images(
            training.pixels,
            recipe.padding,
            "constant",
            [255 * mean for mean in MEAN[:n_channels]],
            [255 * deviation for deviation in DEVIATION[:n_channels]],
            place,
        )
        super().__init__(
            training,
            images,
            recipe.epochs,
            recipe.batch_size,
            network,
            optimizer,
            drop_last=recipe.drop_last,
        )
        self.best_accuracy = -1.0
        self.best_weights: dict[str, Tensor] = {}

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        return rate_at(step // self.steps_per_epoch, self.recipe)

    def predict(self) -> NDArray[np.float32]:
        """Return the (n, K) float32 probabilities of the held-out rows."""
        if self.best_weights:
            self.network.load_state_dict(self.best_weights)
        if not self.recipe.holdout_augmentation:
            return super().predict()
        rows = torch.from_numpy(self.training.held_out)
        generator = torch.Generator().manual_seed(self.training.seed("held-out"))
        shifts, flips = self.images.draw(len(rows), self.training.is_mirrored, generator)
        self.network.eval()

        def predict(part: Tensor) -> Tensor:
            images = self.images.cropped(rows[part], shifts[part], flips[part])
            return self._logits(images).softmax(1)

        return in_parts(torch.arange(len(rows), device="cpu"), predict).cpu().numpy()

    def state(self) -> dict[str, Any]:
        """Return all that a later `load_state` needs to continue to the same bits."""
        best = {"best_accuracy": self.best_accuracy, "best_weights": self.best_weights}
        return {**super().state(), **best}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        super().load_state(state)
        self.best_accuracy, self.best_weights = state["best_accuracy"], state["best_weights"]

    def _rate_name(self) -> str:
        return f"rate ({self.recipe.rate:g})"

    def _probabilities(self, rows: Tensor) -> Tensor:
        self.network.eval()
        return in_parts(rows, lambda some: self._logits(self.images.centred(some)).softmax(1))

    def _monitor(self) -> tuple[float, float]:
        first, five = super()._monitor()
        if self.recipe.checkpoint == "best-test" and first > self.best_accuracy:
            weights = self.network.state_dict()
            self.best_accuracy = first
            self.best_weights = {name: value.clone() for name, value in weights.items()}
        return first, five


def rate_at(epoch: int, recipe: PaperRecipe) -> float:
    """Return the learning rate of an epoch, counted from 0.

    Examples
    --------
    >>> [round(rate_at(epoch, PaperRecipe()), 6) for epoch in (149, 150, 249, 250)]
    [0.1, 0.01, 0.01, 0.001]
    """
    n_drops = sum(part * epoch >= drop * recipe.epochs for drop, part in _DROPS)
    return recipe.rate * 0.1**n_drops


def resnet50(n_channels: int, n_classes: int, width: int = 64) -> nn.Module:
    """Make torchvision's ResNet-50, not pretrained, for any number of channels and classes."""
    from torchvision.models import resnet50 as make

    network: nn.Module = make(num_classes=n_classes, width_per_group=width)
    if n_channels != 3:
        network.conv1 = nn.Conv2d(n_channels, 64, 7, stride=2, padding=3, bias=False)
    return network
