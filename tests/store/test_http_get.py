"""Proxies, redirects, deadlines and credentials, against real servers."""

import contextlib
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cifar_noisy.errors import ConfigurationError
from cifar_noisy.store.artifact_store import MIRRORS_VARIABLE, Store
from cifar_noisy.store.http_get import Failure, SourceFailedError, get, is_http_url, redact_url
from tests.faults.server import Answer, FaultServer, serving
from tests.proxy_server import proxy

WANTS_PASSWORD = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
REMEDY = "correct HTTP_PROXY, HTTPS_PROXY or ALL_PROXY .*, or name the host in NO_PROXY$"


def read(url: str, headers: dict[str, str] | None = None, seconds: float = 10) -> bytes:
    with get(url, headers or {}, seconds, seconds) as answer:
        assert answer.status == 200
        return b"".join(iter(lambda: answer.read(1 << 16), b""))


@pytest.fixture
def through(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_a_password(through: pytest.MonkeyPatch, scheme: str) -> None:
    with proxy(WANTS_PASSWORD) as url:
        through.setenv("ALL_PROXY", url.replace("http://", "http://user:secret@"))
        with pytest.raises(SourceFailedError) as error:
            read(f"{scheme}://example.org/")
    said = f"through the proxy {url}, which answered 407 Proxy Authentication Required: correct"
    assert said in str(error.value)
    assert "secret" not in str(error.value)
    assert error.value.kind is Failure.UNREACHABLE


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("http://user:secret@127.0.0.1:9", "http://127.0.0.1:9, which refuses connections"),
        ("127.0.0.1:9", "http://127.0.0.1:9, which refuses connections"),
        ("user:secret@127.0.0.1:9", "http://127.0.0.1:9, which is no URL of a proxy"),
        (
            "http://nowhere.invalid:3128",
            "http://nowhere.invalid:3128, which has a name that cannot be resolved",
        ),
        (
            "socks5h://user:secret@127.0.0.1:9",
            "socks5h://127.0.0.1:9, which cannot be reached, or cannot reach the host",
        ),
        ("http://user:sec#ret@host:3128", "an address that is none, which is no URL of a proxy"),
        ("http://[bad", "an address that is none, which is no URL of a proxy"),
        ("http://:3128", "http://:3128, which is no URL of a proxy"),
        ("foo://127.0.0.1:9", "foo://127.0.0.1:9, which is no URL of a proxy"),
    ],
)
def test_a_proxy_that_is_not_there(
    through: pytest.MonkeyPatch, scheme: str, url: str, cause: str
) -> None:
    through.setenv(f"{scheme.upper()}_PROXY", url)
    with pytest.raises(SourceFailedError, match=REMEDY) as error:
        read(f"{scheme}://example.org/")
    assert f"is asked for through the proxy {cause}: " in str(error.value)
    assert "sec" not in str(error.value)


WITHOUT_SOCKS = """
import sys
sys.modules["socks"] = None
from cifar_noisy.store.http_get import SourceFailedError, get
try:
    with get("https://example.org/", {}, 1, 1):
        pass
except SourceFailedError as error:
    print(error)
"""


def test_socks_without_its_library(through: pytest.MonkeyPatch) -> None:
    through.setenv("ALL_PROXY", "socks5h://user:secret@127.0.0.1:9")
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_SOCKS], capture_output=True, text=True, check=True
    )
    assert "socks5h://127.0.0.1:9, which needs pip install 'requests[socks]'" in result.stdout
    assert result.stderr == ""


def test_a_proxy_that_drips(through: pytest.MonkeyPatch) -> None:
    with proxy(b"HTTP/1.1 200 OK\r\n", then_forever=b"X") as url:
        through.setenv("HTTPS_PROXY", url)
        with pytest.raises(SourceFailedError, match=f"sent no answer .*through the proxy {url}"):
            read("https://example.org/", seconds=0.5)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultServer]:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "file").write_bytes(b"content")
    with serving(tmp_path / "served") as running:
        yield running


def test_a_host_that_needs_no_proxy(through: pytest.MonkeyPatch, server: FaultServer) -> None:
    through.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    through.setenv("NO_PROXY", "127.0.0.1")
    assert read(f"{server.url}/file") == b"content"


def test_a_status_that_came_through_a_proxy(through: pytest.MonkeyPatch) -> None:
    with proxy(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi") as url:
        through.setenv("HTTP_PROXY", url)
        assert read("http://example.org/") == b"hi"


def leading_to(location: str) -> Answer:
    return Answer(raw=f"HTTP/1.1 302 Found\r\nLocation: {location}\r\n\r\n".encode())


def test_credentials_stay_with_their_host(server: FaultServer, tmp_path: Path) -> None:
    with serving(tmp_path) as other:
        other.answer = Answer(times=1, raw=leading_to(f"{server.url}/file").raw)
        assert read(other.url.replace("http://", "http://user:secret@")) == b"content"
        assert other.authorizations == ["Basic dXNlcjpzZWNyZXQ="]
        assert server.authorizations == []
        # On one host they go along, by a relative address and by a whole one.
        for location in ("/file", f"{server.url}/file", f"//127.0.0.1:{server.server_port}/file"):
            server.authorizations.clear()
            server.answer = Answer(only="start", raw=leading_to(location).raw)
            url = f"{server.url}/start".replace("http://", "http://user:secret@")
            assert read(url) == b"content"
            assert server.authorizations == ["Basic dXNlcjpzZWNyZXQ="] * 2


def test_headers_go_along(server: FaultServer) -> None:
    server.answer = Answer(only="start", raw=leading_to("file").raw)
    with get(f"{server.url}/start", {"Range": "bytes=3-"}, 10, 10) as answer:
        assert (answer.status, answer.content_range) == (206, "bytes 3-6/7")
        assert answer.read(100) == b"tent"


def certificate(folder: Path) -> ssl.SSLContext:
    if not shutil.which("openssl"):
        pytest.skip("needs openssl, to make a certificate")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key,
         "-out", certificate, "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def test_headers_that_drip_in_tls(server: FaultServer, tmp_path: Path) -> None:
    server.answer = Answer(raw=b"HTTP/1.1 200 OK\r\n", then_forever=b"X", seconds_between=0.05)
    context = certificate(tmp_path)
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    url = server.url.replace("http:", "https:")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "certificate.pem"))
        with pytest.raises(SourceFailedError, match=r"sent no answer within 0\.5 s"):
            read(f"{url}/file", seconds=0.5)
        server.answer = Answer()
        assert read(f"{url}/file") == b"content"


@pytest.mark.parametrize("drips", [b"", b"\x16\x03\x03\x3f\xff" + bytes(100)])
def test_a_handshake_without_end(drips: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            with contextlib.suppress(OSError), listening.accept()[0] as client:
                for byte in drips:
                    client.sendall(bytes([byte]))
                    time.sleep(0.05)
                time.sleep(60)

        threading.Thread(target=drip, daemon=True).start()
        url = f"https://127.0.0.1:{listening.getsockname()[1]}/"
        with pytest.raises(SourceFailedError, match=r"did not answer|sent no answer within 0\.5"):
            read(url, seconds=0.5)


def test_no_tls_at_all(server: FaultServer) -> None:
    with pytest.raises(SourceFailedError, match="does not speak TLS as it should"):
        read(server.url.replace("http:", "https:"))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://a/b@c/d", "https://a/b@c/d"),
        ("https://user:p@ss@a/b", "https://a/b"),
        ("https://user:pa#ss@a/b", "an address that is none"),
        ("https://user:pa/ss@a/b", "an address that is none"),
        ("https://a/\x1b[31m", "https://a/\\x1b[31m"),
    ],
)
def test_shown_urls(url: str, shown: str) -> None:
    assert redact_url(url) == shown


BAD_URLS = [f"http://{rest}" for rest in ("", ":80/a", "host:x/", "host:70000", "host:0", "[bad/")]


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_mirror_that_can_be_no_address(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_http_url(url)
    monkeypatch.setenv(MIRRORS_VARIABLE, f"/folder,{url}")
    with pytest.raises(ConfigurationError, match=f"^{MIRRORS_VARIABLE} has "):
        Store.from_environment()


def test_addresses_of_mirrors() -> None:
    for url in ("http://host", "https://user:secret@host:8080/a", "http://[::1]:80/"):
        assert is_http_url(url)
    assert not is_http_url("ftp://host/")
