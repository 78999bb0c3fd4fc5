"""The label explorer's data: chosen examples, their scores, and their thumbnails."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.confident_learning.scores import label_error_scores
from cifar_noisy.errors import InvalidInputError

Mask = NDArray[np.bool_]

_COLUMNS = 20


@dataclass(frozen=True)
class Examples:
    """A labelled dataset, the probabilities of a model, and the label errors that methods found.

    `given` and `true` are labels (N,), `pyx` out-of-sample probabilities (N, K). `found` has a mask
    (N,) per method, True = label error. `images` are uint8 (N, H, W, 3 or 1). `indices` are the
    indices (N,) of each example in other orders, by the name of the order.
    """

    given: NDArray[np.integer]
    true: NDArray[np.integer]
    pyx: NDArray[np.floating]
    found: Mapping[str, Mask]
    classes: Sequence[str]
    images: NDArray[np.uint8] | None = None
    indices: Mapping[str, NDArray[np.integer]] | None = None

    def __post_init__(self) -> None:
        shapes = {
            "true": (self.true, (len(self.given),)),
            "pyx": (self.pyx, (len(self.given), len(self.classes))),
            **{name: (mask, (len(self.given),)) for name, mask in self.found.items()},
            **{name: (rows, (len(self.given),)) for name, rows in (self.indices or {}).items()},
        }
        for name, (array, expected) in shapes.items():
            if array.shape != expected:
                raise InvalidInputError(
                    f"{name} has shape {array.shape}, where {len(self.given):,} given labels of "
                    f"{len(self.classes)} classes need {expected}: pass arrays of the same examples"
                )
        if self.images is not None and (
            self.images.ndim != 4
            or len(self.images) != len(self.given)
            or self.images.shape[3] not in (1, 3)
            or self.images.dtype != np.uint8
        ):
            raise InvalidInputError(
                f"images are {self.images.dtype} of shape {self.images.shape}: pass uint8 of shape "
                f"({len(self.given)}, height, width, 3 for colour or 1 for grey)"
            )


def suspects(found: Mapping[str, Mask], score: NDArray[np.floating], n: int) -> NDArray[np.intp]:
    """Choose up to `n` flagged examples: half by score, half where methods disagree.

    Every method flags the examples of the highest scores, so those alone would not show how the
    methods differ. The second half is taken in turn from each combination of methods that flag an
    example, by score too. Returned are rows by falling score, then by row.
    """
    patterns = _patterns(found, len(score))
    by_score = np.argsort(-score, kind="stable")
    flagged = by_score[patterns[by_score] != 0]
    rank_in_pattern = np.empty(len(flagged), dtype=np.intp)
    for pattern in np.unique(patterns[flagged]):
        of_pattern = patterns[flagged] == pattern
        rank_in_pattern[of_pattern] = np.arange(np.count_nonzero(of_pattern))
    n_first = n - n // 2
    first, rest = flagged[:n_first], flagged[n_first:]
    in_turn = rest[np.argsort(rank_in_pattern[n_first:], kind="stable")]
    chosen = np.sort(np.concatenate([first, in_turn])[:n])
    return chosen[np.argsort(-score[chosen], kind="stable")]


def _patterns(found: Mapping[str, Mask], n_examples: int) -> NDArray[np.int64]:
    """Return, per example, which methods flag it: bit m for the m-th."""
    patterns = np.zeros(n_examples, dtype=np.int64)
    for bit, mask in enumerate(found.values()):
        patterns |= mask.astype(np.int64) << bit
    return patterns


def explorer_data(examples: Examples, n: int) -> dict[str, Any]:
    """Return the data of the page's script, ready for JSON, of `n` examples at most.

    Bit m of an example's ``flags`` says whether method m flags it; ``p`` are its probabilities.
    """
    scores = label_error_scores(examples.given, examples.pyx)
    rows = suspects(examples.found, scores["normalized_margin"], n)
    patterns = _patterns(examples.found, len(examples.given))
    predicted = examples.pyx.argmax(axis=1)
    return {
        "classes": list(map(str, examples.classes)),
        "methods": list(map(str, examples.found)),
        "columns": _COLUMNS,
        "examples": [
            {
                "row": int(row),
                "indices": {k: int(v[row]) for k, v in (examples.indices or {}).items()},
                "given": int(examples.given[row]),
                "true": int(examples.true[row]),
                "predicted": int(predicted[row]),
                "flags": int(patterns[row]),
                "margin": float(scores["normalized_margin"][row]),
                "self_confidence": float(scores["self_confidence"][row]),
                "p": examples.pyx[row].tolist(),
            }
            for row in rows
        ],
    }


def thumbnail_sheet(images: NDArray[np.uint8]) -> str:
    """Return a PNG of all images (N, H, W, 3 or 1) in a grid, as a data URI."""
    from PIL import Image

    n, height, width, channels = images.shape
    n_rows = max(math.ceil(n / _COLUMNS), 1)
    cells = np.zeros((n_rows * _COLUMNS, height, width, channels), dtype=np.uint8)
    cells[:n] = images
    sheet = cells.reshape(n_rows, _COLUMNS, height, width, channels).swapaxes(1, 2)
    sheet = sheet.reshape(n_rows * height, _COLUMNS * width, channels)
    file = io.BytesIO()
    Image.fromarray(sheet if channels == 3 else sheet[..., 0]).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
