"""Images in a folder for each noisy label, as ImageFolder reads them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from cifar_noisy import (
    InvalidInputError,
    StorageError,
    UnavailableError,
    UnknownArtifactError,
    export_images,
    load_noisy_labels,
    load_true_labels,
)
from cifar_noisy.settings import CLASSES, ORDERS, Order

KEEP = np.random.default_rng(0).random(50_000) < 0.01


@pytest.mark.parametrize("order", ORDERS)
def test_an_image_folder(order: Order, fake: None, tmp_path: Path) -> None:
    """Each made-up image has its official index in its first pixels."""
    labels = load_noisy_labels(0.4, 0.2, order="torchvision")
    given: dict[str, Any] = {"order": order, "keep": KEEP}
    folder = export_images(tmp_path / "a" / "train", load_noisy_labels(0.4, 0.2, order=order),
                           **given)  # fmt: skip
    assert folder == tmp_path / "a" / "train"
    assert [path.name for path in folder.parent.iterdir()] == ["train"]
    found = ImageFolder(folder)
    assert found.classes == list(CLASSES)
    true = load_true_labels(order="torchvision")
    seen = []
    for path, label in found.samples:
        with Image.open(path) as image:
            digits = np.asarray(image)[0, 0].astype(int)
        index = int(digits @ (1, 256, 65_536))
        assert Path(path).name == f"{index}_{CLASSES[true[index]]}.png"
        assert label == labels[index]
        seen.append(index)
    rows = KEEP if order == "torchvision" else None
    expected = np.flatnonzero(rows) if rows is not None else np.sort(rows_of_imagefolder(KEEP))
    assert sorted(seen) == expected.tolist()


def rows_of_imagefolder(keep: np.ndarray[Any, np.dtype[np.bool_]]) -> Any:
    """Return the official indices of published rows, from file names sorted as text."""
    true = load_true_labels(order="torchvision")
    names = sorted((CLASSES[label], f"{i}_{CLASSES[label]}.png") for i, label in enumerate(true))
    indices = np.array([int(name.split("_")[0]) for _, name in names])
    return indices[keep]


def test_what_is_refused(fake: None, tmp_path: Path) -> None:
    labels = load_noisy_labels(0.4, 0.2)
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("there", "link"):
        with pytest.raises(InvalidInputError, match="is there already: name another folder"):
            export_images(tmp_path / name, labels, keep=KEEP)
    with pytest.raises(InvalidInputError, match="keep an image with the label cat: without one"):
        export_images(tmp_path / "a", labels, keep=labels != 3)
    with pytest.raises(InvalidInputError, match="pass order='imagefolder' for labels"):
        export_images(tmp_path / "a", labels, order="torchvision")
    with pytest.raises(UnknownArtifactError, match="order 'tfds' is unknown"):
        export_images(tmp_path / "a", labels, order="tfds")  # type: ignore[arg-type]
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        export_images(tmp_path / "file" / "a", labels, keep=KEEP)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link", "there"]


def test_without_images(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError):
        export_images(tmp_path / "a", load_noisy_labels(0.4, 0.2))
    assert not list(tmp_path.iterdir())
