"""Published artifacts by meaning, on the real files."""

import dataclasses
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import cifar_noisy
from cifar_noisy import (
    EDITIONS,
    METHODS,
    SETTINGS,
    InvalidInputError,
    Setting,
    TrainingLogError,
    UnavailableError,
    UnknownArtifactError,
    artifacts,
    load_label_errors,
    load_noise_matrix,
    load_noisy_labels,
    load_pyx,
    load_train_mask,
    load_training_log,
    load_true_labels,
)
from cifar_noisy.loading import artifact_loading
from cifar_noisy.loading.row_order import published_torchvision_index
from cifar_noisy.settings import OTHER_METHODS, Method
from cifar_noisy.store.registry import npy_bytes

WITH_PYX = [setting for setting in SETTINGS if setting.has_probabilities]


@pytest.mark.parametrize("setting", WITH_PYX, ids=str)
def test_probabilities_are_served_as_published(
    setting: cifar_noisy.Setting, upstream: Path
) -> None:
    artifact = artifacts(kind="pyx", noise=setting.noise, sparsity=setting.sparsity)[0]
    expected = np.load(upstream / artifact.path)
    pyx = load_pyx(setting.noise, setting.sparsity)
    assert pyx.dtype == expected.dtype == np.float16
    assert (pyx == expected).all()
    mapped = load_pyx(setting.noise, setting.sparsity, mmap=True)
    assert isinstance(mapped, np.memmap)
    assert not mapped.flags.writeable
    assert (mapped == expected).all()
    official = load_pyx(setting.noise, setting.sparsity, order="torchvision")
    assert (official[published_torchvision_index()] == expected).all()


def test_accuracies_are_those_measured(published: str) -> None:
    accuracies = [
        round(float((load_pyx(noise, 0).argmax(axis=1) == load_true_labels()).mean()), 3)
        for noise in (0, 0.2, 0.4, 0.7)
    ]
    assert accuracies == [0.858, 0.804, 0.754, 0.383]


@pytest.mark.parametrize("method", METHODS)
def test_masks_are_served_as_published(method: Method, upstream: Path) -> None:
    for artifact in artifacts(kind="train_mask", method=method):
        noise, sparsity = artifact.setting.noise, artifact.setting.sparsity
        expected = np.load(upstream / artifact.path)
        kept = load_train_mask(method, noise, sparsity, edition=artifact.edition)
        assert kept.dtype == np.bool_
        assert (kept == expected).all()
        removed = load_label_errors(method, noise, sparsity, edition=artifact.edition)
        assert (removed == ~expected).all()


def test_sizes_of_edition_2019_are_the_train_sizes_of_the_logs(published: str) -> None:
    n_compared = 0
    for artifact in artifacts(kind="train_mask", edition="2019"):
        method, setting = cast(Method, artifact.method), artifact.setting
        if (method, setting) != ("cl_both", Setting(0.2, 0.6)):  # 0 bytes upstream
            log = load_training_log(method, setting)
            assert log.train_size == load_train_mask(method, setting).sum()
            n_compared += 1
    assert n_compared == 59


def test_the_default_edition_is_2019_where_it_exists(published: str) -> None:
    default, both = load_train_mask("cl_both", 0.7, 0), {}
    for edition in EDITIONS:
        both[edition] = load_train_mask("cl_both", 0.7, 0, edition=edition)
    assert (default == both["2019"]).all()
    assert (default != both["2021"]).sum() == 25
    assert load_train_mask("cl_both", 0, 0).sum() == 45894
    with pytest.raises(UnknownArtifactError, match="use edition='2021'"):
        load_train_mask("cl_both", 0, 0, edition="2019")


def test_every_other_methods_log_loads(published: str) -> None:
    for method, last in zip(OTHER_METHODS, (0.6293, 0.4839, 0.7633), strict=True):
        epochs = load_training_log(method, 0.4, 0).epochs
        columns = epochs.columns.intersection(
            ["test_accuracy", "test_accuracy_1", "test_accuracy_2"]
        )
        assert epochs[columns].iloc[-1].max() == pytest.approx(last, abs=0.0001)


def test_the_empty_log_is_said_to_be_empty(published: str) -> None:
    with pytest.raises(TrainingLogError, match="0 bytes in upstream's repository"):
        load_training_log("cl_both", 0.2, 0.6)
    assert load_training_log("cl_both", 0.2, 0.6, trainer="coteaching").is_complete


def test_arrays_are_the_callers_own(published: str) -> None:
    for load in (
        lambda: load_pyx(0.4, 0.2),
        lambda: load_train_mask("cl_pbc", 0.4, 0.2),
        lambda: load_noisy_labels(0.4, 0.2),
        load_true_labels,
    ):
        array = load()
        array[:] = 0
        assert load().any()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: load_pyx(0.6, 0), "ask for noise=0.7"),
        (lambda: load_pyx(0.9, 0), "only noisy labels and the noise matrix were published"),
        (lambda: load_pyx(0.4, 0.3), "sparsity 0.3 was not published"),
        (lambda: load_pyx("0.4", 0), "is not a number"),
        (lambda: load_pyx(0.4, 0, order="tfds"), "order 'tfds' is unknown"),  # type: ignore[arg-type]
        (lambda: load_train_mask("pbc", 0.4, 0), "method 'pbc' is unknown: did you mean cl_pbc"),  # type: ignore[arg-type]
        (lambda: load_train_mask("cl_pbc", 0.4, 0, edition="2020"), "edition '2020' is unknown"),  # type: ignore[arg-type]
        (lambda: load_train_mask("cl_pbc", 0.4, 0, edition=""), "edition '' is unknown"),  # type: ignore[arg-type]
        (lambda: load_train_mask("cl_pbc", 0.4, 0, edition=2019), "is no text: pass '2019'"),  # type: ignore[arg-type]
        (lambda: load_training_log("cl_pbc", 0.4, 0, trainer=""), "trainer '' is unknown"),  # type: ignore[arg-type]
        (lambda: load_noisy_labels(0.8, 0), "ask for noise=0.9"),
        (lambda: load_noise_matrix(0, 0.2), "noise 0 was not published at sparsity 0.2"),
        (lambda: load_training_log("coteachin", 0.4, 0), "did you mean coteaching"),  # type: ignore[arg-type]
        (lambda: load_training_log("sceloss", 0.4, 0, trainer="resnet50"), "leave trainer out"),
        (lambda: cifar_noisy.download(kind="pyx", noise=0.9), "nothing published matches"),
    ],
)
def test_what_was_not_published_is_said(call: object, said: str) -> None:
    with pytest.raises(UnknownArtifactError, match=said):
        call()  # type: ignore[operator]


@pytest.mark.parametrize(
    "load",
    [
        load_pyx,
        load_noisy_labels,
        load_noise_matrix,
        partial(load_train_mask, "cl_pbc"),
        partial(load_label_errors, "cl_pbc"),
        lambda *at: load_training_log("cl_pbc", *at).epochs,
        lambda *at: [str(file) for file in cifar_noisy.download(kind="pyx", **named(*at))],
        lambda *at: artifacts(**named(*at)),
    ],
)
def test_a_setting_stands_for_its_numbers(load: Callable[..., object], published: str) -> None:
    setting = Setting(0.4, 0.2)
    assert np.array_equal(np.asarray(load(setting)), np.asarray(load(0.4, 0.2)))
    with pytest.raises(InvalidInputError, match=r"leave sparsity=0\.4 out: Setting"):
        load(setting, 0.4)


def named(*at: Any) -> dict[str, Any]:
    return dict(zip(("noise", "sparsity"), at, strict=False))


def test_sparsity_is_asked_for_where_there_are_several(published: str) -> None:
    loads: tuple[Callable[..., object], ...] = (load_pyx, load_noisy_labels, load_noise_matrix)
    for load in loads:
        with pytest.raises(UnknownArtifactError, match=r"sparsity is missing: noise=0\.4"):
            load(0.4)
        assert np.array_equal(np.asarray(load(0)), np.asarray(load(0, 0)))


def test_a_map_has_the_order_of_the_file() -> None:
    with pytest.raises(InvalidInputError, match="leave mmap out"):
        load_pyx(0.4, 0.2, mmap=True, order="torchvision")


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -0.5, 1.5])
def test_what_is_no_probability_is_not_served(
    wrong: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyx = np.full((50_000, 10), 0.1, dtype=np.float16)
    pyx[7, 3] = wrong
    content = npy_bytes(pyx)
    pinned = dataclasses.replace(
        artifacts(kind="pyx")[0], sha256=hashlib.sha256(content).hexdigest(), size=len(content)
    )
    cached = Path(os.environ["CIFAR_NOISY_CACHE"]) / pinned.path
    cached.parent.mkdir(parents=True)
    cached.write_bytes(content)
    monkeypatch.setattr(artifact_loading, "find", lambda *_: pinned)
    for mmap in (False, True):
        with pytest.raises(UnavailableError, match="entries that are no probabilities"):
            load_pyx(0, 0, mmap=mmap)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<html>", "is no .npy file"),
        (npy_bytes(np.zeros((50_000, 10), np.float16))[:-1], "is no .npy file"),
        (npy_bytes(np.zeros((50_000, 10), np.float32)), "holds float32 of shape"),
        (npy_bytes(np.zeros((10, 50_000), np.float16)), r"of shape \(10, 50000\)"),
    ],
)
def test_arrays_are_of_the_registered_shape_and_dtype(content: bytes, said: str) -> None:
    with pytest.raises(UnavailableError, match=said):
        artifact_loading.decode_array(bytearray(content), artifacts(kind="pyx")[0])


def test_damaged_shipped_labels_are_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    from cifar_noisy.loading import noise_generation

    monkeypatch.setattr(noise_generation, "_shipped", lambda _: np.zeros(50_000, np.uint8))
    with pytest.raises(UnavailableError, match="not as published: reinstall cifar-noisy"):
        load_noisy_labels(0.4, 0.2)


def test_labels_need_neither_network_nor_cleanlab() -> None:
    program = (
        "import sys, socket\n"
        "socket.socket = None\n"
        "import cifar_noisy\n"
        "cifar_noisy.load_noisy_labels(0.4, 0.2), cifar_noisy.load_true_labels()\n"
        "print({'cleanlab', 'torch', 'pandas', 'requests'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout == "set()\n"
