"""The out-of-sample predicted probabilities of given labels: published, or recomputed."""

from __future__ import annotations

import os
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.errors import InvalidInputError, UnavailableError
from cifar_noisy.loading.artifact_loading import published_pyx
from cifar_noisy.loading.given_labels import Noise, command_options, label_source
from cifar_noisy.loading.recomputed import read_pyx
from cifar_noisy.loading.row_order import from_imagefolder_order
from cifar_noisy.progress_bars import Shown, check_progress, only_bar
from cifar_noisy.settings import Order, Setting, check_choice
from cifar_noisy.store.artifact_store import Store
from cifar_noisy.store.files import user_path

OnMissing = Literal["raise", "recompute"]

# Measured with AMX; see docs/results.md.
_CORE_MINUTES_A_SETTING = 53


def load_pyx(
    noise: Noise,
    sparsity: float | None = None,
    *,
    model: str | None = None,
    order: Order = "imagefolder",
    mmap: bool = False,
    source: str | os.PathLike[str] | None = None,
    on_missing: OnMissing = "raise",
    progress: Shown = None,
) -> NDArray[np.floating[Any]]:
    """Load out-of-sample predicted probabilities, as published or recomputed.

    Those of the paper come from ResNet-50s trained in four-fold cross-validation on the noisy
    labels: slices of softmax outputs with 1,000 columns, so rows sum to 0.986 to 1.0004. They are
    neither renormalised nor widened.

    Those of CIFAR-10N and CIFAR-10S come from five networks trained in five-fold cross-validation,
    published in cleanlab/label-error-detection-benchmarks. Their files have the held-out folds one
    after another; here their rows are in the published order of the paper, like all others.

    Parameters
    ----------
    noise : {0, 0.2, 0.4, 0.7}, Setting or str
        Fraction of wrong labels; 0.7 is what upstream files under 0_6. A Setting stands for both
        numbers, a text for the label set of that name. With `source` also noise 0.9, or 50,000
        labels of your own in `order`.
    sparsity : {0, 0.2, 0.4, 0.6}, optional
        Fraction of zero off-diagonal noise rates; may be left out where noise is 0.
    model : str, optional
        For label sets of other repositories: "resnet18", "resnet50d", "efficientnet_b1",
        "twins_pcpvt_base" or "swin_base_patch4_window7_224".
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
    progress : bool or object with ``update(n_bytes)``, optional
        Whether to show progress bars of a download or a training; by default on a terminal and in a
        notebook. An object, such as a ``tqdm`` of your own, is told of every byte that arrives
        instead.

    Returns
    -------
    (50000, 10) float16
        Row i, column k: probability that example i is of class k. (float32 where they were
        recomputed so; float64 of the other repositories.)

    Raises
    ------
    UnknownArtifactError
        If there are no probabilities for these labels, or the model, the order or `on_missing` is
        unknown or missing.
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
    >>> pyx = load_pyx("cifar10n-worst", model="resnet50d")  # published label sets
    >>> pyx.shape, pyx.dtype  # published label sets
    ((50000, 10), dtype('float64'))
    """
    labels = label_source(noise, sparsity, order=order)
    check_choice(on_missing, get_args(OnMissing), "on_missing")
    check_progress(progress)
    if mmap and (source is not None or order != "imagefolder"):
        raise InvalidInputError(
            "mmap=True maps the published file, whose order is 'imagefolder': leave mmap out to "
            f"get {'a source' if source is not None else f'order={order!r}'}"
        )
    if source is not None:
        if model is not None:
            raise InvalidInputError(f"leave model={model!r} out: it is for published probabilities")
        return from_imagefolder_order(read_pyx(user_path(source), labels), order)
    if not isinstance(labels, Setting):
        if mmap or on_missing != "raise":
            raise InvalidInputError(
                f"leave {'mmap' if mmap else 'on_missing'} out: it is for the paper's settings"
            )
        pyx = published_pyx(labels, model=model, progress=progress)
        return from_imagefolder_order(pyx, order)
    try:
        pyx = published_pyx(labels, model=model, mmap=mmap, progress=progress)
    except UnavailableError as error:
        if on_missing == "raise":
            message = f"{error.message}; or {_how_to_recompute(labels)}"
            raise UnavailableError(message, error.causes) from None
        pyx = _recompute(labels, only_bar(progress))
    return from_imagefolder_order(pyx, order)


def _how_to_recompute(setting: Setting) -> str:
    has_affinity = hasattr(os, "sched_getaffinity")
    n_cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    minutes = max(1, round(_CORE_MINUTES_A_SETTING / n_cores, -1))
    return (
        f"train again (about {minutes:.0f} minutes on this machine's {n_cores} cores if they are "
        "like those measured, more without AMX): cifar-noisy recompute "
        f'{command_options(setting)}, or on_missing="recompute"'
    )


def _recompute(setting: Setting, progress: bool | None) -> NDArray[np.floating[Any]]:
    """Return recomputed probabilities from the cache; train first if they are not there."""
    from cifar_noisy.recompute.task_runner import recompute_settings

    folder = Store.from_environment().cache / "recomputed" / setting.name
    try:
        return read_pyx(folder, setting)
    except UnavailableError:
        recompute_settings([setting], folder, progress)
    return read_pyx(folder, setting)
