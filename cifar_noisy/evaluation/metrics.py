"""Masks, scores and probabilities against the given and true labels of a setting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.evaluation.results import Counts, Detection, Fit, Mask, Ranking, count_pairs
from cifar_noisy.loading.artifact_loading import load_noisy_labels, load_true_labels
from cifar_noisy.loading.given_labels import LabelSource
from cifar_noisy.loading.noise_generation import N_CLASSES
from cifar_noisy.records import Records
from cifar_noisy.settings import Method

CALIBRATION_BINS = 15
"""Bins of equal width that the expected calibration error is taken over."""

Labels = NDArray[np.int64]
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class GroundTruth:
    """Given and true labels, in the published order."""

    setting: LabelSource
    given: Labels
    true: Labels
    is_error: Mask
    examples: Counts

    @classmethod
    def of(cls, setting: LabelSource) -> GroundTruth:
        """Load the labels."""
        given, true = load_noisy_labels(setting), load_true_labels()
        return cls(setting, given, true, given != true, count_pairs(given, true, N_CLASSES))

    def detect(self, name: str, flagged: Mask) -> Detection:
        """Compare flagged examples with the label errors."""
        n_flagged = count_pairs(self.given[flagged], self.true[flagged], N_CLASSES)
        return Detection.of(name, self.examples, n_flagged, self.setting)

    def detect_all(self, masks: Mapping[Method, Mask]) -> Records[Detection]:
        """Compare what each method flagged with the label errors."""
        return Records(self.detect(name, flagged) for name, flagged in masks.items())

    def rank(self, name: str, scores: Scores) -> Ranking:
        """Return how well scores put label errors first."""
        if not self.is_error.any():
            return Ranking(name, None, None, None, None, None, self.setting)
        thresholds, n_flagged, n_correct = counts_by_threshold(self.is_error, scores)
        n_errors = int(n_correct[-1])
        precision, f1 = n_correct / n_flagged, 2 * n_correct / (n_flagged + n_errors)
        best = len(f1) - 1 - int(f1[::-1].argmax())  # the lowest of the best thresholds
        # Linear between thresholds: of examples that tie at this rank, their mean counts.
        n_correct_first = np.interp(n_errors, np.append(0, n_flagged), np.append(0, n_correct))
        return Ranking(
            name,
            average_precision=float(precision @ np.diff(n_correct, prepend=0)) / n_errors,
            roc_auc=roc_auc(self.is_error, scores),
            precision_at_n_errors=float(n_correct_first) / n_errors,
            best_f1=float(f1[best]),
            best_cut=float(thresholds[best]),
            setting=self.setting,
        )


def roc_auc(is_error: Mask, scores: Scores) -> float:
    """Return the probability that a label error scores above a right label; ties count half."""
    _, n_flagged, n_correct = counts_by_threshold(is_error, scores)
    n_wrong = np.append(0, n_flagged - n_correct)
    return float(np.trapezoid(np.append(0, n_correct), n_wrong) / (n_correct[-1] * n_wrong[-1]))


def counts_by_threshold(is_error: Mask, scores: Scores) -> tuple[Scores, Counts, Counts]:
    """Return each score, falling, and how many examples and errors have it or a higher one."""
    order = np.argsort(-scores)
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    return scores[order][ends], ends + 1, np.cumsum(is_error[order])[ends]


def prediction_fit(pyx: NDArray[np.floating], labels: Labels) -> Fit:
    """Return accuracy, calibration error and Brier score of probabilities as predictions."""
    probabilities = pyx.astype(np.float64)
    confidence = probabilities.max(axis=1)
    is_hit = probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=confidence - is_hit)
    own = probabilities[np.arange(len(labels)), labels]
    # (p - onehot)^2 summed over a row is the row's squares with the label's own p^2 put right.
    distances = (probabilities**2).sum(axis=1) - 2 * own + 1
    return Fit(
        accuracy=float(is_hit.mean()),
        ece=float(np.abs(gaps).sum() / len(labels)),
        brier=float(distances.mean()),
    )
