"""An artifact's bytes on this machine: from the cache, a mirror or the web, and never a wrong byte.

Every read hashes what it returns, so what the registry does not pin cannot reach an array. Sources
are asked in this order, and each failure moves on to the next:

1. the cache folder (``CIFAR_NOISY_CACHE``, else pooch's usual place), laid out like upstream;
2. the mirrors of ``CIFAR_NOISY_MIRRORS``, folders or URLs separated by commas; a folder is read in
   place, and copied only where that is asked for;
3. the public hosts: GitHub at the pinned revision, jsDelivr, and Software Heritage, which finds a
   file by its sha256 alone.

``CIFAR_NOISY_OFFLINE=1`` opens no socket: the cache and mirror folders remain.

A cache that has a file is only read. Fetching one takes turns with other processes (`locks`), has
it in memory until its checksum is right (the largest is 3.4 MB; `transfer`), and puts it in its
place by a rename (`files`). So whatever is killed, full or slow, a file is absent or right.
"""

import contextlib
import hashlib
import io
import itertools
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from cifar_noisy.errors import ConfigurationError, CorruptFileWarning, UnavailableError
from cifar_noisy.store.files import open_regular, reason, storage_errors, write_atomically
from cifar_noisy.store.http_download import Batch, Progress, fill, in_parallel, readable_size
from cifar_noisy.store.http_get import is_http_url, shown_url
from cifar_noisy.store.locks import locked
from cifar_noisy.store.registry import REPOSITORY, REVISION, Artifact

CACHE_VARIABLE = "CIFAR_NOISY_CACHE"
MIRRORS_VARIABLE = "CIFAR_NOISY_MIRRORS"
OFFLINE_VARIABLE = "CIFAR_NOISY_OFFLINE"

_TAG = "CACHEDIR.TAG"
_TAG_CONTENT = b"""Signature: 8a477f597d28d172789f06886806bc55
# This folder is a cache of cifar-noisy: backups need not keep it.
# https://bford.info/cachedir/
"""


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
    """

    pattern: str

    def __repr__(self) -> str:
        """Show no credentials."""
        return f"Host({shown_url(self.pattern)!r})"

    def url(self, artifact: Artifact) -> str:
        """Return the artifact's address on this host."""
        return self.pattern.replace("{path}", quote(artifact.path)).replace(
            "{sha256}", artifact.sha256
        )


PUBLIC_HOSTS = (
    Host(f"https://raw.githubusercontent.com/{REPOSITORY}/{REVISION}/{{path}}"),
    Host(f"https://cdn.jsdelivr.net/gh/{REPOSITORY}@{REVISION}/{{path}}"),
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
        Asked in order, before the public hosts.
    is_offline : bool
        True where no socket may be opened.
    public_hosts : tuple of Host
        Asked last.

    Examples
    --------
    >>> from cifar_noisy.store.registry import artifacts
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
        return self._obtain(artifact, Batch(progress))[1]

    def path(self, artifact: Artifact, progress: Progress | None = None) -> Path:
        """Return a file on this machine that holds the artifact, its bytes just checked."""
        return self._obtain(artifact, Batch(progress))[0]

    def fetch(
        self,
        artifacts: Sequence[Artifact],
        progress: Progress | None = None,
        *,
        copy: bool = False,
    ) -> list[Path]:
        """Bring many artifacts to this machine in parallel; return their checked files in order.

        With `copy`, all of them into the cache, those too that a mirror folder has.

        Raises
        ------
        UnavailableError
            If no source has the right bytes of some; names the first, and how many and how large
            they are together. The others stay in the cache.
        StorageError
            If the cache folder cannot be used.
        """
        found = self.gather(artifacts, progress, copy=copy)
        error = next((e for e in found.values() if isinstance(e, UnavailableError)), None)
        if error is not None:
            raise error
        return [path for path in found.values() if isinstance(path, Path)]

    def fetch_absent(self, artifacts: Sequence[Artifact]) -> None:
        """Fetch those of many artifacts that are not on this machine, before any is read.

        So what is missing is fetched in parallel, and said at once.
        """
        self.fetch([artifact for artifact in artifacts if self.local_path(artifact) is None])

    def gather(
        self,
        artifacts: Sequence[Artifact],
        progress: Progress | None = None,
        *,
        copy: bool = False,
    ) -> dict[Artifact, "Path | UnavailableError"]:
        """Bring to this machine what can be had of many artifacts, in parallel.

        Returns
        -------
        dict
            By artifact, in order: its checked file, or the error that names all that are missing.
        """
        batch = Batch(progress)

        def outcome(artifact: Artifact) -> Path | UnavailableError:
            try:
                path, content = self._obtain(artifact, batch)
            except UnavailableError as error:
                return error
            if copy and path != self.cache_path(artifact):
                path = self.cache_path(artifact)
                with self._writing():
                    write_atomically(path, content)
            return path

        found = dict(zip(artifacts, in_parallel(outcome, artifacts, batch), strict=True))
        errors = {a: error for a, error in found.items() if isinstance(error, UnavailableError)}
        if errors:
            together = self._unavailable(list(errors), next(iter(errors.values())).causes)
            found |= dict.fromkeys(errors, together)
        return found

    def _local_paths(self, artifact: Artifact) -> Iterator[Path]:
        yield self.cache_path(artifact)
        for mirror in self.mirrors:
            if isinstance(mirror, Folder):
                yield mirror.path / artifact.path

    def _obtain(self, artifact: Artifact, batch: Batch) -> tuple[Path, bytearray]:
        """Return the artifact's file on this machine and its checked bytes."""
        causes: list[str] = []
        sources = (Folder(self.cache), *self.mirrors, *self.public_hosts)
        # Neighbouring hosts are asked together: what one began, the next may finish.
        for _, group in itertools.groupby(sources, type):
            neighbours = list(group)
            hosts = [source for source in neighbours if isinstance(source, Host)]
            for folder in (source for source in neighbours if isinstance(source, Folder)):
                try:
                    return _read_folder(folder, artifact, batch)
                except _SourceError as refusal:
                    causes.append(str(refusal))
            if hosts and not self.is_offline:
                try:
                    return self.cache_path(artifact), self._download(artifact, hosts, batch)
                except UnavailableError as error:
                    causes += error.causes
        if self.is_offline:
            causes.append("the web was not asked, since this store is offline")
        raise self._unavailable([artifact], tuple(causes))

    def _download(self, artifact: Artifact, hosts: Sequence[Host], batch: Batch) -> bytearray:
        """Fetch a file into the cache unless another process does at the same time."""
        target = self.cache_path(artifact)
        with self._writing(), locked(target, batch.lock_timeout):
            # Another process may have fetched it while this one waited its turn.
            with contextlib.suppress(_SourceError):
                content = _read_in_place(target, artifact)
                batch.count(artifact.size)
                return content
            content = _transfer(artifact, hosts, batch)
            write_atomically(target, content)
            return content

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Make the cache folder, and say so where it cannot be written."""
        remedy = (
            f"make room, or set {CACHE_VARIABLE} to a folder of yours (and name this one in "
            f"{MIRRORS_VARIABLE}, which reads it in place)"
        )
        with storage_errors(f"the cache folder {self.cache}", remedy):
            self.make_cache()
            yield

    def make_cache(self) -> None:
        """Make the cache folder; mark it for backups to skip, unless it has other files."""
        self.cache.mkdir(parents=True, exist_ok=True)
        if not any(self.cache.iterdir()):
            write_atomically(self.cache / _TAG, _TAG_CONTENT)

    def _unavailable(
        self, missing: Sequence[Artifact], causes: tuple[str, ...]
    ) -> UnavailableError:
        """Return the error that says what is missing, the two ways to mend it, and why.

        `causes` are those of the first missing file.
        """
        first, size = missing[0], readable_size(sum(artifact.size for artifact in missing))
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


def is_there(path: Path) -> bool:
    """Return whether a file is there for this user; a folder that is closed to him has none."""
    try:
        return path.is_file()
    except OSError:
        return False


class _SourceError(Exception):
    """Why a file on this machine is not used."""

    def __init__(self, cause: str, *, is_corrupt: bool = False) -> None:
        super().__init__(cause)
        self.is_corrupt = is_corrupt


def _transfer(artifact: Artifact, hosts: Sequence[Host], batch: Batch) -> bytearray:
    file = io.BytesIO()
    try:
        fill(
            file,
            [host.url(artifact) for host in hosts],
            lambda complete: _complaint(complete.read(), artifact),
            artifact.size,
            batch,
        )
    except UnavailableError:
        batch.count(-len(file.getbuffer()))
        raise
    return bytearray(file.getbuffer())


def _read_folder(folder: Folder, artifact: Artifact, batch: Batch) -> tuple[Path, bytearray]:
    path = folder.path / artifact.path
    try:
        content = _read_in_place(path, artifact)
    except _SourceError as refusal:
        if refusal.is_corrupt:
            warnings.warn(f"{refusal}: not used", CorruptFileWarning, stacklevel=4)
        raise
    batch.count(artifact.size)
    return path, content


def _read_in_place(path: Path, artifact: Artifact) -> bytearray:
    content = bytearray(artifact.size)
    try:
        with open_regular(path) as file:
            del content[file.readinto(content) :]
            content += file.read(1)  # enough to see that a file is too long
    except FileNotFoundError:
        raise _SourceError(f"{path} does not exist") from None
    except OSError as error:
        raise _SourceError(f"{path} cannot be read ({reason(error)})") from None
    complaint = _complaint(content, artifact)
    if complaint:
        raise _SourceError(f"{path} {complaint}", is_corrupt=True)
    return content


def _complaint(content: bytes | bytearray, artifact: Artifact) -> str | None:
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
    if not chosen:
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
            f"{MIRRORS_VARIABLE} has {shown_url(entry)}, which is neither a folder nor an http or "
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
    if value in ("", "0", "false", "no"):
        return False
    if value in ("1", "true", "yes"):
        return True
    raise ConfigurationError(f"{OFFLINE_VARIABLE} is {value!r}: set it to 1 or 0")
