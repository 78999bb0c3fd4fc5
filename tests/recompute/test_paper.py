"""The original experiment and Co-Teaching on small data: schedules, quirks, resuming, kept sets."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray

from cifar_noisy import (
    InvalidInputError,
    RecomputeError,
    Setting,
    UnknownArtifactError,
    parse_training_log,
)
from cifar_noisy.images.augmentation import Crops
from cifar_noisy.loading.recomputed import provenance_path, read_record, write_record
from cifar_noisy.recompute import coteaching, paper
from cifar_noisy.recompute.checkpoints import load_checkpoint, save_checkpoint
from cifar_noisy.recompute.coteaching import CNN, CoteachingTrainer, select_small_loss
from cifar_noisy.recompute.datasets import Dataset, folds_of, open_dataset
from cifar_noisy.recompute.fast import FastTrainer
from cifar_noisy.recompute.kept_sets import class_weights, estimated_error_rate, kept_training
from cifar_noisy.recompute.paper import PaperTrainer, resnet50
from cifar_noisy.recompute.plan_file import load_plan, save_plan
from cifar_noisy.recompute.recipes import (
    CoteachingRecipe,
    FastRecipe,
    PaperRecipe,
    check_device_name,
)
from cifar_noisy.recompute.run_config import RunConfig, Task, make_run_config, tasks_of
from cifar_noisy.recompute.task_files import file_paths, record_path
from cifar_noisy.recompute.task_runner import run_tasks
from cifar_noisy.recompute.training import Trainer, TrainingData
from cifar_noisy.settings import train_mask_path, training_log_path
from cifar_noisy.store.registry import npy_bytes

SETTING = Setting(0.4, 0.2)
SMALL = PaperRecipe(epochs=2, padding=1, width=1, rate=0.001)
TAUGHT = CoteachingRecipe(epochs=3, decay_start=1, padding=1, width=4, batch_size=64)
OVERRIDES = {
    "epochs": "2",
    "width": "1",
    "batch_size": "200",
    "coteaching.epochs": "12",
    "coteaching.width": "4",
}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return open_dataset("digits", load_test_set=True)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def training() -> TrainingData:
    """Two hundred made-up colour images of 16x16, half of them to train on."""
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 10
    pixels = rng.integers(0, 256, (200, 16, 16, 3)).astype(np.uint8)
    pixels[np.arange(200), labels] = 255  # the class is the row that is white
    rows = np.arange(200)
    return TrainingData(
        pixels, labels, rows[:100], rows[100:], 10, True, "k", rows[100:], is_clean=labels < 8
    )


@pytest.fixture(scope="module")
def finished(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, Path]:
    folder = tmp_path_factory.mktemp("finished")
    request = make_run_config(
        [SETTING],
        digits.digest(),
        dataset="digits",
        recipe="paper",
        overrides=OVERRIDES,
        n_folds=2,
        kept_methods=["cl_pbc"],
        coteaching_methods=["argmax"],
    )
    save_plan(request, folder)
    # Two epochs teach a ResNet-50 nothing, so that the kept sets would lack classes.
    list(run_tasks(request, digits, folder, task_ids=collecting(request), threads=1))
    is_clean = digits.noisy_labels(SETTING) == digits.labels
    record = read_record(folder, provenance_path(SETTING), ())
    assert record is not None
    files = {path: (folder / path).read_bytes() for path in record["files"]}
    for method in ("cl_pbc", "argmax"):
        files[train_mask_path(SETTING, method, "2021")] = npy_bytes(is_clean)
    write_record(folder, provenance_path(SETTING), record, files)
    list(run_tasks(request, digits, folder, threads=1))
    return request, folder


def record_of(task: Task, folder: Path) -> dict[str, Any]:
    record = read_record(folder, record_path(task), file_paths(task))
    assert record is not None
    return record


def collecting(request: RunConfig) -> tuple[str, ...]:
    return tuple(task.id for task in tasks_of(request) if task.kind in ("train", "collect"))


def test_the_defaults_are_those_of_the_original() -> None:
    recipe = PaperRecipe()
    assert (recipe.epochs, recipe.batch_size, recipe.momentum) == (350, 64, 0.9)
    assert (recipe.weight_decay, recipe.padding, recipe.drop_last) == (1e-4, 4, True)
    assert (recipe.checkpoint, recipe.holdout_augmentation) == ("last", False)
    rates = np.array([paper.learning_rate_at(epoch, recipe) for epoch in range(350)])
    expected = np.repeat([0.1, 0.01, 0.001], [150, 100, 100])
    np.testing.assert_allclose(rates, expected)
    assert sum(p.numel() for p in resnet50(3, 10).parameters()) == 23_528_522


def test_the_schedule_is_that_of_a_published_log(upstream: Path) -> None:
    path = upstream / training_log_path(SETTING, "cl_pbc", "resnet50")
    log = parse_training_log(path.read_text())
    rates = [paper.learning_rate_at(epoch - 1, PaperRecipe()) for epoch in log.epochs["epoch"]]
    np.testing.assert_allclose(log.epochs["learning_rate"], rates)
    assert len(rates) == 350


def test_the_schedules_of_coteaching_are_those_of_a_plain_loop() -> None:
    recipe = CoteachingRecipe()
    rates, forget = [0.001] * 250, [0.2] * 250
    for i in range(80, 250):
        rates[i] = float(250 - i) / (250 - 80) * 0.001
    forget[:10] = np.linspace(0, 0.2, 10).tolist()
    np.testing.assert_allclose([coteaching.learning_rate_at(i, recipe) for i in range(250)], rates)
    got = [coteaching.forget_rate_at(i, 0.2, recipe.gradual_epochs) for i in range(250)]
    np.testing.assert_allclose(got, forget)


def test_the_network_of_coteaching_has_nine_convolutions() -> None:
    network = CNN(3, 10, 128, 32)
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [128] * 3 + [256] * 3 + [512, 256, 128]
    assert [m.padding for m in convolutions] == [(1, 1)] * 6 + [(0, 0)] * 3
    assert network.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_a_step_of_coteaching_is_that_of_a_plain_loop(training: TrainingData) -> None:
    """Each network learns, from what the other finds easiest, what Adam says."""
    weights = np.linspace(0.5, 2, 10).astype(np.float32)
    recipe = replace(TAUGHT, forget_rate=0.5, gradual_epochs=1)
    trainer = CoteachingTrainer(recipe, training._replace(class_weights=weights))
    before = [{k: v.clone() for k, v in n.state_dict().items()} for n in trainer.networks]
    assert not trainer.run(lambda t: t.step == 1)

    networks = [CNN(3, 10, 4, 16) for _ in range(2)]
    for network, state in zip(networks, before, strict=True):
        network.to(memory_format=torch.channels_last).load_state_dict(state)
    epoch = trainer.sample_epoch(0)
    rows = trainer.train_rows[epoch.order[:64]]
    images = trainer.images.augmented(rows, epoch.crops.select(slice(64)))
    labels = torch.from_numpy(training.labels)[rows]
    torch.manual_seed(training.seed("0/0"))
    logits = [network.train()(images) for network in networks]
    easiest = []
    for some in logits:
        losses = [-w * row.log_softmax(0)[y].item() for row, y, w in
                  zip(some, labels, weights[labels], strict=True)]  # fmt: skip
        easiest.append(sorted(range(64), key=lambda i, losses=losses: losses[i])[:32])  # type: ignore[misc]
    for k, network in enumerate(networks):
        chosen = easiest[1 - k]
        loss = F.cross_entropy(logits[k][chosen], labels[chosen], torch.from_numpy(weights))
        loss.backward()  # type: ignore[no-untyped-call]
        rate = coteaching.learning_rate_at(1, TAUGHT)
        optimizer = torch.optim.Adam(network.parameters(), rate, (0.1, 0.999))
        optimizer.step()
        for name, value in trainer.networks[k].state_dict().items():
            torch.testing.assert_close(value, network.state_dict()[name], msg=name)
    assert easiest[0] != easiest[1]


def test_small_losses_keep_one_at_least() -> None:
    assert len(select_small_loss(torch.zeros(3, 2), torch.tensor([0, 0, 1]), 0.99)) == 1


def trainers(training: TrainingData) -> dict[str, Trainer]:
    quirks = replace(SMALL, checkpoint="best-test", holdout_augmentation=True, drop_last=False,
                     batch_size=30)  # fmt: skip
    return {
        "paper": PaperTrainer(replace(SMALL, batch_size=30), training),
        "quirks": PaperTrainer(quirks, training),
        "coteaching": CoteachingTrainer(replace(TAUGHT, batch_size=30), training),
    }


@pytest.mark.parametrize("name", ["paper", "quirks", "coteaching"])
def test_a_training_continues_from_any_step(
    name: str, training: TrainingData, tmp_path: Path
) -> None:
    """From the first step, the end of an epoch and the middle of the next."""
    whole = trainers(training)[name]
    states = []

    def paths_of(step: int) -> tuple[Path, Path]:
        return tmp_path / str(step), tmp_path / "before"

    def keep(trainer: Trainer) -> bool:
        save_checkpoint(paths_of(trainer.step), {"task": "it", **trainer.state_dict()})
        states.append(trainer.step)
        return False

    assert whole.run(keep)
    expected = whole.predict()
    lines = [line for line in whole.log if "Time" not in line]
    for step in (states[0], whole.steps_per_epoch, whole.steps_per_epoch + 1):
        torch.rand(step)  # what was drawn elsewhere does not matter
        resumed = trainers(training)[name]
        resumed.load_state_dict(load_checkpoint(paths_of(step), "it") or {})
        assert resumed.run()
        np.testing.assert_array_equal(resumed.predict(), expected)
        assert [line for line in resumed.log if "Time" not in line] == lines


def test_a_checkpoint_of_another_version_is_refused_before_it_is_loaded(
    training: TrainingData,
) -> None:
    trainer = trainers(training)["paper"]
    saved = {**trainer.state_dict(), "step": 3}
    for other in (
        {key: value for key, value in saved.items() if key != "totals"},
        {key: value for key, value in saved.items() if key != "best"},
        saved | {"totals": {"loss": 1.0}},
        saved | {"totals": [1.0, 0.5, 0.5]},
    ):
        with pytest.raises(RecomputeError, match="is one of another version"):
            trainer.load_state_dict(other)
        assert trainer.step == 0


def test_recipes_are_read_without_torch() -> None:
    code = (
        "import sys; from cifar_noisy.recompute.recipes import make_recipe; "
        "make_recipe('fast', 'digits', {}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["gpu", "", "cuda:01", "cuda:", "meta", "cpu "])
def test_names_of_no_device_are_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match="is unknown: use cpu, cuda or cuda:1"):
        check_device_name(name)


def test_a_killed_training_continues_to_the_same_bytes(
    finished: tuple[RunConfig, Path], tmp_path: Path
) -> None:
    """Co-Teaching, with its dropout, as a process that is killed after its first epoch."""
    request, folder = finished
    task = tasks_of(request)[-1]
    assert task.kind == "coteaching"
    subprocess.run(["cp", "-r", folder, tmp_path / "copy"], check=True)
    copy = tmp_path / "copy"
    log_path = training_log_path(SETTING, "argmax", "coteaching")
    result = (copy / log_path).with_name("test_accuracy.json")
    result.unlink()
    command = [sys.executable, "-c", "from cifar_noisy.cli import main; main()", "recompute", "run",
               "--folder", str(copy), "--task", task.id, "--threads", "1"]  # fmt: skip
    checkpoint = copy / "work" / task.id / "checkpoint.pt"
    process = subprocess.Popen(command, env=os.environ, stderr=subprocess.PIPE)
    while not checkpoint.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not result.exists()
    subprocess.run(command, check=True, capture_output=True)
    published = (folder / log_path).read_text().partition("\nreal")[0]
    assert (copy / log_path).read_text().partition("\nreal")[0] == published
    accuracy = json.loads(result.read_text())["test_accuracy"]
    assert accuracy == record_of(task, folder)["test_accuracy"]


def test_the_checkpoint_best_on_the_test_set_is_kept_only_when_asked_for(
    training: TrainingData,
) -> None:
    for checkpoint in ("last", "best-test"):
        trainer = PaperTrainer(
            replace(SMALL, epochs=4, batch_size=30, rate=0.01, checkpoint=checkpoint), training
        )
        accuracies, weights = [], []
        while trainer.step < trainer.n_steps:
            trainer.run(lambda t: t.step % t.steps_per_epoch == 0)
            accuracies.append(float(trainer.log[-1].split()[2]))
            weights.append({k: v.clone() for k, v in trainer.network.state_dict().items()})
        best = int(np.argmax(accuracies))
        assert best != 3, "choose another seed: the last epoch is the best"
        trainer.predict()
        chosen = weights[best if checkpoint == "best-test" else 3]
        for name, value in trainer.network.state_dict().items():
            assert torch.equal(value, chosen[name]), (checkpoint, name)


def test_held_out_images_are_augmented_only_when_asked_for(training: TrainingData) -> None:
    honest = PaperTrainer(replace(SMALL, batch_size=30), training)
    honest.run()
    quirk = PaperTrainer(replace(SMALL, batch_size=30, holdout_augmentation=True), training)
    quirk.load_state_dict(honest.state_dict())
    rows = torch.from_numpy(training.held_out)
    normalised = (training.pixels[training.held_out] / 255 - paper.MEAN) / paper.STD
    images = torch.from_numpy(normalised.transpose(0, 3, 1, 2)).float()
    torch.testing.assert_close(honest.images.centered(rows).contiguous(), images)
    with torch.inference_mode():
        expected = honest.network.eval()(images).softmax(1).numpy()
    np.testing.assert_allclose(honest.predict(), expected, atol=1e-5)
    assert not np.allclose(quirk.predict(), expected, atol=1e-3)


def test_the_crop_has_borders_of_zeros(training: TrainingData) -> None:
    trainer = PaperTrainer(replace(SMALL, padding=4), training)
    first = Crops(torch.tensor([0]), torch.tensor([0]), torch.tensor([False]))
    corner = trainer.images.augmented(torch.tensor([7]), first)[0]
    black = torch.tensor([-m / s for m, s in zip(paper.MEAN, paper.STD, strict=True)])
    for border in (corner[:, :4], corner[:, :, :4]):
        torch.testing.assert_close(border, black[:, None, None].expand_as(border))


def test_class_weights_enter_the_loss(training: TrainingData) -> None:
    weights = np.linspace(0.1, 2, 10).astype(np.float32)
    losses = []
    for some in (None, weights):
        trainer = PaperTrainer(SMALL, training._replace(class_weights=some))
        trainer.run(lambda t: t.step == 1)
        losses.append(trainer.totals.loss)
        if some is not None:
            epoch = trainer.sample_epoch(0)
            fresh = PaperTrainer(SMALL, training)
            rows = fresh.train_rows[epoch.order[:64]]
            images = fresh.images.augmented(rows, epoch.crops.select(slice(64)))
            labels = training.labels[rows]
            each = -fresh.network.train()(images).log_softmax(1)[range(64), labels].detach().numpy()
            expected = (each * weights[labels]).sum() / weights[labels].sum()
            assert losses[1] == pytest.approx(expected, rel=1e-4)
    assert losses[0] != pytest.approx(losses[1], rel=1e-4)


def test_folds_are_the_strata_of_the_true_labels() -> None:
    """Every fold of CIFAR-10's order holds 1,250 of each class, and all are used once."""
    labels = np.repeat(np.arange(10), 5_000)
    folds = folds_of(labels, 4)
    assert all((np.bincount(labels[rows]) == 1_250).all() for rows in folds)
    np.testing.assert_array_equal(np.sort(np.concatenate(folds)), np.arange(50_000))


def test_logs_of_kept_sets_lie_where_upstream_has_them_and_parse(
    finished: tuple[RunConfig, Path], digits: Dataset
) -> None:
    request, folder = finished
    plain, taught = tasks_of(request)[-2:]
    n_clean = int((digits.noisy_labels(SETTING) == digits.labels).sum())
    path = folder / training_log_path(SETTING, "cl_pbc", "resnet50")
    log = parse_training_log(path.read_text())
    assert (log.format, log.train_size, log.is_complete) == ("resnet50", n_clean, True)
    assert log.epochs["learning_rate"].tolist() == pytest.approx([0.1, 0.01])
    record = record_of(plain, folder)
    assert (record["training"], record["test_size"]) == ("paper", 297)
    assert log.epochs["test_accuracy"].iloc[-1] == pytest.approx(record["test_accuracy"], abs=1e-5)

    path = folder / training_log_path(SETTING, "argmax", "coteaching")
    log = parse_training_log(path.read_text())
    assert (log.format, log.train_size, log.is_complete) == ("coteaching", n_clean, True)
    assert (log.planned_epochs, log.printed_noise) == (12, 0)
    assert log.epochs["pure_ratio_1"].tolist() == [0] + [1] * 11
    record = record_of(taught, folder)
    accuracy = log.epochs["test_accuracy_1"].iloc[-1]
    assert accuracy == pytest.approx(record["test_accuracy"], abs=1e-6)
    assert record["forget_rate"] == 0.2


def test_a_plan_is_read_as_it_was_written(
    finished: tuple[RunConfig, Path], digits: Dataset
) -> None:
    request, folder = finished
    assert load_plan(folder) == request
    before = [state for _, state in run_tasks(request, digits, folder)]
    assert before == ["done"] * 5
    assert [task.id for task in tasks_of(request)][-2:] == [
        "kept-noise0.4-sparsity0.2-cl_pbc", "coteaching-noise0.4-sparsity0.2-argmax"
    ]  # fmt: skip


def test_the_digits_without_a_test_set_are_what_they_were(digits: Dataset) -> None:
    whole = open_dataset("digits")
    assert whole.test_pixels is None
    assert digits.test_pixels is not None
    joined = np.concatenate([digits.pixels, digits.test_pixels])
    np.testing.assert_array_equal(joined, whole.pixels)


def kept_without(digits: Dataset, missing: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    given = digits.noisy_labels(SETTING)
    return given, given != missing


def test_bad_input_is_refused(digits: Dataset, training: TrainingData) -> None:
    with pytest.raises(InvalidInputError, match="keeps no example of class 3"):
        kept_training(digits, *kept_without(digits, 3), "k")
    with pytest.raises(InvalidInputError, match=r"class 9 \(1 of 10 classes"):
        class_weights(np.arange(10), np.arange(9))
    whole = open_dataset("digits")
    with pytest.raises(InvalidInputError, match="opened without a test set"):
        kept_training(whole, whole.labels, whole.labels >= 0, "k")
    for trainer, recipe in ((PaperTrainer, SMALL), (CoteachingTrainer, TAUGHT)):
        with pytest.raises(InvalidInputError, match="batch_size 101 does not fit 100"):
            trainer(replace(recipe, batch_size=101), training)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="batch_size 33 leaves one of 100"):
        PaperTrainer(replace(SMALL, batch_size=33, drop_last=False), training)
    plain = FastRecipe(epochs=3, momentum=0, batch_size=50, width=2)
    assert FastTrainer(plain, training).n_steps == 6
    request = make_run_config([SETTING], digits.digest(), dataset="digits", n_folds=2)
    task = ("train-noise0.4-sparsity0.2-fold2",)
    with pytest.raises(InvalidInputError, match="fold2' is not in this plan"):
        list(run_tasks(request, digits, Path("nowhere"), task_ids=task))


@pytest.mark.parametrize(
    ("more", "error", "said"),
    [
        ({"recipe": "papers"}, UnknownArtifactError, "did you mean paper"),
        ({"kept_methods": ["cl"]}, UnknownArtifactError, "method 'cl' is unknown"),
        ({"recipe": "paper", "overrides": {"peak_rate": 1}}, InvalidInputError, "is unknown"),
        ({"recipe": "paper", "overrides": {"drop_last": "no"}}, InvalidInputError, "true or false"),
        ({"recipe": "paper", "overrides": {"checkpoint": "best"}}, InvalidInputError, "best-test"),
        ({"recipe": "paper", "overrides": {"width": 0}}, InvalidInputError, "width is 0: use"),
        ({"overrides": {"epochs": "-1"}}, InvalidInputError, "epochs is -1: use 1 or more"),
        ({"overrides": {"batch_size": 1}}, InvalidInputError, "batch_size is 1: use 2 or more"),
        ({"overrides": {"peak_rate": "nan"}}, InvalidInputError, "peak_rate is nan"),
        ({"overrides": {"weight_decay": "inf"}}, InvalidInputError, "weight_decay is inf"),
        ({"overrides": {"warmup": 1}}, InvalidInputError, "warmup is 1: use 0 to 0.99"),
        ({"overrides": {"coteaching.epochs": 3}}, InvalidInputError, "no method"),
        ({"coteaching_methods": ["argmax"], "overrides": {"coteaching.epoch": 3}},
         InvalidInputError, r"'coteaching\.epoch' is unknown"),
        ({"coteaching_methods": ["argmax"], "overrides": {"coteaching.epochs": 1}},
         InvalidInputError, "use 2 or more"),
        ({"coteaching_methods": ["argmax"], "overrides": {"coteaching.forget_rate": 1}},
         InvalidInputError, r"coteaching\.forget_rate is 1: use 0 to 0\.999"),
    ],
)  # fmt: skip
def test_plans_that_make_no_sense_are_refused(
    more: dict[str, object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        make_run_config([SETTING], "-", **more)  # type: ignore[arg-type]


def test_the_forget_rate_is_the_share_of_wrong_labels(digits: Dataset) -> None:
    """Where the probabilities are sure and right."""
    given = digits.noisy_labels(SETTING)
    pyx = np.full((len(given), 10), 0.01, dtype=np.float32)
    pyx[np.arange(len(given)), digits.labels] = 0.91
    assert estimated_error_rate(given, pyx) == pytest.approx(
        (given != digits.labels).mean(), abs=1e-3
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["paper", "quirks", "coteaching"])
def test_a_short_training_on_cuda(name: str, training: TrainingData) -> None:
    recipes = {"paper": SMALL, "quirks": replace(SMALL, holdout_augmentation=True)}
    trainer = (
        CoteachingTrainer(TAUGHT, training, "cuda")
        if name == "coteaching"
        else PaperTrainer(recipes[name], training, "cuda")
    )
    assert trainer.run()
    assert np.isfinite(trainer.predict()).all()
