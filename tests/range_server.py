"""A web server on loopback that continues downloads, and breaks them off where it is told to."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Behaviour:
    """How a path is answered.

    Attributes
    ----------
    content : bytes
    cut_after : list of int
        Bytes after which each answer in turn breaks off; the later ones are whole.
    knows_ranges : bool
        Whether it sends the rest when asked for it, or all again.
    says_range : str or None
        What the answer to a Range says that it is, for the true range.
    status_of_rest : int
        Of the answer to a Range.
    """

    content: bytes
    cut_after: list[int] = field(default_factory=list)
    knows_ranges: bool = True
    says_range: str | None = None
    status_of_rest: int = 206


class RangeServer(ThreadingHTTPServer):
    """Answers by path; `asked` records path and Range header of each request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, Behaviour] = {}
        self.asked: list[tuple[str, str | None]] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class _Handler(BaseHTTPRequestHandler):
    server: RangeServer

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        file = self.server.files.get(self.path)
        if file is None:
            self.send_error(404)
            return
        start = 0
        if wanted and file.knows_ranges:
            match = re.fullmatch(r"bytes=(\d+)-", wanted)
            assert match
            start = int(match[1])
            if start >= len(file.content) or file.status_of_rest == 416:
                self.send_error(416)
                return
            self.send_response(206)
            true_range = f"bytes {start}-{len(file.content) - 1}/*"
            self.send_header("Content-Range", file.says_range or true_range)
        else:
            self.send_response(200)
        body = file.content[start:]
        self.send_header("Content-Length", str(len(body)))
        # Some hosts call a tar.gz a compressed transfer of a tar.
        self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(body[: file.cut_after.pop(0)] if file.cut_after else body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving_ranges() -> Iterator[RangeServer]:
    """Run a server for the length of a with block."""
    with RangeServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
