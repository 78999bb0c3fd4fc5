"""Published artifacts by meaning: checked bytes in, a checked array or a parsed log out.

Nothing is ever unpickled. The data are those of Northcutt, Jiang and Chuang, "Confident Learning:
Estimating Uncertainty in Dataset Labels", JAIR 2021, as published in upstream's repository, and
the label sets of other repositories.
"""

from __future__ import annotations

import io
import math
import os
import warnings
from contextlib import AbstractContextManager
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.confident_learning.label_errors import label_errors
from cifar_noisy.errors import (
    CountedMatrixWarning,
    InvalidInputError,
    TrainingLogError,
    UnavailableError,
    UnknownArtifactError,
)
from cifar_noisy.loading.given_labels import (
    LabelSource,
    Noise,
    OwnLabels,
    command_options,
    count_noise_matrix,
    label_source,
    labels_of,
    pyx_artifact,
    rows_of_folds,
)
from cifar_noisy.loading.noise_generation import generate_noise_matrix, true_labels
from cifar_noisy.loading.npy_files import open_npy
from cifar_noisy.loading.recomputed import read_train_mask
from cifar_noisy.loading.row_order import from_imagefolder_order
from cifar_noisy.progress_bars import Progress, Shown, progress_bar
from cifar_noisy.settings import (
    EDITIONS,
    METHODS,
    OTHER_METHODS,
    TRAINERS,
    Edition,
    Method,
    Order,
    OtherMethod,
    Setting,
    Trainer,
    check_choice,
)
from cifar_noisy.store.artifact_store import Store
from cifar_noisy.store.files import user_path
from cifar_noisy.store.label_sets import LabelSet
from cifar_noisy.store.registry import (
    Artifact,
    Kind,
    array_digest,
    artifacts,
    find,
    require_nonempty,
)

if TYPE_CHECKING:
    from cifar_noisy.loading.training_logs import TrainingLog

# What numpy writes before the data of a plain array, and the published files have.
_NPY_HEADER_SIZE = 128

# The bit patterns of non-negative float16 numbers up to 1 are those up to this one; NaN, infinity
# and negative numbers lie above.
_FLOAT16_ONE = np.float16(1).view(np.uint16)


def published_pyx(
    source: LabelSource,
    *,
    model: str | None = None,
    mmap: bool = False,
    store: Store | None = None,
    progress: Shown = False,
) -> NDArray[np.floating[Any]]:
    """Return published probabilities, in the published order."""
    store = store or Store.from_environment()
    if not isinstance(source, Setting):
        return _other_pyx(source, model, store, progress)
    if model is not None:
        check_choice(model, ("resnet50",), "model")
    artifact = find("pyx", source)
    with _download_bar(artifact, store, progress) as bar:
        if mmap:
            pyx = open_npy(store.path(artifact, bar))
            _check_array(pyx, artifact)
        else:
            pyx = decode_array(store.read(artifact, bar), artifact)
    if pyx.view(np.uint16).max() > _FLOAT16_ONE:
        raise UnavailableError(
            f"{artifact.path} has entries that are no probabilities: reinstall cifar-noisy"
        )
    return pyx


def _other_pyx(
    source: LabelSet | OwnLabels, model: str | None, store: Store, progress: Shown
) -> NDArray[np.float64]:
    """Return another repository's probabilities, their rows brought into the published order."""
    if isinstance(source, OwnLabels) or not source.models:
        without = "" if model is None else f"leave model={model!r} out, or "
        raise UnknownArtifactError(
            f"no probabilities were published for {source}: {without}train with cifar-noisy "
            f"recompute {command_options(source)}, whose folder load_pyx and load_train_mask read "
            "by source="
        )
    if model is None:
        raise UnknownArtifactError(
            f"model is missing: probabilities for {source} were published for model= "
            f"{', '.join(source.models)}"
        )
    artifact = pyx_artifact(source, check_choice(model, source.models, "model"))
    with _download_bar(artifact, store, progress) as bar:
        content = store.read(artifact, bar)
    pyx = np.empty(artifact.shape or (), artifact.dtype)
    pyx[rows_of_folds(source, store)] = decode_array(content, artifact)
    return pyx


def _download_bar(
    artifact: Artifact, store: Store, progress: Shown
) -> AbstractContextManager[Progress]:
    """Return what is told of a file's bytes; by default no bar where it is on this machine."""
    if progress is None and store.local_path(artifact) is not None:
        progress = False
    return progress_bar(progress, "downloading", artifact.size)


def load_train_mask(
    method: Method,
    noise: Noise,
    sparsity: float | None = None,
    *,
    edition: Edition | None = None,
    model: str | None = None,
    order: Order = "imagefolder",
    source: str | os.PathLike[str] | None = None,
) -> NDArray[np.bool_]:
    """Load a train mask, as published or recomputed: which examples a method keeps for training.

    Parameters
    ----------
    method : {"argmax", "conf_joint_only", "cl_pbc", "cl_pbnr", "cl_both"}
        The paper calls them C_confusion, C_y~,y*, CL: PBC, CL: PBNR and CL: C+NR.
    noise, sparsity
        As for `load_noisy_labels`; at noise 0.9 none was published. For the label sets of other
        repositories none was published either: their masks are computed, as `label_errors` does,
        from the published probabilities of `model`.
    edition : {"2019", "2021"}, optional
        The two differ in 0 to 26 examples. "2019" came from full-precision probabilities that were
        never released, and the paper's models were trained on it; it is the default where it exists
        (all but noise 0), since its numbers are the ones that people compare with. "2021" was
        recomputed by the authors from the released probabilities. Label sets of other repositories
        have none.
    model : str, optional
        As for `load_pyx`.
    order : {"imagefolder", "torchvision"}, default "imagefolder"
        Order of the examples.
    source : path, optional
        A folder of ``cifar-noisy recompute`` to read instead of what was published; not with
        `edition` or `model`.

    Returns
    -------
    (50000,) bool
        True = keep. (Upstream's README calls the same masks "pruned" and "label errors".)

    Raises
    ------
    UnknownArtifactError, UnavailableError
        If there is no such mask, or no source has the file.

    Examples
    --------
    >>> int(load_train_mask("cl_pbnr", 0.4, 0.2).sum())  # published files
    29141
    """
    labels = label_source(noise, sparsity, order=order)
    check_choice(method, METHODS, "method")
    mask: NDArray[np.bool_]
    if source is not None:
        for name, value in (("edition", edition), ("model", model)):
            if value is not None:
                raise InvalidInputError(
                    f"leave {name}={value!r} out: it is for published masks, not for those of "
                    "source="
                )
        mask = read_train_mask(user_path(source), labels, method)
    elif isinstance(labels, Setting):
        used = default_edition(labels) if edition is None else edition
        check_choice(used, EDITIONS, "edition")
        check_choice(model or "resnet50", ("resnet50",), "model")
        artifact = find("train_mask", labels, method, edition=used)
        mask = decode_array(Store.from_environment().read(artifact), artifact)
    else:
        mask = ~computed_label_errors(labels, model, edition)[method]
    return from_imagefolder_order(mask, order)


def default_edition(setting: Setting) -> Edition:
    """Return the edition whose masks are loaded where none is asked for."""
    return "2019" if setting.noise else "2021"


def computed_label_errors(
    source: LabelSet | OwnLabels, model: str | None, edition: str | None = None
) -> dict[Method, NDArray[np.bool_]]:
    """Return what the five methods find in another repository's labels, in the published order."""
    if edition is not None:
        raise UnknownArtifactError(
            f"leave edition={edition!r} out: no masks were published for {source}; they are "
            "computed from the probabilities of model="
        )
    pyx = published_pyx(source, model=model)
    return label_errors(labels_of(source), pyx)


def load_label_errors(
    method: Method,
    noise: Noise,
    sparsity: float | None = None,
    *,
    edition: Edition | None = None,
    model: str | None = None,
    order: Order = "imagefolder",
) -> NDArray[np.bool_]:
    """Load the label errors that a method found: the complement of its train mask.

    Parameters
    ----------
    method, noise, sparsity, edition, model, order
        As for `load_train_mask`, which may raise the same.

    Returns
    -------
    (50000,) bool
        True = label error.

    Examples
    --------
    >>> int(load_label_errors("cl_pbnr", 0.4, 0.2).sum())  # published files
    20859
    """
    return ~load_train_mask(method, noise, sparsity, edition=edition, model=model, order=order)


def load_noisy_labels(
    noise: Noise, sparsity: float | None = None, *, order: Order = "imagefolder"
) -> NDArray[np.int64]:
    """Load given labels: of a setting of the paper, of a label set by its name, or your own.

    Those of the paper ship with this package. They were generated from the published seed and equal
    the published JSON files bit for bit. Those of other repositories are fetched from there.

    Parameters
    ----------
    noise : {0, 0.2, 0.4, 0.7, 0.9}, Setting, str, LabelSet or (50000,) int array_like
        Fraction of wrong labels; a Setting, which stands for both numbers; a label set or its name,
        such as "cifar10n-worst" (`label_sets` lists them); or labels of your own in `order`, which
        are checked and returned.
    sparsity : {0, 0.2, 0.4, 0.6}, optional
        Fraction of zero off-diagonal noise rates, for a fraction of wrong labels other than 0 only.
    order : {"imagefolder", "torchvision"}, default "imagefolder"
        Order of the examples.

    Returns
    -------
    (50000,) int64
        Given labels, 0 to 9, in alphabetical order of the class names.

    Raises
    ------
    UnknownArtifactError
        If the setting or the name was never published, or sparsity is missing where noise is not 0.
    InvalidInputError
        If labels of your own are not 50,000 whole numbers from 0 to 9, or only make sense in the
        other order.
    UnavailableError
        If no source has a label set's file.

    Examples
    --------
    >>> labels = load_noisy_labels(noise=0.7, sparsity=0.2)
    >>> float((labels != load_true_labels()).mean())
    0.69918
    >>> labels = load_noisy_labels("cifar10n-worst")  # published label sets
    >>> float((labels != load_true_labels()).mean())  # published label sets
    0.40208
    """
    source = label_source(noise, sparsity, order=order)
    labels = labels_of(source)
    if isinstance(source, Setting):
        _check_published(labels, find("noisy_labels", source), "reinstall cifar-noisy")
    return from_imagefolder_order(labels, order)


def load_true_labels(*, order: Order = "imagefolder") -> NDArray[np.int64]:
    """Load CIFAR-10's own labels.

    Parameters
    ----------
    order : {"imagefolder", "torchvision"}, default "imagefolder"
        Order of the examples; in the published one they are 0 x 5000, 1 x 5000, ...

    Returns
    -------
    (50000,) int64
        True labels, 0 to 9.

    Examples
    --------
    >>> load_true_labels()[4998:5002]
    array([0, 0, 1, 1])
    """
    return from_imagefolder_order(true_labels(), order)


def load_noise_matrix(
    noise: Noise, sparsity: float | None = None, *, order: Order = "imagefolder"
) -> NDArray[np.float64]:
    """Load the noise matrix of given labels.

    For a setting of the paper it is the one that the labels were drawn from: it is generated from
    the published seed, and its checksum must be that of the published one. (The published pickle is
    never opened.) For other labels, which were drawn from no matrix, it is counted against the true
    labels.

    Parameters
    ----------
    noise, sparsity
        As for `load_noisy_labels`.
    order : {"imagefolder", "torchvision"}, default "imagefolder"
        Order of labels of your own.

    Returns
    -------
    (10, 10) float64
        Entry (i, j) is p(given label = i | true label = j); columns sum to 1.

    Raises
    ------
    UnknownArtifactError, InvalidInputError, UnavailableError
        As `load_noisy_labels` does; also if the installed numpy draws another matrix than the
        published one.

    Warns
    -----
    CountedMatrixWarning
        If the matrix was counted.

    Examples
    --------
    >>> matrix = load_noise_matrix(noise=0.2, sparsity=0.6)
    >>> int((matrix == 0).sum())
    54
    """
    source = label_source(noise, sparsity, order=order)
    if not isinstance(source, Setting):
        message = f"the noise matrix of {source} is counted: its labels were drawn from none"
        warnings.warn(message, CountedMatrixWarning, stacklevel=2)
        return count_noise_matrix(source)
    artifact = find("noise_matrix", source)
    matrix = generate_noise_matrix(source)
    _check_published(matrix, artifact, "install another numpy")
    return matrix


def load_training_log(
    method: Method | OtherMethod,
    noise: float | str | Setting,
    sparsity: float | None = None,
    *,
    trainer: Trainer | None = None,
) -> TrainingLog:
    """Load a published training log as data frames.

    Parameters
    ----------
    method : str
        One of the five methods of confident learning, for a training on the examples it keeps; or
        "coteaching", "coteaching_plus" or "sceloss", for a training on all examples.
    noise, sparsity
        A setting of the paper, as for `load_noisy_labels`; at noise 0.9 none was published.
    trainer : {"resnet50", "coteaching"}, optional
        What was trained on the kept examples: a ResNet-50 (the default), or two networks with
        Co-Teaching. Not for the other methods, which are their own trainers.

    Returns
    -------
    TrainingLog
        With a frame per logged batch and a frame per epoch.

    Raises
    ------
    UnknownArtifactError, UnavailableError
        If there is no such log, or no source has the file.
    TrainingLogError
        For the one log that is 0 bytes upstream: resnet50, "cl_both", noise 0.2, sparsity 0.6.

    Examples
    --------
    >>> log = load_training_log("cl_both", 0.4, 0.2, trainer="coteaching")  # published files
    >>> float(log.epochs["test_accuracy_1"].iloc[-1]), log.train_size  # published files
    (0.86268, 29497)
    """
    setting = label_source(noise, sparsity)
    if not isinstance(setting, Setting):
        raise UnknownArtifactError(
            f"no training logs were published for {setting}: name a setting of the paper, such as "
            "noise=0.4 and sparsity=0.2"
        )
    if check_choice(method, (*METHODS, *OTHER_METHODS), "method") in METHODS:
        trainer = "resnet50" if trainer is None else check_choice(trainer, TRAINERS, "trainer")
    elif trainer is not None:
        raise UnknownArtifactError(
            f"trainer {trainer!r} does not go with method {method!r}, which is its own "
            "trainer: leave trainer out"
        )
    artifact = find("training_log", setting, method, trainer=trainer)
    # Its patterns take a while to compile, and the arrays need none of them.
    from cifar_noisy.loading.training_logs import parse_training_log

    content = Store.from_environment().read(artifact)
    if not content:
        raise TrainingLogError(
            f"{artifact.path} is 0 bytes in upstream's repository: no log exists"
        )
    return parse_training_log(content.decode(), name=artifact.path)


def download(
    *,
    kind: Kind | None = None,
    noise: float | str | Setting | LabelSet | None = None,
    sparsity: float | None = None,
    method: Method | OtherMethod | None = None,
    edition: Edition | None = None,
    trainer: Trainer | None = None,
    model: str | None = None,
    copy: bool = False,
    progress: Shown = None,
) -> list[Path]:
    """Bring published files to this machine, so that loading them later needs no network.

    Parameters
    ----------
    kind, noise, sparsity, method, edition, trainer, model
        Filters as for `artifacts`; without any, all 340 files of the paper (142 MB).
    copy : bool, default False
        Copy what a mirror folder has into the cache, instead of using it in place.
    progress : bool or object with ``update(n_bytes)``, optional
        Whether to show progress bars; by default on a terminal and in a notebook. An object, such
        as a ``tqdm`` of your own, is told of every byte that arrives instead.

    Returns
    -------
    list of Path
        The checked files: in the cache, or in a mirror folder.

    Raises
    ------
    UnknownArtifactError
        If a filter names something unknown, or nothing published matches all of them.
    UnavailableError
        If no source has one of the files; the others are kept.
    StorageError
        If the cache folder cannot be written.

    Examples
    --------
    >>> [file.name for file in download(kind="pyx", noise=0.4, sparsity=0.2)]  # published files
    ['cifar10__train__model_resnet50__pyx.npy']
    """
    wanted = artifacts(
        kind=kind,
        noise=noise,
        sparsity=sparsity,
        method=method,
        edition=edition,
        trainer=trainer,
        model=model,
    )
    n_bytes = sum(artifact.size for artifact in require_nonempty(wanted))
    with progress_bar(progress, "downloading", n_bytes) as bar:
        return Store.from_environment().fetch(wanted, bar, copy=copy)


def cache_folder() -> Path:
    """Return the folder that files are downloaded to; it may not exist yet.

    Returns
    -------
    Path

    Raises
    ------
    ConfigurationError
        If nothing says where it is.

    Examples
    --------
    >>> cache_folder().is_absolute()
    True
    """
    return Store.from_environment().cache


def cached_path(artifact: Artifact) -> Path:
    """Return where a published file lies in the cache, or will once it is downloaded.

    Parameters
    ----------
    artifact : Artifact
        One of `artifacts`.

    Returns
    -------
    Path

    Examples
    --------
    >>> pyx = artifacts(kind="pyx", noise=0.4, sparsity=0.2)[0]
    >>> cached_path(pyx).relative_to(cache_folder()).as_posix() == pyx.path
    True
    """
    return Store.from_environment().cache_path(artifact)


def decode_array(content: bytearray, artifact: Artifact) -> NDArray[Any]:
    """Decode an artifact's checked bytes, which must be of its shape and dtype."""
    file = io.BytesIO(content[:_NPY_HEADER_SIZE])
    try:
        np.lib.format.read_magic(file)
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
        # In place: numpy's own reader would copy what was read for its checksum already.
        flat = np.frombuffer(content, dtype, count=math.prod(shape), offset=file.tell())
    except (ValueError, SyntaxError, TokenError) as error:  # a broken header is parsed as Python
        raise UnavailableError(
            f"{artifact.path} is no .npy file ({error}): reinstall cifar-noisy"
        ) from error
    array: NDArray[Any] = flat.reshape(shape, order="F" if is_fortran else "C")
    _check_array(array, artifact)
    return array


def _check_array(array: NDArray[np.generic], artifact: Artifact) -> None:
    if (array.shape, str(array.dtype)) != (artifact.shape, artifact.dtype):
        raise UnavailableError(
            f"{artifact.path} holds {array.dtype} of shape {array.shape}, where {artifact.dtype} "
            f"of shape {artifact.shape} was published: reinstall cifar-noisy"
        )


def _check_published(array: NDArray[np.generic], artifact: Artifact, remedy: str) -> None:
    """Require that an array that was not downloaded equals the published one."""
    if array_digest(array) != artifact.array_sha256:
        raise UnavailableError(f"the {artifact} of this installation is not as published: {remedy}")
