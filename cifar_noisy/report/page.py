"""One HTML file of any labelled dataset: how its label errors are found, and a look at them.

The file needs nothing but itself: styles, script, figures and thumbnails are in it, and a content
security policy keeps the browser from asking for anything else.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import cifar_noisy
from cifar_noisy.confident_learning.label_errors import confident_joint
from cifar_noisy.confident_learning.scores import label_error_scores
from cifar_noisy.errors import InvalidInputError, MissingExtraError
from cifar_noisy.evaluation.evaluate import Detection, count_pairs
from cifar_noisy.report import plot
from cifar_noisy.report.explorer import (
    Examples,
    Scores,
    are_exact,
    explorer_data,
    suspects,
    thumbnail_sheets,
)
from cifar_noisy.report.first_screen import detection_table, key_numbers, summary
from cifar_noisy.report.page_parts import Figure, Section, Table
from cifar_noisy.report.svg import figure
from cifar_noisy.store.files import output_file, storage_errors

EXAMPLES_SHOWN = 3_000
"""Suspects with thumbnails in the explorer, if nothing else is asked for."""

FIGURE_SIZE = (4.4, 4.1)
"""Width and height of most of the page's figures, in inches; all have that height."""

_WITH_A_BAR = (5.3, 4.1)

_THUMBNAILS = {
    True: "The pictures have the pixels of the images.",
    False: "The pictures are JPEGs of high quality, made for this page; look at the images "
    "themselves before you judge a pixel.",
}


def build_page(
    title: str,
    examples: Examples,
    *,
    lead: str = "",
    facts: Mapping[str, str] | None = None,
    tables: Sequence[Table] = (),
    figures: Sequence[Figure] = (),
    sections: Sequence[Section] = (),
    no_images: str = "",
    n_shown: int = EXAMPLES_SHOWN,
) -> str:
    """Build the page of a dataset with given and true labels, probabilities and found errors.

    `lead` is a paragraph below the heading. `facts` and `tables` are added to the results,
    `figures` to those of labels and probabilities, and `sections` after those that every dataset
    has. `no_images` says why there are no images, and what to do about it. `n_shown` suspects at
    most have thumbnails and probabilities in the explorer.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MissingExtraError("jinja2") from error
    if isinstance(n_shown, bool) or not isinstance(n_shown, int | np.integer) or n_shown < 0:
        raise InvalidInputError(
            f"n_shown is {n_shown!r}: pass how many suspects to show, 0 or more"
        )
    loader = PackageLoader("cifar_noisy.report")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    scores = label_error_scores(examples.given, examples.pyx)
    rows = suspects(examples.found, scores["normalized_margin"], int(n_shown))
    images = None if examples.images is None else examples.images[rows]
    is_error = examples.given != examples.true
    detections = _detections(examples)
    accuracy = float((examples.pyx.argmax(axis=1) == examples.true).mean())
    html = environment.get_template("page.html").render(
        title=title,
        lead=lead,
        key_numbers=key_numbers(detections, len(is_error), int(is_error.sum()), accuracy),
        summary=summary(detections),
        facts=facts or {},
        series=plot.series_of([str(name) for name in examples.found]),
        results=Section(
            "Results",
            tables=[detection_table(detections), *tables],
            figures=_precision_recall(examples, scores, is_error),
        ),
        sections=[
            Section("Labels and probabilities", figures=[*figures, *_of_pyx(examples)]),
            *sections,
        ],
        data=explorer_data(examples, scores, rows),
        n_shown=len(rows),
        sheets=[] if images is None else thumbnail_sheets(images),
        has_images=images is not None,
        about_images=no_images or "This page was made without images; the rest of it is complete."
        if images is None
        else _THUMBNAILS[are_exact(images)],
        version=cifar_noisy.__version__,
        style=loader.get_source(environment, "page.css")[0],
        script=loader.get_source(environment, "page.js")[0],
    )
    return html.encode(errors="backslashreplace").decode()  # a name may hold a lone surrogate


def write_page(path: Path, html: str) -> None:
    """Write a page to a file, atomically."""
    with storage_errors(path, "name another file"), output_file(path) as file:
        file.write(html.encode())


def _detections(examples: Examples) -> list[Detection]:
    n_classes = len(examples.classes)
    actual = count_pairs(examples.given, examples.true, n_classes)
    return [
        Detection.of(
            name, actual, count_pairs(examples.given[mask], examples.true[mask], n_classes)
        )
        for name, mask in examples.found.items()
    ]


def _precision_recall(
    examples: Examples, scores: Scores, is_error: NDArray[np.bool_]
) -> list[Figure]:
    if not is_error.any():
        return []
    drawn = figure(
        lambda ax: plot.precision_recall(
            scores["normalized_margin"],
            is_error,
            methods=examples.found,
            label="margin, all cuts",
            ax=ax,
        ),
        "Precision: how many of the flagged labels are wrong. Recall: how many of the wrong labels "
        "are flagged. The curve is that of the margin over all its cuts.",
        name="precision-recall",
        size=_WITH_A_BAR,
    )
    return [drawn]


def noise_figure(
    matrix: NDArray[np.float64],
    counts: NDArray[np.int64],
    classes: Sequence[str],
    *,
    is_drawn: bool,
) -> Figure:
    """Draw the noise matrix that labels were drawn from (`is_drawn`), or that they amount to.

    Both arrays are (K, K), given labels by true ones; `counts` are the examples.
    """
    texts = [
        [
            f"true {classes[j]}, given {classes[i]}: {matrix[i, j]:.2%}, "
            f"{counts[i, j]:,} of {counts[:, j].sum():,} examples"
            for j in range(len(classes))
        ]
        for i in range(len(classes))
    ]
    origin = "that the given labels were drawn from" if is_drawn else "counted from the labels"
    return figure(
        lambda ax: plot.noise_matrix(matrix, classes=classes, ax=ax),
        f"The noise matrix {origin}: of a true class, how many percent are given which label.",
        name="noise-matrix",
        size=FIGURE_SIZE,
        is_dense=True,
        cells=texts if len(classes) <= plot.MOST_NUMBERED else (),
    )


def _of_pyx(examples: Examples) -> list[Figure]:
    return [
        _joint(examples),
        figure(
            lambda ax: plot.calibration(examples.pyx, examples.true, ax=ax),
            "How often the predicted class is the true one against how probable it is said to be, "
            "in 15 bins; the bars show how many of the examples a bin has.",
            name="calibration",
            size=FIGURE_SIZE,
        ),
    ]


def _joint(examples: Examples) -> Figure:
    classes = examples.classes
    estimated = confident_joint(examples.given, examples.pyx)
    actual = count_pairs(examples.given, examples.true, len(classes))
    texts = [
        [
            f"given {classes[i]}, true {classes[j]}: estimated {estimated[i, j]:,}, "
            f"actual {actual[i, j]:,}, difference {estimated[i, j] - actual[i, j]:+,}"
            for j in range(len(classes))
        ]
        for i in range(len(classes))
    ]
    return figure(
        lambda ax: plot.joint(estimated, actual, classes=classes, ax=ax),
        "Examples by given and true label, as confident learning estimates them from the "
        "probabilities. The colour says by how many this is more or less than there are.",
        name="joint",
        size=_WITH_A_BAR,
        is_dense=True,
        cells=texts if len(classes) <= plot.MOST_NUMBERED else (),
    )
