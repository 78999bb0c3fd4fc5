"""Batches for training loops: pixels on the device as bytes, augmented a whole batch at a time.

There are no workers and no Python per image. What an epoch does to an item follows from the seed,
the epoch and the item alone, so it is the same for any batch size and number of processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray
from torch.utils.data import Subset

from cifar_noisy.dataset import NoisyCIFAR10
from cifar_noisy.errors import InvalidInputError

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)
"""Mean and standard deviation of the train set's pixels per channel, in units of 255."""

PADDING = 4
"""Pixels by which a random crop may be off the middle; what it finds there is black."""

_ROWS_AT_ONCE = 5_000

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def batches(
    dataset: NoisyCIFAR10 | Subset[object],
    batch_size: int,
    *,
    device: str | torch.device = "cpu",
    augment: bool | None = None,
    shuffle: bool | None = None,
    drop_last: bool = False,
    mean: Sequence[float] = CIFAR10_MEAN,
    std: Sequence[float] = CIFAR10_STD,
    seed: int = 0,
    epoch: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> Batches:
    """Return an iterable of device-resident batches, one epoch each time it is iterated over.

    Parameters
    ----------
    dataset : NoisyCIFAR10 or Subset of one
        Without transforms, which would not be called: images come cropped, flipped and normalised.
    batch_size : int
        Images of a batch, in this process.
    device : str or torch.device, default "cpu"
        Where the batches are wanted. The pixels are kept there as bytes: 154 MB for the train set,
        389 MB with `augment`; on a CPU without `augment` the memory map serves.
    augment : bool, optional
        Crop at random from the image padded by 4 black pixels on each side, and flip left to right
        every other time; by default for the train set and not for the test set.
    shuffle : bool, optional
        Go through the items in random order; by default as `augment`.
    drop_last : bool, default False
        Leave out a last batch that is not full.
    mean, std : sequence of 3 floats
        Of the channels, in units of 255: images are ``(pixels / 255 - mean) / std``.
    seed, epoch : int
        What the shuffling and augmentation follow from. `epoch` is the first one; each iteration
        goes on to the next, and setting the iterable's ``epoch`` chooses one.
    rank, world_size : int
        This process among those that share an epoch, as in ``DistributedSampler``: items are dealt
        out in turn, and the first of the epoch again where they do not go up.

    Returns
    -------
    Batches
        Yields (b, 3, 32, 32) float32 images, (b,) int64 labels and (b,) int64 index, the images'
        rows in the published arrays. Its length is the number of batches.

    Raises
    ------
    InvalidInputError
        If the dataset is another one or has transforms, or a number makes no sense.

    Examples
    --------
    >>> train = NoisyCIFAR10("data", noise=0.4, sparsity=0.2)  # doctest: +SKIP
    >>> for images, labels, index in batches(train, 256, seed=1):  # doctest: +SKIP
    ...     ...
    """
    noisy, positions = _resolved(dataset)
    if batch_size < 1:
        raise InvalidInputError(f"batch_size is {batch_size}: it must be 1 or more")
    if not 0 <= rank < world_size:
        raise InvalidInputError(
            f"rank {rank} does not go with world_size {world_size}: ranks go from 0 to "
            "world_size - 1"
        )
    if min(seed, epoch) < 0:
        raise InvalidInputError(f"seed {seed} and epoch {epoch} must not be negative")
    return Batches(
        noisy,
        positions,
        batch_size,
        torch.device(device),
        noisy.train if augment is None else augment,
        noisy.train if shuffle is None else shuffle,
        drop_last,
        (mean, std),
        (seed, epoch),
        (rank, world_size),
    )


class Batches:
    """What `batches` returns.

    Attributes
    ----------
    epoch : int
        The epoch that the next iteration goes through.
    """

    def __init__(
        self,
        dataset: NoisyCIFAR10,
        positions: NDArray[np.intp],
        batch_size: int,
        device: torch.device,
        augment: bool,
        shuffle: bool,
        drop_last: bool,
        mean_std: tuple[Sequence[float], Sequence[float]],
        seed_epoch: tuple[int, int],
        rank_of: tuple[int, int],
    ) -> None:
        self._positions = positions
        self._batch_size = batch_size
        self._device = device
        self._shuffle = shuffle
        self._drop_last = drop_last
        self._seed, self.epoch = seed_epoch
        self._rank, self._world_size = rank_of
        mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in mean_std)
        # (x / 255 - mean) / std in two passes instead of three.
        self._scale, self._shift = 1 / (255 * std), -mean / std
        self._rows = torch.from_numpy(np.array(dataset.index))
        self._targets = torch.from_numpy(np.array(dataset.targets)).to(device)
        self._index = self._rows.to(device)
        self._n_rows = len(dataset.images)
        self._pixels = _PaddedPixels(dataset, device) if augment else _Pixels(dataset, device)

    def __len__(self) -> int:
        n_mine = -(-len(self._positions) // self._world_size)
        if self._drop_last:
            return n_mine // self._batch_size
        return -(-n_mine // self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        generator = _generator(self._seed, self.epoch)
        self.epoch += 1
        n_items = len(self._positions)
        order = torch.randperm(n_items, generator=generator) if self._shuffle else None
        # Drawn for every row of the data set, so that a row's do not hang on who else is in it.
        draws = torch.rand((3, self._n_rows), generator=generator)
        mine = torch.from_numpy(self._positions)[torch.arange(n_items) if order is None else order]
        n_mine = -(-n_items // self._world_size)
        mine = mine[torch.arange(self._rank, n_mine * self._world_size, self._world_size) % n_items]
        for number in range(len(self)):
            positions = mine[number * self._batch_size : (number + 1) * self._batch_size]
            yield self._batch(positions, draws)

    def _batch(self, positions: torch.Tensor, draws: torch.Tensor) -> Batch:
        images = self._taken(positions, draws).permute(0, 3, 1, 2)
        # One pass that changes layout and type together.
        images = images.to(torch.float32, memory_format=torch.contiguous_format)
        images.mul_(self._scale).add_(self._shift)
        chosen = positions.to(self._device)
        return images, self._targets[chosen], self._index[chosen]

    def _taken(self, positions: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        if isinstance(self._pixels, _Pixels):
            return self._pixels.take(positions)
        down, right, flip = draws[:, self._rows[positions]]
        n_places = 2 * PADDING + 1
        return self._pixels.take(
            positions, (down * n_places).long(), (right * n_places).long(), flip < 0.5
        )


class _Pixels:
    """The items' pixels on a device as they are, (n, 3072) uint8."""

    def __init__(self, dataset: NoisyCIFAR10, device: torch.device) -> None:
        self._shape = dataset.images.pixels.shape[1:]
        flat = dataset.data.reshape(len(dataset), -1)
        on_cpu = device.type == "cpu"
        self._flat = flat if on_cpu else torch.from_numpy(np.array(flat)).to(device)

    def take(self, positions: torch.Tensor) -> torch.Tensor:
        """Return (b, 32, 32, 3) uint8 on the device, for positions on the CPU."""
        if isinstance(self._flat, torch.Tensor):
            taken = self._flat.index_select(0, positions.to(self._flat.device))
        else:
            taken = torch.from_numpy(self._flat.take(positions.numpy(), axis=0))
        return taken.view(-1, *self._shape)


class _PaddedPixels:
    """The items' pixels on a device, padded for random crops, and the same mirrored.

    Black pixels follow each row of an image and black rows each image; they pad what comes before
    them and what comes after. So a random crop is one run of bytes per row, wherever it lies. The
    mirrored images spare turning around pixels of 3 bytes, which is slow on a CPU.
    """

    def __init__(self, dataset: NoisyCIFAR10, device: torch.device) -> None:
        self._n_items = len(dataset)
        self._height, self._width, self._channels = dataset.images.pixels.shape[1:]
        self._row = (self._width + PADDING) * self._channels
        self._image = (self._height + PADDING) * self._row
        head = PADDING * self._row + PADDING * self._channels
        store = np.zeros(head + 2 * self._n_items * self._image + head, np.uint8)
        images = store[head:-head].reshape(2, self._n_items, self._height + PADDING, -1)
        pixels = images.reshape(*images.shape[:3], self._width + PADDING, self._channels)
        pixels = pixels[:, :, : self._height, : self._width]
        for start in range(0, self._n_items, _ROWS_AT_ONCE):
            some = dataset.images.pixels[dataset.index[start : start + _ROWS_AT_ONCE]]
            pixels[0, start : start + len(some)] = some
            pixels[1, start : start + len(some)] = some[:, :, ::-1]
        self._store = torch.from_numpy(store).to(device)

    def take(
        self, positions: torch.Tensor, down: torch.Tensor, right: torch.Tensor, flip: torch.Tensor
    ) -> torch.Tensor:
        """Return items padded, cropped from `down` and `right`, and then flipped where told."""
        # Cropping and then flipping is cropping the mirrored image at the mirrored place.
        right = torch.where(flip, 2 * PADDING - right, right)
        place = (positions + flip * self._n_items, down, right)
        n_places = 2 * PADDING + 1
        window = (self._height, self._width * self._channels)
        shape = (2 * self._n_items, n_places, n_places, *window)
        strides = (self._image, self._row, self._channels, self._row, 1)
        if self._store.device.type == "cpu":
            # numpy copies whole rows of a window, torch byte by byte.
            views = as_strided(self._store.numpy(), shape, strides, writeable=False)
            taken = torch.from_numpy(views[tuple(index.numpy() for index in place)])
        else:
            on_device = tuple(index.to(self._store.device) for index in place)
            taken = self._store.as_strided(shape, strides)[on_device]
        return taken.view(-1, self._height, self._width, self._channels)


def _generator(seed: int, epoch: int) -> torch.Generator:
    """Return a generator for one epoch; a sum of the two would repeat itself."""
    state = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]) >> 1)


def _resolved(dataset: object) -> tuple[NoisyCIFAR10, NDArray[np.intp]]:
    """Return the dataset under any subsets, and the positions in it that they choose."""
    positions: NDArray[np.intp] | None = None
    while isinstance(dataset, Subset):
        chosen = np.asarray(dataset.indices, dtype=np.intp)
        positions = chosen if positions is None else chosen[positions]
        dataset = dataset.dataset
    if not isinstance(dataset, NoisyCIFAR10):
        raise InvalidInputError(
            f"batches needs a NoisyCIFAR10 or a Subset of one, not a {type(dataset).__name__}: use "
            "a DataLoader"
        )
    if dataset.transform is not None or dataset.target_transform is not None:
        raise InvalidInputError(
            "batches crops, flips and normalises by itself and calls no transform: make the "
            "dataset without transform and target_transform, or use a DataLoader"
        )
    positions = np.arange(len(dataset)) if positions is None else positions
    if not len(positions):
        raise InvalidInputError("the dataset is empty: there is nothing to make batches of")
    return dataset, positions
