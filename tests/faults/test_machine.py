"""Faults of processes, disks and permissions: one test a row of the matrix, by its name."""

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import filelock
import pytest

from cifar_noisy import UnavailableError, artifacts
from cifar_noisy.store import http_download, locks
from cifar_noisy.store.artifact_store import Host, Store
from cifar_noisy.store.cache import prune_cache
from cifar_noisy.store.files import resumable_file
from cifar_noisy.store.http_download import download
from tests.faults import worker
from tests.faults.cold_start import FILES, cold_start
from tests.faults.kills import SIZE, kills
from tests.faults.matrix import MACHINE
from tests.faults.server import Answer, FaultServer, serving

MASK, OTHER = FILES[:2]
PYX = artifacts(kind="pyx", noise=0.4, sparsity=0.2)[0]
NOBODY = 65534
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be another user")


def test_every_row_of_the_matrix_is_tried() -> None:
    tests = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert tests >= set(MACHINE)


def store_of(cache: Path, url: str) -> Store:
    return Store(cache, (Host(f"{url}/{{path}}"),), public_hosts=())


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != "CACHEDIR.TAG"]


@pytest.fixture
def large(tmp_path: Path) -> Iterator[FaultServer]:
    """Serve one file of 3 MB, under the name "file"."""
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "file").write_bytes(os.urandom(SIZE))
    with serving(folder) as server:
        yield server


def task_of(server: FaultServer, target: Path) -> dict[str, object]:
    sha256 = hashlib.sha256((server.folder / "file").read_bytes()).hexdigest()
    return {"url": f"{server.url}/file", "target": str(target), "sha256": sha256, "size": SIZE}


def finish(server: FaultServer, target: Path) -> None:
    """Download in this process, and see that nothing but the right file is there."""
    task = task_of(server, target)
    problem = worker.sha256_validator(str(task["sha256"]))
    download([f"{server.url}/file"], target, problem, size=SIZE)
    assert target.read_bytes() == (server.folder / "file").read_bytes()
    assert files_below(target.parent) == [target]


# Processes


@pytest.mark.long
def test_many_cold_processes(upstream: Path, tmp_path: Path) -> None:
    outcome = cold_start(upstream, tmp_path)
    assert outcome.n_gets == [len(FILES)] * 20
    assert (outcome.n_errors, outcome.n_wrong) == (0, 0)
    assert len(files_below(tmp_path)) == 20 * len(FILES)  # no leftovers


@pytest.mark.long
def test_locks_granted_to_everyone(upstream: Path, tmp_path: Path) -> None:
    outcome = cold_start(upstream, tmp_path, n_times=5, locks=False)
    assert sum(outcome.n_gets) > 5 * len(FILES)  # they did get in each other's way
    assert (outcome.n_errors, outcome.n_wrong) == (0, 0)
    assert len(files_below(tmp_path)) == 5 * len(FILES)


HOLD = """
import fcntl, sys, time
files = [open(path, "w") for path in sys.argv[1:]]
for file in files:
    fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(600)
"""


@contextlib.contextmanager
def locks_held(store: Store) -> Iterator["subprocess.Popen[str]"]:
    locks = []
    for artifact in (MASK, OTHER):
        target = store.cache_path(artifact)
        target.parent.mkdir(parents=True)
        locks.append(target.with_name(f".{target.name}.lock"))
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, *locks], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    try:
        yield holder
    finally:
        worker.end(holder)


def test_lock_held_for_ever(
    good: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "LOCK_SECONDS", 1.0)
    monkeypatch.setattr(http_download, "PARALLEL_TRANSFERS", 1)
    store = store_of(tmp_path, good.url)
    waits: list[float] = []
    acquire = filelock.FileLock.acquire

    def counted(lock: filelock.BaseFileLock, timeout: float) -> object:
        waits.append(timeout)
        return acquire(lock, timeout=timeout)

    monkeypatch.setattr("filelock.FileLock.acquire", counted)
    with locks_held(store):
        store.fetch([MASK, OTHER])
        assert [store.read(a) for a in (MASK, OTHER)]
    # The first file was waited for, in vain, and so the second was not.
    assert waits[0] == 1.0
    assert waits[-1] == 0
    assert good.asked.total() == 2


def test_lock_of_a_dead_process(good: FaultServer, tmp_path: Path) -> None:
    store = store_of(tmp_path, good.url)
    with locks_held(store) as holder:
        holder.kill()
        holder.wait()
        start = time.monotonic()
        store.fetch([MASK, OTHER])
    assert time.monotonic() - start < locks.LOCK_SECONDS / 2
    assert len(files_below(tmp_path)) == 2  # their locks are gone too


def test_locks_not_supported(
    good: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(locks, "LOCK_SECONDS", 1.0)
    store = store_of(tmp_path, good.url)
    store.fetch(FILES)
    assert good.asked.total() == len(FILES)


@pytest.mark.long
def test_killed_while_receiving(tmp_path: Path) -> None:
    outcome = kills(tmp_path, 40)
    assert (outcome.n_wrong, outcome.n_unfinished) == (0, 0)
    assert outcome.n_resumed >= 30
    assert outcome.bytes_sent < 1.2 * outcome.bytes_wanted


def test_terminated_while_receiving(large: FaultServer, tmp_path: Path) -> None:
    large.answer = Answer(stall_at=2_000_000)
    target = tmp_path / "cache" / "file"
    one = worker.start()
    worker.hear(one)
    worker.tell(one, task_of(large, target))
    assert large.has_stalled.wait(30)
    # What the kernel still holds for the process has no time limit; what is on disk is seen.
    while sum(path.stat().st_size for path in files_below(target.parent)) < 1_000_000:
        time.sleep(0.01)
    one.send_signal(signal.SIGTERM)
    assert one.wait() == -signal.SIGTERM
    worker.end(one)
    assert not target.exists()
    large.answer = Answer()
    finish(large, target)
    assert len(large.ranges) == 1


def leftover(target: Path, content: bytes, seconds_ago: float = 0) -> Path:
    """Leave what a killed process might have written of a file."""
    target.parent.mkdir(exist_ok=True)
    part = target.with_name(f".{target.name}.0123abcd.part")
    part.write_bytes(content)
    os.utime(part, times=(time.time() - seconds_ago,) * 2)
    return part


def test_range_ignored(large: FaultServer, tmp_path: Path) -> None:
    leftover(tmp_path / "cache" / "file", (large.folder / "file").read_bytes()[:1_000_000])
    large.answer = Answer(heeds_range=False)
    finish(large, tmp_path / "cache" / "file")
    assert (large.asked.total(), len(large.ranges), large.sent) == (1, 1, SIZE)


@pytest.mark.parametrize("size", [1_000_000, SIZE, SIZE + 1])
def test_leftover_of_other_bytes(large: FaultServer, tmp_path: Path, size: int) -> None:
    leftover(tmp_path / "cache" / "file", bytes(size))
    finish(large, tmp_path / "cache" / "file")


def test_leftover_complete(large: FaultServer, tmp_path: Path) -> None:
    leftover(tmp_path / "cache" / "file", (large.folder / "file").read_bytes())
    finish(large, tmp_path / "cache" / "file")
    assert large.asked.total() == 0


def test_prune_with_a_live_process(
    large: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large.answer = Answer(bytes_per_second=2_000_000)
    store = Store(tmp_path / "cache")
    target, other = (store.cache_path(artifact) for artifact in (MASK, OTHER))
    one = worker.start()
    worker.hear(one)
    worker.tell(one, task_of(large, target))
    while sum(path.stat().st_size for path in store.cache.rglob("*.part")) < 500_000:
        time.sleep(0.01)
    other.parent.mkdir(parents=True, exist_ok=True)
    dead = leftover(other, bytes(1000), seconds_ago=3700)
    lock = other.with_name(f".{other.name}.lock")
    lock.touch()
    not_ours = [other.with_name(name) for name in (".mine.part", ".poetry.lock", ".a.b.lock")]
    link = other.with_name(f".{other.name}.00000000.part")
    link.symlink_to(not_ours[0])
    for path in not_ours:
        path.write_bytes(b"a file of another program")
        os.utime(path, times=(0, 0))
    removed = [store.cache / name for name, _ in prune_cache(store)]
    assert removed == [dead, lock]
    assert worker.hear(one) == ""
    worker.end(one)
    assert target.read_bytes() == (large.folder / "file").read_bytes()
    assert all(path.exists() for path in [*not_ours, link])


def test_leftover_is_a_link(large: FaultServer, tmp_path: Path) -> None:
    """A link planted in a shared cache is neither followed nor written through."""
    target, victim = tmp_path / "cache" / "file", tmp_path / "victim"
    victim.write_bytes((large.folder / "file").read_bytes()[:1_000_000])
    target.parent.mkdir()
    link = target.with_name(".file.0123abcd.part")
    link.symlink_to(victim)
    before = victim.read_bytes()
    task = task_of(large, target)
    download([str(task["url"])], target, worker.sha256_validator(str(task["sha256"])), size=SIZE)
    assert target.read_bytes() == (large.folder / "file").read_bytes()
    assert victim.read_bytes() == before
    assert len(large.ranges) == 0
    assert link.is_symlink()


def test_leftover_is_a_pipe(large: FaultServer, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    os.mkfifo(tmp_path / "cache" / ".file.0123abcd.part")
    task = task_of(large, tmp_path / "cache" / "file")
    check = worker.sha256_validator(str(task["sha256"]))
    download([str(task["url"])], tmp_path / "cache" / "file", check, size=SIZE)


def test_part_removed_while_it_is_written(tmp_path: Path) -> None:
    """What a live process writes is complete even where another took its part for a leftover."""
    with resumable_file(tmp_path / "file") as first:
        first.write(bytes(100_000))
        first.flush()
        with resumable_file(tmp_path / "file") as second:
            assert second.tell() == 100_000
            second.write(b"end")
        (tmp_path / "file").unlink()
        first.write(b"other end")
    assert (tmp_path / "file").read_bytes() == bytes(100_000) + b"other end"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.long
def test_one_large_file_and_locks_granted_to_everyone(large: FaultServer, tmp_path: Path) -> None:
    """Processes that take each other's parts for leftovers all end with the right file."""
    workers = [worker.start("no-locks") for _ in range(4)]
    try:
        for one in workers:
            assert worker.hear(one) == ""
        for n in range(10):
            target = tmp_path / f"cache {n}" / "file"
            large.answer = Answer(bytes_per_second=20_000_000) if n % 2 else Answer()
            for one in workers:
                worker.tell(one, task_of(large, target))
            assert [worker.hear(one) for one in workers] == [""] * len(workers)
            assert target.read_bytes() == (large.folder / "file").read_bytes()
            assert files_below(target.parent) == [target]
    finally:
        for one in workers:
            worker.end(one)


# Permissions and disks


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_umask(good: FaultServer, tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        cached = store_of(tmp_path / "cache", good.url).path(MASK)
    finally:
        os.umask(before)
    assert cached.stat().st_mode & 0o777 == mode
    assert cached.parent.stat().st_mode & 0o777 == 0o777 & ~umask


@needs_root
def test_group_shared_cache(good: FaultServer, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    os.chown(cache, -1, 12345)
    cache.chmod(0o2775)
    before = os.umask(0o002)
    try:
        cached = store_of(cache, good.url).path(MASK)
    finally:
        os.umask(before)
    assert (cached.stat().st_gid, cached.stat().st_mode & 0o777) == (12345, 0o664)
    folder = cached.parent.stat()
    assert (folder.st_gid, folder.st_mode & 0o7777) == (12345, 0o2775)


READ_ONLY = """
import os, sys
from pathlib import Path
from cifar_noisy import StorageError, artifacts
from cifar_noisy.store.cache import check_cache
from cifar_noisy.store.files import resumable_file
from cifar_noisy.store.artifact_store import Host, Store
import cifar_noisy.store.http_download, cifar_noisy.store.locks
import requests, filelock, encodings.idna, netrc
cache, url, uid = sys.argv[1:]
masks = artifacts(kind="train_mask", edition="2021")[:2]
if int(uid):
    os.setuid(int(uid))
attempts = []
def watch(event, arguments):
    if event == "open" and isinstance(arguments[2], int):
        is_write = arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    else:
        is_write = event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate",
                             "os.chmod", "os.chown", "os.utime", "os.link", "os.symlink")
    if is_write:
        attempts.append((event, str(arguments)))
sys.addaudithook(watch)
store = Store(Path(cache), (Host(url + "/{path}"),), public_hosts=())
store.fetch(masks[:1]), store.read(masks[0]), store.path(masks[0]), list(check_cache(store))
print(attempts)
try:
    store.read(masks[1])
except StorageError as error:
    print(error)
"""


def read_only(cache: Path, url: str, uid: int, *wrapper: str) -> tuple[str, str]:
    """Use a warm file and then a cold one; return the writes tried for the first, and the error."""
    result = subprocess.run(
        [*wrapper, sys.executable, "-c", READ_ONLY, str(cache), url, str(uid)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    attempts, said = result.stdout.splitlines()
    return attempts, said


@needs_root
def test_warm_cache_of_another_user(good: FaultServer, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    store_of(cache, good.url).read(MASK)
    for folder in (cache, *(path for path in cache.rglob("*") if path.is_dir())):
        folder.chmod(0o555)
    for parent in tmp_path.parents:  # a worker of pytest-xdist has a folder more
        if parent.name.startswith(("pytest-", "popen-")):
            parent.chmod(0o755)
    tmp_path.chmod(0o755)
    attempts, said = read_only(cache, good.url, NOBODY)
    assert attempts == "[]"
    assert "cannot be written (Permission denied)" in said
    assert "CIFAR_NOISY_MIRRORS, which reads it in place" in said


def in_own_mounts(script: str, *arguments: str) -> list[str]:
    """Return the words that run a shell script, then the rest, where mounts are its own."""
    words = ["unshare", "--mount", "sh", "-c", f'{script}\nshift {len(arguments)}\nexec "$@"', "sh"]
    can = (
        shutil.which("unshare")
        and not subprocess.run(
            ["unshare", "--mount", "true"], capture_output=True, check=False
        ).returncode
    )
    if not can:
        pytest.skip("needs mounts of its own: root, and unshare")
    return [*words, *arguments]


@needs_root
def test_cache_on_a_read_only_mount(good: FaultServer, tmp_path: Path) -> None:
    store_of(tmp_path, good.url).read(MASK)
    mount = in_own_mounts('mount --bind "$1" "$1" && mount -o remount,ro,bind "$1"', str(tmp_path))
    attempts, said = read_only(tmp_path, good.url, 0, *mount)
    assert attempts == "[]"
    assert "cannot be written (Read-only file system)" in said


FULL = """
import json, os, resource, sys
from pathlib import Path
from cifar_noisy import StorageError, artifacts
from cifar_noisy.store.files import resumable_file
from cifar_noisy.store.artifact_store import Host, Store
from cifar_noisy.store.http_download import download
cache, url, large = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
pyx = artifacts(kind="pyx", noise=0.4, sparsity=0.2)[0]
mask = artifacts(kind="train_mask", edition="2021")[0]
store = Store(cache, (Host(url + "/{path}"),), public_hosts=())
store.read(mask)
if len(sys.argv) > 4:
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
tree = lambda: sorted(str(p) for p in cache.rglob("*") if p.is_file())
before, said = tree(), []
for run in (lambda: store.read(pyx), lambda: store.fetch([pyx, mask]),
            lambda: download([large], cache / "file", lambda file: None, size=3_000_000)):
    try:
        run()
    except StorageError as error:
        said.append(str(error))
print(json.dumps([before == tree(), said, bool(store.read(mask))]))
"""


def no_room(words: list[str], cause: str) -> None:
    result = subprocess.run(words, capture_output=True, text=True, check=True)
    is_as_it_was, said, is_readable = json.loads(result.stdout)
    assert is_as_it_was
    assert is_readable
    assert len(said) == 3
    assert all(cause in one and "make room" in one and "\n" not in one for one in said)


@needs_root
def test_disk_full(good: FaultServer, large: FaultServer, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = in_own_mounts('mount -t tmpfs -o size=600k tmpfs "$1"', str(disk))
    program = [sys.executable, "-c", FULL, str(disk), good.url, f"{large.url}/file"]
    no_room([*mount, *program], "No space left on device")


def test_file_size_limit(good: FaultServer, large: FaultServer, tmp_path: Path) -> None:
    program = [sys.executable, "-c", FULL, str(tmp_path / "c"), good.url, f"{large.url}/file", "x"]
    no_room(program, "File too large")


def test_odd_path(good: FaultServer, tmp_path: Path) -> None:
    cache = tmp_path / "Zwischen ablage" / "кэш ☃ %41 [x] #1"
    store = store_of(cache, good.url)
    assert store.fetch(FILES) == [cache / artifact.path for artifact in FILES]
    assert len(files_below(cache)) == len(FILES)
    target = cache / "a b" / "mask ☃.npy"
    mask = worker.sha256_validator(MASK.sha256)
    assert download([f"{good.url}/{MASK.path}"], target, mask, size=MASK.size) == target


# The network


OFFLINE = """
import sys
def refuse(event, arguments):
    if event.startswith("socket."):
        raise AssertionError(f"{event} {arguments}")
sys.addaudithook(refuse)
from cifar_noisy.cli import main
main()
"""


@pytest.mark.parametrize("is_option", [True, False])
def test_offline(is_option: bool) -> None:
    words = ["--offline"] if is_option else []
    environment = {} if is_option else {"CIFAR_NOISY_OFFLINE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", OFFLINE, *words, "download", "--kind", "pyx"],
        env=os.environ | environment | {"CIFAR_NOISY_MIRRORS": "http://127.0.0.1:9"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 3
    assert "13 files (13.0 MB), the first of them" in result.stderr
    assert "run cifar-noisy download --kind pyx where there is a network" in result.stderr


# The server's side of a handshake that the client breaks off.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_https_to_http(
    good: FaultServer, upstream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shutil.which("openssl"):
        pytest.skip("needs openssl, to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key,
         "-out", certificate, "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    leads = Answer(status=302, headers={"Location": f"{good.url}/{MASK.path}?token=secret"})
    with serving(upstream, leads) as server:
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        store = store_of(tmp_path / "cache", server.url.replace("http:", "https:"))
        with pytest.raises(UnavailableError, match="a certificate that cannot be trusted"):
            store.read(MASK)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        with pytest.raises(UnavailableError, match=rf"leads to {good.url}/.*, which is not https"):
            store.read(MASK)
        assert good.asked.total() == 0
        server.answer = Answer()
        assert store.read(MASK) == (upstream / MASK.path).read_bytes()


def test_credentials(good: FaultServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    password = "sec" + "ret"  # tracebacks quote these lines
    store = store_of(tmp_path, good.url.replace("http://", f"http://user:{password}@"))
    assert "secret" not in repr(store)
    good.answer = Answer(status=403)
    with pytest.raises(UnavailableError) as error:
        store.read(MASK)
    with pytest.raises(UnavailableError) as unreachable:
        store_of(tmp_path, f"http://user:{password}@127.0.0.1:9").fetch([MASK])
    for one in (error.value, unreachable.value):
        assert "secret" not in "".join(traceback.format_exception(one))
    assert "secret" not in caplog.text
    good.answer = Answer()
    assert store.read(MASK)  # they are sent all the same


def test_interrupted(upstream: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with serving(upstream, Answer(stall_at=40_000)) as server:
        program = subprocess.Popen(
            [Path(sys.executable).with_name("cifar-noisy"), "download", "--kind", "train_mask"],
            env=os.environ
            | {"CIFAR_NOISY_CACHE": str(cache), "CIFAR_NOISY_MIRRORS": server.url},
            stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert server.has_stalled.wait(60)
        start = time.monotonic()
        program.send_signal(signal.SIGINT)
        out, said = program.communicate(timeout=30)
        taken = time.monotonic() - start
    assert taken < 5  # a second is promised; this machine may be busy
    assert program.returncode not in (0, 1, 3)
    assert out == ""
    assert "Traceback" not in said
    for path in files_below(cache):
        assert path.name.endswith(".lock")
    assert len(prune_cache(Store(cache))) == len(files_below(cache)) or not files_below(cache)


def test_a_closed_socket_is_what_refuses() -> None:
    """The port that the matrix takes for one that refuses does."""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", 9), timeout=1)
