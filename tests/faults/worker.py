"""A process of its own that fetches what it is told to, one task a line, and answers each.

    python -m tests.faults.worker [no-locks]

A task is JSON: either ``cache``, ``url`` and ``paths`` of artifacts, or ``url``, ``target`` and
``sha256`` of one large file.
"""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from cifar_noisy.store.artifact_store import Host, Store
from cifar_noisy.store.http_download import download
from cifar_noisy.store.registry import all_artifacts

ROOT = Path(__file__).parents[2]


def start(*arguments: str) -> "subprocess.Popen[str]":
    """Start a worker; it has imported everything when it has answered the first, empty task."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.worker", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    tell(worker, {})
    return worker


def tell(worker: "subprocess.Popen[str]", task: dict[str, Any]) -> None:
    """Give a worker a task."""
    assert worker.stdin is not None
    worker.stdin.write(json.dumps(task) + "\n")
    worker.stdin.flush()


def hear(worker: "subprocess.Popen[str]") -> str:
    """Return a worker's answer: nothing, or what went wrong."""
    assert worker.stdout is not None
    answer = worker.stdout.readline()
    assert answer, f"the worker ended with {worker.wait()}"
    return str(json.loads(answer))


def end(worker: "subprocess.Popen[str]") -> None:
    """Kill a worker."""
    worker.kill()
    worker.communicate()


def sha256_validator(sha256: str) -> Callable[[IO[bytes]], str | None]:
    """Return what is wrong with a file that should have a checksum."""

    def problem_of(file: IO[bytes]) -> str | None:
        digest = hashlib.sha256(file.read()).hexdigest()
        return None if digest == sha256 else f"has sha256 {digest}"

    return problem_of


def do(task: dict[str, Any]) -> None:
    """Do one task."""
    if "target" in task:
        problem = sha256_validator(task["sha256"])
        download([task["url"]], Path(task["target"]), problem, size=task["size"])
    elif task:
        by_path = {artifact.path: artifact for artifact in all_artifacts()}
        store = Store(Path(task["cache"]), (Host(task["url"] + "/{path}"),), public_hosts=())
        store.fetch([by_path[path] for path in task["paths"]])


def main() -> None:
    if "no-locks" in sys.argv:
        fcntl.flock = lambda *_: None  # granted to everyone
    for line in sys.stdin:
        try:
            do(json.loads(line))
            answer = ""
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
