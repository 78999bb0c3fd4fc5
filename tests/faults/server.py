"""A web server on loopback that answers with the fault it is told to, and counts."""

import contextlib
import re
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

_CHUNK = 1 << 16


@dataclass(frozen=True)
class Answer:
    """How a request is answered; by default as it should be."""

    status: int = 200
    body: bytes | None = None  # in the place of the file's bytes
    headers: dict[str, str] = field(default_factory=dict)
    only: str | None = None  # the one path that is answered so, the others rightly
    times: int | None = None  # requests of each URL that are answered so, the others rightly
    seconds_before: float = 0  # until the first byte of the answer
    cut_at: int | None = None  # bytes of the body until the connection is reset
    stall_at: int | None = None  # bytes of the body until nothing more is sent
    bytes_per_second: float | None = None
    heeds_range: bool = True
    says_length: bool = True
    flips_bit: bool = False
    raw: bytes | None = None  # all that is sent, headers included
    then_forever: bytes = b""  # after it, until the client goes away
    seconds_between: float = 0  # those


class FaultServer(ThreadingHTTPServer):
    """Serves a folder. `asked` counts requests by path, `sent` the bytes of all bodies."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, folder: Path, answer: Answer | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.answer = answer or Answer()
        self.asked: Counter[str] = Counter()
        self.ranges: list[str] = []
        self.authorizations: list[str] = []
        self.sent = 0
        self.has_stalled = threading.Event()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where the folder's root is served."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients that hang up are what this is for."""


class _Handler(BaseHTTPRequestHandler):
    server: FaultServer

    def do_GET(self) -> None:
        path = unquote(self.path).lstrip("/")
        with self.server.lock:
            self.server.asked[path] += 1
            answer = self.server.answer
            if answer.times is not None and self.server.asked[path] > answer.times:
                answer = Answer()
            if answer.only not in (None, path):
                answer = Answer()
            if "Authorization" in self.headers:
                self.server.authorizations.append(self.headers["Authorization"])
        time.sleep(answer.seconds_before)
        if answer.raw is not None:
            self._send_raw(answer)
            return
        file = self.server.folder / path
        content = answer.body if answer.body is not None else _content(file, answer)
        status = 404 if content is None and answer.status == 200 else answer.status
        content, start = content or b"", 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and status == 200:
            self.server.ranges.append(asked[0])
            if answer.heeds_range:
                start = int(asked[1])
                status = 206 if start < len(content) else 416
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if answer.says_length:
            self.send_header("Content-Length", str(len(content) - start if status != 416 else 0))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if status in (200, 206):
            with contextlib.suppress(OSError):
                self._send(content, start, answer)

    def _send_raw(self, answer: Answer) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.wfile.write(answer.raw or b"")
            while answer.then_forever:
                self.wfile.write(answer.then_forever)
                with self.server.lock:
                    self.server.sent += len(answer.then_forever)
                time.sleep(answer.seconds_between)

    def _send(self, content: bytes, start: int, answer: Answer) -> None:
        ends = [len(content), *(n for n in (answer.cut_at, answer.stall_at) if n is not None)]
        end = max(start, min(ends))
        pace = answer.bytes_per_second
        step = _CHUNK if pace is None else max(1, int(pace / 20))
        for position in range(start, end, step):
            chunk = content[position : min(position + step, end)]
            self.wfile.write(chunk)
            with self.server.lock:
                self.server.sent += len(chunk)
            if pace is not None:
                time.sleep(len(chunk) / pace)
        if end == answer.stall_at:
            self.server.has_stalled.set()
            time.sleep(60)
        if end == answer.cut_at:
            # A reset, not an end: what the client has not read yet is lost too.
            time.sleep(0.05)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _content(file: Path, answer: Answer) -> bytes | None:
    if not file.is_file():
        return None
    content = file.read_bytes()
    return content[:-1] + bytes([content[-1] ^ 1]) if answer.flips_bit else content


@contextlib.contextmanager
def serving(folder: Path, answer: Answer | None = None) -> Iterator[FaultServer]:
    """Serve a folder for the length of a with block."""
    with FaultServer(folder, answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()


def main() -> None:
    """Serve ``sys.argv[1]``, each answer ``sys.argv[2]`` seconds late, until killed."""
    with serving(Path(sys.argv[1]), Answer(seconds_before=float(sys.argv[2]))) as server:
        print(server.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
