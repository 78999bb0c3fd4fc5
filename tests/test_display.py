"""How results show themselves: each public class as HTML, as text and as a data frame."""

import copy
import dataclasses
import html.parser
import os
import pickle
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import cifar_noisy
from cifar_noisy import (
    Alignment,
    Artifact,
    Check,
    Detection,
    Evaluation,
    Images,
    LabelSet,
    Records,
    Setting,
    TrainingLog,
)
from cifar_noisy.benchmarking.benchmark import COLUMNS
from cifar_noisy.benchmarking.summary import summarize
from cifar_noisy.confident_learning.float16_bounds import Explanation
from cifar_noisy.evaluation.metrics import GroundTruth
from cifar_noisy.evaluation.printed_tables import ComparedPrint, PrintedCell
from cifar_noisy.evaluation.retrained_agreement import RecomputedComparison
from cifar_noisy.loading.given_labels import OwnLabels
from cifar_noisy.rendering import Bold, highest_bold, html_facts, html_table
from cifar_noisy.settings import METHODS
from tests import browser

SETTING = Setting(0.4, 0.2)
GIVEN = cifar_noisy.load_noisy_labels(SETTING)
HOSTILE = '<script>alert("1")</script>\x1b[31m & \udc80\n' + "long " * 200
ROOT = Path(__file__).parents[1]
LOG = "".join(
    f"Epoch [{epoch}/60] Test Accuracy on the 10000 test data: "
    f"Model1 {epoch}.0000 % Model2 60.0000 %\n"
    for epoch in range(1, 61)
)


def detections() -> Records[Detection]:
    truth = GroundTruth.of(SETTING)
    return Records(truth.detect(name, GIVEN % (k + 2) == 0) for k, name in enumerate(METHODS))


def ranking() -> Any:
    return GroundTruth.of(SETTING).rank("yours", np.arange(50_000, dtype=float))


def evaluation() -> Evaluation:
    mine = dataclasses.replace(detections()[0], name="yours")
    return Evaluation(SETTING, mine, ranking(), detections(), "2019", None)


def pyx_evaluation() -> cifar_noisy.PyxEvaluation:
    fit = cifar_noisy.Fit(0.5, 0.1, 0.4)
    return cifar_noisy.PyxEvaluation(
        SETTING, fit, fit, 0.6, Records([ranking()]), detections(), detections(), "2019", None
    )


def benchmark() -> cifar_noisy.Benchmark:
    rows = [
        {"case": case, "labels": case, "method": method, "kind": "mask", "f1": f1}
        for case, f1 in (("noise0.2-sparsity0", 0.7), ("noise0.4-sparsity0", 0.8))
        for method, f1 in (("yours", f1), ("cl_pbc", f1 - 0.1))
    ]
    frame = pd.DataFrame(rows, columns=COLUMNS).astype({"f1": float, "best_f1": float})
    summary = summarize(frame, ["cl_pbc"])
    return cifar_noisy.Benchmark(("one", "two"), frame, summary, "cl_pbc", {"three": "no file"})


def table() -> cifar_noisy.Table:
    cells: Any = {("f1", "cl_pbc", SETTING): 0.5, ("f1", "argmax", SETTING): None}
    missing: Any = {("f1", "argmax", SETTING): "empty"}
    return cifar_noisy.Table("Title", "a rule", "metric", cells, missing, ("a note",), 2)


def check() -> cifar_noisy.Check:
    known = cifar_noisy.Difference(5, known="nobody knows")
    tied = cifar_noisy.Difference(7, Explanation("tie"))
    mask = cifar_noisy.artifacts(kind="train_mask")[0]
    return cifar_noisy.Check(mask, "known", (known, tied), "a detail")


def compared() -> cifar_noisy.ComparisonWithPrint:
    cells = [PrintedCell("f1", "cl_pbc", SETTING, *row) for row in (
        (".84", ".84", 0.84, None), (".85", ".84", 0.84, "nobody knows"))]  # fmt: skip
    return cifar_noisy.ComparisonWithPrint(
        (ComparedPrint("a print", "a paper", "2019", "a rule", tuple(cells)),)
    )


def images() -> Images:
    pixels = np.arange(20 * 32 * 32 * 3, dtype=np.uint8).reshape(20, 32, 32, 3)
    labels = np.repeat(np.arange(10), 2)
    return Images(pixels, labels, np.arange(20), True, Path("official-train.sealed"))


def label_file(folder: Path) -> cifar_noisy.LabelFile:
    file = cifar_noisy.export_labels(folder / "noise.json", GIVEN, format="dividemix")
    return cifar_noisy.read_labels(file)


EXAMPLES: dict[str, Callable[[], Any]] = {
    "AccuracyOnTestSet": lambda: cifar_noisy.AccuracyOnTestSet(0.9, 0.91, 0.8, 0.95, 4),
    "Alignment": lambda: cifar_noisy.Alignment("aligned", "all is well", r2=0.03, r2_p_value=1e-30),
    "Artifact": lambda: cifar_noisy.artifacts(kind="pyx")[0],
    "Benchmark": benchmark,
    "Check": check,
    "Comparison": lambda: cifar_noisy.Comparison("F1", 0.8, None, (0.7, 0.9), "a choice"),
    "ComparisonWithPrint": compared,
    "Detection": lambda: detections()[0],
    "Difference": lambda: check().differences[1],
    "Evaluation": evaluation,
    "Fit": lambda: cifar_noisy.Fit(0.5, 0.1, 0.4),
    "GeneratedLabels": lambda: cifar_noisy.generate_labels("pairflip", 0.3, seed=1),
    "Images": images,
    "LabelSet": lambda: cifar_noisy.label_sets()[20],
    "PyxEvaluation": pyx_evaluation,
    "Ranking": ranking,
    "RecomputedComparison": lambda: RecomputedComparison(SETTING, (EXAMPLES["Comparison"](),)),
    "Records": lambda: cifar_noisy.artifacts(),
    "Setting": lambda: SETTING,
    "Table": table,
    "Training": lambda: cifar_noisy.Training("folder", threads=2),
    "TrainingLog": lambda: cifar_noisy.parse_training_log(LOG),
    "Verification": lambda: cifar_noisy.verify(noise=0.9, progress=False),
    # Not public by name, but what `setting` is for labels of one's own.
    "OwnLabels": lambda: OwnLabels.of(GIVEN, "imagefolder"),
}
COMPARED = (tuple, Alignment, Artifact, Check, Detection, Evaluation, LabelSet, OwnLabels, Setting)
WITH_FILES = ("LabelFile", "NoisyCIFAR10")
FRAMES = (
    "Benchmark",
    "ComparisonWithPrint",
    "Evaluation",
    "PyxEvaluation",
    "Records",
    "Table",
    "TrainingLog",
    "Verification",
)


@pytest.fixture
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    name = request.param
    if name == "NoisyCIFAR10":
        request.getfixturevalue("fake")
        return cifar_noisy.NoisyCIFAR10(noise=SETTING)
    return label_file(tmp_path) if name == "LabelFile" else EXAMPLES[name]()


all_examples = pytest.mark.parametrize("example", [*EXAMPLES, *WITH_FILES], indirect=True)


def test_every_public_class_is_shown_here() -> None:
    public = {name: getattr(cifar_noisy, name) for name in dir(cifar_noisy) if name[0].isupper()}
    classes = {
        name
        for name, value in public.items()
        if isinstance(value, type) and not issubclass(value, Exception)
    }
    assert classes == {*EXAMPLES, *WITH_FILES} - {"OwnLabels"}


def rendered(value: Any) -> str:
    """Return the HTML of a value, which must be well-formed, and its text."""
    content: str = value._repr_html_()
    return "".join(ET.fromstring(content).itertext())


@all_examples
def test_it_is_shown_as_html_and_on_one_line(example: Any) -> None:
    assert rendered(example).strip()
    assert len(example._repr_html_()) < 60_000
    for colour in ("color", "background", "font"):
        assert colour not in example._repr_html_().partition("data:image")[0]
    assert "\n" not in repr(example)
    assert len(repr(example)) < 600
    name = type(example).__name__
    assert repr(example).startswith("(" if name == "Records" else f"{name}(")


@all_examples
def test_what_it_is_does_not_change(example: Any) -> None:
    if isinstance(example, Images):
        return  # which travel by path
    copied = (copy.copy(example), copy.deepcopy(example), pickle.loads(pickle.dumps(example)))
    for other in copied:
        assert type(other) is type(example)
        assert repr(other) == repr(example)
        assert other._repr_html_() == example._repr_html_()
        if isinstance(example, COMPARED):
            assert other == example
            assert hash(other) == hash(example)


@pytest.mark.parametrize("name", EXAMPLES)
def test_foreign_texts_are_escaped(name: str) -> None:
    example: Any = EXAMPLES[name]()
    if isinstance(example, tuple | Setting):
        return
    texts = {
        field.name: type(value)(HOSTILE)
        for field in dataclasses.fields(example)
        if isinstance(value := getattr(example, field.name), str | Path)
    }
    for is_looked_up in (("LabelSet", "path"), ("Benchmark", "best_baseline")):
        if is_looked_up[0] == name:
            del texts[is_looked_up[1]]
    hostile = dataclasses.replace(example, **texts)
    text = rendered(hostile)
    assert texts == {} or "<script>" in text
    assert text.isprintable()
    assert text.count("long") < 3 * 101 * len(texts) + 1
    assert "\n" not in repr(hostile)


def test_a_subclass_is_shown_by_its_name() -> None:
    @dataclasses.dataclass(frozen=True, repr=False)
    class Mine(Detection):
        note: str = ""

    mine = Mine(**vars(detections()[0]), note="new")
    assert repr(mine).startswith("Mine(")
    assert dataclasses.replace(mine, note="newer").note == "newer"
    assert rendered(mine)


@pytest.mark.parametrize("name", FRAMES)
def test_what_is_a_table_has_a_data_frame(name: str) -> None:
    frame = EXAMPLES[name]().frame
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) > 1


def test_evaluation_as_a_data_frame() -> None:
    frame = evaluation().frame
    assert frame["side"].tolist() == ["yours"] * 2 + ["published"] * 5
    assert frame["name"].tolist() == ["yours", "yours", *METHODS]
    assert frame["kind"].tolist() == ["mask", "score"] + ["mask"] * 5
    assert frame.dtypes[["n_found", "f1", "roc_auc", "sparsity"]].astype(str).tolist() == [
        "Int64", "float64", "float64", "float64",
    ]  # fmt: skip
    assert frame["n_found"].isna().tolist() == [False, True] + [False] * 5
    assert frame["f1"][0] == evaluation().detection.f1
    empty = dataclasses.replace(evaluation(), detection=None, ranking=None, published=Records())
    assert empty.frame.columns.tolist() == frame.columns.tolist()
    assert len(empty.frame) == 0
    assert empty.frame.dtypes["n_found":].tolist() == frame.dtypes["n_found":].tolist()
    assert "no label is wrong" in rendered(empty)
    assert "no label is wrong" in str(empty)


def test_evaluation_says_how_well_and_compared_with_what() -> None:
    result = evaluation()
    best = max(result.published, key=lambda row: float(row.f1))
    beside = f"the best method beside it has {best.f1:.4f} ({best.name})"
    for text in (repr(result), str(result), rendered(result)):
        assert f"F1 {result.detection.f1:.4f} (yours); {beside}" in text
    first = ET.fromstring(result._repr_html_()).find(".//tbody/tr")
    assert first is not None
    assert next(first.itertext()) == "yours"
    bold = [cell.text for cell in ET.fromstring(result._repr_html_()).findall(".//td/b")]
    rows = (result.detection, *result.published)
    for name in ("precision", "recall", "f1", "accuracy"):
        assert f"{max(getattr(row, name) for row in rows):.4f}" in bold
    assert "19,967 of 50,000 labels are wrong" in rendered(result)


def test_numbers_are_on_the_right_and_missing_ones_dashes() -> None:
    shown = html_table({"name": ["a", "b"], "n": [1234, None], "F1": highest_bold([0.5, 0.25])})
    found = ET.fromstring(shown).iter("td")
    cells = [(cell.get("style"), "".join(cell.itertext())) for cell in found]
    left, right = "text-align: left", "text-align: right"
    assert cells[:3] == [(left, "a"), (right, "1,234"), (right, "0.5000")]
    assert cells[3:] == [(left, "b"), (right, "–"), (right, "0.2500")]
    assert isinstance(highest_bold([0.5, 0.25])[0], Bold)
    assert highest_bold([None, float("nan")]) == [None, None]
    assert "0.0e" not in html_facts({"p": 0.0})
    assert "1.0e-30" in html_facts({"p": 1e-30})


def test_long_tables_are_cut() -> None:
    shown = rendered(cifar_noisy.artifacts())
    assert "340 rows, of which the first and the last are shown" in shown
    log = cifar_noisy.parse_training_log(LOG)
    assert len(list(ET.fromstring(log._repr_html_()).iter("tr"))) < 25
    assert "best test accuracy 0.6000 (epoch 60) and 0.6000 (epoch 1)" in repr(log)


def test_a_log_without_a_test_accuracy_is_shown_too() -> None:
    log = cifar_noisy.parse_training_log(LOG)
    empty = dataclasses.replace(log, epochs=log.epochs.iloc[:0], wall_seconds=7200.0)
    assert repr(empty) == f"TrainingLog({log.format}, 0 epochs)"
    assert "2.0" in rendered(empty)
    assert isinstance(empty, TrainingLog)


def test_records_are_a_tuple() -> None:
    sets = cifar_noisy.label_sets()
    assert isinstance(sets, tuple)
    assert sets == tuple(sets)
    assert hash(sets) == hash(tuple(sets))
    assert type(sets[:2]) is tuple
    assert sets.frame["name"].tolist() == [labels.name for labels in sets]
    assert str(sets).splitlines()[2].startswith("noise0-sparsity0")
    assert eval(repr(cifar_noisy.SETTINGS), {"Setting": Setting}) == cifar_noisy.SETTINGS
    empty: Records[Setting] = Records()
    assert (repr(empty), str(empty), len(empty.frame)) == ("()", "none", 0)
    assert "none" in rendered(empty)


def test_a_verification_is_true_where_all_is_as_expected() -> None:
    result = cifar_noisy.verify(noise=0.9, progress=False)
    assert result
    assert result.is_as_expected
    assert (len(result), result.counts) == (8, {"exact": 8})
    assert result[0].artifact.kind == "noisy_labels"
    for verdict in ("unexplained", "not reachable"):
        wrong = dataclasses.replace(result[0], verdict=verdict, detail="why <b>")
        bad = cifar_noisy.Verification((wrong, *result[1:]))
        assert not bad
        assert "not all as expected" in repr(bad)
        assert "why <b>" in str(bad)
        assert "why <b>" in rendered(bad)
    assert len(result.frame) == 8
    assert {"path", "verdict", "n_differences", "n_unexplained", "detail"} <= {*result.frame}
    assert not dataclasses.replace(check(), differences=()).as_dict()["n_differences"]


def test_showing_settings_and_labels_imports_nothing_heavy() -> None:
    program = (
        "import sys, cifar_noisy as c\n"
        "shown = [repr(c.SETTINGS), c.SETTINGS._repr_html_(), c.SETTINGS[0]._repr_html_(),\n"
        "         c.label_sets()._repr_html_(), c.artifacts()._repr_html_(), repr(c.artifacts())]\n"
        "print({'numpy', 'pandas', 'torch', 'tqdm', 'IPython', 'matplotlib'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert result.stdout == "set()\n"


class _Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags = set[str]()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)


@pytest.mark.skipif(not browser.is_installed(), reason="needs chromium and chromedriver")
def test_a_browser_shows_it_in_the_colours_of_the_page(tmp_path: Path) -> None:
    style = "body { color: rgb(1, 2, 3); background: rgb(4, 5, 6); width: 300px; }"
    parts = "".join(EXAMPLES[name]()._repr_html_() for name in EXAMPLES)
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><meta charset=utf-8><style>{style}</style>{parts}")
    look = (
        "return [...document.querySelectorAll('div, td, th, p, small, b')].map("
        "e => getComputedStyle(e).color + ' ' + getComputedStyle(e).backgroundColor)"
    )
    width = "return [document.documentElement.scrollWidth, window.innerWidth]"
    with browser.browsing() as chrome:
        browser.look_at(chrome, page, width=400, scheme="dark")
        assert set(chrome.execute_script(look)) == {"rgb(1, 2, 3) rgba(0, 0, 0, 0)"}
        content, window = chrome.execute_script(width)
        assert content <= window  # wide tables scroll by themselves
        assert [r for r in browser.requests(chrome) if not r.startswith(("file:", "data:"))] == []
    tags = _Tags()
    tags.feed(parts)
    assert not tags.tags & {"script", "style", "link"}


def test_the_notebook_runs_and_says_what_it_said(label_sets: Path) -> None:
    result = subprocess.run(
        [sys.executable, ROOT / "scripts" / "run_notebook.py", "--check", "docs/tour.ipynb"],
        cwd=ROOT, env=os.environ | {"CIFAR_NOISY_OFFLINE": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_notebook_is_small_and_of_no_machine() -> None:
    content = (ROOT / "docs" / "tour.ipynb").read_text(encoding="utf-8")
    assert len(content) < 400_000
    assert '"output_type": "error"' not in content
    for word in (str(ROOT), str(Path.home()), "stderr", "/tmp", sys.version.split()[0]):
        assert word not in content
