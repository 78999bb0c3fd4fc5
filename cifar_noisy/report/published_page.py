"""The page of one published setting: load its arrays, and put its numbers into sections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cifar_noisy.confident_learning.array_checks import as_array
from cifar_noisy.confident_learning.float16_bounds import REASONS
from cifar_noisy.confident_learning.label_errors import label_errors
from cifar_noisy.errors import InvalidInputError, TrainingLogError, UnavailableError
from cifar_noisy.evaluation.evaluate import (
    YOURS,
    PyxEvaluation,
    count_pairs,
    evaluate,
    evaluate_pyx,
)
from cifar_noisy.evaluation.verification import Check, verify
from cifar_noisy.loading.artifact_loading import (
    default_edition,
    load_label_errors,
    load_noise_matrix,
    load_noisy_labels,
    load_training_log,
    load_true_labels,
)
from cifar_noisy.loading.given_labels import (
    LabelSource,
    Noise,
    OwnLabels,
    count_noise_matrix,
    identity,
    label_source,
)
from cifar_noisy.loading.row_order import published_torchvision_index, to_imagefolder_order
from cifar_noisy.progress_bars import Shown, check_progress
from cifar_noisy.recompute.load_pyx import load_pyx
from cifar_noisy.report import plot
from cifar_noisy.report.explorer import Examples
from cifar_noisy.report.first_screen import detection_table
from cifar_noisy.report.page import (
    EXAMPLES_SHOWN,
    FIGURE_SIZE,
    build_page,
    noise_figure,
    write_page,
)
from cifar_noisy.report.page_parts import Cell, Figure, Row, Section, Table
from cifar_noisy.report.svg import figure
from cifar_noisy.settings import CLASSES, METHODS, PAPER_NAMES, Order, Setting, Trainer
from cifar_noisy.store.files import user_path
from cifar_noisy.store.label_sets import LabelSet, label_sets
from cifar_noisy.store.registry import artifacts

if TYPE_CHECKING:
    import os

    from cifar_noisy.images.packs import Images
    from cifar_noisy.loading.training_logs import TrainingLog

Mask = NDArray[np.bool_]


def write_report(
    out: str | os.PathLike[str],
    noise: Noise,
    sparsity: float | None = None,
    *,
    model: str | None = None,
    pyx: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    order: Order = "imagefolder",
    images: Images | None = None,
    no_images: str = "",
    n_shown: int = EXAMPLES_SHOWN,
    progress: Shown = None,
) -> Path:
    """Write one self-contained HTML file on given labels, with a label explorer.

    Parameters
    ----------
    out : path
        The file; it appears when it is complete, and replaces one that is there. What is no regular
        file, such as ``/dev/stdout``, is written to.
    noise, sparsity
        As for `load_noisy_labels`; `pyx` is needed where no probabilities were published, as at
        noise 0.9.
    model : str, optional
        For a label set of another repository: the network whose published probabilities are shown.
    pyx : (50000, 10) float16, float32 or float64 array_like, optional
        Out-of-sample probabilities of yours, instead of the published ones. The masks of the five
        methods are then computed from these, and the published ones stand beside them.
    mask : (50000,) bool array_like, optional
        Label errors that you found (True = label error); shown as the method "yours".
    order : {"imagefolder", "torchvision"}, default "imagefolder"
        Order of the rows of `pyx` and `mask`.
    images : Images, optional
        The train set's images, as `load_images` gives them. Without them the page has no pictures.
    no_images : str, optional
        What the page then says: why there are none.
    n_shown : int, default 3000
        Suspected errors that have thumbnails and probabilities in the explorer, at most; it shows
        them in pages of 300. What is known of any other example is in the page too.
    progress : bool or object with ``update(n_bytes)``, optional
        Whether to show progress bars of downloads and of the verification; by default on a terminal
        and in a notebook. An object is told of every byte that arrives or is read instead.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InvalidInputError
        If `pyx` or `mask` has another shape or dtype, or `n_shown` is no number from 0.
    UnknownArtifactError
        If the setting or order is unknown, sparsity is missing where noise is not 0, or there are
        no published probabilities for it.
    UnavailableError
        If no source has the files.
    MissingExtraError
        If jinja2 or matplotlib is not installed.
    StorageError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> write_report(f"{folder}/report.html", noise=0.4, sparsity=0.2).name  # published files
    'report.html'
    """
    check_progress(progress)
    own_pyx = None if pyx is None else _to_imagefolder_order(pyx, order, "pyx")
    own_mask = None if mask is None else _to_imagefolder_order(mask, order, "mask")
    if own_mask is not None and (own_mask.dtype != np.bool_ or own_mask.ndim != 1):
        raise InvalidInputError(
            f"mask has dtype {own_mask.dtype} and shape {own_mask.shape}: pass one bool an "
            "example, True = label error (cifar-noisy evaluate takes scores too)"
        )
    source = label_source(noise, sparsity, order=order)
    page = _page_of(source, model, own_pyx, own_mask, images, no_images, n_shown, progress)
    path = user_path(out)
    write_page(path, page)
    return path


def _to_imagefolder_order(array: ArrayLike, order: str, name: str) -> NDArray[Any]:
    rows = as_array(array, name)
    n_examples = len(load_true_labels())
    if rows.shape[:1] != (n_examples,):
        raise InvalidInputError(
            f"{name} has shape {rows.shape}: pass a row for each of the {n_examples:,} examples"
        )
    return to_imagefolder_order(rows, order)


def _page_of(
    source: LabelSource,
    model: str | None,
    own_pyx: NDArray[Any] | None,
    mask: Mask | None,
    images: Images | None,
    no_images: str,
    n_shown: int,
    progress: Shown,
) -> str:
    pyx = load_pyx(source, model=model, progress=progress) if own_pyx is None else own_pyx
    # This checks probabilities of the caller's; below, their mask, and warns where it looks wrong.
    evaluated = evaluate_pyx(pyx, source, model=model)
    given, true = load_noisy_labels(source), load_true_labels()
    found: dict[str, Mask] = {}
    if mask is not None:
        evaluate(mask, source)
        found[YOURS] = mask
    if own_pyx is None and isinstance(source, Setting):
        found |= {str(method): load_label_errors(method, source) for method in METHODS}
    else:
        found |= {str(method): errors for method, errors in label_errors(given, pyx).items()}
    checks = _checks(source, progress)
    is_own = own_pyx is not None
    return build_page(
        _title(source),
        Examples(
            given,
            true,
            pyx,
            found,
            CLASSES,
            None if images is None else images.pixels,
            {"imagefolder": np.arange(len(given)), "torchvision": published_torchvision_index()},
            _votes(source),
        ),
        lead=_lead(source, model, is_own=is_own),
        facts=_facts(source, evaluated, checks, images, is_own=is_own),
        tables=[*_tables(evaluated, is_own=is_own)],
        figures=[_noise_figure(source, given, true)],
        sections=[
            *(_training_sections(source) if isinstance(source, Setting) else ()),
            *([_verification_section(checks)] if checks else []),
            *_provenance_sections(source),
        ],
        no_images=no_images,
        n_shown=n_shown,
    )


def _title(source: LabelSource) -> str:
    if isinstance(source, Setting):
        return f"CIFAR-10 with {source.noise:.0%} label noise, sparsity {source.sparsity:g}"
    return f"CIFAR-10 with {source}"


def _checks(source: LabelSource, progress: Shown) -> list[Check]:
    """Verify what was published of the labels; nothing was of the caller's own."""
    if isinstance(source, OwnLabels):
        return []
    return list(verify(**identity(source), progress=progress))


def _lead(source: LabelSource, model: str | None, *, is_own: bool) -> str:
    names = ", ".join(f"{method} is {PAPER_NAMES[method]}" for method in METHODS)
    shown = (
        "Probabilities of your own, and the label errors that the five methods of confident "
        "learning find by them; the published methods stand beside them."
        if is_own
        else "The published out-of-sample probabilities, and the label errors that the five "
        f"methods of confident learning found (masks of edition {default_edition(source)})."
        if isinstance(source, Setting)
        else f"The published out-of-sample probabilities of {model}, and the label errors that the "
        "five methods of confident learning find by them."
    )
    return f"{shown} In the paper’s words, {names}."


def _votes(source: LabelSource) -> dict[str, NDArray[np.int64]]:
    """Return all labels that people gave the images, where those of `source` are some of them."""
    if not isinstance(source, LabelSet) or source.noise_kind != "human":
        return {}
    of_file = {known.name for known in label_sets() if known.path == source.path}
    return {voter: load_noisy_labels(name) for name, voter in _VOTERS.items() if name in of_file}


def _facts(
    source: LabelSource,
    evaluated: PyxEvaluation,
    checks: list[Check],
    images: Images | None,
    *,
    is_own: bool,
) -> dict[str, str]:
    given, true = evaluated.against_given, evaluated.against_true
    facts = {
        "Accuracy against given labels": f"{given.accuracy:.2%}; knowing the true labels "
        f"allows {evaluated.accuracy_bound:.2%}",
        "Calibration, true labels": f"ECE {true.ece:.4f}, Brier score {true.brier:.4f}",
        **({"Verification": _verdict(checks)} if checks else {}),
        **_origin(source),
    }
    if is_own and not evaluated.published:
        facts["Published masks to compare with"] = f"{evaluated.published_missing}"
    if images is not None:
        facts["Images"] = (
            "official, by their checksums"
            if images.is_official
            else "a re-encoded copy: their labels are checked, their pixels are not"
        )
    return facts


def _origin(source: LabelSource) -> dict[str, str]:
    match source:
        case Setting():
            return {"Upstream’s name of the setting": source.upstream_key}
        case LabelSet():
            return {
                "Labels": f"{source.noise_rate:.2%} wrong, {source.noise_kind}; {source.citation}",
                "Licence": source.licence,
            }
    return {}


_VOTERS = {
    **{f"cifar10n-random{number}": f"person {number}" for number in (1, 2, 3)},
    "cifar10n-aggregate": "aggregate",
    "cifar10n-worst": "worst",
}
"""Who gave the labels of a set; CIFAR-10N's random labels are those of three people an image."""

_SCORES = {"self_confidence": "self-confidence", "normalized_margin": "margin"}


def _tables(evaluated: PyxEvaluation, *, is_own: bool) -> Iterator[Table]:
    heads = (
        "score", ">average precision", ">ROC AUC", ">precision at the number of errors", ">best F1"
    )  # fmt: skip
    rows: list[Row] = []
    for row in evaluated.rankings:
        values = (row.average_precision, row.roc_auc, row.precision_at_n_errors, row.best_f1)
        rows.append([_SCORES[row.name], *map(Cell.fraction, values)])
    if is_own and evaluated.published:
        yield detection_table(evaluated.published, f"Published masks, edition {evaluated.edition}")
    yield Table(
        "Scores as rankings of all examples; for best F1, the true labels choose the cut",
        heads,
        rows,
    )


def _noise_figure(source: LabelSource, given: NDArray[np.int64], true: NDArray[np.int64]) -> Figure:
    is_drawn = isinstance(source, Setting)
    return noise_figure(
        load_noise_matrix(source) if is_drawn else count_noise_matrix(source),
        count_pairs(given, true, len(CLASSES)),
        CLASSES,
        is_drawn=is_drawn,
    )


def _training_sections(setting: Setting) -> Iterator[Section]:
    if not setting.has_probabilities:
        return
    kept: dict[str, Any] = {method: method for method in METHODS}
    groups: list[tuple[str, Trainer, dict[str, Any]]] = [("ResNet-50", "resnet50", kept)]
    if setting.noise:  # nothing of Co-Teaching was published at noise 0
        methods = {**kept, plot.ALL_EXAMPLES: "coteaching"}
        groups.append(("Co-Teaching", "coteaching", methods))
    figures, tables, missing = [], [], []
    for title, trainer, methods in groups:
        logs: dict[str, TrainingLog] = {}
        for name, method in methods.items():
            on_kept = trainer if name in kept else None
            try:
                logs[name] = load_training_log(method, setting, trainer=on_kept)
            except UnavailableError as error:
                missing.append(f"Missing: {name}: {error.message}.")
            except TrainingLogError as error:
                missing.append(f"Missing: {name}: {error}.")
        if logs:
            figures.append(_curves(logs, title, f"training-{trainer}"))
            tables.append(_accuracies(logs, title))
    yield Section(
        "Training on the cleaned labels",
        [
            "Trained on the examples that a method keeps, or on all; from the published logs. A "
            "curve that falls after a rise shows that the network begins to memorise wrong labels.",
            *missing,
        ],
        tables,
        figures,
    )


def _curves(logs: Mapping[str, TrainingLog], title: str, name: str) -> Figure:
    return figure(
        lambda ax: plot.learning_curves(logs, ax=ax).set_title(title),
        f"{title}: test accuracy in percent by epoch; at the right end, the last one."
        f"{' The second of the two networks is thin.' if title == 'Co-Teaching' else ''}",
        name=name,
        size=FIGURE_SIZE,
    )


def _accuracies(logs: Mapping[str, TrainingLog], title: str) -> Table:
    """Return the accuracies of a figure's curves, of the better network where there are two."""
    numbers = plot.series_of(logs)
    accuracies = {
        name: 100 * log.epochs.filter(regex=r"^test_accuracy(_\d)?$").max(axis=1).to_numpy()
        for name, log in logs.items()
    }
    rows: list[Row] = [
        [Cell(name, series=numbers[name]), Cell.percent(values[-1]), Cell.percent(values.max())]
        for name, values in sorted(accuracies.items(), key=lambda item: -item[1][-1])
    ]
    better = ", of its better network" if title == "Co-Teaching" else ""
    return Table(
        f"Test accuracy of {title}, %{better}",
        ("method", ">last epoch", ">best epoch"),
        rows,
        sorted_by=1,
    )


def _verdict(checks: list[Check]) -> str:
    verdicts = Counter(check.verdict for check in checks)
    counts = ", ".join(f"{n} {verdict}" for verdict, n in verdicts.items())
    if verdicts["unexplained"]:
        return f"Something differs and nothing explains it: {counts}"
    if verdicts["not reachable"]:
        return f"Nothing wrong, but not everything could be had: {counts}"
    return f"All {len(checks)} files are as recomputed: {counts}"


def _verification_section(checks: list[Check]) -> Section:
    heads = ("kind", "method", "edition", "verdict", "<differing bits", "reasons")
    rows: list[Row] = [
        [
            check.artifact.kind.replace("_", " "),
            check.artifact.method or "",
            check.artifact.edition or "",
            check.verdict,
            Cell.count(len(check.differences)),
            check.detail or "; ".join(_reasons(check)),
        ]
        for check in checks
    ]
    return Section(
        "Verification",
        [
            f"{_verdict(checks)}.",
            "Labels, noise matrix and masks were recomputed when this page was made, and compared "
            "with the published files bit by bit. Exact: equal. Explained: float16 rounding may "
            "have made every difference. Known: an anomaly of the published file.",
        ],
        [Table("Recomputed against published", heads, rows)],
    )


def _reasons(check: Check) -> Iterator[str]:
    reasons = Counter(d.explanation.reason for d in check.differences if d.explanation)
    for reason, count in reasons.items():
        yield f"{count}: {REASONS[reason]}"
    for difference in check.differences:
        if difference.known:
            yield f"example {difference.index}: {difference.known}"


def _provenance_sections(source: LabelSource) -> Iterator[Section]:
    if isinstance(source, OwnLabels):
        return
    files = artifacts(noise=source if isinstance(source, Setting) else source.name)
    rows: list[Row] = [
        [artifact.path, artifact.kind.replace("_", " "), Cell.count(artifact.size), artifact.sha256]
        for artifact in files
    ]
    origins = dict.fromkeys((a.repository_name, a.revision, a.licence) for a in files)
    yield Section(
        "Provenance",
        [
            *(
                f"Published in the GitHub repository {repository} at revision {revision}, licence "
                f"{licence}."
                for repository, revision, licence in origins
            ),
            "Every published byte that this page is made from was held to its checksum below.",
            next(known.citation for known in label_sets() if known.name == source.name),
        ],
        [Table("Files of these labels", ("path", "kind", ">bytes", "sha256"), rows, True)],
    )
