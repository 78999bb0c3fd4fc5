"""The five methods as plain loops over examples, classes and ranks, written from the rules."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

KEPT = 5


def label_errors(
    labels: NDArray[np.integer], pyx: NDArray[np.floating]
) -> dict[str, NDArray[np.bool_]]:
    """Return the label errors of each method, one example at a time."""
    n, k = pyx.shape
    counts = [sum(1 for label in labels if label == j) for j in range(k)]
    predicted = [_argmax(pyx[i]) for i in range(n)]
    confident = _confident(labels, pyx, predicted)
    kept = _kept(_calibrated(labels, confident, counts))

    by_class, by_rate = [False] * n, [False] * n
    for given in range(k):
        members = [i for i in range(n) if labels[i] == given]
        if len(members) <= KEPT:
            continue
        own = sorted(float(pyx[i, given]) for i in members)
        cut = own[counts[given] - kept[given][given]]
        for i in members:
            by_class[i] = float(pyx[i, given]) < cut
        for true in range(k):
            if true != given and kept[given][true] > 0:
                margins = [_margin(pyx[i, true], pyx[i, given]) for i in members]
                cut = sorted(margins, reverse=True)[kept[given][true] - 1]
                for i, margin in zip(members, margins, strict=True):
                    by_rate[i] = by_rate[i] or margin >= cut

    differs = [predicted[i] != labels[i] for i in range(n)]
    found = {
        "argmax": differs,
        "conf_joint_only": [confident[i] not in (None, labels[i]) for i in range(n)],
        "cl_pbc": [by_class[i] and differs[i] for i in range(n)],
        "cl_pbnr": [by_rate[i] and differs[i] for i in range(n)],
        "cl_both": [by_class[i] and by_rate[i] and differs[i] for i in range(n)],
    }
    return {method: np.array(mask) for method, mask in found.items()}


def _argmax(row: Sequence[float]) -> int:
    best = 0
    for k, value in enumerate(row):
        if value > row[best]:
            best = k
    return best


def _margin(other: np.floating, own: np.floating) -> float:
    if other.dtype == np.float16:
        return float(np.float32(other) - np.float32(own))
    return float(other - own)


def _confident(
    labels: NDArray[np.integer], pyx: NDArray[np.floating], predicted: list[int]
) -> list[int | None]:
    cuts = []
    for k in range(pyx.shape[1]):
        members = pyx[labels == k, k]
        if len(members) == 0:
            cuts.append(math.inf)
        elif pyx.dtype == np.float16:
            # Pairwise summation in float32 is numpy's; its result is part of the rule.
            threshold = max(np.float16(np.mean(members, dtype=np.float32)), np.float16(2e-6))
            cuts.append(float(np.float16(threshold - np.float16(1e-6))))
        else:
            cuts.append(max(float(np.mean(members, dtype=np.float64)), 2e-6) - 1e-6)
    confident: list[int | None] = []
    for i in range(len(labels)):
        reached = [k for k in range(pyx.shape[1]) if float(pyx[i, k]) >= cuts[k]]
        if not reached:
            confident.append(None)
        else:
            confident.append(reached[0] if len(reached) == 1 else predicted[i])
    return confident


def _calibrated(
    labels: NDArray[np.integer], confident: list[int | None], counts: list[int]
) -> list[list[int]]:
    k = len(counts)
    joint = [[0] * k for _ in range(k)]
    for label, true in zip(labels, confident, strict=True):
        if true is not None:
            joint[label][true] += 1
    for j in range(k):
        joint[j][j] = max(joint[j][j], 1)
    scaled = np.array(
        [[joint[j][i] / sum(joint[j]) * counts[j] for i in range(k)] for j in range(k)]
    )
    # Summed row by row, by numpy: the last bit of the total depends on the order.
    scaled = scaled / np.sum(scaled) * sum(counts)
    return [_rounded(list(map(float, row))) for row in scaled]


def _rounded(row: list[float]) -> list[int]:
    """Round to the nearest, then mend the sum where the remainder is largest."""
    whole = [round(value) for value in row]
    missing = round(math.fsum(row)) - sum(whole)
    ranked = sorted(range(len(row)), key=lambda i: row[i] - whole[i])
    for i in list(reversed(ranked))[:missing] if missing > 0 else ranked[:-missing]:
        whole[i] += 1 if missing > 0 else -1
    return whole


def _kept(calibrated: list[list[int]]) -> list[list[int]]:
    kept = []
    for given, row in enumerate(calibrated):
        diagonal = max(row[given], KEPT)
        donors = max(sum(1 for count in row if count) - 1, 1)
        each = (diagonal - row[given]) / donors
        kept.append(
            [
                diagonal if true == given else int(max(count - each, 0))
                for true, count in enumerate(row)
            ]
        )
    return kept
