"""A web server on loopback that has the published files, in the URL shapes of every host."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

from cifar_noisy.store.artifact_store import PUBLIC_HOSTS, Host
from cifar_noisy.store.registry import REPOSITORY, all_artifacts


class FileServer(ThreadingHTTPServer):
    """Serves a folder; `answers` overrides single URLs, `asked` records what was requested."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.answers: dict[str, bytes | int] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        """Where the folder's root is served, as a mirror would be."""
        return f"http://127.0.0.1:{self.server_port}/mirror"

    def public_hosts(self) -> tuple[Host, ...]:
        """Return the public hosts with their addresses led to this server."""
        here = f"http://127.0.0.1:{self.server_port}/"
        return tuple(Host(host.pattern.replace("https://", here)) for host in PUBLIC_HOSTS)

    def answer(self, url: str) -> bytes | int:
        """Return the body, or a status without one."""
        self.asked.append(url)
        if url in self.answers:
            return self.answers[url]
        path = self._path(url)
        file = self.folder / (path or "")
        return file.read_bytes() if file.is_file() else 404

    def _path(self, url: str) -> str | None:
        if url.startswith("/mirror/"):
            return unquote(url.removeprefix("/mirror/"))
        hosted = re.fullmatch(
            r"/(?:raw\.githubusercontent\.com/([\w.-]+/[\w.-]+)/([0-9a-f]{40})"
            r"|cdn\.jsdelivr\.net/gh/([\w.-]+/[\w.-]+)@([0-9a-f]{40}))/(.+)",
            url,
        )
        if hosted:
            repository, revision, path = hosted[1] or hosted[3], hosted[2] or hosted[4], hosted[5]
            # Other repositories' files lie under their owner and name.
            folder = "" if repository == REPOSITORY else f"{repository}/"
            pinned = {
                a.revision for a in all_artifacts() if a.repository.endswith(f"/{repository}")
            }
            return f"{folder}{unquote(path)}" if pinned == {revision} else None
        archived = re.fullmatch(
            r"/archive\.softwareheritage\.org/api/1/content/sha256:([0-9a-f]{64})/raw/", url
        )
        by_digest = {artifact.sha256: artifact.path for artifact in all_artifacts()}
        return by_digest.get(archived[1]) if archived else None


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        answer = self.server.answer(self.path)
        body = answer if isinstance(answer, bytes) else b""
        self.send_response(200 if isinstance(answer, bytes) else answer)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815, the name that http.server calls

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(folder: Path) -> Iterator[FileServer]:
    """Serve a folder for the length of a with block."""
    with FileServer(folder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
