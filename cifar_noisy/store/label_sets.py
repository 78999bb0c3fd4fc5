"""The label sets for CIFAR-10 by name: the paper's settings and what other repositories published.

``registry/label_sets.csv`` has a row for each, written by ``scripts/build_registry.py``: how many
labels are wrong, what made them so, where they come from and who is to be cited. The list in
Python, on the command line and in the documentation is this table.
"""

import csv
import functools
from dataclasses import dataclass
from typing import Any, Literal, cast

from cifar_noisy.records import Records
from cifar_noisy.rendering import Cell, html_facts
from cifar_noisy.settings import SETTINGS, Setting, check_choice
from cifar_noisy.store.registry import all_artifacts, by_path, registry_folder

NoiseKind = Literal["none", "class-dependent", "human", "instance-dependent"]

LABEL_SETS_FILE = "label_sets.csv"


@dataclass(frozen=True)
class LabelSet:
    """Given labels for CIFAR-10's train set that somebody published, by name.

    Attributes
    ----------
    name : str
        Such as "cifar10n-worst"; what functions take as `noise`.
    noise_rate : float
        Share of the labels that differ from CIFAR-10's own, counted.
    noise_kind : {"none", "class-dependent", "human", "instance-dependent"}
        What decides that a label is wrong: nothing, the true class, people, or the image.
    path : str
        File of the registry that has the labels.
    key : str or None
        Name of the labels in a file that has several arrays.
    array_sha256 : str
        Hex digest of the labels, (50000,) int64 little-endian in the published order.
    citation : str
        The publication to cite.
    """

    name: str
    noise_rate: float
    noise_kind: NoiseKind
    path: str
    key: str | None
    array_sha256: str
    citation: str

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        rate, kind = self.noise_rate, self.noise_kind
        return f"{type(self).__name__}({self.name!r}, noise_rate={rate:g}, noise_kind={kind!r})"

    @property
    def setting(self) -> Setting | None:
        """The paper's setting; None for labels of another repository."""
        return next((setting for setting in SETTINGS if setting.name == self.name), None)

    @property
    def repository(self) -> str:
        """Address of the repository that published the labels."""
        return by_path()[self.path].repository

    @property
    def revision(self) -> str | None:
        """Commit of the repository that is served."""
        return by_path()[self.path].revision

    @property
    def licence(self) -> str:
        """What the publishers state."""
        return by_path()[self.path].licence

    @property
    def models(self) -> tuple[str, ...]:
        """Networks whose out-of-sample probabilities of these labels are published."""
        if self.setting:
            return ("resnet50",) if self.setting.has_probabilities else ()
        rows = (a for a in all_artifacts() if a.kind == "pyx" and self.name in a.label_sets)
        return tuple(a.model for a in rows if a.model)

    @property
    def has_probabilities(self) -> bool:
        """Whether out-of-sample probabilities are published."""
        return bool(self.models)

    def as_dict(self) -> dict[str, Any]:
        """Return all that is known of it, for a data frame or JSON."""
        return {
            "name": self.name,
            "noise_rate": self.noise_rate,
            "noise_kind": self.noise_kind,
            "models": list(self.models),
            "repository": self.repository,
            "revision": self.revision,
            "licence": self.licence,
            "citation": self.citation,
        }

    def shown(self) -> dict[str, Cell]:
        """Return what people look at, by name."""
        return {
            "label set": self.name,
            "wrong labels": f"{self.noise_rate:.2%}",
            "kind of noise": self.noise_kind,
            "networks with probabilities": ", ".join(self.models) or None,
            "licence": self.licence,
        }

    def _repr_html_(self) -> str:
        return html_facts(self.shown() | {"from": self.repository, "to cite": self.citation})


@functools.cache
def label_sets() -> Records[LabelSet]:
    """Return all label sets that functions know by name.

    Returns
    -------
    Records of LabelSet
        A tuple, the paper's 17 settings first; ``.frame`` is a data frame with a row for each.

    Examples
    --------
    >>> import cifar_noisy
    >>> for labels in cifar_noisy.label_sets()[17:20]:
    ...     print(labels.name, labels.noise_rate, labels.noise_kind)
    cifar10n-aggregate 0.0901 human
    cifar10n-random1 0.17234 human
    cifar10n-random2 0.18122 human
    """
    with (registry_folder() / LABEL_SETS_FILE).open(encoding="utf-8", newline="") as rows:
        return Records(
            LabelSet(
                row["name"],
                float(row["noise_rate"]),
                cast(NoiseKind, row["noise_kind"]),
                row["path"],
                row["key"] or None,
                row["array_sha256"],
                row["citation"],
            )
            for row in csv.DictReader(rows)
        )


def find_label_set(name: str) -> LabelSet:
    """Return the label set of a name, or raise `UnknownArtifactError` with the nearest ones."""
    by_name = {labels.name: labels for labels in label_sets()}
    return by_name[check_choice(name, tuple(by_name), "label set")]
