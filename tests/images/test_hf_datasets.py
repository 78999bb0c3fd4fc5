"""The train set for Hugging Face's datasets: every row against the arrays, Parquet, Datalab."""

import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from cifar_noisy import (
    InvalidInputError,
    MissingExtraError,
    StorageError,
    UnavailableError,
    UnknownArtifactError,
    as_hf_dataset,
    export_hf_dataset,
    load_images,
    load_noisy_labels,
    load_pyx,
    load_train_mask,
    load_true_labels,
)
from cifar_noisy.settings import CLASSES, METHODS, ORDERS, Order

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def own_hf_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def check_rows(dataset: Any, order: Order, methods: tuple[Any, ...]) -> None:
    columns = {name: np.array(dataset[name]) for name in dataset.column_names if name != "image"}
    index = columns["index"]
    assert sorted(index.tolist()) == list(range(50_000))
    in_order = index if order == "imagefolder" else columns["torchvision_index"]
    assert (in_order == np.arange(50_000)).all()
    images = load_images()
    assert (columns["torchvision_index"] == images.torchvision_index[index]).all()
    assert (columns["label"] == load_noisy_labels(0.4, 0.2)[index]).all()
    assert (columns["true_label"] == load_true_labels()[index]).all()
    for method in methods:
        mask = load_train_mask(method, 0.4, 0.2)
        assert (columns[f"keep_{method}"] == mask[index]).all()
    for name in ("label", "true_label"):
        assert dataset.features[name].names == list(CLASSES)
    for position in range(0, 50_000, 499):
        pixels = np.asarray(dataset[position]["image"])
        assert (pixels == images.pixels[index[position]]).all()


@pytest.mark.parametrize("order", ORDERS)
def test_all_rows_and_parquet(fake: None, published: str, order: Order, tmp_path: Path) -> None:
    import datasets
    from pyarrow import parquet

    methods: Any = METHODS if order == "imagefolder" else "cl_pbc"
    names = METHODS if order == "imagefolder" else ("cl_pbc",)
    dataset = as_hf_dataset(0.4, 0.2, order=order, train_masks=methods)
    assert dataset.split == "train"
    assert "noise 0.4, sparsity 0.2" in dataset.info.description
    check_rows(dataset, order, names)
    file = export_hf_dataset(tmp_path / "train.parquet", dataset)
    loaded = datasets.load_dataset("parquet", data_files=str(file), split="train")
    assert loaded.features == dataset.features
    check_rows(loaded, order, names)
    table = parquet.read_table(file)
    assert table.column_names == ["image", "label", "true_label", "index", "torchvision_index"] + [
        f"keep_{name}" for name in names
    ]
    assert [path.name for path in tmp_path.glob("*.parquet")] == ["train.parquet"]


def test_own_labels_in_torchvisions_order(tmp_path: Path) -> None:
    own = load_noisy_labels(0.4, 0.2, order="torchvision")
    dataset = as_hf_dataset(own, order="torchvision", images=False)
    assert dataset.column_names == ["label", "true_label", "index", "torchvision_index"]
    assert (np.array(dataset["label"]) == own).all()
    assert (np.array(dataset["true_label"]) == load_true_labels(order="torchvision")).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"edition": "2021"}, "leave edition= out, or pass train_masks="),
        ({"model": "resnet50"}, "leave model= out, or pass train_masks="),
        ({"images": False, "root": "data"}, "leave root= out, or pass images=True"),
        ({"images": False, "trust": "pixels"}, "leave trust= out, or pass images=True"),
        ({"train_masks": ["cl_pbx"]}, "method 'cl_pbx' is unknown: did you mean"),
        ({"order": "tfds"}, "order 'tfds' is unknown"),
    ],
)
def test_what_makes_no_sense(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises((InvalidInputError, UnknownArtifactError), match=said):
        as_hf_dataset(0.4, 0.2, **arguments)


def test_without_images() -> None:
    with pytest.raises(UnavailableError):
        as_hf_dataset(0.4, 0.2)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", cast(Any, None))
    with pytest.raises(MissingExtraError, match=r"datasets is not installed: .*cifar-noisy\[hf\]"):
        as_hf_dataset(0.4, 0.2, images=False)


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        export_hf_dataset(tmp_path / "file" / "a", as_hf_dataset(0, 0, images=False))


def test_cleanlabs_datalab_reads_it(published: str) -> None:
    from cleanlab import Datalab

    dataset = as_hf_dataset(0.4, 0.2, images=False)
    pyx = load_pyx(0.4, 0.2).astype(np.float64)
    lab = Datalab(dataset, label_name="label", task="classification", verbosity=0)
    lab.find_issues(pred_probs=pyx / pyx.sum(axis=1, keepdims=True), issue_types={"label": {}})
    found = lab.get_issues("label")
    assert (found["given_label"] == np.array(CLASSES)[load_noisy_labels(0.4, 0.2)]).all()
    wrong = load_noisy_labels(0.4, 0.2) != load_true_labels()
    is_issue = found["is_label_issue"].to_numpy()
    assert wrong[is_issue].mean() > 0.7 > wrong.mean()
