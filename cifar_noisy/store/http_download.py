"""One file over HTTP: from the first of several addresses that has the right bytes.

All addresses have the same bytes or wrong ones, and the file's checksum decides in the end. So what
one host began another may finish, and a file of which a part is there already, from a run that was
killed, is asked for from there on. What each kind of failure leads to:

- a host that refuses, hangs, or has no name: the next one, and none of its other addresses is asked
  in the same batch;
- a status that says no: the next one; 429 and 503 with ``Retry-After`` are obeyed first, for up to
  `RETRY_AFTER_SECONDS` an address;
- a connection that breaks off: the same again for the rest, as long as each attempt brings
  something; then the next one for the rest;
- a wrong length or checksum, a web page: the next one, from the beginning.

What one request does is in `http_get`: pooch's downloader cannot tell whether a server heeded
``Range``, and writes the answer either way.
"""

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar
from urllib.parse import urlsplit

from cifar_noisy.errors import UnavailableError
from cifar_noisy.store import http_get
from cifar_noisy.store.files import (
    LARGEST,
    WORTH_KEEPING,
    open_regular,
    resumable_file,
    storage_errors,
)
from cifar_noisy.store.http_get import Answer, RefusalError, shown_url
from cifar_noisy.store.locks import LockTimeout, locked

CONNECT_SECONDS, READ_SECONDS = 10.0, 30.0
SLOWEST = 1_000
"""Bytes per second; a host that sends fewer over `READ_SECONDS` is given up."""

RETRY_AFTER_SECONDS = 30.0
"""How long an address that asks for patience gets it."""

PARALLEL_TRANSFERS = 16
INTERRUPT_SECONDS = 0.5
_CHUNK = 1 << 18

Complaint = Callable[[IO[bytes]], str | None]
"""Reads a complete file and says what is wrong with it; None if nothing is."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Progress(Protocol):
    """What a download tells of its progress, in bytes; a tqdm bar is one."""

    def update(self, n: float | None = 1) -> object:
        """Count `n` more bytes, or fewer where it is negative."""


@dataclass
class Batch:
    """What the transfers of one call have in common.

    Attributes
    ----------
    progress : Progress or None
        Told of every byte.
    unreachable : dict
        Hosts that could not be reached, and why; they are not asked again.
    lock_timeout : LockTimeout
        How long to wait for other processes.
    is_stopped : threading.Event
        Set when nobody waits for the results any more.
    """

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


def download(
    urls: Sequence[str],
    target: Path,
    complaint: Complaint,
    progress: Progress | None = None,
    *,
    size: int | None = None,
) -> Path:
    """Download one file of any size, continuing what an earlier run began.

    Parameters
    ----------
    urls : sequence of str
        Addresses of the same bytes, in the order in which to ask.
    target : Path
        Where the file goes; its folder is made.
    complaint : callable
        Reads the complete file, open at its beginning, and says what is wrong; None if nothing is.
    progress : object with ``update(n_bytes)``, optional
        Told of every byte, those of earlier runs included.
    size : int, optional
        Bytes of the file, where known: no more are accepted then.

    Returns
    -------
    Path
        The target, right or there before and right.

    Raises
    ------
    UnavailableError
        If no address has the right bytes; its ``causes`` say what each of them answered.
    StorageError
        If the file cannot be written.
    """
    batch, kept = Batch(progress), 0
    remedy = "make room, or name another folder"
    try:
        with storage_errors(target, remedy), locked(target, batch.lock_timeout):
            with contextlib.suppress(OSError), open_regular(target) as there:
                if complaint(there) is None:
                    return target
            with resumable_file(target, size) as file:
                batch.count(_end(file))
                try:
                    fill(file, urls, complaint, size, batch)
                finally:
                    kept = _end(file)
    except UnavailableError as error:
        for_next_try = f"; the {readable_size(kept)} that arrived are kept for the next try"
        raise UnavailableError(
            f"{target.name} could not be had" + (for_next_try if kept >= WORTH_KEEPING else ""),
            error.causes,
        ) from None
    return target


def fill(
    file: IO[bytes], urls: Sequence[str], complaint: Complaint, size: int | None, batch: Batch
) -> None:
    """Fill a file, of which a beginning may be there, from the first address that has the rest."""
    causes = []
    for url in urls:
        host = urlsplit(url).netloc
        if host in batch.unreachable:
            causes.append(f"{shown_url(url)} {batch.unreachable[host]}")
            continue
        refusal = _fill_from(url, file, complaint, size, batch)
        if refusal is None:
            return
        if refusal.is_unreachable:
            batch.unreachable[host] = str(refusal)
        causes.append(f"{shown_url(url)} {refusal}")
    raise UnavailableError("no address has it", tuple(causes or ["there is no host to ask"]))


def readable_size(size: float) -> str:
    """Return a number of bytes for people, in decimal units.

    Examples
    --------
    >>> readable_size(1_000_128)
    '1.0 MB'
    """
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def in_parallel(
    function: Callable[[Item], Result], items: Sequence[Item], batch: Batch
) -> list[Result]:
    """Return the function's result for each item, in order, from a bounded number of threads.

    The first error, or Ctrl-C, stops the batch and is raised. The threads are daemons, since one
    that waits for a silent host cannot be woken, and must not keep the process from ending.
    """
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = queue.SimpleQueue()
    for index in range(len(items)):
        todo.put(index)

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while not batch.is_stopped.is_set():
                index = todo.get_nowait()
                try:
                    done.put((index, function(items[index]), None))
                except BaseException as error:
                    done.put((index, None, error))
                    batch.is_stopped.set()

    threads = []
    results: dict[int, Result] = {}
    try:
        with contextlib.suppress(RuntimeError):  # no more threads for this user: those there do it
            for _ in range(min(PARALLEL_TRANSFERS, len(items))):
                thread = threading.Thread(target=work, daemon=True)
                thread.start()
                threads.append(thread)
        if not threads:
            work()
        while len(results) < len(items):
            index, result, error = done.get()
            if error is not None:
                raise error
            results[index] = result
    finally:
        batch.is_stopped.set()
        deadline = time.monotonic() + INTERRUPT_SECONDS
        for thread in threads:
            thread.join(max(0, deadline - time.monotonic()))
    return [results[index] for index in range(len(items))]


class _StoppedError(Exception):
    """Ends a thread whose results nobody waits for any more."""


def _fill_from(
    url: str, file: IO[bytes], complaint: Complaint, size: int | None, batch: Batch
) -> RefusalError | None:
    """Complete the file from one address and check it; return why not, None if it is right."""
    was_begun = _end(file) > 0
    waited = 0.0
    while True:
        before = _end(file)
        try:
            _receive(url, file, size, batch)
        except RefusalError as refusal:
            if refusal.retry_after is not None:
                waited += refusal.retry_after
                if waited <= RETRY_AFTER_SECONDS:
                    batch.wait(refusal.retry_after)
                    continue
            if refusal.has_broken_off and _end(file) - before >= WORTH_KEEPING:
                continue
            return refusal
        file.seek(0)
        wrong = complaint(file)
        if wrong is None:
            return None
        _discard(file, batch)
        if not was_begun:
            return RefusalError(wrong)
        # What an earlier run or another host had begun may be to blame: once more from zero.
        was_begun = False


def _receive(url: str, file: IO[bytes], size: int | None, batch: Batch) -> None:
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
            raise _status_refusal(answer)
        if answer.status == 200 or answer.content_range.startswith(f"bytes {start}-"):
            if answer.status == 200:
                _discard(file, batch)
            _append(answer, file, size, batch)
            return
    # Another range than asked for: without what is there, none has to be asked for.
    _discard(file, batch)
    _receive(url, file, size, batch)


def _append(answer: Answer, file: IO[bytes], size: int | None, batch: Batch) -> None:
    # Without a length nobody knows whether a short answer is whole: the checksum has the last word.
    total = None if answer.length is None else _end(file) + answer.length
    if None not in (size, total) and total != size:
        raise RefusalError(
            f"offers {total:,} bytes{_looks(answer)}, where the published file has {size:,}"
        )
    limit = LARGEST if size is None else size
    for chunk in _chunks(answer, batch):
        if _end(file) + len(chunk) > limit:
            _discard(file, batch)
            raise RefusalError(f"sends more than {limit:,} bytes")
        file.write(chunk)
        batch.count(len(chunk))
    if total is not None and _end(file) < total:
        raise RefusalError(
            f"broke off after {_end(file):,} of {total:,} bytes", has_broken_off=True
        )


def _chunks(answer: Answer, batch: Batch) -> Iterator[bytes]:
    """Yield bytes as they come; raise where that is too slow."""
    n_bytes, since = 0, time.monotonic()
    while chunk := answer.read(_CHUNK):
        yield chunk
        batch.wait(0)
        n_bytes += len(chunk)
        elapsed = time.monotonic() - since
        if elapsed > READ_SECONDS:
            if n_bytes < SLOWEST * elapsed:
                raise RefusalError(f"sent {n_bytes:,} bytes in {elapsed:.0f} s: too slow")
            n_bytes, since = 0, time.monotonic()


def _status_refusal(answer: Answer) -> RefusalError:
    pause = answer.retry_after if answer.status in (429, 503) else None
    asks_too_much = pause is not None and pause > RETRY_AFTER_SECONDS
    to_wait = f" and asks to wait {min(pause or 0, 1e9):,.0f} s" if asks_too_much else ""
    return RefusalError(f"answered {answer.said}{to_wait}", retry_after=pause)


def _looks(answer: Answer) -> str:
    return " that look like a web page" if answer.read(64).lstrip()[:1] == b"<" else ""


def _end(file: IO[bytes]) -> int:
    return file.seek(0, os.SEEK_END)


def _discard(file: IO[bytes], batch: Batch) -> None:
    batch.count(-_end(file))
    file.seek(0)
    file.truncate()
