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

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cifar_noisy.images.augmentation import NormalizedImages
from cifar_noisy.recompute.recipes import PaperRecipe
from cifar_noisy.recompute.single_network import SingleNetworkTrainer
from cifar_noisy.recompute.training import TrainingData, make_network, predict_in_chunks

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)
_DECAY_EPOCHS = ((150, 350), (250, 350))  # as fractions of all epochs


class _BestWeights:
    """The weights of the epoch that had the best accuracy so far."""

    def __init__(self) -> None:
        self.accuracy = -1.0
        self.weights: dict[str, Tensor] = {}

    def update(self, accuracy: float, network: nn.Module) -> None:
        if accuracy > self.accuracy:
            self.accuracy = accuracy
            self.weights = {name: value.clone() for name, value in network.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        return {"accuracy": self.accuracy, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        self.accuracy, self.weights = state["accuracy"], state["weights"]


class PaperTrainer(SingleNetworkTrainer):
    """Trains by the recipe. With checkpoint "best-test", `data.monitored` is the test set."""

    def __init__(self, recipe: PaperRecipe, data: TrainingData, device: str = "cpu") -> None:
        self.recipe, place = recipe, torch.device(device)
        self.best = _BestWeights()
        n_channels = data.pixels.shape[3]
        self.network = make_network(
            data, lambda: resnet50(n_channels, data.n_classes, recipe.width), "weights", place
        )
        self.optimizer = torch.optim.SGD(
            self.network.parameters(),
            lr=recipe.rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )
        mean, std = ([255 * value for value in values[:n_channels]] for values in (MEAN, STD))
        images = NormalizedImages(
            data.pixels, recipe.padding, place, mean, std, allow_flip=data.allow_flip
        )
        super().__init__(data, images, recipe.epochs, recipe.batch_size, recipe.drop_last)

    def _learning_rate(self, step: int) -> float:
        return learning_rate_at(step // self.steps_per_epoch, self.recipe)

    def predict(self) -> NDArray[np.float32]:
        """Return the (n, K) float32 probabilities of the held-out rows."""
        if self.best.weights:
            self.network.load_state_dict(self.best.weights)
        if not self.recipe.holdout_augmentation:
            return super().predict()
        rows = self.held_out_rows
        generator = torch.Generator().manual_seed(self.data.seed("held-out"))
        crops = self._sample_crops(len(rows), generator)
        self.network.eval()

        def predict(chunk: Tensor) -> Tensor:
            return self._logits(self.images.augmented(rows[chunk], crops.select(chunk))).softmax(1)

        return predict_in_chunks(torch.arange(len(rows), device=self.device), predict).cpu().numpy()

    def _stateful_modules(self) -> dict[str, Any]:
        return {**super()._stateful_modules(), "best": self.best}

    def _learning_rate_label(self) -> str:
        return f"rate ({self.recipe.rate:g})"

    def _select_weights(self, accuracy: float) -> None:
        if self.recipe.checkpoint == "best-test":
            self.best.update(accuracy, self.network)


def learning_rate_at(epoch: int, recipe: PaperRecipe) -> float:
    """Return the learning rate of an epoch, counted from 0.

    >>> [round(learning_rate_at(epoch, PaperRecipe()), 6) for epoch in (149, 150, 249, 250)]
    [0.1, 0.01, 0.01, 0.001]
    """
    n_decays = sum(whole * epoch >= part * recipe.epochs for part, whole in _DECAY_EPOCHS)
    return recipe.rate * 0.1**n_decays


def resnet50(n_channels: int, n_classes: int, width: int = 64) -> nn.Module:
    """Make torchvision's ResNet-50, not pretrained, for any number of channels and classes."""
    from torchvision.models import resnet50 as make

    network: nn.Module = make(num_classes=n_classes, width_per_group=width)
    if n_channels != 3:
        network.conv1 = nn.Conv2d(n_channels, 64, 7, stride=2, padding=3, bias=False)
    return network
