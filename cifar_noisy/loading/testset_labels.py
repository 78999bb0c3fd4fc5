"""Labels of CIFAR-10's test set: its own, those that many people chose, and corrected ones.

The test set has wrong labels, too. CIFAR-10H (Peterson, Battleday, Griffiths and Russakovsky, ICCV
2019) asked about 50 people for the class of each test image. cleanlab/label-errors (Northcutt,
Athalye and Mueller, NeurIPS 2021) asked five people about each of 275 images whose label confident
learning suspected.
"""

import dataclasses
import json
from typing import Any, Literal, get_args, overload

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.errors import UnavailableError
from cifar_noisy.loading.artifact_loading import decode_array
from cifar_noisy.loading.noise_generation import N_CLASSES
from cifar_noisy.loading.row_order import torchvision_index_of, torchvision_order_labels
from cifar_noisy.settings import ORDERS, Order, check_choice
from cifar_noisy.store.artifact_store import Store
from cifar_noisy.store.files import reason
from cifar_noisy.store.registry import Artifact, by_path

TestLabelKind = Literal["original", "soft", "corrected"]
TEST_LABEL_KINDS: tuple[TestLabelKind, ...] = get_args(TestLabelKind)

N_TEST_EXAMPLES = 10_000
"""Images in CIFAR-10's test set."""

NO_CLASS = -1
"""The corrected label of an image in which people saw neither of the two classes offered."""

SOFT_FILE = "jcpeterson/cifar-10h/data/cifar10h-probs.npy"
VOTES_FILE = "cleanlab/label-errors/mturk/cifar10_mturk.json"

_VOTERS = 5
_MAX_VOTES_SIZE = 1 << 20
_ANSWERS = ("given", "guessed", "neither", "both")


@overload
def load_test_labels(
    kind: Literal["original", "corrected"], *, order: Order = ...
) -> NDArray[np.int64]: ...
@overload
def load_test_labels(kind: Literal["soft"], *, order: Order = ...) -> NDArray[np.float64]: ...
def load_test_labels(kind: TestLabelKind, *, order: Order = "imagefolder") -> NDArray[Any]:
    """Load labels of CIFAR-10's test set.

    Parameters
    ----------
    kind : {"original", "soft", "corrected"}
        "original": CIFAR-10's own labels, which ship with this package. "soft": the share of about
        50 people who chose each class (CIFAR-10H, CC BY-NC-SA 4.0). "corrected": the original
        labels, except where at least three of five people say that another class is right
        (cleanlab/label-errors, Apache-2.0). The last two are downloaded.
    order : {"imagefolder", "torchvision"}, default "imagefolder"
        Order of the examples. "torchvision" is the order of the sources.

    Returns
    -------
    (10000,) int64, or (10000, 10) float64 of kind "soft"
        Labels 0 to 9; of kind "corrected" -1 for an image that shows no class it could have. Soft
        labels sum to 1 in each row.

    Raises
    ------
    UnknownArtifactError
        If kind or order is unknown.
    UnavailableError
        If no source has the file.

    Notes
    -----
    Of the 275 suspects, 221 keep their label by a majority, and 18 get the class that was guessed.
    In 4 images, people saw neither, and the right class is not known: -1. For the other 32 there is
    no majority, and they keep their label.

    Examples
    --------
    >>> load_test_labels("original", order="torchvision")[:5]
    array([3, 8, 8, 0, 6])
    >>> int((load_test_labels("corrected") == NO_CLASS).sum())  # published label sets
    4
    """
    check_choice(kind, TEST_LABEL_KINDS, "kind")
    check_choice(order, ORDERS, "order")
    labels: NDArray[Any] = torchvision_order_labels(train=False).astype(np.int64)
    rows = slice(None) if order == "torchvision" else torchvision_index_of(labels)
    if kind == "soft":
        labels = decode_soft(*_read(SOFT_FILE))
    elif kind == "corrected":
        labels = decode_corrected(_read(VOTES_FILE)[0], labels)
    loaded: NDArray[Any] = labels[rows]
    return loaded


def decode_soft(content: bytearray, artifact: Artifact) -> NDArray[np.float64]:
    """Decode CIFAR-10H's shares: (10000, 10) float64 in torchvision's order."""
    expected = dataclasses.replace(artifact, shape=(N_TEST_EXAMPLES, N_CLASSES), dtype="float64")
    shares: NDArray[np.float64] = decode_array(content, expected)
    return shares


def decode_corrected(content: bytes | bytearray, original: NDArray[np.int64]) -> NDArray[np.int64]:
    """Correct labels, which are in torchvision's order, by what people said of the suspects."""
    try:
        if len(content) > _MAX_VOTES_SIZE:
            raise ValueError(f"it has {len(content)} bytes")
        suspects = json.loads(content)
        corrected = original.copy()
        for suspect in suspects:
            i = _whole(suspect["id"], len(original))
            if suspect["given_original_label"] != original[i]:
                raise ValueError(f"image {i} has another label")
            corrected[i] = _majority(
                {answer: _whole(suspect["mturk"][answer], _VOTERS + 1) for answer in _ANSWERS},
                given=int(original[i]),
                guessed=_whole(suspect["our_guessed_label"], N_CLASSES),
            )
        if len({suspect["id"] for suspect in suspects}) != len(suspects):
            raise ValueError("an image is in it twice")
    except Exception as error:  # whatever a decoder makes of other bytes
        raise UnavailableError(
            f"{VOTES_FILE} does not have people's votes ({reason(error)}): reinstall cifar-noisy"
        ) from error
    return corrected


def _majority(votes: dict[str, int], *, given: int, guessed: int) -> int:
    """Return the class that most of five people say is right; the given one if there is none."""
    if sum(votes.values()) != _VOTERS:
        raise ValueError(f"{sum(votes.values())} people were asked, not {_VOTERS}")
    if 2 * votes["guessed"] > _VOTERS:
        return guessed
    return NO_CLASS if 2 * votes["neither"] > _VOTERS else given


def _whole(value: object, end: int) -> int:
    """Return a whole number below `end`, or raise."""
    if type(value) is not int or not 0 <= value < end:
        raise ValueError(f"{value!r} is none of 0 to {end - 1}")
    return value


def _read(path: str) -> tuple[bytearray, Artifact]:
    artifact = by_path()[path]
    return Store.from_environment().read(artifact), artifact
