"""Training on what each method keeps, and detectors that train: with the JPEG copy of CIFAR-10."""

import dataclasses
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import cifar_noisy
from cifar_noisy import (
    Benchmark,
    InterruptedRunError,
    InvalidInputError,
    MissingInputError,
    RecomputeError,
    StorageError,
    Training,
    benchmark,
    load_images,
    load_noisy_labels,
    load_true_labels,
)
from cifar_noisy.benchmarking.cases import find_cases
from cifar_noisy.benchmarking.runs import Job, run_job
from cifar_noisy.cli.benchmark_command import _csv
from cifar_noisy.recompute.checkpoints import exclusive_lock
from cifar_noisy.recompute.fast import FastTrainer
from cifar_noisy.recompute.plan_file import load_plan
from cifar_noisy.recompute.run_config import tasks_of
from cifar_noisy.recompute.task_files import state_of, work_folder
from tests.conftest import JpegCopy
from tests.json_schemas import hold_to_schema

CASE = "noise0.4-sparsity0.2"
TINY = {"epochs": 1, "small_epochs": 1, "width": 1}


def nine_in_ten(labels: Any, pyx: Any) -> Any:
    """Flag nine examples in ten, so that little is trained on."""
    return np.arange(len(labels)) % 10 > 0


class Unexpected(BaseException):
    """Not taken for a failure in a case."""


def fail_hard(labels: Any, pyx: Any) -> Any:
    raise Unexpected


def score(labels: Any, pyx: Any) -> Any:
    return 1 - pyx[range(len(labels)), labels]


def of_images(images: Any, labels: Any) -> Any:
    assert images.shape == (50_000, 32, 32, 3)
    assert not images.flags.writeable
    labels[:] = 0  # its own copy
    return images.mean(axis=(1, 2, 3))


def training(folder: Path, jpeg: JpegCopy, **more: Any) -> Training:
    return Training(folder, jpeg.batches, "pixels", threads=1, hyperparameters=TINY, **more)


def rows(result: Benchmark) -> dict[str, Any]:
    assert result.training is not None
    return {row["method"]: row for row in result.training.to_dict("records")}


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_detector_of_images(published: str, jpeg: JpegCopy, n_jobs: int) -> None:
    images = load_images(jpeg.batches, trust="pixels")
    result = benchmark(of_images, CASE, "argmax", images=images, n_jobs=n_jobs)
    assert result.errors == {}
    expected = cifar_noisy.evaluate(images.pixels.mean(axis=(1, 2, 3)), CASE)
    assert expected.ranking is not None
    assert result.frame["roc_auc"][0] == expected.ranking.roc_auc


def test_images_go_with_a_function_alone(published: str, jpeg: JpegCopy) -> None:
    images = load_images(jpeg.batches, trust="pixels")
    with pytest.raises(InvalidInputError, match="leave images= out"):
        benchmark({CASE: np.zeros(50_000)}, CASE, images=images)
    with pytest.raises(InvalidInputError, match="images is a ndarray: pass what load_images"):
        benchmark(of_images, CASE, images=images.pixels)  # type: ignore[arg-type]


def test_trained_once_and_read_again(label_sets: Path, jpeg: JpegCopy, tmp_path: Path) -> None:
    planned = benchmark(nine_in_ten, CASE, "none", train=training(tmp_path, jpeg, plan_only=True))
    answer = {"schema_version": 1, **planned.as_dict()}
    hold_to_schema(json.loads(json.dumps(answer, allow_nan=False)), "benchmark")
    found = rows(planned)
    n_right = int((load_noisy_labels(CASE) == load_true_labels()).sum())
    assert {name: row["n_kept"] for name, row in found.items()} == {
        "yours": 5_000, "keep all": 50_000, "true errors": n_right,
    }  # fmt: skip
    assert np.isnan([row["test_accuracy"] for row in found.values()]).all()
    assert planned.notes()[-1].startswith("3 of 3 are not trained yet: cifar-noisy recompute run")
    # One is trained by the command of any plan, the others here.
    done = subprocess.run(
        [sys.executable, "-m", "cifar_noisy", "recompute", "run", "--folder", tmp_path,
         "--tasks", "0", "--threads", "1"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert re.search(r"^noise 0\.4, sparsity 0\.2, .*: test accuracy 0\.", done.stdout, re.M)
    right = training(tmp_path, jpeg)
    result = benchmark(nine_in_ten, CASE, "none", train=right)
    found = rows(result)
    assert all(0.05 < row["test_accuracy"] < 0.9 for row in found.values())
    assert pd.isna([row["error"] for row in found.values()]).all()
    for row in found.values():
        assert row["test_corrected"] == pytest.approx(row["test_accuracy"], abs=0.01)
        assert 0 < row["test_soft"] < row["test_accuracy"] + 0.01
    head, table = result.training_table()
    assert [len(row) for row in table] == [len(head)] * 3
    assert str(found["yours"]["test_accuracy"])[:6] in str(result)
    assert result.as_dict()["training"][0]["n_kept"] == 5_000
    assert "keep all" in result._repr_html_()
    hold_to_schema({"schema_version": 1} | result.as_dict(), "benchmark")
    written = pd.read_csv(io.StringIO(_csv(result)))
    assert written["method"].tolist() == ["yours", "keep all", "true errors"]
    assert written["test_accuracy"].tolist() == [row["test_accuracy"] for row in found.values()]
    # Another detector: what was trained on the others' masks stays. It flags every example.
    other = benchmark({CASE: np.ones(50_000, np.bool_)}, CASE, "none", train=right)
    assert "keeps no example of class 0 (10 of 10" in rows(other)["yours"]["error"]
    assert list(other.errors) == [CASE]
    assert rows(other)["keep all"]["test_soft"] == found["keep all"]["test_soft"]


def test_what_a_score_keeps_are_all_but_as_many_as_there_are_errors(published: str) -> None:
    result = run_job(Job(find_cases(CASE)[0], ("cl_pbc",), score, keeps=True))
    labels, pyx = load_noisy_labels(CASE), cifar_noisy.load_pyx(CASE)
    kept = result.kept["yours"]
    n_errors = int((labels != load_true_labels()).sum())
    assert np.count_nonzero(~kept) == n_errors
    assert score(labels, pyx)[~kept].min() >= score(labels, pyx)[kept].max()
    np.testing.assert_array_equal(
        result.kept["cl_pbc"], cifar_noisy.load_train_mask("cl_pbc", CASE, edition="2021")
    )


def test_what_would_stop_the_training_is_said_before_the_detector_runs(
    published: str, jpeg: JpegCopy, tmp_path: Path
) -> None:
    def detector(labels: Any, pyx: Any) -> Any:
        raise Unexpected

    folder, file = tmp_path / "planned", tmp_path / "file"
    file.touch()
    with pytest.raises(Unexpected):  # the detector's, so all before it is right
        benchmark(fail_hard, CASE, "none", train=training(tmp_path, jpeg))
    assert not (tmp_path / "plan.json").exists()
    benchmark(nine_in_ten, CASE, "none", train=training(folder, jpeg, plan_only=True))
    plan, masks = (folder / "plan.json").read_bytes(), sorted((folder / "masks").iterdir())
    right = training(folder, jpeg)
    for wrong, kind, says in (
        (dataclasses.replace(right, root=tmp_path), MissingInputError, "has no CIFAR-10 images"),
        (dataclasses.replace(right, device="tpu"), InvalidInputError, "device 'tpu' is unknown"),
        (dataclasses.replace(right, device="cuda:99"), RecomputeError, "is not there"),
        (dataclasses.replace(right, hyperparameters={"epoch": 1}), InvalidInputError, "epoch"),
        (dataclasses.replace(right, seed=1), RecomputeError, "seed 0 there, 1 here"),
        (dataclasses.replace(right, folder=file), StorageError, "cannot be written"),
        (
            dataclasses.replace(
                right, folder=tmp_path / "no", hyperparameters={}, device="cuda:99", plan_only=True
            ),
            RecomputeError,
            "is not there: .* choose width and precision",
        ),
        (3, InvalidInputError, "train is 3: pass a folder, or a Training"),
    ):
        with pytest.raises(kind, match=says):
            benchmark(detector, CASE, train=wrong)  # type: ignore[arg-type]
    assert (folder / "plan.json").read_bytes() == plan
    assert sorted((folder / "masks").iterdir()) == masks


def test_what_another_process_trains_is_no_failure(
    published: str, jpeg: JpegCopy, tmp_path: Path
) -> None:
    right = training(tmp_path, jpeg)
    benchmark(nine_in_ten, CASE, "none", train=dataclasses.replace(right, plan_only=True))
    task = tasks_of(load_plan(tmp_path))[-1]
    with exclusive_lock(work_folder(task, tmp_path), task.id):
        result = benchmark(nine_in_ten, CASE, "none", train=right)
    assert result.training is not None
    assert result.training["error"].isna().all()
    assert result.training["test_accuracy"].isna().sum() == 1
    assert result.notes()[-1].startswith("1 of 3 are not trained yet")


def test_a_signal_after_the_last_step_stops_what_comes_next(
    published: str, jpeg: JpegCopy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = FastTrainer.predict

    def interrupted(trainer: FastTrainer) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return predict(trainer)

    monkeypatch.setattr(FastTrainer, "predict", interrupted)
    with pytest.raises(InterruptedRunError, match="stopped by a signal before"):
        benchmark(nine_in_ten, CASE, "none", train=training(tmp_path, jpeg))
    config = load_plan(tmp_path)
    states = [state_of(task, config, tmp_path) for task in tasks_of(config)]
    assert states == ["done", "ready", "ready"]
