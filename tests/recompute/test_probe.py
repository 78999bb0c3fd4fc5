"""The choice of width and precision: by made-up measurements, by a real one, and its record."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cifar_noisy import InvalidInputError, MissingInputError, Setting
from cifar_noisy.cli.recompute_commands import (
    PlanOptions,
    expected_times,
    recompute_plan,
    takes_plan_options,
)
from cifar_noisy.recompute import fast, hardware, plan_file, probe as probe_module
from cifar_noisy.recompute.fast import FastTrainer
from cifar_noisy.recompute.plan_file import load_plan, probe_for, save_plan
from cifar_noisy.recompute.probe import (
    Probe,
    available_cores,
    choose,
    expected_fold_seconds,
    expected_seconds,
    measure,
    read_probe,
    write_probe,
)
from cifar_noisy.recompute.recipes import FastRecipe
from cifar_noisy.recompute.run_config import GivenMask, make_run_config
from cifar_noisy.recompute.training import TrainingData
from cifar_noisy.store.sealed import write_sealed_json

# Images/s of one thread, as measured: an EPYC with AVX-512 bfloat16, and without it.
EPYC = {
    ("float32", 16): (2635, 1104),
    ("float32", 24): (1308, 515),
    ("float32", 32): (841, 310),
    ("bfloat16", 16): (3605, 1797),
    ("bfloat16", 24): (1970, 898),
    ("bfloat16", 32): (1313, 592),
}


def made_up(rates: dict[tuple[str, int], tuple[int, int]], n_cores: int = 2) -> Probe:
    seconds = {key: (1 / small, 1 / full) for key, (small, full) in rates.items()}
    return Probe("cpu", "made up", n_cores, seconds)


WITH_BFLOAT16 = made_up(EPYC)
WITHOUT = made_up({key: rates for key, rates in EPYC.items() if key[0] == "float32"})


def chosen(probe: Probe, fixed: tuple[str, ...] = (), minutes: float = 30, **more: Any) -> Any:
    recipe = choose(probe, FastRecipe(**more), fixed, minutes, 4)
    return recipe.width, recipe.precision


def test_two_kinds_of_cpu_get_different_widths() -> None:
    assert chosen(WITH_BFLOAT16) == (32, "bfloat16")
    assert chosen(WITHOUT) == (24, "float32")
    assert chosen(WITHOUT, minutes=15) == (16, "float32")
    assert chosen(WITHOUT, minutes=0) == (16, "float32")  # the narrowest, whatever it takes
    slow = {k: (s // 3, f // 3) if k[0] == "bfloat16" else (s, f) for k, (s, f) in EPYC.items()}
    assert chosen(made_up(slow)) == (24, "float32")  # emulated
    assert chosen(made_up(EPYC, n_cores=1)) == (16, "bfloat16")


def test_what_is_fixed_stays() -> None:
    assert chosen(WITH_BFLOAT16, ("width",), width=24) == (24, "bfloat16")
    assert chosen(WITH_BFLOAT16, ("precision",)) == (24, "float32")
    assert chosen(WITHOUT, ("width", "precision"), width=48, precision="bfloat16") == (
        48,
        "bfloat16",
    )
    assert chosen(WITHOUT, epochs=6, small_epochs=6) == (32, "float32")  # shorter, so wider


def test_the_expected_time_is_that_of_a_plain_sum() -> None:
    recipe = FastRecipe(width=32, precision="bfloat16")
    small, full = 1 / 1313, 1 / 592
    images = 12 * 37_500 * small + 6 * 37_500 * full
    predicted = (8 * 12_500 + 18 * 2_000) * full / 3
    assert expected_fold_seconds(WITH_BFLOAT16, recipe, 4) == pytest.approx(images + predicted)
    assert expected_seconds(WITH_BFLOAT16, recipe, 4) == pytest.approx(2 * (images + predicted))
    assert expected_seconds(made_up(EPYC, 64), recipe, 4) == pytest.approx(images + predicted)
    assert expected_seconds(made_up(EPYC, 3), recipe, 4) == pytest.approx(2 * (images + predicted))


def test_between_and_beyond_what_was_measured() -> None:
    step = WITH_BFLOAT16.step_seconds
    assert step("bfloat16", 24, 32) == pytest.approx(1 / 898)
    assert step("bfloat16", 24, 20) == pytest.approx(1 / 1970)
    assert step("bfloat16", 24, 20) < step("bfloat16", 24, 28) < step("bfloat16", 24, 32)
    times = [step("float32", width, 32) for width in (8, 16, 20, 24, 28, 32, 64)]
    assert times == sorted(times)
    assert WITHOUT.step_seconds("bfloat16", 24, 32) == pytest.approx(1 / 515)  # the next best guess


def test_a_real_probe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Real steps at small widths; the numbers are this machine's, so only their order is known."""
    monkeypatch.setattr(probe_module, "WIDTHS", {"cpu": (2, 16)})
    n_threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    found = measure("cpu")
    assert torch.get_num_threads() == n_threads
    assert torch.equal(torch.random.get_rng_state(), state)
    assert set(found.seconds) == {(p, w) for p in ("float32", "bfloat16") for w in (2, 16)}
    for precision in ("float32", "bfloat16"):
        assert found.step_seconds(precision, 2, 32) < found.step_seconds(precision, 16, 32)
        assert found.step_seconds(precision, 16, 20) < found.step_seconds(precision, 16, 32)
    assert found.n_cores == available_cores() >= 1
    write_probe(found, tmp_path / "probe.json")
    assert read_probe(tmp_path / "probe.json") == found
    # Where bfloat16 is not to be had, it is not tried.
    monkeypatch.setattr(hardware, "has_bfloat16", lambda place: False)
    assert {precision for precision, _ in measure("cpu").seconds} == {"float32"}


def test_a_folder_is_planned_by_what_was_measured_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measured = []

    def measure_once(device: str) -> Probe:
        measured.append(device)
        return WITH_BFLOAT16 if len(measured) == 1 else WITHOUT

    monkeypatch.setattr(plan_file, "measure", measure_once)
    for _ in range(2):
        config = make_run_config([Setting(0.4, 0.2)], "-", probe=probe_for(tmp_path, "cpu"))
        assert getattr(config.recipe, "width", None) == 32
        save_plan(config, tmp_path)
    assert measured == ["cpu"]
    assert load_plan(tmp_path).probe == WITH_BFLOAT16
    save_plan(
        make_run_config([Setting(0.4, 0.2)], "-", overrides={"width": 32, "precision": "bfloat16"}),
        tmp_path,
    )
    assert load_plan(tmp_path).probe == WITH_BFLOAT16
    assert probe_for(tmp_path, "cuda") == WITHOUT  # of another device
    write_probe(WITHOUT, tmp_path / "file.json")
    assert probe_for(tmp_path, "cpu", file=tmp_path / "file.json") == WITHOUT
    for more in ({"dataset": "digits"}, {"recipe": "paper"},
                 {"overrides": {"width": 8, "precision": "float32"}}):  # fmt: skip
        assert probe_for(tmp_path / "new", "cpu", **more) is None
        with pytest.raises(InvalidInputError, match="leave the probe"):
            probe_for(tmp_path / "new", "cpu", **more, file=tmp_path / "file.json")


RIGHT = WITHOUT.to_dict()
ROW = {"precision": "float32", "width": 16, "small": 1, "full": 1}
RUBBISH: list[dict[str, Any]] = [
    {},
    {"seconds": []},
    {"seconds": 3},
    RIGHT | {"seconds": []},
    RIGHT | {"n_cores": 0},
    *(
        RIGHT | {"seconds": [ROW | wrong]}
        for wrong in ({"precision": "int8"}, {"small": -1}, {"small": float("nan")}, {"width": 0})
    ),
]


@pytest.mark.parametrize("content", RUBBISH, ids=range(len(RUBBISH)))
def test_rubbish_in_a_file_is_one_line(content: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "probe.json"
    write_sealed_json(path, content)
    with pytest.raises(InvalidInputError, match=re.escape(str(path))):
        read_probe(path)


def test_absent_and_damaged_files_are_said(tmp_path: Path) -> None:
    path = tmp_path / "probe.json"
    with pytest.raises(MissingInputError, match=r"there is no file .*: make it with"):
        read_probe(path)
    path.write_bytes(b"{}")
    with pytest.raises(InvalidInputError, match="is damaged: make it with"):
        read_probe(path)


def test_bfloat16_where_it_would_be_emulated_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda place: (7, 5))  # of a T4
    assert not hardware.has_bfloat16(torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda place: (8, 0))
    assert hardware.has_bfloat16(torch.device("cuda"))
    monkeypatch.setattr(fast, "has_bfloat16", lambda place: False)
    n = 64
    data = TrainingData(
        np.zeros((n, 32, 32, 3), np.uint8), np.zeros(n, np.int64), np.arange(n), np.arange(n), 10,
        True, "x",
    )  # fmt: skip
    recipe = FastRecipe(epochs=1, small_epochs=0, batch_size=32, width=2, precision="bfloat16")
    with pytest.raises(InvalidInputError, match="set precision=float32"):
        FastTrainer(recipe, data)
    FastTrainer(dataclasses.replace(recipe, precision="float32"), data)


@pytest.mark.parametrize(("quota", "expected"), [("max 100000", 4), ("150000 100000", 1), ("?", 4)])
def test_cores_are_those_of_the_quota(
    quota: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(Path, "read_text", lambda self: quota)
    assert available_cores() == expected


@pytest.mark.parametrize("minutes", [30.0, 5.0])
def test_a_plan_says_what_it_chose_and_expects(
    minutes: float,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    config = make_run_config([Setting(0.4, 0.2)], "-", probe=WITHOUT, minutes=minutes)
    monkeypatch.setattr(PlanOptions, "make_plan", lambda _: config)
    takes_plan_options(recompute_plan.__wrapped__)(  # type: ignore[attr-defined]
        **dict.fromkeys(PlanOptions.__dataclass_fields__)
        | {"folder": tmp_path, "minutes": minutes, "as_json": False}
    )
    said, notices = capsys.readouterr()
    width, fold = (24, "14.5") if minutes == 30 else (16, "6.9")
    assert f"width {width}, float32; expected by what was measured: {fold} min a fold, " in said
    assert ("longer than --minutes 5: no width" in notices) == (minutes == 5)
    # Given masks have no folds, and a recipe of fixed width was not measured.
    for other in (
        make_run_config([], masks=[GivenMask(Setting(0.4, 0.2), "0" * 16)], probe=WITHOUT),
        make_run_config([Setting(0.4, 0.2)]),
    ):
        assert expected_times(other, 4) is None
    assert (expected_times(config, 3) or {})["left_seconds"] == pytest.approx(
        2 * float(fold) * 60, rel=0.01
    )
