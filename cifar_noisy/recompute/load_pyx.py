"""The out-of-sample predicted probabilities of a setting: published, or recomputed."""

from __future__ import annotations

import os
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.errors import InvalidInputError, UnavailableError
from cifar_noisy.loading.artifact_loading import published_pyx
from cifar_noisy.loading.recomputed import read_pyx
from cifar_noisy.loading.row_order import from_imagefolder_order
from cifar_noisy.settings import ORDERS, Order, Setting, check_choice
from cifar_noisy.store.artifact_store import Store
from cifar_noisy.store.files import user_path

OnMissing = Literal["raise", "recompute"]

# Measured with AMX; see docs/results.md.
_CORE_MINUTES_A_SETTING = 53


def load_pyx(
    noise: float | Setting,
    sparsity: float | None = None,
    *,
    order: Order = "imagefolder",
    mmap: bool = False,
    source: str | os.PathLike[str] | None = None,
    on_missing: OnMissing = "raise",
) -> NDArray[np.floating[Any]]:
    """Load out-of-sample predicted probabilities, as published or recomputed.

    The published ones come from ResNet-50s trained in four-fold cross-validation on the noisy
    labels: slices of softmax outputs with 1,000 columns, so rows sum to 0.986 to 1.0004. They are
    neither renormalised nor widened.

    Parameters
    ----------
    noise : {0, 0.2, 0.4, 0.7} or Setting
        Fraction of wrong labels; 0.7 is what upstream files under 0_6. With `source`, 0.9 too. A
        Setting stands for both numbers.
    sparsity : {0, 0.2, 0.4, 0.6}, optional
        Fraction of zero off-diagonal noise rates; may be left out where noise is 0.
    order : {"imagefolder", "torchvision"}, default "imagefolder"
        Order of the rows: as published, or that of ``torchvision.datasets.CIFAR10``.
    mmap : bool, default False
        Return a read-only memory map of the published file instead of an array in memory; not with
        ``order="torchvision"``, nor with `source`.
    source : path, optional
        A folder of ``cifar-noisy recompute`` to read instead of what was published.
    on_missing : {"raise", "recompute"}, default "raise"
        What to do where no source has the published file: raise, or train again from the images in
        the cache, which takes long, and keep what comes out in the cache.

    Returns
    -------
    (50000, 10) float16
        Row i, column k: probability that example i is of class k. (float32 where they were
        recomputed so.)

    Raises
    ------
    UnknownArtifactError
        If there are no probabilities for the setting, or the order or `on_missing` is unknown.
    InvalidInputError
        If options exclude each other, or `source` is of another dataset or holds no probabilities.
    UnavailableError
        If no source has the file; the message says how to recompute it.
    RecomputeError
        If they are to be recomputed and that fails.

    Examples
    --------
    >>> pyx = load_pyx(noise=0.4, sparsity=0.2)  # published files
    >>> pyx.shape, pyx.dtype, float(pyx[0, 0])  # published files
    ((50000, 10), dtype('float16'), 0.299560546875)
    """
    setting = Setting.of(noise, sparsity)
    check_choice(order, ORDERS, "order")
    check_choice(on_missing, get_args(OnMissing), "on_missing")
    if mmap and (source is not None or order != "imagefolder"):
        raise InvalidInputError(
            "mmap=True maps the published file, whose order is 'imagefolder': leave mmap out to "
            f"get {'a source' if source is not None else f'order={order!r}'}"
        )
    if source is not None:
        return from_imagefolder_order(read_pyx(user_path(source), setting), order)
    try:
        pyx = published_pyx(setting, mmap=mmap)
    except UnavailableError as error:
        if on_missing == "raise":
            message = f"{error.message}; or {_how_to_recompute(setting)}"
            raise UnavailableError(message, error.causes) from None
        pyx = _recompute(setting)
    return from_imagefolder_order(pyx, order)


def _how_to_recompute(setting: Setting) -> str:
    has_affinity = hasattr(os, "sched_getaffinity")
    n_cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    minutes = max(1, round(_CORE_MINUTES_A_SETTING / n_cores, -1))
    return (
        f"train again (about {minutes:.0f} minutes on this machine's {n_cores} cores if they are "
        "like those measured, more without AMX): cifar-noisy recompute --noise "
        f'{setting.noise:g} --sparsity {setting.sparsity:g}, or on_missing="recompute"'
    )


def _recompute(setting: Setting) -> NDArray[np.floating[Any]]:
    """Return recomputed probabilities from the cache; train first if they are not there."""
    from cifar_noisy.recompute.task_runner import recompute_settings

    name = f"noise{setting.noise:g}-sparsity{setting.sparsity:g}"
    folder = Store.from_environment().cache / "recomputed" / name
    try:
        return read_pyx(folder, setting)
    except UnavailableError:
        recompute_settings([setting], folder)
    return read_pyx(folder, setting)
