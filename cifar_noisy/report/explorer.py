"""The label explorer's data: chosen examples, their scores, and their thumbnails."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.errors import InvalidInputError

Mask = NDArray[np.bool_]
Scores = Mapping[str, NDArray[np.float64]]

PAGE_SIZE = 300
"""Examples that the explorer shows at once."""

_COLUMNS = 20
_SIDE = 64  # of a thumbnail, in pixels
_EXACT_BYTES = 1 << 20


@dataclass(frozen=True)
class Examples:
    """A labelled dataset, the probabilities of a model, and the label errors that methods found.

    `given` and `true` are labels (N,), `pyx` out-of-sample probabilities (N, K). `found` has a mask
    (N,) per method, True = label error. `images` are uint8 (N, H, W, 3 or 1). `indices` are the
    indices (N,) of each example in other orders, by the name of the order; `votes` are other labels
    (N,) that people gave, by the name of who gave them.
    """

    given: NDArray[np.integer]
    true: NDArray[np.integer]
    pyx: NDArray[np.floating]
    found: Mapping[str, Mask]
    classes: Sequence[str]
    images: NDArray[np.uint8] | None = None
    indices: Mapping[str, NDArray[np.integer]] | None = None
    votes: Mapping[str, NDArray[np.integer]] | None = None

    def __post_init__(self) -> None:
        shapes = {
            "true": (self.true, (len(self.given),)),
            "pyx": (self.pyx, (len(self.given), len(self.classes))),
            **{name: (mask, (len(self.given),)) for name, mask in self.found.items()},
            **{name: (rows, (len(self.given),)) for name, rows in (self.indices or {}).items()},
            **{name: (labels, (len(self.given),)) for name, labels in (self.votes or {}).items()},
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


def explorer_data(examples: Examples, scores: Scores, rows: NDArray[np.intp]) -> dict[str, Any]:
    """Return the data of the page's script, ready for JSON.

    Of every example the page knows labels, scores, indices and which methods flag it; of the
    suspects, `rows`, also the probabilities. ``by_self_confidence`` are places of the suspects.
    """
    confidence = scores["self_confidence"][rows]
    return {
        "classes": list(map(str, examples.classes)),
        "methods": list(map(str, examples.found)),
        "columns": _COLUMNS,
        "page_size": PAGE_SIZE,
        "aspect": _aspect(examples.images),
        "n_examples": len(examples.given),
        "n_flagged": int(np.count_nonzero(_patterns(examples.found, len(examples.given)))),
        "rows": _packed(rows),
        "by_self_confidence": _packed(np.lexsort((rows, -confidence))),
        "given": _packed(examples.given),
        "true": _packed(examples.true),
        "predicted": _packed(examples.pyx.argmax(axis=1)),
        "found": [_packed(np.packbits(f, bitorder="little")) for f in examples.found.values()],
        **{name: _packed(score.astype(np.float32)) for name, score in scores.items()},
        "p": _packed(examples.pyx[rows].astype(np.float32)),
        "indices": {name: _packed(values) for name, values in (examples.indices or {}).items()},
        "votes": {name: _packed(labels) for name, labels in (examples.votes or {}).items()},
    }


def _aspect(images: NDArray[np.uint8] | None) -> float:
    """Return an image's width over its height."""
    return 1 if images is None else images.shape[2] / images.shape[1]


def _packed(array: NDArray[Any]) -> dict[str, str]:
    """Return an array as the name of its type and its bytes in base64: small, and soon read."""
    if array.dtype.kind in "iu":
        array = array.astype(np.min_scalar_type(int(array.max(initial=0))))
    little_endian = array.astype(array.dtype.newbyteorder("<"))
    return {"type": array.dtype.name, "base64": base64.b64encode(little_endian.tobytes()).decode()}


def thumbnail_sheets(images: NDArray[np.uint8]) -> list[str]:
    """Return pictures of the images (N, H, W, 3 or 1) in grids, one a page, as data URIs.

    Few and small images are PNG, as they are. Others are JPEG of high quality, large ones reduced,
    since a page of thousands would be too large to send.
    """
    is_exact = are_exact(images)
    thumbnails = images if is_exact else _reduced(images)
    form: dict[str, Any] = (
        {"format": "PNG", "optimize": True}
        if is_exact
        else {"format": "JPEG", "quality": 90, "subsampling": 0}
    )
    return [
        _sheet(thumbnails[start : start + PAGE_SIZE], form)
        for start in range(0, len(thumbnails), PAGE_SIZE)
    ]


def are_exact(images: NDArray[np.uint8]) -> bool:
    """Say whether thumbnails have the very pixels of the images."""
    return images.nbytes <= _EXACT_BYTES


def _reduced(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the means of so large blocks of pixels that at most `_SIDE` are left either way."""
    n, height, width, channels = images.shape
    down, across = -(-height // _SIDE), -(-width // _SIDE)
    height, width = height // down, width // across
    blocks = images[:, : height * down, : width * across]
    blocks = blocks.reshape(n, height, down, width, across, channels)
    return blocks.mean(axis=(2, 4)).astype(np.uint8) if down * across > 1 else images


def _sheet(images: NDArray[np.uint8], form: Mapping[str, Any]) -> str:
    from PIL import Image

    n, height, width, channels = images.shape
    n_rows = math.ceil(n / _COLUMNS)
    cells = np.zeros((n_rows * _COLUMNS, height, width, channels), dtype=np.uint8)
    cells[:n] = images
    sheet = cells.reshape(n_rows, _COLUMNS, height, width, channels).swapaxes(1, 2)
    sheet = sheet.reshape(n_rows * height, _COLUMNS * width, channels)
    file = io.BytesIO()
    Image.fromarray(sheet if channels == 3 else sheet[..., 0]).save(file, **form)
    encoded = base64.b64encode(file.getvalue()).decode()
    return f"data:image/{form['format'].lower()};base64,{encoded}"
