"""What may be asked for, and what is said of what may not."""

import numpy as np
import pytest

from cifar_noisy import SETTINGS, InvalidInputError, Setting, UnknownArtifactError
from cifar_noisy.settings import METHODS, check_choice


def test_seventeen_settings() -> None:
    assert len(SETTINGS) == len(set(SETTINGS)) == 17
    assert sum(setting.has_probabilities for setting in SETTINGS) == 13


def test_keys_are_the_floats_that_upstream_looped_over() -> None:
    noise_keys, sparsity_keys = np.arange(0, 1, 0.2), np.arange(0, 0.8, 0.2)
    assert {setting.noise_key for setting in SETTINGS} == set(noise_keys.tolist())
    assert {setting.sparsity_key for setting in SETTINGS} == set(sparsity_keys.tolist())
    assert [int(10 * (1 - key)) for key in noise_keys] == [10, 8, 6, 3, 1]


@pytest.mark.parametrize("noise", [0.4, 0.1 + 0.3, np.float32(0.4), np.float64(0.4)])
def test_floats_that_mean_a_setting(noise: float) -> None:
    assert Setting(noise, 0) == Setting(0.4, 0.0)
    assert type(Setting(noise, 0).noise) is float


@pytest.mark.parametrize(
    ("noise", "sparsity", "said"),
    [
        (0.6, 0, "noise 0.6 was not published: .* 0_6 hold 70% noise, so ask for noise=0.7"),
        (0.8, 0, "noise 0.8 was not published: .* 0_8 hold 90% noise, so ask for noise=0.9"),
        (0.3, 0, "noise 0.3 was not published: there are 0, 0.2, 0.4, 0.7, 0.9"),
        (0.4, 0.3, "sparsity 0.3 was not published: there are 0, 0.2, 0.4, 0.6"),
        (0, 0.2, "noise 0 was not published at sparsity 0.2"),
        (float("nan"), 0, "noise nan was not published"),
        ("0.4", 0, "noise '0.4' is not a number"),
        (None, 0, "noise None is not a number"),
        (True, 0, "noise True is not a number"),
        (np.bool_(False), 0, "is not a number"),
        (np.array("0.4"), 0, "is not a number"),
        (np.array([0.4, 0.7]), 0, "is not a number"),
        (np.complex64(0.4), 0, "is not a number"),
        (10**400, 0, "is not a number"),
        (0.4, "0.2", "sparsity '0.2' is not a number"),
    ],
)
def test_what_was_not_published(noise: float, sparsity: float, said: str) -> None:
    with pytest.raises(UnknownArtifactError, match=said):
        Setting(noise, sparsity)


def test_a_setting_and_its_two_numbers_are_the_same() -> None:
    for setting in SETTINGS:
        assert Setting.of(setting) is setting
        assert Setting.of(setting.noise, setting.sparsity) == setting
    assert Setting.of(np.array(0.4), np.float32(0.2)) == Setting(0.4, 0.2)  # type: ignore[arg-type]
    assert Setting.of(0) == Setting(0, 0)


@pytest.mark.parametrize("noise", [0.2, 0.4, 0.7, 0.9, np.float64(0.4), np.array(0.4)])
def test_sparsity_has_no_default(noise: float) -> None:
    with pytest.raises(
        UnknownArtifactError,
        match=r"sparsity is missing: noise=0.\d was published for sparsity= 0, ",
    ):
        Setting.of(noise)


def test_what_names_no_setting() -> None:
    with pytest.raises(UnknownArtifactError, match=r"ask for noise=0\.7"):
        Setting.of(0.6)
    for absent in (False, "", 0.3):
        with pytest.raises(UnknownArtifactError, match="sparsity"):
            Setting.of(0.4, absent)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match=r"leave sparsity=0\.4 out: Setting"):
        Setting.of(Setting(0.4, 0.2), 0.4)
    assert Setting.of(Setting(0.4, 0.2), 0.2) == Setting(0.4, 0.2)


def test_nearest_names_are_given() -> None:
    with pytest.raises(
        UnknownArtifactError, match="method 'cl_pcb' is unknown: did you mean cl_pbc"
    ):
        check_choice("cl_pcb", METHODS, "method")
    with pytest.raises(UnknownArtifactError, match="method 7 is unknown: there are argmax"):
        check_choice(7, METHODS, "method")
