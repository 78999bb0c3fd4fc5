"""Commands that score label errors found: evaluate, tables, report."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

import cifar_noisy
from cifar_noisy.cli.app import NOT_REACHABLE, app
from cifar_noisy.cli.options import AsJson, Edition, Sparsity, Trust
from cifar_noisy.cli.output import busy, print_json, print_table, rate, say, terminal_width
from cifar_noisy.errors import UnavailableError
from cifar_noisy.settings import check_choice
from cifar_noisy.store.http_download import readable_size

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
    noise: Annotated[float, typer.Option(help="Fraction of wrong labels: 0, 0.2, 0.4, 0.7, 0.9.")],
    sparsity: Sparsity = None,
    order: Annotated[
        str, typer.Option(help="Order of its rows: imagefolder or torchvision.")
    ] = "imagefolder",
    edition: Edition = None,
    by: Annotated[
        str | None, typer.Option(help="given, true or pair: also a row per class or pair of them.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare a label-error mask, score or probabilities of yours with the published methods.

    Exit status: 0 compared, 3 evaluated, but the published masks could not be had.
    """
    from cifar_noisy.loading.npy_files import read_array

    array = read_array(file)
    options: dict[str, Any] = {"order": order, "edition": edition}
    result: Evaluation | PyxEvaluation = (
        cifar_noisy.evaluate_pyx(array, noise, sparsity, **options)
        if array.ndim == 2
        else cifar_noisy.evaluate(array, noise, sparsity, **options)
    )
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
    if result.edition and result.published_missing:
        raise typer.Exit(NOT_REACHABLE)


@app.command(epilog="Example: cifar-noisy tables --format markdown --rule best")
def tables(
    format_: Annotated[
        str, typer.Option("--format", help="Format: text, markdown, latex or csv.")
    ] = "text",
    rule: Annotated[
        str, typer.Option(help="Test accuracy at which epoch: last, or best (on the test set).")
    ] = "last",
    network: Annotated[
        str, typer.Option(help="Which Co-Teaching network counts: max, first, second or mean.")
    ] = "max",
    edition: Edition = None,
    as_json: AsJson = False,
) -> None:
    """Make the paper's tables from the published masks and logs: label errors, test accuracy."""
    from cifar_noisy.evaluation.tables import FORMATS

    form = check_choice(format_, FORMATS, "format")
    choices: dict[str, Any] = {"edition": edition, "rule": rule, "network": network}
    with busy("making the tables"):
        made = cifar_noisy.paper_tables(**choices)
    if as_json:
        print_json([table.as_dict() for table in made])
    else:
        text = cifar_noisy.format_tables(made, form, width=terminal_width())
        say(text.rstrip("\n"))


@app.command(epilog="Example: cifar-noisy report --noise 0.4 --sparsity 0.2 --out report.html")
def report(
    noise: Annotated[float, typer.Option(help="Fraction of wrong labels: 0, 0.2, 0.4, 0.7, 0.9.")],
    sparsity: Sparsity = None,
    pyx: Annotated[
        Path | None,
        typer.Option(
            help="An .npy file of your (50000, 10) probabilities, for the published ones."
        ),
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="An .npy file of your 50,000 bools, True = label error.")
    ] = None,
    order: Annotated[
        str, typer.Option(help="Order of both files' rows: imagefolder or torchvision.")
    ] = "imagefolder",
    images: Annotated[
        Path | None,
        typer.Option(help="Where the images are, if not in the cache; see cifar-noisy images."),
    ] = None,
    trust: Trust = None,
    examples: Annotated[
        int, typer.Option(min=1, help="Suspected errors in the explorer, at most.")
    ] = 300,
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    as_json: AsJson = False,
) -> None:
    """Write one self-contained HTML page: figures, tables, verdict and a label explorer."""
    from cifar_noisy.loading.npy_files import read_array

    found, no_images = None, ""
    try:
        found = cifar_noisy.load_images(images, trust=trust)
    except UnavailableError:
        no_images = (
            "CIFAR-10’s images are not in the cache of this machine: pass --images and the folder "
            "that has them, or run cifar-noisy images --download once."
        )
    with busy("making the page"):
        path = cifar_noisy.write_report(
            out,
            noise,
            sparsity,
            pyx=None if pyx is None else read_array(pyx),
            mask=None if mask is None else read_array(mask),
            order=cast(Any, order),
            images=found,
            no_images=no_images,
            n_shown=examples,
        )
    size = path.stat().st_size
    if as_json:
        print_json({"path": str(path), "size": size, "has_images": found is not None})
    else:
        without = "" if found is not None else ", without images (the page says how to have them)"
        say(f"{path}: {readable_size(size)}{without}")


def _print_evaluation(result: "Evaluation | PyxEvaluation") -> None:
    """Print the setting, what was passed and, beside it, what was published."""
    say(f"{result.setting}\n")
    if isinstance(result, cifar_noisy.PyxEvaluation):
        _print_fits(result)
        say()
    if result.rankings:
        _print_rankings(result.rankings)
        say()
    published = (
        replace(found, name=f"{found.name} {result.edition}") for found in result.published
    )
    _print_detections("label errors", [*result.detections, *published])
    if result.published_missing:
        say(f"the published methods are left out: {result.published_missing}")


def _print_fits(result: "PyxEvaluation") -> None:
    """Print how well probabilities predict labels, with the bound that the noise sets."""
    print_table(
        ("probabilities against", ">accuracy", ">at most", ">ECE", ">Brier"),
        (
            (name, rate(fit.accuracy), rate(bound), rate(fit.ece), rate(fit.brier))
            for name, fit, bound in (
                ("given labels", result.against_given, result.accuracy_bound),
                ("true labels", result.against_true, 1.0),
            )
        ),
    )


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
                ranking.name,
                rate(ranking.average_precision),
                rate(ranking.roc_auc),
                rate(ranking.precision_at_n_errors),
                rate(ranking.best_f1),
                "-" if ranking.best_cut is None else f"{ranking.best_cut:.6g}",
            )
            for ranking in rankings
        ),
    )
    _explain_dashes(rankings)


def _print_detections(head: str, detections: Sequence["Detection"]) -> None:
    print_table(
        (head, ">precision", ">recall", ">F1", ">accuracy", ">found", ">true"),
        (
            (
                row.name,
                *map(rate, (row.precision, row.recall, row.f1, row.accuracy)),
                f"{row.n_found:,}",
                f"{row.n_errors:,}",
            )
            for row in detections
        ),
    )
    _explain_dashes(detections)


def _explain_dashes(rows: Sequence["Detection"] | Sequence["Ranking"]) -> None:
    if any(value is None for row in rows for value in vars(row).values()):
        say("-: has no meaning, as nothing was found or there is nothing to find")
