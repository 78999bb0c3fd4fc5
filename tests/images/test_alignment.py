"""What check_alignment accepts, what it rejects, and where its power ends."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.datasets import CIFAR10, ImageFolder
from torchvision.transforms import v2

from cifar_noisy import (
    Alignment,
    ImagesError,
    InvalidInputError,
    NoisyCIFAR10,
    check_alignment,
    load_images,
    load_noisy_labels,
    load_pyx,
    load_true_labels,
)
from cifar_noisy.images import alignment
from cifar_noisy.images.alignment import FINGERPRINT, TFDS_FIRST_LABELS, fingerprint
from cifar_noisy.images.user_datasets import pool, read_rows
from tests.conftest import JpegCopy

TRUE = load_true_labels()

# Official indices of the first rows of TensorFlow Datasets' cifar10, as its ids give them.
TFDS_FIRST = [16399, 1680, 47917, 17307, 27051, 48736, 26263, 1456, 19135, 31598, 12970, 4223]
CAT = slice(15_000, 20_000)


@pytest.fixture
def pixels(jpeg: JpegCopy) -> NDArray[np.uint8]:
    return load_images(jpeg.batches, trust="pixels").pixels


@pytest.fixture
def official(jpeg: JpegCopy) -> NDArray[np.int64]:
    return load_images(jpeg.batches, trust="pixels").torchvision_index


def checked(data: Any, targets: Any = TRUE, **more: Any) -> Alignment:
    return check_alignment(SimpleNamespace(data=data, targets=targets), **more)


def shuffled(n_rows: int, seed: int, label: int = 3) -> NDArray[np.int64]:
    """Return all rows, `n_rows` of a class out of place."""
    rng = np.random.default_rng(seed)
    order = np.arange(50_000)
    chosen = label * 5_000 + rng.permutation(5_000)[:n_rows]
    order[chosen] = np.roll(chosen, 1)
    return order


# The order that is right, in whatever form.


@pytest.mark.parametrize("noise", [0, 0.7])
def test_accepts_the_published_order(
    published: str, pixels: NDArray[np.uint8], noise: float
) -> None:
    found = checked(pixels, load_noisy_labels(noise, 0))
    assert found.is_aligned
    assert found.labels == ("noisy labels of noise 0.7, sparsity 0" if noise else "true labels")
    assert found.mistake is None
    assert found.r2 is not None
    assert found.r2 > 0.02
    assert found.r2_p_value is not None
    assert found.r2_p_value < 1e-50
    assert found.deviation is not None
    assert found.deviation < 0.01
    assert found.deviation_p_value == 1


def test_accepts_our_own_dataset(published: str, jpeg: JpegCopy) -> None:
    dataset = NoisyCIFAR10(jpeg.batches, 0.4, 0.2, trust="pixels")
    assert check_alignment(dataset).is_aligned
    other = NoisyCIFAR10(jpeg.batches, 0.4, 0.2, trust="pixels", order="torchvision")
    assert check_alignment(other).mistake == "torchvision order"
    part = NoisyCIFAR10(jpeg.batches, 0.4, 0.2, trust="pixels", train_mask=range(49_999))
    assert "49,999 rows, where" in check_alignment(part).detail


def test_accepts_an_image_folder(published: str, jpeg: JpegCopy) -> None:
    found = check_alignment(ImageFolder(str(jpeg.tree / "train")))
    assert found.is_aligned
    assert check_alignment(jpeg.tree) == found


@pytest.mark.parametrize("form", ["mapping", "tensor"])
def test_accepts_any_dataset(published: str, pixels: NDArray[np.uint8], form: str) -> None:
    normalize = v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
         v2.Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.25))]
    )  # fmt: skip

    class Theirs:
        def __len__(self) -> int:
            return 50_000

        def __getitem__(self, row: int) -> Any:
            label = int(TRUE[row])
            if form == "mapping":
                return {"id": b"train", "image": pixels[row], "label": label}
            return normalize(Image.fromarray(pixels[row])), label, row

    assert check_alignment(Theirs()).is_aligned


def recoded(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    import io

    # Off the grid of the first compression, so that it is like the first.
    moved, out = np.roll(pixels, (4, 4), (1, 2)), np.empty_like(pixels)
    for row, image in enumerate(moved):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        with Image.open(file) as again:
            out[row] = np.asarray(again)
    return np.roll(out, (-4, -4), (1, 2))


def test_accepts_re_encoded_images(published: str, pixels: NDArray[np.uint8]) -> None:
    found = checked(recoded(pixels, 75))
    assert found.is_aligned
    assert found.deviation is not None
    assert found.deviation < 0.02


# Orders that are wrong.


def test_rejects_torchvisions_order(published: str, jpeg: JpegCopy) -> None:
    import torchvision.datasets.cifar as cifar

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cifar, "check_integrity", lambda *_: True)
        theirs = CIFAR10(str(jpeg.batches))
    for dataset in (theirs, jpeg.batches):
        found = check_alignment(dataset)
        assert (found.verdict, found.mistake) == ("misaligned", "torchvision order")


def test_rejects_noisy_labels_in_torchvisions_order(
    published: str, pixels: NDArray[np.uint8], official: NDArray[np.int64]
) -> None:
    order = np.argsort(official)
    found = checked(pixels[order], load_noisy_labels(0.4, 0.2, order="torchvision"))
    assert found.mistake == "torchvision order"
    assert "noisy labels of noise 0.4, sparsity 0.2 in the official order" in found.detail
    own = TRUE.copy()
    own[np.random.default_rng(0).permutation(50_000)[:9_000]] = 2
    assert checked(pixels, own).is_aligned
    found = checked(pixels[order], own[order])
    assert (found.verdict, found.mistake) == ("misaligned", "torchvision order")


@pytest.mark.parametrize("labels", [TRUE, load_noisy_labels(0.4, 0.2)])
def test_rejects_a_numeric_sort(
    published: str,
    pixels: NDArray[np.uint8],
    official: NDArray[np.int64],
    labels: NDArray[np.int64],
) -> None:
    numeric = np.lexsort((official, TRUE))
    assert official[numeric][:3].tolist() == sorted(official[:5_000])[:3]
    found = checked(pixels[numeric], labels)
    assert (found.verdict, found.mistake) == ("misaligned", "numeric sort")
    assert found.r2 is not None
    assert found.r2 < 0
    assert found.r2_p_value is not None
    assert found.r2_p_value > 1e-3
    assert found.deviation_p_value is not None
    assert found.deviation_p_value < 1e-100


def test_rejects_tfds_order() -> None:
    rng = np.random.default_rng(0)
    labels = rng.permutation(TRUE)
    assert checked(np.zeros((50_000, 8, 8, 3)), labels).mistake == "shuffled"
    head = list(TFDS_FIRST_LABELS)
    rest = np.repeat(np.arange(10), 5_000 - np.bincount(head, minlength=10))
    found = checked(np.zeros((50_000, 8, 8, 3)), np.array([*head, *rng.permutation(rest)]))
    assert (found.verdict, found.mistake) == ("misaligned", "TFDS order")


def test_the_beginning_of_tfds(published: str) -> None:
    labels = load_true_labels(order="torchvision")
    assert tuple(labels[TFDS_FIRST].tolist()) == TFDS_FIRST_LABELS


@pytest.mark.parametrize("n_rows", [5_000, 250, 50, 25])
def test_rejects_a_shuffle_within_one_class(
    published: str, pixels: NDArray[np.uint8], n_rows: int
) -> None:
    """Shuffle 100 % down to 0.5 % of the cats."""
    found = checked(pixels[shuffled(n_rows, seed=0)])
    assert (found.verdict, found.mistake) == ("misaligned", "shuffled")
    assert "images are out of place in cat (roughly" in found.detail
    assert "dog" not in found.detail
    assert found.deviation_p_value is not None
    assert found.deviation_p_value < 1e-6
    # The test on the probabilities sees a class in random order, but not a few rows of it.
    assert found.r2_p_value is not None
    assert (found.r2_p_value < 1e-6) == (n_rows < 5_000)


def test_where_the_power_ends(pixels: NDArray[np.uint8]) -> None:
    pooled = read_rows(SimpleNamespace(data=pixels, targets=TRUE)).pooled

    def p_value(order: NDArray[np.int64]) -> float:
        mean_squares = alignment._mean_squares(fingerprint(pooled[order]))
        return float(alignment._p_values(mean_squares).min())

    def n_rejected(n_rows: int) -> int:
        orders = [shuffled(n_rows, seed, label=seed % 10) for seed in range(20)]
        return sum(p_value(order) < alignment.SIGNIFICANCE_LEVEL for order in orders)

    assert n_rejected(25) == 20
    assert n_rejected(10) >= 16
    assert n_rejected(2) < 10


def test_rejects_a_shuffle_without_any_other_file(
    pixels: NDArray[np.uint8], official: NDArray[np.int64]
) -> None:
    assert "CIFAR_NOISY_MIRRORS" not in os.environ
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR_NOISY_OFFLINE", "1")
        assert checked(pixels).is_aligned
        assert checked(pixels).r2 is None
        assert checked(pixels[shuffled(250, 0)]).mistake == "shuffled"
        assert checked(pixels[np.lexsort((official, TRUE))]).mistake == "numeric sort"


def test_a_numeric_sort_of_a_folder_is_told_offline(
    published: str, jpeg: JpegCopy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CIFAR_NOISY_CACHE", str(tmp_path))
    monkeypatch.setenv("CIFAR_NOISY_OFFLINE", "1")
    monkeypatch.delenv("CIFAR_NOISY_MIRRORS")
    folder = ImageFolder(str(jpeg.tree / "train"))
    folder.samples.sort(key=lambda s: (s[1], int(Path(s[0]).name.partition("_")[0])))
    assert check_alignment(folder).mistake == "numeric sort"


# Images that were altered, and probabilities that are others'.


@pytest.mark.parametrize("alter", ["crop", "grey", "brightness"])
def test_altered_images_are_unclear_at_best(
    published: str, pixels: NDArray[np.uint8], alter: str
) -> None:
    rng = np.random.default_rng(0)
    if alter == "crop":
        padded = np.pad(pixels, ((0, 0), (4, 4), (4, 4), (0, 0)))
        views = np.lib.stride_tricks.sliding_window_view(padded, (32, 32), (1, 2))
        down, right = rng.integers(0, 9, (2, 50_000))
        data = views[np.arange(50_000), down, right].transpose(0, 2, 3, 1)
    elif alter == "grey":
        data = np.repeat(pixels.mean(3, keepdims=True), 3, 3)
    else:
        data = pixels * rng.uniform(0.8, 1.2, (50_000, 1, 1, 1)).astype(np.float32)
    found = checked(data)
    assert (found.verdict, found.mistake) == ("unclear", None)
    assert "check them without transforms" in found.detail
    assert checked(data[shuffled(5_000, 0)]).verdict == "misaligned"


def test_flips_and_units_do_not_matter(published: str, pixels: NDArray[np.uint8]) -> None:
    flip = np.random.default_rng(0).random(50_000) < 0.5
    data = pixels.astype(np.float32) / 127.5 - 1
    data[flip] = data[flip, :, ::-1]
    assert checked(data).is_aligned


def test_the_callers_own_pyx(published: str, pixels: NDArray[np.uint8]) -> None:
    assert checked(pixels, pyx=load_pyx(0.4, 0.6)).is_aligned
    found = checked(pixels, pyx=load_pyx(0, 0, order="torchvision"))
    assert (found.verdict, found.mistake) == ("misaligned", "another pyx")
    with pytest.raises(InvalidInputError, match=r"pyx has shape \(49999, 10\)"):
        checked(pixels, pyx=load_pyx(0, 0)[1:])
    frame = pd.DataFrame(load_pyx(0.4, 0.6)).sample(frac=1, random_state=0)
    assert checked(pixels, pyx=frame).is_aligned
    with pytest.raises(InvalidInputError, match=r"pyx\[0, 0\] is nan"):
        checked(pixels, pyx=np.full((50_000, 10), np.nan))


def test_labels_that_are_no_classes(pixels: NDArray[np.uint8]) -> None:
    for label in (-1, 10**12):
        found = check_alignment(SimpleNamespace(data=pixels, targets=np.full(50_000, label)))
        assert found.labels is None
    series = pd.Series(load_true_labels()).sample(frac=1, random_state=0)
    assert read_rows(SimpleNamespace(data=pixels, targets=series)).labels[0] == 0
    broken = SimpleNamespace(data=np.full((50_000, 8, 8, 3), np.nan), targets=series)
    with pytest.raises(InvalidInputError, match="hold NaN"):
        check_alignment(broken)


def test_the_fingerprint_is_the_jpeg_copys(pixels: NDArray[np.uint8]) -> None:
    pooled = np.stack([pool(image) for image in pixels])
    assert (np.round(fingerprint(pooled) * 100) == np.round(FINGERPRINT * 100)).all()


def test_the_p_value_is_uniform_where_rows_have_nothing_to_do_with_each_other() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 20)).astype(np.float32)
    values = []
    for _ in range(300):
        scores = rng.normal(size=(400, 10)).astype(np.float32)
        values.append(alignment._permutation_p_value(*alignment._cross_fitted(features, scores)))
    assert np.abs(np.quantile(values, [0.1, 0.5, 0.9]) - [0.1, 0.5, 0.9]).max() < 0.1


def test_pooling_against_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    for height, width in ((32, 32), (8, 8), (33, 70)):
        image = rng.random((height, width, 3))
        rows = [k * height // 8 for k in range(9)]
        columns = [k * width // 8 for k in range(9)]
        for k in range(8):
            for m in range(8):
                cell = image[rows[k] : rows[k + 1], columns[m] : columns[m + 1]]
                assert pool(image)[k, m] == pytest.approx(cell.mean((0, 1)))
        assert np.array_equal(pool(image), pool(image.transpose(2, 0, 1)))


# What cannot be read.


@pytest.mark.parametrize(
    "dataset",
    [
        [],
        [(np.zeros((32, 32, 3)), 1)] * 3,
        SimpleNamespace(data=np.zeros((4, 8, 8, 3)), targets=np.zeros(4, int)),
    ],
)
def test_datasets_of_another_length(dataset: Any) -> None:
    found = check_alignment(dataset)
    assert found.verdict == "misaligned"
    assert " rows, where the published arrays have 50,000" in str(found)


def test_what_is_no_dataset() -> None:
    with pytest.raises(InvalidInputError, match="a int cannot be checked: pass a path"):
        check_alignment(3)


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (5, "neither \\(image, label, ...\\) nor a mapping"),
        ({"picture": 1}, "neither"),
        ((np.zeros((4, 4, 3)), 1), r"has shape \(4, 4, 3\)"),
        ((np.zeros((32, 32, 4)), 1), r"has shape \(32, 32, 4\)"),
        ((object(), 1), "is a object, which is no array"),
        ((torch.zeros(8, 8, dtype=torch.bfloat16), 1), "an image is no array"),
        ((torch.zeros(8, 8, requires_grad=True), 1), "an image is no array"),
        ((np.zeros((8, 8)), 1.5), "labels are float64"),
        ((np.zeros((8, 8)), [0, 1]), r"labels are int64 of shape \(3, 2\)"),
    ],
)
def test_items_of_another_kind(item: Any, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        read_rows([item] * 3)


def test_paths_without_images(tmp_path: Path) -> None:
    with pytest.raises(ImagesError, match="is no folder and no archive"):
        check_alignment(tmp_path / "missing")
    with pytest.raises(ImagesError, match="has no images in folders by class"):
        check_alignment(str(tmp_path))
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1_cat.png").write_bytes(b"text")
    with pytest.raises(ImagesError, match=r"1_cat.png is no image that can be read"):
        check_alignment(tmp_path)


def folder_of(tmp_path: Path, names: list[str]) -> Path:
    for number, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), (number, 0, 0)).save(tmp_path / name)
    return tmp_path


def test_folders_are_read_as_image_folder_reads_them(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, ["b/2.png", "b/10.png", "a/z.png", "a/A.png"])
    (tmp_path / "a" / "notes.txt").write_text("no image")
    rows = read_rows(folder)
    theirs = ImageFolder(str(folder))
    assert rows.pooled[:, 0, 0, 0].tolist() == [image.getpixel((0, 0))[0] for image, _ in theirs]
    assert rows.labels.tolist() == theirs.targets
    assert "has 4 rows" in check_alignment(folder).detail


class Reversed:
    """Gives the items of a dataset from the last one, and its attributes as they are."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getattr__(self, name: str) -> Any:
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset.targets)

    def __getitem__(self, row: int) -> Any:
        row = len(self) - 1 - row
        return self.dataset.data[row], self.dataset.targets[row]


class OwnItems(Reversed):
    """Has the arrays itself, and items of another order."""

    def __init__(self, dataset: Any) -> None:
        super().__init__(dataset)
        self.data, self.targets = dataset.data, dataset.targets


@pytest.mark.parametrize("wrapper", [Reversed, OwnItems])
def test_what_the_items_are_counts_and_not_the_arrays_of_another(wrapper: type[Reversed]) -> None:
    arrays = SimpleNamespace(data=np.zeros((20, 8, 8, 3), np.uint8), targets=list(range(20)))
    assert read_rows(arrays).labels.tolist() == list(range(20))
    assert read_rows(wrapper(arrays)).labels.tolist() == list(range(20))[::-1]
