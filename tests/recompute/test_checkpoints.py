"""What a caller set in torch and numpy: trainings do not see it, and it is put back."""

import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cifar_noisy import InterruptedRunError, RecomputeError, Setting
from cifar_noisy.recompute.datasets import Dataset, open_dataset
from cifar_noisy.recompute.run_config import RunConfig, Task, make_run_config, tasks_of
from cifar_noisy.recompute.task_files import file_paths, record_of
from cifar_noisy.recompute.task_runner import run_tasks
from cifar_noisy.recompute.training import Trainer


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return open_dataset("digits", load_test_set=True)


def config_of(digits: Dataset, **more: Any) -> RunConfig:
    overrides = {"epochs": 6, "width": 8, "coteaching.epochs": 3, "coteaching.width": 2}
    return make_run_config(
        [Setting(0.4, 0.2)], digits.digest(), dataset="digits", n_folds=2,
        overrides=overrides | more, coteaching_methods=["cl_both"],
    )  # fmt: skip


def trained(digits: Dataset, folder: Path) -> dict[str, bytes]:
    config = config_of(digits)
    assert len(list(run_tasks(config, digits, folder, threads=1))) == 4
    record = record_of(tasks_of(config)[-1], config, folder)
    assert record is not None
    arrays = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.npy")}
    return arrays | {"accuracy": repr(record["test_accuracy"]).encode()}


@pytest.fixture(scope="module")
def expected(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return trained(digits, tmp_path_factory.mktemp("undisturbed"))


def state() -> dict[str, Any]:
    """Return what a caller may have set, but for grad mode."""
    return {
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.get_deterministic_debug_mode(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "mkldnn": torch.backends.mkldnn.enabled,
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "torch": torch.get_rng_state().tolist(),
        "numpy": [np.asarray(part).tolist() for part in np.random.get_state()],
        "python": random.getstate(),
        "errors": np.geterr(),
        "handlers": [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)],
    }


@pytest.fixture
def odd_state() -> Iterator[dict[str, Any]]:
    before, threads = np.geterr(), torch.get_num_threads()
    torch.set_num_threads(3)
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.set_float32_matmul_precision("medium")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = True
    setattr(torch.backends.mkldnn, "enabled", False)  # noqa: B010 - torch types it as read-only
    np.seterr(all="raise")
    handler = signal.signal(signal.SIGTERM, lambda *_: None)
    yield state()
    signal.signal(signal.SIGTERM, handler)
    np.seterr(**before)
    setattr(torch.backends.mkldnn, "enabled", True)  # noqa: B010
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(False)
    torch.set_float32_matmul_precision("highest")
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(threads)


def test_a_training_does_not_see_what_the_caller_set(
    odd_state: dict[str, Any], expected: dict[str, bytes], digits: Dataset, tmp_path: Path
) -> None:
    with torch.inference_mode(), torch.device("meta"), torch.autocast("cpu", torch.bfloat16):
        found = trained(digits, tmp_path)
    assert found == expected
    assert state() == odd_state


@pytest.mark.skipif(
    not hasattr(torch.backends.mkldnn, "matmul"), reason="this torch has no precisions by backend"
)
def test_a_training_does_not_see_a_precision_set_by_backend(
    expected: dict[str, bytes], digits: Dataset, tmp_path: Path
) -> None:
    products = getattr(torch.backends.mkldnn, "matmul")  # noqa: B009 - torch gives it no type
    before, products.fp32_precision = products.fp32_precision, "bf16"
    try:
        assert trained(digits, tmp_path) == expected
        assert products.fp32_precision == "bf16"
    finally:
        products.fp32_precision = before


def test_between_tasks_all_is_as_the_caller_had_it(
    odd_state: dict[str, Any], digits: Dataset, tmp_path: Path
) -> None:
    for _ in run_tasks(config_of(digits), digits, tmp_path, threads=1):
        assert state() == odd_state
        break
    assert state() == odd_state


def interrupt(task: Task, trainer: Trainer) -> None:
    signal.raise_signal(signal.SIGINT)


def fail(task: Task, trainer: Trainer) -> None:
    raise RecomputeError("on purpose")


@pytest.mark.parametrize(
    ("on_step", "error"), [(interrupt, InterruptedRunError), (fail, RecomputeError)]
)
def test_errors_and_ctrl_c_put_it_back_too(
    on_step: Callable[[Task, Trainer], None],
    error: type[Exception],
    odd_state: dict[str, Any],
    digits: Dataset,
    tmp_path: Path,
) -> None:
    with pytest.raises(error):
        list(run_tasks(config_of(digits), digits, tmp_path, threads=1, on_step=on_step))
    assert state() == odd_state


def test_a_handler_that_is_not_pythons_is_no_error(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a signal that a C library handles, which Python calls None."""
    real = signal.signal
    monkeypatch.setattr(signal, "signal", lambda number, handler: real(number, handler) and None)
    config = config_of(digits)
    list(run_tasks(config, digits, tmp_path, task_ids=(tasks_of(config)[0].id,), threads=1))
    assert (tmp_path / file_paths(tasks_of(config)[0])[0]).is_file()
    signal.signal(signal.SIGINT, signal.default_int_handler)
