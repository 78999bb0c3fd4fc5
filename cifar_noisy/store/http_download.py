"""One file over HTTP: from the first of several addresses that has the right bytes.

All addresses have the same bytes or wrong ones, and the file's checksum decides in the end. So what
one host began another may finish, and a file of which a part is there already, from a run that was
killed, is asked for from there on. `http_get` makes single requests. Whatever goes wrong with one
is a `SourceFailedError`, and `_seconds_to_retry` alone decides whether it is sent again.

pooch's downloader cannot tell whether a server heeded ``Range``, and writes the answer either way.
"""

import concurrent.futures
import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TypeVar
from urllib.parse import urlsplit

from cifar_noisy.errors import NO_MEMORY, StorageError, UnavailableError, is_out_of_memory
from cifar_noisy.progress_bars import Progress
from cifar_noisy.store import http_get
from cifar_noisy.store.files import (
    LARGEST,
    WORTH_KEEPING,
    open_regular,
    resumable_file,
    storage_errors,
)
from cifar_noisy.store.http_get import Answer, Failure, SourceFailedError, redact_url
from cifar_noisy.store.locks import LockTimeout, locked

CONNECT_SECONDS, READ_SECONDS = 10.0, 30.0
SLOWEST = 1_000
"""Bytes per second; a host that sends fewer over `READ_SECONDS` is given up."""

RETRY_AFTER_SECONDS = 30.0
"""How long an address that asks to wait is waited for, all waits together."""

PARALLEL_TRANSFERS = 16
INTERRUPT_SECONDS = 0.5
_CHUNK = 1 << 18
_THREAD_SPACE = 1 << 28
"""Address space that a thread reserves, at most: a stack, an arena of malloc, what it loads."""

Validator = Callable[[IO[bytes]], str | None]
"""Reads a complete file and says what is wrong with it; None if nothing is."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class DownloadSession:
    """What the transfers of one call have in common; `unreachable` hosts are not asked again."""

    progress: Progress | None = None
    unreachable: dict[str, str] = field(default_factory=dict)
    lock_timeout: LockTimeout = field(default_factory=LockTimeout)
    is_stopped: threading.Event = field(default_factory=threading.Event)

    def count(self, n: int) -> None:
        """Tell of `n` more bytes."""
        if self.progress is not None and n:
            self.progress.update(n)

    def wait(self, seconds: float) -> None:
        """Let time pass; raise if the batch is stopped."""
        if self.is_stopped.wait(seconds):
            raise _StoppedError


class _StoppedError(Exception):
    """Ends a thread whose results nobody waits for any more."""


def download(
    urls: Sequence[str],
    target: Path,
    validate: Validator,
    progress: Progress | None = None,
    *,
    size: int | None = None,
) -> Path:
    """Download one file of any size, resuming what an earlier run began, and return its path.

    The addresses are asked in order, and have no more than `size` bytes where that is known.
    Progress is told of the bytes of earlier runs too. A target that is right already is left.

    Raises
    ------
    UnavailableError
        If no address has the right bytes; its ``causes`` say what each of them answered.
    StorageError
        If the file cannot be written.
    """
    batch, kept = DownloadSession(progress), 0
    remedy = "make room, or name another folder"
    try:
        with storage_errors(target, remedy), locked(target, batch.lock_timeout):
            with contextlib.suppress(OSError), open_regular(target) as there:
                if validate(there) is None:
                    return target
            with resumable_file(target, size) as file:
                batch.count(_end(file))
                try:
                    download_into(file, urls, validate, size, batch)
                finally:
                    kept = _end(file)
    except UnavailableError as error:
        said = f"{target.name} could not be had"
        if kept >= WORTH_KEEPING:
            said += f"; the {format_size(kept)} that arrived are kept for the next try"
        raise UnavailableError(said, error.causes) from None
    return target


def download_into(
    file: IO[bytes],
    urls: Sequence[str],
    validate: Validator,
    size: int | None,
    batch: DownloadSession,
) -> None:
    """Fill a file, of which a beginning may be there, from the first address that has the rest."""
    causes = []
    for url in urls:
        host = urlsplit(url).netloc
        cause = batch.unreachable.get(host)
        if cause is None:
            try:
                return _fill_from(url, file, validate, size, batch)
            except SourceFailedError as failure:
                cause = str(failure)
                if failure.kind is Failure.UNREACHABLE:
                    batch.unreachable[host] = cause
        causes.append(f"{redact_url(url)} {cause}")
    raise UnavailableError("no address has it", tuple(causes or ["there is no host to ask"]))


def format_size(size: float) -> str:
    """Return a number of bytes for people, such as ``1.0 MB``, in decimal units."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def in_parallel(
    function: Callable[[Item], Result], items: Sequence[Item], batch: DownloadSession
) -> list[Result]:
    """Return the function's result for each item, in order, from a bounded number of threads.

    The first error, or Ctrl-C, stops the batch and is raised. The threads are daemons, since one
    that waits for a silent host cannot be woken, and must not keep the process from ending.
    """
    futures = [concurrent.futures.Future[Result]() for _ in items]
    errors = list[BaseException]()  # the first stops the others, whose errors follow from that
    todo = queue.SimpleQueue[tuple[Item, concurrent.futures.Future[Result]]]()
    for task in zip(items, futures, strict=True):
        todo.put(task)

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while not batch.is_stopped.is_set():
                item, future = todo.get_nowait()
                try:
                    future.set_result(function(item))
                except BaseException as error:
                    errors.append(StorageError(NO_MEMORY) if is_out_of_memory(error) else error)
                    future.set_exception(errors[0])
                    batch.is_stopped.set()

    threads: list[threading.Thread] = []
    try:
        with contextlib.suppress(RuntimeError):  # no more threads for this user: those there do it
            for _ in items[: _most_threads()]:
                thread = threading.Thread(target=work, daemon=True)
                thread.start()
                threads.append(thread)
        if not threads:
            work()
        for future in concurrent.futures.as_completed(futures):
            future.result()
    finally:
        batch.is_stopped.set()
        deadline = time.monotonic() + INTERRUPT_SECONDS
        for thread in threads:
            thread.join(max(0, deadline - time.monotonic()))
    return [future.result() for future in futures]


def _most_threads() -> int:
    """Return how many threads fit under the limit on address space; none if the caller must do.

    Without the room for one, Python itself fails, or waits for ever.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return PARALLEL_TRANSFERS
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return PARALLEL_TRANSFERS
    return min(PARALLEL_TRANSFERS, max(0, limit // _THREAD_SPACE - 2))


def _fill_from(
    url: str, file: IO[bytes], validate: Validator, size: int | None, batch: DownloadSession
) -> None:
    """Complete the file from one address, asked as often as `_seconds_to_retry` says."""
    waited, may_restart = 0.0, True
    while True:
        start = _end(file)
        try:
            _request_rest(url, file, size, batch)
            file.seek(0)
            if wrong := validate(file):
                raise SourceFailedError(wrong, Failure.WRONG_BYTES)
            return
        except SourceFailedError as failure:
            pause = _seconds_to_retry(failure, waited, start, _end(file), may_restart)
            if failure.kind is Failure.WRONG_BYTES:
                _discard(file, batch)
                may_restart = False
            if pause is None:
                raise
        waited += pause
        batch.wait(pause)


def _seconds_to_retry(
    failure: SourceFailedError, waited: float, start: int, end: int, may_restart: bool
) -> float | None:
    """Decide in how many seconds the same address is asked again; None for the next address.

    The failed request was for the bytes from `start`, and brought those until `end`.
    """
    if failure.kind is Failure.BUSY and waited + failure.retry_after <= RETRY_AFTER_SECONDS:
        return failure.retry_after
    has_progress = failure.kind is Failure.CONNECTION_LOST and end - start >= WORTH_KEEPING
    # Wrong bytes that did not all come from here: what came first may be to blame.
    is_mixed = failure.kind is Failure.WRONG_BYTES and start > 0 and may_restart
    return 0 if has_progress or is_mixed else None


def _request_rest(url: str, file: IO[bytes], size: int | None, batch: DownloadSession) -> None:
    """Append to the file what is missing of it."""
    start = _end(file)
    if start and start == size:
        return
    # "identity", lest a host takes an archive's own compression for one of the transfer.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    batch.wait(0)
    with http_get.get(url, headers, CONNECT_SECONDS, READ_SECONDS) as answer:
        if start and answer.status == 416:
            return  # there is no more than what is there; the checksum has the last word
        if answer.status != 200 and not (start and answer.status == 206):
            raise _status_failure(answer)
        if answer.status == 200:
            _discard(file, batch)
        elif not answer.content_range.startswith(f"bytes {start}-"):
            raise SourceFailedError("sent other bytes than asked for", Failure.WRONG_BYTES)
        _append(answer, file, size, batch)


def _append(answer: Answer, file: IO[bytes], size: int | None, batch: DownloadSession) -> None:
    # Without a length nobody knows whether a short answer is whole: the checksum has the last word.
    total = None if answer.length is None else _end(file) + answer.length
    if None not in (size, total) and total != size:
        looks = " that look like a web page" if answer.read(64).lstrip()[:1] == b"<" else ""
        said = f"offers {total:,} bytes{looks}, where the published file has {size:,}"
        raise SourceFailedError(said)
    limit = LARGEST if size is None else size
    for chunk in _chunks(answer, batch):
        if _end(file) + len(chunk) > limit:
            raise SourceFailedError(f"sends more than {limit:,} bytes", Failure.WRONG_BYTES)
        file.write(chunk)
        batch.count(len(chunk))
    if total is not None and _end(file) < total:
        said = f"broke off after {_end(file):,} of {total:,} bytes"
        raise SourceFailedError(said, Failure.CONNECTION_LOST)


def _chunks(answer: Answer, batch: DownloadSession) -> Iterator[bytes]:
    """Yield bytes as they come; raise where that is too slow."""
    n_bytes, since = 0, time.monotonic()
    while chunk := answer.read(_CHUNK):
        yield chunk
        batch.wait(0)
        n_bytes += len(chunk)
        elapsed = time.monotonic() - since
        if elapsed > READ_SECONDS:
            if n_bytes < SLOWEST * elapsed:
                raise SourceFailedError(f"sent {n_bytes:,} bytes in {elapsed:.0f} s: too slow")
            n_bytes, since = 0, time.monotonic()


def _status_failure(answer: Answer) -> SourceFailedError:
    pause = answer.retry_after if answer.status in (429, 503) else None
    if pause is None:
        return SourceFailedError(f"answered {answer.said}")
    said = f"answered {answer.said} and asks to wait {min(pause, 1e9):,.0f} s"
    return SourceFailedError(said, Failure.BUSY, retry_after=pause)


def _end(file: IO[bytes]) -> int:
    return file.seek(0, os.SEEK_END)


def _discard(file: IO[bytes], batch: DownloadSession) -> None:
    batch.count(-_end(file))
    file.seek(0)
    file.truncate()
