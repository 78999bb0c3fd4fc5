"""A process of its own that packs the images of a small made-up release, and can be held up.

    python -m tests.faults.packer RELEASE_FOLDER [no-locks] [found | writing] [after=SECONDS]

It answers "ready" when it has imported everything, waits for a line, loads the train set with
``download=True`` and no root, and prints what came of it. With "found" it says so and waits for
another line when it has found the archive and not read it; with "writing", when half is written.
"""

import fcntl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import cifar_noisy.store.http_download  # noqa: F401
from cifar_noisy import load_images
from cifar_noisy.images import packs, readers
from cifar_noisy.store import locks
from tests.fake_cifar import FakeCifar

FAKE = FakeCifar.random()


def start(folder: Path, *words: str) -> "subprocess.Popen[str]":
    """Start a packer; it is ready when this returns."""
    packer = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.packer", folder, *words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert hear(packer) == "ready"
    return packer


def tell(packer: "subprocess.Popen[str]") -> None:
    """Let a packer go on."""
    assert packer.stdin is not None
    packer.stdin.write("go on\n")
    packer.stdin.flush()


def hear(packer: "subprocess.Popen[str]") -> str:
    """Return the next line that a packer prints."""
    assert packer.stdout is not None
    return packer.stdout.readline().strip()


def pause(word: str) -> None:
    """Say where this process is, and wait to be told to go on."""
    print(word, flush=True)
    sys.stdin.readline()


def hold_up(word: str) -> None:
    """Make this process pause at a place."""
    problem, chunks = readers.Source._problem_of, packs._chunks

    def paused_check(self: readers.Source, train: bool) -> str | None:
        pause(word)
        return problem(self, train)

    def paused_chunks(pixels: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Iterator[memoryview]:
        whole = list(chunks(pixels, labels))
        yield whole[0]
        pause(word)
        yield from whole[1:]

    if word == "found":
        readers.Source._problem_of = paused_check  # type: ignore[method-assign]
    else:
        packs._chunks = paused_chunks


def main() -> None:
    folder, *words = sys.argv[1:]
    readers.CIFAR10 = FAKE.release(Path(folder))
    locks.LOCK_SECONDS = 2.0
    seconds = 0.0
    for word in words:
        if word == "no-locks":
            fcntl.flock = lambda *_: None  # granted to everyone
        elif word.startswith("after="):
            seconds = float(word.removeprefix("after="))
        else:
            hold_up(word)
    pause("ready")
    time.sleep(seconds)
    try:
        loaded = load_images(download=True)
        pixels = FAKE.pixels[True][loaded.torchvision_index]
        answer = "right" if loaded.is_official and (loaded.pixels == pixels).all() else "wrong"
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    print(answer, flush=True)


if __name__ == "__main__":
    main()
