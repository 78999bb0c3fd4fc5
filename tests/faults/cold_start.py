"""Many processes that start on one empty cache at the same time."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from cifar_noisy import artifacts
from tests.faults import worker
from tests.faults.server import serving

FILES = artifacts(kind="train_mask", edition="2021")[:20]  # each in a folder of its own


@dataclass
class ColdStart:
    """What came of it, over all repetitions."""

    n_gets: list[int]
    n_errors: int
    n_wrong: int


@contextmanager
def crew(n: int, *arguments: str) -> Iterator[list["Popen[str]"]]:
    """Start workers, which have imported everything when the block begins."""
    workers = [worker.start(*arguments) for _ in range(n)]
    try:
        for one in workers:
            assert worker.hear(one) == ""
        yield workers
    finally:
        for one in workers:
            worker.end(one)


def cold_start(
    upstream: Path, folder: Path, *, n_processes: int = 32, n_times: int = 20, locks: bool = True
) -> ColdStart:
    """Let processes fetch the same files into one empty cache, again and again."""
    outcome = ColdStart([], 0, 0)
    with crew(n_processes, *([] if locks else ["no-locks"])) as workers:
        for time in range(n_times):
            cache = folder / f"cache {time}"
            with serving(upstream) as server:
                task = {"cache": str(cache), "url": server.url, "paths": [a.path for a in FILES]}
                for one in workers:
                    worker.tell(one, task)
                outcome.n_errors += sum(worker.hear(one) != "" for one in workers)
                outcome.n_gets.append(server.asked.total())
            outcome.n_wrong += sum(
                hashlib.sha256((cache / a.path).read_bytes()).hexdigest() != a.sha256 for a in FILES
            )
    return outcome
