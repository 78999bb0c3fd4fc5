"""NoisyCIFAR10: images, noisy labels and published rows, all taken through one array of rows."""

from __future__ import annotations

import contextlib
import functools
import operator
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Dataset, default_collate
from torchvision.datasets import VisionDataset
from torchvision.datasets.vision import StandardTransform

from cifar_noisy.confident_learning.array_checks import as_array
from cifar_noisy.errors import InvalidInputError, ReadOnlyError, UnknownArtifactError
from cifar_noisy.images.packs import load_images, renamed
from cifar_noisy.images.thumbnails import first_of_each_label
from cifar_noisy.images.whole_batch_transforms import whole_batch_transform
from cifar_noisy.loading.artifact_loading import load_noise_matrix, load_noisy_labels
from cifar_noisy.loading.given_labels import LabelSource, Noise, label_source
from cifar_noisy.loading.train_mask_input import resolve_train_mask
from cifar_noisy.rendering import Cell, html_facts
from cifar_noisy.settings import (
    CLASSES,
    NOISE_LEVELS,
    ORDERS,
    Edition,
    Order,
    check_choice,
)

if TYPE_CHECKING:
    from cifar_noisy.progress_bars import Shown

_ARRAYS = ("imagefolder_index", "torchvision_index", "targets", "true_targets")
_SET_ONCE = {
    *("data", "images", "order", "setting", "train", "true_targets"),
    *("imagefolder_index", "torchvision_index", "index", "indices"),
}


class NoisyCIFAR10(VisionDataset, Dataset[Any]):  # type: ignore[misc]
    """CIFAR-10 with noisy labels, for a ``DataLoader``.

    An item is ``(image, label)``, as torchvision's ``CIFAR10`` gives it, or with
    ``return_index=True`` ``(image, label, index)``, where index is the image's row in every
    published array: ``load_pyx(...)[index]`` is its probabilities, whatever the order, subset,
    shuffle, workers or sampler.

    A ``DataLoader`` fetches batches whole where the transform allows it: the conversion to a tensor
    (``ToTensor``, ``PILToTensor``, ``v2.ToImage``), alone or followed by steps that treat each
    image of a batch alike (``Normalize``, ``ToDtype``, ``ConvertImageDtype``, ``CenterCrop``,
    ``Pad``, ``Grayscale``). Any other transform is called once per image, since a random one would
    treat all images of a batch the same; `batches` does random crops and flips fast. Where a
    subclass, a wrapper, a hook or a patch changes what an item is, items are fetched one by one.
    ``collate_fn=dataset.collate_fn`` also spares taking the batch apart and putting it together.

    It is a ``torchvision.datasets.VisionDataset`` and takes the place of ``CIFAR10``, with these
    differences: what lines up (``data``, index, true labels) is read-only, since images and labels
    would come apart; ``targets`` is an array, not a list; ``root`` may be left out, and then the
    images are those of the cache; ``noise`` comes before ``train``; ``repr`` is one line.

    Parameters
    ----------
    root, download, trust, progress
        Where the images come from, as for `load_images`.
    noise, sparsity
        Given labels, for the train set only and needed there: a fraction of wrong labels and a
        sparsity, a `Setting`, the name of a label set such as "cifar10n-worst", or 50,000 labels of
        your own in `order`; as for `load_noisy_labels`.
    train : bool, default True
        The train set, else the test set, which has true labels only.
    transform : callable, optional
        Of a PIL image; without it items are PIL images.
    target_transform : callable, optional
        Of a label.
    transforms : callable, optional
        Of an image and its label together, in place of `transform` and `target_transform`. All
        three may be assigned later and stay consistent: ``transforms`` is a ``StandardTransform``
        of the other two, or it is your own and they are None. The last assignment holds, and
        ``transforms = None`` removes all three.
    train_mask : str, (50000,) bool or (n,) int, optional
        Which examples to keep: the name of a method, for its published mask; a bool array, True =
        keep; or rows. Arrays are in the published order whatever `order` is; one that makes sense
        in torchvision's order only is an error. A warning tells of an array that keeps wrong labels
        and removes right ones, as one of label errors does (at noise 0 nothing can tell).
    edition, model
        Of the mask of a method, as for `load_train_mask`.
    order : {"imagefolder", "torchvision"}, default "imagefolder"
        Order of the items: that of the published arrays, or of ``torchvision.datasets.CIFAR10``.
    return_index : bool, default False
        Whether items end in their published row. (Of the test set nothing is published: there it is
        the row in imagefolder order.)

    Attributes
    ----------
    targets : (n,) int64
        Given label of each item, read-only. Other labels may be assigned, all n of them at once.
    true_targets : (n,) int64
        True label of each item, read-only.
    imagefolder_index : (n,) intp
        Row of each item in the published arrays, read-only; ``index`` is its deprecated name.
    torchvision_index : (n,) int64
        Index of each item in ``torchvision.datasets.CIFAR10``, read-only; ``indices`` is its
        deprecated name.
    classes : list of str
    class_to_idx : dict
    setting : Setting, LabelSet, OwnLabels or None
        Where the given labels are from; None for the test set.

    Raises
    ------
    UnknownArtifactError
        If setting, mask, edition or order was never published, or noise is asked of the test set.
    InvalidInputError
        If a mask array does not fit, or `transforms` is given beside one of the other two.
    UnavailableError, ImagesError, StorageError
        As `load_images` and `load_train_mask` do.

    Examples
    --------
    >>> train = NoisyCIFAR10("data", noise=0.4, sparsity=0.2, train_mask="cl_pbnr",
    ...                      return_index=True)  # doctest: +SKIP
    >>> image, label, index = train[0]  # doctest: +SKIP
    """

    index = renamed("index", "imagefolder_index")
    indices = renamed("indices", "torchvision_index")

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        noise: Noise | None = None,
        sparsity: float | None = None,
        train: bool = True,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        download: bool = False,
        train_mask: str | ArrayLike | None = None,
        *,
        edition: Edition | None = None,
        model: str | None = None,
        transforms: Callable[[Any, Any], Any] | None = None,
        order: Order = "imagefolder",
        return_index: bool = False,
        trust: str | None = None,
        progress: Shown = None,
    ) -> None:
        check_choice(order, ORDERS, "order")
        self.setting = _train_labels(noise, sparsity, order) if train else None
        if not train:
            _check_nothing_noisy(noise, sparsity, train_mask)
        for name, value in (("edition", edition), ("model", model)):
            if value is not None and not isinstance(train_mask, str):
                raise UnknownArtifactError(
                    f"{name} {value!r} is that of a method's mask: name the method as train_mask, "
                    f"or leave {name} out"
                )
        _check_transforms(transforms, transform, target_transform)
        super().__init__(root, transforms, transform, target_transform)
        self.train = train
        self.order = order
        self.return_index = return_index
        self.classes = list(CLASSES)
        self.class_to_idx = {name: label for label, name in enumerate(CLASSES)}
        self.images = load_images(
            root, train=train, download=download, trust=trust, progress=progress
        )
        given = true = self.images.labels
        torchvision_index = self.images.torchvision_index
        if self.setting:
            given = load_noisy_labels(self.setting)
        rows: NDArray[np.intp] = np.arange(len(given))
        if train_mask is not None and self.setting:
            rows = resolve_train_mask(
                train_mask, self.setting, edition, model, given, true, torchvision_index
            )
        if order == "torchvision":
            rows = rows[np.argsort(torchvision_index[rows])]
        self.imagefolder_index = _read_only(rows)
        self.true_targets = _read_only(true[rows])
        self.torchvision_index = _read_only(torchvision_index[rows])
        self._has_published_targets = True
        # Not by the property, which a subclass may have its own in place of.
        self.__dict__["targets"] = _read_only(given[rows])

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _SET_ONCE and "targets" in self.__dict__:
            raise ReadOnlyError(
                "choose items by train_mask= or torch.utils.data.Subset, or make another dataset: "
                f"{name} cannot be assigned, since images, labels and index would come apart"
            )
        super().__setattr__(name, value)

    @property
    def targets(self) -> NDArray[np.int64]:
        """Given label of each item, (n,) int64, read-only; others may be assigned."""
        if "targets" not in self.__dict__:
            raise AttributeError("targets")  # so that torchvision's wrapper asks the dataset in it
        targets: NDArray[np.int64] = self.__dict__["targets"]
        return targets

    @targets.setter
    def targets(self, labels: ArrayLike) -> None:
        if "targets" not in self.__dict__:
            raise ReadOnlyError(
                "assign targets to the dataset itself, once it is made: what wraps it has none"
            )
        self.__dict__["targets"] = _as_targets(labels, len(self.imagefolder_index))
        self._has_published_targets = False

    @property
    def transforms(self) -> Callable[[Any, Any], Any] | None:
        """What is done to an image and its label; a ``StandardTransform`` if each has its own."""
        return self.__dict__.get("transforms")

    @transforms.setter
    def transforms(self, transforms: Callable[[Any, Any], Any] | None) -> None:
        # torchvision's wrapper is an instance without arrays. It takes over transform and
        # target_transform, then transforms, which the dataset has no more when the others are gone.
        if transforms is not None or "targets" in self.__dict__:
            self.__dict__["transforms"] = transforms

    @property
    def transform(self) -> Callable[[Any], Any] | None:
        """What is done to an image; None where `transforms` treats image and label together."""
        return self._separate_transforms()[0]

    @transform.setter
    def transform(self, transform: Callable[[Any], Any] | None) -> None:
        if transform is not self.transform:
            self._set_separate_transforms(transform, self.target_transform)

    @property
    def target_transform(self) -> Callable[[Any], Any] | None:
        """What is done to a label; None where `transforms` treats image and label together."""
        return self._separate_transforms()[1]

    @target_transform.setter
    def target_transform(self, target_transform: Callable[[Any], Any] | None) -> None:
        if target_transform is not self.target_transform:
            self._set_separate_transforms(self.transform, target_transform)

    def _separate_transforms(self) -> tuple[Callable[[Any], Any] | None, ...]:
        both: Any = self.transforms
        # A subclass of StandardTransform may do anything.
        return (both.transform, both.target_transform) if _is_standard(both) else (None, None)

    def _set_separate_transforms(self, *separate: Callable[[Any], Any] | None) -> None:
        # A new one, since copies of the dataset share the old.
        is_any = any(transform is not None for transform in separate)
        self.__dict__["transforms"] = StandardTransform(*separate) if is_any else None

    @property
    def data(self) -> NDArray[np.uint8]:
        """Pixels of the items, (n, 32, 32, 3) uint8, read-only.

        The memory map itself where the items are all published rows in order; else a copy, made
        when it is first asked for.
        """
        if np.array_equal(self.imagefolder_index, np.arange(len(self.images))):
            return self.images.pixels
        return self._copied_data

    @functools.cached_property
    def _copied_data(self) -> NDArray[np.uint8]:
        return _read_only(self.images.pixels[self.imagefolder_index])

    @functools.cached_property
    def noise_matrix(self) -> NDArray[np.float64] | None:
        """Noise matrix of the labels, (10, 10) float64; None for the test set.

        Entry (i, j) is p(given label = i | true label = j), as `load_noise_matrix` gives it.
        """
        if self.setting is None:
            return None
        return load_noise_matrix(self.setting)

    def __len__(self) -> int:
        return len(self.imagefolder_index)

    def __getitem__(self, item: int) -> tuple[Any, ...]:
        from PIL import Image

        position = operator.index(item)
        row = self.imagefolder_index[position]
        is_ours = type(self).data is _MAKE_ITEMS["data"]
        image: Any = Image.fromarray(self.images.pixels[row] if is_ours else self.data[position])
        label: Any = int(self.targets[position])
        transforms = self.transforms
        if transforms is not None and not _is_standard(transforms):
            image, label = transforms(image, label)
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            label = self.target_transform(label)
        return (image, label, int(row)) if self.return_index else (image, label)

    def __getitems__(self, items: Sequence[int]) -> Sequence[tuple[Any, ...]]:
        """Return many items, as ``DataLoader`` asks for them: at once if the transform allows."""
        dataset = self._outermost(sys._getframe(1))
        may_vectorize = dataset is self and not replaced(self)
        transform = whole_batch_transform(self.transform) if may_vectorize else None
        if transform is None:
            return [dataset[item] for item in items]
        positions = np.fromiter(map(operator.index, items), np.intp)
        rows = self.imagefolder_index[positions]
        # Rows of long words are gathered faster than blocks of bytes.
        words = self.images.pixels.reshape(len(self.images), -1).view(np.uint64)
        pixels = torch.from_numpy(words.take(rows, axis=0).view(np.uint8))
        images = transform(pixels.view(-1, *self.images.pixels.shape[1:]).permute(0, 3, 1, 2))
        labels: Any = torch.from_numpy(self.targets[positions])
        if self.target_transform is not None:
            labels = [self.target_transform(label) for label in labels.tolist()]
        return _FetchedItems(images, labels, torch.from_numpy(rows) if self.return_index else None)

    def _outermost(self, caller: FrameType) -> Any:
        """Return the dataset that torch fetches from: a wrapper, if it handed out our method.

        A wrapper that forwards attributes forwards ``__getitems__`` too, bound to this dataset, and
        its own ``__getitem__`` is to be obeyed. Only the frame of torch's call knows the wrapper.
        """
        if not caller.f_globals.get("__name__", "").startswith("torch.utils.data"):
            return self
        names = caller.f_locals
        return names.get("dataset", getattr(names.get("self"), "dataset", self))

    @staticmethod
    def collate_fn(items: Sequence[tuple[Any, ...]]) -> Any:
        """Collate as ``DataLoader`` does by itself, but take a batch that was fetched whole as is.

        Returns
        -------
        list
            Images, labels, and index if asked for: a tensor each, on the CPU.
        """
        with torch.device("cpu"):
            if isinstance(items, _FetchedItems):
                return items.collated()
            return default_collate(list(items))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_copied_data"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # What numpy unpickles or copies can be written into.
        self.__dict__.update(state, **{name: _read_only(state[name]) for name in _ARRAYS})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"

    def _repr_html_(self) -> str:
        labels = str(self.setting) if self.setting else "true labels of the test set"
        rate = float((np.asarray(self.targets) != self.true_targets).mean()) if len(self) else None
        transform = self.transform or self.transforms
        facts: dict[str, Cell] = {
            "images": len(self),
            "labels": labels if self._has_published_targets else f"{labels}, replaced by others",
            "wrong labels": None if rate is None else f"{rate:.2%}",
            "order": self.order,
            "an item": "image, label, index" if self.return_index else "image, label",
            "transform": None if transform is None else repr(transform),
            "pixels": "official" if self.images.is_official else "not the official ones",
        }
        more = first_of_each_label(self.images.pixels, self.targets, self.imagefolder_index)
        return html_facts(facts, title=type(self).__name__, more=more)

    def extra_repr(self) -> str:
        """Return what ``repr`` says beside the class: labels, number of images, order."""
        what = f"train, {self.setting}" if self.setting else "test"
        own = "" if self._has_published_targets else " with other targets"
        size = f"{len(self):,} images in {self.order} order"
        return f"{what}{own}, {size}"


def _wrap_nothing(dataset: NoisyCIFAR10, _: object) -> Callable[[int, Any], Any]:
    """Return what `wrap_dataset_for_transforms_v2` does to a sample before the transforms."""
    if dataset.return_index:
        raise InvalidInputError(
            "wrap_dataset_for_transforms_v2 would give the index to the transforms too: make the "
            "dataset without return_index, or use it as it is, which v2 transforms work on"
        )
    return lambda _, sample: sample


# torchvision has this table for its own classes, and does not document it.
with contextlib.suppress(ImportError):
    from torchvision.tv_tensors._dataset_wrapper import WRAPPER_FACTORIES

    WRAPPER_FACTORIES[NoisyCIFAR10] = _wrap_nothing


_MAKE_ITEMS = {
    name: getattr(NoisyCIFAR10, name) for name in ("__getitem__", "__len__", "data", "targets")
}


def replaced(dataset: NoisyCIFAR10) -> list[str]:
    """Return which of the attributes that make items are a subclass's or a patch's."""
    cls = type(dataset)
    return [name for name, ours in _MAKE_ITEMS.items() if getattr(cls, name, None) is not ours]


@dataclass(frozen=True, eq=False)
class _FetchedItems(Sequence[tuple[Any, ...]]):
    """Items that were fetched together, as one tensor per field or, when asked, one by one."""

    images: torch.Tensor
    labels: torch.Tensor | list[Any]
    rows: torch.Tensor | None

    def collated(self) -> list[Any]:
        labels = default_collate(self.labels) if isinstance(self.labels, list) else self.labels
        return [field for field in (self.images, labels, self.rows) if field is not None]

    @functools.cached_property
    def _items(self) -> list[tuple[Any, ...]]:
        labels = self.labels if isinstance(self.labels, list) else self.labels.tolist()
        rows = [] if self.rows is None else [self.rows.tolist()]
        return list(zip(self.images.unbind(0), labels, *rows, strict=True))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, item: Any) -> Any:
        return self._items[item]


def _train_labels(noise: Noise | None, sparsity: float | None, order: Order) -> LabelSource:
    if noise is None:
        raise UnknownArtifactError(
            "noise is missing: the train set needs noise=, one of "
            f"{', '.join(f'{level:g}' for level in NOISE_LEVELS)}; 0 gives the true labels"
        )
    return label_source(noise, sparsity, order=order)


def _check_nothing_noisy(
    noise: Noise | None, sparsity: float | None, train_mask: str | ArrayLike | None
) -> None:
    for name, value in (("noise", noise), ("sparsity", sparsity), ("train_mask", train_mask)):
        if value is not None:
            shown = f"{name}={value!r}" if isinstance(value, str | int | float) else name
            raise UnknownArtifactError(
                f"{shown} does not go with train=False: the test set has true labels only and no "
                f"mask; leave {name} out"
            )


def _is_standard(transforms: object) -> bool:
    """Whether transforms are a transform and a target_transform, apart from each other."""
    return type(transforms) is StandardTransform


def _check_transforms(transforms: object, transform: object, target_transform: object) -> None:
    if transforms is None:
        return
    for name, value in (("transform", transform), ("target_transform", target_transform)):
        if value is not None:
            raise InvalidInputError(
                f"transforms= is of image and label together and excludes {name}=: leave one out"
            )


def _as_targets(values: ArrayLike, n_items: int) -> NDArray[np.int64]:
    labels = as_array(values, "targets")
    if labels.shape != (n_items,):
        raise InvalidInputError(
            f"targets has shape {labels.shape}, and the dataset {n_items:,} items: assign a label "
            "for each, or leave items out by train_mask= or torch.utils.data.Subset"
        )
    is_class = np.isin(labels, range(len(CLASSES))) & (labels.dtype.kind in "iu")
    if not is_class.all():
        found = ", ".join(map(repr, labels[~is_class][:3].tolist()))
        raise InvalidInputError(f"targets holds {found}: pass integers from 0 to 9")
    return _read_only(labels.astype(np.int64))


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return a view of an array that ``setflags`` cannot make writeable again."""
    return np.asarray(array.data.toreadonly())
