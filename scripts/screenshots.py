"""Make the README's pictures: the page that the demo writes, and a figure.

    CIFAR_NOISY_MIRRORS=UPSTREAM_FOLDER python -m scripts.screenshots docs

The demo's page shows scikit-learn's digits, so that nothing of CIFAR-10's images is in this
repository; the figure is drawn from the published logs. Needs chromium and chromium-driver.
"""

import base64
import io
import subprocess
import sys
import tempfile
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image
from selenium.webdriver.common.by import By

import cifar_noisy
from cifar_noisy.loading.training_logs import TrainingLog
from cifar_noisy.settings import Method
from tests.browser import browsing, look_at

SHOWN: tuple[Method, ...] = ("cl_both", "argmax")


def explorer(to: Path) -> None:
    """Take a picture of the demo's page: results, and the explorer with an example opened."""
    with tempfile.TemporaryDirectory() as folder, browsing() as browser:
        page = Path(folder) / "demo_report.html"
        subprocess.run([sys.executable, "-m", "cifar_noisy", "demo", "--out", page], check=True)
        look_at(browser, page, width=1200)
        browser.find_elements(By.CSS_SELECTOR, ".tile")[2].click()
        browser.execute_script("scrollTo(0, 0)")
        clip = {"x": 0, "y": 0, "width": 1200, "height": 1400, "scale": 1}
        shown = {"captureBeyondViewport": True, "clip": clip}
        picture = browser.execute_cdp_cmd("Page.captureScreenshot", shown)["data"]
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        image.convert("RGB").save(to, optimize=True)


def memorisation(to: Path) -> None:
    """Draw how Co-Teaching forgets on noisy labels, and not on what confident learning keeps."""
    logs: dict[str, TrainingLog] = {
        method: cifar_noisy.load_training_log(method, 0.4, 0.2, trainer="coteaching")
        for method in SHOWN
    }
    logs["all examples"] = cifar_noisy.load_training_log("coteaching", 0.4, 0.2)
    figure = Figure(figsize=(7, 4), dpi=110, layout="constrained")
    ax = cifar_noisy.plot.learning_curves(logs, ax=figure.add_subplot())
    ax.set_title("Co-Teaching at 40 % label noise, on what a method keeps and on all")
    figure.savefig(to)


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    explorer(folder / "explorer.png")
    memorisation(folder / "test_accuracy.png")


if __name__ == "__main__":
    main()
