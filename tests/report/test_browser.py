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

from cifar_noisy import CLASSES, METHODS, load_label_errors, load_noisy_labels, load_pyx
from cifar_noisy.confident_learning.scores import label_error_scores
from cifar_noisy.loading.noise_generation import true_labels
from cifar_noisy.loading.row_order import published_torchvision_index
from cifar_noisy.report.explorer import Examples, suspects
from cifar_noisy.report.page import build_page
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
        return suspects(self.examples.found, self.scores["normalized_margin"], 300)

    @property
    def scores(self) -> dict[str, NDArray[np.float64]]:
        return label_error_scores(self.examples.given, self.examples.pyx)

    @property
    def labels(self) -> dict[str, NDArray[Any]]:
        e = self.examples
        return {"given": e.given, "true": e.true, "predicted": e.pyx.argmax(axis=1)}


def digits() -> Examples:
    return noisy_digits()


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
    assert {url for url in requests(running) if not url.startswith("data:")} <= {
        shown.path.as_uri()
    }


def visible_rows(browser: Chrome) -> list[int]:
    rows: list[int] = browser.execute_script(
        "return [...document.querySelectorAll('.tile')].filter(t => t.offsetParent !== null)"
        ".map(t => Number(t.dataset.row))"
    )
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
        assert visible_rows(browser) == in_numpys_order(shown, shown.rows, score)


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
        assert visible_rows(browser) == in_numpys_order(shown, rows, "normalized_margin")
        count = browser.find_element(By.ID, "count").text
        assert count == f"{len(rows)} of {len(shown.rows)} shown"
        sizes.append(len(rows))
    assert max(sizes) > min(sizes)
    browser.find_element(By.CSS_SELECTOR, "#filters [type=reset]").click()
    assert len(visible_rows(browser)) == len(shown.rows)


def test_a_click_opens_the_right_example(browser: Chrome, shown: Shown) -> None:
    choose(browser, "sort", "self_confidence")
    for tile in browser.find_elements(By.CSS_SELECTOR, ".tile")[3:200:60]:
        row = int(str(tile.get_attribute("data-row")))
        tile.click()
        detail = browser.find_element(By.ID, "detail")
        assert f"Example {row}" in detail.text
        for name, labels in shown.labels.items():
            assert f"{name}\n{shown.examples.classes[labels[row]]}" in detail.text
        flagging = [name for name, found in shown.examples.found.items() if found[row]]
        assert f"flagged by\n{', '.join(flagging)}" in detail.text
        for order, indices in (shown.examples.indices or {}).items():
            assert f"index, {order} order\n{indices[row]}" in detail.text
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
    """The sheet has the suspects in order (test_report.py); a tile shows the cell of its own."""
    places = browser.execute_script(
        "return [...document.querySelectorAll('.tile')].map(t => {"
        " const box = t.querySelector('.thumb');"
        " if (!box) return null;"
        " const style = getComputedStyle(box);"
        " return [t.dataset.row, style.backgroundPosition, style.backgroundSize]; })"
    )
    if shown.examples.images is None:
        assert set(places) == {None}
        assert browser.find_element(By.ID, "no-images").is_displayed()
        return
    cells = {int(row): place for place, row in enumerate(shown.rows)}
    assert len(places) == len(cells) == 300
    for row, position, size in places:
        x, y = (float(part.rstrip("%")) for part in position.split())
        assert (round(y / 100 * 14), round(x / 100 * 19)) == divmod(cells[int(row)], 20)
        assert size == "2000% 1500%"


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


def test_every_control_is_reached_by_tab(browser: Chrome, shown: Shown) -> None:
    browser.execute_script("document.querySelector('.tile').tabIndex")
    reached = []
    for _ in range(80):
        press(browser, Keys.TAB)
        reached.append(focused(browser))
        if reached[-1] == reached[0] and len(reached) > 1:
            break
    controls = {"filter-given", "filter-true", "filter-predicted", "sort", "Show all", "precision"}
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


def test_a_table_sorts_by_a_click(browser: Chrome, shown: Shown) -> None:
    table = browser.find_element(By.CSS_SELECTOR, ".sortable")
    is_error = shown.examples.given != shown.examples.true
    precision = {name: is_error[found].mean() for name, found in shown.examples.found.items()}
    expected = sorted(precision, key=lambda name: round(precision[name], 4))
    head = table.find_element(By.XPATH, ".//th[button='precision']")
    for way, names in (("ascending", expected), ("descending", expected[::-1])):
        head.find_element(By.TAG_NAME, "button").click()
        assert head.get_attribute("aria-sort") == way
        cells = table.find_elements(By.CSS_SELECTOR, "tbody td:first-child")
        assert [cell.text for cell in cells] == names
