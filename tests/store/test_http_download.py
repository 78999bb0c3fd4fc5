"""Large downloads over connections that break, against a real server."""

import concurrent.futures
import hashlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from cifar_noisy import StorageError, UnavailableError
from cifar_noisy.store import http_download
from cifar_noisy.store.files import WORTH_KEEPING
from cifar_noisy.store.http_download import download
from cifar_noisy.store.http_get import Failure, SourceFailedError
from tests.faults.server import Answer, serving
from tests.range_server import Behaviour, RangeServer, serving_ranges

CONTENT = np.random.default_rng(0).bytes(1_000_000)
NOWHERE = "http://127.0.0.1:9/file"


@pytest.fixture
def server() -> Iterator[RangeServer]:
    with serving_ranges() as running:
        yield running


class Count:
    def __init__(self) -> None:
        self.n = 0

    def update(self, n: float | None = 1) -> None:
        self.n += int(n or 0)


def validator(content: bytes = CONTENT) -> Callable[[IO[bytes]], str | None]:
    digest = hashlib.sha256(content).hexdigest()
    return lambda file: (
        None if hashlib.sha256(file.read()).hexdigest() == digest else "has other bytes"
    )


def test_continues_where_it_broke_off(server: RangeServer, tmp_path: Path) -> None:
    server.files["/file"] = Behaviour(CONTENT, cut_after=[300_000, 200_000])
    count = Count()
    target = download([server.url("/file")], tmp_path / "new" / "file", validator(), count)
    assert target.read_bytes() == CONTENT
    ranges = [wanted for _, wanted in server.asked]
    assert ranges == [None, "bytes=300000-", "bytes=500000-"]
    assert count.n == len(CONTENT)
    assert [file.name for file in target.parent.iterdir()] == ["file"]


def test_another_host_continues_what_one_began(server: RangeServer, tmp_path: Path) -> None:
    # The first host sends a part, and then nothing more.
    server.files["/first"] = Behaviour(CONTENT, cut_after=[400_000, 0])
    server.files["/second"] = Behaviour(CONTENT)
    urls = [NOWHERE, server.url("/missing"), server.url("/first"), server.url("/second")]
    assert download(urls, tmp_path / "file", validator()).read_bytes() == CONTENT
    assert server.asked == [
        ("/missing", None),
        ("/first", None),
        ("/first", "bytes=400000-"),
        ("/second", "bytes=400000-"),
    ]


def test_the_next_run_continues(server: RangeServer, tmp_path: Path) -> None:
    server.files["/file"] = Behaviour(CONTENT, cut_after=[250_000, 0])
    with pytest.raises(
        UnavailableError, match=r"; the 250.0 kB .* are kept .*\n.*/file broke off$"
    ):
        download([server.url("/file")], tmp_path / "file", validator())
    (left,) = tmp_path.iterdir()
    assert re.fullmatch(r"\.file\.[0-9a-f]{8}\.part", left.name)
    count = Count()
    download([server.url("/file")], tmp_path / "file", validator(), count)
    assert server.asked[-1] == ("/file", "bytes=250000-")
    assert count.n == len(CONTENT)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_host_that_sends_all_again(server: RangeServer, tmp_path: Path) -> None:
    server.files["/file"] = Behaviour(CONTENT, cut_after=[700_000], knows_ranges=False)
    count = Count()
    target = download([server.url("/file")], tmp_path / "file", validator(), count)
    assert target.read_bytes() == CONTENT
    assert count.n == len(CONTENT)


@pytest.mark.parametrize("n_left", [100, len(CONTENT), len(CONTENT) + 5])
def test_a_wrong_beginning_is_thrown_away(server: RangeServer, tmp_path: Path, n_left: int) -> None:
    server.files["/file"] = Behaviour(CONTENT)
    (tmp_path / ".file.0123abcd.part").write_bytes(b"x" * n_left)
    assert download([server.url("/file")], tmp_path / "file", validator()).is_file()
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [f"bytes={n_left}-", None]


@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour(CONTENT, says_range="bytes 0-999999/1000000"),
        Behaviour(CONTENT, says_range="bytes 9999999999999999999999-1/x"),
        Behaviour(CONTENT, says_range="nonsense"),
        Behaviour(CONTENT, status_of_rest=416),
    ],
    ids=lambda one: one.says_range or str(one.status_of_rest),
)
def test_a_server_that_answers_another_range(
    server: RangeServer, tmp_path: Path, behaviour: Behaviour
) -> None:
    """A right beginning that it never continues is dropped, and the whole asked for, once."""
    server.files["/file"] = behaviour
    (tmp_path / ".file.0123abcd.part").write_bytes(CONTENT[:300_000])
    count = Count()
    target = download([server.url("/file")], tmp_path / "file", validator(), count)
    assert target.read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == ["bytes=300000-", None]
    assert count.n == len(CONTENT)
    assert list(tmp_path.iterdir()) == [target]


def test_the_check_reads_the_open_file(server: RangeServer, tmp_path: Path) -> None:
    """Another process may have taken the part for a leftover and removed it by then."""
    server.files["/file"] = Behaviour(CONTENT)

    def check(file: IO[bytes]) -> str | None:
        for part in tmp_path.glob(".file.*.part"):
            part.unlink()
        return validator()(file)

    assert download([server.url("/file")], tmp_path / "file", check).read_bytes() == CONTENT


def test_a_file_of_unknown_size_is_not_endless(
    server: RangeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_download, "LARGEST", 500_000)
    server.files["/file"] = Behaviour(CONTENT)
    with pytest.raises(UnavailableError, match="sends more than 500,000 bytes"):
        download([server.url("/file")], tmp_path / "file", validator())


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_is_not_replaced(
    server: RangeServer, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    server.files["/file"] = Behaviour(CONTENT)
    make(tmp_path / "file")
    with pytest.raises(StorageError, match=r"it is a pipe|Is a directory"):
        download([server.url("/file")], tmp_path / "file", validator())
    assert not (tmp_path / "file").is_file()


def test_errors_without_a_text_of_the_system(server: RangeServer, tmp_path: Path) -> None:
    def check(file: IO[bytes]) -> str | None:
        raise OSError("the check cannot read")

    server.files["/file"] = Behaviour(CONTENT)
    with pytest.raises(StorageError, match=r"written \(the check cannot read\)"):
        download([server.url("/file")], tmp_path / "file", check)


BUSY = SourceFailedError("", Failure.BUSY, retry_after=20)
LOST, WRONG = (SourceFailedError("", k) for k in (Failure.CONNECTION_LOST, Failure.WRONG_BYTES))


@pytest.mark.parametrize(
    ("failure", "waited", "start", "end", "may_restart", "seconds"),
    [
        (BUSY, 0, 0, 0, True, 20),
        (BUSY, 20, 0, 0, True, None),
        (LOST, 0, 100, 100 + WORTH_KEEPING, True, 0),
        (LOST, 0, 100, 100 + WORTH_KEEPING - 1, True, None),
        (WRONG, 0, 100, 200, True, 0),
        (WRONG, 0, 100, 200, False, None),
        (WRONG, 0, 0, 200, True, None),
        (SourceFailedError("", Failure.UNREACHABLE), 0, 100, 100, True, None),
        (SourceFailedError(""), 0, 100, 100, True, None),
    ],
)
def test_what_is_asked_again(
    failure: SourceFailedError,
    waited: float,
    start: int,
    end: int,
    may_restart: bool,
    seconds: float | None,
) -> None:
    assert http_download._seconds_to_retry(failure, waited, start, end, may_restart) == seconds


def test_too_little_memory_in_a_thread() -> None:
    def fail(_: int) -> None:
        raise MemoryError

    with pytest.raises(StorageError, match=r"^too little memory, .*ulimit -v and -u$"):
        http_download.in_parallel(fail, range(20), http_download.DownloadSession())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems heed no such limit")
@pytest.mark.parametrize("megabytes", [130, 160, 400, 620])
def test_limit_on_address_space(megabytes: int, upstream: Path, tmp_path: Path) -> None:
    """Threads need space of their own: with too many, Python waited for ever, or broke down."""
    import resource

    space = megabytes * 10**6
    with serving(upstream) as server:
        done = subprocess.run(
            [sys.executable, "-m", "cifar_noisy", "download", "--kind", "train_mask"],
            env=os.environ
            | {"CIFAR_NOISY_CACHE": str(tmp_path), "CIFAR_NOISY_MIRRORS": server.url}
            | {"OMP_NUM_THREADS": "1", "CIFAR_NOISY_OFFLINE": "0"},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (space, space)),
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert "Traceback" not in done.stderr
    # OpenBLAS, and libgcc where a thread ends, say it themselves and end the process.
    said = ("cifar-noisy: too little memory", "OpenBLAS error: Memory allocation", "libgcc_s.so.1")
    assert (done.returncode != 0) == any(words in done.stderr for words in said), done.stderr


def test_the_first_error_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stops the batch, and not what that makes of the other threads."""
    as_completed = concurrent.futures.as_completed
    monkeypatch.setattr(
        "concurrent.futures.as_completed", lambda futures: reversed(list(as_completed(futures)))
    )
    batch = http_download.DownloadSession()
    both_began = threading.Barrier(2)

    def fail(item: int) -> None:
        both_began.wait()
        if item == 0:
            raise StorageError("the disk is full")
        batch.wait(60)

    with pytest.raises(StorageError, match="the disk is full"):
        http_download.in_parallel(fail, range(2), batch)


TOO_FEW_FILES = """
import resource, sys
from pathlib import Path
from cifar_noisy import StorageError, artifacts
from cifar_noisy.store import http_get
from cifar_noisy.store.artifact_store import Host, Store
resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30))
store = Store(Path(sys.argv[1]), (Host(sys.argv[2] + "/{path}"),), public_hosts=())
try:
    store.fetch(artifacts(kind="train_mask"))
except StorageError as error:
    print(error)
"""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_too_few_open_files(host: str, tmp_path: Path) -> None:
    """As with ``ulimit -n 30``: the limit is to blame, not a host that "cannot be reached"."""
    with serving(tmp_path, Answer(seconds_before=1)) as server:
        url = server.url.replace("127.0.0.1", host)
        command = [sys.executable, "-c", TOO_FEW_FILES, str(tmp_path / "cache"), url]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "(Too many open files): let this process open more files (ulimit -n)\n" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("n_can_start", [0, 2])
def test_threads_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch, n_can_start: int) -> None:
    """As where ``ulimit -u`` is reached: those that are there do the work."""
    started: list[threading.Thread] = []
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if len(started) >= n_can_start:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    assert http_download.in_parallel(
        lambda n: n * n, range(20), http_download.DownloadSession()
    ) == [n * n for n in range(20)]
    done: list[int] = []

    def fails_at_once(n: int) -> None:
        done.append(n)
        raise StorageError("full")

    with pytest.raises(StorageError, match="full"):
        http_download.in_parallel(fails_at_once, range(20), http_download.DownloadSession())
    assert len(done) <= max(1, n_can_start)


def test_a_part_that_is_whole(server: RangeServer, tmp_path: Path) -> None:
    server.files["/file"] = Behaviour(CONTENT)
    (tmp_path / ".file.0123abcd.part").write_bytes(CONTENT)
    assert download([server.url("/file")], tmp_path / "file", validator()).is_file()


def test_wrong_bytes_are_never_published(server: RangeServer, tmp_path: Path) -> None:
    server.files["/file"] = Behaviour(b"<html>log in</html>")
    address = server.url("/file").replace("http://", "http://user:secret@")
    with pytest.raises(UnavailableError, match=r"127.0.0.1:[0-9]+/file has other bytes$") as error:
        download([address], tmp_path / "file", validator())
    assert "secret" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match=r"cannot be written \(.*make room"):
        download([NOWHERE], tmp_path / "file" / "inner", validator())


TWO_AT_ONCE = """
import hashlib, sys
from pathlib import Path
from cifar_noisy.store.http_download import download
download([sys.argv[1]], Path(sys.argv[2]), lambda file: None if
    hashlib.sha256(file.read()).hexdigest() == sys.argv[3] else "has other bytes")
"""


def test_processes_share_one_download(server: RangeServer, tmp_path: Path) -> None:
    server.files["/file"] = Behaviour(CONTENT)
    digest = hashlib.sha256(CONTENT).hexdigest()
    command = [sys.executable, "-c", TWO_AT_ONCE, server.url("/file"), f"{tmp_path}/file", digest]
    processes = [subprocess.Popen(command, env=os.environ) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert len(server.asked) == 1
