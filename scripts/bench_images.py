"""Measure what the package promises about images: speed against torchvision, and memory.

    python scripts/bench_images.py TORCHVISION_ROOT IMAGE_TREE

The two folders hold the same images, of CIFAR-10 or a re-encoded copy, as batch files and as PNG
files with upstream's names; the page needs the published files too, in the cache or in a mirror
folder. All epochs of a ratio are taken in turn in one run, the median of several. The rows are of
the kind that bench.py prints.
"""

import multiprocessing
import os
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
from bench import COMMAND, Row, cpu, medians, python, report, seconds
from selenium.webdriver import Chrome
from selenium.webdriver.support.wait import WebDriverWait
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import CIFAR10, ImageFolder, cifar

from cifar_noisy import NoisyCIFAR10, batches
from tests.browser import browsing, is_installed, look_at

ROUNDS = 5
BATCH = 256
N_IMAGES = 50_000
NORMALIZED = [
    transforms.ToTensor(),
    transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
]
AUGMENTED = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), *NORMALIZED]


def dataset(root: Path, **more: Any) -> NoisyCIFAR10:
    return NoisyCIFAR10(root, noise=0.4, sparsity=0.2, trust="pixels", **more)


def loaded(data: Any, collate: Callable[[Any], Any] | None = None) -> None:
    """Go through an epoch."""
    for _ in DataLoader(data, BATCH, shuffle=True, collate_fn=collate):
        pass


def epochs(root: Path, tree: Path) -> dict[str, float]:
    """Return images per second of each way through an epoch, medians of rounds in turn."""
    ours = dataset(root, transform=transforms.Compose(NORMALIZED))
    training = batches(dataset(root), BATCH)
    floats = torch.randn(N_IMAGES, 3, 32, 32)

    def selected() -> None:
        order = torch.randperm(N_IMAGES)
        for start in range(0, N_IMAGES, BATCH):
            floats.index_select(0, order[start : start + BATCH])

    theirs, augmented = (
        CIFAR10(root, transform=transforms.Compose(steps)) for steps in (NORMALIZED, AUGMENTED)
    )
    folder = ImageFolder(tree / "train", transform=transforms.Compose(NORMALIZED))
    ways: dict[str, Callable[[], object]] = {
        "torchvision": lambda: loaded(theirs),
        "default collate": lambda: loaded(ours),
        "own collate": lambda: loaded(ours, ours.collate_fn),
        "image folder": lambda: loaded(folder),
        "torchvision augmented": lambda: loaded(augmented),
        "batches": lambda: [None for _ in training],
        "index_select": selected,
    }
    for name in ("default collate", "own collate", "batches", "index_select"):
        ways[name]()
    times = medians([seconds(way) for way in ways.values()] for _ in range(ROUNDS))
    return {name: N_IMAGES / taken for name, taken in zip(ways, times, strict=True)}


def epoch_rows(root: Path, tree: Path) -> Iterator[Row]:
    """Compare images per second."""
    rates = epochs(root, tree)
    for ours, theirs, target in (
        ("default collate", "torchvision", 12),
        ("own collate", "torchvision", 24),
        ("default collate", "image folder", 30),
        ("own collate", "image folder", 30),
        ("batches", "torchvision augmented", 15),
        ("batches", "index_select", 0.25),
    ):
        ratio = rates[ours] / rates[theirs]
        yield Row(
            f"{ours}, against {theirs}",
            f"{ratio:.3g} times ({rates[ours]:,.0f} against {rates[theirs]:,.0f} images/s)",
            f"at least {target} times",
            ratio >= target,
        )


def opening(root: Path, tree: Path) -> Iterator[Row]:
    """Time the opening of a dataset that is packed, most of which is hashing its pixels.

    Of a tree every file's size and time are looked at, so that none is changed unnoticed.
    """
    for name, path, limit in (("batch files", root, 500), ("image tree, 50,000 files", tree, 750)):
        dataset(path)
        taken = statistics.median(seconds(partial(dataset, path)) for _ in range(9)) * 1000
        yield Row(f"opening, warm, {name}", f"{taken:.1f} ms", f"under {limit} ms", taken < limit)


OPEN_ONCE = """
import sys, time
import cifar_noisy.images.dataset
start = time.perf_counter()
cifar_noisy.NoisyCIFAR10({root!r}, noise=0.4, sparsity=0.2, trust="pixels")
print(time.perf_counter() - start)
"""


def opening_once(root: Path) -> Row:
    """Time the opening in a fresh process, beyond imports."""
    (taken,) = medians(python(OPEN_ONCE.format(root=str(root))) for _ in range(5))
    measured = f"{taken * 1000:.1f} ms"
    return Row("opening, warm, in a fresh process", measured, "under 500 ms", taken < 0.5)


PACK = """
import os, re, tempfile, time
import cifar_noisy.images.packs

def peak():
    # What getrusage tells includes the process that this one came from.
    with open("/proc/self/status") as status:
        return int(re.search(r"VmHWM:\\s+(\\d+)", status.read())[1]) * 1024 / 1e6

before = peak()
with tempfile.TemporaryDirectory() as cache:
    os.environ["CIFAR_NOISY_CACHE"] = cache
    start = time.perf_counter()
    for train in (True, False):
        cifar_noisy.load_images({root!r}, train=train, trust="pixels")
    taken = time.perf_counter() - start
print(taken, peak(), before)
"""


def packing(root: Path, tree: Path) -> Iterator[Row]:
    """Take time and memory of packing 60,000 images in a fresh process."""
    for name, path in (("batch files", root), ("image tree", tree)):
        taken, peak, before = python(PACK.format(root=str(path)))
        measured = f"{taken:.2f} s, {peak:.0f} MB at most ({before:.0f} MB before)"
        yield Row(f"packing, {name}", measured, "under 1 GB", peak < 1000)


def worker_memory(root: Path, context: str) -> Row:
    """Sum the proportional memory of 4 workers that have gone through all images."""
    data = dataset(root, order="torchvision", transform=transforms.Compose(NORMALIZED))
    loader = DataLoader(
        data, BATCH, num_workers=4, multiprocessing_context=context, persistent_workers=True,
        collate_fn=data.collate_fn,
    )  # fmt: skip
    for _ in loader:
        pass
    pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    maps = [area for pid in pids for area in psutil.Process(pid).memory_maps()]
    pixels, all_memory = (
        sum(area.pss for area in maps if is_chosen(area.path)) / 1e6
        for is_chosen in (lambda path: path.endswith(".sealed"), lambda path: True)
    )
    size = data.images.pixels.nbytes / 1e6
    measured = (
        f"{pixels:.0f} MB of pixels ({size:.0f} MB once); {all_memory:.0f} MB in all 5 processes"
    )
    return Row(f"4 workers by {context}, PSS", measured, "the pixels once", pixels < 1.1 * size)


def page(root: Path) -> Iterator[Row]:
    """Take time and size of a page with 3,000 thumbnails, as a process, and of its first paint."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "report.html"
        words = f"report --noise 0.4 --sparsity 0.2 --images {root} --trust pixels --out {out}"
        taken, _ = medians(python(COMMAND.format(words)) for _ in range(5))
        size = out.stat().st_size / 1e6
        measured = f"{taken:.1f} s, {size:.1f} MB"
        yield Row("page of a setting", measured, "under 4 s, 5 MB", taken < 4 and size < 5)
        if not is_installed():
            return
        with browsing() as browser:
            (painted,) = medians(first_paint(browser, out) for _ in range(7))
    yield Row("its first paint", f"{painted:.2f} s", "under 0.3 s", painted < 0.3)


def first_paint(browser: Chrome, path: Path) -> list[float]:
    look_at(browser, path)
    entries = "return performance.getEntriesByName('first-contentful-paint').map(e => e.startTime)"
    wait = WebDriverWait(browser, 10)
    return [at / 1000 for at in wait.until(lambda _: browser.execute_script(entries))]


def rows(root: Path, tree: Path) -> Iterator[Row]:
    # torchvision refuses images that are not the official ones.
    cifar.check_integrity = lambda *_: True
    warnings.filterwarnings("ignore", message="This DataLoader will create 4 worker")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["CIFAR_NOISY_CACHE"] = cache
        yield from packing(root, tree)
        yield from opening(root, tree)
        yield opening_once(root)
        for context in ("fork", "spawn"):
            yield worker_memory(root, context)
        yield from epoch_rows(root, tree)
        yield from page(root)


def main() -> int:
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; {cpu()}")
    return report(rows(Path(sys.argv[1]), Path(sys.argv[2])))


if __name__ == "__main__":
    sys.exit(main())
