"""The page of a dataset that was trained here, such as the demo's digits."""

from __future__ import annotations

from pathlib import Path

from cifar_noisy.loading.recomputed import read_pyx, read_train_mask
from cifar_noisy.recompute.datasets import Dataset
from cifar_noisy.report.explorer import Examples
from cifar_noisy.report.page import build_page, write_page
from cifar_noisy.settings import CLASSES, METHODS, Setting


def write_retrained_report(out: Path, dataset: Dataset, folder: Path, setting: Setting) -> None:
    """Write the page of a setting whose probabilities and masks `recompute` wrote to a folder."""
    n = len(dataset.labels)
    examples = Examples(
        dataset.noisy_labels(setting),
        dataset.labels,
        read_pyx(folder, setting, n),
        {str(method): ~read_train_mask(folder, setting, method, n) for method in METHODS},
        CLASSES if dataset.name == "cifar10" else [str(digit) for digit in range(10)],
        dataset.pixels,
    )
    write_page(out, build_page(f"Label errors in {dataset.name}: {setting}", examples))
