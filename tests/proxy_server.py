"""A proxy on loopback that answers every request, ``CONNECT`` too, with the same bytes."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator


@contextlib.contextmanager
def proxy(answer: bytes, then_forever: bytes = b"") -> Iterator[str]:
    """Run it for the length of a with block; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def talk(client: socket.socket) -> None:
            with contextlib.suppress(OSError), client:
                client.recv(1 << 16)
                client.sendall(answer)
                while then_forever:
                    client.sendall(then_forever)
                    time.sleep(0.05)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(
                        target=talk, args=(listening.accept()[0],), daemon=True
                    ).start()

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
