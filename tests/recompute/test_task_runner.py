"""The recompute path on scikit-learn's digits: what comes out, what resumes, what is refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision.transforms import functional

from cifar_noisy import (
    InterruptedRunError,
    InvalidInputError,
    MissingInputError,
    RecomputeError,
    Setting,
    StorageError,
    label_errors,
    parse_training_log,
)
from cifar_noisy.loading.recomputed import read_record, write_record
from cifar_noisy.recompute import checkpoints
from cifar_noisy.recompute.checkpoints import load_checkpoint, save_checkpoint
from cifar_noisy.recompute.datasets import Dataset, folds_of, open_dataset
from cifar_noisy.recompute.fast import FastTrainer
from cifar_noisy.recompute.plan_file import load_plan, save_plan
from cifar_noisy.recompute.recipes import FastRecipe
from cifar_noisy.recompute.run_config import RunConfig, Task, make_run_config, tasks_of
from cifar_noisy.recompute.task_files import (
    checkpoint_files,
    file_paths,
    record_path,
    state_of,
    work_folder,
)
from cifar_noisy.recompute.task_runner import run_tasks
from cifar_noisy.recompute.training import Trainer, TrainingData
from cifar_noisy.settings import METHODS, pyx_path, train_mask_path
from cifar_noisy.store.registry import npy_bytes
from cifar_noisy.store.sealed import write_sealed

SETTING = Setting(0.4, 0.2)
SHORT = {"epochs": 3, "small_epochs": 1, "width": 4}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return open_dataset("digits")


@pytest.fixture(scope="module")
def config(digits: Dataset) -> RunConfig:
    return make_run_config([SETTING], digits.digest(), dataset="digits", overrides=SHORT)


@pytest.fixture(scope="module")
def finished(digits: Dataset, config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    save_plan(config, folder)
    before = [state for _, state in run_tasks(config, digits, folder, threads=1)]
    assert before == ["ready"] * 5
    return folder


def program(folder: Path, *more: str) -> subprocess.Popen[str]:
    code = "from cifar_noisy.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, "recompute", "run", "--folder", str(folder), "--threads", "1",
         *more],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ,
    )  # fmt: skip


def test_files_are_those_of_the_published_layout(
    finished: Path, digits: Dataset, config: RunConfig
) -> None:
    pyx = np.load(finished / pyx_path(SETTING))
    assert (pyx.shape, pyx.dtype) == ((1797, 10), np.float16)
    np.testing.assert_allclose(pyx.astype(float).sum(axis=1), 1, atol=4e-3)
    errors = label_errors(digits.noisy_labels(SETTING), pyx)
    for method in METHODS:
        mask = np.load(finished / train_mask_path(SETTING, method, "2021"))
        np.testing.assert_array_equal(mask, ~errors[method])
    for fold, rows in enumerate(folds_of(digits.labels, 4)):
        part = np.load(finished / "work" / tasks_of(config)[fold].id / "probabilities.npy")
        np.testing.assert_array_equal(pyx[rows], part.astype(np.float16))


def test_the_record_tells_where_the_files_came_from(finished: Path, config: RunConfig) -> None:
    path = (finished / pyx_path(SETTING)).with_name("provenance.json")
    record = json.loads(path.read_text())
    assert record["configuration"] == config.config_sha256()
    assert len(record["files"]) == 6
    for training in record["trainings"].values():
        (used,) = training["hardware"]
        assert (used["device"], used["threads"], used["torch"]) == ("cpu", 1, torch.__version__)
    summary = record["summary"]
    assert summary["given_bound"] == pytest.approx(0.6171, abs=1e-4)  # 0.6008 but for the draw
    whole = np.average([f[0] for f in summary["fold_accuracies"]], weights=[450, 449, 449, 449])
    assert summary["given_accuracy"] == pytest.approx(whole)


def test_the_log_is_one_that_the_parser_reads(finished: Path, config: RunConfig) -> None:
    text = (finished / "work" / tasks_of(config)[0].id / "log.txt").read_text()
    assert "\nThe noise allows an accuracy of 61.71% against given labels\n" in text
    log = parse_training_log(text)
    assert log.is_complete
    assert log.train_size == 1347
    assert log.epochs["epoch"].tolist() == [1, 2, 3]
    assert (log.epochs["test_top5_accuracy"] >= log.epochs["test_accuracy"]).all()
    assert log.epochs["learning_rate"].is_monotonic_decreasing


def test_what_is_done_is_left_alone(finished: Path, digits: Dataset, config: RunConfig) -> None:
    times = {path: path.stat().st_mtime_ns for path in finished.rglob("*.npy")}
    assert [state for _, state in run_tasks(config, digits, finished)] == ["done"] * 5
    assert times == {path: path.stat().st_mtime_ns for path in finished.rglob("*.npy")}


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 75),
                           (signal.SIGUSR1, 75), (signal.SIGINT, 75)],
)  # fmt: skip
def test_a_killed_and_resumed_training_is_bit_identical(
    number: signal.Signals, status: int, finished: Path, config: RunConfig, tmp_path: Path
) -> None:
    save_plan(config, tmp_path)
    task = tasks_of(config)[0]
    checkpoint = tmp_path / "work" / task.id / "checkpoint.pt"
    process = program(tmp_path, "--task", task.id)
    while not checkpoint.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == status, said
    assert state_of(task, config, tmp_path) == "started"
    assert load_checkpoint(checkpoint_files(task, tmp_path), task.id) is not None
    if status == 75:
        assert "the same command continues it" in said
    process = program(tmp_path, "--task", task.id)
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert not checkpoint.exists()
    name = Path("work") / task.id / "probabilities.npy"
    assert (tmp_path / name).read_bytes() == (finished / name).read_bytes()


@pytest.mark.parametrize("stop", [1, 20, 21, 22, 62])
def test_a_training_continues_from_any_step(
    stop: int, digits: Dataset, finished: Path, config: RunConfig, tmp_path: Path
) -> None:
    """At the first step, around the end of an epoch (21 steps), and before the last."""

    def trainer() -> FastTrainer:
        (held_out, *_) = folds_of(digits.labels, 4)
        train = np.setdiff1d(np.arange(1797), held_out)
        labels = digits.noisy_labels(SETTING)
        key = f"0/digits/{tasks_of(config)[0].id}"
        assert isinstance(config.recipe, FastRecipe)
        return FastTrainer(
            config.recipe, TrainingData(digits.pixels, labels, train, held_out, 10, False, key)
        )

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    first = trainer()
    assert not first.run(lambda t: t.step == stop)
    paths = (tmp_path / "c", tmp_path / "before")
    save_checkpoint(paths, {"task": "it", **first.state_dict()})
    second = trainer()
    second.load_state_dict(load_checkpoint(paths, "it") or {})
    assert second.run()
    expected = np.load(finished / "work" / tasks_of(config)[0].id / "probabilities.npy")
    np.testing.assert_array_equal(second.predict(), expected)
    assert parse_training_log("\n".join(second.log) + "\nreal\t0m1.0s").is_complete
    torch.set_num_threads(threads)


def test_held_out_rows_do_not_enter_a_training(digits: Dataset) -> None:
    """Change every held-out image and label: the trained weights stay the same to the bit."""
    (held_out, *_) = folds_of(digits.labels, 4)
    train = np.setdiff1d(np.arange(1797), held_out)
    labels = digits.noisy_labels(SETTING)
    other_pixels, other_labels = digits.pixels.copy(), labels.copy()
    other_pixels[held_out] = 255 - other_pixels[held_out]
    other_labels[held_out] = (other_labels[held_out] + 1) % 10
    recipe = FastRecipe(epochs=1, small_epochs=0, batch_size=64, width=4)
    states = []
    for pixels, given in ((digits.pixels, labels), (other_pixels, other_labels)):
        trainer = FastTrainer(recipe, TrainingData(pixels, given, train, held_out, 10, False, "k"))
        trainer.run()
        states.append(trainer.state_dict()["network"])
    for name, weights in states[0].items():
        assert torch.equal(weights, states[1][name]), name


def test_the_crop_and_flip_are_those_of_a_plain_loop() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3)).astype(np.uint8)
    training = TrainingData(pixels, np.arange(6), np.arange(6), np.arange(6), 6, True, "k")
    trainer = FastTrainer(FastRecipe(batch_size=2, width=4), training)
    epoch = trainer.sample_epoch(0)
    rows = trainer.train_rows[epoch.order]
    got = trainer.images.augmented(rows, epoch.crops)
    padded = np.pad(pixels, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    assert epoch.crops.flip.any()
    assert not epoch.crops.flip.all()
    for i, row in enumerate(rows.tolist()):
        y, x = int(epoch.crops.down[i]), int(epoch.crops.right[i])
        image = padded[row, y : y + 16, x : x + 16].astype(np.float32)
        image = image[:, ::-1] if epoch.crops.flip[i] else image
        flat = pixels.reshape(-1, 3).astype(np.float64)
        expected = (image - flat.mean(axis=0)) / flat.std(axis=0)
        np.testing.assert_allclose(got[i].permute(1, 2, 0), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("side", "allow_flip", "small_epochs", "weights"),
    [
        (32, True, 1, {(0, 32): 0.4, (1, 32): 0.2, (-1, 32): 0.2, (0, 28): 0.2}),
        (32, True, 0, {(0, 32): 0.5, (1, 32): 0.25, (-1, 32): 0.25}),
        (16, True, 1, {(0, 16): 1.0}),
        (16, False, 0, {(0, 16): 1.0}),
    ],
)
def test_predictions_are_averages_over_views_of_a_plain_loop(
    side: int, allow_flip: bool, small_epochs: int, weights: dict[tuple[int, int], float]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, side, side, 3)).astype(np.uint8)
    rows = np.arange(6)
    training = TrainingData(pixels, rows, rows, rows[::2], 6, allow_flip, "k")
    recipe = FastRecipe(batch_size=2, width=4, small_epochs=small_epochs)
    trainer = FastTrainer(recipe, training)
    pad = side // 8
    padded = np.pad(pixels, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")
    flat = pixels.reshape(-1, 3).astype(np.float64)
    trainer.use_bfloat16 = False  # to be compared closely
    network = trainer.network.eval()
    with torch.no_grad():
        network.head.weight *= 100  # type: ignore[union-attr, operator]  # views differ visibly
    for found, row in zip(trainer.predict(), rows[::2], strict=True):
        expected = np.zeros(6)
        for (offset, seen_side), weight in weights.items():
            start = pad + offset
            image = padded[row, start : start + side, start : start + side]
            views = (image, image[:, ::-1]) if allow_flip else (image,)
            for view in views:
                normal = torch.tensor((view - flat.mean(axis=0)) / flat.std(axis=0))
                planes = normal.float().permute(2, 0, 1)[None]
                seen = functional.resize(planes, [seen_side, seen_side], antialias=True)
                with torch.no_grad():
                    logits = network(seen)[0]
                expected += weight * logits.softmax(0).numpy() / len(views)
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert found.sum() == pytest.approx(1.0, abs=1e-5)


def test_plans_are_refused_where_they_make_no_sense(config: RunConfig, tmp_path: Path) -> None:
    save_plan(config, tmp_path)
    save_plan(config, tmp_path)
    assert load_plan(tmp_path) == config
    other = make_run_config([SETTING], config.data_digest, dataset="digits", seed=1)
    with pytest.raises(
        RecomputeError,
        match=r"\(recipe\.epochs 3 there, 12 here; .*seed 0 there",
    ):
        save_plan(other, tmp_path)
    path = tmp_path / "plan.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(RecomputeError, match="is damaged: plan again in"):
        load_plan(tmp_path)
    with pytest.raises(MissingInputError, match=r"has no plan\.json"):
        load_plan(tmp_path / "nowhere")
    for overrides, said in (
        ({"epoch": "2"}, "is unknown"),
        ({"epochs": "x"}, "takes a whole number"),
    ):
        with pytest.raises(InvalidInputError, match=said):
            make_run_config([SETTING], "-", overrides=overrides)
    with pytest.raises(InvalidInputError, match="no setting"):
        make_run_config([], "-")
    with pytest.raises(InvalidInputError, match="folds is 1: use 2 to 5000"):
        make_run_config([SETTING], "-", n_folds=1)
    assert len(tasks_of(make_run_config([Setting(0.9, 0)], "-"))) == 5


def test_runs_are_refused_where_they_make_no_sense(
    digits: Dataset, config: RunConfig, tmp_path: Path
) -> None:
    def run(config: RunConfig, **more: object) -> None:
        list(run_tasks(config, digits, tmp_path, **more))  # type: ignore[arg-type]

    collect = tasks_of(config)[-1].id
    with pytest.raises(RecomputeError, match="needs tasks that are not done"):
        run(config, task_ids=(collect,))
    with pytest.raises(InvalidInputError, match="is not in this plan"):
        run(config, task_ids=("train-noise0.4-sparsity0.2-fold4",))
    with pytest.raises(InvalidInputError, match="device 'gpu' is unknown"):
        run(config, device="gpu")
    with pytest.raises(RecomputeError, match="is not there"):
        run(config, device="cuda:77")
    with pytest.raises(InvalidInputError, match="are not those that the plan was made for"):
        run(make_run_config([SETTING], "-", dataset="digits"))
    tiny = {"small_epochs": 1, "small_scale": 0.5}
    with pytest.raises(InvalidInputError, match="shrinks images to 4 pixels"):
        run(make_run_config([SETTING], digits.digest(), dataset="digits", overrides=tiny))
    large = make_run_config(
        [SETTING], digits.digest(), dataset="digits", overrides={"batch_size": 1348}
    )
    with pytest.raises(InvalidInputError, match="does not fit 1,347 training examples"):
        run(large)


def test_a_signal_during_the_last_prediction_stops_before_the_next_task(
    digits: Dataset, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = FastTrainer.predict

    def interrupted(trainer: FastTrainer) -> NDArray[np.float32]:
        signal.raise_signal(signal.SIGTERM)
        return predict(trainer)

    monkeypatch.setattr(FastTrainer, "predict", interrupted)
    with pytest.raises(InterruptedRunError, match=f"before {tasks_of(config)[1].id}: the same"):
        list(run_tasks(config, digits, tmp_path, threads=1))
    states = [state_of(task, config, tmp_path) for task in tasks_of(config)]
    assert states == ["done", "ready", "ready", "ready", "waiting"]


@pytest.mark.parametrize(
    "content",
    [
        npy_bytes(np.full((450, 9), 0.1, dtype=np.float32)),
        npy_bytes(np.full((10, 10), 0.1, dtype=np.float32)),
        npy_bytes(np.full((450, 10), np.nan, dtype=np.float32)),
        npy_bytes(np.zeros((450, 10), dtype=np.int64)),
        b"PK\x03\x04",
    ],
    ids=["columns", "rows", "nan", "dtype", "zip"],
)
def test_a_fold_sealed_by_hand_with_other_contents_is_one_line(
    content: bytes, finished: Path, digits: Dataset, config: RunConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    fold, collect = tasks_of(config)[0], tasks_of(config)[-1]
    record = read_record(folder, record_path(fold), ()) or {}
    log, probabilities = file_paths(fold)
    write_record(folder, record_path(fold), record, {log: b"", probabilities: content})
    (folder / record_path(collect)).unlink()
    with pytest.raises(RecomputeError, match=r"does not hold the probabilities of its fold") as e:
        list(run_tasks(config, digits, folder, threads=1))
    assert str(e.value).isprintable()


def test_a_loss_that_is_no_number_keeps_the_last_checkpoint(
    digits: Dataset, tmp_path: Path
) -> None:
    config = make_run_config(
        [SETTING], digits.digest(), dataset="digits", overrides={**SHORT, "peak_rate": 1e9}
    )
    with pytest.raises(RecomputeError, match="lower peak_rate"):
        list(run_tasks(config, digits, tmp_path))


@pytest.mark.parametrize("content", [b"", b"junk", b"{", None, "pipe", "folder"], ids=str)
@pytest.mark.parametrize("name", ["probabilities.npy", "about.json", "log.txt"])
def test_a_fold_that_is_not_as_it_was_written_is_trained_again(
    name: str, content: bytes | str | None, finished: Path, config: RunConfig, digits: Dataset,
    tmp_path: Path,
) -> None:  # fmt: skip
    """None: one byte is another."""
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    fold, collect = tasks_of(config)[1], tasks_of(config)[-1]
    (folder / record_path(collect)).unlink()
    path = work_folder(fold, folder) / name
    before = path.read_bytes()
    path.unlink()
    if content == "pipe":
        os.mkfifo(path)
    elif content == "folder":
        path.mkdir()
    else:
        path.write_bytes(content if isinstance(content, bytes) else bytes([*before[:-1], 0]))
    states = [state_of(task, config, folder) for task in tasks_of(config)]
    assert states == ["done", "ready", "done", "done", "waiting"]
    with pytest.raises(RecomputeError, match="needs tasks that are not done: run those first"):
        list(run_tasks(config, digits, folder, task_ids=(collect.id,)))
    if content in ("pipe", "folder"):  # which nothing is written in place of
        return
    assert len(list(run_tasks(config, digits, folder, threads=1))) == 5
    if name == "probabilities.npy":
        assert path.read_bytes() == before
    assert (folder / pyx_path(SETTING)).read_bytes() == (finished / pyx_path(SETTING)).read_bytes()


@pytest.mark.parametrize("name", ["provenance.json", "pyx", "mask"])
def test_a_setting_that_is_not_as_it_was_written_is_collected_again(
    name: str, finished: Path, config: RunConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    path = (
        folder
        / {
            "provenance.json": record_path(tasks_of(config)[-1]),
            "pyx": pyx_path(SETTING),
            "mask": train_mask_path(SETTING, "cl_pbc", "2021"),
        }[name]
    )
    path.write_bytes(path.read_bytes()[:-1])
    process = program(folder)
    said, _ = process.communicate()
    assert process.returncode == 0
    assert said.count(": done before\n") == 4
    assert state_of(tasks_of(config)[-1], config, folder) == "done"
    if name != "provenance.json":
        assert path.read_bytes() == (finished / path.relative_to(folder)).read_bytes()


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = (tmp_path / "checkpoint.pt", tmp_path / "checkpoint.before.pt")
    save_checkpoint(paths, {"task": "it", "step": 1})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"\(No space left on device\): make room"):
        save_checkpoint(paths, {"task": "it", "step": 2})
    assert load_checkpoint(paths, "it") == {"task": "it", "step": 1}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_checkpoint_is_right_or_the_one_before_or_absent(tmp_path: Path) -> None:
    paths = (tmp_path / "checkpoint.pt", tmp_path / "checkpoint.before.pt")
    assert load_checkpoint(paths, "it") is None
    for step in (1, 2, 3):
        save_checkpoint(paths, {"task": "it", "step": step})
    assert load_checkpoint(paths, "it") == {"task": "it", "step": 3}
    for content in (paths[0].read_bytes()[:-200], b"garbage", b""):
        paths[0].write_bytes(content)
        assert load_checkpoint(paths, "it") == {"task": "it", "step": 2}
    paths[0].unlink()
    os.mkfifo(paths[0])
    assert load_checkpoint(paths, "it") == {"task": "it", "step": 2}
    write_sealed(paths[1], [b"no tensors"])
    assert load_checkpoint(paths, "it") is None


def test_a_damaged_checkpoint_does_not_replace_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = (tmp_path / "checkpoint.pt", tmp_path / "checkpoint.before.pt")
    for step in (1, 2):
        save_checkpoint(paths, {"task": "it", "step": step})
    paths[0].write_bytes(paths[0].read_bytes()[:-1])
    monkeypatch.setattr(checkpoints, "write_sealed", lambda *_: None)  # killed before it is written
    save_checkpoint(paths, {"task": "it", "step": 3})
    assert load_checkpoint(paths, "it") == {"task": "it", "step": 1}


def test_files_of_another_task_are_not_taken_for_its_own(
    finished: Path, digits: Dataset, config: RunConfig, tmp_path: Path
) -> None:
    """A record, and a checkpoint, that would have a fold predict what its network has seen."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    one, other, collect = tasks_of(config)[0], tasks_of(config)[1], tasks_of(config)[-1]
    shutil.copy(tmp_path / record_path(one), tmp_path / record_path(other))
    (tmp_path / record_path(collect)).unlink()
    assert state_of(other, config, tmp_path) == "ready"
    (tmp_path / record_path(one)).unlink()

    def kill(task: Task, trainer: Trainer) -> None:
        if trainer.step > trainer.steps_per_epoch:
            raise RecomputeError("killed")

    with pytest.raises(RecomputeError, match="killed"):
        list(run_tasks(config, digits, tmp_path, threads=1, on_step=kill))
    shutil.copy(checkpoint_files(one, tmp_path)[0], checkpoint_files(other, tmp_path)[0])
    list(run_tasks(config, digits, tmp_path, threads=1))
    path = pyx_path(SETTING)
    assert (tmp_path / path).read_bytes() == (finished / path).read_bytes()


def test_a_checkpoint_of_another_configuration_is_refused(
    digits: Dataset, config: RunConfig, tmp_path: Path
) -> None:
    task = tasks_of(config)[0]
    save_checkpoint(checkpoint_files(task, tmp_path), {"task": task.id, "configuration": "another"})
    with pytest.raises(RecomputeError, match="is of another configuration"):
        list(run_tasks(config, digits, tmp_path))


def test_two_processes_do_not_run_the_same_task(
    digits: Dataset, config: RunConfig, tmp_path: Path
) -> None:
    task = tasks_of(config)[0]
    with (
        checkpoints.exclusive_lock(work_folder(task, tmp_path), task.id),
        pytest.raises(RecomputeError, match="is being run by another process"),
    ):
        list(run_tasks(config, digits, tmp_path, task_ids=(task.id,)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_short_training_on_cuda(digits: Dataset, config: RunConfig, tmp_path: Path) -> None:
    list(run_tasks(config, digits, tmp_path, device="cuda"))
    pyx = np.load(tmp_path / pyx_path(SETTING))
    assert np.isfinite(pyx).all()
