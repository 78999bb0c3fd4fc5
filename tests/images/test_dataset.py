"""NoisyCIFAR10: every item's image, label and index belong together, however it is reached."""

import copy
import functools
import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    DistributedSampler,
    StackDataset,
    Subset,
    default_collate,
    random_split,
)
from torchvision import transforms
from torchvision.datasets import CIFAR10
from torchvision.transforms import v2

from cifar_noisy import (
    InvalidInputError,
    MissingInputError,
    NoisyCIFAR10,
    ReadOnlyError,
    SuspectMaskWarning,
    UnknownArtifactError,
    artifacts,
    batches,
    load_images,
    load_label_errors,
    load_noise_matrix,
    load_noisy_labels,
    load_train_mask,
    load_true_labels,
)
from cifar_noisy.images.whole_batch_transforms import whole_batch_transform
from cifar_noisy.loading.train_mask_input import association
from cifar_noisy.settings import METHODS, SETTINGS, Edition, Method, Order, Setting
from tests.conftest import NUMBERED, JpegCopy

ORDERS = ("imagefolder", "torchvision")
FLOATS = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
NORMALIZE = transforms.Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.25))


def number(pixels: Any) -> Any:
    """Read the official index out of made-up images, (..., 32, 32, 3) or (..., 3, 32, 32)."""
    array = np.asarray(pixels).astype(np.int64)
    corner = array[..., 0, 0, :] if array.shape[-1] == 3 else array[..., :, 0, 0]
    return corner @ [1, 256, 65536]


# Without a copy of CIFAR-10: made-up images that know their own number.


@pytest.mark.parametrize("in_order", ORDERS)
def test_attributes(fake: None, in_order: Order) -> None:
    dataset = NoisyCIFAR10(noise=0.4, sparsity=0.2, order=in_order)
    assert len(dataset) == len(dataset.data) == len(dataset.targets) == 50_000
    assert (number(dataset.data) == dataset.torchvision_index).all()
    assert (dataset.true_targets == NUMBERED.labels[True][dataset.torchvision_index]).all()
    assert (dataset.targets == load_noisy_labels(0.4, 0.2)[dataset.imagefolder_index]).all()
    assert (dataset.true_targets == load_true_labels()[dataset.imagefolder_index]).all()
    assert np.array_equal(dataset.noise_matrix, load_noise_matrix(0.4, 0.2))  # type: ignore[arg-type]
    if in_order == "torchvision":
        assert (dataset.torchvision_index == np.arange(50_000)).all()
        assert (dataset.targets == load_noisy_labels(0.4, 0.2, order="torchvision")).all()
    else:
        assert (dataset.imagefolder_index == np.arange(50_000)).all()
    assert dataset.classes[3] == "cat"
    assert dataset.class_to_idx["cat"] == 3
    assert "noise 0.4, sparsity 0.2, 50,000 images in" in repr(dataset)
    for array in (dataset.data, dataset.targets, dataset.true_targets, dataset.torchvision_index):
        assert not array.flags.writeable
    with pytest.raises(AttributeError):
        dataset.data = dataset.data[::-1]  # type: ignore[misc]


@pytest.mark.parametrize("in_order", ORDERS)
@pytest.mark.parametrize("transform", [None, v2.PILToTensor()])
def test_items(fake: None, in_order: Order, transform: Callable[[Any], Any] | None) -> None:
    rows = np.random.default_rng(0).permutation(50_000)[:30_000]
    dataset = NoisyCIFAR10(
        noise=0.2, sparsity=0, order=in_order, train_mask=rows, transform=transform,
        return_index=True,
    )  # fmt: skip
    given = load_noisy_labels(0.2, 0)
    assert sorted(dataset.imagefolder_index) == sorted(rows)
    for position in [*range(0, 30_000, 611), -1]:
        image, label, index = dataset[position]
        assert isinstance(image, Image.Image) == (transform is None)
        assert (type(label), type(index)) == (int, int)
        assert label == given[index] == dataset.targets[position]
        assert number(image) == dataset.torchvision_index[position]
        assert load_images().torchvision_index[index] == number(image)
    with pytest.raises(IndexError):
        dataset[30_000]


def test_the_test_set(fake: None) -> None:
    dataset = NoisyCIFAR10(train=False, order="torchvision", transform=v2.PILToTensor())
    assert dataset.targets.tolist() == NUMBERED.labels[False].tolist()
    assert (dataset.true_targets == dataset.targets).all()
    assert (number(dataset.data) == np.arange(10_000)).all()
    assert dataset.noise_matrix is None
    assert dataset.setting is None
    assert number(dataset[77][0]) == 77


def check(batch: list[torch.Tensor], given: NDArray[np.int64], official: NDArray[np.int64]) -> None:
    images, labels, index = batch
    assert (labels.numpy() == given[index]).all()
    assert (number(images) == official[index]).all()


@pytest.mark.parametrize(
    ("in_order", "own_collate", "context"),
    [
        ("imagefolder", False, "fork"),
        ("torchvision", True, "fork"),
        ("torchvision", False, "spawn"),
    ],
)
def test_index_with_workers_and_subsets(
    fake: None, in_order: Order, own_collate: bool, context: str
) -> None:
    mask = np.random.default_rng(1).random(50_000) < 0.1
    dataset = NoisyCIFAR10(
        noise=0.7, sparsity=0.2, order=in_order, train_mask=mask, transform=v2.PILToTensor(),
        return_index=True,
    )  # fmt: skip
    given, official = load_noisy_labels(0.7, 0.2), load_images().torchvision_index
    subset, rest = random_split(dataset, [1000, len(dataset) - 1000])
    seen = []
    for part in (subset, rest):
        loader = DataLoader(
            part, 64, shuffle=True, num_workers=2, multiprocessing_context=context,
            collate_fn=NoisyCIFAR10.collate_fn if own_collate else None,
        )  # fmt: skip
        for batch in loader:
            check(batch, given, official)
            seen.append(batch[2])
    assert torch.cat(seen).sort().values.tolist() == np.flatnonzero(mask).tolist()


@pytest.mark.parametrize("in_order", ORDERS)
def test_index_with_distributed_samplers(fake: None, in_order: Order) -> None:
    dataset = NoisyCIFAR10(
        noise=0.4, sparsity=0, order=in_order, transform=v2.PILToTensor(), return_index=True
    )
    given, official = load_noisy_labels(0.4, 0), load_images().torchvision_index
    seen = []
    for rank in range(3):
        sampler: DistributedSampler[Any] = DistributedSampler(
            dataset, num_replicas=3, rank=rank, shuffle=True, seed=5
        )
        sampler.set_epoch(2)
        for batch in DataLoader(dataset, 500, sampler=sampler, collate_fn=dataset.collate_fn):
            check(batch, given, official)
            seen.append(batch[2])
    assert set(torch.cat(seen).tolist()) == set(range(50_000))


# Whole batches are what one image at a time gives, number for number.

ALIKE = {
    "v1 tensor": transforms.ToTensor(),
    "v1 normalize": transforms.Compose([transforms.ToTensor(), NORMALIZE]),
    "v1 one number": transforms.Compose([transforms.ToTensor(), transforms.Normalize(0.5, 0.2)]),
    "v1 bytes": transforms.Compose(
        [transforms.PILToTensor(), transforms.ConvertImageDtype(torch.float32), NORMALIZE]
    ),
    "v2 bytes": v2.ToImage(),
    "v2 normalize": v2.Compose([*FLOATS, v2.Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.25))]),
    "v2 half": v2.Compose([v2.ToImage(), v2.ToDtype(torch.float16, scale=True)]),
    "nested": v2.Compose([v2.Compose([v2.PILToTensor()]), v2.ToPureTensor()]),
    "crop and pad": transforms.Compose(
        [transforms.ToTensor(), transforms.CenterCrop(28), transforms.Pad(2), NORMALIZE]
    ),
    "grey": v2.Compose([*FLOATS, v2.Grayscale(3), NORMALIZE]),
}


class Picky(transforms.Normalize):  # type: ignore[misc]
    """A subclass, which may do anything."""


ONE_BY_ONE = {
    "nothing": None,
    "random flip": transforms.Compose([transforms.RandomHorizontalFlip(), transforms.ToTensor()]),
    "random erasing": transforms.Compose([transforms.ToTensor(), transforms.RandomErasing()]),
    "v2 random crop": v2.Compose([*FLOATS, v2.RandomCrop(32, 4)]),
    "subclass": transforms.Compose([transforms.ToTensor(), Picky((0.5,), (0.5,))]),
    "function": lambda image: torch.from_numpy(np.array(image)),
    "PIL first": transforms.Compose([transforms.Resize(16), transforms.ToTensor()]),
    "dtype by kind": v2.Compose([v2.ToImage(), v2.ToDtype({torch.Tensor: torch.float32})]),
    "empty": transforms.Compose([]),
}


def random_images(monkeypatch: pytest.MonkeyPatch, dataset: NoisyCIFAR10) -> None:
    """Give a dataset images with every value, which made-up ones have not."""
    pixels = np.random.default_rng(0).integers(0, 256, (50_000, 32, 32, 3), np.uint8)
    object.__setattr__(dataset.images, "pixels", pixels)


def is_whole(fetched: object) -> bool:
    return not isinstance(fetched, list)


@pytest.mark.parametrize("transform", ALIKE.values(), ids=ALIKE)
def test_whole_batches(
    fake: None, transform: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = NoisyCIFAR10(noise=0.4, sparsity=0.2, transform=transform, return_index=True)
    random_images(monkeypatch, dataset)
    assert whole_batch_transform(transform) is not None
    items = [3, 40_000, 7, -1]
    plain = default_collate([dataset[item] for item in items])
    fetched = dataset.__getitems__(items)
    assert is_whole(fetched)
    assert len(fetched) == 4
    assert fetched[1][1:] == (plain[1][1].item(), 40_000)
    for whole in (default_collate(list(fetched)), dataset.collate_fn(fetched)):
        assert type(whole) is list
        for ours, theirs in zip(whole, plain, strict=True):
            assert ours.dtype == theirs.dtype
            assert ours.stride() == theirs.stride()
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("transform", ONE_BY_ONE.values(), ids=ONE_BY_ONE)
def test_transforms_that_see_one_image_at_a_time(transform: Callable[[Any], Any] | None) -> None:
    assert whole_batch_transform(transform) is None


def test_random_transforms_differ_within_a_batch(fake: None) -> None:
    crop = v2.Compose([*FLOATS, v2.RandomCrop(32, 4, fill=1)])
    dataset = NoisyCIFAR10(noise=0, transform=crop)
    images, _ = next(iter(DataLoader(dataset, 64, collate_fn=dataset.collate_fn)))
    assert len({tuple(image[0, :, 0].tolist() + image[0, 0].tolist()) for image in images}) > 10


def test_target_transforms(fake: None) -> None:
    dataset = NoisyCIFAR10(
        noise=0.4, sparsity=0.2, transform=v2.ToImage(), target_transform=lambda label: label * 10
    )
    expected = (dataset.targets[:8] * 10).tolist()
    assert dataset[3][1] == expected[3]
    for collate in (None, dataset.collate_fn):
        _, labels = next(iter(DataLoader(dataset, 8, collate_fn=collate)))
        assert labels.tolist() == expected


# What is done to a class after it was made.


def pairs() -> NoisyCIFAR10:
    return NoisyCIFAR10(noise=0.4, sparsity=0.2, transform=v2.PILToTensor(), return_index=True)


class Relabelled(NoisyCIFAR10):
    def __getitem__(self, item: int) -> tuple[Any, ...]:
        image, label, index = super().__getitem__(item)
        return image, (label + 1) % 10, index


class OwnTargets(NoisyCIFAR10):
    @property  # type: ignore[misc]
    def targets(self) -> list[int]:  # type: ignore[override]
        return [7] * 50_000


class OwnData(NoisyCIFAR10):
    @property
    def data(self) -> NDArray[np.uint8]:
        return 255 - super().data


class Wrapper(Dataset[Any]):
    """A data set that has what the one in it has, but for the labels."""

    def __init__(self, dataset: NoisyCIFAR10) -> None:
        self.dataset = dataset

    def __getitem__(self, item: int) -> tuple[Any, ...]:
        image, label, index = self.dataset[item]
        return image, (label + 1) % 10, index

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.dataset, name)


class LambdaWrapper(Wrapper):
    passing_on: Callable[[Any, str], Any] = lambda self, name: getattr(self.dataset, name)
    __getattr__ = passing_on


class CopyingWrapper(Wrapper):
    """One that takes over the methods, so that a loader finds them in it."""

    def __init__(self, dataset: NoisyCIFAR10) -> None:
        super().__init__(dataset)
        self.__getitems__ = dataset.__getitems__


def as_class(cls: type[NoisyCIFAR10]) -> Any:
    return cls(noise=0.4, sparsity=0.2, transform=v2.PILToTensor(), return_index=True)


CHANGED: dict[str, Callable[[], Any]] = {
    "method": lambda: as_class(Relabelled),
    "targets": lambda: as_class(OwnTargets),
    "data": lambda: as_class(OwnData),
    "wrapper": lambda: Wrapper(pairs()),
    "lambda": lambda: LambdaWrapper(pairs()),
    "copied": lambda: CopyingWrapper(pairs()),
    "wrapped twice": lambda: Wrapper(Wrapper(pairs())),  # type: ignore[arg-type]
    "wrapped subclass": lambda: Wrapper(as_class(Relabelled)),
    "subset of a wrapper": lambda: Subset(Subset(Wrapper(pairs()), range(9, 99)), range(40)),
    "stack of wrappers": lambda: StackDataset(Wrapper(pairs()), as_class(Relabelled)),
    "concatenation": lambda: ConcatDataset([Wrapper(pairs()), as_class(OwnData)]),
}


def check_that_loaders_obey(dataset: Any) -> None:
    for collate in (None, NoisyCIFAR10.collate_fn):
        loaded = next(iter(DataLoader(dataset, 8, collate_fn=collate)))
        expected = default_collate([dataset[item] for item in range(8)])
        for ours, theirs in zip(flat(loaded), flat(expected), strict=True):
            assert torch.equal(ours, theirs)


def flat(batch: Any) -> list[torch.Tensor]:
    return [batch] if isinstance(batch, torch.Tensor) else [t for part in batch for t in flat(part)]


@pytest.mark.parametrize("make", CHANGED.values(), ids=CHANGED)
def test_loaders_obey_subclasses_and_wrappers(fake: None, make: Callable[[], Any]) -> None:
    dataset = make()
    unchanged = flat(default_collate([pairs()[item] for item in range(8)]))[:2]
    changed = flat(default_collate([dataset[item] for item in range(8)]))[:2]
    assert not all(map(torch.equal, changed, unchanged))
    check_that_loaders_obey(dataset)


def test_loaders_obey_a_patched_class(fake: None, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = pairs()
    assert is_whole(dataset.__getitems__([1, 2]))
    monkeypatch.setattr(NoisyCIFAR10, "__getitem__", lambda self, item: (item, -item, item))
    check_that_loaders_obey(dataset)
    monkeypatch.undo()
    monkeypatch.setattr(NoisyCIFAR10, "data", property(lambda self: self.images.pixels[::-1]))
    assert number(dataset[0][0]) == number(dataset.images.pixels[-1])
    check_that_loaders_obey(dataset)
    monkeypatch.undo()
    assert is_whole(dataset.__getitems__([1, 2]))


@pytest.mark.parametrize("cls", [Relabelled, OwnTargets, OwnData])
def test_batches_refuses_a_subclass_that_changes_items(fake: None, cls: type[NoisyCIFAR10]) -> None:
    dataset = cls(noise=0.4, sparsity=0.2)
    with pytest.raises(InvalidInputError, match=f"use a DataLoader: .*{cls.__name__} has its own"):
        batches(Subset(dataset, range(10)), 4)


def test_a_subclass_that_adds_is_fetched_whole(fake: None) -> None:
    class Named(NoisyCIFAR10):
        def name(self) -> str:
            return "mine"

    dataset = Named(noise=0.4, sparsity=0.2, transform=v2.ToImage())
    assert repr(dataset).startswith("Named(train, noise 0.4")
    assert is_whole(dataset.__getitems__([3, 4]))
    assert len(batches(Named(noise=0), 500)) == 100


def hooked() -> Any:
    step = transforms.Normalize((0.5,), (0.5,))
    step.register_forward_hook(lambda module, inputs, output: output + 1)
    return step


def pre_hooked() -> Any:
    step = v2.Normalize((0.5,), (0.5,))
    step.register_forward_pre_hook(lambda module, inputs: (inputs[0] + 1,))
    return step


def patched(step: Any, method: str) -> Any:
    original = getattr(step, method)
    setattr(step, method, lambda *inputs: original(*inputs) * 2)
    return step


PATCHED: dict[str, Callable[[], Any]] = {
    "hook": lambda: transforms.Compose([transforms.ToTensor(), hooked()]),
    "hook before": lambda: v2.Compose([*FLOATS, pre_hooked()]),
    "forward": lambda: transforms.Compose(
        [transforms.ToTensor(), patched(transforms.Normalize((0.5,), (0.5,)), "forward")]
    ),
    "transform": lambda: v2.Compose(
        [v2.ToImage(), patched(v2.ToDtype(torch.float32), "transform")]
    ),
    "composition": lambda: patched(v2.Compose([*FLOATS]), "forward"),
    "nested": lambda: torch.nn.Sequential(*FLOATS, torch.nn.Sequential(hooked())),
}


@pytest.mark.parametrize("make", PATCHED.values(), ids=PATCHED)
def test_loaders_obey_patched_transforms(fake: None, make: Callable[[], Any]) -> None:
    dataset = pairs()
    dataset.transform = make()
    assert not is_whole(dataset.__getitems__([1, 2]))
    check_that_loaders_obey(dataset)


def test_loaders_obey_patched_transform_classes(
    fake: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = pairs()
    dataset.transform = transforms.Compose([transforms.ToTensor(), NORMALIZE])
    for cls, method in (
        (transforms.ToTensor, "__call__"), (transforms.Normalize, "forward"),
        (transforms.Compose, "__call__"),
    ):  # fmt: skip
        original = getattr(cls, method)

        @functools.wraps(original)
        def doubled(self: Any, image: Any, original: Any = original) -> Any:
            return original(self, image) * 2

        assert is_whole(dataset.__getitems__([1]))
        monkeypatch.setattr(cls, method, doubled)
        assert not is_whole(dataset.__getitems__([1]))
        check_that_loaders_obey(dataset)
        monkeypatch.undo()


def test_a_position_is_a_whole_number(fake: None) -> None:
    dataset = pairs()
    with pytest.raises(TypeError):
        dataset[1.5]  # type: ignore[index]
    with pytest.raises(TypeError):
        dataset.__getitems__([1.5])  # type: ignore[list-item]
    taken = dataset.__getitems__(torch.tensor([5, -1]))  # type: ignore[arg-type]
    assert [item[2] for item in taken] == [5, 49_999]


# Labels of the user's own.

FORMS: dict[str, Callable[[NDArray[np.int64]], Any]] = {
    "list": list,
    "bytes": lambda labels: labels.astype(np.uint8),
    "tensor": torch.tensor,
    "read-only": lambda labels: np.broadcast_to(labels, (1, len(labels)))[0],
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("in_order", ORDERS)
def test_targets_may_be_assigned(
    fake: None, in_order: Order, form: Callable[[NDArray[np.int64]], Any]
) -> None:
    mask = np.arange(0, 50_000, 7)
    dataset = NoisyCIFAR10(
        noise=0.4, sparsity=0.2, order=in_order, train_mask=mask, return_index=True
    )
    training = batches(dataset, 500)
    own = (dataset.targets + 1) % 10
    published = dataset.targets
    dataset.targets = form(own)
    own[:] = 0
    own = (published + 1) % 10
    assert dataset.targets.dtype == np.int64
    assert dataset.targets.tolist() == own.tolist()
    assert not dataset.targets.flags.writeable
    assert "noise 0.4, sparsity 0.2 with other targets, 7,143 images" in repr(dataset)
    assert dataset[5][1] == own[5]
    of_row = dict(zip(dataset.imagefolder_index.tolist(), own.tolist(), strict=True))
    # Made before the assignment too.
    for loader in (training, batches(Subset(dataset, range(100)), 500)):
        for _, labels, index in loader:
            assert labels.tolist() == [of_row[row] for row in index.tolist()]
    dataset.transform = v2.PILToTensor()
    for copied in (dataset, pickle.loads(pickle.dumps(dataset)), copy.deepcopy(dataset)):
        assert "with other targets" in repr(copied)
        check_that_loaders_obey(copied)
        _, labels, index = next(iter(DataLoader(copied, 999, shuffle=True, num_workers=1)))
        assert labels.tolist() == [of_row[row] for row in index.tolist()]


def test_targets_of_the_test_set_may_be_assigned(fake: None) -> None:
    dataset = NoisyCIFAR10(train=False, transform=v2.ToImage())
    dataset.targets = [3] * 10_000
    assert (
        repr(dataset) == "NoisyCIFAR10(test with other targets, 10,000 images in imagefolder order)"
    )
    assert next(iter(DataLoader(dataset, 4)))[1].tolist() == [3] * 4


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ([1, 2], r"shape \(2,\), and the dataset 5 items: .* train_mask= or torch.utils.data.Sub"),
        (np.ones((5, 1), int), r"shape \(5, 1\)"),
        (3, r"shape \(\)"),
        (None, r"shape \(\)"),
        ([0, 1, 2, 3, 10], "targets holds 10: pass integers from 0 to 9"),
        ([0, 1, -1, 3, 2**64 - 1], "targets holds"),
        ([0, 1, 2, 3, 4.0], "holds 0.0, 1.0, 2.0: pass integers"),
        (torch.ones(5), "holds 1.0"),
        ([True] * 5, "holds True"),
        (list("abcde"), "holds 'a', 'b', 'c'"),
        ([[1], [2, 3], [4], [5], [6]], "targets is no array"),
        (torch.zeros(5, dtype=torch.int64, device="meta"), "targets is no array"),
    ],
)
def test_targets_that_are_no_labels(fake: None, targets: Any, said: str) -> None:
    dataset = NoisyCIFAR10(noise=0.4, sparsity=0.2, train_mask=range(5))
    before = dataset.targets
    with pytest.raises(InvalidInputError, match=said):
        dataset.targets = targets
    assert dataset.targets is before
    assert "with other" not in repr(dataset)


@pytest.mark.parametrize(
    "name",
    ["data", "true_targets", "imagefolder_index", "torchvision_index", "images", "order", "train",
     "setting"],
)  # fmt: skip
def test_what_belongs_together_is_not_assigned(fake: None, name: str) -> None:
    dataset = NoisyCIFAR10(noise=0.4, sparsity=0.2, train_mask=range(9))
    said = f"choose items by train_mask= or torch.utils.data.Subset, .*: {name} cannot be assigned"
    for error in (InvalidInputError, AttributeError):
        with pytest.raises(error, match=said):
            setattr(dataset, name, getattr(dataset, name))
    dataset.mine = 3
    dataset.return_index = True
    assert len(dataset[0]) == 3


# Copies.


def copies(dataset: Any) -> Iterator[Any]:
    yield dataset
    yield copy.copy(dataset)
    yield copy.deepcopy(dataset)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        yield pickle.loads(pickle.dumps(dataset, protocol))
    yield pickle.loads(pickle.dumps(copy.deepcopy(Subset(dataset, [1])))).dataset


def check_read_only(dataset: NoisyCIFAR10) -> None:
    for name in ("data", "targets", "true_targets", "imagefolder_index", "torchvision_index"):
        array = getattr(dataset, name)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
        with pytest.raises(ValueError, match="cannot set WRITEABLE"):
            array.setflags(write=True)


FORMER_NAMES = {"index": "imagefolder_index", "indices": "torchvision_index"}


@pytest.mark.parametrize("old", FORMER_NAMES)
def test_former_names_are_deprecated(fake: None, old: str) -> None:
    new = FORMER_NAMES[old]
    for dataset in copies(NoisyCIFAR10(noise=0.4, sparsity=0.2, train_mask=range(9))):
        with pytest.warns(DeprecationWarning, match=f"{old} is now {new}") as warned:
            assert getattr(dataset, old) is getattr(dataset, new)
        assert warned[0].filename == __file__
        with pytest.raises(ReadOnlyError, match=f"{old} cannot be assigned"):
            setattr(dataset, old, getattr(dataset, new))
    packed = load_images()
    for images in (packed, copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
        with pytest.warns(DeprecationWarning, match="indices is now torchvision_index"):
            assert images.indices is images.torchvision_index
        with pytest.raises(AttributeError):
            setattr(images, "indices", images.torchvision_index)  # noqa: B010


@pytest.mark.parametrize("in_order", ORDERS)
def test_copies_are_read_only(fake: None, in_order: Order) -> None:
    dataset = NoisyCIFAR10(noise=0.4, sparsity=0.2, order=in_order, train_mask=range(1000))
    for other in copies(dataset):
        check_read_only(other)
        assert (other.targets == dataset.targets).all()
        assert other.imagefolder_index.dtype == np.intp
        other.targets = [0] * 1000
        assert dataset.targets.any() or other is dataset
        check_read_only(other)
        dataset.targets = load_noisy_labels(0.4, 0.2)[dataset.imagefolder_index]


class Writer(NoisyCIFAR10):
    """A data set that tries to write in the process that it is in, and tells what it could."""

    def __getitem__(self, item: int) -> tuple[Any, ...]:
        written = 0
        changes: list[Callable[[Any], None]] = [
            lambda array: array.setflags(write=True),
            lambda array: array.fill(0),
        ]
        for name in ("targets", "true_targets", "imagefolder_index", "torchvision_index"):
            for change in changes:
                try:
                    change(getattr(self, name))
                except ValueError:
                    continue
                written += 1
        return item, written


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_nothing_is_written_in_workers(fake: None, context: str) -> None:
    dataset = Writer(noise=0.4, sparsity=0.2, train_mask=range(20))
    loader = DataLoader(dataset, 10, num_workers=2, multiprocessing_context=context)
    assert [written.tolist() for _, written in loader] == [[0] * 10] * 2


# State of torch.


@pytest.fixture
def float64_by_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def meta_by_default() -> Iterator[Callable[[], None]]:
    """Let a test make tensors that name no device ones without data."""
    yield lambda: torch.set_default_device("meta")
    torch.set_default_device(None)


@pytest.mark.parametrize("name", ALIKE)
def test_the_default_device_does_not_reach_whole_batches(
    fake: None, name: str, meta_by_default: Callable[[], None]
) -> None:
    dataset = pairs()
    dataset.transform, dataset.target_transform = ALIKE[name], abs
    items = [3, 40_000, 7]
    expected = default_collate([dataset[item] for item in items])
    meta_by_default()
    fetched = dataset.__getitems__(items)
    assert is_whole(fetched)
    for batch in (dataset.collate_fn(fetched), dataset.collate_fn(list(fetched))):
        assert all(part.device == torch.device("cpu") for part in batch)
        assert all(map(torch.equal, batch, expected))


@pytest.mark.parametrize("name", ALIKE)
def test_whole_batches_of_another_default_dtype(
    fake: None, name: str, float64_by_default: None
) -> None:
    dataset = pairs()
    dataset.transform = ALIKE[name]
    expected = default_collate([dataset[item] for item in range(5)])
    batch = dataset.collate_fn(dataset.__getitems__(range(5)))
    assert all(ours.dtype == theirs.dtype for ours, theirs in zip(batch, expected, strict=True))
    assert all(map(torch.equal, batch, expected))


# Masks.


@pytest.mark.parametrize("in_order", ORDERS)
@pytest.mark.parametrize("edition", [None, "2021"])
def test_a_published_mask(
    fake: None, published: str, in_order: Order, edition: Edition | None
) -> None:
    dataset = NoisyCIFAR10(
        noise=0.4, sparsity=0.2, train_mask="cl_pbnr", edition=edition, order=in_order
    )
    mask = load_train_mask("cl_pbnr", 0.4, 0.2, edition=edition)
    assert sorted(dataset.imagefolder_index) == np.flatnonzero(mask).tolist()
    assert (number(dataset.data) == dataset.torchvision_index).all()
    same = NoisyCIFAR10(noise=0.4, sparsity=0.2, train_mask=mask, order=in_order)
    assert (same.imagefolder_index == dataset.imagefolder_index).all()
    listed = NoisyCIFAR10(
        noise=0.4, sparsity=0.2, train_mask=np.flatnonzero(mask)[::-1], order=in_order
    )
    assert (listed.imagefolder_index == dataset.imagefolder_index).all()


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.ones(49_999, bool), "has 49,999 entries, where the train set has 50,000"),
        (np.ones((50_000, 1), bool), r"has shape \(50000, 1\)"),
        (np.zeros(50_000, bool), "keeps nothing"),
        (np.ones(50_000, np.uint8), r"50,000 rows, but only 1 different ones: .* 0 and 1 as bool"),
        (np.ones(50_000), "has dtype float64: pass bool"),
        ([50_000], "has row 50000: rows go from 0 to 49,999"),
        ([-1, 3], "has row -1"),
        ([], r"has shape \(0,\)"),
        ([1, 1], "2 rows, but only 1 different"),
        ("cl_pbx", "method 'cl_pbx' is unknown: did you mean"),
        ([[1], [2, 3]], "train_mask is no array"),
    ],
)
def test_masks_that_do_not_fit(fake: None, mask: Any, said: str) -> None:
    with pytest.raises((InvalidInputError, UnknownArtifactError), match=said):
        NoisyCIFAR10(noise=0.4, sparsity=0.2, train_mask=mask)


def test_every_published_mask_tells_right_from_wrong(published: str) -> None:
    """Hold the rule on label-error masks to all masks, and to what it must not warn of."""
    true = load_true_labels()
    values = []
    for artifact in artifacts(kind="train_mask"):
        noise, sparsity = artifact.setting.noise, artifact.setting.sparsity
        mask = load_train_mask(
            cast(Method, artifact.method), noise, sparsity, edition=artifact.edition
        )
        given = load_noisy_labels(noise, sparsity)
        z = association(mask, given, true)
        assert association(~mask, given, true) == pytest.approx(-z)
        if noise:
            values.append(z)
        else:
            assert z == 0
    assert min(values) == pytest.approx(21.1, abs=0.05)
    for setting in SETTINGS:
        given = load_noisy_labels(setting.noise, setting.sparsity)
        for chosen in ({3}, {1, 5}, {0, 1, 2, 3, 4}):
            assert association(np.isin(true, list(chosen)), given, true) == 0
            assert association(np.isin(given, list(chosen)), given, true) == 0
        at_random = np.random.default_rng(0).random(50_000) < 0.3
        assert abs(association(at_random, given, true)) < 5


@pytest.mark.parametrize("in_order", ORDERS)
def test_a_mask_of_label_errors_is_warned_of(fake: None, published: str, in_order: Order) -> None:
    for method in METHODS:
        errors = load_label_errors(method, 0.7, 0)
        with pytest.warns(SuspectMaskWarning, match=r"keeps wrong labels .* pass its complement"):
            NoisyCIFAR10(noise=0.7, sparsity=0, train_mask=errors, order=in_order)
        # Keeping the smaller part is what these masks rightly do at this noise.
        NoisyCIFAR10(noise=0.7, sparsity=0, train_mask=~errors, order=in_order)


@pytest.mark.parametrize("in_order", ORDERS)
def test_a_mask_in_the_other_order_is_refused(
    jpeg: JpegCopy, in_order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, true = load_noisy_labels(0.4, 0.2), load_true_labels()
    indices = load_images(jpeg.batches, trust="pixels").torchvision_index
    mask = np.empty(50_000, bool)
    mask[indices] = given == true
    with pytest.raises(InvalidInputError, match="to be in torchvision's order"):
        NoisyCIFAR10(
            jpeg.batches, noise=0.4, sparsity=0.2, train_mask=mask, order=in_order, trust="pixels"
        )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "noise is missing: the train set needs noise="),
        ({"noise": 0.4}, "sparsity is missing: noise=0.4 was published for"),
        ({"noise": 0.6, "sparsity": 0}, "ask for noise=0.7"),
        ({"train": False, "noise": 0.4}, "noise=0.4 does not go with train=False"),
        ({"train": False, "noise": 0}, "noise=0 does not go with train=False"),
        ({"train": False, "train_mask": [1]}, "train_mask does not go with train=False"),
        ({"noise": 0.4, "sparsity": 0, "edition": "2019"}, "name the method as train_mask"),
        ({"noise": 0, "train_mask": [1], "edition": "2021"}, "is that of a method's mask"),
        ({"noise": 0, "model": "resnet18"}, "is that of a method's mask"),
        ({"noise": 0, "train_mask": "cl_pbc", "model": "resnet18"}, "model 'resnet18' is unknown"),
        ({"noise": 0, "order": "tfds"}, "order 'tfds' is unknown"),
        ({"noise": Setting(0.4, 0.2), "sparsity": 0.4}, "sparsity=0.4 out: Setting"),
        ({"noise": np.array([0.4, 0.2])}, "noise has 0.4 in row 0: labels are whole numbers"),
        ({"noise": "cifar10n-wurst"}, "did you mean cifar10n-worst"),
        ({"noise": "0.4"}, "is not a number: pass a float"),
        ({"noise": 0.4, "sparsity": False}, "sparsity False is not a number"),
        ({"train": False, "noise": Setting(0, 0)}, "noise does not go with train=False"),
    ],
)
def test_requests_that_make_no_sense(fake: None, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises((UnknownArtifactError, InvalidInputError), match=said):
        NoisyCIFAR10(**arguments)


def test_a_setting_as_noise(fake: None) -> None:
    dataset = NoisyCIFAR10(noise=0.4, sparsity=0.2)
    for arguments in ((Setting(0.4, 0.2),), (Setting(0.4, 0.2), 0.2)):
        same = NoisyCIFAR10(None, *arguments)
        assert same.setting == dataset.setting
        assert (same.targets == dataset.targets).all()


def test_a_missing_root(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="has no CIFAR-10 images"):
        NoisyCIFAR10(tmp_path / "missing", noise=0)


# Memory.


def test_a_pickled_dataset_has_no_pixels(fake: None) -> None:
    dataset = NoisyCIFAR10(noise=0.4, sparsity=0.2, order="torchvision")
    assert number(dataset.data[123]) == 123
    travelled = pickle.dumps(dataset)
    assert len(travelled) < 3_000_000
    assert number(pickle.loads(travelled)[123][0]) == 123


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker")
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_share_the_pixels(fake: None, context: str) -> None:
    dataset = NoisyCIFAR10(noise=0.4, sparsity=0.2, order="torchvision", transform=v2.ToImage())
    loader = DataLoader(
        dataset, 500, num_workers=4, multiprocessing_context=context, persistent_workers=True,
        collate_fn=dataset.collate_fn,
    )  # fmt: skip
    for _ in loader:
        pass
    children = [child.pid for child in multiprocessing.active_children()]
    assert len(children) == 4
    pixels = [
        area for pid in children for area in psutil.Process(pid).memory_maps()
        if area.path.endswith(".sealed")
    ]  # fmt: skip
    # All have gone through the images, which are in memory once for all of them together.
    assert len(pixels) >= 4
    assert sum(area.pss for area in pixels) < 1.1 * 154e6
    del loader


# The JPEG copy of CIFAR-10.


@pytest.mark.parametrize("in_order", ORDERS)
def test_the_whole_jpeg_copy(
    jpeg: JpegCopy, published: str, in_order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers, shuffled and masked: labels, index and pixels against torchvision's CIFAR10."""
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    theirs = CIFAR10(str(jpeg.batches))
    noisy_labels, mask = load_noisy_labels(0.4, 0.2), load_train_mask("cl_pbc", 0.4, 0.2)
    names = sorted((jpeg.tree / "train").rglob("*.png"))
    official = np.array([int(name.name.partition("_")[0]) for name in names])
    dataset = NoisyCIFAR10(
        jpeg.batches, noise=0.4, sparsity=0.2, train_mask="cl_pbc", order=in_order,
        transform=v2.PILToTensor(), return_index=True, trust="pixels",
    )  # fmt: skip
    seen = []
    for images, labels, index in DataLoader(dataset, 256, shuffle=True, num_workers=2):
        assert (noisy_labels[index] == labels.numpy()).all()
        source = theirs.data[official[index]]
        assert (images.permute(0, 2, 3, 1).numpy() == source).all()
        seen.append(index)
    assert sorted(torch.cat(seen).tolist()) == np.flatnonzero(mask).tolist()


@pytest.mark.parametrize("in_order", ORDERS)
def test_an_epoch_equals_torchvisions(
    jpeg: JpegCopy, in_order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    transform = transforms.Compose([transforms.ToTensor(), NORMALIZE])
    for train in (True, False):
        theirs = CIFAR10(str(jpeg.batches), train=train, transform=transform)
        dataset = NoisyCIFAR10(
            jpeg.batches, noise=0 if train else None, train=train, transform=transform,
            order=in_order, trust="pixels",
        )  # fmt: skip
        chosen = Subset(theirs, dataset.torchvision_index[:3000].tolist())
        ours = DataLoader(Subset(dataset, range(3000)), 1000, collate_fn=dataset.collate_fn)
        for (images, labels), (expected, targets) in zip(
            ours, DataLoader(chosen, 1000), strict=True
        ):
            assert torch.equal(images, expected)
            assert torch.equal(labels, targets)


def test_the_environment_is_not_touched(fake: None) -> None:
    before = dict(os.environ)
    NoisyCIFAR10(noise=0.2, sparsity=0.6)
    assert dict(os.environ) == before
