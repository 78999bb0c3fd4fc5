"""Plans over label sets and labels of one's own: what is trained on, kept, read back, refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import cifar_noisy
from cifar_noisy import InvalidInputError, RecomputeError, load_noisy_labels, load_true_labels
from cifar_noisy.loading.given_labels import OwnLabels, label_source
from cifar_noisy.recompute import datasets, plan_file
from cifar_noisy.recompute.datasets import Dataset
from cifar_noisy.recompute.plan_file import load_plan, make_plan
from cifar_noisy.recompute.run_config import RunConfig, make_run_config, tasks_of
from cifar_noisy.recompute.task_runner import run_tasks
from cifar_noisy.settings import METHODS
from cifar_noisy.store.sealed import read_sealed_json, write_sealed_json

SHORT = {"epochs": 1, "small_epochs": 0, "width": 2, "batch_size": 2000}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """CIFAR-10's labels with images of 8 by 8 whose colour is their class."""
    labels = load_true_labels()
    pixels = np.repeat(labels * 25, 8 * 8 * 3).reshape(-1, 8, 8, 3).astype(np.uint8)
    dataset = Dataset("cifar10", pixels, labels, allow_flip=True)
    for module in (datasets, plan_file):
        monkeypatch.setattr(module, "open_dataset", lambda *_, **__: dataset)
    monkeypatch.setattr(Dataset, "check_row_order", lambda _: None)
    return dataset


def config_of(*sources: object) -> RunConfig:
    return make_run_config(
        [label_source(source) for source in sources],  # type: ignore[arg-type]
        n_folds=2,
        overrides=SHORT,
    )


def test_from_a_plan_to_loaded_arrays(tiny: Dataset, label_sets: Path, tmp_path: Path) -> None:
    mine = load_noisy_labels("pmd-0.35")
    config = make_plan(config_of("cifar10n-worst", mine), tmp_path)
    assert load_plan(tmp_path) == config
    own = next(source for source in config.settings if isinstance(source, OwnLabels))
    assert [task.id for task in tasks_of(config)] == [
        f"{kind}-{source.name}{fold}"
        for source in config.settings
        for kind, fold in (("train", "-fold0"), ("train", "-fold1"), ("collect", ""))
    ]
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("plan.json", "labels"):
        shutil.move(tmp_path / name, moved / name)
    list(run_tasks(load_plan(moved), tiny, moved, threads=1))
    for noise in ("cifar10n-worst", mine, own):
        pyx = cifar_noisy.load_pyx(noise, source=moved)
        expected = cifar_noisy.label_errors(load_noisy_labels(noise), pyx)
        for method in METHODS:
            keep = cifar_noisy.load_train_mask(method, noise, source=moved)
            assert np.array_equal(~keep, expected[method])
        tv = cifar_noisy.load_pyx(noise, source=moved, order="torchvision") if noise is own else pyx
        assert tv.shape == (50_000, 10)
    record = json.loads((moved / "cifar10n-worst" / "provenance.json").read_text())
    assert record["setting"] == {"noise": "cifar10n-worst", "sparsity": None}
    with pytest.raises(cifar_noisy.UnavailableError, match="recompute --noise idn-chen"):
        cifar_noisy.load_pyx("idn-chen-0.1", source=moved)


def test_a_plan_of_other_labels_is_another_plan(
    tiny: Dataset, label_sets: Path, tmp_path: Path
) -> None:
    mine = load_noisy_labels(0.4, 0.2)
    make_plan(config_of(mine), tmp_path)
    make_plan(config_of(mine), tmp_path)  # the same again
    other = mine.copy()
    other[7] = (other[7] + 1) % 10
    with pytest.raises(RecomputeError, match="belongs to another configuration"):
        make_plan(config_of(other), tmp_path)


@pytest.mark.parametrize(
    "damage",
    ["missing", "other labels", "cut", "path", "number", "unknown"],
)
def test_damaged_labels_of_a_plan(
    damage: str, tiny: Dataset, label_sets: Path, tmp_path: Path
) -> None:
    config = make_plan(config_of(load_noisy_labels(0.4, 0.2)), tmp_path)
    (file,) = (tmp_path / "labels").iterdir()
    assert file.stem == config.settings[0].name
    plan = read_sealed_json(tmp_path / "plan.json")
    assert plan is not None
    match damage:
        case "missing":
            file.unlink()
        case "other labels":
            np.save(file, load_noisy_labels(0.4, 0.4))
        case "cut":
            file.write_bytes(file.read_bytes()[:-8])
        case _:
            name = {"path": "labels-../../victim", "number": 7, "unknown": "labels-0"}[damage]
            plan["settings"] = [{"noise": name, "sparsity": None}]
            write_sealed_json(tmp_path / "plan.json", plan)
    with pytest.raises(RecomputeError, match=r"(plan.json is|missing or) damaged: plan again"):
        load_plan(tmp_path)
    make_plan(config_of(load_noisy_labels(0.4, 0.2)), tmp_path)
    assert load_plan(tmp_path) == config


def test_digits_have_no_label_sets() -> None:
    with pytest.raises(InvalidInputError, match="cifar10n-worst is of CIFAR-10: leave dataset="):
        make_run_config([label_source("cifar10n-worst")], dataset="digits")
