"""The report as a file: whole, small, true, and refused where a request makes no sense."""

import base64
import dataclasses
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import confusion_matrix, f1_score

import cifar_noisy
from cifar_noisy import (
    InvalidInputError,
    MissingInputError,
    Setting,
    StorageError,
    UnknownArtifactError,
    write_report,
)
from cifar_noisy.loading.row_order import from_imagefolder_order, published_torchvision_index
from cifar_noisy.report.explorer import Examples, are_exact, suspects, thumbnail_sheets
from cifar_noisy.report.page import build_page
from cifar_noisy.report.page_parts import Section, Table
from cifar_noisy.report.svg import figure
from cifar_noisy.store.registry import REVISION
from tests.conftest import JpegCopy
from tests.digits import noisy_digits
from tests.json_schemas import answer_of

PROGRAM = Path(sys.executable).with_name("cifar-noisy")
MEBIBYTE = 1 << 20


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, "report", *arguments],
        env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


class Page(HTMLParser):
    """What of a page a test wants to know."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: Counter[str] = Counter()
        self.addresses: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.unnamed: list[str] = []
        self.handlers: list[str] = []
        self.drawn: list[str] = []
        self._is_drawn = False
        self._cell: list[str] | None = None
        self.feed(html)
        self.data: dict[str, Any] = json.loads(
            html.partition('id="explorer-data">')[2].partition("</script>")[0]
        )
        sheets = re.findall(r'id="sheet-(\d+)">data:image/(\w+);base64,([^<]*)<', html)
        assert [int(number) for number, _, _ in sheets] == list(range(len(sheets)))
        self.formats = {form for _, form, _ in sheets}
        self.sheets = [
            np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet)))) for _, _, sheet in sheets
        ]

    def array(self, *path: str | int) -> NDArray[Any]:
        """Return an array of the explorer's data, found by names and indexes."""
        packed: Any = self.data
        for part in path:
            packed = packed[part]
        return np.frombuffer(
            base64.b64decode(packed["base64"]), f"<{np.dtype(packed['type']).str[1:]}"
        )

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        has = dict(attributes)
        self.handlers += [name for name in has if name.startswith("on")]
        self._is_drawn = tag == "text"
        self.ids[has.get("id") or ""] += 1
        self.addresses += [
            str(value) for name, value in attributes if name in ("src", "href", "xlink:href")
        ]
        if has.get("role") == "img" and not has.get("aria-label"):
            self.unnamed.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self._cell = []

    def handle_endtag(self, tag: str) -> None:
        if tag in ("th", "td") and self._cell is not None:
            self.tables[-1][-1].append("".join(self._cell).strip())
            self._cell = None

    def handle_data(self, data: str) -> None:
        if self._is_drawn and data.strip():
            self.drawn.append(data.strip())
        if self._cell is not None:
            self._cell.append(data)

    def table(self, *heads: str) -> list[dict[str, str]]:
        (rows,) = (rows for rows in self.tables if rows[0][: len(heads)] == list(heads))
        return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def assert_self_contained(html: str, page: Page) -> None:
    outside = [a for a in page.addresses if not a.startswith(("#", "data:"))]
    assert outside == []
    assert re.findall(r"url\((?!#|data:|\$\{byId)[^)]*\)", html) == []
    assert [name for name, n in page.ids.items() if name and n > 1] == []
    referred = {a[1:] for a in page.addresses if a.startswith("#")}
    referred |= set(re.findall(r"url\(#([^)]*)\)", html))
    assert referred <= set(page.ids)
    assert page.unnamed == []


def test_a_page_of_any_dataset() -> None:
    digits = noisy_digits()
    html = build_page("Digits", digits, lead="A lead.", facts={"Made by": "a test"})
    page = Page(html)
    assert_self_contained(html, page)
    assert "<h1>Digits</h1>" in html
    is_error = digits.given != digits.true
    for row in page.table("method", "F1"):
        found = digits.found[row["method"]]
        assert row["flagged"] == f"{found.sum():,}"
        assert row["precision"] == f"{is_error[found].mean():.4f}"
        assert row["recall"] == f"{found[is_error].mean():.4f}"
        assert row["accuracy"] == f"{(found == is_error).mean():.4f}"
    rows = page.array("rows")
    is_flagged = np.any(list(digits.found.values()), axis=0)
    assert sorted(rows) == np.flatnonzero(is_flagged).tolist()  # fewer than 3,000
    np.testing.assert_array_equal(page.array("p").reshape(-1, 10), digits.pyx[rows])
    for name, labels in (
        ("given", digits.given), ("true", digits.true), ("predicted", digits.pyx.argmax(axis=1)),
    ):  # fmt: skip
        np.testing.assert_array_equal(page.array(name), labels)
    for method, found in enumerate(digits.found.values()):
        bits = np.unpackbits(page.array("found", method), bitorder="little")[: len(found)]
        np.testing.assert_array_equal(bits, found)
    assert build_page("Digits", digits, lead="A lead.", facts={"Made by": "a test"}) == html


def test_the_sheets_have_each_thumbnail_in_its_place() -> None:
    digits = noisy_digits()
    assert digits.images is not None
    page = Page(build_page("Digits", digits))
    rows = page.array("rows")
    assert page.formats == {"png"}
    assert len(page.sheets) == -(-len(rows) // 300) > 1
    for place, row in enumerate(rows):
        sheet, within = divmod(place, 300)
        top, left = 8 * (within // 20), 8 * (within % 20)
        cell = page.sheets[sheet][top : top + 8, left : left + 8]
        np.testing.assert_array_equal(cell, digits.images[row, ..., 0])


def test_sheets_of_none_of_colour_and_of_large_images() -> None:
    rng = np.random.default_rng(0)
    assert thumbnail_sheets(np.zeros((0, 4, 6, 3), np.uint8)) == []
    for shape, form, cell, lines in (
        ((1, 4, 6, 3), "png", (4, 6), [1]),
        ((321, 4, 6, 3), "png", (4, 6), [15, 2]),
        ((400, 32, 32, 3), "jpeg", (32, 32), [15, 5]),
        ((21, 300, 200, 1), "jpeg", (60, 50), [2]),
        ((2, 64, 9_000, 3), "jpeg", (64, 63), [1]),
    ):
        # Smooth, so that a JPEG of high quality is near.
        ends = rng.integers(0, 256, (2, shape[0], 1, 1, shape[3]))
        slope = np.linspace(0, 1, shape[1])[:, None, None]
        images = (ends[0] * slope + ends[1] * (1 - slope)).astype(np.uint8)
        images = np.ascontiguousarray(np.broadcast_to(images, shape))
        assert are_exact(images) == (form == "png")
        for sheet, n_lines in zip(thumbnail_sheets(images), lines, strict=True):
            assert sheet.startswith(f"data:image/{form};base64,")
            pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet.partition(",")[2]))))
            assert pixels.shape[:2] == (cell[0] * n_lines, cell[1] * 20)
        first = pixels if len(lines) == 1 else None
        if first is not None:
            middle = images[0].mean(axis=(0, 1)).squeeze()
            drawn = first[: cell[0], : cell[1]].mean(axis=(0, 1))
            np.testing.assert_allclose(drawn, middle, atol=3)


@pytest.mark.parametrize("n", [0, 1, 10**9])
def test_as_many_examples_as_are_asked_for(n: int) -> None:
    digits = noisy_digits()
    html = build_page("Digits", digits, n_shown=n)
    page = Page(html)
    assert_self_contained(html, page)
    n_flagged = np.count_nonzero(np.any(list(digits.found.values()), axis=0))
    assert len(page.array("rows")) == min(n, n_flagged)
    assert len(page.array("given")) == len(digits.given)
    assert (f" of the {n_flagged} that a method flags: half of them" in html) == (n < n_flagged)
    assert (f"{n_flagged} suspected label errors: all that" in html) == (n >= n_flagged)


@pytest.mark.parametrize("n", [-1, 2.5, True, "3", None])
def test_no_number_of_examples(n: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"n_shown is .*: pass how many suspects to show"):
        build_page("Digits", noisy_digits(), n_shown=n)


def key_numbers(html: str) -> list[tuple[str, str]]:
    """Return the large numbers of the first screen with what they are of."""
    found = re.findall(r'<dt>([^<]*)</dt>\s*<dd class="large">(.*?)</dd>', html, re.DOTALL)
    return [(label, " ".join(re.sub("<[^>]*>", "", text).split())) for label, text in found]


def test_the_first_screen_says_who_is_best_and_by_how_much() -> None:
    digits = noisy_digits()
    is_error = digits.given != digits.true
    f1 = {name: f1_score(is_error, mask) for name, mask in digits.found.items()}
    best, second = sorted(f1, key=lambda name: -f1[name])[:2]
    html = build_page("Digits", digits)
    accuracy = (digits.pyx.argmax(axis=1) == digits.true).mean()
    shown = dict(key_numbers(html))
    ahead = f"+{round(f1[best], 4) - round(f1[second], 4):.4f}"
    assert shown.pop("Best of 5 methods, by F1") == f"{best} {f1[best]:.4f}"
    assert shown.pop("Ahead of the runner-up") == ahead
    assert f"<dd>{second}, F1 {f1[second]:.4f}</dd>" in html
    if "argmax" not in (best, second):
        behind = round(f1[best], 4) - round(f1["argmax"], 4)
        assert shown.pop("Ahead of plain argmax") == f"+{behind:.4f}"
    assert shown.pop("Wrong labels") == f"{is_error.sum()}"
    assert shown.pop("Accuracy of the network") == f"{accuracy:.1%}"
    assert shown == {}
    hits = digits.found[best] & is_error
    assert f"{hits.sum()} are wrong: {hits.sum() / is_error.sum():.1%} of the" in html


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ({}, []),
        ({"mine": 1}, [("F1", "mine 1.0000")]),
        ({"a": 1, "b": 1}, [("Best of 2 methods, by F1", "a = b 1.0000")]),
        (
            {"argmax": 0.2, "x": 0.3, "yours": 0.5},
            [
                ("F1", "yours 0.6667"),
                ("Against the best other", "+0.2052"),
                ("Against plain argmax", "+0.3334"),
            ],
        ),
        (
            {"argmax": 1, "yours": 0.5},
            [("F1", "yours 0.6667"), ("Against the best other", "−0.3333")],
        ),
    ],
)  # fmt: skip
def test_the_first_screen_of_other_methods(
    methods: dict[str, float], said: list[tuple[str, str]]
) -> None:
    given, true = np.arange(200) % 2, np.zeros(200, int)
    pyx = np.full((200, 2), 0.5)
    pyx[given == 1] = (0.7, 0.3)
    is_error = given != true
    found = {
        name: is_error & (np.cumsum(is_error) <= 100 * recall) for name, recall in methods.items()
    }
    html = build_page("Any", Examples(given, true, pyx, found, ["cat", "dog"]))
    assert key_numbers(html)[:-2] == said
    page = Page(html)
    names = [row["method"] for row in page.table("method", "F1")]
    swatches = re.findall(r'swatch series-(\d)"></i>([^<]*)<', html)
    assert len({number for number, _ in swatches}) == len({name.split()[0] for _, name in swatches})
    assert sorted(names) == sorted(methods)
    assert names[:1] == ["yours"] if "yours" in methods else True
    assert html.count('<tr class="marked">') == ("yours" in methods)


def test_where_nothing_is_wrong_and_nothing_is_flagged() -> None:
    labels = np.arange(40) % 4
    pyx = np.eye(4)[labels]
    found = {"argmax": np.zeros(40, bool), "x": labels == 3}
    html = build_page("Any", Examples(labels, labels, pyx, found, list("abcd")), n_shown=5)
    page = Page(html)
    assert_self_contained(html, page)
    assert key_numbers(html)[:2] == [("Fewest false alarms", "argmax 0"), ("Wrong labels", "0")]
    assert len(page.array("rows")) == 5
    nothing = {"argmax": np.zeros(40, bool)}
    html = build_page("Any", Examples(labels, labels, pyx, nothing, list("abcd")))
    assert len(Page(html).array("rows")) == 0


def test_cells_say_what_was_counted(published: str, tmp_path: Path) -> None:
    digits = noisy_digits()
    titles = re.findall(
        r'<g id="joint-cell-(\d)-(\d)"><title>([^<]*)</title>', build_page("D", digits)
    )
    estimated = cifar_noisy.confident_joint(digits.given, digits.pyx)
    actual = confusion_matrix(digits.given, digits.true)
    assert [text for _, _, text in titles] == [
        f"given {i}, true {j}: estimated {estimated[i, j]:,}, actual {actual[i, j]:,}, difference "
        f"{estimated[i, j] - actual[i, j]:+,}"
        for i, j in np.ndindex(10, 10)
    ]
    html = write_report(tmp_path / "report.html", 0.4, 0.2, n_shown=0).read_text()
    rate = cifar_noisy.load_noise_matrix(0.4, 0.2)[6, 3]
    given = cifar_noisy.load_noisy_labels(0.4, 0.2)
    n = np.count_nonzero((given == 6) & (cifar_noisy.load_true_labels() == 3))
    assert f"<title>true cat, given frog: {rate:.2%}, {n:,} of 5,000 examples</title>" in html


def test_the_labels_of_the_people(label_sets: Path, tmp_path: Path) -> None:
    out = write_report(tmp_path / "report.html", "cifar10n-worst", model="resnet18", n_shown=5)
    page = Page(out.read_text())
    assert list(page.data["votes"]) == ["person 1", "person 2", "person 3", "aggregate", "worst"]
    for voter, labels in zip(
        page.data["votes"], ("random1", "random2", "random3", "aggregate", "worst"), strict=True
    ):
        expected = cifar_noisy.load_noisy_labels(f"cifar10n-{labels}")
        np.testing.assert_array_equal(page.array("votes", voter), expected)
    np.testing.assert_array_equal(page.array("votes", "worst"), page.array("given"))


def test_suspects_by_hand() -> None:
    score = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 1.0])
    found = {
        "all": np.array([1, 1, 1, 1, 1, 1, 0], bool),
        "one": np.array([1, 1, 1, 1, 0, 0, 0], bool),
    }
    # 0 and 1 by score, which are two that both flag; then as many that "all" alone flags.
    assert suspects(found, score, 4).tolist() == [0, 1, 4, 5]
    assert suspects(found, score, 5).tolist() == [0, 1, 2, 4, 5]
    assert suspects(found, score, 1).tolist() == [0]
    assert suspects(found, score, 99).tolist() == [0, 1, 2, 3, 4, 5]
    assert suspects({"none": np.zeros(7, bool)}, score, 4).tolist() == []


def test_half_of_the_suspects_are_the_first_by_score() -> None:
    digits = noisy_digits()
    rng = np.random.default_rng(0)
    score = rng.integers(0, 50, len(digits.given)) / 50  # with many ties
    chosen = suspects(digits.found, score, 100)
    assert len(set(chosen.tolist())) == 100
    is_flagged = np.any(list(digits.found.values()), axis=0)
    by_score = np.lexsort((np.arange(len(score)), -score))
    assert set(by_score[is_flagged[by_score]][:50]) <= set(chosen)
    keys = [(-score[row], row) for row in chosen]
    assert keys == sorted(keys)


def test_names_are_text_whatever_is_in_them() -> None:
    digits = noisy_digits()
    classes = ["</script><b>&", *digits.classes[1:]]
    html = build_page("<i>&", dataclasses.replace(digits, classes=classes))
    assert "<h1>&lt;i&gt;&amp;</h1>" in html
    page = Page(html)
    assert html.count("</script>") == 2 + len(page.sheets)
    assert "<b>" not in html
    assert page.data["classes"] == classes


NAMES = [
    r"$\foo$", "\udc80\x00", "_low", "<img src=x onerror=alert(1)>", '" onload="alert(2)', "日本",
    "#0072b2", 'id="x', "]]><!--", "50 %",
]  # fmt: skip


@pytest.mark.filterwarnings("error")
def test_a_page_of_hostile_names() -> None:
    digits = noisy_digits()
    found = dict(zip(NAMES, digits.found.values(), strict=False))
    html = build_page(
        NAMES[3],
        dataclasses.replace(digits, classes=NAMES, found=found, indices={NAMES[3]: digits.given}),
        lead=NAMES[4],
        facts={NAMES[3]: NAMES[4]},
        sections=[
            Section(NAMES[3], [NAMES[3]], [Table(NAMES[3], [NAMES[4]], [[NAMES[3]]])]),
        ],
        no_images=NAMES[3],
    )  # fmt: skip
    html.encode()
    page = Page(html)
    assert_self_contained(html, page)
    assert page.data["classes"] == NAMES
    assert page.handlers == []
    assert "<img" not in html
    shown = [r"$\foo$", r"\udc80\x00", *NAMES[2:]]
    # Ticks of both axes of the joint.
    for name in shown:
        assert page.drawn.count(name) >= 2, name
    for name in shown[:5]:
        assert page.drawn.count(name) == 3, name  # as a method, beside its point too


def test_arrays_of_other_examples_are_refused() -> None:
    digits = noisy_digits()
    assert digits.images is not None
    for change, said in (
        ({"true": digits.true[1:]}, r"true has shape \(1796,\)"),
        ({"pyx": digits.pyx[:, 1:]}, r"pyx has shape \(1797, 9\)"),
        ({"found": {"mine": digits.true[1:] > 0}}, r"mine has shape \(1796,\)"),
        ({"images": digits.images[1:]}, r"images are uint8 of shape \(1796, 8, 8, 1\)"),
        ({"images": digits.images / 255}, "images are float64"),
    ):
        with pytest.raises(InvalidInputError, match=said):
            dataclasses.replace(digits, **change)


def test_the_report_of_a_setting(jpeg: JpegCopy, published: str, tmp_path: Path) -> None:
    out = tmp_path / "new folder" / "report.html"
    result = run(
        "--noise", "0.7", "--sparsity", "0.4", "--out", out,
        "--images", jpeg.batches, "--trust", "pixels", "--json",
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    assert answer_of(result.stdout, "report") == {
        "schema_version": 1, "path": str(out), "size": out.stat().st_size, "has_images": True
    }  # fmt: skip
    assert out.stat().st_size < 5 * MEBIBYTE
    html = out.read_text()
    page = Page(html)
    assert_self_contained(html, page)
    rows = page.array("rows")
    assert len(rows) == 3_000
    assert page.formats == {"jpeg"}
    assert "The pictures are JPEGs of high quality" in html
    pixels = cifar_noisy.load_images(jpeg.batches, trust="pixels").pixels
    assert len(page.sheets) == 10
    for place in range(0, 3_000, 37):
        sheet, within = divmod(place, 300)
        top, left = 32 * (within // 20), 32 * (within % 20)
        cell = page.sheets[sheet][top : top + 32, left : left + 32].astype(float)
        assert abs(cell - pixels[rows[place]]).mean() < 4
    np.testing.assert_array_equal(page.array("indices", "imagefolder"), range(50_000))
    official = published_torchvision_index()
    np.testing.assert_array_equal(page.array("indices", "torchvision"), official)
    assert REVISION in html
    files = {row["path"]: row["sha256"] for row in page.table("path", "kind")}
    assert files == {a.path: a.sha256 for a in cifar_noisy.artifacts(noise=0.7, sparsity=0.4)}
    verdicts = [row["verdict"] for row in page.table("kind", "method", "edition")]
    checks = cifar_noisy.verify(noise=0.7, sparsity=0.4)
    assert verdicts == [check.verdict for check in checks]
    assert "All 12 files are as recomputed: 6 exact, 2 known, 4 explained" in html
    assert "a re-encoded copy" in html


def test_without_images_the_page_says_so(published: str, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    result = run("--noise", "0.2", "--sparsity", "0", "--out", out, "--examples", "50")
    assert (result.returncode, result.stderr) == (0, "")
    assert re.fullmatch(r".*report.html: .* MB, without images \(the page.*\)\n", result.stdout)
    html = out.read_text()
    assert "<strong>No images.</strong>" in html
    assert "cifar-noisy images --download" in html
    page = Page(html)
    assert page.sheets == []
    assert len(page.array("rows")) == 50


def test_rows_in_torchvisions_order_give_the_same_page(published: str, tmp_path: Path) -> None:
    pyx = cifar_noisy.load_pyx(0.4, 0.2).astype(np.float32)
    mask = cifar_noisy.load_label_errors("cl_both", 0.4, 0.2)
    pages = []
    for order in ("imagefolder", "torchvision"):
        files = {"--pyx": pyx, "--mask": mask}
        arguments: list[str | Path] = ["--noise", "0.4", "--sparsity", "0.2", "--order", order]
        for option, array in files.items():
            path = tmp_path / f"{order}{option}.npy"
            np.save(path, from_imagefolder_order(array, order))
            arguments += [option, path]
        out = tmp_path / f"{order}.html"
        result = run(*arguments, "--out", out)
        assert (result.returncode, result.stderr) == (0, "")
        pages.append(out.read_text())
    assert pages[0] == pages[1]
    page = Page(pages[0])
    assert page.data["methods"] == ["yours", *cifar_noisy.METHODS]
    own, beside = (rows for rows in page.tables if rows[0][:2] == ["method", "F1"])
    assert own[1][0] == "yours"
    for table, names in ((own, ["yours", *cifar_noisy.METHODS]), (beside, cifar_noisy.METHODS)):
        assert sorted(row[0] for row in table[1:]) == sorted(names)
        f1 = [row[1] for row in table[1:] if row[0] != "yours"]
        assert f1 == sorted(f1, reverse=True)
    (published_both,) = (row for row in beside if row[0] == "cl_both")
    own[1].pop(2), published_both.pop(2)  # behind the best of its table
    assert own[1][1:] == published_both[1:]  # yours is the published cl_both


def test_without_wrong_labels_a_dash_stands(published: str, tmp_path: Path) -> None:
    page = Page(write_report(tmp_path / "report.html", 0).read_text())
    for row in page.table("method", "F1"):
        assert (row["precision"], row["recall"], row["F1"]) == ("–", "–", "–")
        assert float(row["accuracy"]) > 0.5
    (ranking,) = {tuple(row.values())[1:] for row in page.table("score", "average precision")}
    assert set(ranking) == {"–"}


def test_probabilities_of_yours_where_none_were_published(tmp_path: Path) -> None:
    given = cifar_noisy.load_noisy_labels(0.9, 0)
    pyx = np.full((50_000, 10), 0.05, np.float32)
    pyx[np.arange(50_000), (given + np.arange(50_000) % 3) % 10] = 0.55
    out = write_report(tmp_path / "report.html", 0.9, 0, pyx=pyx)
    assert "no method was published at noise 0.9" in out.read_text()
    with pytest.raises(UnknownArtifactError, match=r"pyx does not exist for noise 0\.9"):
        write_report(tmp_path / "other.html", 0.9, 0)
    assert not (tmp_path / "other.html").exists()


def test_a_log_that_is_empty_upstream_is_said(published: str, tmp_path: Path) -> None:
    html = write_report(tmp_path / "report.html", 0.2, 0.6).read_text()
    assert re.search(r"Missing: cl_both: .*out is 0 bytes in upstream", html)


def test_requests_that_make_no_sense(published: str, tmp_path: Path) -> None:
    np.save(tmp_path / "scores.npy", np.linspace(0, 1, 50_000))
    np.save(tmp_path / "short.npy", np.zeros(7, bool))
    at = ("--noise", "0.4", "--sparsity", "0", "--out", tmp_path / "report.html")
    for arguments, status, said in (
        (("--mask", tmp_path / "scores.npy"), 2, "mask has dtype float64 .* True = label error"),
        (("--mask", tmp_path / "short.npy"), 2, r"mask has shape \(7,\)"),
        (("--pyx", tmp_path / "scores.npy"), 2, r"pyx has shape \(50000,\)"),
        (("--images", tmp_path), 2, "has no CIFAR-10 images"),
        (("--sparsity", "0.3"), 2, "sparsity 0.3"),
        (None, 2, "sparsity is missing: --noise 0.4 was published for --sparsity 0, 0.2, 0.4, 0.6"),
    ):
        result = run(*at, *arguments) if arguments else run(*at[:2], *at[4:])
        assert (result.returncode, result.stdout) == (status, "")
        assert re.fullmatch(f"cifar-noisy: .*{said}.*\n", result.stderr)
    assert not (tmp_path / "report.html").exists()


def test_a_mask_of_the_wrong_polarity_is_a_notice(published: str, tmp_path: Path) -> None:
    np.save(tmp_path / "keep.npy", cifar_noisy.load_train_mask("cl_both", 0.4, 0.2))
    result = run(
        "--noise", "0.4", "--sparsity", "0.2",
        "--mask", tmp_path / "keep.npy", "--out", tmp_path / "report.html",
    )  # fmt: skip
    assert result.returncode == 0
    assert "found equals the published train mask of cl_both" in result.stderr


def test_a_place_that_cannot_be_written(published: str) -> None:
    with pytest.raises(StorageError, match=r"report\.html cannot be written .*: name another file"):
        write_report("/dev/null/report.html", 0.4, 0)
    with pytest.raises(MissingInputError, match=r"~no-such-user/report\.html leads"):
        write_report("~no-such-user/report.html", 0.4, 0)


def test_the_page_names_its_setting(published: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownArtifactError, match=r"sparsity is missing: noise=0\.4"):
        write_report(tmp_path / "report.html", 0.4)
    assert not list(tmp_path.iterdir())
    page = write_report(tmp_path / "report.html", 0.4, 0.2).read_text()
    named = "CIFAR-10 with 40% label noise, sparsity 0.2"
    assert f"<title>{named}</title>" in page
    assert f"<h1>{named}</h1>" in page
    again = write_report(tmp_path / "again.html", Setting(0.4, 0.2)).read_text()
    assert again == page


DARK = """
axes.facecolor: black
figure.facecolor: black
figure.dpi: 300
savefig.dpi: 30
savefig.bbox: tight
savefig.facecolor: red
text.color: white
text.usetex: True
text.parse_math: False
font.size: 30
font.family: serif
lines.linewidth: 7
axes.grid: True
axes.prop_cycle: cycler(color=["red"])
legend.loc: center
svg.fonttype: path
svg.hashsalt: other
path.simplify: False
image.cmap: gray
"""


def test_nothing_of_the_users_matplotlib_is_in_the_page(published: str, tmp_path: Path) -> None:
    program = """
import sys, locale, warnings
import numpy as np, torch, matplotlib
from cifar_noisy import write_report
from tests.digits import noisy_digits
from cifar_noisy.report.page import build_page
def state():
    return (
        {name: repr(value) for name, value in dict.items(matplotlib.rcParams)},
        list(warnings.filters), np.random.get_state()[1].tolist(), np.geterr(),
        torch.get_rng_state().tolist(), torch.get_num_threads(), locale.setlocale(locale.LC_ALL),
    )
write_report(sys.argv[1] + "warm.html", 0, 0)  # imports, some of which set filters of their own
before = state()
write_report(sys.argv[1] + "report.html", 0.4, 0.2)
assert state() == before
assert "matplotlib.pyplot" not in sys.modules
"""
    (tmp_path / "matplotlibrc").write_text(DARK)
    pages = []
    for name, environment in {
        "plain": {},
        "dark": {"MATPLOTLIBRC": str(tmp_path / "matplotlibrc"), "MPLBACKEND": "svg"},
    }.items():
        subprocess.run(
            [sys.executable, "-c", program, tmp_path / name],
            env={k: v for k, v in os.environ.items() if k != "MPLBACKEND"} | environment,
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        pages.append((tmp_path / f"{name}report.html").read_text())
    assert pages[0].count("<svg") == 6
    assert pages[0] == pages[1]


@pytest.mark.parametrize("backend", ["rubbish", "module://matplotlib_inline.backend_inline"])
def test_the_backend_of_a_notebook_is_none_of_the_pages(
    backend: str, published: str, tmp_path: Path
) -> None:
    at = ("--noise", "0.4", "--sparsity", "0.2")
    result = run(*at, "--out", tmp_path / "report.html", MPLBACKEND=backend)
    assert (result.returncode, result.stderr) == (0, "")
    without = write_report(tmp_path / "other.html", 0.4, 0.2).read_text()
    figures = re.findall(r"<svg.*?</svg>", (tmp_path / "report.html").read_text(), re.DOTALL)
    assert len(figures) == 6
    assert figures == re.findall(r"<svg.*?</svg>", without, re.DOTALL)


def test_pages_of_two_threads_leave_the_style_as_it_was() -> None:
    from matplotlib import rcParams

    before = dict(rcParams)
    second_draws, first_is_done = threading.Event(), threading.Event()

    def first(ax: object) -> None:
        second_draws.wait(1)  # in vain, where one waits for the other

    def second(ax: object) -> None:
        second_draws.set()
        first_is_done.wait(5)

    with ThreadPoolExecutor(2) as threads:
        drawn = threads.submit(figure, first, "A figure.", name="a", size=(2, 2))
        drawn.add_done_callback(lambda _: first_is_done.set())
        threads.submit(figure, second, "A figure.", name="a", size=(2, 2)).result()
        drawn.result()
    assert dict(rcParams) == before


def test_an_output_is_written_where_it_is_named(published: str, tmp_path: Path) -> None:
    at = ("--noise", "0", "--out")
    target = tmp_path / "target.html"
    target.write_text("old")
    target.chmod(0o640)
    (tmp_path / "link.html").symlink_to(target)
    assert run(*at, tmp_path / "link.html").returncode == 0
    assert (tmp_path / "link.html").is_symlink()
    assert target.read_text().endswith("</html>")
    assert target.stat().st_mode & 0o777 == 0o640
    for stdout in ("/dev/stdout", "-"):
        printed = run(*at, stdout)
        assert printed.stdout == target.read_text()
        assert re.fullmatch(r"/dev/stdout: written, without images \(.*\)\n", printed.stderr)
    printed = run(*at, "-", "--json")
    assert printed.stdout == target.read_text()
    assert answer_of(printed.stderr, "report")["path"] == "/dev/stdout"
