"""Download of CIFAR-10's official archive, or of upstream's PNG archives."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote

from cifar_noisy.errors import UnavailableError
from cifar_noisy.images.readers import (
    ARCHIVE,
    PNG_FOLDER,
    REGISTERED_ARCHIVE,
    OfficialArchive,
    PngArchives,
    Release,
)
from cifar_noisy.store.artifact_store import OFFLINE_VARIABLE, Host, Store
from cifar_noisy.store.http_download import download as download_file
from cifar_noisy.store.registry import REPOSITORY, REVISION

if TYPE_CHECKING:
    from cifar_noisy.progress_bars import Progress

ARCHIVE_URLS = REGISTERED_ARCHIVE.urls
"""The official host, and public copies that are byte-identical."""

PNG_URLS = (
    f"https://raw.githubusercontent.com/{REPOSITORY}/{REVISION}/{PNG_FOLDER}/{{name}}",
    "https://archive.softwareheritage.org/api/1/content/sha1_git:{blob}/raw/",
)
"""Where upstream's PNG archives are."""


def download_archive(
    store: Store, release: Release, folder: Path, progress: Progress | None
) -> OfficialArchive | PngArchives:
    """Download the official archive, or upstream's PNG archives where no host has that."""
    if store.is_offline:
        raise UnavailableError(
            f"CIFAR-10's images are not on this machine and {OFFLINE_VARIABLE} is set: on a "
            f"machine with a network download {ARCHIVE_URLS[0]} (sha256 {release.archive_sha256}) "
            f"and put it at {folder / ARCHIVE}"
        )
    hosts = [mirror for mirror in store.mirrors if isinstance(mirror, Host)]

    def fetch(path: str, urls: Iterable[str], size: int | None = None) -> None:
        mirrors = (host.pattern.replace("{path}", quote(path)) for host in hosts)
        target = folder / PurePosixPath(path).name
        check = functools.partial(release.problem_of, name=target.name)
        download_file([*mirrors, *urls], target, check, progress, size=size)

    try:
        fetch(ARCHIVE, ARCHIVE_URLS, release.archive_size)
        return OfficialArchive(folder / ARCHIVE, release)
    except UnavailableError as no_archive:
        try:
            for name, blob in release.png_blobs.items():
                urls = (url.format(name=name, blob=blob) for url in PNG_URLS)
                fetch(f"{PNG_FOLDER}/{name}", urls)
            return PngArchives(folder, release)
        except UnavailableError as no_pngs:
            raise UnavailableError(
                f"{no_archive.message}, nor could upstream's PNG archives: try again, which "
                f"continues where this stopped, or put the file of sha256 {release.archive_sha256} "
                f"at {folder / ARCHIVE}",
                (*no_archive.causes, *no_pngs.causes),
            ) from None
