"""Every label set through a DataLoader on all of CIFAR-10: label, index and pixels of one image."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from torchvision.datasets import CIFAR10
from torchvision.transforms import v2

import cifar_noisy
from cifar_noisy import NoisyCIFAR10, UnknownArtifactError, load_noisy_labels, load_train_mask
from cifar_noisy.settings import ORDERS, Order
from tests.conftest import JpegCopy
from tests.loading.test_given_labels import OTHERS, plainly_read

NAMES = [source.name for source in OTHERS]


@pytest.fixture(scope="module")
def torchvisions(written_jpeg: JpegCopy) -> NDArray[np.uint8]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
        pixels: NDArray[np.uint8] = CIFAR10(str(written_jpeg.batches)).data
    return pixels


@pytest.fixture(scope="module")
def official(written_jpeg: JpegCopy) -> NDArray[np.int64]:
    """Return the number in each file name, in the order of an ImageFolder."""
    names = sorted((written_jpeg.tree / "train").rglob("*.png"))
    return np.array([int(name.name.partition("_")[0]) for name in names])


@pytest.mark.parametrize("in_order", ORDERS)
@pytest.mark.parametrize("name", NAMES)
def test_the_whole_jpeg_copy(
    jpeg: JpegCopy,
    label_sets: Path,
    torchvisions: NDArray[np.uint8],
    official: NDArray[np.int64],
    name: str,
    in_order: Order,
) -> None:
    """Shuffled: images against torchvision's CIFAR10, labels against the file read plainly."""
    source = next(source for source in OTHERS if source.name == name)
    if name == "cifar10s":  # its file is in an order that nothing but its labels tells
        by_number = np.lexsort((official, np.repeat(np.arange(10), 5_000)))
        expected = np.empty(50_000, np.int64)
        expected[official[by_number]] = load_noisy_labels(0.2, 0.4)
    else:
        expected = plainly_read(label_sets / source.path, name)
    dataset = NoisyCIFAR10(
        jpeg.batches, noise=name, order=in_order, transform=v2.PILToTensor(), return_index=True,
        trust="pixels",
    )  # fmt: skip
    assert repr(dataset) == f"NoisyCIFAR10(train, {name}, 50,000 images in {in_order} order)"
    published, seen = load_noisy_labels(name), []
    loader = DataLoader(dataset, 1000, shuffle=True, collate_fn=dataset.collate_fn)
    for images, labels, index in loader:
        assert np.array_equal(labels, published[index])
        assert np.array_equal(labels, expected[official[index]])
        assert np.array_equal(images.permute(0, 2, 3, 1), torchvisions[official[index]])
        seen.append(index)
    assert torch.equal(torch.cat(seen).sort().values, torch.arange(50_000))


@pytest.mark.parametrize("in_order", ORDERS)
def test_own_labels_and_a_computed_mask(
    jpeg: JpegCopy, label_sets: Path, in_order: Order, tmp_path: Path
) -> None:
    human = load_noisy_labels("cifar10n-worst", order=in_order)
    file = cifar_noisy.export_labels(tmp_path / "mine.json", human, format="promix", order=in_order)
    by_name = NoisyCIFAR10(
        jpeg.batches, noise="cifar10n-worst", train_mask="cl_pbnr", model="resnet18",
        order=in_order, return_index=True, trust="pixels",
    )  # fmt: skip
    keep = load_train_mask("cl_pbnr", "cifar10n-worst", model="resnet18")
    assert sorted(by_name.imagefolder_index.tolist()) == np.flatnonzero(keep).tolist()
    for mine in (human, cifar_noisy.read_labels(file)):
        own = NoisyCIFAR10(
            jpeg.batches, noise=mine, train_mask=keep, order=in_order, trust="pixels"
        )
        assert np.array_equal(own.targets, by_name.targets)
        assert np.array_equal(own.torchvision_index, by_name.torchvision_index)
        with pytest.warns(cifar_noisy.CountedMatrixWarning):
            assert own.noise_matrix is not None
    with pytest.raises(UnknownArtifactError, match="does not go with train=False"):
        NoisyCIFAR10(jpeg.batches, noise="cifar10n-worst", train=False, trust="pixels")
    with pytest.raises(UnknownArtifactError, match="noise does not go with train=False"):
        NoisyCIFAR10(jpeg.batches, noise=human, train=False, trust="pixels")
