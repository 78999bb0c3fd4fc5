"""What was published: one record per file, from the generated table.

The table lies in ``registry/``: ``artifacts.csv`` has a row for each file of upstream's pinned
revision, for each file of other repositories that label sets and test labels are read from, and for
CIFAR-10's official image archive; ``registry.txt`` has their checksums in pooch's format.
``scripts/build_registry.py`` writes both.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, get_args

from cifar_noisy.errors import InvalidInputError, UnknownArtifactError
from cifar_noisy.records import Records
from cifar_noisy.rendering import Cell, html_facts
from cifar_noisy.settings import (
    EDITIONS,
    METHODS,
    OTHER_METHODS,
    SETTINGS,
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

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

GITHUB = "https://github.com/"

REPOSITORY = "cgnorthcutt/confidentlearning-reproduce"
"""Upstream's GitHub repository."""

REVISION = "2f3155636663eb0813363dc06cd822aae6526c34"
"""The commit of upstream whose files the registry pins."""

Kind = Literal[
    "pyx", "train_mask", "noisy_labels", "noise_matrix", "training_log", "test_labels", "images"
]
KINDS: tuple[Kind, ...] = get_args(Kind)
_ONLY_BY_NAME = ("test_labels", "images")


class Named(Protocol):
    """Given labels that have a name, as a `Setting` and a `LabelSet` do."""

    @property
    def name(self) -> str:
        """The name of a label set."""


@dataclass(frozen=True)
class Artifact:
    """One published file.

    Attributes
    ----------
    path : str
        Path in the cache and in bundles: that in upstream's repository, or for another repository's
        file ``<owner>/<repository>/<path in it>``.
    sha256, size : str, int
        Hex digest and bytes of the file.
    kind : str
        One of ``KINDS``.
    repository : str
        Where it comes from: the address of a repository or a home page.
    revision : str or None
        The commit of the repository; None where there is none.
    licence : str
        What its publishers state.
    source_path : str
        Path in mirrors, which are laid out like the place that the file comes from.
    urls : tuple of str
        Public addresses of this one file; empty for those of repositories on the public hosts.
    noise, sparsity : float or None
        The noise setting of the paper that the file belongs to; None for other files.
    method : str or None
        Of masks and logs: the method that chose the examples, or that was trained.
    edition : str or None
        Of masks: "2019" or "2021".
    trainer : str or None
        Of logs of trainings on kept examples: "resnet50" or "coteaching".
    is_stray : bool
        True for a log that lies beside a setting's own and that no table of the paper uses.
    shape, dtype, array_sha256 : tuple of int, str, str; or None
        Of the decoded array, its digest in C order and little-endian; None for logs and images.
    label_sets : tuple of str
        Of other repositories' labels and probabilities: the label sets that they belong to.
    model : str or None
        Of other repositories' probabilities: the network that was trained.
    """

    path: str
    sha256: str
    size: int
    kind: Kind
    repository: str
    revision: str | None
    licence: str
    source_path: str
    urls: tuple[str, ...] = ()
    noise: float | None = None
    sparsity: float | None = None
    method: Method | OtherMethod | None = None
    edition: Edition | None = None
    trainer: Trainer | None = None
    is_stray: bool = False
    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    array_sha256: str | None = None
    label_sets: tuple[str, ...] = ()
    model: str | None = None

    def __str__(self) -> str:
        labels = " ".join(self.label_sets) if self.noise is None else str(self.setting)
        parts = [self.kind, labels, self.method, self.edition, self.trainer, self.model]
        return ", ".join(part for part in parts if part)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r}, {self.size:,} bytes, {self.path!r})"

    def as_dict(self) -> dict[str, Any]:
        """Return all attributes, for a data frame or JSON."""
        return dataclasses.asdict(self)

    def shown(self) -> dict[str, Cell]:
        """Return what people look at, by name."""
        return {
            "file": str(self),
            "bytes": self.size,
            "array": f"{self.dtype} {self.shape}" if self.shape else None,
            "path": self.path,
        }

    def _repr_html_(self) -> str:
        origin = {"from": self.repository, "revision": self.revision, "licence": self.licence}
        return html_facts(self.shown() | origin | {"sha256": self.sha256})

    @property
    def repository_name(self) -> str:
        """Owner and name of the GitHub repository; empty for a file from elsewhere."""
        is_on_github = self.repository.startswith(GITHUB)
        return self.repository.removeprefix(GITHUB) if is_on_github else ""

    @property
    def repository_path(self) -> str:
        """Path of the file in its repository."""
        return self.source_path.removeprefix(f"{self.repository_name}/")

    @functools.cached_property
    def setting(self) -> Setting:
        """The paper's noise setting that the file belongs to; an error where there is none."""
        if self.noise is None or self.sparsity is None:
            raise UnknownArtifactError(f"{self.path} belongs to no noise setting")
        return Setting(self.noise, self.sparsity)


def registry_folder() -> Path:
    """Return the folder of the generated table: in the installed package, else in the checkout."""
    package = Path(__file__).parents[1]
    installed = package / "published"
    return installed if installed.is_dir() else package.parent / "registry"


def array_digest(array: NDArray[np.generic]) -> str:
    """Return the hex sha256 of an array's bytes in C order and little-endian."""
    little_endian = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    return hashlib.sha256(little_endian.data).hexdigest()


def npy_bytes(array: NDArray[np.generic]) -> bytes:
    """Return the bytes of an ``.npy`` file that holds the array, as the published ones do."""
    import numpy as np  # which commands that read no array need not wait for

    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


@functools.cache
def all_artifacts() -> tuple[Artifact, ...]:
    """Return every published file, strays and images included, in the order of the table."""
    with (registry_folder() / "artifacts.csv").open(encoding="utf-8", newline="") as rows:
        return tuple(map(_artifact, csv.DictReader(rows)))


def by_path() -> dict[str, Artifact]:
    """Return every published file by its path in the cache."""
    return {artifact.path: artifact for artifact in all_artifacts()}


def _artifact(row: dict[str, str]) -> Artifact:
    return Artifact(
        path=row["path"],
        sha256=row["sha256"],
        size=int(row["size"]),
        kind=cast(Kind, row["kind"]),
        repository=row["repository"],
        revision=row["revision"] or None,
        licence=row["licence"],
        source_path=row["source_path"] or row["path"],
        urls=tuple(row["urls"].split()),
        noise=float(row["noise"]) if row["noise"] else None,
        sparsity=float(row["sparsity"]) if row["sparsity"] else None,
        method=cast(Method, row["method"]) or None,
        edition=cast(Edition, row["edition"]) or None,
        trainer=cast(Trainer, row["trainer"]) or None,
        is_stray=row["is_stray"] == "yes",
        shape=tuple(int(n) for n in row["shape"].split("x")) if row["shape"] else None,
        dtype=row["dtype"] or None,
        array_sha256=row["array_sha256"] or None,
        label_sets=tuple(row["label_sets"].split()),
        model=row["model"] or None,
    )


def artifacts(
    *,
    kind: Kind | None = None,
    noise: float | str | Named | None = None,
    sparsity: float | None = None,
    method: Method | OtherMethod | None = None,
    edition: Edition | None = None,
    trainer: Trainer | None = None,
    model: str | None = None,
) -> Records[Artifact]:
    """Return the published files that match every filter given, stray logs included.

    Without a filter these are the 340 files of the paper's repository. Files of other repositories
    are among them only where their label set is asked for, test labels and CIFAR-10's image archive
    (170 MB) only where their kind is.

    Parameters
    ----------
    kind : str, optional
        "pyx", "train_mask", "noisy_labels", "noise_matrix", "training_log", "test_labels" or
        "images".
    noise : {0, 0.2, 0.4, 0.7, 0.9}, Setting, LabelSet or str, optional
        Fraction of wrong labels; a Setting stands for both numbers, a text for the label set of
        that name.
    sparsity : {0, 0.2, 0.4, 0.6}, optional
        Fraction of zero off-diagonal noise rates.
    method : str, optional
        One of the five methods of confident learning, or "coteaching", "coteaching_plus", "sceloss"
        for the logs of those.
    edition : {"2019", "2021"}, optional
        Of the train masks.
    trainer : {"resnet50", "coteaching"}, optional
        What was trained on the kept examples, for logs.
    model : str, optional
        Network of a label set's probabilities, such as "resnet18"; see `label_sets`.

    Returns
    -------
    Records of Artifact
        A tuple in the order of the table, empty if nothing published matches; ``.frame`` is a data
        frame with a row for each.

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
    >>> cifar_noisy.artifacts(kind="noisy_labels", noise="cifar10n-worst")[0].licence
    'CC BY-NC 4.0'
    """
    named = None
    if noise is not None and not isinstance(noise, Setting):
        named = noise if isinstance(noise, str) else getattr(noise, "name", None)
    if named is not None:
        noise = _setting_named(named, sparsity)
    if isinstance(noise, Setting):
        setting = Setting.of(noise, sparsity)
        noise, sparsity, named = setting.noise, setting.sparsity, None
    models = tuple(dict.fromkeys(a.model for a in all_artifacts() if a.model))
    choices: dict[str, tuple[str | None, tuple[str, ...]]] = {
        "kind": (kind, KINDS),
        "method": (method, (*METHODS, *OTHER_METHODS)),
        "edition": (edition, EDITIONS),
        "trainer": (trainer, TRAINERS),
        "model": (model, models),
    }
    wanted: dict[str, object] = {
        name: check_choice(value, allowed, name)
        for name, (value, allowed) in choices.items()
        if value is not None
    }
    if noise is not None:
        wanted["noise"] = check_noise(noise)
    if sparsity is not None:
        wanted["sparsity"] = check_sparsity(sparsity)
    return Records(
        artifact
        for artifact in all_artifacts()
        if _is_meant(artifact, kind, named)
        and all(getattr(artifact, name) == value for name, value in wanted.items())
    )


def _setting_named(name: str, sparsity: float | None) -> Setting | None:
    """Return the setting of a label set, None if it has none; its name must be one."""
    if sparsity is not None:
        raise InvalidInputError(
            f"leave sparsity={sparsity!r} out: the label set {name!r} is one by its name alone"
        )
    settings = {setting.name: setting for setting in SETTINGS}
    named = {of for artifact in all_artifacts() for of in artifact.label_sets}
    check_choice(name, (*settings, *sorted(named)), "label set")
    return settings.get(name)


def _is_meant(artifact: Artifact, kind: Kind | None, label_set: str | None) -> bool:
    """Whether filters that name this kind and label set, or none, may mean the artifact."""
    if label_set is not None:
        return label_set in artifact.label_sets
    return artifact.noise is not None or (artifact.kind == kind and kind in _ONLY_BY_NAME)


def require_nonempty(found: Sequence[Artifact]) -> Sequence[Artifact]:
    """Return what filters left; raise `UnknownArtifactError` if that is nothing."""
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
    """Return the one published file of these, or raise `UnknownArtifactError` and say why."""
    wanted = (kind, method, edition, trainer, setting.noise, setting.sparsity, False)
    for a in all_artifacts():
        if (a.kind, a.method, a.edition, a.trainer, a.noise, a.sparsity, a.is_stray) == wanted:
            return a
    what = " ".join(part for part in (kind, method) if part)
    if not setting.has_probabilities:
        raise UnknownArtifactError(
            f"{what} does not exist for {setting}: at noise 0.9 only noisy labels and the noise "
            "matrix were published; use noise 0, 0.2, 0.4 or 0.7"
        )
    if edition == "2019" and setting.noise == 0:
        raise UnknownArtifactError(
            f"{what} of edition 2019 does not exist for noise 0: use edition='2021'"
        )
    raise UnknownArtifactError(
        f"{what} does not exist for {setting}: cifar-noisy list shows what does"
    )
