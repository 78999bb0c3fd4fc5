"""Batches for training loops: pixels on the device as bytes, augmented a whole batch at a time.

There are no workers and no Python per image.
"""

from __future__ import annotations

import contextlib
import operator
import reprlib
from collections.abc import Iterator
from typing import SupportsIndex

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Subset

from cifar_noisy.confident_learning.array_checks import as_array
from cifar_noisy.errors import InvalidInputError
from cifar_noisy.images.augmentation import PADDING, Crops, PaddedImages
from cifar_noisy.images.dataset import NoisyCIFAR10, replaced

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)
"""Mean and standard deviation of the train set's pixels per channel, in units of 255."""

_MIN_STD = 0.001

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Batches:
    """An iterable of device-resident batches, one epoch each time it is iterated over.

    Parameters
    ----------
    dataset : NoisyCIFAR10 or Subset of one
        Without transforms, which would not be called: images come cropped, flipped and normalised.
        Its targets are read again for each epoch.
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
        goes on to the next, and setting the attribute ``epoch`` chooses one.
    rank, world_size : int
        This process among those that share an epoch, as in ``DistributedSampler``: items are dealt
        out in turn, and the first of the epoch again where they do not go up.

    Yields
    ------
    tuple of tensors
        (b, 3, 32, 32) float32 images, (b,) int64 labels and (b,) int64 index, the images' rows in
        the published arrays. The length is the number of batches.

    Raises
    ------
    InvalidInputError
        If the dataset is another one or has transforms, or an argument makes no sense.

    Examples
    --------
    >>> train = NoisyCIFAR10("data", noise=0.4, sparsity=0.2)  # doctest: +SKIP
    >>> for images, labels, index in batches(train, 256, seed=1):  # doctest: +SKIP
    ...     ...
    """

    def __init__(
        self,
        dataset: NoisyCIFAR10 | Subset[object],
        batch_size: SupportsIndex,
        *,
        device: str | torch.device = "cpu",
        augment: bool | None = None,
        shuffle: bool | None = None,
        drop_last: bool = False,
        mean: ArrayLike = CIFAR10_MEAN,
        std: ArrayLike = CIFAR10_STD,
        seed: SupportsIndex = 0,
        epoch: SupportsIndex = 0,
        rank: SupportsIndex = 0,
        world_size: SupportsIndex = 1,
    ) -> None:
        noisy, self._positions = _resolved(dataset)
        if not len(self._positions):
            raise InvalidInputError("the dataset is empty: there is nothing to make batches of")
        self._dataset = noisy
        self._batch_size = _whole(batch_size, "batch_size", 1)
        self._world_size = _whole(world_size, "world_size", 1)
        self._rank = _whole(rank, f"with world_size {self._world_size}, rank", 0, self._world_size)
        self._seed, self.epoch = _whole(seed, "seed"), _whole(epoch, "epoch")
        self._device = _usable(device)
        self._shuffle = _flag(noisy.train if shuffle is None else shuffle, "shuffle")
        self._drop_last = _flag(drop_last, "drop_last")
        means = _per_channel(mean, "mean", 0).to(self._device)
        stds = _per_channel(std, "std", _MIN_STD).to(self._device)
        # (x / 255 - mean) / std in two passes instead of three.
        self._scale, self._shift = 1 / (255 * stds), -means / stds
        self._rows = torch.from_numpy(np.array(noisy.imagefolder_index))
        self._index = self._rows.to(self._device)
        self._pixels: PaddedImages | _PlainImages
        if _flag(noisy.train if augment is None else augment, "augment"):
            pixels = noisy.images.pixels
            self._pixels = PaddedImages(pixels, PADDING, self._device, rows=noisy.imagefolder_index)
        else:
            self._pixels = _PlainImages(noisy.data, self._device)

    def __len__(self) -> int:
        n_mine = -(-len(self._positions) // self._world_size)
        if self._drop_last:
            return n_mine // self._batch_size
        return -(-n_mine // self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        _require_plain(self._dataset)
        generator = _generator(self._seed, _whole(self.epoch, "epoch"))
        self.epoch += 1
        targets = torch.from_numpy(np.array(self._dataset.targets)).to(self._device)
        n_items = len(self._positions)
        # The caller's default device and dtype would change the draws.
        cpu = torch.device("cpu")
        order = torch.arange(n_items, device=cpu)
        if self._shuffle:
            order = torch.randperm(n_items, generator=generator, device=cpu)
        # For every row of CIFAR-10, so that an image's crop does not depend on the subset.
        crops = _sample_crops(len(self._dataset.images), generator).select(self._rows)
        n_mine = -(-n_items // self._world_size)
        dealt = torch.arange(self._rank, n_mine * self._world_size, self._world_size, device=cpu)
        mine = torch.from_numpy(self._positions)[order[dealt % n_items]]
        for number in range(len(self)):
            positions = mine[number * self._batch_size : (number + 1) * self._batch_size]
            chosen = positions.to(self._device)
            images = self._pixels.crop(positions, crops.select(positions)).permute(0, 3, 1, 2)
            # One pass that changes layout and type together.
            images = images.to(torch.float32, memory_format=torch.contiguous_format)
            images = images.mul_(self._scale).add_(self._shift)
            yield images, targets[chosen], self._index[chosen]


batches = Batches  # the public name: people call it as they call a function


class _PlainImages:
    """Images on a device as they are; on a CPU the memory map itself, where `pixels` is one."""

    def __init__(self, pixels: NDArray[np.uint8], device: torch.device) -> None:
        self._shape = pixels.shape[1:]
        flat = pixels.reshape(len(pixels), -1)
        on_cpu = device.type == "cpu"
        self._flat = flat if on_cpu else torch.from_numpy(np.array(flat)).to(device)

    def crop(self, rows: torch.Tensor, _: Crops) -> torch.Tensor:
        """Return (B, H, W, C) uint8 on the device, not cropped."""
        if isinstance(self._flat, torch.Tensor):
            images = self._flat.index_select(0, rows.to(self._flat.device))
        else:
            images = torch.from_numpy(self._flat.take(rows.numpy(), axis=0))
        return images.view(-1, *self._shape)


def _sample_crops(n: int, generator: torch.Generator) -> Crops:
    shape, cpu = (3, n), torch.device("cpu")
    down, right, flip = torch.rand(shape, generator=generator, dtype=torch.float32, device=cpu)
    n_places = 2 * PADDING + 1
    return Crops((down * n_places).long(), (right * n_places).long(), flip < 0.5)


def _generator(seed: int, epoch: int) -> torch.Generator:
    """Return a generator for one epoch; a sum of the two would repeat itself."""
    state = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)
    return torch.Generator(device="cpu").manual_seed(int(state[0]) >> 1)


def _resolved(dataset: object) -> tuple[NoisyCIFAR10, NDArray[np.intp]]:
    """Return the dataset under any subsets, and the positions in it that they choose."""
    # A subclass of Subset may do anything.
    if type(dataset) is Subset:
        noisy, positions = _resolved(dataset.dataset)
        chosen, n = np.asarray(dataset.indices), len(positions)
        is_integer = chosen.dtype.kind in "iu" or not chosen.size
        if chosen.ndim != 1 or not is_integer or not ((-n <= chosen) & (chosen < n)).all():
            raise InvalidInputError(
                f"a Subset has the indices {reprlib.repr(dataset.indices)}: choose a list of whole "
                f"numbers below {n:,}"
            )
        return noisy, positions[chosen.astype(np.intp)]
    if not isinstance(dataset, NoisyCIFAR10):
        raise InvalidInputError(
            f"batches needs a NoisyCIFAR10 or a Subset of one, not a {type(dataset).__name__}: use "
            "a DataLoader"
        )
    _require_plain(dataset)
    return dataset, np.arange(len(dataset))


def _require_plain(dataset: NoisyCIFAR10) -> None:
    if dataset.transforms is not None or dataset.transform is not None:
        raise InvalidInputError(
            "batches crops, flips and normalises by itself and calls no transform: make the "
            "dataset without transform, target_transform and transforms, or use a DataLoader"
        )
    if names := replaced(dataset):
        raise InvalidInputError(
            f"use a DataLoader: batches reads arrays, and {type(dataset).__name__} has its own "
            f"{', '.join(names)}"
        )


def _whole(value: SupportsIndex, name: str, least: int = 0, below: int = 2**32) -> int:
    # SeedSequence strings 32-bit words together: a larger seed would be another seed's epoch.
    with contextlib.suppress(TypeError):
        if not isinstance(value, bool) and least <= operator.index(value) < below:
            return operator.index(value)
    is_huge = isinstance(value, int) and value.bit_length() > 128
    said = "an integer of many digits" if is_huge else reprlib.repr(value)
    raise InvalidInputError(f"{name} is {said}: pass a whole number from {least} to {below - 1}")


def _flag(value: object, name: str) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise InvalidInputError(f"{name} is {reprlib.repr(value)}: pass True or False")
    return bool(value)


def _usable(device: str | torch.device) -> torch.device:
    try:
        found = torch.device(device)
        torch.zeros(1, dtype=torch.float32, device=found).item()
    except (RuntimeError, TypeError, AssertionError, ImportError) as error:
        raise InvalidInputError(
            f"pass device='cpu', or 'cuda' where torch finds a GPU: {device!r} cannot be used here "
            f"({str(error).splitlines()[0]})"
        ) from error
    return found


def _per_channel(values: ArrayLike, name: str, least: float) -> torch.Tensor:
    array = as_array(values, name)
    is_right = array.shape == (3,) and array.dtype.kind in "iuf"
    if not is_right or not ((least <= array) & (array <= 1)).all():
        raise InvalidInputError(
            f"{name} is {values!r}: pass three numbers from {least} to 1, one for each channel, in "
            "units of 255 (divide values of bytes by 255)"
        )
    return torch.from_numpy(array.astype(np.float32)).view(1, 3, 1, 1)
