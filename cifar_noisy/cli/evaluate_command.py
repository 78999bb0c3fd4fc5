"""The command that scores label errors found by the user: evaluate."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

import cifar_noisy
from cifar_noisy.cli.app import app
from cifar_noisy.cli.options import (
    AsJson,
    Edition,
    Labels,
    Model,
    Noise,
    Order,
    Sparsity,
    given_labels,
)
from cifar_noisy.cli.output import format_fraction, print_json, print_table, say
from cifar_noisy.errors import ExitCode

if TYPE_CHECKING:
    from cifar_noisy.evaluation.evaluate import Detection, Evaluation, PyxEvaluation, Ranking


@app.command(epilog="Example: cifar-noisy evaluate mine.npy --noise 0.4 --sparsity 0.2")
def evaluate(
    file: Annotated[
        Path,
        typer.Argument(
            help="50,000 bool (True = label error), 50,000 float scores (higher = more likely "
            "wrong), or (50000, 10) probabilities."
        ),
    ],
    noise: Noise = None,
    sparsity: Sparsity = None,
    labels: Labels = None,
    order: Order = "imagefolder",
    edition: Edition = None,
    model: Model = None,
    by: Annotated[
        str | None, typer.Option(help="given, true or pair: also a row per class or pair of them.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare a label-error mask, score or probabilities of yours with the published methods.

    Exit status: 0 compared, 3 evaluated, but the published masks could not be had.
    """
    from cifar_noisy.loading.npy_files import open_npy

    array = open_npy(file)
    given = given_labels(noise, labels)
    options: dict[str, Any] = {"order": order, "edition": edition, "model": model}
    evaluate_array = cifar_noisy.evaluate_pyx if array.ndim == 2 else cifar_noisy.evaluate
    result: Evaluation | PyxEvaluation = evaluate_array(array, given, sparsity, **options)
    parts = (
        {found.name: found.breakdown(cast(Any, by)) for found in result.detections} if by else {}
    )
    if as_json:
        rows = {name: [part.row() for part in found] for name, found in parts.items()}
        print_json(result.as_dict() | ({"breakdown": rows} if by else {}))
    else:
        _print_evaluation(result)
        for name, found in parts.items():
            say()
            _print_detections(name, found)
    if (result.edition or (model and result.setting.has_probabilities)) and (
        result.published_missing
    ):
        raise typer.Exit(ExitCode.UNAVAILABLE)


def _print_evaluation(result: "Evaluation | PyxEvaluation") -> None:
    """Print the scores of what was passed and, below them, those of the published masks."""
    say(f"{result.setting}\n")
    if isinstance(result, cifar_noisy.PyxEvaluation):
        given, true = result.against_given, result.against_true
        print_table(
            ("probabilities against", ">accuracy", ">at most", ">ECE", ">Brier"),
            (
                (name, *map(format_fraction, (fit.accuracy, bound, fit.ece, fit.brier)))
                for name, fit, bound in (
                    ("given labels", given, result.accuracy_bound),
                    ("true labels", true, 1.0),
                )
            ),
        )
        say()
    if result.rankings:
        _print_rankings(result.rankings)
        say()
    published = (
        replace(found, name=" ".join(filter(None, (found.name, result.edition))))
        for found in result.published
    )
    _print_detections("label errors", [*result.detections, *published])
    if result.published_missing:
        say(f"the published methods are left out: {result.published_missing}")


def _print_rankings(rankings: Sequence["Ranking"]) -> None:
    print_table(
        (
            "score",
            ">average precision",
            ">ROC AUC",
            ">precision at the true number of errors",
            ">best F1",
            ">at the cut",
        ),
        (
            (
                row.name,
                *map(
                    format_fraction,
                    (row.average_precision, row.roc_auc, row.precision_at_n_errors, row.best_f1),
                ),
                "-" if row.best_cut is None else f"{row.best_cut:.6g}",
            )
            for row in rankings
        ),
    )
    _explain_dashes(rankings)


def _print_detections(head: str, detections: Sequence["Detection"]) -> None:
    print_table(
        (head, ">precision", ">recall", ">F1", ">accuracy", ">found", ">true"),
        (
            (
                row.name,
                *map(format_fraction, (row.precision, row.recall, row.f1, row.accuracy)),
                f"{row.n_found:,}",
                f"{row.n_errors:,}",
            )
            for row in detections
        ),
    )
    _explain_dashes(detections)


def _explain_dashes(rows: Sequence["Detection"] | Sequence["Ranking"]) -> None:
    if any(value is None for row in rows for value in vars(row).values()):
        say("-: undefined, as nothing was flagged or there are no label errors")
