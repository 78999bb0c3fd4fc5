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

Requests are made with requests itself: pooch's downloader cannot tell whether a server heeded
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
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urljoin, urlsplit, urlunsplit

from cifar_noisy.errors import StorageError, UnavailableError
from cifar_noisy.files import WORTH_KEEPING, resumable_file
from cifar_noisy.locks import LockTimeout, locked

if TYPE_CHECKING:
    import requests

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
    complaint: Callable[[Path], str | None],
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
        Says what is wrong with the complete file at a path, None if nothing is.
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

    Examples
    --------
    >>> download([], Path("/dev/null/x"), lambda file: None)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    cifar_noisy.errors.StorageError: /dev/null/x cannot be written (File exists): ...
    """
    batch, kept = Batch(progress), 0

    def complaint_of_file(file: IO[bytes]) -> str | None:
        file.flush()
        # Not by its name where that can be: another process may have taken it for a leftover.
        held = Path(f"/proc/self/fd/{file.fileno()}")
        return complaint(held if held.exists() else Path(file.name))

    try:
        with locked(target, batch.lock_timeout):
            if target.is_file() and complaint(target) is None:
                return target
            with resumable_file(target, size) as file:
                batch.count(_end(file))
                try:
                    fill(file, urls, complaint_of_file, size, batch)
                finally:
                    kept = _end(file)
    except UnavailableError as error:
        for_next_try = f"; the {readable_size(kept)} that arrived are kept for the next try"
        raise UnavailableError(
            f"{target.name} could not be had: {error}"
            + (for_next_try if kept >= WORTH_KEEPING else ""),
            error.causes,
        ) from None
    except OSError as error:
        raise StorageError(
            f"{target} cannot be written ({error.strerror}): make room, or name another folder"
        ) from error
    return target


def fill(
    file: IO[bytes], urls: Sequence[str], complaint: Complaint, size: int | None, batch: Batch
) -> None:
    """Fill a file, of which a beginning may be there, from the first address that has the rest.

    Raises
    ------
    UnavailableError
        If no address has the right bytes; its ``causes`` say what each of them answered.
    """
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
    raise UnavailableError("; ".join(causes) or "there is no host to ask", tuple(causes))


def shown_url(url: str) -> str:
    """Return a URL without the credentials that it may carry in its user name or query.

    Examples
    --------
    >>> shown_url("https://user:secret@host/path?token=secret")
    'https://host/path'
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that is none"
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


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

    threads = [
        threading.Thread(target=work, daemon=True)
        for _ in range(min(PARALLEL_TRANSFERS, len(items)))
    ]
    results: dict[int, Result] = {}
    try:
        for thread in threads:
            thread.start()
        while len(results) < len(items):
            index, result, error = done.get()
            if error is not None:
                raise error
            results[index] = result
    finally:
        batch.is_stopped.set()
        deadline = time.monotonic() + INTERRUPT_SECONDS
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0, deadline - time.monotonic()))
    return [results[index] for index in range(len(items))]


class _StoppedError(Exception):
    """Ends a thread whose results nobody waits for any more."""


class _RefusalError(Exception):
    """Why an address did not give the file."""

    def __init__(
        self,
        cause: str,
        *,
        is_unreachable: bool = False,
        has_broken_off: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(cause)
        self.is_unreachable = is_unreachable
        self.has_broken_off = has_broken_off
        self.retry_after = retry_after


def _fill_from(
    url: str, file: IO[bytes], complaint: Complaint, size: int | None, batch: Batch
) -> _RefusalError | None:
    """Complete the file from one address and check it; return why not, None if it is right."""
    was_begun = _end(file) > 0
    waited = 0.0
    while True:
        before = _end(file)
        try:
            _receive(url, file, size, batch)
        except _RefusalError as refusal:
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
            return _RefusalError(wrong)
        # What an earlier run or another host had begun may be to blame: once more from zero.
        was_begun = False


def _receive(url: str, file: IO[bytes], size: int | None, batch: Batch) -> None:
    """Append to the file what is missing of it."""
    import requests
    import urllib3

    start = _end(file)
    if start and start == size:
        return
    # "identity", lest a host takes an archive's own compression for one of the transfer.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    batch.wait(0)
    with requests.Session() as session:
        try:
            response = session.get(
                url,
                headers=headers,
                stream=True,
                timeout=(CONNECT_SECONDS, READ_SECONDS),
                hooks={"response": _refuse_downgrade},
            )
        except (OSError, ValueError) as error:  # of requests, and what it lets through of others
            raise _refusal(error) from None
        with response:
            if start and response.status_code == 416:
                return  # there is no more than what is there; the checksum has the last word
            _check_status(response)
            if start and not _is_rest(response, start):
                _discard(file, batch)
            try:
                _append(response, file, size, batch)
            except urllib3.exceptions.HTTPError as error:
                raise _refusal(error) from None


def _append(response: "requests.Response", file: IO[bytes], size: int | None, batch: Batch) -> None:
    length = response.headers.get("Content-Length", "")
    # Without a length nobody knows whether a short answer is whole: the checksum has the last word.
    total = _end(file) + int(length) if length.isdecimal() else None
    if None not in (size, total) and total != size:
        raise _RefusalError(
            f"offers {total:,} bytes{_looks(response)}, where the published file has {size:,}"
        )
    for chunk in _chunks(response, batch):
        if size is not None and _end(file) + len(chunk) > size:
            _discard(file, batch)
            raise _RefusalError(f"sends more than the file's {size:,} bytes")
        file.write(chunk)
        batch.count(len(chunk))
    if total is not None and _end(file) < total:
        raise _RefusalError(
            f"broke off after {_end(file):,} of {total:,} bytes", has_broken_off=True
        )


def _chunks(response: "requests.Response", batch: Batch) -> Iterator[bytes]:
    """Yield bytes as they come; raise where that is too slow."""
    n_bytes, since = 0, time.monotonic()
    # Not response.iter_content, which waits for a full chunk from a host that trickles.
    while chunk := response.raw.read1(_CHUNK, decode_content=False):
        yield chunk
        batch.wait(0)
        n_bytes += len(chunk)
        elapsed = time.monotonic() - since
        if elapsed > READ_SECONDS:
            if n_bytes < SLOWEST * elapsed:
                raise _RefusalError(f"sent {n_bytes:,} bytes in {elapsed:.0f} s: too slow")
            n_bytes, since = 0, time.monotonic()


def _check_status(response: "requests.Response") -> None:
    asked_for_rest = "Range" in response.request.headers
    if response.status_code == 200 or (response.status_code == 206 and asked_for_rest):
        return
    cause = f"answered {response.status_code} {response.reason}"
    pause = _retry_after(response) if response.status_code in (429, 503) else None
    if pause is not None and pause > RETRY_AFTER_SECONDS:
        cause += f" and asks to wait {pause:,.0f} s"
    raise _RefusalError(cause, retry_after=pause)


def _retry_after(response: "requests.Response") -> float | None:
    """Return the seconds that the answer asks to wait: given as a number or as a date."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return max(1.0, float(value))
    import email.utils

    with contextlib.suppress(ValueError):
        return max(1.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None


def _is_rest(response: "requests.Response", start: int) -> bool:
    """Whether the answer is the rest that was asked for, not the whole again."""
    range_ = response.headers.get("Content-Range", "")
    if response.status_code == 206 and not range_.startswith(f"bytes {start}-"):
        raise _RefusalError(f"answered another range than asked for ({range_ or 'none'})")
    return response.status_code == 206


def _looks(response: "requests.Response") -> str:
    is_page = response.raw.read1(64, decode_content=False).lstrip()[:1] == b"<"
    return " that look like a web page" if is_page else ""


def _refuse_downgrade(response: "requests.Response", **_: object) -> None:
    """Stop before a redirect from https to http is followed."""
    goal = urljoin(response.url, response.headers.get("Location", ""))
    schemes = (urlsplit(response.url).scheme, urlsplit(goal).scheme)
    if response.is_redirect and schemes[0] == "https" != schemes[1]:
        raise _RefusalError(f"leads to {shown_url(goal)}, which is not https")


def _refusal(error: Exception) -> _RefusalError:
    """Say in a few words what requests and urllib3 say in many."""
    import requests
    import urllib3.exceptions as low

    reason = getattr(error.args[0], "reason", None) if error.args else None
    if isinstance(error, requests.ConnectTimeout):
        return _RefusalError(f"did not answer in {CONNECT_SECONDS:g} s", is_unreachable=True)
    if isinstance(error, requests.ReadTimeout | low.ReadTimeoutError):
        # One that stalls on the way has answered, and may again.
        has_answered = isinstance(error, low.ReadTimeoutError)
        return _RefusalError(
            f"sent nothing for {READ_SECONDS:g} s", is_unreachable=not has_answered
        )
    if isinstance(error, requests.exceptions.SSLError):
        return _RefusalError("has a certificate that cannot be trusted", is_unreachable=True)
    if isinstance(reason, low.NameResolutionError):
        return _RefusalError("has a name that cannot be resolved", is_unreachable=True)
    if isinstance(getattr(reason, "__cause__", None), ConnectionRefusedError):
        return _RefusalError("refuses connections", is_unreachable=True)
    if isinstance(error, requests.ConnectionError):
        return _RefusalError("cannot be reached", is_unreachable=True)
    if isinstance(error, requests.TooManyRedirects):
        return _RefusalError("redirects too often")
    if isinstance(error, low.ProtocolError | requests.exceptions.ChunkedEncodingError):
        return _RefusalError("broke off", has_broken_off=True)
    # What requests says may quote a URL with credentials.
    is_quotable = not isinstance(error, requests.RequestException | low.HTTPError)
    said = f"{type(error).__name__}: {error}" if is_quotable else type(error).__name__
    return _RefusalError(f"failed ({said})")


def _end(file: IO[bytes]) -> int:
    return file.seek(0, os.SEEK_END)


def _discard(file: IO[bytes], batch: Batch) -> None:
    batch.count(-_end(file))
    file.seek(0)
    file.truncate()
