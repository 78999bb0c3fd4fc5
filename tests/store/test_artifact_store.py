"""Where bytes come from, against a real server: cache, mirrors, public hosts; never a wrong one."""

import contextlib
import dataclasses
import hashlib
import os
import pickle
import shutil
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from cifar_noisy import (
    ConfigurationError,
    CorruptFileWarning,
    StorageError,
    UnavailableError,
    artifacts,
    cache_folder,
    cached_path,
)
from cifar_noisy.store import artifact_store
from cifar_noisy.store.artifact_store import Folder, Host, Store
from cifar_noisy.store.http_download import PARALLEL_TRANSFERS
from cifar_noisy.store.registry import Artifact
from tests.file_server import FileServer, serving

ARTIFACT = artifacts(kind="train_mask", noise=0.4, sparsity=0.2, edition="2019")[0]
UNREACHABLE = Host("http://127.0.0.1:9/{path}")


@pytest.fixture
def server(upstream: Path) -> Iterator[FileServer]:
    with serving(upstream) as running:
        yield running


@pytest.fixture
def content(upstream: Path) -> bytes:
    return (upstream / ARTIFACT.path).read_bytes()


def local(tmp_path: Path, *mirrors: Folder | Host, hosts: tuple[Host, ...] = ()) -> Store:
    return Store(tmp_path / "cache", mirrors, public_hosts=hosts)


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != "CACHEDIR.TAG"]


def test_downloads_once_into_upstreams_layout(
    tmp_path: Path, server: FileServer, content: bytes
) -> None:
    store = local(tmp_path, Host(f"{server.url}/{{path}}"))
    assert store.read(ARTIFACT) == content
    assert store.read(ARTIFACT) == content
    assert server.asked == [f"/mirror/{ARTIFACT.path}"]
    assert files_below(store.cache) == [store.cache / ARTIFACT.path]
    umask = os.umask(0)
    os.umask(umask)
    assert (store.cache / ARTIFACT.path).stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_folder_is_read_in_place(tmp_path: Path, upstream: Path, content: bytes) -> None:
    store = local(tmp_path, Folder(upstream))
    assert store.read(ARTIFACT) == content
    assert store.path(ARTIFACT) == upstream / ARTIFACT.path
    assert not store.cache.exists()


@pytest.mark.parametrize("n_down", [0, 1, 2])
def test_public_hosts_by_their_url_shapes(
    tmp_path: Path, server: FileServer, content: bytes, n_down: int
) -> None:
    hosts = server.public_hosts()
    store = local(tmp_path, hosts=(*[UNREACHABLE] * n_down, *hosts[n_down:]))
    assert store.read(ARTIFACT) == content
    name = ("raw.githubusercontent.com", "cdn.jsdelivr.net", "archive.softwareheritage.org")[n_down]
    assert len(server.asked) == 1
    assert server.asked[0].startswith(f"/{name}/")


BAD_ANSWERS: dict[str, bytes | int] = {
    "not found": 404,
    "server error": 500,
    "empty": b"",
    "truncated": b"\x93NUMPY" + bytes(1000),
    "page": b"<!DOCTYPE html><title>Rate limit</title>",
    "endless": bytes(10_000_000),
}


@pytest.mark.parametrize("answer", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_a_bad_answer_moves_on_and_is_not_kept(
    tmp_path: Path, server: FileServer, content: bytes, answer: bytes | int
) -> None:
    server.answers[f"/mirror/{ARTIFACT.path}"] = answer
    mirror = Host(f"{server.url}/{{path}}")
    with pytest.raises(UnavailableError) as error:
        local(tmp_path, mirror).read(ARTIFACT)
    assert server.url in str(error.value)
    assert ARTIFACT.sha256 in str(error.value)
    assert str(tmp_path / "cache" / ARTIFACT.path) in str(error.value)
    assert "cifar-noisy download --kind train_mask --noise 0.4" in str(error.value)
    assert files_below(tmp_path) == []

    assert local(tmp_path, mirror, hosts=server.public_hosts()).read(ARTIFACT) == content


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_flipped_byte_in_the_cache_is_said_and_fetched_again(
    tmp_path: Path, server: FileServer, content: bytes
) -> None:
    store = local(tmp_path, Host(f"{server.url}/{{path}}"))
    cached = store.path(ARTIFACT)
    flip(cached)
    with pytest.warns(CorruptFileWarning, match=f"{cached} holds .* not used"):
        assert store.read(ARTIFACT) == content
    assert cached.read_bytes() == content

    flip(cached)
    wrong = cached.read_bytes()
    offline = Store(store.cache, store.mirrors, is_offline=True)
    with pytest.warns(CorruptFileWarning), pytest.raises(UnavailableError, match=str(cached)):
        offline.read(ARTIFACT)
    assert cached.read_bytes() == wrong


def test_a_byte_too_many_is_a_wrong_file(tmp_path: Path, content: bytes) -> None:
    store = local(tmp_path)
    store.cache_path(ARTIFACT).parent.mkdir(parents=True)
    store.cache_path(ARTIFACT).write_bytes(content + b"\0")
    with (
        pytest.warns(CorruptFileWarning, match="holds 50,129 bytes"),
        pytest.raises(UnavailableError),
    ):
        store.read(ARTIFACT)


def test_a_flipped_byte_in_a_mirror_folder_moves_on(
    tmp_path: Path, upstream: Path, content: bytes
) -> None:
    mirror = tmp_path / "mirror" / ARTIFACT.path
    mirror.parent.mkdir(parents=True)
    shutil.copyfile(upstream / ARTIFACT.path, mirror)
    flip(mirror)
    wrong = mirror.read_bytes()
    store = local(tmp_path, Folder(tmp_path / "mirror"), Folder(upstream))
    with pytest.warns(CorruptFileWarning, match=str(mirror)):
        assert store.read(ARTIFACT) == content
    assert mirror.read_bytes() == wrong
    assert files_below(tmp_path) == [mirror]


def test_a_file_put_there_by_hand_is_accepted(tmp_path: Path, content: bytes) -> None:
    store = local(tmp_path)
    by_hand = store.cache_path(ARTIFACT)
    by_hand.parent.mkdir(parents=True)
    by_hand.write_bytes(content)
    assert store.read(ARTIFACT) == content


def test_a_pipe_is_not_waited_for(tmp_path: Path, server: FileServer, content: bytes) -> None:
    """In a mirror folder it is passed over; in the cache nothing is put in its place."""
    mirror = tmp_path / "mirror"
    (mirror / ARTIFACT.path).parent.mkdir(parents=True)
    os.mkfifo(mirror / ARTIFACT.path)
    store = local(tmp_path, Folder(mirror), Host(f"{server.url}/{{path}}"))
    assert store.read(ARTIFACT) == content
    with pytest.raises(
        UnavailableError, match=f"{mirror}.* cannot be read .it is a pipe, a device"
    ):
        local(tmp_path / "other", Folder(mirror)).read(ARTIFACT)
    cached = store.cache_path(ARTIFACT)
    cached.unlink()
    os.mkfifo(cached)
    with pytest.raises(StorageError, match=r"cannot be written \(it is a pipe, a device or a"):
        store.read(ARTIFACT)
    assert cached.is_fifo()


@pytest.mark.parametrize("layout", ["cache", "mirror"])
def test_the_image_archive_is_read_like_others(layout: str, tmp_path: Path) -> None:
    content = b"images" * 1000
    archive = dataclasses.replace(
        artifacts(kind="images")[0],
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    store = Store(tmp_path / "cache", (Folder(tmp_path / "mirror"),), is_offline=True)
    there = {
        "cache": store.cache_path(archive),
        "mirror": tmp_path / "mirror" / "cifar-10-python.tar.gz",
    }[layout]
    there.parent.mkdir(parents=True)
    there.write_bytes(content)
    assert store.path(archive) == there
    assert store.read(archive) == content
    there.unlink()
    with pytest.raises(UnavailableError, match="run cifar-noisy download --kind images where"):
        store.read(archive)


def test_a_large_download_is_continued(
    tmp_path: Path, server: FileServer, upstream: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a host began is left in the cache, and finished by the next call."""
    monkeypatch.setattr(artifact_store, "_MIN_RESUMED_SIZE", 0)
    (pyx,) = artifacts(kind="pyx", noise=0.4, sparsity=0.2)
    right = (upstream / pyx.path).read_bytes()
    store = local(tmp_path, Host(f"{server.url}/{{path}}"))
    part = store.cache_path(pyx).with_name(f".{store.cache_path(pyx).name}.0123abcd.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(right[:-1] + b"?")
    assert store.read(pyx) == right  # once more from zero where the beginning was wrong
    assert [path.name for path in part.parent.iterdir()] == [store.cache_path(pyx).name]


def test_copies_what_a_mirror_folder_has(tmp_path: Path, upstream: Path) -> None:
    wanted = artifacts(kind="train_mask", noise=0.4, sparsity=0.2)
    store = local(tmp_path, Folder(upstream))
    assert store.fetch(wanted) == [upstream / artifact.path for artifact in wanted]
    assert not store.cache.exists()
    assert store.fetch(wanted, copy=True) == [store.cache_path(artifact) for artifact in wanted]
    assert len(files_below(store.cache)) == len(wanted)
    assert local(tmp_path).read(ARTIFACT) == (upstream / ARTIFACT.path).read_bytes()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match="cannot be written"):
        Store(tmp_path / "file", (Folder(upstream),)).fetch(wanted, copy=True)


def test_an_error_is_told_once_and_its_remedy_first(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        local(tmp_path, UNREACHABLE, Folder(tmp_path / "no")).fetch(
            artifacts(kind="train_mask", noise=0.4)
        )
    first, *causes = str(error.value).split("\n")
    assert first.startswith("40 files (2.0 MB), the first of them ")
    assert "could not be had: run cifar-noisy download --kind train_mask --noise 0.4 " in first
    assert [cause.startswith("  ") for cause in causes] == [True] * 3
    assert "".join(traceback.format_exception(error.value)).count("refuses connections") == 1
    copy = pickle.loads(pickle.dumps(error.value))
    assert (str(copy), copy.causes) == (str(error.value), tuple(cause[2:] for cause in causes))


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_: object) -> None:
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", nobody)
    for name in ("HOME", "XDG_CACHE_HOME", "CIFAR_NOISY_CACHE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError, match=r"home.*: set CIFAR_NOISY_CACHE to a whole path"):
        cache_folder()


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CIFAR_NOISY_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    assert cached_path(ARTIFACT) == tmp_path / ARTIFACT.path


def test_offline_opens_no_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upstream: Path, content: bytes
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    store = Store(tmp_path, (UNREACHABLE,), is_offline=True)
    masks = artifacts(kind="train_mask")
    with pytest.raises(UnavailableError, match=r"125 files \(6.3 MB\), the first of them") as error:
        store.fetch(masks)
    assert "run cifar-noisy download --kind train_mask where" in str(error.value)
    assert (
        Store(tmp_path, (UNREACHABLE, Folder(upstream)), is_offline=True).read(ARTIFACT) == content
    )


def test_many_files_in_parallel_with_one_count_of_bytes(tmp_path: Path, server: FileServer) -> None:
    class Count:
        bytes = 0.0

        def update(self, n: float | None = 1) -> None:
            self.bytes += n or 0

    count, wanted = Count(), artifacts(kind="train_mask", noise=0.4)
    store = local(tmp_path, Host(f"{server.url}/{{path}}"))
    assert store.fetch(wanted, count) == [store.cache / artifact.path for artifact in wanted]
    assert count.bytes == sum(artifact.size for artifact in wanted)
    assert len(server.asked) == len(wanted)


def test_what_can_be_had_of_many_is_kept(tmp_path: Path, server: FileServer) -> None:
    wanted = artifacts(kind="train_mask", noise=0.4)
    server.answers[f"/mirror/{wanted[3].path}"] = 404
    store = local(tmp_path, Host(f"{server.url}/{{path}}"))
    with pytest.raises(UnavailableError, match=f"(?s){wanted[3].path} .*answered 404"):
        store.fetch(wanted)
    assert len(files_below(store.cache)) == len(wanted) - 1


def test_an_unreachable_host_is_given_up_for_the_batch(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging_up:
        asked = []

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                while True:
                    hanging_up.accept()[0].close()
                    asked.append(1)

        threading.Thread(target=hang_up, daemon=True).start()
        host = Host(f"http://127.0.0.1:{hanging_up.getsockname()[1]}/{{path}}")
        with pytest.raises(UnavailableError, match=r"(?s)125 files .* cannot be reached"):
            local(tmp_path, hosts=(host,)).fetch(artifacts(kind="train_mask"))
    assert 1 <= len(asked) <= PARALLEL_TRANSFERS


def test_what_requests_lets_through_moves_on(
    tmp_path: Path, server: FileServer, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    label_too_long = Host(f"http://{'a' * 70}/{{path}}")
    good = Host(f"{server.url}/{{path}}")
    assert local(tmp_path, label_too_long, good).read(ARTIFACT) == content
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/bundle.pem")
    secure = Host("https://127.0.0.1:9/{path}")
    with pytest.raises(UnavailableError, match=r"failed \(OSError: .*bundle"):
        Store(tmp_path / "other", (secure,), public_hosts=()).read(ARTIFACT)


def test_mirrors_are_asked_in_their_order(
    tmp_path: Path, upstream: Path, server: FileServer, content: bytes
) -> None:
    host, folder = Host(f"{server.url}/{{path}}"), Folder(upstream)
    assert Store(tmp_path / "a", (folder, host)).path(ARTIFACT) == upstream / ARTIFACT.path
    assert server.asked == []
    store = Store(tmp_path / "b", (host, folder))
    assert store.path(ARTIFACT) == store.cache_path(ARTIFACT)
    assert server.asked == [f"/mirror/{ARTIFACT.path}"]
    store = Store(tmp_path / "c", (UNREACHABLE, folder, host))
    assert store.path(ARTIFACT) == upstream / ARTIFACT.path
    assert len(server.asked) == 1


def test_credentials_are_never_shown(tmp_path: Path) -> None:
    mirror = Host("http://user:secret@127.0.0.1:9/{path}")
    with pytest.raises(UnavailableError) as error:
        local(tmp_path, mirror).read(ARTIFACT)
    assert "secret" not in str(error.value)
    assert "http://127.0.0.1:9/cifar10/" in str(error.value)


def test_a_cache_that_is_a_file(tmp_path: Path, server: FileServer) -> None:
    (tmp_path / "cache").write_text("mine")
    with pytest.raises(StorageError, match=r"cache cannot be written \(.*CIFAR_NOISY_CACHE"):
        local(tmp_path, Host(f"{server.url}/{{path}}")).read(ARTIFACT)
    assert (tmp_path / "cache").read_text() == "mine"


AS_NOBODY = """
import os, sys
from pathlib import Path
from cifar_noisy import StorageError, artifacts
from cifar_noisy.store.artifact_store import Host, Store
artifact = artifacts(kind="train_mask", noise=0.4, sparsity=0.2, edition="2019")[0]
mirror = Host(sys.argv[2] + "/{path}")
Store(Path(sys.argv[1]) / "warm", (mirror,)).read(artifact)  # imports what nobody may not
if os.getuid() == 0:
    os.setuid(65534)
try:
    Store(Path(sys.argv[1]) / "locked" / "cache", (mirror,)).read(artifact)
except StorageError as error:
    print(error)
"""


def test_a_cache_that_is_not_writable(tmp_path: Path, server: FileServer) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    for parent in tmp_path.parents:
        if parent.name.startswith("pytest-"):
            parent.chmod(0o755)
    tmp_path.chmod(0o755)
    result = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, tmp_path, server.url],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "cannot be written (Permission denied)" in result.stdout
    assert list(locked.iterdir()) == []


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("CIFAR_NOISY_MIRRORS", "ftp://host/x", "ftp://host/x, which is neither a folder nor"),
        ("CIFAR_NOISY_MIRRORS", "http://[bad", "an address that is none, which is neither"),
        (
            "CIFAR_NOISY_MIRRORS",
            "~nosuchuser/x",
            "~nosuchuser/x leads nowhere .*: set CIFAR_NOISY_MIRRORS",
        ),
        (
            "CIFAR_NOISY_CACHE",
            "~nosuchuser/x",
            "~nosuchuser/x .*: set CIFAR_NOISY_CACHE to a whole",
        ),
        ("CIFAR_NOISY_OFFLINE", "maybe", "CIFAR_NOISY_OFFLINE is 'maybe': set it to 1 or 0"),
    ],
)
def test_the_environment_is_checked(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=said):
        Store.from_environment()


def test_the_environment_is_understood(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CIFAR_NOISY_CACHE", str(tmp_path / "a cache"))
    monkeypatch.setenv("CIFAR_NOISY_MIRRORS", f" {tmp_path / 'mein Spiegel'} , http://host/base/,")
    monkeypatch.setenv("CIFAR_NOISY_OFFLINE", "1")
    store = Store.from_environment()
    assert store.cache == tmp_path / "a cache"
    assert store.mirrors == (Folder(tmp_path / "mein Spiegel"), Host("http://host/base/{path}"))
    assert store.is_offline

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("CIFAR_NOISY_CACHE")
    assert Store.from_environment().cache == tmp_path / "xdg" / "cifar-noisy"


def test_every_kind_has_a_public_address() -> None:
    def urls(artifact: Artifact) -> list[str]:
        return [host.url(artifact) for host in Store(Path()).public_hosts]

    revision = "2f3155636663eb0813363dc06cd822aae6526c34"
    assert urls(ARTIFACT) == [
        "https://raw.githubusercontent.com/cgnorthcutt/confidentlearning-reproduce/"
        f"{revision}/{ARTIFACT.path}",
        "https://cdn.jsdelivr.net/gh/cgnorthcutt/confidentlearning-reproduce@"
        f"{revision}/{ARTIFACT.path}",
        f"https://archive.softwareheritage.org/api/1/content/sha256:{ARTIFACT.sha256}/raw/",
    ]
