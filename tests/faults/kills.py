"""Killing a process that receives a file, at any byte of it, and letting another one finish it."""

import hashlib
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from cifar_noisy.store.http_download import download
from tests.faults import worker
from tests.faults.server import Answer, serving

SIZE = 3_000_000


@dataclass
class Kills:
    """What came of it, over all kills."""

    n: int = 0
    n_wrong: int = 0
    n_unfinished: int = 0
    n_resumed: int = 0
    bytes_wanted: int = 0
    bytes_sent: int = 0


def kills(folder: Path, n: int, seed: int = 0) -> Kills:
    """Kill `n` processes at random offsets, by SIGKILL and SIGTERM in turn."""
    source = folder / "source"
    source.mkdir()
    rng = random.Random(seed)
    content = rng.randbytes(SIZE)
    (source / "file").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    outcome = Kills()
    for i in range(n):
        target = folder / f"cache {i}" / "file"
        # One in ten when all was sent: in the check, at the rename, or after it.
        offset = SIZE if i % 10 == 9 else rng.randrange(SIZE)
        with serving(source, Answer(stall_at=offset)) as server:
            one = worker.start()
            worker.hear(one)
            task = {"url": f"{server.url}/file", "target": str(target)}
            worker.tell(one, task | {"sha256": sha256, "size": SIZE})
            assert server.has_stalled.wait(30)
            time.sleep(rng.random() * 0.01)
            one.send_signal(signal.SIGTERM if i % 2 else signal.SIGKILL)
            worker.end(one)
            outcome.n_wrong += target.exists() and target.read_bytes() != content
            server.answer = Answer()
            download([task["url"]], target, worker.sha256_validator(sha256), size=SIZE)
            outcome.n_unfinished += target.read_bytes() != content
            outcome.n_unfinished += [path.name for path in target.parent.iterdir()] != ["file"]
            outcome.n_resumed += bool(server.ranges)
            outcome.bytes_sent += server.sent
        outcome.n += 1
        outcome.bytes_wanted += SIZE
    return outcome
