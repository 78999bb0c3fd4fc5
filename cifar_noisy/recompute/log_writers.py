"""Lines of training logs in the formats of the published ones, which `parse_training_log` reads."""

from typing import NamedTuple

LOG_INTERVAL = 50
"""Batches between two lines of a log."""


class SingleNetworkMetrics(NamedTuple):
    """Loss, accuracy and accuracy of the top five classes; accuracies are from 0 to 1.

    Of a batch, or the totals or means over the batches of an epoch.
    """

    loss: float = 0.0
    top1: float = 0.0
    top5: float = 0.0


class CoteachingMetrics(NamedTuple):
    """Of both networks: loss, accuracy, and share of right labels among the small losses."""

    loss_1: float = 0.0
    loss_2: float = 0.0
    accuracy_1: float = 0.0
    accuracy_2: float = 0.0
    pure_ratio_1: float = 0.0
    pure_ratio_2: float = 0.0


Metrics = SingleNetworkMetrics | CoteachingMetrics


class BatchTime(NamedTuple):
    """Seconds of a batch, of its data alone, and of a batch on average."""

    total: float
    data: float
    mean: float


def resnet50_batch(
    epoch: int, batch: int, n_batches: int, time: BatchTime,
    now: SingleNetworkMetrics, mean: SingleNetworkMetrics,
) -> str:  # fmt: skip
    """Return the line of a batch; epoch and batch are counted from 0."""
    return (
        f"Epoch: [{epoch}][{batch}/{n_batches}]"
        f"\tTime {time.total:.3f} ({time.mean:.3f})\tData {time.data:.3f} ({time.data:.3f})"
        f"\tLoss {now.loss:.4f} ({mean.loss:.4f})"
        f"\tAcc@1 {100 * now.top1:.3f} ({100 * mean.top1:.3f})"
        f"\tAcc@5 {100 * now.top5:.3f} ({100 * mean.top5:.3f})"
    )


def coteaching_batch(
    epoch: int, n_epochs: int, batch: int, n_batches: int,
    now: CoteachingMetrics, totals: CoteachingMetrics,
) -> str:  # fmt: skip
    """Return the line of a batch; epoch and batch are counted from 1."""
    return (
        f"Epoch [{epoch}/{n_epochs}], Iter [{batch}/{n_batches}] "
        f"Training Accuracy1: {100 * now.accuracy_1:.4f}, "
        f"Training Accuracy2: {100 * now.accuracy_2:.4f}, "
        f"Loss1: {now.loss_1:.4f}, Loss2: {now.loss_2:.4f}, "
        f"Pure Ratio1: {100 * totals.pure_ratio_1 / batch:.4f}, "
        f"Pure Ratio2 {100 * totals.pure_ratio_2 / batch:.4f}"
    )


def coteaching_evaluation(
    epoch: int, n_epochs: int, accuracies: tuple[float, float], ratios: tuple[float, float] | None
) -> str:
    """Return the line of an epoch, counted from 1; the untrained networks have no pure ratios."""
    said = "% Pure Ratio1 0.0000 % Pure Ratio2 0.0000 %"
    if ratios is not None:
        said = f"%, Pure Ratio 1 {ratios[0]:.4f} %, Pure Ratio 2 {ratios[1]:.4f} %"
    # The published logs print this number of test images however many they evaluated.
    return (
        f"Epoch [{epoch}/{n_epochs}] Test Accuracy on the 10000 test images: "
        f"Model1 {accuracies[0]:.4f} % Model2 {accuracies[1]:.4f} {said}"
    )
