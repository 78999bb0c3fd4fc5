"""Label sets by name and labels of the caller: each held to its own file by another reader."""

import copy
import csv
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

import cifar_noisy
from cifar_noisy import (
    CountedMatrixWarning,
    InvalidInputError,
    Setting,
    UnavailableError,
    UnknownArtifactError,
    load_noisy_labels,
    load_pyx,
    load_train_mask,
    load_true_labels,
)
from cifar_noisy.loading import given_labels
from cifar_noisy.loading.given_labels import OwnLabels, label_source, stratified_fold_order
from cifar_noisy.loading.row_order import published_torchvision_index, torchvision_order_labels
from cifar_noisy.settings import METHODS
from cifar_noisy.store import artifact_store
from cifar_noisy.store.artifact_store import Store
from cifar_noisy.store.bundle import export_bundle, import_bundle
from tests.file_server import serving

OTHERS = [labels for labels in cifar_noisy.label_sets() if labels.setting is None]
WITH_PYX = [(labels.name, model) for labels in OTHERS for model in labels.models]
HUMAN_KEYS = {
    "aggregate": "aggre_label",
    "random1": "random_label1",
    "random2": "random_label2",
    "random3": "random_label3",
    "worst": "worse_label",
}


def plainly_read(file: Path, name: str) -> NDArray[np.int64]:
    """Read a label set's file as its own repository says, in the order of the file."""
    if file.suffix == ".pt":
        found: Any = torch.load(file, weights_only=False)
        if isinstance(found, dict):
            found = found[HUMAN_KEYS[name.rpartition("-")[2]]]
        return np.asarray(found)
    if file.suffix == ".csv":
        with file.open() as rows:
            return np.array([int(row["label_noisy"]) for row in csv.DictReader(rows)])
    return np.asarray(np.load(file))


def test_the_paper_comes_first_then_seventeen_others() -> None:
    names = [labels.name for labels in cifar_noisy.label_sets()]
    assert names[:17] == [setting.name for setting in cifar_noisy.SETTINGS]
    assert len(set(names)) == 34
    assert [labels.name for labels in OTHERS if labels.models] == [
        "cifar10n-aggregate", "cifar10n-worst", "cifar10s",
    ]  # fmt: skip
    assert len(WITH_PYX) == 15
    for labels in cifar_noisy.label_sets():
        assert labels.citation
        assert labels.licence
        assert labels.repository.startswith("https://github.com/")
        assert set(labels.as_dict()) >= {"name", "noise_rate", "noise_kind", "licence", "models"}


@pytest.mark.parametrize("source", OTHERS, ids=str)
def test_labels_are_those_of_the_file(label_sets: Path, source: Any) -> None:
    found = plainly_read(label_sets / source.path, source.name)
    labels = load_noisy_labels(source.name)
    assert float((labels != load_true_labels()).mean()) == source.noise_rate
    if source.name == "cifar10s":
        # Its file has folds one after another: only the counts can be compared directly.
        assert np.array_equal(np.bincount(found), np.bincount(labels))
        return
    assert np.array_equal(load_noisy_labels(source.name, order="torchvision"), found)
    assert float((found != torchvision_order_labels()).mean()) == source.noise_rate


def test_cifar10s_needs_no_file_and_equals_it(label_sets: Path) -> None:
    file = label_sets / cifar_noisy.artifacts(kind="noisy_labels", noise="cifar10s")[0].path
    true, labels = load_true_labels(), load_noisy_labels("cifar10s")
    by_number = np.lexsort((published_torchvision_index(), true))
    folds = StratifiedKFold(5).split(true, labels[by_number])
    rows = by_number[np.concatenate([held_out for _, held_out in folds])]
    assert np.array_equal(labels[rows], np.load(file))
    assert np.array_equal(true[rows], np.load(file.with_name("true_labels.npy")))


@pytest.mark.parametrize("n_folds", [2, 5, 7])
def test_folds_are_those_of_scikit_learn(n_folds: int) -> None:
    rng = np.random.default_rng(n_folds)
    for _ in range(20):
        labels = rng.permutation(np.repeat(np.arange(5), rng.integers(n_folds, 40, 5)))
        folds = StratifiedKFold(n_folds).split(labels, labels)
        expected = np.concatenate([held_out for _, held_out in folds])
        assert np.array_equal(stratified_fold_order(labels, n_folds), expected)


@pytest.mark.parametrize(("name", "model"), WITH_PYX)
def test_probabilities_are_in_the_published_order(label_sets: Path, name: str, model: str) -> None:
    pyx, given, true = load_pyx(name, model=model), load_noisy_labels(name), load_true_labels()
    (artifact,) = cifar_noisy.artifacts(kind="pyx", noise=name, model=model)
    in_file = np.load(label_sets / artifact.path)
    assert (str(pyx.dtype), pyx.shape) == ("float64", (50_000, 10))
    assert np.array_equal(np.sort(pyx, axis=None), np.sort(in_file, axis=None))
    assert (pyx.argmax(1) == true).mean() > 0.85
    # The rows of the labels beside resnet18's file, by the same order.
    beside = (label_sets / artifact.path).parent.with_name(
        Path(artifact.path).parent.name.replace(model, "resnet18")
    )
    order = np.lexsort(pyx.T), np.lexsort(in_file.T)
    assert np.array_equal(given[order[0]], np.load(beside / "noisy_labels.npy")[order[1]])
    assert np.array_equal(true[order[0]], np.load(beside / "true_labels.npy")[order[1]])
    # Within a class, labels say nothing: images that the paper's network finds hard are hard.
    own, paper = (array[np.arange(50_000), true] for array in (pyx, load_pyx(0)))
    for label in range(10):
        rows = true == label
        assert pd.Series(own[rows]).corr(pd.Series(paper[rows]), method="spearman") > 0.03
    by_torchvision = load_pyx(name, model=model, order="torchvision")
    assert np.array_equal(by_torchvision, pyx[np.argsort(published_torchvision_index())])


def test_masks_are_computed_from_a_model(label_sets: Path) -> None:
    given, pyx = load_noisy_labels("cifar10n-worst"), load_pyx("cifar10n-worst", model="resnet18")
    expected = cifar_noisy.label_errors(given, pyx)
    for method in METHODS:
        mask = load_train_mask(method, "cifar10n-worst", model="resnet18")
        assert np.array_equal(~mask, expected[method])
    found = cifar_noisy.evaluate_published("cifar10n-worst", model="resnet18")
    assert [round(method.f1, 3) for method in found] == [0.884, 0.774, 0.874, 0.849, 0.834]


def test_the_matrix_is_counted_and_says_so(label_sets: Path) -> None:
    with pytest.warns(CountedMatrixWarning, match="of cifar10n-worst is counted"):
        matrix = cifar_noisy.load_noise_matrix("cifar10n-worst")
    given, true = load_noisy_labels("cifar10n-worst"), load_true_labels()
    for i in range(10):
        for j in range(10):
            assert matrix[i, j] == pytest.approx((given[true == j] == i).mean())


def test_filters_take_a_label_set_itself() -> None:
    for known in cifar_noisy.label_sets():
        by_object = cifar_noisy.artifacts(noise=known)
        assert by_object == cifar_noisy.artifacts(noise=known.name)
        assert by_object


def test_names_mean_the_papers_settings_too() -> None:
    assert label_source("noise0.4-sparsity0.2") == Setting(0.4, 0.2)
    paper = cifar_noisy.label_sets()[5]
    assert label_source(paper) == paper.setting
    assert np.array_equal(load_noisy_labels(paper), load_noisy_labels(0.4, 0))


def test_own_labels_in_both_orders(label_sets: Path) -> None:
    human = load_noisy_labels("cifar10n-aggregate", order="torchvision")
    for values in (human, human.tolist(), torch.tensor(human), human.astype(np.uint8),
                   pd.Series(human), human.astype(">i2")):  # fmt: skip
        source = label_source(values, order="torchvision")
        assert isinstance(source, OwnLabels)
        assert np.array_equal(source.labels, load_noisy_labels("cifar10n-aggregate"))
        assert np.array_equal(load_noisy_labels(values, order="torchvision"), human)
    with pytest.raises(InvalidInputError, match="pass order='torchvision' for noise: they agree"):
        load_noisy_labels(human)
    with pytest.raises(InvalidInputError, match="pass order='imagefolder'"):
        load_noisy_labels(load_noisy_labels(0.4, 0.2), order="torchvision")
    shuffled = pd.Series(human).sample(frac=1, random_state=0)  # carries its own index
    assert np.array_equal(load_noisy_labels(shuffled, order="torchvision"), human)


def test_what_is_loaded_is_the_callers_own(label_sets: Path) -> None:
    labels = load_noisy_labels("cifar10n-worst")
    labels[:] = 0
    assert load_noisy_labels("cifar10n-worst").any()
    mine = load_noisy_labels(0.4, 0.2)
    source = label_source(mine)
    assert isinstance(source, OwnLabels)
    mine[:] = 0
    assert source.labels.any()
    assert not source.labels.flags.writeable


TRUE = np.repeat(np.arange(10), 5_000)


@pytest.mark.parametrize("host", range(3))
@pytest.mark.parametrize("name", ["cifar10n-worst", "idn-chen-0.4", "idn-cores-0.6", "pmd-0.70"])
def test_each_public_host_has_them(
    host: int, name: str, label_sets: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    artifact_store._show_licence.cache_clear()
    with serving(label_sets) as server:
        store = Store(tmp_path, public_hosts=(server.public_hosts()[host],))
        (artifact,) = cifar_noisy.artifacts(kind="noisy_labels", noise=name)
        assert store.path(artifact) == tmp_path / artifact.path
        assert store.read(artifact) == (label_sets / artifact.path).read_bytes()
        assert len(server.asked) == 1
    # Then from the cache, and with the licence said once, before the file was asked for.
    assert Store(tmp_path, is_offline=True).read(artifact)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == f"cifar-noisy: files of {artifact.repository}, licence: {artifact.licence}"


def test_a_bundle_lists_licences(label_sets: Path, tmp_path: Path) -> None:
    store = Store.from_environment()
    wanted = [
        *cifar_noisy.artifacts(kind="noisy_labels", noise="idn-cores-0.2"),
        *cifar_noisy.artifacts(kind="pyx", noise="cifar10s", model="resnet18"),
        *cifar_noisy.artifacts(kind="noise_matrix", noise=0.4, sparsity=0.2),
    ]
    bundle = tmp_path / "bundle.tar"
    export_bundle(store, bundle, wanted)
    with tarfile.open(bundle) as tar:
        licences = tar.extractfile("LICENCES")
        assert licences is not None
        assert [line.rpartition(": ")[2] for line in licences.read().decode().splitlines()] == [
            "MIT", "AGPL-3.0",
        ]  # fmt: skip
    elsewhere = Store(tmp_path / "cache", is_offline=True)
    assert set(import_bundle(elsewhere, bundle)) == {artifact.path for artifact in wanted}
    assert all(elsewhere.read(artifact) for artifact in wanted)
    export_bundle(store, bundle, wanted[2:])
    with tarfile.open(bundle) as tar:
        assert "LICENCES" not in tar.getnames()


@pytest.mark.parametrize(
    ("noise", "options", "said"),
    [
        ("cifar10n-wurst", {}, "did you mean cifar10n-worst"),
        ("CIFAR10N-WORST", {}, "label set 'CIFAR10N-WORST' is unknown"),
        ("", {}, "label set '' is unknown"),
        ("0.4", {"sparsity": 0.2}, "'0.4' is not a number"),
        ("cifar10n-worst", {"sparsity": 0.2}, r"leave sparsity=0.2 out: cifar10n-worst is a label"),
        ("noise0.4-sparsity0.2", {"sparsity": 0.2}, "leave sparsity=0.2 out"),
        (TRUE, {"sparsity": 0.2}, "leave sparsity=0.2 out: the labels are given"),
        (TRUE[:45_000], {}, "45,000 labels, where the train set has 50,000: a part of"),
        (TRUE[:10_000], {}, "as many as the test set has"),
        (np.eye(10)[TRUE], {}, "one-hot labels or probabilities; pass their argmax"),
        (TRUE + 1, {}, "labels from 1 to 10: subtract 1"),
        (TRUE - 1, {}, "noise has -1 in row 0"),
        (TRUE + 0.5, {}, "0.5 in row 0: labels are whole numbers"),
        (TRUE.astype(str), {}, "dtype <U"),
        (TRUE > 4, {}, "noise is a mask"),
        ([[1], [1, 2]], {}, "noise is no array"),
        ({1: 2}, {}, "is not a number"),
        ({1, 2}, {}, "is not a number"),
        (None, {}, "is not a number"),
        (b"cifar10n-worst", {}, "is not a number"),
        (Path("noisy.npy"), {}, "noise is the path noisy.npy: pass what read_labels reads"),
        (bytes(50_000), {}, r"noise .{50,60}… is not a number"),
        (set(range(50_000)), {}, r"noise .{50,60}… is not a number"),
        ("x" * 1_000_000, {}, r"label set .{50,60}… is unknown"),
        (np.ma.masked_array(TRUE, TRUE == 3), {}, "masked"),
    ],
)
def test_what_names_no_labels(noise: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises((UnknownArtifactError, InvalidInputError), match=said):
        load_noisy_labels(noise, **options)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: load_pyx("cifar10n-worst"), "model is missing: .* resnet18, resnet50d"),
        (lambda: load_pyx("cifar10n-worst", model="resnet19"), "did you mean resnet18"),
        (lambda: load_pyx("idn-chen-0.1", model="resnet18"), "recompute --noise idn-chen-0.1"),
        (lambda: load_pyx(TRUE), "recompute --labels FILE"),
        (lambda: load_pyx(0.4, 0.2, model="resnet18"), "model 'resnet18' is unknown"),
        (lambda: load_pyx("cifar10n-worst", model="resnet18", mmap=True), "leave mmap out"),
        (lambda: load_pyx("cifar10s", model="resnet18", on_missing="recompute"), "on_missing out"),
        (lambda: load_pyx(0.4, 0.2, model="resnet50", source="x"), "leave model="),
        (
            lambda: load_train_mask("cl_pbc", "cifar10n-worst", model="resnet18", edition="2019"),
            "leave edition='2019' out: no masks were published for cifar10n-worst",
        ),
        (lambda: load_train_mask("cl_pbc", "cifar10n-worst"), "model is missing"),
        (lambda: load_train_mask("cl_pbc", 0.4, 0.2, model="resnet18"), "model 'resnet18'"),
        (lambda: cifar_noisy.artifacts(noise="cifar10n-wurst"), "did you mean"),
        (lambda: cifar_noisy.artifacts(noise="cifar10s", sparsity=0.2), "leave sparsity=0.2 out"),
        (lambda: cifar_noisy.artifacts(model="vgg"), "model 'vgg' is unknown"),
        (lambda: cifar_noisy.load_training_log("cl_pbc", "cifar10s"), "no training logs were"),
        (
            lambda: load_train_mask("cl_pbc", 0.4, 0.2, model="resnet18", source="x"),
            "leave model='resnet18' out: it is for published masks",
        ),
        (
            lambda: cifar_noisy.evaluate(TRUE > 4, TRUE, model="resnet18"),
            "leave model='resnet18' out, or train with cifar-noisy recompute --labels FILE",
        ),
        (
            lambda: cifar_noisy.evaluate(TRUE > 4, 0.9, 0.2, model="resnet18"),
            "model 'resnet18' is unknown",
        ),
    ],
)
def test_arguments_that_do_not_go_together(call: Any, said: str) -> None:
    with pytest.raises((UnknownArtifactError, InvalidInputError), match=said):
        call()


def test_a_file_that_cannot_be_had_or_is_another(
    tmp_path: Path, label_sets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIFAR_NOISY_OFFLINE", "1")
    (artifact,) = cifar_noisy.artifacts(kind="noisy_labels", noise="cluster-0.35")
    path = tmp_path / artifact.path
    path.parent.mkdir(parents=True)
    labels = np.load(label_sets / artifact.path)
    np.save(path, np.random.default_rng(0).permutation(labels))  # as its README's check passes
    monkeypatch.setenv("CIFAR_NOISY_MIRRORS", str(tmp_path))
    given_labels._published_labels.cache_clear()
    with (
        pytest.warns(cifar_noisy.CorruptFileWarning),
        pytest.raises(UnavailableError, match="download --kind noisy_labels"),
    ):
        load_noisy_labels("cluster-0.35")


def test_the_matrix_of_own_labels_in_either_order() -> None:
    given = load_noisy_labels(0.4, 0.2)
    in_torchvision_order = load_noisy_labels(0.4, 0.2, order="torchvision")
    with pytest.warns(CountedMatrixWarning):
        expected = cifar_noisy.load_noise_matrix(given)
    with pytest.raises(InvalidInputError, match="pass order='torchvision' for noise"):
        cifar_noisy.load_noise_matrix(in_torchvision_order)
    with pytest.warns(CountedMatrixWarning):
        found = cifar_noisy.load_noise_matrix(in_torchvision_order, order="torchvision")
    assert np.array_equal(found, expected)


def test_a_label_file_without_all_images_says_so(tmp_path: Path) -> None:
    keep = np.ones(50_000, bool)
    keep[:7] = False
    file = cifar_noisy.export_labels(tmp_path / "some.csv", TRUE, format="csv", keep=keep)
    found = cifar_noisy.read_labels(file)
    with pytest.raises(InvalidInputError, match=r"CSV.* no labels for 7 of 50,000 images: pass a"):
        load_noisy_labels(found)


def test_own_labels_stay_read_only_in_copies() -> None:
    source = label_source(TRUE)
    assert isinstance(source, OwnLabels)
    for twin in (copy.deepcopy(source), pickle.loads(pickle.dumps(source))):
        assert twin == source
        assert np.array_equal(twin.labels, TRUE)
        assert not twin.labels.flags.writeable


def test_the_papers_logs_by_the_name_of_a_setting(published: str) -> None:
    by_name = cifar_noisy.load_training_log("cl_pbc", "noise0.4-sparsity0.2")
    assert by_name.epochs.equals(cifar_noisy.load_training_log("cl_pbc", 0.4, 0.2).epochs)


def test_what_is_evaluated_offline_is_evaluated_without_the_masks_of_a_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CIFAR_NOISY_OFFLINE", "1")
    is_wrong = load_noisy_labels("cifar10s") != load_true_labels()  # needs no file
    result = cifar_noisy.evaluate(is_wrong, "cifar10s", model="resnet18")
    assert result.detection is not None
    assert result.detection.f1 == 1
    assert result.published == ()
    assert "--noise cifar10s --model resnet18 where there is a network" in str(
        result.published_missing
    )


def test_the_command_for_all_files_of_a_label_set_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the name it would download the files of the paper."""
    monkeypatch.setenv("CIFAR_NOISY_OFFLINE", "1")
    with pytest.raises(UnavailableError, match="run cifar-noisy download --noise cifar10n-worst w"):
        cifar_noisy.download(noise="cifar10n-worst")
