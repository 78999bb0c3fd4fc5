"""The first screen of a page: how well label errors are found, compared with what."""

from collections.abc import Sequence

from cifar_noisy.evaluation.evaluate import YOURS, Detection
from cifar_noisy.report.page_parts import Cell, KeyNumber, Row, Table
from cifar_noisy.report.plot import series_of

_PLAIN = "argmax"  # flags what the network would label otherwise: the least a method has to beat


def ranked(detections: Sequence[Detection]) -> list[Detection]:
    """Return detections by falling F1, or by falling accuracy where no label is wrong."""
    return sorted(detections, key=lambda row: (-_or_zero(row.f1), -_or_zero(row.accuracy)))


def key_numbers(
    detections: Sequence[Detection], n_examples: int, n_errors: int, accuracy: float
) -> list[KeyNumber]:
    """Return what the first screen says in large numbers.

    `accuracy` is the share of the examples whose true class is the most probable one.
    """
    share = f"{n_errors / n_examples:.2%}" if n_examples else "none"
    return [
        *(_comparison(detections) if n_errors else _false_alarms(detections)),
        KeyNumber("Wrong labels", f"{n_errors:,}", f"{share} of {n_examples:,} examples"),
        KeyNumber("Accuracy of the network", f"{accuracy:.1%}", "against the true labels"),
    ]


def _comparison(detections: Sequence[Detection]) -> list[KeyNumber]:
    """Return the best F1, or yours, and how far it is from the others."""
    own = [row for row in detections if row.name == YOURS]
    others = [row for row in ranked(detections) if row.name != YOURS]
    first = own or [row for row in others if row.f1 == others[0].f1]
    if not first:
        return []
    best = first[0]
    label = f"Best of {len(others)} methods, by F1" if others[1:] and not own else "F1"
    rates = f"precision {_rate(best.precision)}, recall {_rate(best.recall)}"
    name = " = ".join(row.name for row in first)
    numbers = [KeyNumber(label, _rate(best.f1), rates, name, _series(detections)[best.name])]
    rest = [row for row in others if row not in first]
    plain = [row for row in rest[1:] if row.name == _PLAIN]
    roles = (
        ("Against the best other", "Against plain argmax")
        if own
        else ("Ahead of the runner-up", "Ahead of plain argmax")
    )
    for row, role in zip([*rest[:1], *plain], roles, strict=False):
        ahead = f"{_behind(row, best.f1):+.4f}".replace("-", "−")
        numbers.append(KeyNumber(role, ahead, f"{row.name}, F1 {_rate(row.f1)}"))
    return numbers


def _false_alarms(detections: Sequence[Detection]) -> list[KeyNumber]:
    """Return who flags the fewest labels where none is wrong."""
    if not detections:
        return []
    fewest = min(detections, key=lambda row: row.n_found)
    return [
        KeyNumber(
            "Fewest false alarms",
            f"{fewest.n_found:,}",
            "labels flagged, though none is wrong",
            fewest.name,
            _series(detections)[fewest.name],
        )
    ]


def summary(detections: Sequence[Detection]) -> str:
    """Return in a sentence what the first method of the first screen finds."""
    own = [row for row in detections if row.name == YOURS]
    best = next(iter(own or ranked(detections)), None)
    if best is None:
        return ""
    if not best.n_errors:
        return (
            "No label is wrong here, so precision, recall and F1 have no meaning: a dash stands "
            "for them."
        )
    name = "Your mask" if own else best.name
    return (
        f"{name} flags {best.n_found:,} of {best.n_examples:,} labels. Of these, "
        f"{best.n_correct:,} are wrong: {best.n_correct / best.n_errors:.1%} of the "
        f"{best.n_errors:,} wrong labels are found."
    )


def detection_table(
    detections: Sequence[Detection], caption: str = "Label errors found, by method"
) -> Table:
    """Return a row per method, yours first and then the best: how much it flagged, how well."""
    heads = (
        "method", ">F1", "<behind best", ">precision", ">recall", ">flagged", ">rightly flagged",
        ">accuracy",
    )  # fmt: skip
    rows = sorted(ranked(detections), key=lambda row: row.name != YOURS)
    numbers = _series(detections)
    top = max((_or_zero(row.f1) for row in rows), default=None)
    cells: list[Row] = [
        [
            Cell(row.name, series=numbers[row.name]),
            Cell.fraction(row.f1),
            Cell.fraction(None if row.f1 is None else _behind(row, top)),
            *map(Cell.fraction, (row.precision, row.recall)),
            *map(Cell.count, (row.n_found, row.n_correct)),
            Cell.fraction(row.accuracy),
        ]
        for row in rows
    ]
    has_own = any(row.name == YOURS for row in rows)
    by_f1 = rows and rows[0].n_errors and not has_own
    return Table(
        caption, heads, cells, sorted_by=1 if by_f1 else None, marked=[0] if has_own else []
    )


def _series(detections: Sequence[Detection]) -> dict[str, int]:
    """Return the numbers of the colours that the methods have in figures."""
    return series_of([row.name for row in detections])


def _or_zero(value: float | None) -> float:
    return 0.0 if value is None else value


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _behind(row: Detection, f1: float | None) -> float:
    """Return how far a method's F1 is behind another one, as their four digits say."""
    return round(_or_zero(f1), 4) - round(_or_zero(row.f1), 4)
