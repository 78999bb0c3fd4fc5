"""Co-Teaching (Han et al. 2018): two networks, each learning from what the other finds easy.

As in the runs of February 2020 whose logs were published: crops and flips, pixels from 0 to 1
without further normalisation, the loss of both networks weighted by class. Their 250 epochs are one
evaluation of the untrained networks and 249 epochs of training; so here. (The paper's Table 2 used
350 epochs and forget rates of 0.1, 0.2 and 0.3.)

Put right are three faults of those runs: dropout stayed on in evaluations, the last 16 test images
were left out, and the "Pure Ratio" compared labels of different examples.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from cifar_noisy.images.augmentation import NormalizedImages
from cifar_noisy.recompute.log_writers import (
    LOG_INTERVAL,
    BatchTime,
    CoteachingMetrics,
    coteaching_batch,
    coteaching_evaluation,
)
from cifar_noisy.recompute.recipes import CoteachingRecipe
from cifar_noisy.recompute.training import (
    Trainer,
    TrainingBatch,
    TrainingData,
    make_network,
    predict_in_chunks,
)

_MIN_SIDE_WITHOUT_PADDING = 28  # halved twice, it leaves a pixel after three convolutions


class CNN(nn.Module):
    """Nine convolutions, each with batch normalisation and a leaky ReLU, and a linear layer."""

    def __init__(self, n_channels: int, n_classes: int, width: int, side: int) -> None:
        super().__init__()
        # Images smaller than CIFAR-10's would vanish without padding.
        last = 0 if side >= _MIN_SIDE_WITHOUT_PADDING else 1
        one, two, four = width, 2 * width, 4 * width
        self.body = nn.Sequential(
            *_convolution(n_channels, one, 1), *_convolution(one, one, 1),
            *_convolution(one, one, 1),
            nn.MaxPool2d(2), nn.Dropout2d(0.25),
            *_convolution(one, two, 1), *_convolution(two, two, 1), *_convolution(two, two, 1),
            nn.MaxPool2d(2), nn.Dropout2d(0.25),
            *_convolution(two, four, last), *_convolution(four, two, last),
            *_convolution(two, one, last),
        )  # fmt: skip
        self.head = nn.Linear(one, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) images to (B, K) logits."""
        return self.head(self.body(x).mean(dim=(2, 3)))  # type: ignore[no-any-return]


def _convolution(n_in: int, n_out: int, padding: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(n_in, n_out, 3, padding=padding), nn.BatchNorm2d(n_out), nn.LeakyReLU(0.01)


class CoteachingTrainer(Trainer):
    """Trains two networks by the recipe, with its forget rate or another; the first predicts."""

    metrics_type = CoteachingMetrics
    size_line = "('Train size:', {})"

    def __init__(
        self,
        recipe: CoteachingRecipe,
        data: TrainingData,
        device: str = "cpu",
        forget_rate: float | None = None,
    ) -> None:
        self.recipe, place = recipe, torch.device(device)
        self.forget_rate = recipe.forget_rate if forget_rate is None else forget_rate
        _, side, _, n_channels = data.pixels.shape
        mean, std = [0.0] * n_channels, [255.0] * n_channels
        images = NormalizedImages(
            data.pixels, recipe.padding, place, mean, std, allow_flip=data.allow_flip
        )
        super().__init__(data, images, recipe.epochs - 1, recipe.batch_size)
        self.networks = [
            make_network(
                data, lambda: CNN(n_channels, data.n_classes, recipe.width, side), stream, place
            )
            for stream in ("weights 1", "weights 2")
        ]
        self.optimizers = [
            torch.optim.Adam(network.parameters(), lr=recipe.rate) for network in self.networks
        ]
        # Which labels are true, for the log alone; it says 0 of all where nobody knows.
        clean = np.zeros(len(data.labels)) if data.is_clean is None else data.is_clean
        self.is_clean = torch.from_numpy(clean.astype(np.float64)).to(place)
        if data.is_clean is not None:
            self.log.append(f"Actual noise {1 - data.is_clean[data.train].mean():.2f}")

    def predict(self) -> NDArray[np.float32]:
        """Return the (n, K) float32 probabilities of the held-out rows, of the first network."""
        return self._probabilities(self.networks[0], self.held_out_rows).cpu().numpy()

    def _stateful_modules(self) -> dict[str, Any]:
        names = ("network 1", "network 2", "optimizer 1", "optimizer 2")
        return dict(zip(names, [*self.networks, *self.optimizers], strict=True))

    def _learning_rate_label(self) -> str:
        return f"coteaching.rate ({self.recipe.rate:g})"

    def _train_batch(self, batch: TrainingBatch) -> Tensor:
        epoch = batch.epoch + 1  # the untrained networks were epoch 0
        self._set_schedule(epoch)
        forget_rate = forget_rate_at(epoch, self.forget_rate, self.recipe.gradual_epochs)
        logits = self._dropped_out(batch)
        chosen = [
            select_small_loss(some, batch.labels, forget_rate, self.class_weights)
            for some in logits
        ]
        losses = [
            F.cross_entropy(some[rows], batch.labels[rows], weight=self.class_weights)
            for some, rows in zip(logits, reversed(chosen), strict=True)
        ]
        for optimizer, loss in zip(self.optimizers, losses, strict=True):
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        accuracies = [(some.argmax(1) == batch.labels).float().mean() for some in logits]
        pure = [self.is_clean[batch.rows[rows]].mean() for rows in chosen]
        return torch.stack([value.detach().double() for value in (*losses, *accuracies, *pure)])

    def _set_schedule(self, epoch: int) -> None:
        beta1 = self.recipe.late_beta1 if epoch >= self.recipe.decay_start else 0.9
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(epoch, self.recipe)
                group["betas"] = (beta1, 0.999)

    def _dropped_out(self, batch: TrainingBatch) -> list[Tensor]:
        """Return both networks' logits, dropout drawn from the step and nothing else."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            seed = self.data.seed(f"{batch.epoch}/{batch.number}")
            torch.default_generator.manual_seed(seed)
            if devices:
                with torch.cuda.device(self.device):
                    torch.cuda.manual_seed(seed)
            return [network.train()(batch.images) for network in self.networks]

    def _is_logged(self, number: int) -> bool:
        return (number + 1) % LOG_INTERVAL == 0 or number + 1 == self.steps_per_epoch

    def _log_batch(
        self, batch: TrainingBatch, metrics: CoteachingMetrics, seconds: BatchTime
    ) -> None:
        counts = (batch.epoch + 2, self.recipe.epochs, batch.number + 1, self.steps_per_epoch)
        self.log.append(coteaching_batch(*counts, metrics, self.totals))

    def _on_train_start(self) -> None:
        self._log_evaluation(1, None)

    def _on_epoch_end(self, epoch: int) -> None:
        sums = (self.totals.pure_ratio_1, self.totals.pure_ratio_2)
        first, second = (100 * total / self.steps_per_epoch for total in sums)
        self._log_evaluation(epoch + 2, (first, second))

    def _log_evaluation(self, epoch: int, ratios: tuple[float, float] | None) -> None:
        labels = self.labels[self.monitored]
        first, second = (
            100
            * (self._probabilities(network, self.monitored).argmax(1) == labels).sum().item()
            / len(labels)
            for network in self.networks
        )
        n_epochs = self.recipe.epochs
        self.log.append(coteaching_evaluation(epoch, n_epochs, (first, second), ratios))

    def _probabilities(self, network: nn.Module, rows: Tensor) -> Tensor:
        network.eval()
        return predict_in_chunks(
            rows, lambda chunk: network(self.images.centered(chunk)).softmax(1)
        )


def select_small_loss(
    logits: Tensor, labels: Tensor, forget_rate: float, weights: Tensor | None = None
) -> Tensor:
    """Return the indices of the examples with the smallest losses, at least one, by rising loss.

    Of equal losses the first are chosen. The weights are of the classes.

    >>> logits = torch.tensor([[0.0, 3.0], [2.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    >>> select_small_loss(logits, torch.tensor([0, 0, 0, 0]), forget_rate=0.5).tolist()
    [1, 3]
    """
    losses = F.cross_entropy(logits.detach(), labels, weight=weights, reduction="none")
    n_chosen = max(1, int((1 - forget_rate) * len(labels)))
    return losses.argsort(stable=True)[:n_chosen]


def learning_rate_at(epoch: int, recipe: CoteachingRecipe) -> float:
    """Return the learning rate of an epoch, counted from 0, the untrained one.

    >>> [round(learning_rate_at(epoch, CoteachingRecipe()), 6) for epoch in (1, 80, 165, 249)]
    [0.001, 0.001, 0.0005, 6e-06]
    """
    if epoch < recipe.decay_start:
        return recipe.rate
    return recipe.rate * (recipe.epochs - epoch) / (recipe.epochs - recipe.decay_start)


def forget_rate_at(epoch: int, forget_rate: float, gradual_epochs: int) -> float:
    """Return the forget rate of an epoch, counted from 0: it rises linearly from 0.

    >>> [round(forget_rate_at(epoch, 0.2, 10), 4) for epoch in (0, 1, 8, 9, 10)]
    [0.0, 0.0222, 0.1778, 0.2, 0.2]
    """
    return forget_rate * min(1.0, epoch / max(1, gradual_epochs - 1))
