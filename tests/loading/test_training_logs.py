"""The published training logs against a plain loop, the paper's numbers, and every way to be cut.

The small logs in this file are made up: they have the published formats and none of their numbers.
"""

import re
import warnings
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from pandas.testing import assert_frame_equal

from cifar_noisy.errors import TrainingLogError, TruncatedLogWarning
from cifar_noisy.loading.training_logs import RESNET50_EPOCHS, TrainingLog, parse_training_log

Row = dict[str, Any]

# Small logs, one of each format

RESNET50 = (
    "Use GPU: 0 for training\n=> creating model 'resnet50'\nTrain size: 6500\nepoch: 1 | lr: 0.1\n"
    "../train.py:1: UserWarning: You have chosen a specific GPU.\n  warnings.warn('You have'\n"
    "Epoch: [0][0/102]\tTime 2.125 (2.125)\tData 0.250 (0.250)\tLoss 2.5001 (2.5001)\t"
    "Acc@1 9.375 (9.375)\tAcc@5 51.562 (51.562)\n"
    "Epoch: [0][50/102]\tTime 0.031 (0.072)\tData 0.000 (0.005)\tLoss 2.2501 (2.3502)\t"
    "Acc@1 12.500 (11.111)\tAcc@5 62.500 (55.555)\n"
    "Test: [0/157]\tTime 0.240 (0.240)\tLoss 2.1001 (2.1001)\tAcc@1 0.000 (0.000)\t"
    "Acc@5 71.875 (71.875)\n"
    "Test: [50/157]\tTime 0.012 (0.016)\tLoss 1.9001 (2.0002)\tAcc@1 65.625 (14.521)\t"
    "Acc@5 100.000 (66.667)\n"
    " * Acc@1 15.250 Acc@5 67.310\n"
    "epoch: 2 | lr: 0.010000000000000002\n"
    "Epoch: [1][0/102]\tTime 0.254 (0.254)\tData 0.216 (0.216)\tLoss nan (nan)\t"
    "Acc@1 14.062 (14.062)\tAcc@5 60.938 (60.938)\n"
    "Test: [0/157]\tTime 0.213 (0.213)\tLoss 1.6001 (1.6001)\tAcc@1 51.562 (51.562)\t"
    "Acc@5 90.625 (90.625)\n"
    " * Acc@1 28.770 Acc@5 80.090\n"
    "\nreal\t101m6.250s\nuser\t110m0.500s\nsys\t8m1.125s\n"
)
COTEACHING = (
    "Files already downloaded and verified\n('Train size:', 25601)\nActual noise 0.64\n"
    "loading dataset...\n  (c1): Conv2d(3, 128, kernel_size=(3, 3), stride=(1, 1))\n"
    "Evaluating cifar10_coteaching_from_file_0.2...\n"
    "Epoch [1/3] Test Accuracy on the 10000 test images: Model1 10.0160 % Model2 9.9760 % "
    "Pure Ratio1 0.0000 % Pure Ratio2 0.0000 %\n"
    "('Training', 'cifar10_coteaching_from_file_0.2')\n"
    "Epoch [2/3], Iter [50/200] Training Accuracy1: 36.7188, Training Accuracy2: 39.0625, "
    "Loss1: 0.0129, Loss2: 0.0131, Pure Ratio1: 10.1250, Pure Ratio2 9.5125\n"
    "Epoch [2/3], Iter [100/200] Training Accuracy1: 46.0938, Training Accuracy2: 44.5312, "
    "Loss1: 0.0116, Loss2: 0.0122, Pure Ratio1: 10.1200, Pure Ratio2 10.0800\n"
    "Epoch [2/3] Test Accuracy on the 10000 test images: Model1 31.2500 % Model2 33.1030 %, "
    "Pure Ratio 1 10.1100 %, Pure Ratio 2 10.0700 %\n"
    "Epoch [3/3], Iter [50/200] Training Accuracy1: 50.0000, Training Accuracy2: 51.5625, "
    "Loss1: 0.0101, Loss2: 0.0102, Pure Ratio1: 10.3300, Pure Ratio2 10.4400\n"
    "Epoch [3/3] Test Accuracy on the 10000 test images: Model1 84.9058 % Model2 84.6554 %, "
    "Pure Ratio 1 9.9001 %, Pure Ratio 2 9.8002 %\n"
    "\nreal\t1m5.500s\nuser\t2m0.000s\nsys\t0m1.000s\n"
)
COTEACHING_PLUS = (
    "Actual noise 0.40\nloading dataset...\n"
    "Epoch [1/2] Test Accuracy on the 10000 test data: Model1 9.9960 % Model2 10.7072 %\n"
    "Training cifar10_coteaching_plus_from_file_0.2...\n"
    "Epoch [2/2], Iter [50/390] Training Accuracy1: 14.0625, Training Accuracy2: 12.5000, "
    "Loss1: 0.0179, Loss2: 0.0178\n"
    "Epoch [2/2], Iter [100/390] Training Accuracy1: 21.0938, Training Accuracy2: 20.3125, "
    "Loss1: 0.0174, Loss2: 0.0176\n"
    "Epoch [2/2] Test Accuracy on the 10000 test data: Model1 30.2484 % Model2 29.7075 %\n"
)
SCELOSS = (
    "lr 0.01\nbatch_size 128\nepoch 2\nnr 0.4\nUsing CUDA!\nNum of train 12800\nNum of test 10000\n"
    "====================Training====================\n"
    "epoch=0\tglobal_step=50\tloss=6.99001\tloss_avg=7.58002\tacc=0.30469\tacc_top1_avg=0.22003\t"
    "acc_top5_avg=0.67004\tlr=0.01000\tgn=8.50005\ttime=64.51it/s\n"
    "epoch=0\tglobal_step=100\tloss=6.80001\tloss_avg=7.34002\tacc=0.31250\tacc_top1_avg=0.25003\t"
    "acc_top5_avg=0.69004\tlr=0.01000\tgn=6.10005\ttime=58.71it/s\n"
    "====================Eval====================\n"
    "epoch=0\tglobal_step=100\tloss=4.37001\ttest_loss_avg=2.53002\tacc=0.00000\t"
    "test_acc_avg=0.34003\ttest_acc_top5_avg=0.88004\ttime=243.71it/s\n"
    "epoch=0\tglobal_step=100\tloss=2.83001\ttest_loss_avg=2.26002\tacc=0.56250\t"
    "test_acc_avg=0.42203\ttest_acc_top5_avg=0.89304\ttime=32.16it/s\n"
    "curr_acc\t0.4220\nBEST_ACC\t0.0000\ncurr_acc_top5\t0.8930\nBEST_ACC_top5\t0.0000\n"
    "Model Saved!\n\n====================Training====================\n"
    "epoch=1\tglobal_step=150\tloss=6.36001\tloss_avg=6.21002\tacc=0.35938\tacc_top1_avg=0.37003\t"
    "acc_top5_avg=0.78004\tlr=0.00100\tgn=5.23005\ttime=56.23it/s\n"
    "====================Eval====================\n"
    "epoch=1\tglobal_step=200\tloss=2.27001\ttest_loss_avg=1.90002\tacc=0.40625\t"
    "test_acc_avg=0.41003\ttest_acc_top5_avg=0.95004\ttime=245.45it/s\n"
    "curr_acc\t0.4100\nBEST_ACC\t0.4220\ncurr_acc_top5\t0.9500\nBEST_ACC_top5\t0.8930\n"
    "Model Saved!\n\n"
)
SMALL = {
    "resnet50": RESNET50,
    "coteaching": COTEACHING,
    "coteaching_plus": COTEACHING_PLUS,
    "sceloss": SCELOSS,
}
formats = pytest.mark.parametrize("name", SMALL)

# The published files

RESULTS = "cifar10/confidentlearning_and_coteaching/results"
PUBLISHED = {  # glob, format, how many logs that hold rows, epochs of each
    "cifar10/cifar10_noisy_labels__*/train_pruned_*/out": ("resnet50", 64, 350),
    f"{RESULTS}/*/train_pruned_cl_pbnr/out.log": ("resnet50", 4, 250),
    f"{RESULTS}/*/train_pruned_cl_pbnr/out2.log": ("resnet50", 3, 250),
    f"{RESULTS}/*/train_pruned_*/out_*.log": ("coteaching", 60, 250),
    "other_methods/coteaching/coteaching_results/out_*.log": ("coteaching", 12, 200),
    "other_methods/coteaching_plus/coteaching_plus_results/out_*.log": ("coteaching_plus", 12, 200),
    "other_methods/sceloss/sceloss_results/out_*.log": ("sceloss", 12, 120),
}
EMPTY = (
    "cifar10/cifar10_noisy_labels__frac_zero_noise_rates__0_6__noise_amount__0_2/"
    "train_pruned_cl_both/out"
)
SETTINGS = [(noise, sparsity) for noise in (2, 4, 6) for sparsity in (0, 2, 4, 6)]
TEST_ACCURACIES = ["test_accuracy_1", "test_accuracy_2"]
globs = pytest.mark.parametrize("glob", PUBLISHED)


def logs_of(upstream: Path, glob: str) -> list[Path]:
    return sorted(path for path in upstream.glob(glob) if path.stat().st_size)


@cache
def parsed(path: Path) -> TrainingLog:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return parse_training_log(path.read_text(encoding="ascii"), name=str(path))


# The plain loop: line by line and word by word; no regular expression, no shared table

Tables = tuple[list[Row], list[Row]]


def fraction(percent: str) -> float:
    return float(Decimal(percent).scaleb(-2))


def plain_resnet50(lines: list[str]) -> Tables:
    batches: list[Row] = []
    epochs: list[Row] = []
    epoch: Row = {}
    for line in lines:
        if line.startswith("epoch: "):
            _, number, _, _, rate = line.split()
            epoch = {"epoch": int(number), "learning_rate": float(rate)}
        elif line.startswith(("Epoch: [", "Test: [")):
            place, *fields = line.split("\t")
            batch, count = place[place.rindex("[") + 1 : -1].split("/")
            row: Row = {"epoch": epoch["epoch"], "batch": int(batch) + 1, "batch_count": int(count)}
            row["phase"] = "train" if line.startswith("Epoch") else "test"
            for field in fields:
                label, value, mean = field.split()
                column = {
                    "Time": "batch_seconds",
                    "Data": "data_seconds",
                    "Loss": "loss",
                    "Acc@1": "accuracy",
                    "Acc@5": "top5_accuracy",
                }[label]
                read = fraction if "accuracy" in column else float
                row |= {column: read(value), f"{column}_mean": read(mean.strip("()"))}
            batches.append(row)
            if row["phase"] == "train":
                epoch |= {"train_loss": row["loss_mean"], "train_accuracy": row["accuracy_mean"]}
        elif line.startswith(" * Acc@1"):
            _, _, top1, _, top5 = line.split()
            epochs.append(
                epoch | {"test_accuracy": fraction(top1), "test_top5_accuracy": fraction(top5)}
            )
    return batches, epochs


def plain_two_networks(lines: list[str]) -> Tables:
    batches: list[Row] = []
    epochs: list[Row] = []
    for line in lines:
        words = line.replace(",", "").split()
        if not line.startswith("Epoch ["):
            continue
        row: Row = {"epoch": int(words[1].strip("[]").split("/")[0])}
        if words[2] == "Iter":
            batch, count = words[3].strip("[]").split("/")
            row |= {"batch": int(batch), "batch_count": int(count)}
            row |= {f"train_accuracy_{i}": fraction(words[3 + 3 * i]) for i in (1, 2)}
            row |= {f"loss_{i}": float(words[9 + 2 * i]) for i in (1, 2)}
            if "Pure" in words:
                row |= {f"pure_ratio_{i}": fraction(words[13 + 3 * i]) for i in (1, 2)}
            batches.append(row)
        else:
            percents = [word for word, sign in pairwise(words) if sign == "%"]
            columns = ("test_accuracy_1", "test_accuracy_2", "pure_ratio_1", "pure_ratio_2")
            row |= zip(columns, map(fraction, percents), strict=False)
            epochs.append(row)
    return batches, epochs


def plain_sceloss(lines: list[str]) -> Tables:
    batches: list[Row] = []
    epochs: list[Row] = []
    epoch: Row = {}
    for line in lines:
        label, _, value = line.partition("\t")
        if line.startswith("epoch="):
            values = dict(field.split("=") for field in line.split("\t"))
            row: Row = {
                "epoch": int(values["epoch"]) + 1,
                "global_step": int(values["global_step"]),
            }
            row["iterations_per_second"] = float(values["time"].removesuffix("it/s"))
            row |= {"loss": float(values["loss"]), "accuracy": float(values["acc"])}
            train = "lr" in values
            row["phase"] = "train" if train else "test"
            row["loss_mean"] = float(values["loss_avg" if train else "test_loss_avg"])
            row["accuracy_mean"] = float(values["acc_top1_avg" if train else "test_acc_avg"])
            top5 = values["acc_top5_avg" if train else "test_acc_top5_avg"]
            row["top5_accuracy_mean"] = float(top5)
            epoch["epoch"] = row["epoch"]
            if train:
                row |= {"learning_rate": float(values["lr"]), "gradient_norm": float(values["gn"])}
                epoch |= {"learning_rate": row["learning_rate"], "train_loss": row["loss_mean"]}
                epoch["train_accuracy"] = row["accuracy_mean"]
            else:
                epoch["test_loss"] = row["loss_mean"]
            batches.append(row)
        elif label == "curr_acc":
            epoch["test_accuracy"] = float(value)
        elif label == "BEST_ACC":
            epoch["previous_best_test_accuracy"] = float(value)
        elif label == "curr_acc_top5":
            epoch["test_top5_accuracy"] = float(value)
        elif label == "BEST_ACC_top5":
            epochs.append(epoch | {"previous_best_test_top5_accuracy": float(value)})
            epoch = {}
    return batches, epochs


PLAIN: dict[str, Callable[[list[str]], Tables]] = {
    "resnet50": plain_resnet50,
    "coteaching": plain_two_networks,
    "coteaching_plus": plain_two_networks,
    "sceloss": plain_sceloss,
}


def hold_to_plain_loop(log: TrainingLog, text: str) -> None:
    for table, rows in zip(
        (log.batches, log.epochs), PLAIN[log.format](text.split("\n")), strict=True
    ):
        expected = pd.DataFrame(rows)
        assert set(expected) == set(table)
        assert_frame_equal(table, expected[list(table)], check_exact=True)


@formats
def test_small_log_equals_plain_loop(name: str) -> None:
    log = parse_training_log(SMALL[name])
    assert log.format == name
    hold_to_plain_loop(log, SMALL[name])


@globs
def test_published_logs_equal_plain_loop(upstream: Path, glob: str) -> None:
    for path in logs_of(upstream, glob)[::6]:
        hold_to_plain_loop(parsed(path), path.read_text(encoding="ascii"))


# What a table looks like

COLUMNS = {  # of the batches, of the epochs
    "resnet50": (
        "epoch phase batch batch_count batch_seconds batch_seconds_mean data_seconds "
        "data_seconds_mean loss loss_mean accuracy accuracy_mean top5_accuracy top5_accuracy_mean",
        "epoch learning_rate train_loss train_accuracy test_accuracy test_top5_accuracy",
    ),
    "coteaching": (
        "epoch batch batch_count train_accuracy_1 train_accuracy_2 loss_1 loss_2 "
        "pure_ratio_1 pure_ratio_2",
        "epoch test_accuracy_1 test_accuracy_2 pure_ratio_1 pure_ratio_2",
    ),
    "coteaching_plus": (
        "epoch batch batch_count train_accuracy_1 train_accuracy_2 loss_1 loss_2",
        "epoch test_accuracy_1 test_accuracy_2",
    ),
    "sceloss": (
        "epoch phase global_step loss loss_mean accuracy accuracy_mean top5_accuracy_mean "
        "learning_rate gradient_norm iterations_per_second",
        "epoch learning_rate train_loss train_accuracy test_loss test_accuracy "
        "previous_best_test_accuracy test_top5_accuracy previous_best_test_top5_accuracy",
    ),
}
WHOLE = {"epoch", "batch", "batch_count", "global_step"}


def hold_columns(log: TrainingLog) -> None:
    assert (" ".join(log.batches.columns), " ".join(log.epochs.columns)) == COLUMNS[log.format]
    for table in (log.batches, log.epochs):
        assert table.index.equals(pd.RangeIndex(len(table)))
        for column in set(table) - {"phase"}:
            assert table[column].dtype == ("int64" if column in WHOLE else "float64"), column


@formats
def test_columns_and_dtypes(name: str) -> None:
    hold_columns(parse_training_log(SMALL[name]))


@formats
def test_columns_and_dtypes_stay_where_a_table_is_empty(name: str) -> None:
    first = re.search(r"^(Epoch.*|epoch=.*)\n", SMALL[name], re.MULTILINE)
    assert first is not None
    with pytest.warns(TruncatedLogWarning):
        log = parse_training_log(SMALL[name][: first.end()])
    assert len(log.batches) + len(log.epochs) == 1
    hold_columns(log)


def test_resnet50_by_hand() -> None:
    log = parse_training_log(RESNET50)
    assert (log.train_size, log.planned_epochs, log.is_complete) == (6500, None, True)
    assert (log.wall_seconds, log.printed_noise) == (6066.25, None)
    assert log.epochs.to_dict("list") == {
        "epoch": [1, 2],
        "learning_rate": [0.1, 0.010000000000000002],
        "train_loss": [2.3502, pytest.approx(np.nan, nan_ok=True)],
        "train_accuracy": [0.11111, 0.14062],
        "test_accuracy": [0.1525, 0.2877],
        "test_top5_accuracy": [0.6731, 0.8009],
    }
    assert log.batches["phase"].tolist() == ["train", "train", "test", "test", "train", "test"]
    assert log.batches["batch"].tolist() == [1, 51, 1, 51, 1, 1]
    assert log.batches["data_seconds"].isna().tolist() == [False, False, True, True, False, True]


def test_coteaching_by_hand() -> None:
    log = parse_training_log(COTEACHING)
    assert (log.train_size, log.planned_epochs, log.is_complete) == (25601, 3, True)
    assert (log.wall_seconds, log.printed_noise) == (65.5, 0.64)
    assert log.epochs["test_accuracy_1"].tolist() == [0.10016, 0.3125, 0.849058]
    assert log.epochs["pure_ratio_2"].tolist() == [0, 0.1007, 0.098002]
    assert log.batches["epoch"].tolist() == [2, 2, 3]
    assert log.batches["pure_ratio_2"].tolist() == [0.095125, 0.1008, 0.1044]


def test_coteaching_plus_by_hand() -> None:
    log = parse_training_log(COTEACHING_PLUS)
    assert (log.train_size, log.planned_epochs, log.is_complete) == (None, 2, True)
    assert (log.wall_seconds, log.printed_noise) == (None, 0.4)
    assert log.epochs["test_accuracy_2"].tolist() == [0.107072, 0.297075]
    assert log.batches["loss_2"].tolist() == [0.0178, 0.0176]


def test_sceloss_by_hand() -> None:
    log = parse_training_log(SCELOSS)
    assert (log.train_size, log.planned_epochs, log.is_complete) == (12800, 2, True)
    assert (log.wall_seconds, log.printed_noise) == (None, None)
    assert log.epochs.to_dict("list") == {
        "epoch": [1, 2],
        "learning_rate": [0.01, 0.001],
        "train_loss": [7.34002, 6.21002],
        "train_accuracy": [0.25003, 0.37003],
        "test_loss": [2.26002, 1.90002],
        "test_accuracy": [0.422, 0.41],
        "previous_best_test_accuracy": [0, 0.422],
        "test_top5_accuracy": [0.893, 0.95],
        "previous_best_test_top5_accuracy": [0, 0.893],
    }


@formats
def test_line_ends_do_not_matter(name: str) -> None:
    log = parse_training_log(SMALL[name])
    for text in (SMALL[name].replace("\n", "\r\n"), SMALL[name].strip("\n")):
        same = parse_training_log(text)
        assert_frame_equal(same.batches, log.batches)
        assert_frame_equal(same.epochs, log.epochs)
        assert (same.train_size, same.is_complete) == (log.train_size, log.is_complete)


# The published logs


@globs
def test_every_published_log(upstream: Path, glob: str) -> None:
    name, how_many, epochs = PUBLISHED[glob]
    paths = logs_of(upstream, glob)
    assert len(paths) == how_many
    for path in paths:
        log = parsed(path)
        assert (log.format, log.is_complete) == (name, True)
        assert log.epochs["epoch"].tolist() == list(range(1, epochs + 1))
        assert log.planned_epochs == (None if name == "resnet50" else epochs)
        hold_columns(log)
        batches = log.batches
        train = batches[batches["phase"] == "train"] if "phase" in batches else batches
        assert not train.isna().any(axis=None)  # nothing diverged, so no loss is nan either
        assert not log.epochs.isna().any(axis=None)
        for table in (log.batches, log.epochs):
            fractions = table.filter(regex="accuracy|pure_ratio")
            assert ((fractions >= 0) & (fractions <= 1)).all(axis=None)


def test_the_empty_published_log(upstream: Path) -> None:
    text = (upstream / EMPTY).read_text()
    with pytest.raises(TrainingLogError, match="cl_both/out is empty"):
        parse_training_log(text, name=EMPTY)


RESNET50_SETTING = "cifar10/cifar10_noisy_labels__frac_zero_noise_rates__0_{s}__noise_amount__0_{n}"
PBNR_250 = f"{RESULTS}/{{s}}_{{n}}/train_pruned_cl_pbnr/out_{{s}}_{{n}}.log"
COTEACHING_200 = "other_methods/coteaching/coteaching_results/out_{s}_{n}.log"
COTEACHING_PLUS_200 = "other_methods/coteaching_plus/coteaching_plus_results/out_{s}_{n}.log"
SCELOSS_120 = "other_methods/sceloss/sceloss_results/out_{s}_{n}.log"
RESNET50_350 = RESNET50_SETTING + "/train_pruned_cl_pbnr/out"


# Test accuracy in percent, the better network; 20, 40, 70 % noise times sparsity 0, 0.2, 0.4, 0.6.
# The last epoch is what the paper's first table (2020) prints for PBNR, Co-Teaching and SCE-loss.
ACCURACIES = {
    (RESNET50_350, "best"): (
        "85.85 85.45 86.46 86.20 81.01 79.55 81.42 82.51 46.81 41.58 39.89 36.00"
    ),
    (RESNET50_350, "last"): (
        "85.51 85.18 86.26 85.86 79.12 76.34 78.76 75.39 34.37 37.49 35.07 32.25"
    ),
    (PBNR_250, "best"): ("89.29 89.06 89.46 89.87 86.54 86.74 86.20 86.47 38.93 41.42 38.77 36.46"),
    (PBNR_250, "last"): ("89.23 88.87 89.46 89.25 86.30 86.42 86.12 86.45 36.30 36.91 36.19 34.88"),
    (COTEACHING_200, "best"): (
        "82.33 82.82 83.48 82.34 73.70 71.86 70.94 63.86 35.68 34.90 31.14 29.26"
    ),
    (COTEACHING_200, "last"): (
        "81.16 81.31 81.44 80.64 62.93 61.56 60.91 58.14 30.47 30.22 27.69 25.99"
    ),
    (COTEACHING_PLUS_200, "best"): (
        "59.03 59.43 60.74 59.46 55.23 53.45 51.00 46.09 28.28 28.84 24.47 24.59"
    ),
    (COTEACHING_PLUS_200, "last"): (
        "55.31 56.16 57.10 55.97 48.39 46.72 45.33 39.17 25.85 24.72 22.28 21.37"
    ),
    (SCELOSS_120, "last"): (
        "87.18 87.53 88.78 84.35 76.33 74.10 64.88 58.27 33.04 28.66 30.86 24.02"
    ),
    (SCELOSS_120, "BEST_ACC"): (
        "89.58 89.76 90.17 89.39 86.36 81.58 70.56 64.25 37.17 33.18 34.11 27.05"
    ),
}


@pytest.mark.parametrize(("path", "epoch"), ACCURACIES)
def test_published_accuracies(upstream: Path, path: str, epoch: str) -> None:
    percents = ACCURACIES[path, epoch].split()
    for (n, s), percent in zip(SETTINGS, percents, strict=True):
        table = parsed(upstream / path.format(s=s, n=n)).epochs
        if epoch == "BEST_ACC":
            accuracy = table["previous_best_test_accuracy"].iloc[-1]
        else:
            networks = table[table.columns.intersection(["test_accuracy", *TEST_ACCURACIES])]
            better = networks.max(axis=1)
            accuracy = better.max() if epoch == "best" else better.iloc[-1]
        assert f"{100 * accuracy:.2f}" == percent


@pytest.mark.parametrize(
    ("method", "last", "best", "best_epoch", "train_size"),
    [
        ("argmax", 0.8802, 0.8805, 288, 42877),
        ("cl_pbc", 0.8886, 0.8915, 321, 45303),
        ("conf_joint_only", 0.8909, 0.8925, 348, 45887),
        ("cl_both", 0.8867, 0.8884, 344, 45896),
        ("cl_pbnr", 0.8833, 0.8835, 285, 45304),
    ],
)
def test_published_resnet50_without_noise(
    upstream: Path, method: str, last: float, best: float, best_epoch: int, train_size: int
) -> None:
    log = parsed(upstream / RESNET50_SETTING.format(s=0, n=0) / f"train_pruned_{method}/out")
    accuracy = log.epochs.set_index("epoch")["test_accuracy"]
    assert (accuracy.iloc[-1], accuracy.max(), accuracy.idxmax()) == (last, best, best_epoch)
    assert log.train_size == train_size


@pytest.mark.parametrize(
    ("path", "best"),
    [
        ("0_2/train_pruned_cl_pbnr/out.log", 0.8389),
        ("0_4/train_pruned_cl_pbnr/out.log", 0.7854),
        ("6_2/train_pruned_cl_pbnr/out.log", 0.7973),
        ("6_4/train_pruned_cl_pbnr/out.log", 0.7688),
        ("0_2/train_pruned_cl_pbnr/out2.log", 0.8364),
        ("6_2/train_pruned_cl_pbnr/out2.log", 0.8434),
        ("6_4/train_pruned_cl_pbnr/out2.log", 0.8041),
    ],
)
def test_stray_resnet50_logs(upstream: Path, path: str, best: float) -> None:
    log = parsed(upstream / RESULTS / path)
    assert log.epochs["test_accuracy"].max() == best
    assert log.epochs["learning_rate"].iloc[[0, -1]].tolist() == [0.001, 5e-07]
    assert log.wall_seconds is not None


def test_train_sizes_are_those_of_the_masks(upstream: Path) -> None:
    paths = logs_of(upstream, f"{RESULTS}/*/train_pruned_*/out_*.log")
    for path in paths:
        assert parsed(path).train_size == np.load(path.with_name("train_mask.npy")).sum()


def test_learning_rate_of_the_resnet50_logs(upstream: Path) -> None:
    for path in logs_of(upstream, "cifar10/cifar10_noisy_labels__*/train_pruned_*/out"):
        rates = parsed(path).epochs["learning_rate"].to_numpy()
        np.testing.assert_allclose(rates, np.repeat([0.1, 0.01, 0.001], [150, 100, 100]))


def test_two_network_accuracies_are_over_9984_images(upstream: Path) -> None:
    for glob, (name, _, _) in PUBLISHED.items():
        for path in logs_of(upstream, glob) if name.startswith("coteaching") else []:
            table = parsed(path).epochs
            counts = table[TEST_ACCURACIES] * 9984
            assert np.allclose(counts, counts.round(), rtol=0, atol=0.006)  # of 4 decimals
            if name == "coteaching":
                ratios = table[["pure_ratio_1", "pure_ratio_2"]].to_numpy()
                assert (ratios[0] == 0).all()
                assert (np.abs(ratios[1:] - 0.1) < 0.02).all()


def test_best_accuracy_of_sceloss_is_that_of_the_epochs_before(upstream: Path) -> None:
    for path in logs_of(upstream, "other_methods/sceloss/sceloss_results/*.log"):
        table = parsed(path).epochs
        for column in ("accuracy", "top5_accuracy"):
            before = table[f"test_{column}"].cummax().shift(fill_value=0)
            assert before.tolist() == table[f"previous_best_test_{column}"].tolist()


# Logs that stop early


def hold_truncated(text: str, end: int, full: TrainingLog) -> None:
    """Hold that `text[:end]` gives the rows that it holds, all right, and a word about the rest."""
    part = text[:end]
    whole_lines = part.split("\n")[:-1]
    rows = [len(rows) for rows in PLAIN[full.format](whole_lines)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            log = parse_training_log(part, name="cut.log")
        except TrainingLogError:
            assert rows == [0, 0]
            return
    for table, whole, enough in zip(
        (log.batches, log.epochs), (full.batches, full.epochs), rows, strict=True
    ):
        assert enough <= len(table) <= enough + 1  # the last line may lack nothing but its newline
        assert_frame_equal(table, whole.iloc[: len(table)], check_exact=True)
    for attribute in ("train_size", "planned_epochs", "wall_seconds", "printed_noise"):
        assert getattr(log, attribute) in (None, getattr(full, attribute))
    assert log.is_complete == (len(log.epochs) == len(full.epochs) and finished(part, full.format))
    assert [warning.category for warning in caught] == [TruncatedLogWarning] * (not log.is_complete)
    for warning in caught:
        assert re.match(
            r"cut\.log stops at line \d+(, inside a row)?: .* epoch \d+", str(warning.message)
        )


def finished(text: str, name: str) -> bool:
    """Whether a log tells that its last epoch was the last one planned."""
    if name != "resnet50":
        return True
    return (
        text.count("epoch: ") == RESNET50_EPOCHS
        or re.search(r"\nreal\t\d+m[\d.]+s", text) is not None
    )


@formats
@settings(deadline=None, max_examples=75)
@given(data=st.data())
def test_truncated_small_logs(name: str, data: st.DataObject) -> None:
    text = SMALL[name]
    hold_truncated(text, data.draw(st.integers(0, len(text))), parse_training_log(text))


@formats
def test_truncated_anywhere_in_the_last_rows(name: str) -> None:
    text, full = SMALL[name], parse_training_log(SMALL[name])
    for end in range(len(text) - 160, len(text) + 1):
        hold_truncated(text, end, full)


@globs
def test_truncated_published_logs(upstream: Path, glob: str) -> None:
    path = logs_of(upstream, glob)[-1]
    text = path.read_text(encoding="ascii")
    offsets = np.random.default_rng(0).integers(0, len(text), 15)
    for end in [*offsets.tolist(), *range(len(text) - 100, len(text), 9)]:
        hold_truncated(text, end, parsed(path))


@pytest.mark.parametrize(
    ("text", "stop", "message"),
    [
        (
            RESNET50,
            "\tData 0.000",
            "cut.log stops at line 8, inside a row: the last row read is of epoch 1, train batch "
            "1, and 0 epochs are evaluated; for the rest get the whole log",
        ),
        (
            RESNET50,
            "000000000000002",
            "cut.log stops at line 12, inside a row: the last row read is of epoch 1, and 1 epochs "
            "are evaluated; for the rest get the whole log",
        ),
        (
            RESNET50,
            "Epoch: [1]",
            "cut.log stops at line 12: the last row read is of epoch 2, and 1 epochs are "
            "evaluated; for the rest get the whole log",
        ),
        (
            COTEACHING,
            "Epoch [3/3] Test",
            "cut.log stops at line 12: the last row read is of epoch 3, train batch 50, and 2 of 3 "
            "epochs are evaluated; for the rest get the whole log",
        ),
        (
            COTEACHING_PLUS,
            "Epoch [2/2], Iter [50",
            "cut.log stops at line 3: the last row read is of epoch 1, and 1 of 2 epochs are "
            "evaluated; for the rest get the whole log",
        ),
        (
            SCELOSS,
            "BEST_ACC\t0.4220",
            "cut.log stops at line 24, inside a row: the last row read is of epoch 2, test "
            "global_step 200, and 1 of 2 epochs are evaluated; for the rest get the whole log",
        ),
    ],
)
def test_the_warning_says_where_the_log_stops(text: str, stop: str, message: str) -> None:
    with pytest.warns(TruncatedLogWarning) as caught:
        parse_training_log(text[: text.index(stop)], name="cut.log")
    assert [str(warning.message) for warning in caught] == [message]
    assert caught[0].filename == __file__


def test_what_a_killed_job_leaves_behind_the_cut_is_passed_over() -> None:
    cut = RESNET50[: RESNET50.index("\tData 0.216")]
    with pytest.warns(TruncatedLogWarning, match="line 13, inside a row"):
        log = parse_training_log(f"{cut}slurmstepd: error: *** JOB 1 CANCELLED ***\nreal\t1m0.0s\n")
    assert (len(log.epochs), len(log.batches), log.is_complete) == (1, 4, False)


def resnet50_text(epochs: int) -> str:
    """A ResNet-50 log of so many epochs, without the trailer of ``time``."""
    start, end = RESNET50.index("epoch: 1"), RESNET50.index("epoch: 2")
    first = RESNET50[start:end]
    return RESNET50[:start] + "".join(
        first.replace("epoch: 1", f"epoch: {i + 1}").replace("Epoch: [0]", f"Epoch: [{i}]")
        for i in range(epochs)
    )


def test_a_resnet50_log_without_trailer_is_complete_at_350_epochs() -> None:
    assert parse_training_log(resnet50_text(350)).is_complete
    with pytest.warns(TruncatedLogWarning, match="349 epochs are evaluated"):
        assert not parse_training_log(resnet50_text(349)).is_complete
    with pytest.warns(TruncatedLogWarning, match="350 epochs are evaluated"):
        assert not parse_training_log(resnet50_text(350) + "epoch: 351 | lr: 0.0").is_complete


def test_a_trailer_after_an_epoch_without_evaluation_completes_nothing() -> None:
    crashed = resnet50_text(2).rpartition(" * Acc@1")[0]
    with pytest.warns(TruncatedLogWarning, match=r"epoch 2, test batch 51, and 1 epochs"):
        log = parse_training_log(crashed + "RuntimeError\n\nreal\t2m3.5s\nuser\t1m0.0s\n")
    assert (log.is_complete, log.wall_seconds) == (False, 123.5)


# Logs that no table can be made of


@pytest.mark.parametrize(
    "text",
    [
        "<!DOCTYPE html>\n<html><body>\nEpoch [1/2] Test Accuracy epoch=0</body></html>\n",
        "<p>Epoch: [0][0/102]</p>\n<p> test images: Model1 </p>",
        "\nEpoch: [0][0/102] and no numbers\n",
        bytes(range(256)).decode("latin-1") * 8,
        "\x93NUMPY\x01\x00v\x00{'descr': '<f2', 'fortran_order': False, 'shape': (50000, 10)}\n",
        RESNET50[: RESNET50.index("Epoch: [0]")],
    ],
)
def test_what_is_no_training_log(text: str) -> None:
    with pytest.raises(TrainingLogError, match=r"^dir/x\.log holds "):
        parse_training_log(text, name="dir/x.log")


@pytest.mark.parametrize("text", ["", "\n", " \r\n\t"])
def test_an_empty_log(text: str) -> None:
    with pytest.raises(TrainingLogError, match=r"^dir/x\.log is empty"):
        parse_training_log(text, name="dir/x.log")


@formats
def test_a_damaged_row_inside_a_log(name: str) -> None:
    text = SMALL[name]
    row = re.search(r"^(Epoch.*Acc.*|epoch=.*)\n", text, re.MULTILINE)
    assert row is not None
    line = text.count("\n", 0, row.start()) + 1
    half, whole = row[0][:30], row[0].removesuffix("\n")
    for damaged in (f"{half}\n", half + row[0], f"{whole}0 Warning\n", f"Warning: {row[0]}"):
        broken = text.replace(row[0], damaged, 1)
        with pytest.raises(
            TrainingLogError, match=rf"x\.log, line {line}: a row that cannot be read"
        ):
            parse_training_log(broken, name="x.log")


@formats
def test_what_another_program_prints_between_the_rows_is_no_damage(name: str) -> None:
    text = SMALL[name].replace("\nepoch", "\nUserWarning: *** 1 %\nepoch")
    text = text.replace("\nEpoch", "\nUserWarning: *** 1 %\nEpoch")
    hold_to_plain_loop(parse_training_log(text), SMALL[name])


@formats
def test_several_trainings_in_one_text(name: str) -> None:
    text = SMALL[name]
    with pytest.raises(TrainingLogError, match="epoch 1 begins again"):
        parse_training_log(text + text)
    other = next(SMALL[other] for other in SMALL if other != name)
    with pytest.raises(TrainingLogError, match="holds logs of"):
        parse_training_log(text + other)


@formats
def test_a_row_that_comes_twice(name: str) -> None:
    rows = re.findall(
        r"^(?:(?:Epoch|epoch[:=]| \* ).*\n|curr_acc\t.*\nBEST.*\n.*\n.*\n)",
        SMALL[name],
        re.MULTILINE,
    )
    for row in rows:
        if "test_loss" not in row:  # several of an epoch bear the same step
            with pytest.raises(TrainingLogError, match=r"line \d+: epoch \d begins again"):
                parse_training_log(SMALL[name].replace(row, row + row, 1))


def test_a_restart_inside_an_epoch() -> None:
    again = RESNET50.index("Epoch: [0][50")
    text = RESNET50[:again] + RESNET50[RESNET50.index("Epoch: [0][0/") :]
    with pytest.raises(TrainingLogError, match="x, line 8: epoch 1 begins again"):
        parse_training_log(text, name="x")


@formats
def test_a_missing_beginning_or_evaluation(name: str) -> None:
    text = SMALL[name]
    second = {"resnet50": "epoch: 2", "sceloss": "epoch=1"}.get(name, "Epoch [2")
    with pytest.raises(TrainingLogError, match=r"x: epoch 1 has no test evaluation"):
        parse_training_log(text[text.index(second) :], name="x")
    evaluation = re.search(
        r"^( \* |Epoch.*Test |curr_acc\t).*\n(BEST.*\n.*\n.*\n)?", text, re.MULTILINE
    )
    assert evaluation is not None
    with pytest.raises(TrainingLogError, match=r"x: epoch 1 has no test evaluation"):
        parse_training_log(text.replace(evaluation[0], "", 1), name="x")


def test_a_log_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        parse_training_log(SCELOSS).is_complete = False  # type: ignore[misc]


@formats
def test_facts_of_5000_digits_are_none(name: str) -> None:
    digits = "9" * 5000
    facts = r"(Train size:',? |Num of train |\nepoch (?=\d+\n)|Train size: |real\t)\d+"
    text, n_facts = re.subn(facts, rf"\g<1>{digits}", SMALL[name])
    assert n_facts == {"resnet50": 2, "coteaching": 2, "coteaching_plus": 0, "sceloss": 2}[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncatedLogWarning)
        log = parse_training_log(text)
    assert (log.train_size, log.wall_seconds) == (None, None)
