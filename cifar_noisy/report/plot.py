"""Figures for notebooks, papers and the report, each drawn into one matplotlib Axes.

Every function takes arrays, those of pandas by their index, and draws into `ax` or, without one,
into a new figure of pyplot, in the style that is set there. Names are shown as they stand. Colours
are of Okabe and Ito's palette, which people of any colour vision tell apart, and a method has the
same in every figure; lines differ by their dashes and points by their shape too, so that a grey
print says as much. Without ``cifar-noisy[report]`` each raises `MissingExtraError`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cifar_noisy.confident_learning.array_checks import as_array, check_probabilities
from cifar_noisy.errors import InvalidInputError, MissingExtraError, printable
from cifar_noisy.evaluation.evaluate import YOURS
from cifar_noisy.evaluation.metrics import counts_by_threshold
from cifar_noisy.settings import CLASSES, METHODS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh

    from cifar_noisy.loading.training_logs import TrainingLog

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Line and point colours, in the order in which they are taken."""

NEUTRAL = "#7f7f7f"
"""Colour of what is drawn for comparison only."""

ALL_EXAMPLES = "all examples"
"""Name of a training on all examples, beside those on what a method keeps."""

MOST_NUMBERED = 25
"""Classes up to which a heat map has every name, and numbers in its cells."""

SERIES = (*PALETTE, NEUTRAL)
"""The colours of names, by the numbers that `series_of` gives."""

_FIXED = {**{str(method): i for i, method in enumerate(METHODS)}, YOURS: 5, ALL_EXAMPLES: 6}
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (6, 1, 1.5, 1)))
_MARKERS = "osD^vPX"
_NEAR = 0.25  # in precision and recall; points nearer than that to the middle one are a crowd
_TOO_NEAR = 0.04  # points nearer than that hide each other
_INSETS = ((0.1, 0.09, 0.42, 0.44), (0.4, 0.62, 0.36, 0.4))  # left, bottom, width, height
_BRIGHT = 0.55
_GRID_STEP = 1.5  # height of an image with its labels; an image is 1 wide
_NOT_ONE = 0.01  # what float16 entries may sum up to beside it
_LARGEST = 1e15  # entry of a matrix; more than this float64 does not count one by one
_MOST = 1_000  # columns or bins


def noise_matrix(
    matrix: ArrayLike,
    *,
    counts: ArrayLike | None = None,
    classes: Sequence[str] = CLASSES,
    ax: Axes | None = None,
) -> Axes:
    """Draw a noise matrix as a heat map: how often a true class is given which label.

    Parameters
    ----------
    matrix : (K, K) float array_like
        Entry (i, j) is p(given label = i | true label = j); columns sum to 1, or are NaN.
    counts : (K, K) int array_like, optional
        Examples with given label i and true label j, shown below the rates.
    classes : sequence of K str
        Names of the classes. Of more than 25 some are shown, and no numbers.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InvalidInputError
        If the shapes do not go together, an entry is beyond 1e15, or a column does not sum to 1.

    Examples
    --------
    >>> import cifar_noisy
    >>> ax = cifar_noisy.plot.noise_matrix(cifar_noisy.load_noise_matrix(0.4, 0.2))
    >>> ax.get_xlabel(), len(ax.texts)
    ('true label', 100)
    """
    _check_names(classes)
    rates = _square(matrix, "matrix", classes)
    totals = rates.sum(axis=0)
    if (abs(totals - 1) > _NOT_ONE).any():  # NaN, of a class that nothing is known of, is not
        raise InvalidInputError(
            f"columns of matrix sum to {totals.round(3).tolist()}, not to 1: pass p(given label = "
            "row | true label = column); plot.joint draws counts"
        )
    texts = [["–" if np.isnan(rate) else f"{100 * rate:.0f}" for rate in row] for row in rates]
    if counts is not None:
        numbers = _square(counts, "counts", classes)
        texts = [
            [f"{text}\n({number:,.0f})" for text, number in zip(*row, strict=True)]
            for row in zip(texts, numbers, strict=True)
        ]
    ax = _axes(ax)
    _heat_map(rates, texts, classes, ax, cmap="Blues", vmin=0, vmax=1)
    unit = "%" if counts is None else "%, and (examples)"
    ax.set_title(_shown(f"Noise matrix: p(given | true), {unit}"))
    return ax


def joint(
    estimated: ArrayLike,
    actual: ArrayLike,
    *,
    classes: Sequence[str] = CLASSES,
    ax: Axes | None = None,
) -> Axes:
    """Draw an estimated joint of given and true labels against the actual one.

    Each cell has the estimated number; its colour is that less the actual one. Counts of equally
    many examples are shown as they are; all else is shown in percent.

    Parameters
    ----------
    estimated, actual : (K, K) array_like
        Examples by given label (row) and true label (column), as counts or as shares: of
        `confident_joint` or `estimate_joint`, and of
        ``sklearn.metrics.confusion_matrix(given, true)``.
    classes, ax
        As for `noise_matrix`.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InvalidInputError
        If the shapes do not go together, an entry is beyond 1e15, or there are no examples.

    Examples
    --------
    >>> import cifar_noisy
    >>> ax = cifar_noisy.plot.joint([[9, 1], [0, 10]], [[8, 2], [1, 9]], classes=["cat", "dog"])
    >>> [text.get_text() for text in ax.texts]
    ['9', '1', '0', '10']
    >>> ax.collections[0].get_array().astype(int).tolist()
    [[1, -1], [-1, 1]]
    """
    _check_names(classes)
    tables = [_square(estimated, "estimated", classes), _square(actual, "actual", classes)]
    totals = [float(table.sum()) for table in tables]
    if not all(0 < total < np.inf for total in totals):
        raise InvalidInputError(f"the joints sum to {totals}: pass counts or shares of examples")
    unit, digits = "examples", 0
    if totals[0] < 1 + _NOT_ONE or not np.isclose(totals[0], totals[1]):
        unit, digits = "% of the examples", 2
        tables = [100 * table / total for table, total in zip(tables, totals, strict=True)]
    texts = [[f"{value:,.{digits}f}" for value in row] for row in tables[0]]
    difference = tables[0] - tables[1]
    largest = float(np.abs(difference).max()) or 1.0
    ax = _axes(ax)
    mesh = _heat_map(difference, texts, classes, ax, cmap="PuOr_r", vmin=-largest, vmax=largest)
    ax.figure.colorbar(mesh, ax=ax, label=_shown(f"estimated less actual, {unit}"), shrink=0.8)
    ax.set_title(_shown(f"Estimated joint of labels, {unit}"))
    return ax


def precision_recall(
    score: ArrayLike,
    is_error: ArrayLike,
    *,
    methods: Mapping[str, ArrayLike] | None = None,
    label: str = "score",
    ax: Axes | None = None,
) -> Axes:
    """Draw precision against recall over all cuts of a score, with masks as points.

    Parameters
    ----------
    score : (N,) float array_like
        Higher = more likely a label error.
    is_error : (N,) bool array_like
        The true label errors.
    methods : mapping of str to (N,) bool array_like, optional
        Label errors that a method found, by its name. One that finds nothing is left out. Points
        that crowd are drawn once more in an inset.
    label : str, default "score"
        What the curve is called.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InvalidInputError
        If lengths differ, a score is not finite, a mask is not of bool, or there are no label
        errors, so that recall has no meaning.

    Examples
    --------
    >>> import cifar_noisy
    >>> ax = cifar_noisy.plot.precision_recall([0.9, 0.8, 0.1], [True, False, False])
    >>> ax.get_xlabel()
    'recall (fraction of the label errors)'
    """
    errors = _mask(as_array(is_error, "is_error"), "is_error")
    scores = _of_length(score, len(errors), "score")
    if scores.dtype.kind not in "biuf" or not np.isfinite(scores).all():
        raise InvalidInputError("score has entries that are not finite: pass a number for each")
    if not errors.any():
        raise InvalidInputError("is_error has no label error, so recall has no meaning: leave out")
    _, n_flagged, n_hits = counts_by_threshold(errors, scores.astype(np.float64))
    # At its left end no example is flagged, and precision is 1 by convention.
    recall = np.append(n_hits[::-1] / errors.sum(), 0)
    precision = np.append((n_hits / n_flagged)[::-1], 1)
    masks = {} if methods is None else _mapping(methods, "methods")
    points: dict[str, tuple[float, float]] = {}
    for name, mask in masks.items():
        found = _mask(_of_length(mask, len(errors), name), name)
        if found.any():
            hits = np.count_nonzero(found & errors)
            points[name] = (float(hits / errors.sum()), float(hits / found.sum()))
    ax = _axes(ax)
    # Points of a long line that are too close to be seen are left out.
    drawn = np.unique(np.linspace(0, len(recall) - 1, 1_000).astype(np.intp))
    curve = np.stack([recall[drawn], precision[drawn]])
    ax.plot(*curve, color=NEUTRAL, label=_label(label))
    ax.set(
        xlabel="recall (fraction of the label errors)",
        ylabel="precision (fraction of the flagged)",
        xlim=(0, 1.02),
        ylim=(0, 1.12),  # the name of the curve stands above it
        yticks=np.linspace(0, 1, 6),
        title="Finding label errors",
    )
    ax.grid(alpha=0.3)
    top = precision[(recall > _TOO_NEAR) & (recall < 0.5)].max(initial=precision[0])
    ax.annotate(
        _shown(label), (_TOO_NEAR, top), (0, 3), textcoords="offset points", fontsize="small"
    )  # fmt: skip
    _draw_points(ax, points, curve, series_of(masks))
    return ax


def learning_curves(logs: Mapping[str, TrainingLog], *, ax: Axes | None = None) -> Axes:
    """Draw the test accuracy of trainings epoch by epoch; a fall shows that noise is memorised.

    Parameters
    ----------
    logs : mapping of str to TrainingLog
        Logs as `load_training_log` gives them, by the name that stands at the end of the curve
        with its last accuracy. Of a log with two networks, both are drawn, the second thin and
        without a name. The axis begins at what no curve is below after a tenth of its epochs.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InvalidInputError
        If `logs` is no mapping of names to logs.

    Examples
    --------
    >>> import cifar_noisy
    >>> log = cifar_noisy.load_training_log("coteaching", 0.4, 0.2)  # published files
    >>> ax = cifar_noisy.plot.learning_curves({"Co-Teaching": log})  # published files
    >>> ax.get_ylabel(), len(ax.lines)  # published files
    ('test accuracy (%)', 2)
    """
    for name, log in _mapping(logs, "logs").items():
        if not hasattr(log, "epochs"):
            raise InvalidInputError(
                f"logs[{name!r}] is a {type(log).__name__}: pass what load_training_log returns"
            )
    ax = _axes(ax)
    ends: dict[str, tuple[float, float]] = {}
    settled = []
    numbers = series_of(logs)
    for name, log in logs.items():
        epochs = log.epochs["epoch"].to_numpy()
        networks = log.epochs.filter(regex=r"^test_accuracy(_\d)?$")  # one, or two
        for accuracy, width, label in zip(
            100 * networks.to_numpy().T, (1.2, 0.5), (_label(name), None), strict=False
        ):
            ax.plot(
                epochs, accuracy, color=SERIES[numbers[name]],
                linestyle=_DASHES[numbers[name] % len(_DASHES)], linewidth=width, label=label,
            )  # fmt: skip
            settled.append(np.nanmin(accuracy[len(epochs) // 10 :], initial=100))
            if label and len(epochs) and np.isfinite(accuracy[-1]):
                ends[name] = (epochs[-1], accuracy[-1])
    ax.set(xlabel="epoch", ylabel=_shown("test accuracy (%)"))
    ax.set_title("Test accuracy during training")
    ax.grid(alpha=0.3)
    ax.margins(x=0.01)
    if ends:
        top = ax.get_ylim()[1]
        ax.set_ylim(min(settled) - 0.05 * (top - min(settled)), top)
    texts = {name: f"{name} {end[1]:.1f}" for name, end in ends.items()}
    _label_points(ax, ends, texts, numbers, ax.bbox.height)
    return ax


def examples(
    images: ArrayLike,
    given: ArrayLike,
    true: ArrayLike,
    predicted: ArrayLike,
    *,
    classes: Sequence[str] = CLASSES,
    columns: int = 10,
    ax: Axes | None = None,
) -> Axes:
    r"""Draw images in a grid, each with its given, true and predicted label below.

    Parameters
    ----------
    images : (N, H, W, C) uint8 array_like
        C is 3 for colour, 1 for grey.
    given, true, predicted : (N,) int array_like
        Labels of the same examples.
    columns : int, default 10
        Images in a row.
    classes, ax
        As for `noise_matrix`.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InvalidInputError
        If lengths differ, the images have another shape or no numbers, a label is no class, or
        `columns` is not an integer from 1 to 1,000.

    Examples
    --------
    >>> import cifar_noisy
    >>> images = np.zeros((3, 32, 32, 3), np.uint8)
    >>> ax = cifar_noisy.plot.examples(images, [0] * 3, [1] * 3, [1] * 3)
    >>> ax.texts[0].get_text()
    'given airplane\ntrue automobile\npred. automobile'
    """
    _check_number(columns, "columns")
    _check_names(classes)
    pixels = as_array(images, "images")
    if pixels.ndim != 4 or pixels.shape[3] not in (1, 3) or pixels.dtype.kind not in "biuf":
        raise InvalidInputError(
            f"images are {pixels.dtype} of shape {pixels.shape}: pass uint8 of shape (N, H, W, 3) "
            "for colour, (N, H, W, 1) for grey"
        )
    labels = {"given": given, "true": true, "pred.": predicted}
    rows = {
        name: _labels(values, len(pixels), len(classes), name) for name, values in labels.items()
    }
    ax = _axes(ax)
    for i, image in enumerate(np.broadcast_to(pixels, (*pixels.shape[:3], 3))):
        top, left = divmod(i, columns)
        box = (left + 0.04, left + 0.96, top * _GRID_STEP + 0.92, top * _GRID_STEP)
        ax.imshow(image, extent=box, interpolation="none")
        text = "\n".join(f"{name} {_shown(classes[int(row[i])])}" for name, row in rows.items())
        ax.text(left + 0.04, box[2] + 0.04, text, va="top", fontsize="xx-small")
    n_rows = -(-len(pixels) // columns)
    ax.set(xlim=(0, columns), ylim=(max(n_rows, 1) * _GRID_STEP, 0), aspect="equal")
    ax.set_axis_off()
    return ax


def calibration(
    pyx: ArrayLike, labels: ArrayLike, *, bins: int = 15, ax: Axes | None = None
) -> Axes:
    """Draw how often the most probable class is right against how probable it is said to be.

    Parameters
    ----------
    pyx : (N, K) float array_like
        Predicted probabilities.
    labels : (N,) int array_like
        True labels, or given ones to see what the model was trained for.
    bins : int, default 15
        Bins of equal width.
    ax : matplotlib Axes, optional
        Where to draw; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    InvalidInputError
        If lengths differ, `pyx` holds no probabilities, a label is no class, or `bins` is not an
        integer from 1 to 1,000.

    Examples
    --------
    >>> import cifar_noisy
    >>> ax = cifar_noisy.plot.calibration([[0.9, 0.1], [0.2, 0.8]], [0, 1])
    >>> ax.get_xlabel()
    'probability of the predicted class'
    """
    _check_number(bins, "bins")
    probabilities = check_probabilities(as_array(pyx, "pyx"))
    truth = _labels(labels, len(probabilities), probabilities.shape[1], "labels")
    # A mean of softmaxes may exceed 1 by a rounding.
    confidence = np.minimum(probabilities.max(axis=1).astype(np.float64), 1)
    is_right = probabilities.argmax(axis=1) == truth
    edges = np.linspace(0, 1, bins + 1)
    bin_of = np.searchsorted(edges[1:-1], confidence)
    shares = np.bincount(bin_of, minlength=bins)
    is_used = shares > 0
    accuracy, said = (
        np.bincount(bin_of, values, bins)[is_used] / shares[is_used]
        for values in (is_right, confidence)
    )
    ax = _axes(ax)
    ax.bar(
        edges[:-1], shares / len(truth), np.diff(edges), align="edge",
        color=NEUTRAL, alpha=0.35, label="share of the examples",
    )  # fmt: skip
    ax.plot([0, 1], [0, 1], color=NEUTRAL, linestyle=":", label="perfect calibration")
    ax.plot(said, accuracy, "o-", color=PALETTE[0], label="predicted class is right")
    ax.set(
        xlabel="probability of the predicted class",
        ylabel="fraction of the examples",
        xlim=(0, 1),
        ylim=(0, 1.02),
        title="Calibration",
    )
    ax.grid(alpha=0.3)
    ax.legend(loc="best")
    return ax


def series_of(names: Collection[str]) -> dict[str, int]:
    """Return the number in `SERIES` of each name's colour.

    The five methods, "yours" and "all examples" have the same wherever they are drawn; other names
    take in turn those that none of these has.
    """
    taken = {_FIXED[name] for name in names if name in _FIXED}
    free = itertools.cycle([i for i in range(len(SERIES)) if i not in taken] or range(len(SERIES)))
    return {name: _FIXED[name] if name in _FIXED else next(free) for name in names}


def import_matplotlib() -> ModuleType:
    """Import matplotlib, also where ``MPLBACKEND`` names a backend that is not installed.

    A command that a notebook starts inherits the notebook's, though it opens no window.
    """
    backend = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise MissingExtraError("matplotlib") from error
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with contextlib.suppress(ValueError):
            mpl.rcParams["backend"] = backend
    return mpl


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        if not hasattr(ax, "pcolormesh"):
            raise InvalidInputError(
                f"ax is a {type(ax).__name__}: pass an Axes, such as figure.add_subplot()"
            )
        return ax
    import_matplotlib()
    from matplotlib import pyplot

    return pyplot.subplots(layout="constrained")[1]


def _draw_points(
    ax: Axes,
    points: Mapping[str, tuple[float, float]],
    curve: NDArray[np.float64],
    numbers: Mapping[str, int],
) -> None:
    """Draw a point for each name; those that hide each other once more, larger, in an inset."""
    for name, point in points.items():
        _draw_point(ax, point, numbers[name], name)
    crowd = _crowd(points)
    if not crowd:
        _label_points(ax, points, {name: name for name in points}, numbers, ax.bbox.height)
        return
    for name in points.keys() - crowd.keys():
        away, side = (8, "left") if points[name][0] < 0.5 else (-8, "right")
        ax.annotate(
            _shown(name), points[name], (away, -10), textcoords="offset points", ha=side,
            fontsize="small",
        )  # fmt: skip
    everything = np.concatenate([curve, np.transpose(list(points.values()))], axis=1)
    box = next((box for box in _INSETS if not _holds(box, everything)), _INSETS[0])
    inset = ax.inset_axes(box, transform=ax.transData)
    inset.plot(*curve, color=NEUTRAL)
    for name, point in crowd.items():
        _draw_point(inset, point, numbers[name], name)
    near = np.array(list(crowd.values()))
    low, high = near.min(axis=0), near.max(axis=0)
    pad = np.maximum(0.25 * (high - low), 0.005)
    inset.set(xlim=(low[0] - pad[0], high[0] + pad[0]), ylim=(low[1] - pad[1], high[1] + pad[1]))
    inset.tick_params(labelsize="x-small")
    inset.grid(alpha=0.3)
    ax.indicate_inset_zoom(inset, edgecolor=NEUTRAL)
    height = ax.bbox.height * box[3] / np.ptp(ax.get_ylim())
    _label_points(inset, crowd, {name: name for name in crowd}, numbers, float(height))


def _draw_point(ax: Axes, point: tuple[float, float], number: int, name: str) -> None:
    marker, colour = _MARKERS[number], SERIES[number]
    ax.plot(*point, marker, color=colour, markersize=8, label=_label(name), zorder=3)


def _crowd(points: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Return the points about the middle one, if some of them hide each other."""
    if not points:
        return {}
    places = np.array(list(points.values()))
    is_near = (np.abs(places - np.median(places, axis=0)) < _NEAR).all(axis=1)
    near = places[is_near]
    distances = np.abs(near[:, None] - near).max(axis=2)[~np.eye(len(near), dtype=np.bool_)]
    if not (distances < _TOO_NEAR).any():
        return {}
    return {name: points[name] for name, is_one in zip(points, is_near, strict=True) if is_one}


def _holds(box: tuple[float, float, float, float], points: NDArray[np.float64]) -> bool:
    """Say whether a part of a line, or a point, lies in a box or in the room right of it."""
    left, bottom, width, height = box
    x, y = points
    is_inside = (x > left) & (x < left + 1.6 * width) & (y > bottom) & (y < bottom + height)
    return bool(is_inside.any())


def _label_points(
    ax: Axes,
    points: Mapping[str, tuple[float, float]],
    texts: Mapping[str, str],
    numbers: Mapping[str, int],
    height: float,
) -> None:
    """Write texts right of the axes, so far apart that they can be read, with lines to points.

    `height` is that of the axes in pixels, which an inset does not know before it is drawn.
    """
    if not points:
        return
    from matplotlib.font_manager import FontProperties

    names = sorted(points, key=lambda name: points[name][1])
    low, high = ax.get_ylim()
    wanted = np.array([(points[name][1] - low) / (high - low) for name in names])
    line = 1.25 * FontProperties(size="small").get_size_in_points() * ax.figure.dpi / 72
    places = _spread(wanted, line / height)
    for name, place in zip(names, places, strict=True):
        ax.annotate(
            _shown(texts[name]), points[name], (1.05, place), textcoords="axes fraction",
            va="center", fontsize="small", annotation_clip=False,
            arrowprops={
                "arrowstyle": "-", "color": SERIES[numbers[name]], "linewidth": 0.6,
                "shrinkA": 1, "shrinkB": 0, "relpos": (0, 0.5),
            },
        )  # fmt: skip


def _spread(wanted: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """Move rising numbers as little as makes each at least `gap` more than the one before."""
    steps = gap * np.arange(len(wanted))
    raised = np.maximum.accumulate(wanted - steps)
    lowered = np.minimum.accumulate((wanted - steps)[::-1])[::-1]
    return (raised + lowered) / 2 + steps


def _shown(text: object) -> str:
    """Escape a text so that matplotlib shows it literally in the current style."""
    from matplotlib import rcParams
    from tabulate import LATEX_ESCAPE_RULES

    shown = printable(text)
    if rcParams["text.usetex"]:
        return "".join(LATEX_ESCAPE_RULES.get(character, character) for character in shown)
    return shown.replace("$", r"\$") if rcParams["text.parse_math"] else shown


def _label(name: object) -> str:
    """Return a name that a legend shows even if it is empty or begins with "_"."""
    shown = _shown(name)
    return f" {shown}" if shown[:1] in ("", "_") else shown


def _heat_map(
    values: NDArray[np.float64],
    texts: Sequence[Sequence[str]],
    classes: Sequence[str],
    ax: Axes,
    **colours: Any,
) -> QuadMesh:
    """Draw a square of cells with their texts, given labels downwards, true labels rightwards."""
    mesh = ax.pcolormesh(values, edgecolors="face", **colours)
    step = -(-len(classes) // MOST_NUMBERED)
    for row, column in np.ndindex(values.shape) if step == 1 else ():
        red, green, blue, alpha = mesh.to_rgba(values[row, column])
        is_bright = 0.299 * red + 0.587 * green + 0.114 * blue > _BRIGHT
        ax.text(
            column + 0.5, row + 0.5, texts[row][column], ha="center", va="center",
            fontsize="small" if len(texts[row][column]) < 4 else "x-small",
            color=("black" if is_bright else "white") if alpha else None,
        )  # fmt: skip
    centres = np.arange(0, len(classes), step) + 0.5
    names = [_shown(name) for name in list(classes)[::step]]
    ax.set_xticks(centres, names, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(centres, names)
    ax.set(xlabel="true label", ylabel="given label", aspect="equal")
    ax.invert_yaxis()
    return mesh


def _square(values: ArrayLike, name: str, classes: Sequence[str]) -> NDArray[np.float64]:
    array, n = as_array(values, name), len(classes)
    if array.dtype.kind not in "biuf":
        raise InvalidInputError(f"{name} has dtype {array.dtype}: pass numbers")
    if array.shape != (n, n):
        raise InvalidInputError(
            f"{name} has shape {array.shape}, where {n} classes need {(n, n)}: pass the names of "
            "its classes"
        )
    numbers = array.astype(np.float64)
    if (np.abs(numbers) > _LARGEST).any():
        raise InvalidInputError(
            f"{name} has entries beyond {_LARGEST:g}: pass rates, shares or numbers of examples"
        )
    return numbers


def _of_length(values: ArrayLike, n_examples: int, name: str) -> NDArray[Any]:
    array = as_array(values, name)
    if array.shape != (n_examples,):
        raise InvalidInputError(
            f"{name} has shape {array.shape}, where there are {n_examples:,} examples: pass one "
            "value an example"
        )
    return array


def _mask(array: NDArray[Any], name: str) -> NDArray[np.bool_]:
    if not np.isin(array, (False, True)).all():
        raise InvalidInputError(f"{name} has other values than True and False: pass a bool array")
    return array.astype(np.bool_)


def _labels(values: ArrayLike, n_examples: int, n_classes: int, name: str) -> NDArray[Any]:
    labels = _of_length(values, n_examples, name)
    if not np.isin(labels, range(n_classes)).all():
        raise InvalidInputError(f"{name} has labels other than 0 to {n_classes - 1}")
    return labels


def _mapping(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise InvalidInputError(f"{name} is a {type(values).__name__}: pass a dict, by name")
    return values


def _check_names(classes: Sequence[str]) -> None:
    if as_array(classes, "classes").ndim != 1:
        raise InvalidInputError(f"classes is a {type(classes).__name__}: pass a list of names")


def _check_number(value: int, name: str) -> None:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise InvalidInputError(f"{name} is {value!r}: pass a positive integer")
    if value > _MOST:
        raise InvalidInputError(f"{name} is more than can be seen: pass {_MOST:,} or fewer")
