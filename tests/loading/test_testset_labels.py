"""Labels of the test set: shipped, soft and corrected, against their sources."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifar_noisy import UnavailableError, UnknownArtifactError, load_test_labels
from cifar_noisy.loading.row_order import (
    OFFICIAL_TEST_LABELS_SHA256,
    torchvision_index_of,
    torchvision_order_labels,
)
from cifar_noisy.loading.testset_labels import (
    NO_CLASS,
    SOFT_FILE,
    TEST_LABEL_KINDS,
    VOTES_FILE,
    decode_corrected,
    decode_soft,
)
from cifar_noisy.store.registry import by_path, npy_bytes

ORIGINAL = torchvision_order_labels(train=False).astype(np.int64)
SUSPECT = {
    "id": 7,
    "given_original_label": int(ORIGINAL[7]),
    "our_guessed_label": 9,
    "mturk": {"given": 1, "guessed": 3, "neither": 1, "both": 0},
}


@pytest.fixture
def files(label_sets: Path) -> Path:
    return label_sets


def test_the_shipped_labels_are_those_of_the_test_set() -> None:
    labels = torchvision_order_labels(train=False)
    assert (labels.dtype.name, labels.shape) == ("uint8", (10_000,))
    assert hashlib.sha256(labels.data).hexdigest() == OFFICIAL_TEST_LABELS_SHA256
    assert np.bincount(labels).tolist() == [1_000] * 10
    # The first images of test_batch, as every tutorial shows them.
    assert labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]


def test_two_sources_agree_on_the_order(files: Path) -> None:
    """People looked at the images; a network that never saw the labels predicted them."""
    original = load_test_labels("original", order="torchvision")
    file = files / "cleanlab/label-errors/original_test_labels/cifar10_test_set_original_labels.npy"
    np.testing.assert_array_equal(np.load(file), original)
    counts = np.load(files / "jcpeterson/cifar-10h/data/cifar10h-counts.npy")
    assert int((counts.argmax(axis=1) != original).sum()) == 79
    pyx = np.load(
        files / "cleanlab/label-errors/cross_validated_predicted_probabilities"
        "/cifar10_test_set_pyx.npy"
    )
    assert (pyx.argmax(axis=1) == original).mean() == pytest.approx(0.9294)


def test_soft_labels_are_the_votes(files: Path) -> None:
    soft = load_test_labels("soft", order="torchvision")
    assert (soft.dtype.name, soft.shape) == ("float64", (10_000, 10))
    counts = np.load(files / "jcpeterson/cifar-10h/data/cifar10h-counts.npy")
    assert int(counts.sum()) == 511_000
    np.testing.assert_array_equal(soft, counts / counts.sum(axis=1, keepdims=True))


def test_corrected_labels_by_a_plain_loop(files: Path) -> None:
    expected, outcomes = ORIGINAL.tolist(), Counter[str]()
    for suspect in json.loads((files / VOTES_FILE).read_bytes()):
        votes = suspect["mturk"]
        winners = [answer for answer, n in votes.items() if n >= 3]
        outcomes[winners[0] if winners else "none"] += 1
        if winners == ["guessed"]:
            expected[suspect["id"]] = suspect["our_guessed_label"]
        if winners == ["neither"]:
            expected[suspect["id"]] = -1
    assert outcomes == {"given": 221, "guessed": 18, "neither": 4, "none": 32}
    corrected = load_test_labels("corrected", order="torchvision")
    assert corrected.dtype == np.int64
    assert corrected.tolist() == expected
    assert int((corrected != ORIGINAL).sum()) == 22
    assert int((corrected == NO_CLASS).sum()) == 4


@pytest.mark.parametrize("kind", TEST_LABEL_KINDS)
def test_orders_hold_the_same_labels(kind: Any, files: Path) -> None:
    official = load_test_labels(kind, order="torchvision")
    published = load_test_labels(kind)
    np.testing.assert_array_equal(published, official[torchvision_index_of(ORIGINAL)])
    if kind == "original":
        assert (np.diff(published) >= 0).all()
    else:
        assert (published != official).any()
    published[:] = 0  # the caller's own
    assert load_test_labels(kind).any()


def test_the_original_labels_need_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR_NOISY_OFFLINE", "1")
    assert len(load_test_labels("original")) == 10_000


@pytest.mark.parametrize("kind", ["soft", "corrected"])
def test_files_that_are_unavailable(
    kind: Any, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIFAR_NOISY_MIRRORS", "")
    monkeypatch.setenv("CIFAR_NOISY_OFFLINE", "1")
    with pytest.raises(UnavailableError):
        load_test_labels(kind)


@pytest.mark.parametrize("kind", ["orig", "", None, 3, ["soft"]])
def test_kinds_that_are_unknown(kind: Any) -> None:
    with pytest.raises(UnknownArtifactError, match="there are original, soft, corrected"):
        load_test_labels(kind)


@pytest.mark.parametrize("kind", TEST_LABEL_KINDS)
def test_orders_that_are_unknown(kind: Any) -> None:
    with pytest.raises(UnknownArtifactError, match="order 'official' is unknown"):
        load_test_labels(kind, order="official")  # type: ignore[call-overload]


def votes(**changes: Any) -> bytes:
    return json.dumps([SUSPECT | changes]).encode()


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ((3, 0, 1, 1), int(ORIGINAL[7])),
        ((0, 3, 1, 1), 9),
        ((0, 0, 3, 2), NO_CLASS),
        ((1, 1, 0, 3), int(ORIGINAL[7])),  # both are in the image
        ((2, 2, 1, 0), int(ORIGINAL[7])),
        ((0, 2, 2, 1), int(ORIGINAL[7])),
    ],
)
def test_majorities(answers: tuple[int, ...], expected: int) -> None:
    said = dict(zip(("given", "guessed", "neither", "both"), answers, strict=True))
    corrected = decode_corrected(votes(mturk=said), ORIGINAL)
    assert corrected[7] == expected
    assert (np.delete(corrected, 7) == np.delete(ORIGINAL, 7)).all()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"<html>",
        b"3",
        b"[3]",
        b"null",
        b"[" * 100_000,
        b"[" + b"9" * 10_000 + b"]",
        b" " * ((1 << 20) + 1),
        json.dumps([{}]).encode(),
        json.dumps([SUSPECT, SUSPECT]).encode(),
        votes(id=-1),
        votes(id=10_000),
        votes(id=True),
        votes(id=7.0),
        votes(id="7"),
        votes(id=10**30),
        votes(given_original_label=(int(ORIGINAL[7]) + 1) % 10),
        votes(our_guessed_label=10),
        votes(our_guessed_label=None),
        votes(mturk=None),
        votes(mturk=[1, 3, 1, 0]),
        votes(mturk={"given": 5}),
        votes(mturk={"given": 5, "guessed": 5, "neither": 0, "both": 0}),
        votes(mturk={"given": 6, "guessed": -1, "neither": 0, "both": 0}),
        votes(mturk={"given": 2.5, "guessed": 2.5, "neither": 0, "both": 0}),
    ],
)
def test_votes_that_are_none(content: bytes) -> None:
    before = ORIGINAL.copy()
    with pytest.raises(UnavailableError, match=f"{VOTES_FILE} does not have people's votes"):
        decode_corrected(content, ORIGINAL)
    assert (before == ORIGINAL).all()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        npy_bytes(np.zeros((10_000, 10))).replace(b"<f8", b"|O8"),
        npy_bytes(np.zeros((10_000, 10)))[:-1],
        npy_bytes(np.zeros((10_000, 10), np.float32)),
        npy_bytes(np.zeros((10, 10_000))),
        npy_bytes(np.zeros(10)),
    ],
)
def test_shares_that_are_none(content: bytes) -> None:
    with pytest.raises(UnavailableError, match=SOFT_FILE):
        decode_soft(bytearray(content), by_path()[SOFT_FILE])


def test_damaged_votes_give_labels_or_an_error(files: Path) -> None:
    content, rng = (files / VOTES_FILE).read_bytes(), np.random.default_rng(0)
    n_errors = 0
    for _ in range(200):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 3):
            damaged[place] = rng.integers(256)
        try:
            corrected = decode_corrected(damaged[: rng.integers(1, 2 * len(content))], ORIGINAL)
        except UnavailableError:
            n_errors += 1
        else:
            assert set(corrected.tolist()) <= set(range(-1, 10))
    assert n_errors > 100
