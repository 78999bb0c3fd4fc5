"""An artifact's bytes on this machine: from the cache, a mirror or the web, and never a wrong byte.

Every read hashes what it returns, so what the registry does not pin cannot reach an array. Sources
are asked in this order, and each failure moves on to the next:

1. the cache folder (``CIFAR_NOISY_CACHE``, else pooch's usual place);
2. the mirrors of ``CIFAR_NOISY_MIRRORS``, folders or URLs separated by commas; a folder is read in
   place, and copied only where that is asked for;
3. the public hosts: GitHub at the pinned revision, jsDelivr, and Software Heritage, which finds a
   file by its sha256 alone; or the addresses that the registry has for this one file.

``CIFAR_NOISY_OFFLINE=1`` opens no socket: the cache and mirror folders remain.

A cache that has a file is only read. A download holds a lock (`locks`), continues what a killed one
left, and renames the file to its place when the checksum is right (`files`). So whatever is killed,
full or slow, a file is absent or right.
"""

import contextlib
import functools
import hashlib
import io
import itertools
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote

from cifar_noisy.errors import ConfigurationError, CorruptFileWarning, UnavailableError
from cifar_noisy.progress_bars import Progress, progress_bar, without_tqdm_warning
from cifar_noisy.store.files import (
    open_regular,
    reason,
    resumable_file,
    storage_errors,
    write_atomically,
)
from cifar_noisy.store.http_download import (
    DownloadSession,
    download_into,
    format_size,
    in_parallel,
)
from cifar_noisy.store.http_get import import_client, is_http_url, redact_url
from cifar_noisy.store.locks import locked
from cifar_noisy.store.registry import GITHUB, REPOSITORY, Artifact

_log = logging.getLogger("cifar_noisy")

CACHE_VARIABLE = "CIFAR_NOISY_CACHE"
MIRRORS_VARIABLE = "CIFAR_NOISY_MIRRORS"
OFFLINE_VARIABLE = "CIFAR_NOISY_OFFLINE"

_REMEDY = (
    f"make room, or set {CACHE_VARIABLE} to a folder of yours (and name this one in "
    f"{MIRRORS_VARIABLE}, which reads it in place)"
)
_TAG = "CACHEDIR.TAG"
_TAG_CONTENT = b"""Signature: 8a477f597d28d172789f06886806bc55
# This folder is a cache of cifar-noisy: backups need not keep it.
# https://bford.info/cachedir/
"""


@dataclass(frozen=True)
class Folder:
    """A mirror folder, laid out like the places that the files come from, and read in place."""

    path: Path


@dataclass(frozen=True)
class Host:
    """A web server that has the files; its pattern has the names of `url` in braces."""

    pattern: str

    def __repr__(self) -> str:
        """Show no credentials."""
        return f"Host({redact_url(self.pattern)!r})"

    def url(self, artifact: Artifact) -> str:
        """Return the artifact's address on this host."""
        values = {
            "path": quote(artifact.source_path),
            "sha256": artifact.sha256,
            "repository": artifact.repository_name,
            "revision": artifact.revision or "",
            "repository_path": quote(artifact.repository_path),
        }
        return re.sub(
            r"\{(\w+)\}", lambda name: values.get(name[1], name[0]), self.pattern, flags=re.ASCII
        )


PUBLIC_HOSTS = (
    Host("https://raw.githubusercontent.com/{repository}/{revision}/{repository_path}"),
    Host("https://cdn.jsdelivr.net/gh/{repository}@{revision}/{repository_path}"),
    Host("https://archive.softwareheritage.org/api/1/content/sha256:{sha256}/raw/"),
)


@dataclass(frozen=True)
class _Failure:
    """Why an attempt did not give the bytes."""

    causes: tuple[str, ...]
    is_corrupt: bool = False


_MIN_RESUMED_SIZE = 1 << 23  # bytes; smaller files are kept in memory until they are complete
_Attempt = tuple[Path, Callable[[], bytearray | _Failure]]


@dataclass(frozen=True)
class Store:
    """The places that artifacts come from, and the cache folder that they go to.

    The folder is made when the first file is written. Mirrors are asked in order, the public hosts
    last; a store that is offline opens no socket.
    """

    cache: Path
    mirrors: tuple[Folder | Host, ...] = ()
    is_offline: bool = False
    public_hosts: tuple[Host, ...] = PUBLIC_HOSTS

    @classmethod
    def from_environment(cls) -> "Store":
        """Return the store that the three environment variables describe."""
        return cls(_cache_folder(), _mirrors(), _is_offline())

    def cache_path(self, artifact: Artifact) -> Path:
        """Return where the artifact lies in the cache, or would."""
        return self.cache / artifact.path

    def local_path(self, artifact: Artifact) -> Path | None:
        """Return a file on this machine that should be the artifact, its bytes not checked."""
        folders = [source.path for source in self.mirrors if isinstance(source, Folder)]
        paths = [self.cache_path(artifact), *(folder / artifact.source_path for folder in folders)]
        return next(filter(is_accessible_file, paths), None)

    def urls(self, artifact: Artifact) -> list[str]:
        """Return the addresses of the artifact in the order in which they are asked."""
        return [s.url(artifact) for s in self._sources(artifact) if isinstance(s, Host)]

    def read(self, artifact: Artifact, progress: Progress | None = None) -> bytearray:
        """Return an artifact's bytes, checked against the registry.

        Raises `UnavailableError` with the answers of all sources if none has the right bytes, and
        `StorageError` if the cache folder cannot be used.
        """
        return self._obtain(artifact, DownloadSession(progress))[1]

    def path(self, artifact: Artifact, progress: Progress | None = None) -> Path:
        """Return a file on this machine that holds the artifact, its bytes just checked."""
        return self._obtain(artifact, DownloadSession(progress))[0]

    def fetch(
        self,
        artifacts: Sequence[Artifact],
        progress: Progress | None = None,
        *,
        copy: bool = False,
    ) -> list[Path]:
        """Bring many artifacts to this machine in parallel; return their checked files in order.

        With `copy`, files that mirror folders have are copied to the cache too. If some are
        missing, the others stay in the cache, and one `UnavailableError` names all missing ones.
        """
        paths = []
        for found in self.gather(artifacts, progress, copy=copy).values():
            if isinstance(found, UnavailableError):
                raise found
            paths.append(found)
        return paths

    def fetch_absent(self, artifacts: Sequence[Artifact], progress: bool | None = False) -> None:
        """Fetch those of many artifacts that are not on this machine, in parallel."""
        absent = [artifact for artifact in artifacts if self.local_path(artifact) is None]
        if absent:
            n_bytes = sum(artifact.size for artifact in absent)
            with progress_bar(progress, "downloading", n_bytes) as bar:
                self.fetch(absent, bar)

    def gather(
        self,
        artifacts: Sequence[Artifact],
        progress: Progress | None = None,
        *,
        copy: bool = False,
    ) -> dict[Artifact, Path | UnavailableError]:
        """Bring to this machine what can be had of many artifacts, in parallel.

        Return for each of them, in order, its checked file, or the error that names all that are
        missing.
        """
        batch = DownloadSession(progress)
        if not self.is_offline and any(self.local_path(artifact) is None for artifact in artifacts):
            import_client()

        def outcome(artifact: Artifact) -> Path | UnavailableError:
            try:
                return self._obtain(artifact, batch, copy=copy)[0]
            except UnavailableError as error:
                return error

        found = dict(zip(artifacts, in_parallel(outcome, artifacts, batch), strict=True))
        errors = {a: error for a, error in found.items() if isinstance(error, UnavailableError)}
        if errors:
            together = self._unavailable(list(errors), next(iter(errors.values())).causes)
            found |= dict.fromkeys(errors, together)
        return found

    def _sources(self, artifact: Artifact) -> tuple[Folder | Host, ...]:
        return (*self.mirrors, *(map(Host, artifact.urls) if artifact.urls else self.public_hosts))

    def _obtain(
        self, artifact: Artifact, batch: DownloadSession, *, copy: bool = False
    ) -> tuple[Path, bytearray]:
        """Return the artifact's file on this machine and its checked bytes."""
        cached, causes = self.cache_path(artifact), list[str]()
        for path, attempt in self._attempts(artifact, batch):
            content = attempt()
            if isinstance(content, _Failure):
                causes += content.causes
            elif copy and path != cached:
                with self._writing(cached):
                    write_atomically(cached, content)
                return cached, content
            else:
                return path, content
        if self.is_offline:
            causes.append("the web was not asked, since this store is offline")
        raise self._unavailable([artifact], tuple(causes))

    def _attempts(self, artifact: Artifact, batch: DownloadSession) -> Iterator[_Attempt]:
        """Yield the ways to get an artifact in order, each with the file that then has it."""
        cached = self.cache_path(artifact)
        yield cached, functools.partial(_read_local, cached, artifact, batch)
        # Neighbouring hosts are asked together: what one began, the next may finish.
        for _, group in itertools.groupby(self._sources(artifact), type):
            sources = list(group)
            for folder in (source for source in sources if isinstance(source, Folder)):
                path = folder.path / artifact.source_path
                yield path, functools.partial(_read_local, path, artifact, batch)
            urls = [source.url(artifact) for source in sources if isinstance(source, Host)]
            if urls and not self.is_offline:
                yield cached, functools.partial(self._download, artifact, urls, batch)

    def _download(
        self, artifact: Artifact, urls: Sequence[str], batch: DownloadSession
    ) -> bytearray | _Failure:
        """Fetch a file into the cache unless another process does at the same time."""
        target, content = self.cache_path(artifact), bytearray()

        def problem(complete: IO[bytes]) -> str | None:
            content[:] = _read_file(complete, artifact)
            return _problem(content, artifact)

        with self._writing(target), locked(target, batch.lock_timeout):
            there = _read_path(target, artifact)
            if not isinstance(there, _Failure):
                batch.count(artifact.size)
                return there
            _show_licence(artifact.repository_name, artifact.licence)
            try:
                with _new_file(target, artifact.size) as file:
                    batch.count(file.seek(0, os.SEEK_END))
                    try:
                        download_into(file, urls, problem, artifact.size, batch)
                    except UnavailableError:
                        batch.count(-file.seek(0, os.SEEK_END))
                        raise
            except UnavailableError as error:
                return _Failure(error.causes)
        return content

    @contextlib.contextmanager
    def _writing(self, target: Path) -> Iterator[None]:
        """Make the cache folder, and say which of folder and file cannot be written."""
        with storage_errors(f"the cache folder {self.cache}", _REMEDY):
            self.make_cache()
        with storage_errors(target, f"remove what is there, {_REMEDY}"):
            yield

    def make_cache(self) -> None:
        """Make the cache folder; mark it for backups to skip, unless it has other files."""
        self.cache.mkdir(parents=True, exist_ok=True)
        if not any(self.cache.iterdir()):
            write_atomically(self.cache / _TAG, _TAG_CONTENT)

    def _unavailable(
        self, missing: Sequence[Artifact], causes: tuple[str, ...]
    ) -> UnavailableError:
        """Return the error that says what is missing and how to get it; `causes` of the first."""
        first, size = missing[0], format_size(sum(artifact.size for artifact in missing))
        what = (
            f"{first.path} ({size})"
            if len(missing) == 1
            else f"{len(missing)} files ({size}), the first of them {first.path},"
        )
        return UnavailableError(
            f"{what} could not be had: run {_download_command(missing)} where there is a network, "
            f"or put the file of sha256 {first.sha256} at {self.cache_path(first)}",
            causes,
        )


@functools.cache
def _show_licence(repository: str, licence: str) -> None:
    """Say once, before the first byte, on what terms another repository's files are had."""
    if repository not in ("", REPOSITORY):
        _log.warning("cifar-noisy: files of %s%s, licence: %s", GITHUB, repository, licence)


@contextlib.contextmanager
def _new_file(target: Path, size: int) -> Iterator[IO[bytes]]:
    """Open what a download is written to, and make it `target` when the block ends well."""
    if size >= _MIN_RESUMED_SIZE:
        with resumable_file(target, size) as file:
            yield file
    else:
        memory = io.BytesIO()
        yield memory
        write_atomically(target, memory.getvalue())


def is_accessible_file(path: Path) -> bool:
    """Return whether a file is there for this user; a folder that is closed to him has none."""
    try:
        return path.is_file()
    except OSError:
        return False


def file_problem(path: Path, artifact: Artifact) -> str | None:
    """Say why a file is not the artifact, None if it is; it may be larger than the memory."""
    try:
        with open_regular(path) as file:
            size = file.seek(0, os.SEEK_END)
            if size != artifact.size:
                return f"has {size:,} bytes, where the published file has {artifact.size:,}"
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"cannot be read ({reason(error)})"
    said = f"has sha256 {digest[:12]}…, where the published file has {artifact.sha256[:12]}…"
    return None if digest == artifact.sha256 else said


def _read_local(path: Path, artifact: Artifact, batch: DownloadSession) -> bytearray | _Failure:
    content = _read_path(path, artifact)
    if not isinstance(content, _Failure):
        batch.count(artifact.size)
    elif content.is_corrupt:
        warnings.warn(f"{content.causes[0]}: not used", CorruptFileWarning, stacklevel=4)
    return content


def _read_path(path: Path, artifact: Artifact) -> bytearray | _Failure:
    try:
        with open_regular(path) as file:
            content = _read_file(file, artifact)
    except FileNotFoundError:
        return _Failure((f"{path} does not exist",))
    except OSError as error:
        return _Failure((f"{path} cannot be read ({reason(error)})",))
    problem = _problem(content, artifact)
    return _Failure((f"{path} {problem}",), is_corrupt=True) if problem else content


def _read_file(file: IO[bytes], artifact: Artifact) -> bytearray:
    """Return the bytes of an artifact, or enough of a longer file to see that it is too long."""
    content = bytearray(artifact.size)
    del content[file.readinto(content) :]  # type: ignore[attr-defined]  # open files have it
    content += file.read(1)
    return content


def _problem(content: bytearray, artifact: Artifact) -> str | None:
    """Say what is wrong with bytes that should be the artifact; None if they are."""
    digest = hashlib.sha256(content).hexdigest()
    if digest == artifact.sha256:
        return None
    looks = " and look like a web page" if content.lstrip()[:1] == b"<" else ""
    return (
        f"holds {len(content):,} bytes of sha256 {digest[:12]}…{looks}, where the published file "
        f"has {artifact.size:,} of {artifact.sha256[:12]}…"
    )


def _download_command(missing: Sequence[Artifact]) -> str:
    """Return the narrowest command that fetches the missing files."""
    command = ["cifar-noisy download"]
    for name in ("kind", "noise", "sparsity", "method", "edition", "trainer", "model"):
        choices = [_filter_values(artifact, name) for artifact in missing]
        shared = [value for value in choices[0] if all(value in others for others in choices)]
        if shared and (value := shared[0]) is not None:
            command.append(
                f"--{name} {value:g}" if isinstance(value, float) else f"--{name} {value}"
            )
    return " ".join(command)


def _filter_values(artifact: Artifact, name: str) -> tuple[str | float | None, ...]:
    """Return what a filter may be for it to find the artifact."""
    if name == "noise" and artifact.label_sets:
        return artifact.label_sets
    return (getattr(artifact, name),)


def _cache_folder() -> Path:
    chosen = os.environ.get(CACHE_VARIABLE, "").strip()
    if not chosen:
        with without_tqdm_warning():
            import pooch

        try:
            chosen = str(pooch.os_cache("cifar-noisy"))
        except RuntimeError:  # no home folder
            chosen = "~"
    return _folder(chosen, CACHE_VARIABLE)


def _mirrors() -> tuple[Folder | Host, ...]:
    entries = (entry.strip() for entry in os.environ.get(MIRRORS_VARIABLE, "").split(","))
    return tuple(_mirror(entry) for entry in entries if entry)


def _mirror(entry: str) -> Folder | Host:
    if is_http_url(entry):
        return Host(f"{entry.rstrip('/')}/{{path}}")
    if "://" in entry:
        raise ConfigurationError(
            f"{MIRRORS_VARIABLE} has {redact_url(entry)}, which is neither a folder nor an http or "
            "https URL: separate entries by commas"
        )
    return Folder(_folder(entry, MIRRORS_VARIABLE))


def _folder(entry: str, variable: str) -> Path:
    try:
        return Path(entry).expanduser().absolute()
    except (RuntimeError, OSError) as error:  # no such user, no home; no current folder
        raise ConfigurationError(
            f"{entry} leads nowhere ({error}): set {variable} to a whole path"
        ) from None


def _is_offline() -> bool:
    value = os.environ.get(OFFLINE_VARIABLE, "").strip().lower()
    if value not in ("", "0", "false", "no", "1", "true", "yes"):
        raise ConfigurationError(f"{OFFLINE_VARIABLE} is {value!r}: set it to 1 or 0")
    return value in ("1", "true", "yes")
