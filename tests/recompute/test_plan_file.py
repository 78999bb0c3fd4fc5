"""Plans as files: damaged, changed by hand, of an earlier version, and where their images are."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifar_noisy import InvalidInputError, RecomputeError, Setting
from cifar_noisy.cli.recompute_commands import dispatch_tasks, expected_times
from cifar_noisy.errors import ExitCode
from cifar_noisy.loading.given_labels import label_source
from cifar_noisy.loading.recomputed import write_record
from cifar_noisy.recompute.datasets import Dataset, open_dataset
from cifar_noisy.recompute.plan_file import load_plan, make_plan, read_given_mask, save_plan
from cifar_noisy.recompute.probe import Probe
from cifar_noisy.recompute.run_command import RunCommand
from cifar_noisy.recompute.run_config import GivenMask, RunConfig, make_run_config, tasks_of
from cifar_noisy.recompute.task_files import (
    check_configuration,
    file_paths,
    mask_path,
    probabilities_path,
    record_of,
    record_path,
    remove_leftovers,
    state_of,
)
from cifar_noisy.recompute.task_runner import run_tasks
from cifar_noisy.store.files import SECONDS_UNTIL_ABANDONED
from cifar_noisy.store.sealed import read_sealed_json, write_sealed_json
from tests.conftest import JpegCopy

SETTING = Setting(0.4, 0.2)
SHORT = {"epochs": 1, "width": 4}
PROGRAM = Path(sys.executable).with_name("cifar-noisy")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return open_dataset("digits")


@pytest.fixture
def config(digits: Dataset) -> RunConfig:
    return make_run_config(
        [SETTING], digits.digest(), dataset="digits", n_folds=2, overrides=SHORT,
        coteaching_methods=["argmax"],
    )  # fmt: skip


DAMAGE = [b"", b"{", b"\xff\xfe", b'{"seed": 0}', b"[" * 100_000]


@pytest.mark.parametrize("content", DAMAGE, ids=range(len(DAMAGE)))
def test_a_damaged_plan_is_planned_again_in_place(
    content: bytes, config: RunConfig, tmp_path: Path
) -> None:
    save_plan(config, tmp_path)
    path = tmp_path / "plan.json"
    before = path.read_bytes()
    path.write_bytes(content)
    with pytest.raises(RecomputeError, match="is damaged: plan again in") as caught:
        load_plan(tmp_path)
    assert "\n" not in str(caught.value)
    save_plan(config, tmp_path)
    assert path.read_bytes() == before


def test_planning_again_does_not_take_results_of_another_plan(
    config: RunConfig, digits: Dataset, tmp_path: Path
) -> None:
    save_plan(config, tmp_path)
    fold = tasks_of(config)[0]
    files = dict.fromkeys(file_paths(fold), b"")
    write_record(tmp_path, record_path(fold), {"configuration": config.config_sha256()}, files)
    (tmp_path / "plan.json").write_bytes(b"")
    other = make_run_config([SETTING], digits.digest(), dataset="digits", n_folds=2, seed=1)
    with pytest.raises(RecomputeError, match=r"about\.json is of another configuration"):
        save_plan(other, tmp_path)
    assert (tmp_path / "plan.json").read_bytes() == b""
    save_plan(config, tmp_path)
    assert state_of(fold, load_plan(tmp_path), tmp_path) == "done"


def test_a_plan_of_an_earlier_version_is_refused(config: RunConfig, tmp_path: Path) -> None:
    content = {"hash": config.config_sha256(), **config.to_dict()}
    (tmp_path / "plan.json").write_text(json.dumps(content, indent=2) + "\n")
    for read in (load_plan, lambda folder: save_plan(config, folder)):
        with pytest.raises(RecomputeError, match=r"earlier version.*: plan in a new folder$"):
            read(tmp_path)


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_is_one_line(kind: str, config: RunConfig, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    for read in (load_plan, lambda folder: save_plan(config, folder)):
        with pytest.raises(RecomputeError, match=r"cannot be read \(.*\): name another folder"):
            read(tmp_path)


FORGED: list[tuple[str, Any]] = [
    ("kept_methods", ["x/../../victim"]), ("kept_methods", "argmax"), ("kept_methods", None),
    ("kept_methods", ["cl_pbc", "argmax"]), ("coteaching_methods", []), ("coteaching", None),
    ("coteaching_methods", [["argmax"]]), ("dataset", "mnist"), ("dataset", ["digits"]),
    ("n_folds", 0), ("n_folds", "4"), ("n_folds", 10**9), ("n_folds", 2.0), ("n_folds", True),
    ("n_folds", None), ("n_folds", 10**4000),
    ("seed", 0.0), ("seed", "0"), ("seed", float("nan")), ("seed", 10**400), ("seed", [0]),
    ("dtype", "int8"), ("dtype", None), ("data_digest", 5), ("data_digest", {"a": 1}),
    ("recipe_name", "paper"), ("recipe_name", "../fast"), ("recipe", {}), ("recipe", []),
    ("settings", []), ("settings", [{"noise": 0.3, "sparsity": 0}]), ("settings", [[0.4, 0.2]]),
    ("settings", [{"noise": float("nan"), "sparsity": 0.2}]), ("settings", 4),
    ("settings", [{"noise": "0.4", "sparsity": 0.2}]), ("root", 5), ("root", "relative"),
    ("more", 1),
]  # fmt: skip
RUBBISH: tuple[Any, ...] = (
    0, -1, 2.5, 3.0, "3", None, [], {}, float("nan"), float("inf"), 1e300, 10**400,
)  # fmt: skip
FORGED += [
    (f"{part}.{name}", value)
    for part in ("recipe", "coteaching")
    for name in ("epochs", "batch_size", "width")
    for value in RUBBISH
]
FORGED += [("recipe.peak_rate", 10**400), ("recipe.more", 1), ("coteaching.forget_rate", 1.0)]


@pytest.mark.parametrize("number", range(len(FORGED)))
def test_a_plan_sealed_by_hand_passes_the_checks_of_a_request(
    number: int, config: RunConfig, tmp_path: Path
) -> None:
    save_plan(config, tmp_path)
    name, value = FORGED[number]
    content = read_sealed_json(tmp_path / "plan.json")
    assert content is not None
    part, _, inner = name.partition(".")
    if inner:
        content[part][inner] = value
    else:
        content[part] = value
    write_sealed_json(tmp_path / "plan.json", content)
    with pytest.raises(RecomputeError, match="is damaged: plan again in"):
        load_plan(tmp_path)


def test_control_characters_in_a_plan_sealed_by_hand_are_shown_escaped(tmp_path: Path) -> None:
    save_plan(make_run_config([SETTING], "\x1b[31m", root="/a\x1b[31m\nb"), tmp_path)
    planned = load_plan(tmp_path)
    with pytest.raises(
        InvalidInputError, match=r"root '/a\\x1b\[31m\\nb' has control char"
    ) as caught:
        list(dispatch_tasks(planned, RunCommand(tmp_path)))
    assert str(caught.value).isprintable()
    with pytest.raises(RecomputeError, match=r"data_digest \\x1b\[31m there") as differing:
        save_plan(make_run_config([SETTING], "-"), tmp_path)
    assert str(differing.value).isprintable()
    record = {"configuration": "\x1b[31m"}
    with pytest.raises(RecomputeError, match=r"\(\\x1b\[31m, not") as foreign:
        check_configuration(tmp_path, record, planned)
    assert str(foreign.value).isprintable()


def test_what_only_reads_plans_does_not_import_torch() -> None:
    code = """
import sys
from cifar_noisy.cli import recompute_commands
from cifar_noisy.recompute import run_command, plan_file, progress, slurm
sys.exit("torch" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_untouched_plan_sealed_by_hand_is_read(config: RunConfig, tmp_path: Path) -> None:
    save_plan(config, tmp_path)
    write_sealed_json(tmp_path / "plan.json", read_sealed_json(tmp_path / "plan.json") or {})
    assert load_plan(tmp_path) == config


@pytest.mark.parametrize(
    "more",
    [{"n_folds": "4"}, {"n_folds": 4.0}, {"n_folds": 10**5000}, {"n_folds": 5_001}, {"seed": 1.5},
     {"seed": None}, {"seed": 2**63}, {"overrides": {"epochs": 2.5}},
     {"overrides": {"epochs": None}}, {"overrides": {"epochs": [2]}},
     {"overrides": {"epochs": 10**400}}, {"overrides": {"epochs": "9" * 5000}},
     {"overrides": {"peak_rate": 10**400}}],
)  # fmt: skip
def test_numbers_that_make_no_sense_are_one_line(more: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        make_run_config([SETTING], "-", **more)
    assert len(str(caught.value)) < 200


def test_leftovers_of_killed_processes_are_removed(
    config: RunConfig, digits: Dataset, tmp_path: Path
) -> None:
    save_plan(config, tmp_path)
    old = time.time() - SECONDS_UNTIL_ABANDONED - 60
    work = tmp_path / "work" / tasks_of(config)[0].id
    work.mkdir(parents=True)
    names = [tmp_path / ".plan.json.01234567.part", work / ".checkpoint.pt.01234567.part",
             work / ".probabilities.npy.01234567.part"]  # fmt: skip
    others = [tmp_path / ".mine.01234567.part", work / ".checkpoint.pt.89abcdef.part"]
    for path in (*names, *others):
        path.write_bytes(b"x")
        if path != others[1]:  # which a live process may be writing
            os.utime(path, (old, old))
    list(run_tasks(config, digits, tmp_path, task_ids=(tasks_of(config)[0].id,), threads=1))
    assert not any(path.exists() for path in names)
    assert all(path.exists() for path in others)


def test_leftovers_of_own_labels_are_removed(tmp_path: Path) -> None:
    mine = label_source(np.arange(50_000) % 10)
    part = tmp_path / "labels" / f".{mine.name}.npy.01234567.part"
    part.parent.mkdir()
    part.write_bytes(b"x")
    os.utime(part, (0, 0))
    remove_leftovers(tasks_of(make_run_config([mine], "-"))[0], tmp_path)
    assert not part.exists()


@pytest.fixture
def masks(digits: Dataset) -> dict[GivenMask, Any]:
    arrays = [np.arange(len(digits.labels)) % n > 0 for n in (2, 3)]
    return {GivenMask.of(SETTING, array): array for array in arrays}


def test_a_plan_of_given_masks(masks: dict[GivenMask, Any], tmp_path: Path) -> None:
    """Changed masks change no configuration: what was trained on one of them stays done."""
    digits = open_dataset("digits", load_test_set=True)
    arrays = {m: a[: len(digits.labels)] for m, a in masks.items()}
    arrays = {GivenMask.of(m.labels, a): a for m, a in arrays.items()}
    config = make_run_config([], masks=arrays, dataset="digits", overrides=SHORT)
    assert config.needs_test
    config = make_plan(config, tmp_path, arrays)
    assert load_plan(tmp_path) == config
    assert load_plan(tmp_path).masks == config.masks == tuple(sorted(arrays, key=lambda m: m.name))
    said = subprocess.run(
        [PROGRAM, "recompute", "collect", "--folder", tmp_path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.returncode == ExitCode.USAGE
    assert "no folds to collect: train its masks" in said.stderr
    probe = Probe("cpu", "a processor", 2, {("float32", 4): (1.0, 2.0)})
    assert expected_times(dataclasses.replace(config, probe=probe), 0) is None  # it has no folds
    first = tasks_of(config)[0]
    done = [task for task, _ in run_tasks(config, digits, tmp_path, task_ids=[first.id], threads=1)]
    assert done == [first]
    path = probabilities_path(first)
    record = record_of(first, config, tmp_path)
    assert path is not None and record is not None  # noqa: PT018
    predicted = np.load(tmp_path / path).argmax(axis=1)
    assert record["test_accuracy"] == (predicted == digits.test_labels).mean()
    assert first.mask is not None
    assert record["train_size"] == arrays[first.mask].sum()
    other = GivenMask.of(SETTING, np.ones(len(digits.labels), np.bool_))
    wanted = make_run_config([], masks=[first.mask, other], dataset="digits", overrides=SHORT)
    changed = make_plan(wanted, tmp_path, {other: np.ones(len(digits.labels), np.bool_)})
    states = {
        task.mask: state_of(task, changed, tmp_path) for task in tasks_of(load_plan(tmp_path))
    }
    assert states == {first.mask: "done", other: "ready"}


@pytest.mark.parametrize("damage", ["absent", "other mask", "other length", "no array"])
def test_a_given_mask_that_is_damaged_is_named(
    damage: str, masks: dict[GivenMask, Any], tmp_path: Path
) -> None:
    mask, array = next(iter(masks.items()))
    path = tmp_path / mask_path(mask)
    path.parent.mkdir()
    if damage == "no array":
        path.write_bytes(b"rubbish")
    elif damage != "absent":
        np.save(path, ~array if damage == "other mask" else array[:-1])
    with pytest.raises(RecomputeError, match="is missing or damaged: make the plan again"):
        read_given_mask(mask, tmp_path, len(array))
    np.save(path, array)
    assert (read_given_mask(mask, tmp_path, len(array)) == array).all()


def test_a_mask_sealed_by_hand_leads_nowhere_else(
    masks: dict[GivenMask, Any], digits: Dataset, tmp_path: Path
) -> None:
    save_plan(make_run_config([], digits.digest(), masks=masks, dataset="digits"), tmp_path)
    content = read_sealed_json(tmp_path / "plan.json") or {}
    content["masks"][0]["digest"] = "../../etc/passwd"
    write_sealed_json(tmp_path / "plan.json", content)
    with pytest.raises(RecomputeError, match="is damaged: plan again"):
        load_plan(tmp_path)


def test_a_plan_records_where_the_images_are(
    jpeg: JpegCopy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a relative path, and for a run, a job array and a status without it."""
    monkeypatch.chdir(jpeg.batches.parent)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAM, "recompute", *words, "--folder", tmp_path], capture_output=True, text=True,
            check=False, env=os.environ,
        )  # fmt: skip

    root = jpeg.batches.name
    planned = run("plan", "--noise", "0.2", "--sparsity", "0", "--root", root, "--trust", "pixels")
    assert planned.returncode == 0, planned.stderr
    config = load_plan(tmp_path)
    assert (config.root, config.trust) == (str(jpeg.batches), "pixels")
    monkeypatch.chdir("/")
    assert run("slurm").returncode == 0
    assert "--root" not in (tmp_path / "slurm" / "level1-part1.sh").read_text()
    # The images are found, and the next thing that is wrong is told.
    assert re.search(r"needs tasks that are not done", run("collect").stderr)
    save_plan(dataclasses.replace(config, root="/elsewhere", trust=None), tmp_path)
    assert load_plan(tmp_path).root == "/elsewhere"
    save_plan(dataclasses.replace(config, root=None, trust=None), tmp_path)
    assert load_plan(tmp_path).root == "/elsewhere"


@pytest.mark.parametrize("damage", ["absent", "cut", "other", "pipe", "folder"])
def test_own_labels_of_a_plan_that_are_damaged_are_named(damage: str, tmp_path: Path) -> None:
    labels = np.repeat(np.arange(10), 5_000)
    config = make_run_config([label_source(labels)], "-")
    save_plan(config, tmp_path)
    assert load_plan(tmp_path) == config
    (file,) = (tmp_path / "labels").iterdir()
    content = file.read_bytes()
    file.unlink()
    match damage:
        case "cut":
            file.write_bytes(content[:-1])
        case "other":
            labels[0] = 1
            np.save(file, labels)
        case "pipe":
            os.mkfifo(file)
        case "folder":
            file.mkdir()
    with pytest.raises(
        RecomputeError, match=rf"{file} is missing or damaged: plan again in {tmp_path}, "
    ):
        load_plan(tmp_path)
    if damage in ("absent", "cut", "other"):
        save_plan(config, tmp_path)
        assert file.read_bytes() == content
        assert load_plan(tmp_path) == config


@pytest.mark.parametrize("name", ["labels-../../x", "labels-0123456789abcdef/../x", "labels-"])
def test_no_name_in_a_plan_leads_out_of_its_folder(name: str, tmp_path: Path) -> None:
    labels = np.repeat(np.arange(10), 5_000)
    folder = tmp_path / "plan"
    save_plan(make_run_config([label_source(labels)], "-"), folder)
    np.save(tmp_path / "x.npy", labels)
    content = read_sealed_json(folder / "plan.json")
    assert content is not None
    content["settings"] = [{"noise": name, "sparsity": None}]
    write_sealed_json(folder / "plan.json", content)
    with pytest.raises(RecomputeError, match="is damaged: plan again in"):
        load_plan(folder)
