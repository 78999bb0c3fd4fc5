"""Noise models: bits of the repositories' own code, plain loops, matrices and rubbish."""

import json
import random
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from cifar_noisy import (
    NOISE_MODELS,
    InvalidInputError,
    UnknownArtifactError,
    generate_labels,
    load_noisy_labels,
    load_true_labels,
    noise_model_matrix,
)
from cifar_noisy.loading.noise_models import LOOKALIKES, NoiseModel
from cifar_noisy.loading.row_order import published_torchvision_index
from cifar_noisy.settings import SETTINGS, Setting
from cifar_noisy.store.registry import array_digest

# Of labels in torchvision's order. All but the last were equal, label for label, to what the code
# of DivideMix (d9d3058), Co-teaching (7c7fbe2) and ELR (934af53, over all 50,000 images) drew from
# these seeds.
DIGESTS: dict[tuple[NoiseModel, float, int], str] = {
    ("symmetric", 0.5, 123): "31286055930a58bad5a930eeb2067cc11205b9d88d2b9dbcd3b4fe10b38dcdd0",
    ("asymmetric", 0.4, 123): "443e43d5e49dc4549e59e82747fa90462c70e5b0483ee62fc903c205260da483",
    ("symmetric-exclusive", 0.5, 0): (
        "2daa96c18b2822aa9434ce50c7e8776674c49144bce80ccdae95366159f9f253"
    ),
    ("pairflip", 0.45, 0): "48b874cf1291e30c6929fde4a7b599dcc9d34cdc267423347c60aee38b1f2e57",
    ("elr-asymmetric", 0.4, 7): "86aff26b77eee455e0c2fc24e8bbac4d1e03f288be7e469effeb9a4f9765266b",
    ("confident-learning", 0.35, 5): (
        "859fd5c659e5f597febbffc027b7f1676af1be299c359f823f000e42037bb8f0"
    ),
}
NOISY = [setting for setting in SETTINGS if setting.noise]


def sparsity_of(model: NoiseModel, sparsity: float = 0.3) -> float | None:
    return sparsity if model == "confident-learning" else None


def counted_matrix(
    given: NDArray[np.int64], true: NDArray[np.int64], n_classes: int = 10
) -> NDArray[np.float64]:
    counts = np.zeros((n_classes, n_classes))
    np.add.at(counts, (given, true), 1)
    shares: NDArray[np.float64] = counts / counts.sum(axis=0)
    return shares


@pytest.mark.parametrize(("model", "rate", "seed"), DIGESTS)
def test_bits_are_pinned(model: NoiseModel, rate: float, seed: int) -> None:
    made = generate_labels(model, rate, seed=seed, order="torchvision", sparsity=sparsity_of(model))
    assert made.labels.dtype == np.int64
    assert array_digest(made.labels) == DIGESTS[model, rate, seed]


def test_every_model_is_pinned() -> None:
    assert {model for model, *_ in DIGESTS} == set(NOISE_MODELS)


@pytest.mark.parametrize("setting", NOISY, ids=str)
def test_confident_learning_gives_the_published_labels(setting: Setting) -> None:
    made = generate_labels("confident-learning", setting.noise, sparsity=setting.sparsity, seed=0)
    np.testing.assert_array_equal(made.labels, load_noisy_labels(setting))


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("model", NOISE_MODELS)
def test_counted_labels_follow_the_matrix(model: NoiseModel, rate: float) -> None:
    sparsity = sparsity_of(model)
    expected = noise_model_matrix(model, rate, seed=3, sparsity=sparsity)
    np.testing.assert_allclose(expected.sum(axis=0), 1)
    assert (expected >= 0).all()
    made = generate_labels(model, rate, seed=3, sparsity=sparsity)
    counted = counted_matrix(made.labels, load_true_labels())
    deviation = np.sqrt(expected * (1 - expected) / 5_000)
    cut = 9 / 5_000  # at most one label for each of the nine others
    assert (np.abs(counted - expected) <= 5 * deviation + cut).all()
    assert made.asked == rate
    assert made.got == pytest.approx(1 - counted.diagonal().mean())
    assert made.got_by_class == pytest.approx(tuple(1 - counted.diagonal()))
    never = (expected == 0) & ~np.eye(10, dtype=np.bool_)
    assert not counted[never].any()


@pytest.mark.parametrize("model", NOISE_MODELS)
def test_order_moves_the_same_labels(model: NoiseModel) -> None:
    made, official = (
        generate_labels(model, 0.4, seed=1, order=order, sparsity=sparsity_of(model))
        for order in ("imagefolder", "torchvision")
    )
    np.testing.assert_array_equal(made.labels, official.labels[published_torchvision_index()])
    assert made == official
    again = generate_labels(model, 0.4, seed=1, sparsity=sparsity_of(model))
    np.testing.assert_array_equal(made.labels, again.labels)
    other = generate_labels(model, 0.4, seed=2, sparsity=sparsity_of(model))
    assert (made.labels != other.labels).any()


def plain_labels(model: NoiseModel, rate: float, true: list[int], seed: int) -> list[int]:
    """Draw labels one example at a time, as each repository describes its noise."""
    n, n_classes, noisy = len(true), max(true) + 1, list(true)
    rng, numpy_rng = random.Random(seed), np.random.RandomState(seed)
    if model in ("symmetric", "asymmetric"):
        shuffled = list(range(n))
        rng.shuffle(shuffled)
        chosen = set(shuffled[: int(rate * n)])
        for i in range(n):
            if i in chosen and model == "symmetric":
                noisy[i] = rng.randrange(n_classes)
            elif i in chosen:
                noisy[i] = LOOKALIKES.get(true[i], true[i])
    elif model == "elr-asymmetric":
        for k in range(n_classes):
            members = np.array([i for i in range(n) if noisy[i] == k], dtype=np.int64)
            numpy_rng.shuffle(members)
            for place, i in enumerate(members):
                if place < rate * len(members) and k in LOOKALIKES:
                    noisy[i] = LOOKALIKES[k]
    else:
        for i in range(n):
            chances = [rate / (n_classes - 1)] * n_classes
            if model == "pairflip":
                chances = [0.0] * n_classes
                chances[(true[i] + 1) % n_classes] = rate
            chances[true[i]] = 1 - rate
            noisy[i], left = n_classes - 1, 1.0
            for k in range(n_classes - 1):
                chance = chances[k] / left if chances[k] else 0.0
                left -= chances[k]
                # As numpy's binomial: the rarer of the two outcomes where the number is high.
                if chance and (numpy_rng.rand() > max(chance, 1 - chance)) == (chance <= 0.5):
                    noisy[i] = k
                    break
    return noisy


@pytest.mark.parametrize("rate", [0.1, 0.45])
@pytest.mark.parametrize("model", [m for m in NOISE_MODELS if m != "confident-learning"])
def test_equals_the_plain_loop(model: NoiseModel, rate: float) -> None:
    true = np.random.RandomState(4).randint(0, 10, 700)
    made = generate_labels(model, rate, seed=11, labels=true)
    assert made.labels.tolist() == plain_labels(model, rate, true.tolist(), seed=11)


@pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) >= "2.5.0",
    reason="RandomState.multinomial of numpy 2.5 draws for probabilities of 0 too",
)
@pytest.mark.parametrize("model", ["symmetric-exclusive", "pairflip"])
@pytest.mark.parametrize("rate", [0.01, 0.2, 0.45, 0.5, 0.6, 0.95, 1.0])
def test_draws_are_those_of_numpys_multinomial(model: NoiseModel, rate: float) -> None:
    made = generate_labels(model, rate, seed=5)
    official = generate_labels(model, rate, seed=5, order="torchvision")
    true = load_true_labels(order="torchvision")
    rows, rng = noise_model_matrix(model, rate).T, np.random.RandomState(5)
    expected = [rng.multinomial(1, rows[k]).argmax() for k in true]
    np.testing.assert_array_equal(official.labels, expected)
    assert made == official


@pytest.mark.parametrize("n_classes", [2, 3, 7, 100])
@pytest.mark.parametrize("sparsity", [0.0, 0.4])
def test_confident_learning_draws_as_cleanlab_does(n_classes: int, sparsity: float) -> None:
    from cleanlab.benchmarking import noise_generation

    if sparsity > (n_classes - 2) / (n_classes - 1):
        pytest.skip("there is no such matrix")
    true = np.random.RandomState(4).permutation(np.arange(3_000) % n_classes)
    made = generate_labels("confident-learning", 0.35, seed=6, sparsity=sparsity, labels=true)
    matrix = noise_generation.generate_noise_matrix_from_trace(
        K=n_classes, trace=0.65 * n_classes, valid_noise_matrix=False,
        frac_zero_noise_rates=sparsity, seed=6,
    )  # fmt: skip
    np.random.seed(6)
    theirs = noise_generation.generate_noisy_labels(true, matrix)
    assert (made.labels == theirs).mean() > 0.999  # a trace's last bit may move a count by one
    assert made.got == pytest.approx(0.35, abs=n_classes**2 / 3_000)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("sparsity", [0.0, 8 / 9])
@pytest.mark.parametrize("rate", [1e-6, 0.01, 0.5, 0.99, 1.0])
def test_every_drawn_matrix_is_one(rate: float, sparsity: float, seed: int) -> None:
    matrix = noise_model_matrix("confident-learning", rate, seed=seed, sparsity=sparsity)
    np.testing.assert_allclose(matrix.sum(axis=0), 1, atol=1e-5)
    assert matrix.min() >= 0
    assert matrix.trace() == pytest.approx(10 * (1 - rate), abs=1e-4)
    assert (matrix == 0).sum() >= round(90 * sparsity)


@pytest.mark.parametrize("model", NOISE_MODELS)
def test_labels_of_another_dataset(model: NoiseModel) -> None:
    true = np.arange(1_000, dtype=np.uint8) % 5
    before = true.copy()
    options: dict[str, Any] = {"seed": 0, "sparsity": sparsity_of(model)}
    made = generate_labels(model, 0.4, labels=true, **options)
    assert (true == before).all()
    assert made.labels.dtype == np.int64
    assert made.got == (made.labels != true).mean()
    if model not in ("asymmetric", "elr-asymmetric"):
        assert made.labels.max() < 5 == len(made.got_by_class)
    listed = generate_labels(model, 0.4, labels=true.tolist(), **options)
    np.testing.assert_array_equal(listed.labels, made.labels)
    series = pd.Series(true).sample(frac=1, random_state=0)
    np.testing.assert_array_equal(
        generate_labels(model, 0.4, labels=series, **options).labels, made.labels
    )


def test_a_class_without_examples_has_no_rate() -> None:
    made = generate_labels("symmetric", 0.5, seed=0, labels=[0, 2, 2, 0])
    assert made.got_by_class[1] is None
    assert json.loads(json.dumps(made.as_dict()))["got_by_class"] == list(made.got_by_class)


@pytest.mark.parametrize("model", NOISE_MODELS)
def test_without_noise_nothing_changes(model: NoiseModel) -> None:
    made = generate_labels(model, 0, seed=0)
    np.testing.assert_array_equal(made.labels, load_true_labels())
    assert made.got == 0
    assert (noise_model_matrix(model, 0, seed=0) == np.eye(10)).all()


def test_the_caller_keeps_his_random_states() -> None:
    np.random.seed(1)
    random.seed(1)
    expected = np.random.random(), random.random()
    np.random.seed(1)
    random.seed(1)
    for model in NOISE_MODELS:
        generate_labels(model, 0.4, seed=0, sparsity=sparsity_of(model))
    assert (np.random.random(), random.random()) == expected


@pytest.mark.parametrize("rate", [-0.1, 1.1, np.nan, np.inf, "0.4", True, np.True_, None, [0.4]])
def test_rates_that_are_none(rate: Any) -> None:
    with pytest.raises(InvalidInputError, match="pass a number from 0 to 1"):
        generate_labels("symmetric", rate, seed=0)
    with pytest.raises(InvalidInputError, match="pass a number from 0 to 1"):
        noise_model_matrix("symmetric", rate)


@pytest.mark.parametrize("seed", [-1, 2**32, 10**30, 1.0, np.nan, "1", True, None, [1]])
def test_seeds_that_are_none(seed: Any) -> None:
    with pytest.raises(InvalidInputError, match="pass a whole number from 0"):
        generate_labels("symmetric", 0.4, seed=seed)
    with pytest.raises(InvalidInputError, match="pass a whole number from 0"):
        noise_model_matrix("confident-learning", 0.4, seed=seed, sparsity=0)


def test_numbers_of_numpy_are_numbers() -> None:
    made = generate_labels("pairflip", np.float32(0.5), seed=np.uint32(2**32 - 1))  # type: ignore[arg-type]
    assert (type(made.asked), type(made.seed)) == (float, int)


@pytest.mark.parametrize("model", ["asym", "Symmetric", "", None, 3, ["symmetric"]])
def test_models_that_are_unknown(model: Any) -> None:
    for call in (generate_labels, noise_model_matrix):
        with pytest.raises(UnknownArtifactError, match="there are symmetric, "):
            call(model, 0.4, seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "symmetric", "sparsity": 0.2}, "leave sparsity=0.2 out"),
        ({"model": "symmetric", "sparsity": 0}, "leave sparsity=0 out"),
        ({"sparsity": None}, "sparsity is missing"),
        ({"sparsity": 0.9}, "pass at most 0.8889 for 10 classes"),
        ({"sparsity": 0.2, "labels": [0, 1]}, "pass at most 0.0000 for 2 classes"),
        ({"sparsity": -0.2}, "sparsity -0.2 is no fraction"),
        ({"sparsity": "0.2"}, "sparsity '0.2' is no fraction"),
        ({"sparsity": np.nan}, "sparsity nan is no fraction"),
        ({"rate": 0, "sparsity": 0.2}, "pass sparsity=0"),
        ({"model": "pairflip", "labels": [0, 1], "order": "torchvision"}, "leave order="),
        ({"model": "pairflip", "labels": []}, "one example at least"),
        ({"model": "pairflip", "labels": [0.0, 1.0]}, "pass a whole number per example"),
        ({"model": "pairflip", "labels": [[0, 1]]}, "pass a whole number per example"),
        ({"model": "pairflip", "labels": ["cat"]}, "pass a whole number per example"),
        ({"model": "pairflip", "labels": [True, False]}, "pass a whole number per example"),
        ({"model": "pairflip", "labels": {0, 1}}, "has no order"),
        ({"model": "pairflip", "labels": [0, -1, 1]}, "labels lie between -1 and 1"),
        ({"model": "pairflip", "labels": [0, 0]}, "K from 2 to 1,000"),
        ({"model": "pairflip", "labels": [0, 2**62]}, "K from 2 to 1,000"),
        ({"model": "asymmetric", "labels": [0, 10]}, "K from 2 to 10"),
    ],
)
def test_what_makes_no_sense_together(options: dict[str, Any], message: str) -> None:
    defaults: dict[str, Any] = {"model": "confident-learning", "rate": 0.4, "seed": 0}
    with pytest.raises(InvalidInputError, match=message):
        generate_labels(**(defaults | options))


def test_order_is_checked() -> None:
    with pytest.raises(UnknownArtifactError, match="order 'official' is unknown"):
        generate_labels("symmetric", 0.4, seed=0, order="official")  # type: ignore[arg-type]
