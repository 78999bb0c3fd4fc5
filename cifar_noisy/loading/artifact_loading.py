"""Published artifacts by meaning: checked bytes in, a checked array or a parsed log out.

Nothing is ever unpickled. The data are those of Northcutt, Jiang and Chuang, "Confident Learning:
Estimating Uncertainty in Dataset Labels", JAIR 2021, as published in upstream's repository.
"""

from __future__ import annotations

import io
import math
import os
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.errors import (
    InvalidInputError,
    TrainingLogError,
    UnavailableError,
    UnknownArtifactError,
)
from cifar_noisy.loading.noise_generation import (
    generate_noise_matrix,
    shipped_noisy_labels,
    true_labels,
)
from cifar_noisy.loading.npy_files import open_npy
from cifar_noisy.loading.recomputed import read_train_mask
from cifar_noisy.loading.row_order import from_imagefolder_order
from cifar_noisy.settings import (
    EDITIONS,
    METHODS,
    ORDERS,
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
    from cifar_noisy.store.http_download import Progress

# What numpy writes before the data of a plain array, and the published files have.
_NPY_HEADER_SIZE = 128

# The bit patterns of non-negative float16 numbers up to 1 are those up to this one; NaN, infinity
# and negative numbers lie above.
_FLOAT16_ONE = np.float16(1).view(np.uint16)


def published_pyx(setting: Setting, *, mmap: bool = False) -> NDArray[np.float16]:
    """Return the published probabilities of a setting, in the published order."""
    artifact, store = find("pyx", setting), Store.from_environment()
    if mmap:
        pyx = open_npy(store.path(artifact))
        _check_array(pyx, artifact)
    else:
        pyx = decode_array(store.read(artifact), artifact)
    if pyx.view(np.uint16).max() > _FLOAT16_ONE:
        raise UnavailableError(
            f"{artifact.path} has entries that are no probabilities: reinstall cifar-noisy"
        )
    return pyx


def load_train_mask(
    method: Method,
    noise: float | Setting,
    sparsity: float | None = None,
    *,
    edition: Edition | None = None,
    order: Order = "imagefolder",
    source: str | os.PathLike[str] | None = None,
) -> NDArray[np.bool_]:
    """Load a train mask, as published or recomputed: which examples a method keeps for training.

    Parameters
    ----------
    method : {"argmax", "conf_joint_only", "cl_pbc", "cl_pbnr", "cl_both"}
        The paper calls them C_confusion, C_y~,y*, CL: PBC, CL: PBNR and CL: C+NR.
    noise, sparsity
        As for `load_noisy_labels`; at noise 0.9 none was published.
    edition : {"2019", "2021"}, optional
        The two differ in 0 to 26 examples. "2019" came from full-precision probabilities that were
        never released, and the paper's models were trained on it; it is the default where it exists
        (all but noise 0), since its numbers are the ones that people compare with. "2021" was
        recomputed by the authors from the released probabilities.
    order : {"imagefolder", "torchvision"}, default "imagefolder"
        Order of the examples.
    source : path, optional
        A folder of ``cifar-noisy recompute`` to read instead of what was published; not with
        `edition`.

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
    setting = Setting.of(noise, sparsity)
    check_choice(order, ORDERS, "order")
    check_choice(method, METHODS, "method")
    if source is None:
        used = default_edition(setting) if edition is None else edition
        check_choice(used, EDITIONS, "edition")
        artifact = find("train_mask", setting, method, edition=used)
        mask: NDArray[np.bool_] = decode_array(Store.from_environment().read(artifact), artifact)
    elif edition is not None:
        raise InvalidInputError(
            f"leave edition={edition!r} out: it is for published masks, not for those of source="
        )
    else:
        mask = read_train_mask(user_path(source), setting, method)
    return from_imagefolder_order(mask, order)


def default_edition(setting: Setting) -> Edition:
    """Return the edition whose masks are loaded where none is asked for."""
    return "2019" if setting.noise else "2021"


def load_label_errors(
    method: Method,
    noise: float | Setting,
    sparsity: float | None = None,
    *,
    edition: Edition | None = None,
    order: Order = "imagefolder",
) -> NDArray[np.bool_]:
    """Load the label errors that a method found: the complement of its train mask.

    Parameters
    ----------
    method, noise, sparsity, edition, order
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
    return ~load_train_mask(method, noise, sparsity, edition=edition, order=order)


def load_noisy_labels(
    noise: float | Setting, sparsity: float | None = None, *, order: Order = "imagefolder"
) -> NDArray[np.int64]:
    """Load the noisy labels of a setting, which ship with this package.

    They were generated from the published seed and equal the published JSON files bit for bit.

    Parameters
    ----------
    noise : {0, 0.2, 0.4, 0.7, 0.9} or Setting
        Fraction of wrong labels; a Setting stands for both numbers.
    sparsity : {0, 0.2, 0.4, 0.6}, optional
        Fraction of zero off-diagonal noise rates; may be left out where noise is 0.
    order : {"imagefolder", "torchvision"}, default "imagefolder"
        Order of the examples.

    Returns
    -------
    (50000,) int64
        Given labels, 0 to 9, in alphabetical order of the class names.

    Raises
    ------
    UnknownArtifactError
        If the setting was never published, or sparsity is missing where noise is not 0.

    Examples
    --------
    >>> labels = load_noisy_labels(noise=0.7, sparsity=0.2)
    >>> float((labels != load_true_labels()).mean())
    0.69918
    """
    artifact = find("noisy_labels", Setting.of(noise, sparsity))
    labels = shipped_noisy_labels(artifact.setting)
    _check_published(labels, artifact, "reinstall cifar-noisy")
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


def load_noise_matrix(noise: float | Setting, sparsity: float | None = None) -> NDArray[np.float64]:
    """Load the noise matrix that the noisy labels of a setting were drawn from.

    It is generated from the published seed, and its checksum must be that of the published one. The
    published pickle is never opened.

    Parameters
    ----------
    noise, sparsity
        As for `load_noisy_labels`.

    Returns
    -------
    (10, 10) float64
        Entry (i, j) is p(given label = i | true label = j); columns sum to 1.

    Raises
    ------
    UnknownArtifactError
        If the setting was never published.
    UnavailableError
        If the installed numpy draws another matrix than the published one.

    Examples
    --------
    >>> matrix = load_noise_matrix(noise=0.2, sparsity=0.6)
    >>> int((matrix == 0).sum())
    54
    """
    artifact = find("noise_matrix", Setting.of(noise, sparsity))
    matrix = generate_noise_matrix(artifact.setting)
    _check_published(matrix, artifact, "install another numpy")
    return matrix


def load_training_log(
    method: Method | OtherMethod,
    noise: float | Setting,
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
        As for `load_noisy_labels`; at noise 0.9 none was published.
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
    setting = Setting.of(noise, sparsity)
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
    noise: float | Setting | None = None,
    sparsity: float | None = None,
    method: Method | OtherMethod | None = None,
    edition: Edition | None = None,
    trainer: Trainer | None = None,
    copy: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Bring published files to this machine, so that loading them later needs no network.

    Parameters
    ----------
    kind, noise, sparsity, method, edition, trainer
        Filters as for `artifacts`; without any, all 340 files (142 MB).
    copy : bool, default False
        Copy what a mirror folder has into the cache, instead of using it in place.
    progress : object with ``update(n_bytes)``, optional
        Told of every byte that arrives, for a progress bar; a ``tqdm`` is one.

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
        kind=kind, noise=noise, sparsity=sparsity, method=method, edition=edition, trainer=trainer
    )
    return Store.from_environment().fetch(require_nonempty(wanted), progress, copy=copy)


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
