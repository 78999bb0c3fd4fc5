"""The published files as a `pooch.Pooch`, for programs that use pooch already."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pooch

from cifar_noisy.errors import InvalidInputError, UnknownArtifactError
from cifar_noisy.progress_bars import Progress
from cifar_noisy.store import http_get, registry
from cifar_noisy.store.artifact_store import Store, file_problem
from cifar_noisy.store.http_download import CONNECT_SECONDS, READ_SECONDS
from cifar_noisy.store.registry import Artifact

Processor = Callable[[str, str, pooch.Pooch], Any]


def create_pooch() -> "PublishedPooch":
    """Return the published files as a `pooch.Pooch`, with the cache folder as its local storage.

    Files come from the sources of this package under its locks and checks, mirrors and offline mode
    included.

    Returns
    -------
    PublishedPooch
        A `pooch.Pooch` whose registry has every published file and CIFAR-10's image archive.

    Examples
    --------
    >>> import cifar_noisy
    >>> pup = cifar_noisy.create_pooch()
    >>> len(pup.registry_files)
    374
    >>> pup.get_url("images/cifar-10-python.tar.gz")
    'https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz'
    """
    pup = PublishedPooch(Store.from_environment().cache, base_url="")
    pup.load_registry(registry.registry_folder() / "registry.txt")
    return pup


class PublishedPooch(pooch.Pooch):  # type: ignore[misc]  # pooch has no types
    """A `pooch.Pooch` that fetches by this package's `Store`; `create_pooch` makes one."""

    def fetch(
        self,
        fname: str,
        processor: Processor | None = None,
        downloader: Any = None,
        progressbar: Any = False,
    ) -> Any:
        """Return the path of a file in the local storage, fetched and checked, or the processor's.

        A downloader may be a plain `pooch.HTTPDownloader`, of which the progress bar is used. A
        file that no source has raises `UnavailableError`.
        """
        artifact, store = self._artifact(fname), self._store()
        if downloader is not None:
            if type(downloader) is not pooch.HTTPDownloader or downloader.kwargs:
                raise InvalidInputError(
                    f"{downloader} downloads by itself: leave it out, or set CIFAR_NOISY_MIRRORS "
                    "to the address that it knows"
                )
            progressbar = progressbar or downloader.progressbar
        path = store.cache_path(artifact)
        action = "fetch"
        if file_problem(path, artifact) is not None:
            action = "update" if os.path.lexists(path) else "download"
            if action == "update" and not self.allow_updates:
                raise InvalidInputError(f"{path} is damaged, and allow_updates is False: remove it")
            verb = "Updating" if action == "update" else "Downloading"
            said = (verb, fname, http_get.redact_url(self.get_url(fname)), self.abspath)
            pooch.get_logger().info("%s file '%s' from '%s' to '%s'.", *said)
        with _progress(progressbar if action != "fetch" else False, artifact.size) as progress:
            store.fetch([artifact], progress, copy=True)
        return str(path) if processor is None else processor(str(path), action, self)

    def get_url(self, fname: str) -> str:
        """Return the address that is asked first for a file: of a mirror, else a public one."""
        return self._store().urls(self._artifact(fname))[0]

    def is_available(self, fname: str, downloader: object = None) -> bool:
        """Whether a file is on this machine or an address has it, without downloading it."""
        artifact, store = self._artifact(fname), self._store()
        if store.local_path(artifact) is not None:
            return True
        return not store.is_offline and any(map(_has_file, store.urls(artifact)))

    def _store(self) -> Store:
        return dataclasses.replace(Store.from_environment(), cache=Path(self.abspath))

    def _artifact(self, fname: str) -> Artifact:
        self._assert_file_in_registry(fname)
        artifact = registry.by_path().get(fname)
        if artifact is None or self.registry[fname] != artifact.sha256:
            raise UnknownArtifactError(
                f"{fname} was not published with checksum {self.registry[fname]}: use pooch.create "
                "for files of your own"
            )
        return artifact


@contextlib.contextmanager
def _progress(progressbar: Any, size: int) -> Iterator[Progress | None]:
    """Show a bar as pooch does, or move one of the caller's as pooch moves it."""
    if progressbar is True:
        from tqdm.auto import tqdm

        progressbar = tqdm(total=size, ncols=79, unit="B", unit_scale=True)
    elif progressbar is False or progressbar is None:
        yield None
        return
    progressbar.total = size
    try:
        yield progressbar
        progressbar.reset()
        progressbar.update(size)
    finally:
        progressbar.close()


def _has_file(url: str) -> bool:
    try:
        with http_get.get(url, {}, CONNECT_SECONDS, READ_SECONDS) as answer:
            return answer.status == 200
    except http_get.SourceFailedError:
        return False
