"""The plan file, which ties a folder to one configuration."""

import contextlib
import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.errors import (
    CifarNoisyError,
    InvalidInputError,
    MissingInputError,
    RecomputeError,
    printable,
)
from cifar_noisy.loading.given_labels import (
    LabelSource,
    OwnLabels,
    identity,
    label_source,
    labels_of,
)
from cifar_noisy.loading.npy_files import open_npy
from cifar_noisy.recompute.datasets import open_dataset
from cifar_noisy.recompute.probe import Probe, measure, read_probe
from cifar_noisy.recompute.recipes import COTEACHING_PREFIX, check_device_name
from cifar_noisy.recompute.run_config import (
    GivenMask,
    RunConfig,
    check_folds_and_batch_size,
    make_run_config,
    tasks_of,
)
from cifar_noisy.recompute.task_files import LABELS_FILE, labels_path, mask_path, state_of
from cifar_noisy.store.files import open_regular, reason
from cifar_noisy.store.registry import npy_bytes
from cifar_noisy.store.sealed import read_sealed_json, write_durably, write_sealed_json

PLAN_FILE = "plan.json"

_EARLIER_PLAN = b'{\n  "hash"'


def make_plan(
    config: RunConfig, folder: Path, arrays: Mapping[GivenMask, NDArray[np.bool_]] | None = None
) -> RunConfig:
    """Check a configuration against its images, and write it into a folder as the plan.

    `arrays` are those (N,) of its given masks, True = keep. Returns the configuration with the
    digest of the images. Raises what `open_dataset` and `save_plan` raise.
    """
    if config.dataset == "cifar10":
        for source in config.labels:
            labels_of(source)  # fetched now: machines that train may have no network
    config = prepare_folder(config, folder, arrays)
    save_plan(config, folder)
    return config


def prepare_folder(
    config: RunConfig, folder: Path, arrays: Mapping[GivenMask, NDArray[np.bool_]] | None = None
) -> RunConfig:
    """Do what `make_plan` does, but for the plan itself: a folder's earlier one stays as it is."""
    dataset = open_dataset(
        config.dataset, config.root, trust=config.trust, load_test_set=config.needs_test
    )
    dataset.check_row_order()
    check_folds_and_batch_size(config, dataset.labels)
    config = dataclasses.replace(config, data_digest=dataset.digest())
    _earlier_plan_of(config, folder)
    for mask, keep in (arrays or {}).items():
        write_durably(folder / mask_path(mask), (npy_bytes(keep),))
    return config


def probe_for(
    folder: Path,
    device: str,
    *,
    dataset: str = "cifar10",
    recipe: str = "fast",
    overrides: Mapping[str, Any] | None = None,
    file: Path | None = None,
) -> Probe | None:
    """Return what a plan chooses the width and precision of `fast` by; None where it does not.

    It is read from the file, or from the plan that is in the folder, or measured now.
    """
    check_device_name(device)
    is_chosen = dataset == "cifar10" and recipe == "fast"
    if not is_chosen or {"width", "precision"} <= (overrides or {}).keys():
        if file is not None:
            raise InvalidInputError(
                f"leave the probe {file} out: it chooses the width and precision of fast for "
                "cifar10, where these are not given"
            )
        return None
    if file is not None:
        return read_probe(file)
    with contextlib.suppress(MissingInputError, RecomputeError):
        planned = load_plan(folder).probe
        if planned is not None and planned.device == device.partition(":")[0]:
            return planned
    try:
        return measure(device)
    except RecomputeError as error:  # such as the first node of a cluster, which has no GPU
        raise RecomputeError(
            f"{error}, or choose width and precision, which are measured otherwise, such "
            "as by --set width=32 --set precision=bfloat16; or measure there by cifar-noisy "
            "recompute probe, and plan with --probe"
        ) from error


def save_plan(config: RunConfig, folder: Path) -> None:
    """Write the plan; raise if the folder has another plan, or results of another one.

    A damaged plan is replaced. A plan of the same configuration gets the masks of `config` instead
    of its own, and root and trust of `config` if that has them.
    """
    planned = _earlier_plan_of(config, folder)
    for source in config.labels:
        if isinstance(source, OwnLabels):
            write_durably(folder / labels_path(source), (npy_bytes(source.labels),))
    has_place = config.root is not None or config.trust is not None
    if planned is not None and not has_place:
        config = dataclasses.replace(config, root=planned.root, trust=planned.trust)
    if planned is not None and config.probe is None:
        config = dataclasses.replace(config, probe=planned.probe)
    if planned is None or has_place or planned.masks != config.masks:
        write_sealed_json(folder / PLAN_FILE, _to_plan_json(config))


def _earlier_plan_of(config: RunConfig, folder: Path) -> RunConfig | None:
    """Return the plan that a folder has, if any; raise if it, or a result, is of another one."""
    try:
        planned = load_plan(folder) if (folder / PLAN_FILE).exists() else None
    except _DamagedPlanError:
        planned = None
    if planned is None:
        for task in tasks_of(config):
            state_of(task, config, folder)
    elif planned != config:
        raise RecomputeError(
            f"{folder} belongs to another configuration ({_differences(planned, config)}; hash "
            f"{planned.config_sha256()[:12]}, not {config.config_sha256()[:12]}): name another "
            "folder"
        )
    return planned


def load_plan(folder: Path) -> RunConfig:
    """Read the plan of a folder; raise if there is none, or a damaged or an earlier version's."""
    path = folder / PLAN_FILE
    content = read_sealed_json(path)
    if content is None:
        raise _unreadable(path)
    if "probe" not in content and "recipe_name" in content:
        raise _earlier_plan(path)
    try:
        return _from_plan_json(content, folder)
    except _DamagedPlanError:
        raise
    except Exception as error:  # whatever a plan that was sealed by hand leads to
        raise _DamagedPlanError(path) from error


class _DamagedPlanError(RecomputeError):
    def __init__(self, path: Path, folder: Path | None = None, what: str = "damaged") -> None:
        super().__init__(
            f"{path} is {what}: plan again in {folder or path.parent}, by cifar-noisy recompute "
            "plan with the options of before; what was trained is kept"
        )


def _unreadable(path: Path) -> CifarNoisyError:
    try:
        with open_regular(path) as file:
            start = file.read(len(_EARLIER_PLAN))
    except (FileNotFoundError, NotADirectoryError):
        return MissingInputError(
            f"{path.parent} has no {PLAN_FILE}: make one with cifar-noisy recompute plan"
        )
    except OSError as error:
        return RecomputeError(f"{path} cannot be read ({reason(error)}): name another folder")
    return _earlier_plan(path) if start == _EARLIER_PLAN else _DamagedPlanError(path)


def _earlier_plan(path: Path) -> RecomputeError:
    return RecomputeError(
        f"{path} was written by an earlier version, whose trainings cannot be continued: plan in a "
        "new folder"
    )


def read_given_mask(mask: GivenMask, folder: Path, n_examples: int) -> NDArray[np.bool_]:
    """Return the (N,) bool array of a plan's given mask, True = keep."""
    path = folder / mask_path(mask)
    try:
        keep = open_npy(path)
        if GivenMask.of(mask.labels, keep) != mask or keep.shape != (n_examples,):
            raise InvalidInputError(f"{path} has another mask than was planned")
    except (CifarNoisyError, OSError) as error:
        raise RecomputeError(
            f"{path} is missing or damaged: make the plan again, as before; what was trained is "
            "kept"
        ) from error
    return keep


def _to_plan_json(config: RunConfig) -> dict[str, Any]:
    masks = [{**identity(mask.labels), "digest": mask.digest} for mask in config.masks]
    plan = {**config.to_dict(), "root": config.root, "trust": config.trust}
    plan["probe"] = config.probe and config.probe.to_dict()
    return plan | ({"masks": masks} if masks else {})


def _planned_labels(folder: Path, noise: float | str, sparsity: float | None) -> LabelSource:
    """Return the labels that a plan names; the user's own lie beside it."""
    if not re.fullmatch(r"labels-[0-9a-f]{16}", str(noise)):
        return label_source(noise, sparsity)
    path = folder / LABELS_FILE.format(noise)
    try:
        found = OwnLabels.of(open_npy(path), "imagefolder")
        if found.name != noise:
            raise InvalidInputError(f"{path} has other labels than were planned")
    except (CifarNoisyError, OSError) as error:
        raise _DamagedPlanError(path, folder, "missing or damaged") from error
    return found


def _planned_mask(
    folder: Path, noise: float | str, sparsity: float | None, digest: str
) -> GivenMask:
    if not re.fullmatch(r"[0-9a-f]{16}", digest):
        raise ValueError("no digest")
    return GivenMask(_planned_labels(folder, noise, sparsity), digest)


def _from_plan_json(content: Mapping[str, Any], folder: Path) -> RunConfig:
    """Invert `_to_plan_json`, with the checks of `make_run_config`."""
    coteaching = content["coteaching"] or {}
    config = make_run_config(
        [_planned_labels(folder, **setting) for setting in content["settings"]],
        content["data_digest"],
        recipe=content["recipe_name"],
        overrides=content["recipe"]
        | {COTEACHING_PREFIX + name: value for name, value in coteaching.items()},
        probe=None if content["probe"] is None else Probe.from_dict(content["probe"]),
        masks=[
            _planned_mask(folder, **mask) for mask in content.get("masks", ())
        ],
        **{
            name: content[name]
            for name in ("dataset", "seed", "n_folds", "dtype", "kept_methods",
                         "coteaching_methods", "root", "trust")
        },
    )  # fmt: skip
    if json.dumps(_to_plan_json(config), sort_keys=True) != json.dumps(content, sort_keys=True):
        raise ValueError("it has values that no plan has")
    return config


def _differences(planned: RunConfig, wanted: RunConfig) -> str:
    theirs, ours = _flattened(planned.to_dict()), _flattened(wanted.to_dict())
    return "; ".join(
        f"{name} {printable(theirs.get(name))} there, {printable(ours.get(name))} here"
        for name in theirs | ours
        if theirs.get(name) != ours.get(name)
    )


def _flattened(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values, those of an inner mapping as "outer.inner"."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": value[inner] for inner in value}
        else:
            flat[name] = value
    return flat
