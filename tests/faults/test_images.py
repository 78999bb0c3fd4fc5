"""Faults of processes that pack images: one test a row of the matrix, by its name."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cifar_noisy.images.readers import ARCHIVE
from tests.faults import packer, worker
from tests.faults.matrix import IMAGES
from tests.faults.packer import FAKE, hear, tell
from tests.faults.server import Answer, FaultServer, serving


def test_every_row_of_the_matrix_is_tried() -> None:
    tests = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert tests >= set(IMAGES)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    """Serve the archive as the only mirror has it."""
    FAKE.write_archive(tmp_path / "served")
    with serving(tmp_path / "served") as server:
        monkeypatch.setenv("CIFAR_NOISY_MIRRORS", server.url)
        yield server


@pytest.fixture
def cached(host: FaultServer) -> Path:
    """Put the archive into the cache, as a download of another process would."""
    archive = cache() / ARCHIVE
    archive.parent.mkdir(parents=True)
    archive.write_bytes((host.folder / ARCHIVE).read_bytes())
    return archive


def cache() -> Path:
    return Path(os.environ["CIFAR_NOISY_CACHE"]) / "images"


def files() -> set[str]:
    return {path.name for path in cache().iterdir()} - {"sources"}


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(host: FaultServer) -> Iterator[Start]:
    """Return a function that starts a packer, which ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def one(*words: str) -> "subprocess.Popen[str]":
        started.append(packer.start(host.folder, *words))
        return started[-1]

    yield one
    for process in started:
        worker.end(process)


PACKED = {"official-train.sealed", "official-test.sealed"}


@pytest.mark.parametrize("locks", [[], ["no-locks"]])
def test_images_of_ranks_that_start_late(host: FaultServer, start: Start, locks: list[str]) -> None:
    host.answer = Answer(bytes_per_second=500_000)  # packed and removed while the last ones start
    ranks = [start(f"after={0.5 * i}", *locks) for i in range(5)]
    for rank in ranks:
        tell(rank)
    assert [hear(rank) for rank in ranks] == ["right"] * 5
    assert files() == PACKED
    assert locks or host.asked.total() == 1


def test_images_packed_and_removed_while_they_are_found(start: Start, cached: Path) -> None:
    late, other = start("found", "no-locks"), start("no-locks")
    tell(late)
    assert hear(late) == "found"
    tell(other)
    assert hear(other) == "right"
    # As a process does that has downloaded the archive and packed both splits.
    cached.unlink()
    tell(late)
    assert hear(late) == "right"


def test_images_packed_by_two_where_locks_are_granted_to_everyone(
    start: Start, cached: Path
) -> None:
    first, second = start("writing", "no-locks"), start("no-locks")
    tell(first)
    assert hear(first) == "writing"
    (part,) = cache().glob(".official-train.sealed.*.part")
    tell(second)
    assert hear(second) == "right"
    assert part.exists()
    tell(first)
    assert hear(first) == "right"
    assert files() == {"official-train.sealed", ARCHIVE}


def test_images_of_a_stopped_packer(start: Start, cached: Path) -> None:
    stopped = start("writing")
    tell(stopped)
    assert hear(stopped) == "writing"
    stopped.send_signal(signal.SIGSTOP)
    try:
        others = [start() for _ in range(2)]
        for other in others:
            tell(other)
        assert [hear(other) for other in others] == ["right"] * 2
    finally:
        stopped.send_signal(signal.SIGCONT)
    tell(stopped)
    assert hear(stopped) == "right"
    assert files() == {"official-train.sealed", ARCHIVE}
