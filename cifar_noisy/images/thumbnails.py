"""A few images as HTML, for notebooks."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray


def first_of_each_label(
    pixels: NDArray[np.uint8], labels: NDArray[Any], rows: NDArray[np.intp] | None = None
) -> str:
    """Return the first image of each label, side by side in one picture of HTML.

    Item i has the label ``labels[i]`` and the image ``pixels[rows[i]]``, or ``pixels[i]``.
    """
    from PIL import Image

    _, first = np.unique(labels, return_index=True)
    if not len(first):
        return ""
    shown = pixels[first if rows is None else rows[first]]
    file = io.BytesIO()
    Image.fromarray(np.concatenate(list(shown), axis=1)).save(file, "PNG")
    content = base64.b64encode(file.getvalue()).decode()
    style = f"width: {64 * len(first)}px; max-width: 100%; image-rendering: pixelated"
    return (
        f'<p>The first image of each label, in the order of the labels:</p><img style="{style}" '
        f'alt="the first image of each label" src="data:image/png;base64,{content}" />'
    )
