"""What was published: one record per file of upstream's pinned revision, from the generated table.

The table lies in ``registry/``: ``registry.txt`` (path and sha256, in pooch's format) and
``artifacts.csv`` (all else, of the same files line by line). ``scripts/build_registry.py`` writes
both.
"""

import csv
import functools
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.errors import UnknownArtifactError
from cifar_noisy.settings import (
    EDITIONS,
    METHODS,
    OTHER_METHODS,
    TRAINERS,
    Edition,
    Method,
    OtherMethod,
    Setting,
    Trainer,
    check_choice,
    check_noise,
    check_sparsity,
)

REPOSITORY = "cgnorthcutt/confidentlearning-reproduce"
"""Upstream's GitHub repository."""

REVISION = "2f3155636663eb0813363dc06cd822aae6526c34"
"""The commit of upstream whose files the registry pins."""

Kind = Literal["pyx", "train_mask", "noisy_labels", "noise_matrix", "training_log"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Artifact:
    """One published file.

    Attributes
    ----------
    path : str
        Path in upstream's repository, in the cache and in any mirror.
    sha256 : str
        Hex digest of the file.
    size : int
        Bytes of the file.
    kind : str
        One of ``KINDS``.
    setting : Setting
        The noise setting that the file belongs to.
    method : str or None
        For masks and logs: the method whose kept examples these are (or were trained on), or, for
        the logs of other methods, that method.
    edition : str or None
        "2019" or "2021", for masks.
    trainer : str or None
        "resnet50" or "coteaching", for logs of trainings on kept examples.
    is_stray : bool
        True for a log that lies beside a setting's own and that no table of the paper uses.
    shape : tuple of int or None
        Of the decoded array; None for logs.
    dtype : str or None
        Of the decoded array; None for logs.
    array_sha256 : str or None
        Hex digest of the decoded array's bytes (C order, little-endian); None for logs.
    """

    path: str
    sha256: str
    size: int
    kind: Kind
    setting: Setting
    method: Method | OtherMethod | None = None
    edition: Edition | None = None
    trainer: Trainer | None = None
    is_stray: bool = False
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    array_sha256: str | None = None

    def __str__(self) -> str:
        parts = [self.kind, str(self.setting), self.method, self.edition, self.trainer]
        return ", ".join(part for part in parts if part)


def registry_folder() -> Path:
    """Return the folder of the generated table: in the installed package, else in the checkout."""
    package = Path(__file__).parents[1]
    installed = package / "published"
    return installed if installed.is_dir() else package.parent / "registry"


def array_digest(array: NDArray[np.generic]) -> str:
    """Return the hex sha256 of an array's bytes in C order and little-endian.

    Examples
    --------
    >>> array_digest(np.zeros(2, np.uint8))[:16]
    '96a296d224f285c6'
    """
    little_endian = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    return hashlib.sha256(little_endian.data).hexdigest()


def npy_bytes(array: NDArray[np.generic]) -> bytes:
    """Return the bytes of an ``.npy`` file that holds the array, as the published ones do.

    Examples
    --------
    >>> len(npy_bytes(np.zeros(50_000, dtype=np.bool_)))
    50128
    """
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


@functools.cache
def all_artifacts() -> tuple[Artifact, ...]:
    """Return every published file, strays included, in the order of the table."""
    folder = registry_folder()
    with (folder / "registry.txt").open(encoding="utf-8") as lines:
        checksums = [line.split()[-1] for line in lines]
    with (folder / "artifacts.csv").open(encoding="utf-8", newline="") as rows:
        return tuple(
            _artifact(row, sha256)
            for row, sha256 in zip(csv.DictReader(rows), checksums, strict=True)
        )


def _artifact(row: dict[str, str], sha256: str) -> Artifact:
    return Artifact(
        path=row["path"],
        sha256=sha256,
        size=int(row["size"]),
        kind=cast(Kind, row["kind"]),
        setting=Setting(float(row["noise"]), float(row["sparsity"])),
        method=cast(Method, row["method"]) or None,
        edition=cast(Edition, row["edition"]) or None,
        trainer=cast(Trainer, row["trainer"]) or None,
        is_stray=row["is_stray"] == "yes",
        shape=tuple(int(n) for n in row["shape"].split("x")) if row["shape"] else None,
        dtype=row["dtype"] or None,
        array_sha256=row["array_sha256"] or None,
    )


def artifacts(
    *,
    kind: Kind | None = None,
    noise: float | Setting | None = None,
    sparsity: float | None = None,
    method: Method | OtherMethod | None = None,
    edition: Edition | None = None,
    trainer: Trainer | None = None,
) -> tuple[Artifact, ...]:
    """Return the published files that match every filter given, stray logs included.

    Parameters
    ----------
    kind : {"pyx", "train_mask", "noisy_labels", "noise_matrix", "training_log"}, optional
    noise : {0, 0.2, 0.4, 0.7, 0.9} or Setting, optional
        Fraction of wrong labels; a Setting stands for both numbers.
    sparsity : {0, 0.2, 0.4, 0.6}, optional
        Fraction of zero off-diagonal noise rates.
    method : str, optional
        One of the five methods of confident learning, or "coteaching", "coteaching_plus", "sceloss"
        for the logs of those.
    edition : {"2019", "2021"}, optional
        Of the train masks.
    trainer : {"resnet50", "coteaching"}, optional
        What was trained on the kept examples, for logs.

    Returns
    -------
    tuple of Artifact
        In the order of the table; empty if nothing published matches.

    Raises
    ------
    UnknownArtifactError
        If a filter names something that was never published.

    Examples
    --------
    >>> import cifar_noisy
    >>> len(cifar_noisy.artifacts(kind="train_mask", edition="2019"))
    60
    >>> cifar_noisy.artifacts(kind="pyx", noise=0.4, sparsity=0.2)[0].size
    1000128
    """
    if isinstance(noise, Setting):
        setting = Setting.of(noise, sparsity)
        noise, sparsity = setting.noise, setting.sparsity
    wanted = {
        "kind": _checked(kind, KINDS, "kind"),
        "method": _checked(method, (*METHODS, *OTHER_METHODS), "method"),
        "edition": _checked(edition, EDITIONS, "edition"),
        "trainer": _checked(trainer, TRAINERS, "trainer"),
        "noise": None if noise is None else check_noise(noise),
        "sparsity": None if sparsity is None else check_sparsity(sparsity),
    }
    wanted = {name: value for name, value in wanted.items() if value is not None}
    return tuple(
        artifact for artifact in all_artifacts() if wanted.items() <= _facets(artifact).items()
    )


def at_least_one(found: Sequence[Artifact]) -> Sequence[Artifact]:
    """Return what filters left, unless that is nothing.

    Raises
    ------
    UnknownArtifactError
        If it is nothing.
    """
    if not found:
        raise UnknownArtifactError("nothing published matches all filters: leave one of them out")
    return found


def find(
    kind: Kind,
    setting: Setting,
    method: Method | OtherMethod | None = None,
    *,
    edition: Edition | None = None,
    trainer: Trainer | None = None,
) -> Artifact:
    """Return the one published file of a kind, setting, method, edition and trainer.

    Raises
    ------
    UnknownArtifactError
        If it was not published.

    Examples
    --------
    >>> find("train_mask", Setting(0.4, 0.2), "cl_pbc", edition="2019").size
    50128
    """
    found = _index().get((kind, setting, method, edition, trainer))
    if found is None:
        raise UnknownArtifactError(_why_not_published(kind, setting, method, edition))
    return found


def _checked(value: str | None, choices: tuple[str, ...], what: str) -> str | None:
    return None if value is None else check_choice(value, choices, what)


def _facets(artifact: Artifact) -> dict[str, object]:
    return {
        "kind": artifact.kind,
        "method": artifact.method,
        "edition": artifact.edition,
        "trainer": artifact.trainer,
        "noise": artifact.setting.noise,
        "sparsity": artifact.setting.sparsity,
    }


@functools.cache
def _index() -> dict[tuple[object, ...], Artifact]:
    return {
        (a.kind, a.setting, a.method, a.edition, a.trainer): a
        for a in all_artifacts()
        if not a.is_stray
    }


def _why_not_published(
    kind: Kind, setting: Setting, method: str | None, edition: Edition | None
) -> str:
    what = " ".join(part for part in (kind, method) if part)
    if not setting.has_probabilities:
        return (
            f"{what} does not exist for {setting}: at noise 0.9 only noisy labels and the noise "
            "matrix were published; use noise 0, 0.2, 0.4 or 0.7"
        )
    if edition == "2019" and setting.noise == 0:
        return f"{what} of edition 2019 does not exist for noise 0: use edition='2021'"
    return f"{what} does not exist for {setting}: cifar-noisy list shows what does"
