"""An artifact's bytes on this machine: from the cache, a mirror or the web, and never a wrong byte.

Every read hashes what it returns, so what the registry does not pin cannot reach an array. Sources
are asked in this order, and each failure moves on to the next:

1. the cache folder (``CIFAR_NOISY_CACHE``, else pooch's usual place), laid out like upstream;
2. the mirrors of ``CIFAR_NOISY_MIRRORS``, folders or URLs separated by commas; a folder is read in
   place, nothing is copied out of it or written into it;
3. the public hosts: GitHub at the pinned revision, jsDelivr, and Software Heritage, which finds a
   file by its sha256 alone.

``CIFAR_NOISY_OFFLINE=1`` opens no socket: the cache and mirror folders remain.
"""

import hashlib
import io
import os
import secrets
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote, urlsplit, urlunsplit

from cifar_noisy.errors import (
    ConfigurationError,
    CorruptFileWarning,
    StorageError,
    UnavailableError,
)
from cifar_noisy.registry import REPOSITORY, REVISION, Artifact

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

CACHE_VARIABLE = "CIFAR_NOISY_CACHE"
MIRRORS_VARIABLE = "CIFAR_NOISY_MIRRORS"
OFFLINE_VARIABLE = "CIFAR_NOISY_OFFLINE"

CONNECT_SECONDS, READ_SECONDS = 10, 30
PARALLEL_DOWNLOADS = 8
_CHUNK = 1 << 16


class Progress(Protocol):
    """What a download tells of its progress, in bytes; a tqdm bar is one."""

    def update(self, n: float | None = 1) -> object:
        """Count `n` more bytes, or fewer where it is negative."""


@dataclass(frozen=True)
class Folder:
    """A folder laid out like upstream, read in place."""

    path: Path


@dataclass(frozen=True)
class Host:
    """A web server that has the files.

    Attributes
    ----------
    pattern : str
        URL in which ``{path}`` and ``{sha256}`` stand for the artifact's.
    max_size : int or None
        Largest file, in bytes, that the host serves.
    """

    pattern: str
    max_size: int | None = None

    def url(self, artifact: Artifact) -> str:
        """Return the artifact's address on this host."""
        return self.pattern.replace("{path}", quote(artifact.path)).replace(
            "{sha256}", artifact.sha256
        )


PUBLIC_HOSTS = (
    Host(f"https://raw.githubusercontent.com/{REPOSITORY}/{REVISION}/{{path}}"),
    Host(f"https://cdn.jsdelivr.net/gh/{REPOSITORY}@{REVISION}/{{path}}", max_size=20_000_000),
    Host("https://archive.softwareheritage.org/api/1/content/sha256:{sha256}/raw/"),
)


@dataclass(frozen=True)
class Store:
    """The places that artifacts come from, and the cache folder that they go to.

    Attributes
    ----------
    cache : Path
        Laid out like upstream; made when the first file is written.
    mirrors : tuple of Folder or Host
        Asked before the public hosts.
    is_offline : bool
        True where no socket may be opened.
    public_hosts : tuple of Host
        Asked last.

    Examples
    --------
    >>> from cifar_noisy.registry import artifacts
    >>> store = Store(Path("/data/cifar-noisy"), is_offline=True)
    >>> store.cache_path(artifacts(kind="pyx")[0]).parts[:4]
    ('/', 'data', 'cifar-noisy', 'cifar10')
    """

    cache: Path
    mirrors: tuple[Folder | Host, ...] = ()
    is_offline: bool = False
    public_hosts: tuple[Host, ...] = PUBLIC_HOSTS

    @classmethod
    def from_environment(cls) -> "Store":
        """Return the store that the three environment variables describe.

        Raises
        ------
        ConfigurationError
            If one of them cannot be understood.
        """
        return cls(_cache_folder(), _mirrors(), _is_offline())

    def cache_path(self, artifact: Artifact) -> Path:
        """Return where the artifact lies in the cache, or would."""
        return self.cache / artifact.path

    def local_path(self, artifact: Artifact) -> Path | None:
        """Return a file on this machine that should be the artifact, its bytes not checked."""
        return next((path for path in self._local_paths(artifact) if is_there(path)), None)

    def read(self, artifact: Artifact, progress: Progress | None = None) -> bytearray:
        """Return an artifact's bytes, checked against the registry.

        Raises
        ------
        UnavailableError
            If no source has the right bytes; says what each of them answered.
        StorageError
            If the cache folder cannot be used.
        """
        return self._obtain(artifact, progress)[1]

    def path(self, artifact: Artifact, progress: Progress | None = None) -> Path:
        """Return a file on this machine that holds the artifact, its bytes just checked.

        Raises
        ------
        UnavailableError, StorageError
            As `read` does.
        """
        return self._obtain(artifact, progress)[0]

    def fetch(self, artifacts: Sequence[Artifact], progress: Progress | None = None) -> list[Path]:
        """Bring many artifacts to this machine in parallel; return their checked files in order.

        Raises
        ------
        UnavailableError
            If no source has the right bytes of some; names the first, and how many and how large
            they are together. The others stay in the cache.
        StorageError
            If the cache folder cannot be used.
        """
        found = self.gather(artifacts, progress)
        errors = {a: error for a, error in found.items() if isinstance(error, UnavailableError)}
        if errors:
            raise self._unavailable(list(errors), next(iter(errors.values())).causes)
        return [path for path in found.values() if isinstance(path, Path)]

    def gather(
        self, artifacts: Sequence[Artifact], progress: Progress | None = None
    ) -> dict[Artifact, "Path | UnavailableError"]:
        """Bring to this machine what can be had of many artifacts, in parallel.

        Returns
        -------
        dict
            By artifact, in order: its checked file, or the error that says why there is none.

        Raises
        ------
        StorageError
            If the cache folder cannot be used.
        """
        unreachable: set[Host] = set()

        def outcome(artifact: Artifact) -> Path | UnavailableError:
            try:
                return self._obtain(artifact, progress, unreachable)[0]
            except UnavailableError as error:
                return error

        with ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool:
            return dict(zip(artifacts, pool.map(outcome, artifacts), strict=True))

    def _local_paths(self, artifact: Artifact) -> Iterator[Path]:
        yield self.cache_path(artifact)
        for mirror in self.mirrors:
            if isinstance(mirror, Folder):
                yield mirror.path / artifact.path

    def _obtain(
        self, artifact: Artifact, progress: Progress | None, unreachable: set[Host] | None = None
    ) -> tuple[Path, bytearray]:
        """Ask the sources in order; a host that cannot be reached joins the set and is left out."""
        unreachable = set() if unreachable is None else unreachable
        causes: list[str] = []
        for source in (Folder(self.cache), *self.mirrors, *self.public_hosts):
            try:
                if isinstance(source, Folder):
                    return _read_in_place(source.path / artifact.path, artifact, progress)
                if source in unreachable:
                    raise _SourceError(f"{shown_url(source.url(artifact))} cannot be reached")
                if not self.is_offline:
                    return self._download(source, artifact, progress)
            except _SourceError as refusal:
                causes.append(str(refusal))
                if refusal.is_unreachable and isinstance(source, Host):
                    unreachable.add(source)
        raise self._unavailable([artifact], tuple(causes))

    def _download(
        self, host: Host, artifact: Artifact, progress: Progress | None
    ) -> tuple[Path, bytearray]:
        """Download, hash, and only then write: a wrong byte leaves no trace on the disk."""
        url = host.url(artifact)
        if host.max_size is not None and artifact.size > host.max_size:
            raise _SourceError(
                f"{shown_url(url)} serves files up to {readable_size(host.max_size)}"
            )
        content = _transfer(url, artifact.size, progress)
        complaint = _complaint(content, artifact)
        if complaint:
            if progress:
                progress.update(-len(content))
            raise _SourceError(f"{shown_url(url)} {complaint}")
        target = self.cache_path(artifact)
        try:
            write_atomically(target, content)
        except OSError as error:
            raise StorageError(
                f"the cache folder {self.cache} cannot be written ({error.strerror}): make room, "
                f"or set {CACHE_VARIABLE} to another folder"
            ) from error
        return target, content

    def _unavailable(
        self, missing: Sequence[Artifact], causes: tuple[str, ...]
    ) -> UnavailableError:
        """Return the error that says what is missing, why, and the two ways to mend it.

        `causes` are those of the first missing file.
        """
        first, size = missing[0], readable_size(sum(artifact.size for artifact in missing))
        what = (
            f"{first.path} ({size})"
            if len(missing) == 1
            else f"{len(missing)} files ({size}), the first of them {first.path},"
        )
        offline = ("the web was not asked, since this store is offline",)
        why = "; ".join(causes + (offline if self.is_offline else ()))
        return UnavailableError(
            f"{what} could not be had: {why}. On a machine with a network run: "
            f"{_download_command(missing)}; or put the file of sha256 {first.sha256} at "
            f"{self.cache_path(first)}",
            causes,
        )


def is_there(path: Path) -> bool:
    """Return whether a file is there for this user; a folder that is closed to him has none.

    Examples
    --------
    >>> is_there(Path("nowhere"))
    False
    """
    try:
        return path.is_file()
    except OSError:
        return False


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


class _SourceError(Exception):
    """Why one source did not give a file."""

    def __init__(self, cause: str, *, is_unreachable: bool = False) -> None:
        super().__init__(cause)
        self.is_unreachable = is_unreachable


def _read_in_place(
    path: Path, artifact: Artifact, progress: Progress | None
) -> tuple[Path, bytearray]:
    content = bytearray(artifact.size)
    try:
        with path.open("rb") as file:
            del content[file.readinto(content) :]
            content += file.read(1)  # enough to see that a file is too long
    except FileNotFoundError:
        raise _SourceError(f"{path} does not exist") from None
    except OSError as error:
        raise _SourceError(f"{path} cannot be read ({error.strerror})") from None
    complaint = _complaint(content, artifact)
    if complaint:
        warnings.warn(f"{path} {complaint}: not used", CorruptFileWarning, stacklevel=2)
        raise _SourceError(f"{path} {complaint}")
    if progress:
        progress.update(artifact.size)
    return path, content


def _complaint(content: bytearray, artifact: Artifact) -> str | None:
    """Say what is wrong with bytes that should be the artifact; None if they are."""
    digest = hashlib.sha256(content).hexdigest()
    if digest == artifact.sha256:
        return None
    looks = " and look like a web page" if content.lstrip()[:1] == b"<" else ""
    return (
        f"holds {len(content):,} bytes of sha256 {digest[:12]}…{looks}, where the published file "
        f"has {artifact.size:,} of {artifact.sha256[:12]}…"
    )


def _transfer(url: str, size: int, progress: Progress | None) -> bytearray:
    import pooch
    import requests

    bar = _FileProgress(progress) if progress else None
    download = pooch.HTTPDownloader(
        progressbar=bar or False, chunk_size=_CHUNK, timeout=(CONNECT_SECONDS, READ_SECONDS)
    )
    content = _Bounded(size)
    try:
        download(url, content, None)
    except (OSError, ValueError) as error:  # of requests, and what it lets through of others
        if bar:
            bar.reset()
        # A transfer that breaks off or stalls is another matter: that host answers, and may again.
        is_unreachable = isinstance(error, requests.ConnectionError) and not _has_stalled(error)
        cause = f"{shown_url(url)} {_cause(error)}"
        raise _SourceError(cause, is_unreachable=is_unreachable) from None
    except _TooLongError:
        if bar:
            bar.reset()
        raise _SourceError(f"{shown_url(url)} sends more than the file's {size:,} bytes") from None
    return bytearray(content.getbuffer())


class _TooLongError(Exception):
    """More bytes came than the file has."""


class _Bounded(io.BytesIO):
    """Bytes in memory, up to a size, so that no host can fill it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def write(self, data: "ReadableBuffer") -> int:
        if self.tell() + memoryview(data).nbytes > self.size:
            raise _TooLongError
        return super().write(data)


def _cause(error: Exception) -> str:
    """Say in a few words what requests says in many."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.ConnectTimeout):
        return f"did not answer in {CONNECT_SECONDS} s"
    if isinstance(error, requests.ReadTimeout) or _has_stalled(error):
        return f"sent nothing for {READ_SECONDS} s"
    if isinstance(error, requests.exceptions.SSLError):
        return "has a certificate that cannot be trusted"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "broke off"
    if isinstance(error, requests.ConnectionError):
        return "cannot be reached"
    return f"failed ({type(error).__name__}: {error})"


def _has_stalled(error: Exception) -> bool:
    """Whether bytes stopped coming, which requests calls a failed connection."""
    from urllib3.exceptions import ReadTimeoutError

    return bool(error.args) and isinstance(error.args[0], ReadTimeoutError)


def shown_url(url: str) -> str:
    """Return a URL without the user name and password that it may carry."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that is none"
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


class _FileProgress:
    """One file's share of a common bar, in the form that pooch's downloader drives."""

    def __init__(self, common: Progress) -> None:
        self.common = common
        self.total = 0
        self.counted = 0

    def update(self, n: int) -> None:
        self.counted += n
        self.common.update(n)

    def reset(self) -> None:
        """Take back what was counted: pooch counts the exact total at the end."""
        self.update(-self.counted)

    def close(self) -> None:
        """Leave the common bar open for the other files."""


def write_atomically(path: Path, content: bytes | bytearray) -> None:
    """Write a file that is, whenever one looks or kills, absent, as it was, or complete.

    Raises
    ------
    OSError
        If it cannot be written; nothing of it is left then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of this process's own, so that others may write the same file at the same time.
    part = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _download_command(missing: Sequence[Artifact]) -> str:
    """Return the narrowest command that fetches the missing files."""
    command = ["cifar-noisy download"]
    for option, values in (
        ("--kind", {artifact.kind for artifact in missing}),
        ("--noise", {f"{artifact.setting.noise:g}" for artifact in missing}),
        ("--sparsity", {f"{artifact.setting.sparsity:g}" for artifact in missing}),
        ("--method", {artifact.method for artifact in missing}),
        ("--edition", {artifact.edition for artifact in missing}),
        ("--trainer", {artifact.trainer for artifact in missing}),
    ):
        if len(values) == 1 and None not in values:
            command.append(f"{option} {values.pop()}")
    return " ".join(command)


def _cache_folder() -> Path:
    chosen = os.environ.get(CACHE_VARIABLE, "").strip()
    if chosen:
        return _folder(chosen, CACHE_VARIABLE)
    import pooch

    return Path(pooch.os_cache("cifar-noisy"))


def _mirrors() -> tuple[Folder | Host, ...]:
    entries = (entry.strip() for entry in os.environ.get(MIRRORS_VARIABLE, "").split(","))
    return tuple(_mirror(entry) for entry in entries if entry)


def _mirror(entry: str) -> Folder | Host:
    if entry.startswith(("http://", "https://")) and _has_host(entry):
        return Host(f"{entry.rstrip('/')}/{{path}}")
    if "://" in entry:
        raise ConfigurationError(
            f"{MIRRORS_VARIABLE} has {shown_url(entry)}, which is neither a folder nor an http or "
            "https URL: separate entries by commas"
        )
    return Folder(_folder(entry, MIRRORS_VARIABLE))


def _has_host(url: str) -> bool:
    try:
        return bool(urlsplit(url).hostname)
    except ValueError:
        return False


def _folder(entry: str, variable: str) -> Path:
    try:
        return Path(entry).expanduser().absolute()
    except RuntimeError as error:
        raise ConfigurationError(f"{variable} has {entry}: there is no such user") from error


def _is_offline() -> bool:
    value = os.environ.get(OFFLINE_VARIABLE, "").strip().lower()
    if value in ("", "0", "false", "no"):
        return False
    if value in ("1", "true", "yes"):
        return True
    raise ConfigurationError(f"{OFFLINE_VARIABLE} is {value!r}: set it to 1 or 0")
