"""Bundles: published files as one plain tar, for clusters without a network.

A bundle has the cache's own layout, and a ``SHA256SUMS`` that ``sha256sum -c`` reads, so that a
person can check and unpack it by hand. ``LICENCES`` says on what terms files of other repositories
are had, where there are any. The same files give the same bytes.

What an import trusts is the registry alone: a member must be one of its paths, of its size and
checksum, and a plain file, and all must be there that ``SHA256SUMS`` lists. Everything else,
compressed and sparse members and endless headers included, is refused before anything is written.
"""

import hashlib
import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from cifar_noisy.errors import BundleError, StorageError
from cifar_noisy.progress_bars import Progress
from cifar_noisy.store import registry
from cifar_noisy.store.artifact_store import Store, file_problem
from cifar_noisy.store.files import atomic_file, open_regular, output_file, reason, storage_errors
from cifar_noisy.store.registry import Artifact
from cifar_noisy.store.tars import PLAIN_FILE, read_members

SUMS, LICENCES = "SHA256SUMS", "LICENCES"
_MODE, _MTIME = 0o644, 1_609_459_200  # the same in every bundle; 2021, for tar warns of 1970
_MAX_TEXT_SIZE = 1 << 20


def export_bundle(
    store: Store,
    file: Path,
    artifacts: Sequence[Artifact],
    *,
    images: bool = False,
    progress: Progress | None = None,
) -> tuple[str, ...]:
    """Write a tar of artifacts in any order, with `images` of CIFAR-10's image archive too.

    Those not on this machine are fetched first. Return the paths in the bundle. If one of the files
    cannot be had (`UnavailableError`) or the tar cannot be written (`StorageError`), nothing of it
    is left.
    """
    archive = registry.artifacts(kind="images") if images else ()
    wanted = sorted({*artifacts, *archive}, key=lambda artifact: artifact.path)
    store.fetch(wanted, progress)
    sums = "".join(f"{artifact.sha256}  {artifact.path}\n" for artifact in wanted).encode()
    with (
        storage_errors(file, "make room, or name another file"),
        output_file(file) as out,
        # As a stream: a pipe has no position.
        tarfile.open(fileobj=out, mode="w|", format=tarfile.USTAR_FORMAT) as tar,
    ):
        tar.addfile(_header(SUMS, len(sums)), io.BytesIO(sums))
        licences = _licences(wanted)
        if licences:
            tar.addfile(_header(LICENCES, len(licences)), io.BytesIO(licences))
        for artifact in wanted:
            content = io.BytesIO(store.read(artifact))
            tar.addfile(_header(artifact.path, artifact.size), content)
    return tuple(artifact.path for artifact in wanted)


def import_bundle(store: Store, file: Path, progress: Progress | None = None) -> tuple[str, ...]:
    """Put the files of a bundle into the cache, all checked before the first is written.

    Files that the cache has already are left as they are. Return the paths in the bundle. Raises
    `BundleError` before anything is written if it is no bundle, or has anything in it that the
    registry does not; `StorageError` if the cache cannot be written. Files that were copied before
    that stay.
    """
    try:
        with open_regular(file) as tar:
            for member, chunks in _members(tar):
                _check(member, chunks)
            paths = []
            for member, chunks in _members(tar):
                paths.append(member.path)
                _put(member, chunks, store)
                if progress is not None:
                    progress.update(member.size)
    except StorageError:
        raise
    except tarfile.ReadError as error:
        raise BundleError(
            f"{file} cannot be imported, since {error}: nothing more of it is imported; make it "
            "with cifar-noisy cache export"
        ) from error
    except OSError as error:
        raise BundleError(f"{file} cannot be read ({reason(error)}): name another file") from error
    return tuple(paths)


def _licences(artifacts: Sequence[Artifact]) -> bytes:
    """Return a line for each other repository that files are from."""
    others = (artifact for artifact in artifacts if artifact.repository_path != artifact.path)
    lines = {f"{a.repository} {a.revision}: {a.licence}\n" for a in others if a.revision}
    return "".join(sorted(lines)).encode()


def _header(path: str, size: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(path)
    header.size, header.mode, header.mtime = size, _MODE, _MTIME
    return header


def _members(tar: io.BufferedIOBase) -> Iterator[tuple[Artifact, Iterator[bytes]]]:
    """Yield each registered member and its bytes, to be read before the next; refuse any other."""
    registered, seen, sums = registry.by_path(), set[str](), ""
    tar.seek(0)
    for header, chunks in read_members(tar):
        name = header.name
        if header.type not in PLAIN_FILE:
            raise tarfile.ReadError(f"{name!r} in it is no plain file")
        if name in seen:
            raise tarfile.ReadError(f"{name!r} is in it twice")
        seen.add(name)
        if name in (SUMS, LICENCES) and header.size <= _MAX_TEXT_SIZE:
            content = b"".join(chunks).decode(errors="replace")
            sums = content if name == SUMS else sums
            continue
        if name not in registered:
            raise tarfile.ReadError(f"{name!r} in it is not in the registry")
        if header.size != registered[name].size:
            raise tarfile.ReadError(
                f"{name} in it has {header.size:,} bytes, where the published file has "
                f"{registered[name].size:,}"
            )
        yield registered[name], chunks
    missing = {line.partition("  ")[2] for line in sums.splitlines()} - seen
    if missing:
        raise tarfile.ReadError(f"it lacks {min(missing)[:200]!r}, which its {SUMS} lists")
    if not seen - {SUMS, LICENCES}:
        raise tarfile.ReadError("it has no published file in it")


def _check(member: Artifact, chunks: Iterator[bytes]) -> None:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    if digest.hexdigest() != member.sha256:
        raise tarfile.ReadError(
            f"{member.path} in it has sha256 {digest.hexdigest()[:12]}…, where the published file "
            f"has {member.sha256[:12]}…"
        )


def _put(member: Artifact, chunks: Iterator[bytes], store: Store) -> None:
    """Write a member to its place in the cache unless it is there already."""
    target = store.cache / member.path
    with storage_errors(target, "make room, or set CIFAR_NOISY_CACHE to another folder"):
        if file_problem(target, member) is None:
            return
        store.make_cache()
        with atomic_file(target) as out:
            # Checked again on the way: the bundle may have changed since it was checked.
            _check(member, _copied(chunks, out))


def _copied(chunks: Iterator[bytes], out: IO[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        out.write(chunk)
        yield chunk
