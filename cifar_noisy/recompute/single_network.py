"""Training one network by SGD, and its log in the format of the published ResNet-50 logs."""

from abc import abstractmethod

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from cifar_noisy.recompute.training import Batch, Images, Trainer, Training

_LOGGED_EVERY = 50


class ClassifierTrainer(Trainer):
    """What recipes of one network share; they give its rate and how it predicts.

    Parameters
    ----------
    training, images, epochs, batch_size, drop_last
        As for `Trainer`.
    network : torch.nn.Module
        From (B, C, H, W) images to (B, K) logits.
    optimizer : torch.optim.Optimizer
    is_bfloat16 : bool, default False
        Whether to multiply in bfloat16.
    """

    def __init__(
        self,
        training: Training,
        images: Images,
        epochs: int,
        batch_size: int,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        drop_last: bool = True,
        is_bfloat16: bool = False,
    ) -> None:
        super().__init__(training, images, epochs, batch_size, drop_last)
        self.network, self.optimizer, self.is_bfloat16 = network, optimizer, is_bfloat16
        self.log = [f"Train size: {len(training.train)}"]

    @abstractmethod
    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""

    def predict(self) -> NDArray[np.float32]:
        """Return the (n, K) float32 probabilities of the held-out rows."""
        return self._probabilities(torch.from_numpy(self.training.held_out)).cpu().numpy()

    @abstractmethod
    def _probabilities(self, rows: Tensor) -> Tensor:
        """Return the (n, K) probabilities of rows."""

    def _parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        return {"network": self.network, "optimizer": self.optimizer}

    def _logits(self, images: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.is_bfloat16):
            logits: Tensor = self.network(images)
        return logits.float()

    def _learn(self, batch: Batch) -> list[float]:
        """Return loss, accuracy and accuracy of the top five."""
        self.network.train()
        logits = self._logits(batch.images)
        loss = F.cross_entropy(logits, batch.labels, weight=self.class_weights)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(self.step)
        self.optimizer.step()
        hits = logits.detach().topk(min(5, logits.shape[1])).indices == batch.labels[:, None]
        n = len(batch.labels)
        return [loss.item(), float(hits[:, :1].sum()) / n, float(hits.sum()) / n]

    def _log_step(self, batch: Batch, numbers: list[float], seconds: float, data: float) -> None:
        if batch.number % _LOGGED_EVERY and batch.number + 1 < self.steps_per_epoch:
            return
        means = [total / (batch.number + 1) for total in self.running]
        self.log.append(
            f"Epoch: [{batch.epoch}][{batch.number}/{self.steps_per_epoch}]"
            f"\tTime {seconds:.3f} ({self.seconds / self.step:.3f})\tData {data:.3f} ({data:.3f})"
            f"\tLoss {numbers[0]:.4f} ({means[0]:.4f})"
            f"\tAcc@1 {100 * numbers[1]:.3f} ({100 * means[1]:.3f})"
            f"\tAcc@5 {100 * numbers[2]:.3f} ({100 * means[2]:.3f})"
        )

    def _end_epoch(self, epoch: int) -> None:
        first, five = self._monitor()
        self.log.append(f" * Acc@1 {100 * first:.3f} Acc@5 {100 * five:.3f}")
        # The schedule row comes before the epoch's first batch in the published logs.
        start = len(self.log) - 1 - sum(line.startswith(f"Epoch: [{epoch}]") for line in self.log)
        self.log.insert(start, f"epoch: {epoch + 1} | lr: {self.rate(self.step - 1):.6g}")

    def _monitor(self) -> tuple[float, float]:
        """Return the accuracies of the top one and top five of the monitored rows."""
        top = self._probabilities(self.monitored).topk(min(5, self.training.n_classes)).indices
        hits = top == self.labels[self.monitored.to(self.device)][:, None]
        n = len(self.monitored)
        return hits[:, :1].sum().item() / n, hits.sum().item() / n
