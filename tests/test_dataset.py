"""NoisyCIFAR10: every item's image, label and index belong together, however it is reached."""

import multiprocessing
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, DistributedSampler, Subset, default_collate, random_split
from torchvision import transforms
from torchvision.datasets import CIFAR10
from torchvision.transforms import v2

from cifar_noisy import (
    InvalidInputError,
    NoisyCIFAR10,
    SuspectMaskWarning,
    UnavailableError,
    UnknownArtifactError,
    artifacts,
    load_images,
    load_label_errors,
    load_noise_matrix,
    load_noisy_labels,
    load_train_mask,
    load_true_labels,
)
from cifar_noisy.kept_rows import association
from cifar_noisy.settings import METHODS, SETTINGS
from cifar_noisy.whole_batches import whole_batch_transform
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
def test_attributes(fake: None, in_order: str) -> None:
    dataset = NoisyCIFAR10(noise=0.4, sparsity=0.2, order=in_order)
    assert len(dataset) == len(dataset.data) == len(dataset.targets) == 50_000
    assert (number(dataset.data) == dataset.indices).all()
    assert (dataset.true_targets == NUMBERED.labels[True][dataset.indices]).all()
    assert (dataset.targets == load_noisy_labels(0.4, 0.2)[dataset.index]).all()
    assert (dataset.true_targets == load_true_labels()[dataset.index]).all()
    assert np.array_equal(dataset.noise_matrix, load_noise_matrix(0.4, 0.2))  # type: ignore[arg-type]
    if in_order == "torchvision":
        assert (dataset.indices == np.arange(50_000)).all()
        assert (dataset.targets == load_noisy_labels(0.4, 0.2, order="torchvision")).all()
    else:
        assert (dataset.index == np.arange(50_000)).all()
    assert dataset.classes[3] == "cat"
    assert dataset.class_to_idx["cat"] == 3
    assert "noise 0.4, sparsity 0.2, 50,000 images in" in repr(dataset)
    for array in (dataset.data, dataset.targets, dataset.true_targets, dataset.indices):
        assert not array.flags.writeable
    with pytest.raises(AttributeError):
        dataset.data = dataset.data[::-1]  # type: ignore[misc]


@pytest.mark.parametrize("in_order", ORDERS)
@pytest.mark.parametrize("transform", [None, v2.PILToTensor()])
def test_items(fake: None, in_order: str, transform: Callable[[Any], Any] | None) -> None:
    rows = np.random.default_rng(0).permutation(50_000)[:30_000]
    dataset = NoisyCIFAR10(
        noise=0.2, sparsity=0, order=in_order, train_mask=rows, transform=transform,
        return_index=True,
    )  # fmt: skip
    given = load_noisy_labels(0.2, 0)
    assert sorted(dataset.index) == sorted(rows)
    for position in [*range(0, 30_000, 611), -1]:
        image, label, index = dataset[position]
        assert isinstance(image, Image.Image) == (transform is None)
        assert (type(label), type(index)) == (int, int)
        assert label == given[index] == dataset.targets[position]
        assert number(image) == dataset.indices[position]
        assert load_images().indices[index] == number(image)
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
    fake: None, in_order: str, own_collate: bool, context: str
) -> None:
    mask = np.random.default_rng(1).random(50_000) < 0.1
    dataset = NoisyCIFAR10(
        noise=0.7, sparsity=0.2, order=in_order, train_mask=mask, transform=v2.PILToTensor(),
        return_index=True,
    )  # fmt: skip
    given, official = load_noisy_labels(0.7, 0.2), load_images().indices
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
def test_index_with_distributed_samplers(fake: None, in_order: str) -> None:
    dataset = NoisyCIFAR10(
        noise=0.4, sparsity=0, order=in_order, transform=v2.PILToTensor(), return_index=True
    )
    given, official = load_noisy_labels(0.4, 0), load_images().indices
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


@pytest.mark.parametrize("transform", ALIKE.values(), ids=ALIKE)
def test_whole_batches(
    fake: None, transform: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = NoisyCIFAR10(noise=0.4, sparsity=0.2, transform=transform, return_index=True)
    random_images(monkeypatch, dataset)
    assert whole_batch_transform(transform) is not None
    items = [3, 40_000, 7, -1]
    plain = default_collate([dataset[item] for item in items])
    monkeypatch.setattr(NoisyCIFAR10, "__getitem__", None)
    fetched = dataset.__getitems__(items)
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


# Masks.


@pytest.mark.parametrize("in_order", ORDERS)
@pytest.mark.parametrize("edition", [None, "2021"])
def test_a_published_mask(fake: None, published: str, in_order: str, edition: str | None) -> None:
    dataset = NoisyCIFAR10(
        noise=0.4, sparsity=0.2, train_mask="cl_pbnr", edition=edition, order=in_order
    )
    mask = load_train_mask("cl_pbnr", 0.4, 0.2, edition=edition)
    assert sorted(dataset.index) == np.flatnonzero(mask).tolist()
    assert (number(dataset.data) == dataset.indices).all()
    same = NoisyCIFAR10(noise=0.4, sparsity=0.2, train_mask=mask, order=in_order)
    assert (same.index == dataset.index).all()
    listed = NoisyCIFAR10(
        noise=0.4, sparsity=0.2, train_mask=np.flatnonzero(mask)[::-1], order=in_order
    )
    assert (listed.index == dataset.index).all()


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
        mask = load_train_mask(str(artifact.method), noise, sparsity, edition=artifact.edition)
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
def test_a_mask_of_label_errors_is_warned_of(fake: None, published: str, in_order: str) -> None:
    for method in METHODS:
        errors = load_label_errors(method, 0.7, 0)
        with pytest.warns(SuspectMaskWarning, match=r"keeps wrong labels .* pass its complement"):
            NoisyCIFAR10(noise=0.7, sparsity=0, train_mask=errors, order=in_order)
        # Keeping the smaller part is what these masks rightly do at this noise.
        NoisyCIFAR10(noise=0.7, sparsity=0, train_mask=~errors, order=in_order)


@pytest.mark.parametrize("in_order", ORDERS)
def test_a_mask_in_the_other_order_is_refused(
    jpeg: JpegCopy, in_order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, true = load_noisy_labels(0.4, 0.2), load_true_labels()
    indices = load_images(jpeg.batches, trust="pixels").indices
    mask = np.empty(50_000, bool)
    mask[indices] = given == true
    with pytest.raises(InvalidInputError, match="are in torchvision's order"):
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
        ({"noise": 0.4, "sparsity": 0, "edition": "2019"}, "name its method as train_mask"),
        ({"noise": 0, "train_mask": [1], "edition": "2021"}, "does not go with an array"),
        ({"noise": 0, "order": "tfds"}, "order 'tfds' is unknown"),
    ],
)
def test_requests_that_make_no_sense(fake: None, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UnknownArtifactError, match=said):
        NoisyCIFAR10(**arguments)


def test_a_missing_root(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="has no CIFAR-10 images"):
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
    jpeg: JpegCopy, published: str, in_order: str, monkeypatch: pytest.MonkeyPatch
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
    jpeg: JpegCopy, in_order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    transform = transforms.Compose([transforms.ToTensor(), NORMALIZE])
    for train in (True, False):
        theirs = CIFAR10(str(jpeg.batches), train=train, transform=transform)
        dataset = NoisyCIFAR10(
            jpeg.batches, noise=0 if train else None, train=train, transform=transform,
            order=in_order, trust="pixels",
        )  # fmt: skip
        chosen = Subset(theirs, dataset.indices[:3000].tolist())
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
