"""Print what the store does under faults, in full numbers, and how fast it is: one command.

    CIFAR_NOISY_MIRRORS=UPSTREAM_FOLDER python scripts/fault_figures.py

The tests run the same code with fewer repetitions. Takes about six minutes on two cores.
"""

import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bench import Row, report  # noqa: E402
from bench_store import rows as speed_rows  # noqa: E402

from tests.faults.cold_start import FILES, cold_start  # noqa: E402
from tests.faults.fuzz import TIMES_REGISTERED_SIZE, fuzz  # noqa: E402
from tests.faults.kills import kills  # noqa: E402
from tests.faults.matrix import IMAGES, MACHINE, WEB  # noqa: E402
from tests.faults.power_loss import power_loss_of_packs  # noqa: E402
from tests.faults.power_loss_checkpoints import power_losses  # noqa: E402
from tests.faults.server import Answer, serving  # noqa: E402

UPSTREAM = Path(os.environ.get("CIFAR_NOISY_MIRRORS", ROOT.parent / "shared" / "upstream"))


def matrix(folder: Path) -> Iterator[Row]:
    """Walk the fault matrix, as the tests do."""
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "not long", "tests/faults"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = re.findall(r"(\d+) (passed|failed|skipped)", result.stdout)
    yield Row(
        f"fault matrix: {len(WEB)} faults of an address, "
        f"{len(MACHINE) + len(IMAGES)} of a machine, and tars",
        ", ".join(f"{n} tests {name}" for n, name in found),
        "no failure",
        result.returncode == 0,
    )


def cold_starts(folder: Path) -> Iterator[Row]:
    for locks in (True, False):
        outcome = cold_start(UPSTREAM, folder / f"cold {locks}", locks=locks)
        gets = sorted(outcome.n_gets)
        right = outcome.n_errors == outcome.n_wrong == 0
        yield Row(
            f"32 processes, cold cache, 20 files, 20 times{'' if locks else ', no locks'}",
            f"{gets[0]} to {gets[-1]} GETs, {outcome.n_errors} errors, {outcome.n_wrong} wrong",
            "20 GETs, 0, 0" if locks else "0 wrong",
            right and (not locks or set(gets) == {len(FILES)}),
        )


def killed(folder: Path) -> Iterator[Row]:
    outcome = kills(folder, 200)
    again = outcome.bytes_sent - outcome.bytes_wanted
    yield Row(
        "200 kills at random offsets of a 3 MB file",
        f"{outcome.n_wrong} wrong, {outcome.n_unfinished} unfinished, {outcome.n_resumed} resumed, "
        f"{again / 1e6:.1f} of {outcome.bytes_wanted / 1e6:.0f} MB sent twice",
        "0 wrong, 0 unfinished",
        outcome.n_wrong == outcome.n_unfinished == 0,
    )


def power_lost(folder: Path) -> Iterator[Row]:
    outcome = power_loss_of_packs(folder)
    yield Row(
        f"{outcome.n} cuts and flipped bits in files of packed images",
        f"{outcome.n_wrong} served wrong, {outcome.n_stuck} stuck",
        "0, 0",
        outcome.n_wrong == outcome.n_stuck == 0,
    )


def checkpoints(folder: Path) -> Iterator[Row]:
    outcome = power_losses(folder, n_flips=1_500, n_resumes=16)
    yield Row(
        f"{outcome.n_flips:,} flipped bits of a checkpoint, and {outcome.n_resumes} resumes with "
        "each file of a training cut or changed",
        f"{outcome.n_wrong} served wrong, {outcome.n_stuck} stuck",
        "0, 0",
        outcome.n_wrong == outcome.n_stuck == 0,
    )


def fuzzed(folder: Path) -> Iterator[Row]:
    os.environ["CIFAR_NOISY_MIRRORS"] = str(UPSTREAM)
    outcome = fuzz(folder, 10_000)
    yield Row(
        "10,000 mutated arrays, tars and logs",
        f"{len(outcome.crashes)} crashes, slowest {outcome.slowest:.1f} s, "
        f"memory {outcome.most_memory:.1f} times the registered size",
        f"0 crashes, {TIMES_REGISTERED_SIZE} times",
        not outcome.crashes and outcome.most_memory <= TIMES_REGISTERED_SIZE,
    )


def interrupts(folder: Path) -> Iterator[Row]:
    """Time Ctrl-C in a download from a server that has fallen silent."""
    times = []
    for i in range(9):
        with serving(UPSTREAM, Answer(stall_at=40_000)) as server:
            places = {"CIFAR_NOISY_CACHE": str(folder / str(i)), "CIFAR_NOISY_MIRRORS": server.url}
            program = subprocess.Popen(
                [sys.executable, "-c", "from cifar_noisy.cli import main; main()", "download"],
                env=os.environ | places,
                stderr=subprocess.DEVNULL,
            )
            server.has_stalled.wait(60)
            start = time.perf_counter()
            program.send_signal(signal.SIGINT)
            program.wait(60)
            times.append(time.perf_counter() - start)
    yield Row(
        "Ctrl-C in a download, until the process has ended",
        f"{statistics.median(times):.2f} s, at most {max(times):.2f} s",
        "within 1 s",
        max(times) < 1,
    )


def rows() -> Iterator[Row]:
    for part in (matrix, cold_starts, killed, power_lost, checkpoints, interrupts, fuzzed):
        with tempfile.TemporaryDirectory() as folder:
            yield from part(Path(folder))
    yield from speed_rows()


if __name__ == "__main__":
    sys.exit(report(rows()))
