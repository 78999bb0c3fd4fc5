"""The plan of a folder: the request that it belongs to alone."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cifar_noisy.errors import CifarNoisyError, MissingInputError, RecomputeError
from cifar_noisy.recompute.datasets import Dataset, open_dataset
from cifar_noisy.recompute.layout import state_of
from cifar_noisy.recompute.recipes import COTEACHING_PREFIX
from cifar_noisy.recompute.run_config import Request, check_fit, make_request, tasks_of
from cifar_noisy.settings import Setting
from cifar_noisy.store.files import open_regular, reason
from cifar_noisy.store.sealed import read_sealed_json, write_sealed_json

PLAN_FILE = "plan.json"

_EARLIER_PLAN = b'{\n  "hash"'


def make_plan(
    settings: Iterable[Setting],
    folder: Path,
    *,
    dataset: str = "cifar10",
    root: Path | None = None,
    trust: str | None = None,
    **choices: Any,
) -> tuple[Request, Dataset]:
    """Plan settings: open the images, hold the request to them, and make the folder theirs.

    Parameters
    ----------
    settings : iterable of Setting
    folder : Path
    dataset : {"cifar10", "digits"}
    root, trust
        Where CIFAR-10's images are, as for `load_images`; the plan has them too.
    **choices
        The other keywords of `make_request`.

    Returns
    -------
    (Request, Dataset)
        The dataset has its test set only where a task needs it.

    Raises
    ------
    InvalidInputError, UnknownArtifactError
        As `make_request` does, or if folds or batches do not fit the images.
    UnavailableError, ImagesError
        If the images are not there, or are in another order than the published.
    RecomputeError
        If the folder belongs to another request.
    StorageError
        If it cannot be written.
    """
    # First without images: what is wrong with the choices shows before anything is read.
    request = make_request(settings, "", dataset=dataset, root=root, trust=trust, **choices)
    images = open_dataset(dataset, request.root, trust=trust, with_test=request.needs_test)
    images.hold_aligned()
    check_fit(request, images.labels)
    request = dataclasses.replace(request, data_digest=images.digest())
    save_plan(request, folder)
    return request, images


def save_plan(request: Request, folder: Path) -> None:
    """Make the folder belong to the request; a damaged plan is made anew.

    Raises
    ------
    RecomputeError
        If it belongs to another, or has results of another.
    StorageError
        If it cannot be written.
    """
    path = folder / PLAN_FILE
    try:
        planned = load_plan(folder) if path.exists() else None
    except _DamagedPlanError:
        planned = None
    if planned is None:
        for task in tasks_of(request):
            state_of(task, request, folder)
    elif planned != request:
        raise RecomputeError(
            f"{folder} belongs to another configuration ({_differing(planned, request)}; hash "
            f"{planned.digest()[:12]}, not {request.digest()[:12]}): name another folder"
        )
    if planned is None or request.root is not None or request.trust is not None:
        write_sealed_json(path, _plan_json(request))


def load_plan(folder: Path) -> Request:
    """Read the request that a folder belongs to.

    Raises
    ------
    MissingInputError
        If the folder has no plan.
    RecomputeError
        If it has a damaged one, or one of an earlier version.
    """
    path = folder / PLAN_FILE
    content = read_sealed_json(path)
    if content is None:
        raise _unreadable(path)
    try:
        request = _request_of(content)
    except Exception as error:  # whatever a plan that was sealed by hand leads to
        raise _DamagedPlanError(path) from error
    return request


class _DamagedPlanError(RecomputeError):
    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is damaged: plan again in {path.parent}, by cifar-noisy recompute plan with "
            "the options of before; what was trained is kept"
        )


def _unreadable(path: Path) -> CifarNoisyError:
    try:
        with open_regular(path) as file:
            start = file.read(len(_EARLIER_PLAN))
    except FileNotFoundError:
        return MissingInputError(
            f"{path.parent} has no {PLAN_FILE}: make one with cifar-noisy recompute plan"
        )
    except OSError as error:
        return RecomputeError(f"{path} cannot be read ({reason(error)}): name another folder")
    if start == _EARLIER_PLAN:
        return RecomputeError(
            f"{path} was written by an earlier version, whose trainings cannot be continued: plan "
            "in a new folder"
        )
    return _DamagedPlanError(path)


def _plan_json(request: Request) -> dict[str, Any]:
    return {**request.as_json(), "root": request.root, "trust": request.trust}


def _request_of(content: Mapping[str, Any]) -> Request:
    """Make the request that `_plan_json` took apart, by the checks that made it."""
    taught = content["coteaching"] or {}
    request = make_request(
        [Setting(**setting) for setting in content["settings"]],
        content["data_digest"],
        dataset=content["dataset"],
        seed=content["seed"],
        n_folds=content["n_folds"],
        dtype=content["dtype"],
        recipe=content["recipe_name"],
        overrides=content["recipe"] | {COTEACHING_PREFIX + name: taught[name] for name in taught},
        kept_methods=content["kept_methods"],
        coteaching_methods=content["coteaching_methods"],
        root=content["root"],
        trust=content["trust"],
    )
    if json.dumps(_plan_json(request), sort_keys=True) != json.dumps(content, sort_keys=True):
        raise ValueError("it has values that no plan has")
    return request


def _differing(one: Request, other: Request) -> str:
    mine, theirs = _flat(one.as_json()), _flat(other.as_json())
    return "; ".join(
        f"{name} {mine.get(name)} there, {theirs.get(name)} here"
        for name in dict.fromkeys([*mine, *theirs])
        if mine.get(name) != theirs.get(name)
    )


def _flat(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain values with those of inner mappings beside."""
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        inner = value if isinstance(value, dict) else None
        flat |= {name: value} if inner is None else {f"{name}.{k}": v for k, v in inner.items()}
    return flat
