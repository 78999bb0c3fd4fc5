"""NoisyCIFAR10 as a torchvision dataset: what torchvision asks of its own, and assignments."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import CIFAR10, VisionDataset, wrap_dataset_for_transforms_v2
from torchvision.datasets.vision import StandardTransform
from torchvision.transforms import v2

from cifar_noisy import InvalidInputError, NoisyCIFAR10, ReadOnlyError, batches
from tests.conftest import JpegCopy

KINDS: dict[str, dict[str, Any]] = {
    "train": {"noise": 0.4, "sparsity": 0.2},
    "part": {"noise": 0.4, "sparsity": 0.2, "train_mask": range(0, 50_000, 9)},
    "torchvision": {"noise": 0.4, "sparsity": 0.2, "order": "torchvision"},
    "test": {"train": False},
}
each_kind = pytest.mark.parametrize("words", KINDS.values(), ids=KINDS)


class Recorder:
    """A transform that counts its calls and gives what it got."""

    def __init__(self) -> None:
        self.n_calls = 0

    def __call__(self, *values: Any) -> Any:
        self.n_calls += 1
        return values if len(values) > 1 else values[0]


def invert(image: Image.Image) -> Image.Image:
    return image.point(lambda value: 255 - value)


def negate(label: int) -> int:
    return -label - 1


def invert_and_negate(image: Image.Image, label: int) -> tuple[Image.Image, int]:
    return invert(image), negate(label)


def plain() -> Any:
    return NoisyCIFAR10(noise=0.4, sparsity=0.2)


def what_is_done(dataset: Any) -> tuple[bool, bool]:
    """Return whether items come with inverted images and negative labels, however fetched."""
    item = dataset[7]
    original = plain().images.pixels[dataset.imagefolder_index[7]]
    inverted = bool((np.asarray(item[0]) == 255 - original).all())
    assert inverted or (np.asarray(item[0]) == original).all()
    fetched = next(iter(DataLoader(dataset, 9, collate_fn=list)))[7]
    assert np.array_equal(fetched[0], item[0])
    assert fetched[1] == item[1]
    return inverted, item[1] < 0


# What the tests of torchvision's own datasets ask.


@each_kind
def test_it_is_a_vision_dataset(fake: None, words: dict[str, Any]) -> None:
    dataset = NoisyCIFAR10(**words)
    assert isinstance(dataset, VisionDataset)
    assert isinstance(str(dataset), str)
    assert repr(dataset) == f"NoisyCIFAR10({dataset.extra_repr()})"
    assert dataset.root is None
    image, label = dataset[0]
    assert isinstance(image, Image.Image)
    assert isinstance(label, int)
    with pytest.raises(IndexError):  # which ends iteration
        dataset[len(dataset)]


@each_kind
@pytest.mark.parametrize("name", ["transforms", "transform", "target_transform"])
def test_each_transform_is_called(fake: None, words: dict[str, Any], name: str) -> None:
    recorder = Recorder()
    dataset = NoisyCIFAR10(**(words | {name: recorder}))
    dataset[0]
    assert recorder.n_calls == 1
    next(iter(DataLoader(dataset, 4, collate_fn=list)))
    assert recorder.n_calls == 5


@each_kind
def test_the_wrapper_for_v2(fake: None, words: dict[str, Any]) -> None:
    steps = v2.Compose([v2.ToImage(), v2.RandomHorizontalFlip(p=1)])
    for arguments in ({"transform": steps, "target_transform": negate}, {"transforms": steps}):
        expected = NoisyCIFAR10(**words, **arguments)
        wrapped = wrap_dataset_for_transforms_v2(NoisyCIFAR10(**words, **arguments))
        for dataset in (wrapped, pickle.loads(pickle.dumps(wrapped))):
            assert isinstance(dataset, NoisyCIFAR10)
            assert len(dataset) == len(expected)
            for position in (0, 77, -1):
                image, label = dataset[position]
                assert type(image) is type(expected[position][0])
                assert torch.equal(image, expected[position][0])
                assert label == expected[position][1]
            for name in ("data", "targets", "true_targets", "imagefolder_index"):
                assert np.array_equal(getattr(dataset, name), getattr(expected, name))
            assert repr(dataset) == f"Wrapped{expected!r}"
            images, labels = next(iter(DataLoader(dataset, 5)))
            ours = next(iter(DataLoader(expected, 5)))
            assert torch.equal(images, ours[0])
            assert torch.equal(labels, ours[1])


def test_what_the_wrapper_cannot_do(fake: None) -> None:
    with pytest.raises(InvalidInputError, match="make the dataset without return_index"):
        wrap_dataset_for_transforms_v2(NoisyCIFAR10(noise=0, return_index=True))
    wrapped = wrap_dataset_for_transforms_v2(plain())
    with pytest.raises(ReadOnlyError, match="assign targets to the dataset itself"):
        wrapped.targets = [0] * 50_000
    with pytest.raises(InvalidInputError, match="WrappedNoisyCIFAR10 has its own __getitem__"):
        batches(wrapped, 5)


@pytest.mark.parametrize("form", [str, Path])
def test_roots(jpeg: JpegCopy, form: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(jpeg.batches.parent))
    for root in (jpeg.batches, Path("~", jpeg.batches.name)):
        dataset = NoisyCIFAR10(form(root), train=False, trust="pixels")
        assert isinstance(dataset.root, form)
    assert Path(dataset.root).expanduser() == jpeg.batches


def test_the_names_of_cifar10_are_there() -> None:
    names = {"data", "targets", "transform", "target_transform", "transforms", "extra_repr"}
    assert all(hasattr(NoisyCIFAR10, name) for name in names)
    assert {name for name in names if hasattr(CIFAR10, name)} == {"extra_repr"}  # set by __init__


# Assignments.


def test_a_transform_may_be_assigned(fake: None) -> None:
    dataset = plain()
    assert dataset.transforms is None
    dataset.transform = invert
    assert what_is_done(dataset) == (True, False)
    dataset.target_transform = negate
    assert what_is_done(dataset) == (True, True)
    assert type(dataset.transforms) is StandardTransform
    both: Any = dataset.transforms
    assert (both.transform, both.target_transform) == (invert, negate)
    dataset.transform = None
    assert what_is_done(dataset) == (False, True)
    dataset.target_transform = None
    assert what_is_done(dataset) == (False, False)
    assert dataset.transforms is None


def test_transforms_may_be_assigned(fake: None) -> None:
    dataset = plain()
    dataset.transform = negate  # of an image, this would fail
    dataset.transforms = invert_and_negate
    assert what_is_done(dataset) == (True, True)
    assert (dataset.transform, dataset.target_transform) == (None, None)
    # None is what they are: that removes nothing.
    dataset.transform = dataset.target_transform = None
    assert dataset.transforms is invert_and_negate
    dataset.target_transform = negate
    assert what_is_done(dataset) == (False, True)
    dataset.transforms = StandardTransform(invert, None)
    assert (dataset.transform, dataset.target_transform) == (invert, None)
    assert what_is_done(dataset) == (True, False)
    dataset.transforms = None
    assert what_is_done(dataset) == (False, False)
    assert dataset.transform is None


def test_a_changed_standard_transform_is_obeyed(fake: None) -> None:
    dataset = NoisyCIFAR10(noise=0.4, sparsity=0.2, target_transform=negate)
    dataset.transforms.transform = invert  # type: ignore[union-attr]
    assert dataset.transform is invert
    assert what_is_done(dataset) == (True, True)


def test_copies_have_transforms_of_their_own(fake: None) -> None:
    dataset = NoisyCIFAR10(noise=0.4, sparsity=0.2, transform=invert)
    for other in (copy.copy(dataset), copy.deepcopy(dataset), pickle.loads(pickle.dumps(dataset))):
        assert what_is_done(other) == (True, False)
        other.transform = None
        assert what_is_done(other) == (False, False)
        assert what_is_done(dataset) == (True, False)


class Scheduled(NoisyCIFAR10):
    """One with a transform that it chooses itself."""

    epoch = 0

    @property
    def transform(self) -> Callable[[Any], Any] | None:
        return invert if self.epoch else None

    @transform.setter
    def transform(self, transform: object) -> None:
        pass


class Standardised(StandardTransform):  # type: ignore[misc]
    def __call__(self, image: Any, label: Any) -> tuple[Any, Any]:
        return invert(image), label


class Joint(NoisyCIFAR10):
    @property
    def transforms(self) -> Callable[[Any, Any], Any] | None:
        return invert_and_negate

    @transforms.setter
    def transforms(self, transforms: object) -> None:
        pass


def test_subclasses_with_transforms_of_their_own(fake: None) -> None:
    scheduled = Scheduled(noise=0.4, sparsity=0.2)
    assert what_is_done(scheduled) == (False, False)
    scheduled.epoch = 1
    assert what_is_done(scheduled) == (True, False)
    assert what_is_done(Joint(noise=0.4, sparsity=0.2)) == (True, True)
    dataset = plain()
    dataset.transforms = Standardised(negate)
    assert what_is_done(dataset) == (True, False)


@pytest.mark.parametrize("name", ["transform", "target_transform", "transforms"])
def test_batches_refuses_each(fake: None, name: str) -> None:
    dataset = NoisyCIFAR10(noise=0, **{name: invert})  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="make the dataset without transform"):
        batches(dataset, 5)


@pytest.mark.parametrize("name", ["transform", "target_transform"])
def test_transforms_exclude_the_others(fake: None, name: str) -> None:
    with pytest.raises(InvalidInputError, match=f"excludes {name}=: leave one out"):
        NoisyCIFAR10(noise=0, transforms=invert_and_negate, **{name: invert})  # type: ignore[arg-type]


def test_a_subclass_may_say_more(fake: None) -> None:
    class Named(NoisyCIFAR10):
        def extra_repr(self) -> str:
            return "mine"

    assert repr(Named(noise=0)) == "Named(mine)"
