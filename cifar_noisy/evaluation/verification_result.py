"""What a verification returns: a check for each published file, and what they say together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from cifar_noisy.confident_learning.float16_bounds import REASONS, Explanation
from cifar_noisy.records import Records
from cifar_noisy.rendering import Cell, html_facts, html_table, text_table
from cifar_noisy.store.registry import Artifact

if TYPE_CHECKING:
    pass

Verdict = Literal["exact", "explained", "known", "unexplained", "not reachable"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

_EXAMPLES_SHOWN = 20


@dataclass(frozen=True)
class Difference:
    """One example whose published bit is not the recomputed one.

    Attributes
    ----------
    index : int
        Row in the published order.
    explanation : Explanation or None
        Why float16 rounding may have decided it; None if it cannot have.
    known : str or None
        What is known of it, for the anomalies of the published data.
    """

    index: int
    explanation: Explanation | None = None
    known: str | None = None

    @property
    def is_unexplained(self) -> bool:
        """Whether nothing accounts for the difference."""
        return self.explanation is None and self.known is None

    @property
    def reason(self) -> str:
        """What accounts for it, for people."""
        if self.known is not None:
            return self.known
        explanation = self.explanation
        return "nothing explains it" if explanation is None else REASONS[explanation.reason]

    def _repr_html_(self) -> str:
        return html_facts({"example": self.index, "reason": self.reason})


@dataclass(frozen=True)
class Check:
    """The verdict on one published file.

    Attributes
    ----------
    artifact : Artifact
        What was checked.
    verdict : {"exact", "explained", "known", "unexplained", "not reachable"}
        "exact": equal bit for bit. "explained": every difference is one that rounding may have
        made. "known": all others are known anomalies. "unexplained": some difference is neither.
        "not reachable": a file that the check needs could not be had.
    differences : tuple of Difference
        By example; empty where a whole array differs, or none does.
    detail : str
        What could not be had and why, or what else there is to say.
    """

    artifact: Artifact
    verdict: Verdict
    differences: tuple[Difference, ...] = ()
    detail: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return what was checked, the verdict and how much differs, for a data frame or JSON."""
        of_file = ("path", "kind", "noise", "sparsity", "label_sets", "model", "method", "edition")
        return {name: getattr(self.artifact, name) for name in of_file} | {
            "verdict": self.verdict,
            "n_differences": len(self.differences),
            "n_unexplained": sum(difference.is_unexplained for difference in self.differences),
            "detail": self.detail,
        }

    def shown(self) -> dict[str, Cell]:
        """Return what people look at, by name."""
        return {
            "file": str(self.artifact),
            "verdict": self.verdict,
            "differing bits": len(self.differences),
            "detail": self.detail or None,
        }

    def __str__(self) -> str:
        return f"{self.artifact}: {self.verdict}" + (f" ({self.detail})" if self.detail else "")

    def __repr__(self) -> str:
        n = len(self.differences)
        differing = f", {n} differing bits" if n else ""
        return f"{type(self).__name__}({str(self.artifact)!r}, {self.verdict!r}{differing})"

    def _repr_html_(self) -> str:
        reasons = Counter(difference.reason for difference in self.differences)
        return html_facts(self.shown() | {f"bits: {why}": n for why, n in reasons.items()})


class Verification(Records[Check]):
    """The checks of `verify`, as a tuple, and what they say together.

    It is true where all is as expected, so ``assert verify()`` holds just then; it always has a
    check, so no emptiness is meant. `print` and notebooks show the counts and what is remarkable;
    ``.frame`` is a data frame with a row for each file: path, kind, noise, sparsity, label_sets,
    model, method, edition, verdict, n_differences, n_unexplained, detail.

    Examples
    --------
    >>> from cifar_noisy import verify
    >>> found = verify(noise=0.9)
    >>> found.is_as_expected, found.counts
    (True, {'exact': 8})
    """

    __slots__ = ()

    @property
    def counts(self) -> dict[Verdict, int]:
        """How many files have each verdict that occurs."""
        counts = Counter(check.verdict for check in self)
        return {verdict: counts[verdict] for verdict in VERDICTS if counts[verdict]}

    @property
    def is_as_expected(self) -> bool:
        """Whether all could be had and nothing differs but what is explained or known."""
        return not any(check.verdict in ("unexplained", "not reachable") for check in self)

    def __bool__(self) -> bool:
        return self.is_as_expected

    def summary(self) -> Iterator[str]:
        """Yield a line per kind and edition: how many files have each verdict."""
        for name, verdicts in self._groups().items():
            counts = ", ".join(f"{verdicts[v]} {v}" for v in VERDICTS if verdicts[v])
            yield f"{name}: {verdicts['exact']}/{verdicts.total()} exact ({counts})"

    def reasons(self) -> Iterator[str]:
        """Yield a line for each reason of explained differences."""
        explained = [d.explanation for check in self for d in check.differences if d.explanation]
        for reason, count in Counter(explanation.reason for explanation in explained).items():
            ranks = [e.ranks_from_cut for e in explained if e.ranks_from_cut is not None]
            distance = f", 0 to {max(ranks)} ranks away" if reason == "cut" else ""
            yield f"{count} differing bits explained: {REASONS[reason]}{distance}"

    def remarks(self) -> Iterator[str]:
        """Yield a line for each known anomaly and each unexplained file."""
        for check in self:
            for difference in check.differences:
                if difference.known:
                    yield f"known: {check.artifact}, example {difference.index}: {difference.known}"
            if check.verdict == "unexplained":
                yield f"unexplained: {check.artifact}: {_unexplained(check)}"

    def absent(self) -> Iterator[str]:
        """Yield a line, if files could not be had: how many, and why."""
        missing = [check for check in self if check.verdict == "not reachable"]
        if missing:
            kinds = {check.artifact.kind for check in missing}
            noun = "mask" if kinds == {"train_mask"} else "file"
            files = f"{len(missing)} {noun}{'' if len(missing) == 1 else 's'}"
            yield f"not reachable: {files}; the first since {missing[0].detail}"

    def _groups(self) -> dict[str, Counter[Verdict]]:
        groups: dict[str, Counter[Verdict]] = {}
        for check in self:
            name = f"{check.artifact.kind.replace('_', ' ')} {check.artifact.edition or ''}"
            groups.setdefault(name.rstrip(), Counter())[check.verdict] += 1
        return groups

    def _headline(self) -> str:
        counts = ", ".join(f"{n} {verdict}" for verdict, n in self.counts.items())
        outcome = "all as expected" if self.is_as_expected else "not all as expected"
        return f"{len(self)} files, {outcome}: {counts or 'none'}"

    def _columns(self) -> dict[str, Sequence[Cell]]:
        groups = self._groups()
        verdicts = [verdict for verdict in VERDICTS if verdict in self.counts]
        return {
            "files": list(groups),
            **{
                verdict: [group[verdict] or None for group in groups.values()]
                for verdict in verdicts
            },
        }

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._headline()})"

    def __str__(self) -> str:
        notes = (*self.reasons(), *self.remarks(), *self.absent())
        return "\n".join((self._headline(), "", text_table(self._columns()), "", *notes)).rstrip()

    def _repr_html_(self) -> str:
        notes = (*self.reasons(), *self.remarks(), *self.absent())
        return html_table(self._columns(), title=self._headline(), notes=notes)


def _unexplained(check: Check) -> str:
    rows = [str(d.index) for d in check.differences if d.is_unexplained]
    if not rows:
        return check.detail
    more = ", …" if len(rows) > _EXAMPLES_SHOWN else ""
    noun = "example" if len(rows) == 1 else "examples"
    return f"{len(rows)} {noun}: {', '.join(rows[:_EXAMPLES_SHOWN])}{more}"
