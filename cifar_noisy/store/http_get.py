"""One HTTP GET with bounds: no answer takes more time or memory than it is allowed, or raises.

requests alone has no such bounds. It reads the body of a redirect, decompressed, before it follows
it; and its timeouts hold for single packets, so dripping headers, or ``100 Continue`` again and
again, are waited for without end. Here redirects are followed by their headers alone, and each step
has a deadline: all headers together, and each piece of the body.
"""

import contextlib
import io
import re
import time
import types
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit, urlunsplit

if TYPE_CHECKING:
    import socket

    import requests

_MAX_REDIRECTS = 10


class RefusalError(Exception):
    """Why an address did not give what it was asked for."""

    def __init__(
        self,
        cause: str,
        *,
        is_unreachable: bool = False,
        has_broken_off: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(cause)
        self.is_unreachable = is_unreachable
        self.has_broken_off = has_broken_off
        self.retry_after = retry_after


class Answer:
    """A server's answer, its body not read yet.

    Attributes
    ----------
    status : int
    said : str
        Status and reason, for a message.
    length : int or None
        Bytes of the body, where the server says so.
    content_range : str
        Which bytes of the file the body is.
    """

    def __init__(self, response: "requests.Response", deadline: "_Deadline") -> None:
        self._response, self._deadline = response, deadline
        self.status = response.status_code
        self.said = printable(f"{self.status} {response.reason}")
        length = response.headers.get("Content-Length")
        self.length = None if length is None else int(length)
        self.content_range = printable(response.headers.get("Content-Range", ""))

    @property
    def retry_after(self) -> float | None:
        """Seconds that the server asks to wait: given as a number or as a date."""
        value = self._response.headers.get("Retry-After", "").strip()
        if value.isdecimal():
            return max(1.0, float(value))
        import email.utils

        with contextlib.suppress(Exception):  # a date of somebody else's: whatever it raises
            return max(1.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
        return None

    def read(self, n: int) -> bytes:
        """Return the next bytes of the body, `n` at most; none at its end."""
        self._deadline.restart()
        try:
            # Not iter_content, which waits for a full chunk from a host that trickles.
            chunk: bytes = self._response.raw.read1(n, decode_content=False)
        except Exception as error:
            raise _refusal(error, self._deadline.seconds) from None
        return chunk


@contextlib.contextmanager
def get(url: str, headers: dict[str, str], connect: float, read: float) -> Iterator[Answer]:
    """Ask for a URL and follow where it leads.

    Parameters
    ----------
    url : str
        Its credentials go to its own host only.
    headers : dict of str
    connect : float
        Seconds until there is a connection to an address.
    read : float
        Seconds until all headers have arrived, and until each piece of the body has.

    Raises
    ------
    RefusalError
        If there is no answer; raised by `Answer.read` where the body does not arrive.
    """
    import requests

    deadline = _Deadline(read)
    adapter = _adapter(deadline)
    auth: Any = requests.utils.get_auth_from_url(url)
    with requests.Session() as session:
        for _ in range(_MAX_REDIRECTS):
            # An empty user name is none, for which requests looks into ~/.netrc.
            request = requests.Request("GET", url, headers, auth=auth if any(auth) else None)
            with _sent(request, session, adapter, (connect, read)) as response:
                goal = _goal(response, session)
                if goal is None:
                    yield Answer(response, deadline)
                    return
            if session.should_strip_auth(url, goal):  # type: ignore[no-untyped-call]
                auth = ()
            url = goal
    raise RefusalError("redirects too often")


def shown_url(url: str) -> str:
    """Return a URL without the credentials that it may carry in its user name or query.

    Examples
    --------
    >>> shown_url("https://user:secret@host/path?token=secret")
    'https://host/path'
    """
    try:
        parts = urlsplit(url)
        _ = parts.port  # no number where an unquoted password has cut the address short
    except ValueError:
        return "an address that is none"
    shown = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="")
    return printable(urlunsplit(shown), 400)


def printable(text: str, limit: int = 100) -> str:
    r"""Return a foreign text for a message: of one line, not too long, without control characters.

    Examples
    --------
    >>> printable("Not\x1b[31m Found")
    'Not?[31m Found'
    """
    kept = "".join(c if c.isprintable() else "?" for c in text[:limit])
    return kept + "…" if len(text) > limit else kept


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


class _TimedReader(io.RawIOBase):
    """What a socket receives until a deadline."""

    def __init__(self, sock: "socket.socket", deadline: _Deadline) -> None:
        self._sock, self._file, self._deadline = sock, sock.makefile("rb", 0), deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._deadline.left())
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


def _adapter(deadline: _Deadline) -> "requests.adapters.HTTPAdapter":
    """Return requests' adapter with connections that read until the deadline."""
    import http.client

    import requests

    class TimedResponse(http.client.HTTPResponse):
        def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
            reader = io.BufferedReader(_TimedReader(sock, deadline))
            timed: Any = types.SimpleNamespace(makefile=lambda _: reader)
            super().__init__(timed, *args, **kwargs)

        def begin(self) -> None:
            super().begin()
            # What is no header urllib3 logs with a traceback, or refuses; the checksum decides.
            self.msg.defects.clear()
            self.msg.set_payload("")
            lengths = ", ".join(self.msg.get_all("Content-Length", []))
            if not re.fullmatch(r"[0-9]{1,15}", lengths):
                del self.msg["Content-Length"]

    class TimedAdapter(requests.adapters.HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **kwargs)
            self._time(self.poolmanager)

        def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
            return self._time(super().proxy_manager_for(*args, **kwargs))

        def _time(self, manager: Any) -> Any:
            for scheme, pool in dict(manager.pool_classes_by_scheme).items():
                names = {"response_class": TimedResponse}
                connection = type("TimedConnection", (pool.ConnectionCls,), names)
                timed = type("TimedPool", (pool,), {"ConnectionCls": connection})
                manager.pool_classes_by_scheme = manager.pool_classes_by_scheme | {scheme: timed}
            return manager

    return TimedAdapter()


@contextlib.contextmanager
def _sent(
    request: "requests.Request",
    session: "requests.Session",
    adapter: "requests.adapters.HTTPAdapter",
    timeout: tuple[float, float],
) -> Iterator["requests.Response"]:
    """Send a request, through a proxy where the environment names one; close the answer."""
    import requests

    proxy = None
    try:
        prepared = session.prepare_request(request)
        url = prepared.url or ""
        settings: Any = session.merge_environment_settings(url, {}, True, None, None)
        proxy = requests.utils.select_proxy(url, settings["proxies"])
        # By the adapter, since the session would read the body of a redirect.
        response = adapter.send(prepared, timeout=timeout, **settings)
        cookies: Any = requests.cookies
        cookies.extract_cookies_to_jar(session.cookies, prepared, response.raw)
    except Exception as error:
        raise _refusal(error, timeout[1], proxy) from None
    with response:
        if proxy and response.status_code == 407:
            raise _proxy_refusal(proxy, printable(f"answered 407 {response.reason}"))
        yield response


def _goal(response: "requests.Response", session: "requests.Session") -> str | None:
    """Return where an answer leads to, None where it is no redirect."""
    if not response.is_redirect:
        return None
    try:
        goal = urljoin(response.url, session.get_redirect_target(response))
        scheme, _ = urlsplit(goal).scheme, urlsplit(goal).port
    except ValueError:
        raise RefusalError("leads to an address that is none") from None
    if scheme != "https" and (scheme != "http" or response.url.startswith("https:")):
        allowed = "https" if response.url.startswith("https:") else "http or https"
        raise RefusalError(f"leads to {printable(shown_url(goal), 200)}, which is not {allowed}")
    return goal


def _refusal(error: Exception, seconds: float, proxy: str | None = None) -> RefusalError:
    """Say in a few words what requests and urllib3 say in many."""
    import http.client

    import requests
    import urllib3.exceptions as low

    if isinstance(error, low.ReadTimeoutError):  # one that stalls on the way may answer again
        return RefusalError(f"sent nothing more for {seconds:g} s")
    if isinstance(error, low.ProtocolError):
        return RefusalError("broke off", has_broken_off=True)
    inner = error.args[0] if error.args else None
    inner = getattr(inner, "reason", inner)
    if proxy and isinstance(inner, low.ProxyError):
        return _proxy_refusal(proxy, _why_unreachable(inner.original_error))
    if proxy and isinstance(inner, low.NewConnectionError):  # of a SOCKS proxy
        return _proxy_refusal(proxy, "cannot be reached, or cannot reach the host")
    if proxy and isinstance(error, ValueError):
        is_socks = "SOCKS" in str(error)
        needs = "needs pip install 'requests[socks]'" if is_socks else "is no URL of a proxy"
        return _proxy_refusal(proxy, needs)
    through = f" (through the proxy {_shown_proxy(proxy)})" if proxy else ""
    if isinstance(error, requests.ReadTimeout):
        cause = f"sent no answer within {seconds:g} s"
        return RefusalError(cause + through, is_unreachable=True)
    aborted_by = inner.args[-1] if isinstance(inner, low.ProtocolError) else None
    if isinstance(aborted_by, http.client.HTTPException) and not isinstance(aborted_by, OSError):
        return RefusalError("answered something that is not HTTP" + through)
    if isinstance(error, requests.ConnectionError):
        return RefusalError(_why_unreachable(inner) + through, is_unreachable=True)
    # What requests says may quote a URL with credentials.
    is_quotable = not isinstance(error, requests.RequestException | low.HTTPError)
    said = f"{type(error).__name__}: {error}" if is_quotable else type(error).__name__
    return RefusalError(f"failed ({printable(said, 200)}){through}")


def _why_unreachable(error: object) -> str:
    """Say why there is no connection to a host or a proxy."""
    import ssl

    import urllib3.exceptions as low

    if isinstance(error, low.ConnectTimeoutError) and not isinstance(error, low.NewConnectionError):
        return "did not answer in time"
    if isinstance(error, low.NameResolutionError):
        return "has a name that cannot be resolved"
    if isinstance(getattr(error, "__cause__", None), ConnectionRefusedError):
        return "refuses connections"
    if isinstance(error, low.SSLError):
        if isinstance(error.args[0], ssl.SSLCertVerificationError):
            return (
                "has a certificate that cannot be trusted (REQUESTS_CA_BUNDLE names those to trust)"
            )
        return f"does not speak TLS as it should ({printable(str(error.args[0]))})"
    refused = "Tunnel connection failed: "
    if str(error).startswith(refused):
        return f"answered {printable(str(error).removeprefix(refused))}"
    return "cannot be reached"


def _proxy_refusal(proxy: str, cause: str) -> RefusalError:
    return RefusalError(
        f"is asked for through the proxy {_shown_proxy(proxy)}, which {cause}: correct HTTP_PROXY, "
        "HTTPS_PROXY or ALL_PROXY (http://user:password@host:port), or name the host in NO_PROXY",
        is_unreachable=True,
    )


def _shown_proxy(proxy: str) -> str:
    return shown_url(proxy if "://" in proxy else f"http://{proxy}")
