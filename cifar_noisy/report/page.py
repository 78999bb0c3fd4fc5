"""One HTML file of any labelled dataset: how its label errors are found, and a look at them.

The file needs nothing but itself: styles, script, figures and thumbnails are in it, and a content
security policy keeps the browser from asking for anything else.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.confident_learning.label_errors import confident_joint
from cifar_noisy.confident_learning.scores import label_error_scores
from cifar_noisy.errors import MissingExtraError
from cifar_noisy.evaluation.evaluate import Detection, count_pairs
from cifar_noisy.report import plot
from cifar_noisy.report.explorer import Examples, explorer_data, thumbnail_sheet
from cifar_noisy.report.page_parts import Cell, Figure, Row, Section, Table
from cifar_noisy.report.svg import figure
from cifar_noisy.store.files import output_file, storage_errors

EXAMPLES_SHOWN = 300
"""Thumbnails in the explorer, if nothing else is asked for."""

_IN_THE_GRID = 20


def build_page(
    title: str,
    examples: Examples,
    *,
    lead: str = "",
    facts: Mapping[str, str] | None = None,
    sections: Sequence[Section] = (),
    no_images: str = "",
    n_shown: int = EXAMPLES_SHOWN,
) -> str:
    """Build the page of a dataset with given and true labels, probabilities and found errors.

    `lead` is a paragraph below the heading, `facts` a list below that. `sections` come after those
    that every dataset has. `no_images` says why there are no images, and what to do about it.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MissingExtraError("jinja2") from error
    loader = PackageLoader("cifar_noisy.report")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["is_number"] = lambda head: head.startswith(">")
    data = explorer_data(examples, n_shown)
    rows = np.array([example["row"] for example in data["examples"]], dtype=np.intp)
    images = None if examples.images is None else examples.images[rows]
    html = environment.get_template("page.html").render(
        title=title,
        lead=lead,
        facts=facts or {},
        sections=[*_sections(examples, rows), *sections],
        data=data,
        sheet=None if images is None else thumbnail_sheet(images),
        no_images=no_images,
        style=loader.get_source(environment, "page.css")[0],
        script=loader.get_source(environment, "page.js")[0],
        n_errors=int((examples.given != examples.true).sum()),
        n_examples=len(examples.given),
    )
    return html.encode(errors="backslashreplace").decode()  # a name may hold a lone surrogate


def write_page(path: Path, html: str) -> None:
    """Write a page to a file, atomically."""
    with storage_errors(path, "name another file"), output_file(path) as file:
        file.write(html.encode())


def _sections(examples: Examples, shown: NDArray[np.intp]) -> list[Section]:
    """Return the sections of every dataset."""
    is_error = examples.given != examples.true
    n_classes = len(examples.classes)
    actual = count_pairs(examples.given, examples.true, n_classes)
    detections = [
        Detection.of(
            name, actual, count_pairs(examples.given[mask], examples.true[mask], n_classes)
        )
        for name, mask in examples.found.items()
    ]
    paragraphs = [
        "Precision is the fraction of the flagged examples whose label is wrong, recall the "
        "fraction of the wrong labels that are flagged, F1 their harmonic mean; accuracy is the "
        "fraction of all examples judged rightly."
    ]
    figures = []
    if is_error.any():
        figures.append(_precision_recall(examples, is_error))
    else:
        paragraphs.append(
            "No label is wrong here, so precision, recall and F1 have no meaning: a dash stands "
            "for them."
        )
    if examples.images is not None and len(shown):
        figures.append(_grid(examples, examples.images, shown[:_IN_THE_GRID]))
    finding = Section(
        "How well label errors are found", paragraphs, [detection_table(detections)], figures
    )
    return [finding, Section("What the probabilities say", figures=_of_pyx(examples, actual))]


def detection_table(detections: Sequence[Detection]) -> Table:
    """Return a row per method: how many examples it flagged, and how well."""
    heads = ("method", ">flagged", ">rightly", ">precision", ">recall", ">F1", ">accuracy")
    rows: list[Row] = []
    for row in detections:
        counts = map(Cell.count, (row.n_found, row.n_correct))
        fractions = map(Cell.fraction, (row.precision, row.recall, row.f1, row.accuracy))
        rows.append([row.name, *counts, *fractions])
    return Table("Label errors found, by method", heads, rows)


def _precision_recall(examples: Examples, is_error: NDArray[np.bool_]) -> Figure:
    margin = label_error_scores(examples.given, examples.pyx)["normalized_margin"]
    return figure(
        lambda ax: plot.precision_recall(
            margin, is_error, methods=examples.found, label="margin, all cuts", ax=ax
        ),
        "Precision against recall of the normalised margin over all its cuts, and of each method "
        "as a point.",
        name="precision-recall",
        size=(5.2, 4.2),
    )


def _grid(examples: Examples, images: NDArray[np.uint8], rows: NDArray[np.intp]) -> Figure:
    predicted = examples.pyx[rows].argmax(axis=1)
    return figure(
        lambda ax: plot.examples(
            images[rows],
            examples.given[rows],
            examples.true[rows],
            predicted,
            classes=examples.classes,
            ax=ax,
        ),
        f"The {len(rows)} examples of the lowest margins, with their given, true and predicted "
        "labels. All that is in this picture is in the explorer too.",
        name="grid",
        size=(10, 3.1),
        is_dense=True,
    )


def _of_pyx(examples: Examples, actual: NDArray[np.int64]) -> list[Figure]:
    estimated = confident_joint(examples.given, examples.pyx)
    return [
        figure(
            lambda ax: plot.joint(estimated, actual, classes=examples.classes, ax=ax),
            "Examples by given and true label: as confident learning estimates them from the "
            "probabilities (upper number), and as they are (lower number). The colour shows the "
            "difference: estimated less actual.",
            name="joint",
            size=(6.6, 6),
            is_dense=True,
        ),
        figure(
            lambda ax: plot.calibration(examples.pyx, examples.true, ax=ax),
            "How often the predicted class is the true one against how probable it is said to be, "
            "in 15 bins; the bars show how many of the examples a bin has.",
            name="calibration",
            size=(5.2, 4.2),
        ),
    ]
