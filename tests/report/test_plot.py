"""Figures: what is drawn is what was passed."""

import html
import io
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st
from matplotlib import pyplot, rc_context, rcParams
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation, Text
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_curve, precision_score, recall_score

import cifar_noisy
from cifar_noisy import InvalidInputError, parse_training_log, plot
from tests.digits import noisy_digits


@pytest.fixture
def ax() -> Iterator[Axes]:
    figure, ax = pyplot.subplots()
    yield ax
    figure.canvas.draw()  # whatever cannot be drawn is an error here
    pyplot.close(figure)


def points_of(line: Line2D) -> NDArray[np.float64]:
    return np.transpose([np.asarray(values) for values in line.get_data()])


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_a_noise_matrix_has_its_rates_and_counts(ax: Axes) -> None:
    matrix = cifar_noisy.load_noise_matrix(0.4, 0.2)
    counts = np.arange(100).reshape(10, 10) * 37
    assert plot.noise_matrix(matrix, counts=counts, ax=ax) is ax
    expected = [
        f"{100 * rate:.0f}\n({count:,})"
        for rate, count in zip(matrix.ravel(), counts.ravel(), strict=True)
    ]
    assert texts(ax) == expected
    # Given labels run downwards, as rows of an array do.
    assert ax.yaxis_inverted()
    assert [label.get_text() for label in ax.get_yticklabels()] == list(cifar_noisy.CLASSES)
    place = ax.texts[23].get_position()
    assert place == (3.5, 2.5)  # row 2, column 3


def test_a_joint_shows_the_estimate_and_colours_the_difference(ax: Axes) -> None:
    estimated, actual = np.array([[9, 1], [0, 10]]), np.array([[8, 2], [3, 7]])
    plot.joint(estimated, actual, classes=["cat", "dog"], ax=ax)
    assert texts(ax) == ["9", "1", "0", "10"]
    (mesh,) = ax.collections
    np.testing.assert_array_equal(np.asarray(mesh.get_array()), estimated - actual)
    assert mesh.get_clim() == (-3, 3)


@pytest.mark.parametrize("parts", [(1, 1), (20, 1), (1, 20), (40, 20)])
def test_a_joint_of_shares_and_one_of_counts_are_of_one_unit(
    parts: tuple[float, float], ax: Axes
) -> None:
    estimated, actual = np.array([[9, 1], [0, 10]]) / 20, np.array([[8, 2], [3, 7]]) / 20
    plot.joint(estimated * parts[0], actual * parts[1], classes=["cat", "dog"], ax=ax)
    assert texts(ax) == ["45.00", "5.00", "0.00", "50.00"]
    (mesh,) = ax.collections
    np.testing.assert_allclose(np.asarray(mesh.get_array()), 100 * (estimated - actual))
    assert ax.get_title() == "Estimated joint of labels, % of the examples"


def test_the_estimated_joint_of_the_package_beside_counts(ax: Axes) -> None:
    digits = noisy_digits()
    actual = confusion_matrix(digits.given, digits.true)
    estimated = cifar_noisy.estimate_joint(digits.given, digits.pyx)
    plot.joint(estimated, actual, ax=ax)
    drawn = np.array(texts(ax), float).reshape(10, 10)
    np.testing.assert_allclose(drawn, 100 * estimated, atol=0.005)
    (mesh,) = ax.collections
    difference = drawn - np.asarray(mesh.get_array())
    np.testing.assert_allclose(difference, 100 * actual / actual.sum(), atol=0.005)


@pytest.mark.parametrize(("n", "n_names"), [(25, 25), (26, 13), (100, 25)])
def test_many_classes_have_colours_alone(n: int, n_names: int, ax: Axes) -> None:
    names = [f"class {i}" for i in range(n)]
    plot.joint(np.eye(n), np.ones((n, n)), classes=names, ax=ax)
    assert len(ax.texts) == (n * n if n <= 25 else 0)
    shown = [label.get_text() for label in ax.get_yticklabels()]
    assert len(shown) == n_names
    assert [ax.get_yticks()[i] for i in (0, -1)] == [names.index(shown[i]) + 0.5 for i in (0, -1)]


def test_the_colours_of_a_joint_have_a_bar(ax: Axes) -> None:
    plot.joint(np.eye(2), [[1, 1], [0, 0]], classes=["cat", "dog"], ax=ax)
    _, bar = ax.figure.axes
    assert bar.get_ylabel() == "estimated less actual, examples"
    assert bar.get_ylim() == (-1, 1)


def test_a_class_that_nothing_is_known_of_has_dashes(ax: Axes) -> None:
    plot.noise_matrix([[0.9, np.nan], [0.1, np.nan]], classes=["cat", "dog"], ax=ax)
    assert texts(ax) == ["90", "–", "10", "–"]
    assert ax.texts[1].get_color() == rcParams["text.color"]


NAMES = ["$\\foo$", "_low", "50 % & #1", "a_b^{c}~\\x", "cat\ndog", "\udc80\x1b", ""]


@pytest.mark.parametrize("parse_math", [True, False])
def test_names_are_shown_as_they_stand(parse_math: bool, ax: Axes) -> None:
    shown = [*NAMES[:4], "cat dog", "\\udc80\\x1b", ""]
    with rc_context({"text.parse_math": parse_math}):
        figure = Figure()
        matrix, curve, grid = figure.subplots(3)
        plot.noise_matrix(np.eye(7), classes=NAMES, ax=matrix)
        found = {name: np.array([True, False]) for name in NAMES}
        plot.precision_recall([0.9, 0.1], [True, False], methods=found, label="_s", ax=curve)
        plot.examples(np.zeros((7, 2, 2, 3)), *[range(7)] * 3, classes=NAMES, ax=grid)
        svg = io.StringIO()
        with rc_context({"svg.fonttype": "none"}):
            figure.savefig(svg, format="svg")
    written = re.findall(r"<text[^>]*>(.*?)</text>", svg.getvalue(), re.DOTALL)
    lines = Counter(html.unescape(text).strip() for text in written)
    for name in shown[:-1]:
        # Ticks of both axes, beside its point; below the images as one text of three lines.
        assert lines[name] == 3, name
        assert sum(f"given {name}" in line for line in lines) == 1, name
    assert lines["_s"] == 1
    assert len(curve.legend().get_texts()) == 8  # whoever wants one has all names in it


def test_names_under_tex_are_escaped() -> None:
    with rc_context({"text.usetex": True}):
        curve, matrix, joint = Figure().subplots(3)
        found = {name: np.array([True, False]) for name in NAMES}
        plot.precision_recall([0.9, 0.1], [True, False], methods=found, label="_s", ax=curve)
        legend = curve.legend()
        plot.noise_matrix(np.eye(7), classes=NAMES, ax=matrix)
        plot.joint(np.eye(7) / 7, np.eye(7), classes=NAMES, ax=joint)
        log = parse_training_log(
            "Epoch [1/1] Test Accuracy on the 10000 test data: Model1 1.0000 % Model2 2.0000 %\n"
        )
        curves = plot.learning_curves({"50 %": log}, ax=Figure().subplots())
    said = [
        *legend.get_texts(), *curve.texts, *curve.child_axes[0].texts, *curves.texts,
        *matrix.get_xticklabels(), *matrix.get_yticklabels(),
        *(ax.title for ax in (curve, matrix, joint, curves)), curves.yaxis.label,
        *joint.get_xticklabels(), joint.figure.axes[-1].yaxis.label,
    ]  # fmt: skip
    for text in said:
        assert text.get_usetex()
        # What is left when escapes and commands are taken away means nothing to TeX.
        left = re.sub(r"\\(text[a-z]+\{\}|\^\{\}|[&%$#_{}])", "", text.get_text())
        assert not set(left) & set("\\{}$&#^_~%"), text
    assert legend.get_texts()[1].get_text() == r"\$\textbackslash{}foo\$"


def test_the_users_style_is_kept_and_used() -> None:
    with rc_context({"axes.facecolor": "#123456", "text.color": "#654321"}):
        before = dict(rcParams)
        ax = plot.learning_curves({}, ax=Figure().subplots())
        assert dict(rcParams) == before
    assert ax.get_facecolor() == to_rgba("#123456")
    assert ax.title.get_color() == "#654321"


@pytest.mark.parametrize("backend", ["rubbish", "module://matplotlib_inline.backend_inline", ""])
def test_a_backend_that_is_not_there(backend: str, tmp_path: Path) -> None:
    program = """
import os, sys
import cifar_noisy
ax = cifar_noisy.plot.noise_matrix(cifar_noisy.load_noise_matrix(0.4, 0.2))
ax.figure.savefig(sys.argv[1])
print(os.environ["MPLBACKEND"])
"""
    result = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "matrix.png"],
        env=os.environ | {"MPLBACKEND": backend}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (result.stdout, result.stderr) == (f"{backend}\n", "")
    assert (tmp_path / "matrix.png").stat().st_size > 10_000


@pytest.mark.parametrize("first", ["import matplotlib", "plot.import_matplotlib()"])
def test_a_backend_that_is_there_is_the_one(first: str) -> None:
    program = f"""
from cifar_noisy import plot
{first}
print(plot.import_matplotlib().get_backend())
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"MPLBACKEND": "svg"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stdout == "svg\n"


def test_equal_joints_are_no_division_by_zero(ax: Axes) -> None:
    plot.joint(np.eye(10), np.eye(10), ax=ax)


def test_precision_recall_is_scikit_learns(ax: Axes) -> None:
    digits = noisy_digits()
    is_error = digits.given != digits.true
    score = 1 - digits.pyx[np.arange(len(is_error)), digits.given]
    nothing = np.zeros_like(is_error)
    methods = {**digits.found, "nothing": nothing}
    plot.precision_recall(score, is_error, methods=methods, ax=ax)
    curve, *points = ax.lines
    precision, recall, _ = precision_recall_curve(is_error, score)
    drawn = set(map(tuple, points_of(curve)))
    assert drawn <= set(zip(recall, precision, strict=True))
    assert {(recall[0], precision[0]), (recall[-1], precision[-1])} <= drawn
    assert {
        str(point.get_label()): (point.get_xdata()[0], point.get_ydata()[0])  # type: ignore[index]
        for point in points
    } == {
        name: (pytest.approx(recall_score(is_error, mask)), precision_score(is_error, mask))
        for name, mask in digits.found.items()
    }
    assert len({point.get_marker() for point in points}) == len(points)


def test_learning_curves_are_the_logs(published: str, ax: Axes) -> None:
    logs = {
        "ResNet-50": cifar_noisy.load_training_log("cl_both", 0.4, 0.2),
        "Co-Teaching": cifar_noisy.load_training_log("coteaching", 0.4, 0.2),
    }
    plot.learning_curves(logs, ax=ax)
    expected = [
        100 * logs["ResNet-50"].epochs["test_accuracy"],
        100 * logs["Co-Teaching"].epochs["test_accuracy_1"],
        100 * logs["Co-Teaching"].epochs["test_accuracy_2"],
    ]
    for line, values in zip(ax.lines, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(line.get_ydata()), values)
    assert {text.get_text(): text.xy for text in ax.texts if isinstance(text, Annotation)} == {
        f"{name} {values.iloc[-1]:.1f}": (log.epochs["epoch"].iloc[-1], values.iloc[-1])
        for (name, log), values in zip(logs.items(), expected[:2], strict=True)
    }


def test_the_rise_at_the_beginning_leaves_room_to_what_follows(published: str, ax: Axes) -> None:
    log = cifar_noisy.load_training_log("cl_both", 0.4, 0.2)
    accuracy = 100 * log.epochs["test_accuracy"]
    plot.learning_curves({"all": log}, ax=ax)
    bottom, top = ax.get_ylim()
    assert accuracy.min() < bottom < accuracy[len(accuracy) // 10 :].min()
    assert top > accuracy.max()


FIVE = [str(method) for method in cifar_noisy.METHODS]


@pytest.mark.parametrize(
    "names",
    [FIVE, FIVE[::-1], FIVE[3:], ["yours", *FIVE], [*FIVE, "all examples"], ["mine", *FIVE, "z"]],
)
def test_a_method_has_one_colour_in_every_figure(published: str, names: list[str]) -> None:
    found = {name: np.arange(20) < 9 + i for i, name in enumerate(names)}
    points = plot.precision_recall(
        np.linspace(1, 0, 20), np.arange(20) < 12, methods=found, ax=Figure().subplots()
    )
    log = cifar_noisy.load_training_log("cl_both", 0.4, 0.2)
    curves = plot.learning_curves(dict.fromkeys(names, log), ax=Figure().subplots())
    drawn = [
        {str(line.get_label()): line.get_color() for line in ax.lines} for ax in (points, curves)
    ]
    assert drawn[0].pop("score") == plot.NEUTRAL
    assert drawn[0] == drawn[1]
    assert len(set(drawn[1].values())) == min(len(names), 7)
    for name, colour in drawn[1].items():
        if name in FIVE:
            assert colour == plot.PALETTE[FIVE.index(name)]


@pytest.mark.parametrize(
    ("cuts", "in_inset", "beside"),
    [
        ([], [], []),
        ([50], [], ["0"]),
        ([20, 90], [], ["0", "1"]),
        ([50, 50, 51], ["0", "1", "2"], []),
        ([50, 52, 1, 95, 54], ["0", "1", "4"], ["2", "3"]),
    ],
)
def test_points_that_crowd_have_an_inset(
    cuts: list[int], in_inset: list[str], beside: list[str], ax: Axes
) -> None:
    is_error = np.arange(100) % 2 == 0
    methods = {str(i): np.arange(100) < cut for i, cut in enumerate(cuts)}
    plot.precision_recall(np.linspace(1, 0, 100), is_error, methods=methods, ax=ax)
    assert sorted(texts(ax)) == sorted(["score", *beside])
    insets = cast(list[Axes], ax.child_axes)
    assert sorted(name for inset in insets for name in texts(inset)) == in_inset
    ax.figure.canvas.draw()
    for inset in insets:
        boxes = [Text.get_window_extent(text) for text in inset.texts]  # without its line
        for i, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:i])


def test_names_at_the_ends_of_curves_do_not_overlap(published: str, ax: Axes) -> None:
    log = cifar_noisy.load_training_log("cl_both", 0.4, 0.2)
    plot.learning_curves({str(i): log for i in range(9)}, ax=ax)
    ax.figure.canvas.draw()
    boxes = [Text.get_window_extent(text) for text in ax.texts]  # without their lines
    assert len(boxes) == 9
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=9).map(sorted).map(np.array),
    st.floats(0, 0.5),
)
def test_numbers_are_spread_and_no_more(wanted: NDArray[np.float64], gap: float) -> None:
    spread = plot._spread(wanted, gap)
    assert (np.diff(spread) >= gap - 1e-9).all()
    if (np.diff(wanted) >= gap).all():
        np.testing.assert_allclose(spread, wanted)


def test_calibration_is_that_of_a_plain_loop(ax: Axes) -> None:
    digits = noisy_digits()
    plot.calibration(digits.pyx, digits.true, bins=10, ax=ax)
    confidence = digits.pyx.max(axis=1).astype(np.float64)
    is_right = digits.pyx.argmax(axis=1) == digits.true
    expected = []
    for low in range(10):
        inside = (confidence > low / 10) & (confidence <= (low + 1) / 10)
        if inside.any():
            expected.append((confidence[inside].mean(), is_right[inside].mean()))
    _, line = ax.lines
    np.testing.assert_allclose(points_of(line), expected)
    assert sum(bar.get_height() for bar in ax.patches) == pytest.approx(1)  # type: ignore[attr-defined]


def test_examples_lie_in_reading_order_with_their_labels(ax: Axes) -> None:
    digits = noisy_digits()
    assert digits.images is not None
    plot.examples(
        digits.images[:7], digits.given[:7], digits.true[:7], digits.true[:7] * 0,
        classes=digits.classes, columns=5, ax=ax,
    )  # fmt: skip
    for i, (image, text) in enumerate(zip(ax.images, texts(ax), strict=True)):
        np.testing.assert_array_equal(np.asarray(image.get_array())[..., :1], digits.images[i])
        assert text == f"given {digits.given[i]}\ntrue {digits.true[i]}\npred. 0"
        left, _, _, top = image.get_extent()
        assert (int(top // 1.5), int(left)) == divmod(i, 5)


NO_NAMES: tuple[tuple[Any, str], ...] = (
    (None, "classes is a NoneType: pass a list of names"),
    (10, "classes is a int: pass"),
    ("airplane", "classes is a str: pass"),
    (iter(cifar_noisy.CLASSES), "classes is a tuple_iterator: pass"),
    ({"cat", "dog"}, "classes is a set, which has no order"),
)
TOO_MANY: tuple[Any, ...] = (1_001, 10**9, 10**400, np.int64(2**62))


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (lambda: plot.noise_matrix(np.eye(3)), r"matrix has shape \(3, 3\)"),
        (lambda: plot.noise_matrix(np.eye(10).T * 500), r"columns of matrix sum to \[500.*joint"),
        (
            lambda: plot.noise_matrix(np.eye(10)[[0] * 10]),
            r"columns of matrix sum to \[10\.0, 0\.0",
        ),
        (lambda: plot.joint(np.zeros((10, 10)), np.eye(10)), "joints sum to .*pass counts or"),
        (lambda: plot.joint(np.eye(10), np.full((10, 10), np.nan)), "joints sum to .*nan"),
        (lambda: plot.precision_recall([0.1], [True, False]), r"score has shape \(1,\)"),
        (lambda: plot.precision_recall([0.1, 1], [False, False]), "recall has no meaning"),
        (lambda: plot.precision_recall([0.1, np.nan], [True, False]), "not finite: pass a number"),
        (
            lambda: plot.calibration(np.eye(3) * 9, [0, 1, 2]),
            r"pyx\[0, 0\] is 9.* softmax of logits",
        ),
        (
            lambda: plot.examples(np.zeros((1, 8, 8, 1)), [0], [-1], [0]),
            "true has labels other than",
        ),
        (lambda: plot.calibration(np.eye(3), [0, 1]), r"labels has shape \(2,\)"),
        (lambda: plot.examples(np.zeros((2, 8, 8)), [0], [0], [0]), r"shape \(2, 8, 8\)"),
        *(
            (
                lambda columns=columns: plot.examples(
                    np.zeros((1, 8, 8, 1)), [0], [0], [0], columns=columns
                ),
                f"columns is {columns!r}: pass a positive integer",
            )
            for columns in (0, -1, 2.0, True, "3")
        ),
        (lambda: plot.examples([[[["x"]]]], [0], [0], [0]), "images are <U1"),
        (lambda: plot.calibration(np.eye(3), [0, 1, 2], bins=0), "bins is 0: pass a positive"),
        (lambda: plot.calibration(np.eye(3), [1, 2, 3]), "labels other than 0 to 2"),
        (lambda: plot.precision_recall([0.1, 1], [0.3, 1]), "is_error has other values than True"),
        (lambda: plot.precision_recall(["a", "b"], [True, False]), "score has entries that are"),
        (
            lambda: plot.precision_recall([0.1, 1], [True, False], methods={"m": [0.5, 1]}),
            "m has other values than True",
        ),
        (
            lambda: plot.precision_recall([0.1, 1], [True, False], methods=[[1, 0]]),  # type: ignore[arg-type]
            "methods is a list: pass a dict",
        ),
        (lambda: plot.learning_curves([]), "logs is a list: pass a dict"),  # type: ignore[arg-type]
        (lambda: plot.learning_curves({"a": "log"}), r"logs\['a'\] is a str"),  # type: ignore[dict-item]
        (lambda: plot.learning_curves({}, ax=Figure()), "ax is a Figure: pass an Axes"),  # type: ignore[arg-type]
        (lambda: plot.noise_matrix([["a"] * 10] * 10), "matrix has dtype <U1: pass numbers"),
        *(
            (draw, said)
            for classes, said in NO_NAMES
            for draw in (
                partial(plot.noise_matrix, np.eye(10), classes=classes),
                partial(plot.joint, np.eye(10), np.eye(10), classes=classes),
                partial(plot.examples, np.zeros((1, 8, 8, 1)), [0], [0], [0], classes=classes),
            )
        ),
        *(
            (draw, f"{name} has entries beyond 1e[+]15: pass rates, shares or numbers")
            for value in (1e308, -1e308, 1.7e308, np.inf, -np.inf)
            for name, draw in (
                ("matrix", partial(plot.noise_matrix, np.full((10, 10), value))),
                (
                    "counts",
                    partial(plot.noise_matrix, np.eye(10), counts=np.full((10, 10), value)),
                ),
                ("estimated", partial(plot.joint, np.full((10, 10), value), np.eye(10))),
                ("actual", partial(plot.joint, np.eye(10), np.full((10, 10), value))),
            )
        ),
        *(
            (draw, f"{name} is more than can be seen: pass 1,000 or fewer")
            for most in TOO_MANY
            for name, draw in (
                ("bins", partial(plot.calibration, np.eye(3), [0, 1, 2], bins=most)),
                (
                    "columns",
                    partial(plot.examples, np.zeros((0, 8, 8, 1)), [], [], [], columns=most),
                ),
            )
        ),
    ],
)
def test_what_cannot_be_drawn_is_said(draw: object, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        draw()  # type: ignore[operator]


def test_rows_of_pandas_are_drawn_by_their_index() -> None:
    rng = np.random.default_rng(0)
    pyx, order = rng.dirichlet([0.5] * 3, 200), rng.permutation(200)
    labels, is_error = pyx.argmax(axis=1), pyx[:, 0] > 0.5
    frame = pd.DataFrame({"score": pyx[:, 0], "is_error": is_error, "label": labels}).iloc[order]
    for plain, by_index in (
        (
            plot.precision_recall(pyx[:, 0], is_error, methods={"m": labels > 0}),
            plot.precision_recall(frame.score, frame.is_error, methods={"m": frame.label > 0}),
        ),
        (
            plot.calibration(pyx, labels),
            plot.calibration(pd.DataFrame(pyx).iloc[order], frame.label),
        ),
    ):
        for line, same in zip(plain.lines, by_index.lines, strict=True):
            np.testing.assert_array_equal(line.get_xydata(), same.get_xydata())


@pytest.mark.parametrize("library", ["matplotlib", "jinja2"])
def test_a_missing_library_names_the_extra(library: str) -> None:
    program = f"""
import sys
sys.modules[{library!r}] = None  # importing it fails, as where it is not installed
import cifar_noisy
from tests.digits import noisy_digits
from cifar_noisy.report.page import build_page
try:
    if {library!r} == "matplotlib":
        cifar_noisy.plot.noise_matrix(cifar_noisy.load_noise_matrix(0.4, 0.2))
    else:
        build_page("digits", noisy_digits())
except cifar_noisy.MissingExtraError as error:
    print(error)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert (
        result.stdout == f"{library} is not installed: pip install 'cifar-noisy[report]' has it\n"
    )
