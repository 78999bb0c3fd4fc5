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
from PIL import Image

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
from cifar_noisy.report.explorer import suspects, thumbnail_sheet
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
    assert re.findall(r"url\((?!#|data:)[^)]*\)", html) == []
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
    assert len(page.data["examples"]) == 300
    is_error = digits.given != digits.true
    for row in page.table("method", "flagged"):
        found = digits.found[row["method"]]
        assert row["flagged"] == f"{found.sum():,}"
        assert row["precision"] == f"{is_error[found].mean():.4f}"
        assert row["recall"] == f"{found[is_error].mean():.4f}"
        assert row["accuracy"] == f"{(found == is_error).mean():.4f}"
    for example in page.data["examples"]:
        row = example["row"]
        np.testing.assert_array_equal(np.array(example["p"], np.float32), digits.pyx[row])
        assert (example["given"], example["true"]) == (digits.given[row], digits.true[row])
        flagging = [bool(example["flags"] >> m & 1) for m in range(5)]
        assert flagging == [bool(found[row]) for found in digits.found.values()]
    assert build_page("Digits", digits, lead="A lead.", facts={"Made by": "a test"}) == html


def test_the_sheet_has_each_thumbnail_in_its_place() -> None:
    digits = noisy_digits()
    assert digits.images is not None
    html = build_page("Digits", digits)
    rows = [example["row"] for example in Page(html).data["examples"]]
    encoded = re.findall(r"\.thumb \{ background-image: url\(data:image/png;base64,([^)]*)\)", html)
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded[0]))))
    assert sheet.shape == (15 * 8, 20 * 8)
    for place, row in enumerate(rows):
        top, left = 8 * (place // 20), 8 * (place % 20)
        cell = sheet[top : top + 8, left : left + 8]
        np.testing.assert_array_equal(cell, digits.images[row, ..., 0])


def test_a_sheet_of_none_and_of_colour() -> None:
    rng = np.random.default_rng(0)
    for n in (0, 1, 21):
        images = rng.integers(0, 256, (n, 4, 6, 3), np.uint8)
        encoded = thumbnail_sheet(images).partition(",")[2]
        sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))
        assert sheet.shape == (8 if n > 20 else 4, 120, 3)
        if n:
            np.testing.assert_array_equal(sheet[:4, :6], images[0])


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
    assert html.count("</script>") == 2
    assert "<b>" not in html
    assert Page(html).data["classes"] == classes


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
    # Ticks of both axes of the joint; the classes below the pictures are parts of longer texts.
    for name in shown:
        assert page.drawn.count(name) >= 2, name
    for name in shown[:5]:
        assert page.drawn.count(name) == 3, name  # as a method, in the legend too


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
    assert len(page.data["examples"]) == 300
    official = published_torchvision_index()
    for example in page.data["examples"]:
        row = example["row"]
        assert example["indices"] == {"imagefolder": row, "torchvision": official[row]}
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
    assert re.fullmatch(r".*report.html: .* kB, without images \(the page.*\)\n", result.stdout)
    html = out.read_text()
    assert "<strong>No images.</strong>" in html
    assert "cifar-noisy images --download" in html
    assert ".thumb { background-image" not in html
    assert len(Page(html).data["examples"]) == 50


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
    own, beside = (rows for rows in page.tables if rows[0][:2] == ["method", "flagged"])
    assert [row[0] for row in own[1:]] == ["yours", *cifar_noisy.METHODS]
    assert [row[0] for row in beside[1:]] == list(cifar_noisy.METHODS)
    assert own[1][1:] == beside[5][1:]  # yours is the published cl_both


def test_without_wrong_labels_a_dash_stands(published: str, tmp_path: Path) -> None:
    page = Page(write_report(tmp_path / "report.html", 0).read_text())
    for row in page.table("method", "flagged"):
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
