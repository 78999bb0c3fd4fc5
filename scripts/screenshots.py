"""Make the README's pictures: the explorer of a page, and a figure.

    CIFAR_NOISY_MIRRORS=UPSTREAM_FOLDER python -m scripts.screenshots docs

The explorer shows scikit-learn's digits, so that nothing of CIFAR-10's images is in this
repository; the figure is drawn from the published logs. Needs chromium and chromium-driver.
"""

import base64
import sys
import tempfile
from pathlib import Path

from matplotlib.figure import Figure
from selenium.webdriver.common.by import By

import cifar_noisy
from cifar_noisy.report.page import build_page
from cifar_noisy.settings import Method
from tests.browser import browsing, look_at
from tests.digits import noisy_digits

SHOWN: tuple[Method, ...] = ("cl_both", "argmax")


def explorer(to: Path) -> None:
    """Take a picture of the label explorer with an example opened."""
    with tempfile.TemporaryDirectory() as folder, browsing() as browser:
        page = Path(folder) / "digits.html"
        page.write_text(build_page("Digits with 20 % label noise", noisy_digits()))
        look_at(browser, page, width=1200)
        browser.find_elements(By.CSS_SELECTOR, ".tile")[2].click()
        browser.execute_script("document.getElementById('explorer').scrollIntoView()")
        picture = browser.execute_cdp_cmd("Page.captureScreenshot", {})["data"]
    to.write_bytes(base64.b64decode(picture))


def memorisation(to: Path) -> None:
    """Draw how Co-Teaching forgets on noisy labels, and not on what confident learning keeps."""
    logs = {
        f"on what {method} keeps": cifar_noisy.load_training_log(
            method, 0.4, 0.2, trainer="coteaching"
        )
        for method in SHOWN
    }
    logs["on all examples"] = cifar_noisy.load_training_log("coteaching", 0.4, 0.2)
    figure = Figure(figsize=(7, 4), dpi=110, layout="constrained")
    ax = cifar_noisy.plot.learning_curves(logs, ax=figure.add_subplot())
    ax.set_title("Co-Teaching at 40 % label noise, sparsity 0.2 (the second network is thin)")
    figure.savefig(to)


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    explorer(folder / "explorer.png")
    memorisation(folder / "test_accuracy.png")


if __name__ == "__main__":
    main()
