"""Image augmentation on a device: bytes padded once, cropped and flipped a batch at a time.

`batches` and the trainings of `recompute` both take their images from here. They draw the crops of
a whole epoch at once, on the CPU, so that a row's crop follows from seed, epoch and row alone.
"""

import math
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray
from torch import Tensor

PADDING = 4
"""Pixels of padding on each side of a CIFAR-10 image, from which a random crop may take some."""

_CHUNK_ROWS = 5_000


class Crops(NamedTuple):
    """For each image, where its crop starts in the padded image, and whether it is then flipped."""

    down: Tensor  # (n,) int64, 0 to twice the padding
    right: Tensor  # (n,) int64
    flip: Tensor  # (n,) bool

    def select(self, rows: Tensor | slice) -> "Crops":
        """Return the crops of some images."""
        return Crops(self.down[rows], self.right[rows], self.flip[rows])


class PaddedImages:
    """The (n, H, W, C) uint8 images of `rows`, by default all, on a device.

    The buffer holds a frame for each image. With `allow_flip`, a frame for each mirrored image
    follows them: reversing pixels of 3 bytes is slow on a CPU. A frame is one of::

        mode="reflect"              mode="constant" (zeros)
        +---------------+           +-----------+
        |    padding    |           |  padding  |
        |   +-------+   |           |   +-------+  the next row's padding pads this row
        |   | image |   |           |   | image |  on the right, and the next frame's
        |   +-------+   |           +---+-------+  padding pads this image below
        |               |
        +---------------+

    Frames of zeros thus share their padding, and zeros follow the last one. In both layouts a crop
    of frame i starts at byte ``i * frame_bytes + down * row_bytes + right * C``, and consists of H
    runs of W * C bytes that are `row_bytes` apart.
    """

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        padding: int,
        device: torch.device,
        *,
        mode: Literal["constant", "reflect"] = "constant",
        allow_flip: bool = True,
        rows: NDArray[np.intp] | None = None,
    ) -> None:
        rows = np.arange(len(pixels)) if rows is None else rows
        self.n_images, self.shape = len(rows), pixels.shape[1:]
        self.padding, self.device = padding, device
        height, width, channels = self.shape
        after = 0 if mode == "constant" else padding
        frame = (padding + height + after, padding + width + after, channels)
        row_bytes, frame_bytes = frame[1] * channels, math.prod(frame)
        n_frames = self.n_images * (2 if allow_flip else 1)
        buffer = np.zeros(n_frames * frame_bytes + padding * (row_bytes + channels), np.uint8)
        frames = buffer[: n_frames * frame_bytes].reshape(-1, self.n_images, *frame)
        edges = ((0, 0), (padding, after), (padding, after), (0, 0))
        for start in range(0, self.n_images, _CHUNK_ROWS):
            chunk = slice(start, start + _CHUNK_ROWS)
            images = pixels[rows[chunk]]
            frames[0, chunk] = np.pad(images, edges, mode)
            if allow_flip:
                frames[1, chunk] = np.pad(images[:, :, ::-1], edges, mode)
        n_places = 2 * padding + 1
        shape = (n_frames, n_places, n_places, height, width * channels)
        strides = (frame_bytes, row_bytes, channels, row_bytes, 1)
        self._windows: NDArray[np.uint8] | Tensor
        if device.type == "cpu":
            self._windows = as_strided(buffer, shape, strides, writeable=False)
        else:
            self._windows = torch.from_numpy(buffer).to(device).as_strided(shape, strides)

    def crop(self, rows: Tensor, crops: Crops) -> Tensor:
        """Return (B, H, W, C) uint8 on the device: crop, then flip."""
        # Cropping and then flipping is cropping the mirrored image at the mirrored place.
        right = torch.where(crops.flip, 2 * self.padding - crops.right, crops.right)
        place = (rows + crops.flip * self.n_images, crops.down, right)
        if isinstance(self._windows, Tensor):
            images = self._windows[tuple(index.to(self.device) for index in place)]
        else:  # numpy copies whole runs, torch would copy byte by byte
            images = torch.from_numpy(self._windows[tuple(index.numpy() for index in place)])
        return images.view(-1, *self.shape)


class NormalizedImages(PaddedImages):
    """Padded images that come out as (B, C, H, W) float32 ``(pixels - mean) / std``, channels last.

    `mean` and `std` of the channels are of pixel values from 0 to 255.
    """

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        padding: int,
        device: torch.device,
        mean: list[float],
        std: list[float],
        *,
        mode: Literal["constant", "reflect"] = "constant",
        allow_flip: bool = True,
    ) -> None:
        super().__init__(pixels, padding, device, mode=mode, allow_flip=allow_flip)
        self.side = self.shape[0]
        self.mean = torch.tensor(mean, dtype=torch.float32, device=device)
        self.std = torch.tensor(std, dtype=torch.float32, device=device)

    def augmented(self, rows: Tensor, crops: Crops) -> Tensor:
        """Return rows cropped, flipped and normalised."""
        return ((self.crop(rows, crops) - self.mean) / self.std).permute(0, 3, 1, 2)

    def centered(self, rows: Tensor, flip: bool = False, offset: int = 0) -> Tensor:
        """Return rows normalised as they are, or mirrored, or moved up and left by some pixels."""
        like: Any = {"size": (len(rows),), "device": rows.device}
        place = torch.full(fill_value=self.padding + offset, dtype=torch.int64, **like)
        flips = torch.full(fill_value=flip, dtype=torch.bool, **like)
        return self.augmented(rows, Crops(place, place, flips))


def resize(images: Tensor, side: int) -> Tensor:
    """Return (B, C, side, side) images, antialiased."""
    if images.shape[2] == side:
        return images
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True)
