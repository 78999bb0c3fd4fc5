"""The page of a dataset that was trained here, such as the demo's digits."""

from __future__ import annotations

from pathlib import Path

from cifar_noisy.evaluation.evaluate import count_pairs
from cifar_noisy.evaluation.metrics import prediction_fit
from cifar_noisy.loading.artifact_loading import load_noise_matrix
from cifar_noisy.loading.recomputed import read_pyx, read_train_mask
from cifar_noisy.recompute.datasets import Dataset
from cifar_noisy.report.explorer import Examples
from cifar_noisy.report.page import build_page, noise_figure, write_page
from cifar_noisy.settings import CLASSES, METHODS, Setting


def write_retrained_report(out: Path, dataset: Dataset, folder: Path, setting: Setting) -> None:
    """Write the page of a setting whose probabilities and masks `recompute` wrote to a folder."""
    n = len(dataset.labels)
    classes = CLASSES if dataset.name == "cifar10" else [str(digit) for digit in range(10)]
    given = dataset.noisy_labels(setting)
    examples = Examples(
        given,
        dataset.labels,
        read_pyx(folder, setting, n),
        {str(method): ~read_train_mask(folder, setting, method, n) for method in METHODS},
        classes,
        dataset.pixels,
    )
    matrix, counts = load_noise_matrix(setting), count_pairs(given, dataset.labels, len(classes))
    against_given, against_true = (
        prediction_fit(examples.pyx, labels) for labels in (given, dataset.labels)
    )
    page = build_page(
        f"Label errors in {dataset.name}: {setting}",
        examples,
        lead="The probabilities and masks of a network that was trained here: of each fold of the "
        "data, by training on the others.",
        facts={
            "Accuracy against given labels": f"{against_given.accuracy:.2%}",
            "Calibration, true labels": f"ECE {against_true.ece:.4f}, Brier score "
            f"{against_true.brier:.4f}",
        },
        figures=[noise_figure(matrix, counts, classes, is_drawn=True)],
    )
    write_page(out, page)
