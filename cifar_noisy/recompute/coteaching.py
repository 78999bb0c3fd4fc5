"""Co-Teaching (Han et al. 2018): two networks, each learning from what the other finds easy.

As in the runs of February 2020 whose logs were published: crops and flips, pixels from 0 to 1
without further normalisation, the loss of both networks weighted by class. Their 250 epochs are one
evaluation of the untrained networks and 249 epochs of training; so here. (The paper's Table 2 used
350 epochs and forget rates of 0.1, 0.2 and 0.3.)

Put right are three faults of those runs: dropout stayed on in evaluations, the last 16 test images
were left out, and the "Pure Ratio" compared labels of different examples.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from cifar_noisy.errors import InvalidInputError
from cifar_noisy.recompute.training import (
    LARGEST,
    Batch,
    Images,
    Trainer,
    Training,
    check_ranges,
    in_parts,
    make_network,
)

_LOGGED_EVERY = 50
_SIDE_WITHOUT_PADDING = 28  # halved twice, it leaves a pixel after three convolutions


@dataclass(frozen=True)
class CoteachingRecipe:
    """The hyperparameters of the published runs.

    Attributes
    ----------
    epochs : int
        As the published logs count them: the first is an evaluation before any training.
    batch_size : int
        Images per step; what is left over at the end of an epoch is dropped.
    rate : float
        Of Adam.
    decay_start : int
        Epoch, counted from 0, from which on the rate falls in a straight line to 0.
    late_beta1 : float
        Adam's beta1 from that epoch on; it is 0.9 before.
    forget_rate : float
        Share of each batch that is not learned from in the end.
    estimate_forget_rate : bool
        Whether to take instead the share of label errors that the probabilities say is left.
    gradual_epochs : int
        Epochs in which the forget rate rises from 0.
    padding : int
        Pixels of zeros on each side, of which the random crop takes some.
    width : int
        Channels of the first convolutions.

    Raises
    ------
    InvalidInputError
        If a value makes no sense.
    """

    epochs: int = 250
    batch_size: int = 128
    rate: float = 0.001
    decay_start: int = 80
    late_beta1: float = 0.1
    forget_rate: float = 0.2
    estimate_forget_rate: bool = False
    gradual_epochs: int = 10
    padding: int = 4
    width: int = 128

    def __post_init__(self) -> None:
        if self.epochs < 2:
            raise InvalidInputError(
                f"coteaching.epochs is {self.epochs}: the first is an evaluation, so use 2 or more"
            )
        check_ranges(
            self, "coteaching.", batch_size=(2, LARGEST), rate=(1e-9, LARGEST),
            decay_start=(0, LARGEST), late_beta1=(0, 0.999), forget_rate=(0, 0.999),
            gradual_epochs=(0, LARGEST), padding=(0, 64), width=(1, 4096),
        )  # fmt: skip


class CNN(nn.Module):
    """Nine convolutions, each with batch normalisation and a leaky ReLU, and a linear layer."""

    def __init__(self, n_channels: int, n_classes: int, width: int, side: int) -> None:
        super().__init__()
        # Images smaller than CIFAR-10's would vanish without padding.
        last = 0 if side >= _SIDE_WITHOUT_PADDING else 1
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
    """Trains two networks by the recipe; the first predicts.

    Parameters
    ----------
    recipe : CoteachingRecipe
    training : Training
    device : str
    forget_rate : float, optional
        By default the recipe's.

    Raises
    ------
    InvalidInputError
        If a batch is larger than the training set.
    """

    def __init__(
        self,
        recipe: CoteachingRecipe,
        training: Training,
        device: str = "cpu",
        forget_rate: float | None = None,
    ) -> None:
        self.recipe, place = recipe, torch.device(device)
        self.forget_rate = recipe.forget_rate if forget_rate is None else forget_rate
        _, side, _, n_channels = training.pixels.shape
        images = Images(
            training.pixels,
            recipe.padding,
            "constant",
            [0.0] * n_channels,
            [255.0] * n_channels,
            place,
        )
        super().__init__(training, images, recipe.epochs - 1, recipe.batch_size)
        self.networks = [
            make_network(
                training,
                lambda: CNN(n_channels, training.n_classes, recipe.width, side),
                part,
                place,
            )
            for part in ("weights 1", "weights 2")
        ]
        self.optimizers = [
            torch.optim.Adam(network.parameters(), lr=recipe.rate) for network in self.networks
        ]
        self.log = [f"('Train size:', {len(training.train)})"]
        if training.is_clean is not None:
            noise = 1 - training.is_clean[training.train].mean()
            self.log.append(f"Actual noise {noise:.2f}")

    def predict(self) -> NDArray[np.float32]:
        """Return the (n, K) float32 probabilities of the held-out rows, of the first network."""
        rows = torch.from_numpy(self.training.held_out)
        return self._probabilities(self.networks[0], rows).cpu().numpy()

    def _parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        names = ("network 1", "network 2", "optimizer 1", "optimizer 2")
        return dict(zip(names, [*self.networks, *self.optimizers], strict=True))

    def _rate_name(self) -> str:
        return f"coteaching.rate ({self.recipe.rate:g})"

    def _begin(self) -> None:
        self._evaluate(1, "%", "Pure Ratio1 0.0000 %", "Pure Ratio2 0.0000 %")

    def _learn(self, batch: Batch) -> list[float]:
        """Return losses, accuracies and pure ratios of both networks."""
        epoch = batch.epoch + 1  # the untrained networks were epoch 0
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate_at(epoch, self.recipe)
                is_late = epoch >= self.recipe.decay_start
                group["betas"] = (self.recipe.late_beta1 if is_late else 0.9, 0.999)
        logits = self._dropped_out(batch)
        kept = [small_losses(some, batch.labels, self._rate(epoch), self.class_weights)
                for some in logits]  # fmt: skip
        losses = [
            F.cross_entropy(some[rows], batch.labels[rows], weight=self.class_weights)
            for some, rows in zip(logits, reversed(kept), strict=True)
        ]
        for optimizer, loss in zip(self.optimizers, losses, strict=True):
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        hits = [(some.argmax(1) == batch.labels).float().mean().item() for some in logits]
        pure = [self._pure_ratio(batch.rows[rows.cpu()]) for rows in kept]
        return [*(loss.item() for loss in losses), *hits, *pure]

    def _dropped_out(self, batch: Batch) -> list[Tensor]:
        """Return both networks' logits, dropout drawn from the step and nothing else."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            seed = self.training.seed(f"{batch.epoch}/{batch.number}")
            torch.default_generator.manual_seed(seed)
            if devices:
                with torch.cuda.device(self.device):
                    torch.cuda.manual_seed(seed)
            return [network.train()(batch.images) for network in self.networks]

    def _rate(self, epoch: int) -> float:
        return forget_rate_at(epoch, self.forget_rate, self.recipe.gradual_epochs)

    def _pure_ratio(self, rows: Tensor) -> float:
        """Return how many of the rows that are learned from have the true label."""
        is_clean = self.training.is_clean
        return 0.0 if is_clean is None else float(is_clean[rows.numpy()].mean())

    def _log_step(self, batch: Batch, numbers: list[float], seconds: float, data: float) -> None:
        number = batch.number + 1
        if number % _LOGGED_EVERY and number < self.steps_per_epoch:
            return
        pure = [100 * total / number for total in self.running[4:]]
        self.log.append(
            f"Epoch [{batch.epoch + 2}/{self.recipe.epochs}], "
            f"Iter [{number}/{self.steps_per_epoch}] "
            f"Training Accuracy1: {100 * numbers[2]:.4f}, "
            f"Training Accuracy2: {100 * numbers[3]:.4f}, "
            f"Loss1: {numbers[0]:.4f}, Loss2: {numbers[1]:.4f}, "
            f"Pure Ratio1: {pure[0]:.4f}, Pure Ratio2 {pure[1]:.4f}"
        )

    def _end_epoch(self, epoch: int) -> None:
        pure = [100 * total / self.steps_per_epoch for total in self.running[4:]]
        ratios = [f"Pure Ratio {k} {ratio:.4f} %" for k, ratio in enumerate(pure, start=1)]
        self._evaluate(epoch + 2, "%,", f"{ratios[0]},", ratios[1])

    def _evaluate(self, epoch: int, *words: str) -> None:
        """Log the accuracies of an epoch, in the spelling that the published logs have for it."""
        labels = self.labels[self.monitored.to(self.device)]
        first, second = (
            100 * (self._probabilities(network, self.monitored).argmax(1) == labels).sum().item()
            / len(labels)
            for network in self.networks
        )  # fmt: skip
        # The published logs print this number of test images however many they evaluated.
        self.log.append(
            f"Epoch [{epoch}/{self.recipe.epochs}] Test Accuracy on the 10000 test images: "
            f"Model1 {first:.4f} % Model2 {second:.4f} {' '.join(words)}"
        )

    def _probabilities(self, network: nn.Module, rows: Tensor) -> Tensor:
        network.eval()
        return in_parts(rows, lambda some: network(self.images.centred(some)).softmax(1))


def small_losses(
    logits: Tensor, labels: Tensor, forget_rate: float, weights: Tensor | None = None
) -> Tensor:
    """Return the examples of a batch that a network finds easiest, one at least.

    Parameters
    ----------
    logits : (B, K) float32
    labels : (B,) int64
    forget_rate : float
    weights : (K,) float32, optional
        Of the classes.

    Returns
    -------
    (n,) int64
        By rising loss; of equal losses, the first.

    Examples
    --------
    >>> logits = torch.tensor([[0.0, 3.0], [2.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    >>> small_losses(logits, torch.tensor([0, 0, 0, 0]), forget_rate=0.5).tolist()
    [1, 3]
    """
    losses = F.cross_entropy(logits.detach(), labels, weight=weights, reduction="none")
    n_kept = max(1, int((1 - forget_rate) * len(labels)))
    return losses.argsort(stable=True)[:n_kept]


def rate_at(epoch: int, recipe: CoteachingRecipe) -> float:
    """Return the learning rate of an epoch, counted from 0, the untrained one.

    Examples
    --------
    >>> [round(rate_at(epoch, CoteachingRecipe()), 6) for epoch in (1, 80, 165, 249)]
    [0.001, 0.001, 0.0005, 6e-06]
    """
    if epoch < recipe.decay_start:
        return recipe.rate
    return recipe.rate * (recipe.epochs - epoch) / (recipe.epochs - recipe.decay_start)


def forget_rate_at(epoch: int, forget_rate: float, gradual_epochs: int) -> float:
    """Return the forget rate of an epoch, counted from 0: from 0 up in a straight line.

    Examples
    --------
    >>> [round(forget_rate_at(epoch, 0.2, 10), 4) for epoch in (0, 1, 8, 9, 10)]
    [0.0, 0.0222, 0.1778, 0.2, 0.2]
    """
    return forget_rate * min(1.0, epoch / max(1, gradual_epochs - 1))
