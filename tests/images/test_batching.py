"""Batches for training loops against torchvision's crop, flip and normalisation, image by image."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Subset
from torchvision import transforms
from torchvision.transforms import functional

from cifar_noisy import (
    InvalidInputError,
    NoisyCIFAR10,
    batches,
    load_images,
    load_noisy_labels,
)
from cifar_noisy.images.augmentation import PADDING
from cifar_noisy.images.batching import CIFAR10_MEAN, CIFAR10_STD, Batches
from cifar_noisy.settings import Order
from tests.conftest import JpegCopy

ORDERS = ("imagefolder", "torchvision")
RANDOM = np.random.default_rng(0).integers(0, 256, (50_000, 32, 32, 3), np.uint8)


def coloured(**arguments: Any) -> NoisyCIFAR10:
    """Return the made-up dataset with pixels of all values."""
    dataset = NoisyCIFAR10(noise=0.4, sparsity=0.2, **arguments)
    object.__setattr__(dataset.images, "pixels", RANDOM)
    return dataset


def plain(pixels: np.ndarray[Any, Any]) -> torch.Tensor:
    tensor = functional.to_tensor(pixels)
    normalized: torch.Tensor = functional.normalize(tensor, list(CIFAR10_MEAN), list(CIFAR10_STD))
    return normalized


@pytest.mark.parametrize("in_order", ORDERS)
def test_without_augmentation(fake: None, in_order: Order) -> None:
    dataset = coloured(order=in_order, train_mask=np.arange(0, 50_000, 50))
    given = load_noisy_labels(0.4, 0.2)
    seen = []
    for images, labels, index in batches(dataset, 300, augment=False, seed=1):
        assert (images.dtype, labels.dtype, index.dtype) == (
            torch.float32, torch.int64, torch.int64
        )  # fmt: skip
        assert images.is_contiguous()
        assert (labels.numpy() == given[index]).all()
        expected = torch.stack([plain(RANDOM[row]) for row in index])
        assert torch.allclose(images, expected, atol=1e-6)
        seen.append(index)
    assert [len(index) for index in seen] == [300, 300, 300, 100]
    every = torch.cat(seen).tolist()
    assert sorted(every) == list(range(0, 50_000, 50)) != every


@pytest.mark.parametrize("in_order", ORDERS)
def test_with_augmentation(fake: None, in_order: Order) -> None:
    """Find each image's crop and flip among torchvision's 162, and all of them in use."""
    dataset = coloured(order=in_order, train_mask=np.arange(0, 50_000, 40))
    given = load_noisy_labels(0.4, 0.2)
    found = []
    for images, labels, index in batches(dataset, 250, seed=3):
        assert (labels.numpy() == given[index]).all()
        for image, row in zip(images, index, strict=True):
            padded = functional.pad(torch.from_numpy(RANDOM[row]).permute(2, 0, 1), [PADDING])
            pixels = (image * torch.tensor(CIFAR10_STD).view(3, 1, 1)).add_(
                torch.tensor(CIFAR10_MEAN).view(3, 1, 1)
            )
            pixels = (pixels * 255).round().to(torch.uint8)
            found.append(place(pixels, padded))
    assert len(found) == 1250
    counts = np.zeros((9, 9, 2))
    np.add.at(counts, tuple(np.transpose(found)), 1)
    # Each of 9 by 9 places and 2 sides is equally likely.
    for axes, n in (((1, 2), 9), ((0, 2), 9), ((0, 1), 2)):
        expected = 1250 / n
        assert (np.abs(counts.sum(axes) - expected) < 5 * expected**0.5).all()


def place(pixels: torch.Tensor, padded: torch.Tensor) -> tuple[int, int, int]:
    windows = padded.unfold(1, 32, 1).unfold(2, 32, 1)
    for flip, seen in enumerate((pixels, pixels.flip(2))):
        matches = (windows == seen[:, None, None]).all(-1).all(-1).all(0).nonzero()
        if len(matches) == 1:
            down, right = matches[0].tolist()
            return down, right, flip
    raise AssertionError("no crop of the image")


def test_a_crop_is_torchvisions_random_crop(fake: None) -> None:
    """Hold places at the border, where black is, to RandomCrop's own padding."""
    dataset = coloured(train_mask=[0, 49_999])
    crop = transforms.RandomCrop(32, PADDING)
    theirs = {
        crop(torch.from_numpy(RANDOM[0]).permute(2, 0, 1)).numpy().tobytes() for _ in range(2000)
    }
    assert len(theirs) == 81
    loader = batches(dataset, 2, shuffle=False, mean=(0, 0, 0), std=(1, 1, 1))
    ours = set()
    for _ in range(1500):
        for images, _, _ in loader:
            ours.add((images[0] * 255).round().to(torch.uint8).numpy().tobytes())
    assert theirs < ours
    assert len(ours) == 162


def epoch(loader: Batches) -> tuple[torch.Tensor, torch.Tensor]:
    parts = list(loader)
    images, index = (torch.cat([part[k] for part in parts]) for k in (0, 2))
    order = index.argsort()
    return images[order], index[order]


def test_deterministic_in_seed_and_epoch(fake: None) -> None:
    dataset = coloured(train_mask=np.arange(0, 50_000, 100))
    first = list(batches(dataset, 64, seed=1))
    again = list(batches(dataset, 64, seed=1))
    for ours, theirs in zip(first, again, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    loader = batches(dataset, 64, seed=1)
    epochs = [torch.cat([index for _, _, index in loader]).tolist() for _ in range(3)]
    assert loader.epoch == 3
    assert len({tuple(order) for order in epochs}) == 3
    loader.epoch = 1
    assert torch.cat([index for _, _, index in loader]).tolist() == epochs[1]
    begun = batches(dataset, 64, seed=1, epoch=2)
    assert torch.cat([index for _, _, index in begun]).tolist() == epochs[2]
    other = batches(dataset, 64, seed=2, epoch=0)
    assert torch.cat([index for _, _, index in other]).tolist() not in epochs


def test_batch_size_and_processes_change_nothing(fake: None) -> None:
    dataset = coloured(train_mask=np.arange(0, 50_000, 100))
    images, index = epoch(batches(dataset, 64, seed=1))
    for size in (1, 500, 1000):
        more_images, more_index = epoch(batches(dataset, size, seed=1))
        assert torch.equal(more_images, images)
        assert torch.equal(more_index, index)
    ranks = [epoch(batches(dataset, 64, seed=1, rank=r, world_size=4)) for r in range(4)]
    joined = torch.cat([part[1] for part in ranks])
    assert joined.sort().values.tolist() == index.tolist()
    assert torch.equal(torch.cat([part[0] for part in ranks])[joined.argsort()], images)


@pytest.mark.parametrize("in_order", ORDERS)
def test_ranks_share_what_does_not_go_up(fake: None, in_order: Order) -> None:
    dataset = coloured(train_mask=range(10), order=in_order)
    loaders = [batches(dataset, 2, rank=r, world_size=4) for r in range(4)]
    assert [len(loader) for loader in loaders] == [2] * 4
    indices = [torch.cat([index for _, _, index in loader]).tolist() for loader in loaders]
    assert [len(index) for index in indices] == [3] * 4
    assert {row for index in indices for row in index} == set(range(10))


def test_lengths(fake: None) -> None:
    dataset = coloured(train_mask=range(10))
    for size, n, n_full in ((3, 4, 3), (5, 2, 2), (11, 1, 0)):
        assert len(batches(dataset, size)) == len(list(batches(dataset, size))) == n
        full = batches(dataset, size, drop_last=True)
        assert len(full) == len(list(full)) == n_full


def test_subsets(fake: None) -> None:
    dataset = coloured(order="torchvision")
    inner = Subset(Subset(dataset, range(100, 200)), [5, 50, 7])
    images, labels, index = next(iter(batches(inner, 8, augment=False, shuffle=False)))
    positions = [105, 150, 107]
    assert index.tolist() == dataset.imagefolder_index[positions].tolist()
    assert labels.tolist() == dataset.targets[positions].tolist()
    assert torch.allclose(images[1], plain(RANDOM[dataset.imagefolder_index[150]]), atol=1e-6)


def test_the_test_set_is_left_as_it_is(fake: None) -> None:
    dataset = NoisyCIFAR10(train=False)
    index = torch.cat([index for _, _, index in batches(dataset, 999)])
    assert index.tolist() == list(range(10_000))


class OwnSubset(Subset[Any]):
    """One that may do anything."""

    def __getitems__(self, indices: list[int]) -> list[Any]:
        return [self.dataset[0] for _ in indices]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"batch_size": 0}, "batch_size is 0: pass a whole number from 1"),
        ({"batch_size": -64}, "batch_size is -64"),
        ({"batch_size": 64.0}, "batch_size is 64.0: pass a whole number"),
        ({"batch_size": True}, "batch_size is True"),
        ({"batch_size": "64"}, "batch_size is '64'"),
        ({"batch_size": None}, "batch_size is None"),
        ({"rank": 2, "world_size": 2}, "with world_size 2, rank is 2: pass .* from 0 to 1"),
        ({"rank": -1}, "rank is -1"),
        ({"rank": 0.0}, r"rank is 0\.0"),
        ({"world_size": 0}, "world_size is 0"),
        ({"seed": -1}, "seed is -1: pass a whole number from 0"),
        ({"seed": 2**32}, "seed is 4294967296: pass a whole number from 0 to 4294967295"),
        ({"seed": 2**70}, "seed is 1180591620717411303424"),
        ({"seed": 10**5000}, "seed is an integer of many digits: pass"),
        ({"batch_size": "64" * 99}, r"batch_size is '6464.{,40}: pass a whole number"),
        ({"shuffle": "no"}, "shuffle is 'no': pass True or False"),
        ({"augment": 0}, "augment is 0: pass True or False"),
        ({"drop_last": None}, "drop_last is None: pass True or False"),
        ({"epoch": 1.5}, r"epoch is 1\.5"),
        ({"epoch": -1}, "epoch is -1"),
        (
            {"mean": (125.3, 123.0, 113.9)},
            "mean is .125.3.*: pass three .*divide values",
        ),
        (
            {"std": (63.0, 62.1, 66.7)},
            "std is .63.0.*: pass .* in units of 255 .divide values of bytes by 255",
        ),
        (
            {"mean": torch.tensor([125.3, 123.0, 113.9])},
            "mean is tensor.*divide values",
        ),
        ({"std": (0.2, 0.0, 0.2)}, r"std is .*: pass three numbers from 0\.001 to 1"),
        ({"std": (0.2, 0.2, -0.2)}, "std is"),
        ({"std": (0.2, 0.2, 1e-300)}, "std is"),
        ({"std": (0.2, 0.2, float("nan"))}, "std is"),
        ({"mean": (0.5, 0.5, float("inf"))}, "mean is"),
        ({"mean": (0.5, 0.5, -0.5)}, "mean is"),
        ({"mean": 0.5}, r"mean is 0\.5: pass three numbers"),
        ({"mean": (0.5, 0.5)}, "mean is"),
        ({"mean": [[0.5, 0.5, 0.5]]}, "mean is"),
        ({"mean": [0.5, [0.5], 0.5]}, "mean is no array"),
        ({"mean": None}, "mean is None"),
        ({"std": "0.2"}, "std is '0.2'"),
        ({"std": ["0.2"] * 3}, "std is"),
        (
            {"device": "gpu"},
            "pass device='cpu', or 'cuda' where torch finds a GPU: 'gpu' cannot be",
        ),
        ({"device": ""}, "'' cannot be used"),
        ({"device": None}, "None cannot be used"),
        ({"device": "xpu"}, "'xpu' cannot be used"),
        ({"device": "hpu"}, "'hpu' cannot be used"),
        ({"device": "meta"}, "'meta' cannot be used"),
        ({"dataset": "float subset"}, "whole numbers below 50,000"),
        ({"dataset": "bool subset"}, r"a Subset has the indices \["),
        ({"dataset": "subset too far"}, "whole numbers below 10"),
        ({"dataset": "own subset"}, "not a OwnSubset: use a DataLoader"),
        ({"dataset": [1]}, "not a list: use a DataLoader"),
        ({"dataset": "transform"}, "calls no transform"),
        ({"dataset": "empty"}, "is empty"),
    ],
)
def test_requests_that_make_no_sense(fake: None, arguments: dict[str, Any], said: str) -> None:
    dataset = NoisyCIFAR10(noise=0)
    datasets = {
        "transform": NoisyCIFAR10(noise=0, transform=transforms.ToTensor()),
        "empty": Subset(dataset, []),
        "float subset": Subset(dataset, [1.5]),  # type: ignore[list-item]
        "bool subset": Subset(dataset, [True, False]),
        "subset too far": Subset(Subset(dataset, range(10)), [3, 10]),
        "own subset": OwnSubset(dataset, [1, 2]),
    }
    chosen = arguments.get("dataset", dataset)
    chosen = datasets.get(chosen, chosen) if isinstance(chosen, str) else chosen
    with pytest.raises(InvalidInputError, match=said):
        batches(**{"batch_size": 4, **arguments, "dataset": chosen})


def test_numbers_of_other_libraries(fake: None) -> None:
    dataset = coloured(train_mask=range(20))
    plain = epoch(batches(dataset, 4, seed=3, epoch=1, rank=1, world_size=2))
    other = epoch(
        batches(
            dataset, np.int64(4), seed=np.uint8(3), epoch=torch.tensor(1), rank=np.int32(1),
            world_size=np.int64(2), mean=np.array(CIFAR10_MEAN), std=torch.tensor(CIFAR10_STD),
            device=torch.device("cpu"),
        )
    )  # fmt: skip
    assert all(map(torch.equal, plain, other))
    assert len(epoch(batches(dataset, 4, seed=2**32 - 1))[0]) == 20


def test_subsets_that_count_from_the_end(fake: None) -> None:
    dataset = coloured()
    chosen = [[49_999, 7, 49_990], [-1, 7, -10]]
    ours, theirs = (epoch(batches(Subset(dataset, part), 3, seed=2)) for part in chosen)
    assert all(map(torch.equal, ours, theirs))
    assert ours[1].tolist() == [7, 49_990, 49_999]


def test_what_is_changed_between_epochs(fake: None) -> None:
    dataset = coloured(train_mask=range(20))
    loader = batches(dataset, 4)
    loader.epoch = 1.5  # type: ignore[assignment]
    with pytest.raises(InvalidInputError, match=r"epoch is 1\.5"):
        list(loader)
    loader.epoch = 0
    dataset.transform = transforms.ToTensor()
    with pytest.raises(InvalidInputError, match="calls no transform"):
        list(loader)


@pytest.fixture
def odd_defaults() -> Iterator[None]:
    """Make tensors that name no device or dtype ones without data, or of float64."""
    torch.set_default_device("meta")
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("augment", [True, False])
def test_state_of_torch_changes_nothing(
    fake: None, augment: bool, request: pytest.FixtureRequest
) -> None:
    dataset = coloured(train_mask=np.arange(0, 50_000, 100))
    arguments: dict[str, Any] = {"seed": 1, "augment": augment, "shuffle": True}
    before = list(batches(dataset, 64, **arguments))
    torch.manual_seed(7)
    request.getfixturevalue("odd_defaults")
    state = torch.get_rng_state()
    after = list(batches(dataset, 64, **arguments))
    assert torch.equal(torch.get_rng_state().to("cpu"), state.to("cpu"))
    for ours, theirs in zip(after, before, strict=True):
        assert [part.dtype for part in ours] == [torch.float32, torch.int64, torch.int64]
        assert all(map(torch.equal, ours, theirs))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_devices_agree(fake: None) -> None:
    dataset = coloured(train_mask=np.arange(0, 50_000, 100))
    for augment in (True, False):
        ours, theirs = (
            list(batches(dataset, 64, augment=augment, device=device)) for device in ("cpu", "cuda")
        )
        for mine, other in zip(ours, theirs, strict=True):
            assert all(
                b.is_cuda and torch.allclose(a, b.cpu()) for a, b in zip(mine, other, strict=True)
            )


@pytest.mark.parametrize("in_order", ORDERS)
def test_the_whole_jpeg_copy(jpeg: JpegCopy, in_order: Order) -> None:
    dataset = NoisyCIFAR10(jpeg.batches, 0.7, 0.4, order=in_order, trust="pixels")
    given, pixels = load_noisy_labels(0.7, 0.4), load_images(jpeg.tree).pixels
    seen = []
    for images, labels, index in batches(dataset, 500, augment=False, mean=(0,) * 3, std=(1,) * 3):
        assert (labels.numpy() == given[index]).all()
        bytes_ = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        assert (bytes_.numpy() == pixels[index]).all()
        seen.append(index)
    assert torch.cat(seen).sort().values.tolist() == list(range(50_000))
