"""Large files over slow and broken connections: continued where they stopped, then checked.

The bytes that arrive lie in ``<target>.part`` beside the target, for this run, for the next one and
for another host, since all hosts must have the same bytes: the digest decides in the end, and only
then is the file renamed to its target.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from cifar_noisy.errors import StorageError, UnavailableError
from cifar_noisy.store import CONNECT_SECONDS, READ_SECONDS, readable_size, shown_url

if TYPE_CHECKING:
    import requests

    from cifar_noisy.store import Progress

_CHUNK = 1 << 16


def fetch_large(
    urls: Sequence[str],
    target: Path,
    complaint: Callable[[Path], str | None],
    progress: Progress | None = None,
) -> Path:
    """Download one file from the first of several hosts that has the right bytes.

    A host is asked again, for the rest, as long as each attempt brings something; then the next
    host is asked for the rest. What has arrived stays for the next run if none has it all.

    Parameters
    ----------
    urls : sequence of str
        Addresses of the same bytes, in the order in which to ask.
    target : Path
        Where the file goes; its folder is made.
    complaint : callable
        Says what is wrong with a complete file, None if nothing is.
    progress : object with ``update(n_bytes)``, optional
        Told of every byte, those of earlier runs included.

    Returns
    -------
    Path
        The target, right or there before.

    Raises
    ------
    UnavailableError
        If no host has the right bytes, with what each of them answered.
    StorageError
        If the folder cannot be written.

    Examples
    --------
    >>> fetch_large([], Path("nowhere/x"), lambda path: None)
    Traceback (most recent call last):
    cifar_noisy.errors.UnavailableError: x could not be had: there is no host to ask
    """
    causes: list[str] = []
    if not urls:
        raise UnavailableError(f"{target.name} could not be had: there is no host to ask")
    try:
        with _part_of_our_own(target) as part:
            # Another process may have finished it while this one waited for the part.
            if target.is_file():
                return target
            _count(progress, _size(part))
            for url in urls:
                cause = _obtain(url, part, complaint, progress)
                if cause is None:
                    Path(part.name).replace(target)
                    return target
                causes.append(f"{shown_url(url)} {cause}")
            kept = _size(part)
            if not kept:
                Path(part.name).unlink()
    except OSError as error:
        raise StorageError(
            f"{target} cannot be written ({error.strerror}): make room, or name another folder"
        ) from error
    continues = f"; the {readable_size(kept)} that arrived are kept for the next try"
    raise UnavailableError(
        f"{target.name} could not be had: {'; '.join(causes)}{continues if kept else ''}",
        tuple(causes),
    )


@contextlib.contextmanager
def _part_of_our_own(target: Path) -> Iterator[IO[bytes]]:
    """Open the target's part for appending, waiting while another process fills it."""
    path = target.with_name(f"{target.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("a+b") as part:
            _lock(part)
            # Whoever held the lock may have renamed the file that this process opened.
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(part.fileno()).st_ino:
                    yield part
                    return


def _lock(file: IO[bytes]) -> None:
    """Lock a file until it is closed or this process ends, where system and file system can."""
    with contextlib.suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)


def _obtain(
    url: str,
    part: IO[bytes],
    complaint: Callable[[Path], str | None],
    progress: Progress | None,
) -> str | None:
    """Complete the part from one host and check it; return why not, None if it is right."""
    was_begun = _size(part) > 0
    while True:
        before = _size(part)
        cause = _continue(url, part, progress)
        if cause is None:
            wrong = complaint(Path(part.name))
            if wrong is None:
                return None
            _discard(part, progress)
            if not was_begun:
                return wrong
            # The beginning, from another run or host, may be what is wrong: once more from zero.
            was_begun = False
        elif _size(part) <= before:
            return cause


def _continue(url: str, part: IO[bytes], progress: Progress | None) -> str | None:
    """Append what is missing; return why it broke off, None if the host sent all there is."""
    import requests
    import urllib3

    start = _size(part)
    # Without "identity" a host may call the archive's own compression a transfer's.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    timeout = (CONNECT_SECONDS, READ_SECONDS)
    try:
        with requests.get(url, headers=headers, stream=True, timeout=timeout) as response:
            if response.status_code == 416:
                return None
            if not response.ok:
                return f"answered {response.status_code} {response.reason}"
            if start and not _is_rest(response, start):
                _discard(part, progress)
            for chunk in response.raw.stream(_CHUNK, decode_content=False):
                part.write(chunk)
                _count(progress, len(chunk))
    except requests.ConnectTimeout:
        return f"did not answer in {CONNECT_SECONDS} s"
    except (requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError):
        return f"sent nothing for {READ_SECONDS} s"
    except requests.exceptions.SSLError:
        return "has a certificate that cannot be trusted"
    except requests.RequestException:
        return "cannot be reached"
    except urllib3.exceptions.HTTPError:
        return "broke off"
    finally:
        part.flush()
    return None


def _is_rest(response: requests.Response, start: int) -> bool:
    """Whether the answer is the rest that was asked for, not the whole again."""
    return response.status_code == 206 and response.headers.get("Content-Range", "").startswith(
        f"bytes {start}-"
    )


def _discard(part: IO[bytes], progress: Progress | None) -> None:
    _count(progress, -_size(part))
    part.truncate(0)


def _size(part: IO[bytes]) -> int:
    part.flush()
    return os.fstat(part.fileno()).st_size


def _count(progress: Progress | None, n: int) -> None:
    if progress and n:
        progress.update(n)
