"""The cases of a benchmark: given labels, beside the probabilities of one network."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from cifar_noisy.errors import InvalidInputError, UnavailableError, UnknownArtifactError
from cifar_noisy.evaluation.metrics import GroundTruth
from cifar_noisy.loading.artifact_loading import published_pyx
from cifar_noisy.loading.given_labels import BY_NUMBER, pyx_artifact
from cifar_noisy.settings import Setting, check_choice
from cifar_noisy.store.artifact_store import Store
from cifar_noisy.store.label_sets import LabelSet, label_sets
from cifar_noisy.store.registry import Artifact, by_path, find

Over = str | Setting | LabelSet | Iterable[str | Setting | LabelSet]
"""What a benchmark takes as `over`."""


@dataclass(frozen=True)
class Case:
    """Given labels of a label set, and the network whose probabilities stand beside them."""

    labels: LabelSet
    model: str

    @property
    def name(self) -> str:
        """Such as noise0.4-sparsity0.2, of which there is one network, or cifar10s-resnet18."""
        return self.labels.name if self.labels.setting else f"{self.labels.name}-{self.model}"

    @property
    def source(self) -> Setting | LabelSet:
        """Where the labels are from, as loaders take it."""
        return self.labels.setting or self.labels

    @property
    def files(self) -> list[Artifact]:
        """The published files that it needs; many labels ship with the package."""
        if isinstance(self.source, Setting):
            return [find("pyx", self.source)]
        labels = [] if self.labels.name == BY_NUMBER else [by_path()[self.labels.path]]
        return [*labels, pyx_artifact(self.labels, self.model)]

    def load(self) -> tuple[GroundTruth, NDArray[Any]]:
        """Return labels and probabilities, in the published order."""
        return GroundTruth.of(self.source), published_pyx(self.source, model=self.model)

    def identity(self) -> dict[str, Any]:
        """Return what a row of the table says of it."""
        return {
            "case": self.name,
            "labels": self.labels.name,
            "model": self.model,
            "noise_kind": self.labels.noise_kind,
            "noise_rate": self.labels.noise_rate,
        }


@functools.cache
def all_cases() -> tuple[Case, ...]:
    """Return every case that there is, in the order of `label_sets`."""
    return tuple(Case(labels, model) for labels in label_sets() for model in labels.models)


@functools.cache
def _cases_by_name() -> dict[str, tuple[Case, ...]]:
    """Return the cases of each group, label set and case."""
    known = all_cases()
    groups = {
        "paper": tuple(c for c in known if c.labels.setting and c.labels.setting.noise),
        "human": tuple(c for c in known if c.labels.noise_kind == "human"),
    }
    others = tuple(c for c in known if not c.labels.setting)
    sets = {c.labels.name: tuple(o for o in known if o.labels == c.labels) for c in known}
    return groups | {"all": groups["paper"] + others} | sets | {c.name: (c,) for c in known}


def find_cases(over: Over, model: str | None = None) -> tuple[Case, ...]:
    """Return the cases that `over` names, each once; with `model` only those of that network.

    >>> [len(find_cases(over)) for over in ("paper", "human", "all")]
    [12, 10, 27]
    >>> [case.name for case in find_cases(["cifar10s", "paper"], "resnet18")]
    ['cifar10s-resnet18']
    """
    items = [over] if isinstance(over, str | Setting | LabelSet) else over
    if isinstance(items, bytes) or not isinstance(items, Iterable):
        items = [items]  # said below, as each wrong item is
    cases = tuple(dict.fromkeys(case for item in items for case in _cases_of(item)))
    if not cases:
        raise InvalidInputError("over names no case: pass 'paper', 'human', 'all' or names")
    if model is None:
        return cases
    check_choice(model, tuple(dict.fromkeys(case.model for case in cases)), "model")
    return tuple(case for case in cases if case.model == model)


def _cases_of(item: object) -> tuple[Case, ...]:
    name = item.name if isinstance(item, Setting | LabelSet) else item
    if not isinstance(name, str):
        raise InvalidInputError(
            f"over has {item!r}: pass names such as 'noise0.4-sparsity0.2', Settings or label sets"
        )
    by_name = _cases_by_name()
    if name not in by_name and name in {labels.name for labels in label_sets()}:
        usable = ", ".join(dict.fromkeys(case.labels.name for case in all_cases()))
        raise UnknownArtifactError(
            f"no probabilities were published for {name}, and a benchmark needs them: choose among "
            f"{usable}"
        )
    return by_name[check_choice(name, tuple(by_name), "case")]


def gather_files(cases: Iterable[Case]) -> dict[Case, str]:
    """Fetch the files that are not on this machine; return why, for cases that lack one."""
    store, cases = Store.from_environment(), tuple(cases)
    needed = dict.fromkeys(file for case in cases for file in case.files)
    found = store.gather([file for file in needed if store.local_path(file) is None])
    absent = {f: error for f, error in found.items() if isinstance(error, UnavailableError)}
    return {case: absent[file].message for case in cases for file in case.files if file in absent}
