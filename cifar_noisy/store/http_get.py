"""One HTTP GET with limits: no answer takes more time or memory than it may, or raises.

requests alone has no such limits. It reads the body of a redirect before it follows it, and its
timeouts hold for single packets, so headers that arrive byte by byte, or ``100 Continue`` again and
again, are waited for without end. Here the body of a redirect is closed unread, and each step has a
deadline: all headers together, and each piece of the body.
"""

import contextlib
import email.utils
import enum
import importlib
import io
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from cifar_noisy.errors import printable
from cifar_noisy.store.files import OUT_OF_FILES

if TYPE_CHECKING:
    import requests

_MAX_REDIRECTS = 10
_NO_ADDRESS = "an address that is none"


Failure = enum.Enum("Failure", "UNREACHABLE REFUSED BUSY CONNECTION_LOST WRONG_BYTES")


class SourceFailedError(Exception):
    """Why an address did not give the file; one that is busy says in how many seconds to retry."""

    def __init__(
        self, cause: str, kind: Failure = Failure.REFUSED, *, retry_after: float = 0
    ) -> None:
        super().__init__(cause)
        self.kind, self.retry_after = kind, retry_after


class Answer:
    """A server's answer, its body not read yet."""

    def __init__(self, response: "requests.Response", deadline: "_Deadline") -> None:
        self._response, self._deadline = response, deadline
        self.status = response.status_code
        self.said = printable(f"{self.status} {response.reason}", 100)
        length = response.headers.get("Content-Length")
        self.length = None if length is None else int(length)
        self.content_range = response.headers.get("Content-Range", "")

    @property
    def retry_after(self) -> float | None:
        """Seconds that the server asks to wait, 1 at least: given as a number or as a date."""
        value = self._response.headers.get("Retry-After", "").strip()
        if value.isdecimal():
            return max(1.0, float(value))
        with contextlib.suppress(Exception):  # the server chose the text: whatever it raises
            return max(1.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
        return None

    def read(self, n: int) -> bytes:
        """Return the next bytes of the body, `n` at most; none at its end."""
        from urllib3.exceptions import ReadTimeoutError

        self._deadline.restart()
        try:
            # Not iter_content, which waits for a full chunk from a host that trickles.
            chunk: bytes = self._response.raw.read1(n, decode_content=False)
        except MemoryError:
            raise
        except ReadTimeoutError:
            raise SourceFailedError(f"sent nothing more for {self._deadline.seconds:g} s") from None
        except Exception:
            raise SourceFailedError("broke off", Failure.CONNECTION_LOST) from None
        return chunk


@contextlib.contextmanager
def get(url: str, headers: dict[str, str], connect: float, read: float) -> Iterator[Answer]:
    """Ask for a URL and follow redirects; its credentials go to its own host only.

    Connecting takes `connect` seconds at most; all headers, and each piece of the body, arrive
    within `read` seconds. Otherwise this, or `Answer.read`, raises `SourceFailedError`.
    """
    import requests

    deadline = _Deadline(read)
    auth: Any = requests.utils.get_auth_from_url(url)
    with requests.Session() as session:
        session.max_redirects = _MAX_REDIRECTS
        session.adapters.clear()
        session.mount("", _adapter(deadline))  # for every scheme: it refuses most
        try:
            # An empty user name is none, for which requests looks into ~/.netrc.
            auth = auth if any(auth) else None
            response = session.get(
                url, headers=headers, auth=auth, timeout=(connect, read), stream=True
            )
        except requests.TooManyRedirects:
            raise SourceFailedError("redirects too often") from None
        except ValueError:
            raise SourceFailedError(f"leads to {_NO_ADDRESS}") from None
        with response:
            yield Answer(response, deadline)


def import_client() -> None:
    """Import what a request needs, for threads to start after that.

    An import that fails in one of them, for want of memory or open files, breaks the others.
    """
    for name in ("encodings.idna", "netrc", "filelock", "requests"):
        importlib.import_module(name)


def is_http_url(text: str) -> bool:
    """Whether a text is an http or https URL with a host and, if any, a port that can exist."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def redact_url(url: str) -> str:
    """Return a URL without the credentials that it may carry in its user name or query."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # no number where an unquoted password has cut the address short
    except ValueError:
        return _NO_ADDRESS
    shown = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="")
    return printable(urlunsplit(shown), 400)


class _Deadline:
    """When the step that is waited for must be done."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.restart()

    def restart(self) -> None:
        self._at = time.monotonic() + self.seconds

    def left(self) -> float:
        left = self._at - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left


def _adapter(deadline: _Deadline) -> "requests.adapters.HTTPAdapter":
    """Return what sends each request of a chain of redirects, and reads until the deadline."""
    import http.client

    import requests

    class DeadlineResponse(http.client.HTTPResponse):
        def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
            super().__init__(sock, *args, **kwargs)
            raw: Any = self.fp.detach()
            receive = raw.readinto

            def receive_in_time(buffer: Any) -> int | None:
                sock.settimeout(deadline.left())
                n_bytes: int | None = receive(buffer)
                return n_bytes

            raw.readinto = receive_in_time
            self.fp = io.BufferedReader(raw)

        def begin(self) -> None:
            super().begin()
            # What is no header urllib3 logs with a traceback, or refuses; the checksum decides.
            self.msg.defects.clear()
            self.msg.set_payload("")
            lengths = ", ".join(self.msg.get_all("Content-Length", []))
            if not re.fullmatch(r"[0-9]{1,15}", lengths):
                del self.msg["Content-Length"]

    class DeadlineAdapter(requests.adapters.HTTPAdapter):
        schemes: tuple[str, ...] = ("http", "https")

        def send(
            self, request: requests.PreparedRequest, *args: Any, **options: Any
        ) -> requests.Response:
            url = request.url or ""
            parts = urlsplit(url)
            if parts.scheme not in self.schemes:
                allowed, shown = " or ".join(self.schemes), printable(redact_url(url), 200)
                raise SourceFailedError(f"leads to {shown}, which is not {allowed}")
            _ = parts.port  # a ValueError where it is none
            self.schemes = ("https",) if parts.scheme == "https" else self.schemes
            # This address's own proxy, not that of the one before; and no host gets its password.
            options["proxies"] = requests.utils.get_environ_proxies(url)
            proxy = requests.utils.select_proxy(url, options["proxies"])
            request.headers.pop("Proxy-Authorization", None)
            try:
                response = super().send(request, *args, **options)
            except Exception as error:
                raise _failure(error, deadline.seconds, proxy) from None
            if proxy and response.status_code == 407:
                response.close()
                raise _proxy_failure(proxy, printable(f"answered 407 {response.reason}", 100))
            if response.is_redirect:
                response.close()  # or requests reads its body
            return response

        def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
            pool: Any = super().get_connection_with_tls_context(*args, **options)
            names = {"response_class": DeadlineResponse}
            pool.ConnectionCls = type("DeadlineConnection", (pool.ConnectionCls,), names)
            return pool

    return DeadlineAdapter()


def _failure(error: Exception, seconds: float, proxy: str | None) -> Exception:
    """Say in a few words what requests and urllib3 say in many; theirs may quote passwords.

    No memory and too many open files are no failures of the host, and are returned as they are.
    """
    import http.client
    import ssl

    import requests
    import urllib3.exceptions

    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, MemoryError) or getattr(cause, "errno", None) in OUT_OF_FILES:
            return cause
    said = type(error).__name__
    if not isinstance(error, requests.RequestException | urllib3.exceptions.HTTPError):
        said = printable(f"{said}: {error}", 200)
    texts = {
        requests.ReadTimeout: f"sent no answer within {seconds:g} s",
        urllib3.exceptions.NameResolutionError: "has a name that cannot be resolved",
        ConnectionRefusedError: "refuses connections",
        ssl.SSLCertVerificationError: "has a certificate that cannot be trusted "
        "(REQUESTS_CA_BUNDLE names those to trust)",
        ssl.SSLError: "does not speak TLS as it should",
        TimeoutError: "did not answer in time",
        ConnectionError: "cannot be reached",
        http.client.HTTPException: "answered something that is not HTTP",
        requests.ConnectionError: "cannot be reached",
        Exception: f"failed ({said})",
    }
    found = next(kind for kind in texts if any(isinstance(cause, kind) for cause in causes))
    if found is urllib3.exceptions.NameResolutionError:
        _check_open_files()
    text = texts[found]
    if proxy is None:
        return SourceFailedError(text, Failure.UNREACHABLE)
    if tunnel := re.search(r"Tunnel connection failed: ([^']*)", str(error)):
        return _proxy_failure(proxy, f"answered {printable(tunnel[1], 100)}")
    if isinstance(error, requests.exceptions.ProxyError):
        return _proxy_failure(proxy, text)
    if any(isinstance(cause, urllib3.exceptions.NewConnectionError) for cause in causes):  # SOCKS
        return _proxy_failure(proxy, "cannot be reached, or cannot reach the host")
    if isinstance(error, ValueError):
        is_socks = isinstance(error, requests.exceptions.InvalidSchema)
        needs = "needs pip install 'requests[socks]'" if is_socks else "is no URL of a proxy"
        return _proxy_failure(proxy, needs)
    text += f" (through the proxy {_shown_proxy(proxy)})"
    return SourceFailedError(text, Failure.UNREACHABLE)


def _check_open_files() -> None:
    """Raise `OSError` where too few files can be opened: the system says "no such name" then."""
    with contextlib.ExitStack() as opened:
        for _ in range(8):
            opened.enter_context(Path(os.devnull).open("rb"))


def _causes(error: Exception) -> Iterator[Exception]:
    """Yield an error of requests and all errors that it wraps."""
    yield error
    for inner in (*error.args, getattr(error, "reason", None), error.__cause__):
        if isinstance(inner, Exception):
            yield from _causes(inner)


def _proxy_failure(proxy: str, cause: str) -> SourceFailedError:
    return SourceFailedError(
        f"is asked for through the proxy {_shown_proxy(proxy)}, which {cause}: correct HTTP_PROXY, "
        "HTTPS_PROXY or ALL_PROXY (http://user:password@host:port), or name the host in NO_PROXY",
        Failure.UNREACHABLE,
    )


def _shown_proxy(proxy: str) -> str:
    return redact_url(proxy if "://" in proxy else f"http://{proxy}")
