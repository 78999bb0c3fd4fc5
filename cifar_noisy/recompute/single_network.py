"""Training one network by SGD, and its log in the format of the published ResNet-50 logs."""

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from cifar_noisy.recompute.log_writers import (
    LOG_INTERVAL,
    BatchTime,
    SingleNetworkMetrics,
    resnet50_batch,
)
from cifar_noisy.recompute.training import Trainer, TrainingBatch, predict_in_chunks


class SingleNetworkTrainer(Trainer):
    """What recipes of one network share; they make it, and give its learning rate."""

    metrics_type = SingleNetworkMetrics
    network: nn.Module
    optimizer: torch.optim.Optimizer
    use_bfloat16 = False

    @abstractmethod
    def _learning_rate(self, step: int) -> float:
        """Return the learning rate of a step."""

    def predict(self) -> NDArray[np.float32]:
        """Return the (n, K) float32 probabilities of the held-out rows."""
        return self._probabilities(self.held_out_rows).cpu().numpy()

    def _probabilities(self, rows: Tensor) -> Tensor:
        """Return the (n, K) probabilities of rows."""
        self.network.eval()
        return predict_in_chunks(
            rows, lambda chunk: self._logits(self.images.centered(chunk)).softmax(1)
        )

    def _select_weights(self, accuracy: float) -> None:
        """Choose after each epoch which weights predict; by default the last ones do."""

    def _stateful_modules(self) -> dict[str, Any]:
        return {"network": self.network, "optimizer": self.optimizer}

    def _logits(self, images: Tensor) -> Tensor:
        # Without a cache: within another autocast, even a disabled one, the copies of the weights
        # that a cache holds outlive the step, and every later one would see the first weights.
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.use_bfloat16, cache_enabled=False
        ):
            logits: Tensor = self.network(images)
        return logits.float()

    def _train_batch(self, batch: TrainingBatch) -> Tensor:
        self.network.train()
        logits = self._logits(batch.images)
        loss = F.cross_entropy(logits, batch.labels, weight=self.class_weights)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate(self.step)
        self.optimizer.step()
        return torch.stack([loss.detach().double(), *_accuracies(logits.detach(), batch.labels)])

    def _is_logged(self, number: int) -> bool:
        return number % LOG_INTERVAL == 0 or number + 1 == self.steps_per_epoch

    def _log_batch(
        self, batch: TrainingBatch, metrics: SingleNetworkMetrics, seconds: BatchTime
    ) -> None:
        mean = SingleNetworkMetrics(*(total / (batch.number + 1) for total in self.totals))
        self.log.append(
            resnet50_batch(batch.epoch, batch.number, self.steps_per_epoch, seconds, metrics, mean)
        )

    def _on_epoch_start(self, epoch: int) -> None:
        last_step = (epoch + 1) * self.steps_per_epoch - 1
        self.log.append(f"epoch: {epoch + 1} | lr: {self._learning_rate(last_step):.6g}")

    def _on_epoch_end(self, epoch: int) -> None:
        labels = self.labels[self.monitored]
        top1, top5 = torch.stack(_accuracies(self._probabilities(self.monitored), labels)).tolist()
        self._select_weights(top1)
        self.log.append(f" * Acc@1 {100 * top1:.3f} Acc@5 {100 * top5:.3f}")


def _accuracies(scores: Tensor, labels: Tensor) -> list[Tensor]:
    """Return the accuracies, float64, of the first class and of the first five."""
    hits = scores.topk(min(5, scores.shape[1])).indices == labels[:, None]
    return [hits[:, :1].sum().double() / len(labels), hits.sum().double() / len(labels)]
