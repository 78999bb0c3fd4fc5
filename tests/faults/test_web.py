"""Every fault of an address, with a second address and without one."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cifar_noisy import UnavailableError, artifacts
from cifar_noisy.store.artifact_store import Host, Store
from tests.faults.matrix import CUT, WEB, WebFault
from tests.faults.server import Answer, FaultServer, serving

MASK = artifacts(kind="train_mask", noise=0.4, sparsity=0.2, edition="2019")[0]


@contextlib.contextmanager
def hanging_up() -> Iterator[str]:
    """Accept connections and close them."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                while True:
                    listening.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextlib.contextmanager
def address(fault: WebFault, folder: Path) -> Iterator[tuple[str, FaultServer | None]]:
    if isinstance(fault.answer, str):
        with (
            hanging_up()
            if fault.answer == "hangs up"
            else contextlib.nullcontext(fault.answer) as url
        ):
            yield url, None
    else:
        with serving(folder, fault.answer) as server:
            yield server.url, server


def store_of(cache: Path, *urls: str) -> Store:
    return Store(cache, tuple(Host(f"{url}/{{path}}") for url in urls), public_hosts=())


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != "CACHEDIR.TAG"]


@pytest.mark.parametrize("fault", WEB, ids=lambda fault: fault.name)
def test_the_next_address_is_asked(
    fault: WebFault, upstream: Path, good: FaultServer, short_limits: None, tmp_path: Path
) -> None:
    with address(fault, upstream) as (url, bad):
        store = store_of(tmp_path, url, good.url)
        assert store.read(MASK) == (upstream / MASK.path).read_bytes()
        assert files_below(tmp_path) == [store.cache_path(MASK)]
        assert good.asked.total() == (0 if fault.is_survived_alone else 1)
        if bad and fault.requests is not None:
            assert bad.asked[MASK.path] == fault.requests


@pytest.mark.parametrize("fault", WEB, ids=lambda fault: fault.name)
def test_without_another_address(
    fault: WebFault, upstream: Path, short_limits: None, tmp_path: Path
) -> None:
    content = (upstream / MASK.path).read_bytes()
    with address(fault, upstream) as (url, _):
        store = store_of(tmp_path, url)
        if fault.is_survived_alone:
            assert store.read(MASK) == content
            return
        with pytest.raises(UnavailableError, match=fault.cause) as error:
            store.read(MASK)
        by_hand = store.cache_path(MASK)
        for part in (url, MASK.sha256, str(by_hand)):
            assert part in str(error.value)
        assert all(line.isprintable() and len(line) < 1000 for line in str(error.value).split("\n"))
        assert files_below(tmp_path) == []

        by_hand.write_bytes(content)
        assert store.read(MASK) == content


def test_every_address_is_named_with_its_own_cause(tmp_path: Path, upstream: Path) -> None:
    faults = [fault for fault in WEB if fault.name in ("refused", "status 404", "one bit wrong")]
    with contextlib.ExitStack() as stack:
        urls = [stack.enter_context(address(fault, upstream))[0] for fault in faults]
        with pytest.raises(UnavailableError) as error:
            store_of(tmp_path, *urls).read(MASK)
    assert len(error.value.causes) == 1 + len(faults)  # the cache has it neither
    for url, fault, cause in zip(urls, faults, error.value.causes[1:], strict=True):
        assert cause.startswith(url)
        assert fault.cause in cause


def test_the_next_address_is_asked_for_the_rest_only(
    tmp_path: Path, upstream: Path, good: FaultServer
) -> None:
    with serving(upstream, Answer(cut_at=CUT)) as bad:
        store_of(tmp_path, bad.url, good.url).read(MASK)
    assert good.sent < MASK.size
    assert good.ranges == [f"bytes={MASK.size - good.sent}-"]
