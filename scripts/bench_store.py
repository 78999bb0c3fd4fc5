"""Measure what the store promises about speed and memory; print one row a promise.

    CIFAR_NOISY_MIRRORS=UPSTREAM_FOLDER python scripts/bench_store.py

The two sides of a ratio are measured in turn, in one run, and the median is taken. Servers are
processes of their own on loopback: one that answers each request 40 ms late, and Python's own.
"""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pooch
from bench import Row, medians, python, report, seconds

from cifar_noisy.store.artifact_store import Folder, Host, Store
from cifar_noisy.store.registry import Artifact, artifacts

ROOT = Path(__file__).parents[1]
LATENCY = 0.04
ARCHIVE_SIZE = artifacts(kind="images")[0].size


@contextlib.contextmanager
def process(*words: str, cwd: Path = ROOT) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, *words],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as started:
        try:
            yield started
        finally:
            started.kill()


def fetching(url: str, wanted: Sequence[Artifact]) -> tuple[float, float]:
    """Return how long the store and a loop over pooch take to fetch files into empty caches."""
    registry = {artifact.path: f"sha256:{artifact.sha256}" for artifact in wanted}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = Store(folder / "ours", (Host(f"{url}/{{path}}"),), public_hosts=())
        theirs = pooch.create(path=folder / "theirs", base_url=f"{url}/", registry=registry)
        return (
            seconds(lambda: ours.fetch(wanted)),
            seconds(lambda: [theirs.fetch(path) for path in registry]),
        )


def latency(mirror: Path) -> Iterator[Row]:
    """Fetch one setting, then all, from a server that answers 40 ms late."""
    pooch.get_logger().setLevel("ERROR")
    with process("-m", "tests.faults.server", str(mirror), str(LATENCY)) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        for what, wanted, n in (
            ("one setting", artifacts(noise=0.4, sparsity=0.2), 7),
            ("all settings", artifacts(), 3),
        ):
            ours, theirs = medians(fetching(url, wanted) for _ in range(n))
            yield Row(
                f"{what} ({len(wanted)} files) at 40 ms a request, against a loop over pooch.fetch",
                f"{theirs / ours:.1f} times as fast ({ours:.2f} s against {theirs:.2f} s)",
                "at least 6 times",
                theirs / ours >= 6,
            )


DOWNLOAD = """
import hashlib, resource, sys, time
from pathlib import Path
import filelock, requests
from cifar_noisy.store.http_download import download
url, target, size, sha256 = sys.argv[1:]
def problem(file):
    return None if hashlib.file_digest(file, "sha256").hexdigest() == sha256 else "wrong"
# Not getrusage, whose high-water mark begins with the parent's.
peak = lambda: int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1000
before, start = peak(), time.perf_counter()
download([url], Path(target), problem, size=int(size))
print(time.perf_counter() - start, peak() - before)
"""


def throughput() -> Iterator[Row]:
    """Download one file as large as the image archive, against curl, which checks nothing."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        content = os.urandom(ARCHIVE_SIZE)
        (folder / "file").write_bytes(content)
        sha256 = pooch.file_hash(str(folder / "file"))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        url = f"http://127.0.0.1:{port}/file"
        with process("-m", "http.server", str(port), "--bind", "127.0.0.1", cwd=folder):
            subprocess.run(
                ["curl", "-sf", "--retry-connrefused", "--retry", "20", "-o", os.devnull, url],
                check=True,
            )
            ours, memory, curl = medians(_one_download(url, folder, sha256) for _ in range(7))
    rates = [ARCHIVE_SIZE / 1e6 / taken for taken in (ours, curl)]
    yield Row(
        "170 MB over loopback, checked, against curl",
        f"{curl / ours:.2f} of its throughput ({rates[0]:.0f} MB/s against {rates[1]:.0f} MB/s)",
        "at least 0.5",
        curl / ours >= 0.5,
    )
    yield Row("the same: memory beyond start-up", f"{memory:.1f} MB", "under 64 MB", memory < 64)


def _one_download(url: str, folder: Path, sha256: str) -> tuple[float, float, float]:
    target = folder / "cache" / "target"
    words = [url, str(target), str(ARCHIVE_SIZE), sha256]
    with process("-c", DOWNLOAD, *words) as ours:
        out, _ = ours.communicate()
    taken, memory = map(float, out.split())
    target.unlink()
    curl = seconds(partial(subprocess.run, ["curl", "-sf", "-o", target, url], check=True))
    target.unlink()
    return taken, memory, curl


OFFLINE = """
import sys, time
import cifar_noisy.cli, cifar_noisy.loading.artifact_loading, tqdm
from cifar_noisy.errors import UnavailableError
start = time.perf_counter()
try:
    cifar_noisy.download()
except UnavailableError as error:
    print(time.perf_counter() - start)
"""


def offline() -> Iterator[Row]:
    """Time what an empty cache says offline, beyond imports."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {"CIFAR_NOISY_OFFLINE": "1", "CIFAR_NOISY_CACHE": folder}
        environment |= {"CIFAR_NOISY_MIRRORS": ""}
        (taken,) = medians(python(OFFLINE, **environment) for _ in range(9))
    measured = f"{taken * 1000:.0f} ms"
    yield Row("offline, empty cache: all 340 missed", measured, "under 100 ms", taken < 0.1)


def rows() -> Iterator[Row]:
    mirrors = [m.path for m in Store.from_environment().mirrors if isinstance(m, Folder)]
    if not mirrors:
        sys.exit("name a folder that has the published files in CIFAR_NOISY_MIRRORS")
    yield from latency(mirrors[0])
    yield from throughput()
    yield from offline()


if __name__ == "__main__":
    sys.exit(report(rows()))
