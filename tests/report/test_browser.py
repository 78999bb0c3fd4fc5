"""The page in a real browser: what a reader filters, sorts, opens and reaches by keyboard."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from cifar_noisy import CLASSES, METHODS, load_label_errors, load_noisy_labels, load_pyx
from cifar_noisy.confident_learning.scores import label_error_scores
from cifar_noisy.loading.noise_generation import true_labels
from cifar_noisy.loading.row_order import published_torchvision_index
from cifar_noisy.report.explorer import Examples, suspects
from cifar_noisy.report.page import EXAMPLES_SHOWN, build_page
from cifar_noisy.store.artifact_store import MIRRORS_VARIABLE
from conftest import MIRROR, NO_FILES
from tests.browser import WIDTHS, browsing, is_installed, log, look_at, requests
from tests.digits import noisy_digits

pytestmark = pytest.mark.skipif(
    not is_installed(), reason="needs a browser: apt-get install chromium chromium-driver"
)


@dataclasses.dataclass(frozen=True)
class Shown:
    """A page as a file, and what it is made from."""

    path: Path
    examples: Examples

    @property
    def rows(self) -> NDArray[np.intp]:
        return suspects(self.examples.found, self.scores["normalized_margin"], EXAMPLES_SHOWN)

    @property
    def scores(self) -> dict[str, NDArray[np.float64]]:
        return label_error_scores(self.examples.given, self.examples.pyx)

    @property
    def labels(self) -> dict[str, NDArray[Any]]:
        e = self.examples
        return {"given": e.given, "true": e.true, "predicted": e.pyx.argmax(axis=1)}


def digits() -> Examples:
    """Return the digits with labels that three people might have given."""
    examples = noisy_digits()
    rng = np.random.default_rng(1)
    votes = {f"person {i}": rng.integers(0, 10, len(examples.given)) for i in (1, 2, 3)}
    return dataclasses.replace(examples, votes=votes)


def digits_without_images() -> Examples:
    return dataclasses.replace(noisy_digits(), images=None)


def published_with_made_up_images() -> Examples:
    if MIRROR is None:
        pytest.skip(NO_FILES)
    rng = np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MIRRORS_VARIABLE, MIRROR)
        return Examples(
            load_noisy_labels(0.4, 0.2),
            true_labels(),
            load_pyx(0.4, 0.2),
            {str(method): load_label_errors(method, 0.4, 0.2) for method in METHODS},
            CLASSES,
            rng.integers(0, 256, (50_000, 32, 32, 3), np.uint8),
            {"imagefolder": np.arange(50_000), "torchvision": published_torchvision_index()},
        )


@pytest.fixture(
    scope="module", params=[digits, digits_without_images, published_with_made_up_images],
    ids=lambda made_by: made_by.__name__,
)  # fmt: skip
def shown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    examples = request.param()
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(build_page("A page", examples), encoding="utf-8")
    return Shown(path, examples)


@pytest.fixture(scope="module")
def running() -> Iterator[Chrome]:
    with browsing() as browser:
        yield browser


@pytest.fixture
def browser(running: Chrome, shown: Shown) -> Iterator[Chrome]:
    """Give the page, opened anew; after the test, it has complained of nothing and asked nobody."""
    look_at(running, shown.path)
    yield running
    assert log(running, "browser") == []
    asked = {url.partition("#")[0] for url in requests(running)}
    asked = {url for url in asked if not url.startswith(("data:", "blob:", "about:"))}
    assert asked <= {shown.path.as_uri()}


def visible_rows(browser: Chrome) -> list[int]:
    rows: list[int] = browser.execute_script(
        "return [...document.querySelectorAll('.tile')].filter(t => t.offsetParent !== null)"
        ".map(t => Number(t.dataset.row))"
    )
    return rows


def all_rows(browser: Chrome) -> list[int]:
    """Return the rows on all pages, each of which is turned to."""
    rows = visible_rows(browser)
    following = browser.find_element(By.ID, "next")
    while following.is_displayed() and following.get_attribute("aria-disabled") == "false":
        following.click()
        rows += visible_rows(browser)
    return rows


def choose(browser: Chrome, control: str, value: str) -> None:
    Select(browser.find_element(By.ID, control)).select_by_value(value)


def focused(browser: Chrome) -> str:
    """Return what has the focus: its id, or its row, or its text."""
    name: str = browser.execute_script(
        "const e = document.activeElement; return e.id || e.dataset.row || e.textContent.trim()"
    )
    return name


def press(browser: Chrome, *keys: str) -> None:
    ActionChains(browser).send_keys(*keys).perform()


def in_numpys_order(shown: Shown, rows: NDArray[np.intp], score: str) -> list[int]:
    ordered: list[int] = rows[np.lexsort((rows, -shown.scores[score][rows]))].tolist()
    return ordered


def test_the_order_is_numpys(browser: Chrome, shown: Shown) -> None:
    for value, score in (
        ("self_confidence", "self_confidence"),
        ("margin", "normalized_margin"),
    ):
        choose(browser, "sort", value)
        assert all_rows(browser) == in_numpys_order(shown, shown.rows, score)


def test_filters_show_what_numpy_says(browser: Chrome, shown: Shown) -> None:
    rng = np.random.default_rng(0)
    sizes = []
    for _ in range(12):
        browser.find_element(By.CSS_SELECTOR, "#filters [type=reset]").click()
        expected = np.ones(len(shown.rows), dtype=np.bool_)
        label = rng.choice(["given", "true", "predicted"])
        wanted = int(rng.integers(10))
        choose(browser, f"filter-{label}", str(wanted))
        expected &= shown.labels[label][shown.rows] == wanted
        for number in rng.choice(5, size=rng.integers(3), replace=False):
            flags = int(rng.integers(2))
            choose(browser, f"filter-method-{number}", str(flags))
            expected &= list(shown.examples.found.values())[number][shown.rows] == flags
        rows = shown.rows[expected]
        ordered = in_numpys_order(shown, rows, "normalized_margin")
        assert visible_rows(browser) == ordered[:300]
        count = browser.find_element(By.ID, "count").text
        assert count.startswith(f"{len(rows):,} of {len(shown.rows):,} shown")
        sizes.append(len(rows))
    assert max(sizes) > min(sizes)
    browser.find_element(By.CSS_SELECTOR, "#filters [type=reset]").click()
    count = browser.find_element(By.ID, "count").text
    assert count == f"{len(shown.rows):,} of {len(shown.rows):,} shown"


def test_where_none_is_shown_the_filters_that_did_it_are_named(
    browser: Chrome, shown: Shown
) -> None:
    """All suspects are flagged, so that no method flags them leaves none."""
    found = np.array([mask[shown.rows] for mask in shown.examples.found.values()])
    for number in range(5):
        choose(browser, f"filter-method-{number}", "0")
    count = browser.find_element(By.ID, "count").text
    assert count.startswith(f"0 of {len(shown.rows):,} shown. Without “")
    for number, name in enumerate(shown.examples.found):
        n_of_it_alone = int((found[number] & (found.sum(axis=0) == 1)).sum())
        said = f"ithout “{name}: does not” {n_of_it_alone:,}"
        assert (said in count) == (n_of_it_alone > 0)
    choose(browser, "filter-given", "0")
    choose(browser, "filter-true", "0")
    for number in range(1, 5):
        choose(browser, f"filter-method-{number}", "")
    rows = shown.rows[~found[0]]
    alike = [
        np.count_nonzero(labels[rows] == 0)
        for labels in (shown.examples.true, shown.examples.given)
    ]
    both = (shown.examples.given[shown.rows] == 0) & (shown.examples.true[shown.rows] == 0)
    if not (both & ~found[0]).any():
        count = browser.find_element(By.ID, "count").text
        for label, left in zip(("given", "true"), alike, strict=True):
            assert (f"ithout “{label} label: {shown.examples.classes[0]}” {left:,}" in count) == (
                left > 0
            )


def test_a_click_opens_the_right_example(browser: Chrome, shown: Shown) -> None:
    choose(browser, "sort", "self_confidence")
    for tile in browser.find_elements(By.CSS_SELECTOR, ".tile")[3:200:60]:
        row = int(str(tile.get_attribute("data-row")))
        tile.click()
        detail = browser.find_element(By.ID, "detail")
        assert f"Example {row}" in detail.text
        for name, labels in (shown.labels | dict(shown.examples.votes or {})).items():
            assert f"{name}\n{shown.examples.classes[labels[row]]}" in detail.text
        given = detail.find_element(By.CSS_SELECTOR, "dd span")  # struck as below its tile
        is_right = shown.labels["given"][row] == shown.labels["true"][row]
        assert given.get_attribute("class") == ("" if is_right else "struck")
        flagging = [name for name, found in shown.examples.found.items() if found[row]]
        all_of = "all 5: " if len(flagging) == 5 else ""
        assert f"flagged by\n{all_of}{', '.join(flagging)}" in detail.text
        for order, indices in (shown.examples.indices or {}).items():
            assert f"index, {order} order\n{indices[row]}" in detail.text
        assert browser.current_url.endswith(f"#example={row}")
        bars = detail.find_elements(By.CSS_SELECTOR, ".bars tr")
        assert [bar.text.split()[-1] for bar in bars] == [
            f"{p:.3f}" for p in shown.examples.pyx[row].astype(float)
        ]
        widths = [
            bar.find_element(By.TAG_NAME, "i").rect["width"]
            / bar.find_element(By.CLASS_NAME, "bar").rect["width"]
            for bar in bars
        ]
        np.testing.assert_allclose(widths, shown.examples.pyx[row], atol=0.03)
        assert browser.execute_script(
            "return [...document.querySelectorAll('[aria-current]')].map(t => t.dataset.row)"
        ) == [str(row)]


def test_a_tile_shows_its_own_thumbnail(browser: Chrome, shown: Shown) -> None:
    """Sheets have the suspects in order (test_published_page.py); a tile shows its own cell."""
    choose(browser, "sort", "self_confidence")  # so that a page needs several sheets
    places = browser.execute_script(
        "return [...document.querySelectorAll('.tile')].map(t => {"
        " const box = t.querySelector('.thumb');"
        " if (!box) return null;"
        " const style = getComputedStyle(box);"
        " const id = /sheet-\\d+/.exec(box.className)[0];"
        " const isItsSheet = style.backgroundImage"
        '   === `url("${document.getElementById(id).textContent}")`;'
        " return [t.dataset.row, isItsSheet && id, style.backgroundPosition,"
        "   style.backgroundSize]; })"
    )
    if shown.examples.images is None:
        assert set(places) == {None}
        assert browser.find_element(By.ID, "no-images").is_displayed()
        return
    cells = {int(row): place for place, row in enumerate(shown.rows)}
    assert len(places) == 300
    assert len({sheet for _, sheet, _, _ in places}) > 1
    for row, sheet, position, size in places:
        number, within = divmod(cells[int(row)], 300)
        assert sheet == f"sheet-{number}"
        n_lines = -(-min(300, len(cells) - 300 * number) // 20)
        x, y = (float(part.rstrip("%")) for part in position.split())
        assert (round(y / 100 * (n_lines - 1)), round(x / 100 * 19)) == divmod(within, 20)
        assert size == f"2000% {n_lines}00%"


def test_arrow_keys_move_and_enter_opens(browser: Chrome, shown: Shown) -> None:
    rows = visible_rows(browser)
    browser.find_element(By.CSS_SELECTOR, ".tile").send_keys(Keys.ARROW_RIGHT, "")
    assert focused(browser) == str(rows[1])
    press(browser, Keys.ARROW_DOWN)
    tops = browser.execute_script(
        "return [...document.querySelectorAll('.tile')].map(t => t.offsetTop)"
    )
    per_line = tops.count(tops[0])
    assert focused(browser) == str(rows[1 + per_line])
    press(browser, Keys.ARROW_UP, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert focused(browser) == str(rows[0])
    press(browser, Keys.END, Keys.ENTER)
    assert f"Example {rows[-1]}" in browser.find_element(By.ID, "detail").text
    press(browser, Keys.HOME, Keys.SPACE)
    assert f"Example {rows[0]}" in browser.find_element(By.ID, "detail").text
    ordered = in_numpys_order(shown, shown.rows, "normalized_margin")
    press(browser, Keys.PAGE_UP)
    assert focused(browser) == str(rows[0])
    press(browser, Keys.PAGE_DOWN)
    assert visible_rows(browser) == ordered[300:600]
    assert focused(browser) == str(ordered[300])
    page = browser.find_element(By.ID, "page-number").text
    assert page.startswith(f"301–{min(600, len(ordered))}, page 2 of ")
    press(browser, Keys.PAGE_UP)
    assert visible_rows(browser) == rows


def find(browser: Chrome, index: str, order: str = "") -> str:
    """Ask for an example by its index; return what is said where there is none."""
    if order:
        Select(browser.find_element(By.ID, "find-order")).select_by_visible_text(order)
    box = browser.find_element(By.ID, "find-index")
    box.clear()
    box.send_keys(index, Keys.ENTER)
    return browser.find_element(By.ID, "find-status").text


def test_any_example_is_found_by_its_index(browser: Chrome, shown: Shown) -> None:
    e = shown.examples
    detail = browser.find_element(By.ID, "detail")
    is_flagged = np.any(list(e.found.values()), axis=0)
    unflagged = int(np.flatnonzero(~is_flagged)[7])
    last = int(shown.rows[-1])
    for row in (unflagged, last):
        assert find(browser, f" {row:,} ") == ""
        assert focused(browser) == f"Example {row}"
        assert f"given\n{e.classes[e.given[row]]}\n" in detail.text
        margin = 1 - 2 * shown.scores["normalized_margin"][row]
        assert f"margin\n{margin:.3f}".replace("-", "−") in detail.text
        assert ("no method flags it" in detail.text) == (row == unflagged)
        assert ("page has no picture and no probabilities of it" in detail.text) == (
            row == unflagged and e.images is not None
        )
    assert last in visible_rows(browser)  # its page was turned to
    left_out = np.setdiff1d(np.flatnonzero(is_flagged), shown.rows)
    if len(left_out):
        find(browser, str(left_out[0]))
        assert "Not among the 3,000 suspects of this page" in detail.text
        assert f"cifar-noisy report --examples {is_flagged.sum()} makes one" in detail.text
    for order, indices in (e.indices or {}).items():
        assert find(browser, str(indices[last]), order if len(e.indices or {}) > 1 else "") == ""
        assert f"Example {last}\n" in detail.text
    for rubbish in ("-1", f"{len(e.given)}", "cat", "1e3", "", "٣"):
        assert find(browser, rubbish).endswith(f": 0 to {len(e.given) - 1:,}")
        assert f"Example {last}\n" in detail.text
    choose(browser, "filter-given", str((e.given[last] + 1) % 10))
    find(browser, str(last), "imagefolder" if len(e.indices or {}) > 1 else "")
    assert "The filters hide its tile." in detail.text


def test_an_address_leads_to_an_example(browser: Chrome, shown: Shown) -> None:
    row = int(shown.rows[-1])
    browser.get("about:blank")
    browser.get(f"{shown.path.as_uri()}#example={row}")
    detail = browser.find_element(By.ID, "detail")
    assert f"Example {row}\n" in detail.text
    assert browser.execute_script("return arguments[0].getBoundingClientRect().top", detail) < 900
    browser.execute_script("location.hash = '#example=3'")
    assert f"Example {row}\n" not in detail.text
    assert "Example 3\n" in detail.text
    link = detail.find_element(By.LINK_TEXT, "Link to this example")
    assert link.get_attribute("href") == f"{shown.path.as_uri()}#example=3"
    browser.execute_script("location.hash = '#example=b7'")
    assert "No example b7" in browser.find_element(By.ID, "find-status").text


def test_indices_of_what_is_shown_are_copied_and_downloaded(
    browser: Chrome, shown: Shown, tmp_path: Path
) -> None:
    choose(browser, "filter-method-0", "1")
    rows = in_numpys_order(
        shown,
        shown.rows[next(iter(shown.examples.found.values()))[shown.rows]],
        "normalized_margin",
    )
    assert len(rows) > 300
    orders = shown.examples.indices or {}
    expected = "\n".join(
        [",".join(orders), *(",".join(str(orders[o][row]) for o in orders) for row in rows), ""]
    )
    permissions = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    browser.execute_cdp_cmd("Browser.grantPermissions", permissions)
    browser.find_element(By.ID, "copy").click()
    status = browser.find_element(By.ID, "export-status")
    WebDriverWait(browser, 10).until(lambda _: status.text == f"{len(rows):,} copied")
    read = "navigator.clipboard.readText().then(arguments[0], (e) => arguments[0](String(e)))"
    assert browser.execute_async_script(read) == expected
    browser.execute_cdp_cmd("Browser.resetPermissions", {})
    browser.execute_script(
        "navigator.clipboard.writeText = () => Promise.reject(new Error('not allowed'))"
    )
    browser.find_element(By.CSS_SELECTOR, "#filters [type=reset]").click()
    browser.find_element(By.ID, "copy").click()
    WebDriverWait(browser, 10).until(lambda _: status.text == f"{len(shown.rows):,} copied")
    choose(browser, "filter-method-0", "1")
    folder = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", folder)
    browser.find_element(By.ID, "download").click()
    file = tmp_path / "examples.csv"
    WebDriverWait(browser, 10).until(lambda _: file.exists() and file.stat().st_size)
    assert file.read_text() == expected


def test_a_cell_of_the_joint_says_more_on_hover(browser: Chrome, shown: Shown) -> None:
    said = browser.execute_script(
        "const cell = document.querySelector('#joint-cell-2-3 path');"
        "cell.scrollIntoView({ block: 'center', behavior: 'instant' });"
        "const { x, y, width, height } = cell.getBoundingClientRect();"
        "const top = document.elementFromPoint(x + width / 2, y + height / 2);"
        "return top.closest('g[id^=joint-cell]').querySelector('title').textContent"
    )
    e = shown.examples
    n = np.count_nonzero((e.given == 2) & (e.true == 3))
    assert said.startswith(f"given {e.classes[2]}, true {e.classes[3]}: estimated ")
    assert f", actual {n:,}, difference " in said


def test_every_control_is_reached_by_tab(browser: Chrome, shown: Shown) -> None:
    browser.execute_script("document.querySelector('.tile').tabIndex")
    reached = []
    for _ in range(80):
        press(browser, Keys.TAB)
        reached.append(focused(browser))
        if reached[-1] == reached[0] and len(reached) > 1:
            break
    controls = {"filter-given", "filter-true", "filter-predicted", "sort", "Show all", "precision"}
    controls |= {"find-index", "copy", "download", "next"}
    controls |= {f"filter-method-{number}" for number in range(5)}
    assert controls <= set(reached)
    rows = set(map(str, visible_rows(browser)))
    assert len(rows & set(reached)) == 1  # one stop for all the tiles


def test_the_sheet_of_a_narrow_screen_closes(browser: Chrome, shown: Shown) -> None:
    look_at(browser, shown.path, 360)
    detail = browser.find_element(By.ID, "detail")
    assert not detail.is_displayed()
    rows = visible_rows(browser)
    browser.find_elements(By.CSS_SELECTOR, ".tile")[4].click()
    assert detail.is_displayed()
    press(browser, Keys.ESCAPE)
    assert not detail.is_displayed()
    assert focused(browser) == str(rows[4])
    press(browser, Keys.ENTER)
    browser.find_element(By.CSS_SELECTOR, "#detail .close").click()
    assert not detail.is_displayed()
    assert focused(browser) == str(rows[4])


# Texts of the page (not of its pictures) whose contrast is below what WCAG's level AA asks for.
TOO_FAINT = """
const brightness = (colour) => {
  const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const isClear = (element) => /, 0\\)$/.test(getComputedStyle(element).backgroundColor);
const faint = new Set();
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let text = texts.nextNode(); text; text = texts.nextNode()) {
  const element = text.parentElement;
  if (!text.data.trim() || element.closest("svg, script, .unseen, .skip, [hidden]")) continue;
  let ground = element;
  while (ground !== document.body && isClear(ground)) ground = ground.parentElement;
  const style = getComputedStyle(element);
  const size = parseFloat(style.fontSize);
  const isLarge = size >= 24 || (size >= 18.67 && style.fontWeight >= 700);
  const of = [style.color, getComputedStyle(ground).backgroundColor].map(brightness);
  const contrast = (Math.max(...of) + 0.05) / (Math.min(...of) + 0.05);
  if (contrast < (isLarge ? 3 : 4.5)) faint.add(`${text.data.trim()}: ${contrast}`);
}
return [...faint];
"""
# Controls, landmarks and pictures without a name, or with one that another has too.
NAMELESS = """
const name = (e) => e.getAttribute("aria-label") || e.labels?.[0]?.textContent
  || document.getElementById(e.getAttribute("aria-labelledby"))?.textContent || e.textContent;
const named = [...document.querySelectorAll(
  "a, button, input, select, summary, [role=img], [role=region], [role=group]")];
const landmarks = [...document.querySelectorAll("nav, form, section, [role=region]")].map(name);
return [
  ...named.filter((e) => !name(e)?.trim()).map((e) => e.outerHTML),
  ...landmarks.filter((text, i) => landmarks.indexOf(text) !== i),
  ...["h1", "main", "header", "footer"].filter((t) => document.querySelectorAll(t).length !== 1),
];
"""


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_at_any_width(
    browser: Chrome, shown: Shown, width: int, scheme: str
) -> None:
    look_at(browser, shown.path, width, scheme)
    browser.find_element(By.CSS_SELECTOR, ".tile").click()
    widths = browser.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert widths == [width, width]
    background, ink = (
        browser.execute_script(f"return getComputedStyle(document.body).{name}")
        for name in ("backgroundColor", "color")
    )
    brightness = [sum(map(int, c[4:-1].split(","))) for c in (background, ink)]
    assert (brightness[0] > brightness[1]) == (scheme == "light")
    assert browser.execute_script(TOO_FAINT) == []
    assert browser.execute_script(NAMELESS) == []


def test_a_table_sorts_by_a_click(browser: Chrome, shown: Shown) -> None:
    table = browser.find_element(By.CSS_SELECTOR, ".sortable")
    is_error = shown.examples.given != shown.examples.true
    precision = {name: is_error[found].mean() for name, found in shown.examples.found.items()}
    expected = sorted(precision, key=lambda name: round(precision[name], 4))
    by_f1 = [cell.text for cell in table.find_elements(By.CSS_SELECTOR, "tbody th")]
    for column, way, names in (
        ("F1", "descending", by_f1),  # though it was sorted so before the first click
        ("precision", "descending", expected[::-1]),  # best first
        ("precision", "ascending", expected),
        ("behind best", "ascending", by_f1),  # best first here too
        ("behind best", "descending", by_f1[::-1]),
        ("F1", "descending", by_f1),
    ):
        head = table.find_element(By.XPATH, f".//th[button='{column}']")
        head.find_element(By.TAG_NAME, "button").click()
        assert head.get_attribute("aria-sort") == way
        cells = table.find_elements(By.CSS_SELECTOR, "tbody th")
        assert [cell.text for cell in cells] == names
