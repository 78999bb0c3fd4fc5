"""Mutated files into what reads them: an error of ours, or a right result.

The bytes go in behind the checksum, which no mutated file passes: as if the registry pinned them.
"""

import gzip
import io
import pickle
import random
import signal
import tarfile
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np

from cifar_noisy import (
    CifarNoisyError,
    artifacts,
    export_labels,
    load_noisy_labels,
    parse_training_log,
    read_labels,
)
from cifar_noisy.images.readers import (
    BATCH_FOLDER,
    PIXELS,
    OfficialArchive,
    _decode_batch,
    _decode_png,
)
from cifar_noisy.loading.artifact_loading import decode_array
from cifar_noisy.loading.npy_files import open_npy
from cifar_noisy.store.artifact_store import Store
from cifar_noisy.store.bundle import export_bundle, import_bundle
from tests.fake_cifar import FakeCifar

SECONDS_UNTIL_HANG = 20
TIMES_REGISTERED_SIZE = 4
OVERHEAD = 1 << 20  # bytes that Python and pandas take for an input of any size
FAKE = FakeCifar.random()


@dataclass
class Fuzz:
    """What came of it."""

    n: int = 0
    n_refused: int = 0
    slowest: float = 0
    most_memory: float = 0  # in registered sizes, beyond the overhead
    crashes: list[str] = field(default_factory=list)


def mutated(content: bytes, rng: random.Random, head: int) -> bytearray:
    """Return bytes with a few mutations, half of them among the first `head`."""
    out = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(min(head, len(out)) if rng.random() < 0.5 else len(out)) if out else 0
        n = rng.choice((1, 1, 2, 8, 64, 512))
        match rng.randrange(7):
            case 0:
                out[at : at + 1] = bytes([out[at] ^ (1 << rng.randrange(8))]) if out else b""
            case 1:
                out[at : at + n] = rng.randbytes(len(out[at : at + n]))
            case 2:
                del out[at : at + n]
            case 3:
                out[at:at] = rng.randbytes(n)
            case 4:
                out[at:at] = out[at : at + n] * rng.randrange(1, 4)
            case 5:
                del out[at:]
            case 6:
                digits = [i for i in range(at, min(at + 200, len(out))) if chr(out[i]).isdigit()]
                for i in digits[:n]:
                    out[i] = rng.choice(b"0123456789-e.")
    return out


@contextmanager
def no_hang() -> Iterator[None]:
    """Raise where the block takes too long."""

    def late(*_: object) -> None:
        raise TimeoutError("hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS_UNTIL_HANG)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fuzz(folder: Path, n: int, seed: int = 0) -> Fuzz:
    """Feed `n` mutated inputs to the loaders, a third each of arrays, tars and logs."""
    store = Store.from_environment()
    return _fuzz((_array_case(store), _tar_case(store, folder), _log_case(store)), n, seed)


def fuzz_foreign(folder: Path, n: int, seed: int = 0) -> Fuzz:
    """Feed `n` mutated files of people's to the decoders, a fifth of each kind."""
    cases = (
        _pickle_case(), _archive_case(folder), _png_case(), _npy_case(folder), _label_case(folder),
    )  # fmt: skip
    return _fuzz(cases, n, seed)


def _fuzz(cases: Sequence["Case"], n: int, seed: int) -> Fuzz:
    rng = random.Random(seed)
    for case in cases:  # what is imported and compiled once is no input's doing
        feed, content, *_ = case(rng)
        feed(bytearray(content))
    outcome = Fuzz()
    tracemalloc.start()
    try:
        for i in range(n):
            feed, content, size, head = cases[i % len(cases)](rng)
            _try(outcome, feed, mutated(content, rng, head), size)
    finally:
        tracemalloc.stop()
    return outcome


Case = Callable[[random.Random], tuple[Callable[[bytearray], object], bytes, int, int]]


def _array_case(store: Store) -> Case:
    found = artifacts(kind="pyx", noise=0.4) + artifacts(kind="train_mask", noise=0.4)
    contents = {artifact: bytes(store.read(artifact)) for artifact in found}

    def case(rng: random.Random) -> tuple[Callable[[bytearray], object], bytes, int, int]:
        artifact = rng.choice(found)
        return lambda c: decode_array(c, artifact), contents[artifact], artifact.size, 128

    return case


def _tar_case(store: Store, folder: Path) -> Case:
    file = folder / "fuzz.tar"
    export_bundle(store, file, artifacts(kind="noise_matrix"))
    content = file.read_bytes()
    cache = Store(folder / "fuzz cache", is_offline=True)

    def feed(changed: bytearray) -> None:
        file.write_bytes(changed)
        import_bundle(cache, file)

    return lambda rng: (feed, content, len(content), 1024)


def _log_case(store: Store) -> Case:
    # One of each format, the smallest.
    logs = sorted((a for a in artifacts(kind="training_log") if a.size), key=lambda a: -a.size)
    found = list({(a.trainer or a.method): a for a in logs}.values())
    contents = {artifact: bytes(store.read(artifact)) for artifact in found}

    def case(rng: random.Random) -> tuple[Callable[[bytearray], object], bytes, int, int]:
        artifact = rng.choice(found)
        return (
            lambda c: parse_training_log(c.decode(errors="replace")),
            contents[artifact],
            artifact.size,
            2000,
        )

    return case


def _pickle_case() -> Case:
    batch = FAKE.batch("data_batch_1") | {"filenames": [f"{i}.png" for i in range(20)]}
    contents = [pickle.dumps(batch, protocol) for protocol in range(6)]

    def case(rng: random.Random) -> tuple[Callable[[bytearray], object], bytes, int, int]:
        content = rng.choice(contents)
        # The states of arrays stand before their bytes or behind them.
        at = content.index(b"data")
        head = at + 300 if rng.random() < 0.5 else 300
        return lambda c: _decode_batch(bytes(c), 20, "it"), content, len(content), head

    return case


def _archive_case(folder: Path) -> Case:
    """Damage the tar before it is compressed, or what is compressed."""
    FAKE.write_batches(folder / "batches")
    contents = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=form) as tar:
            tar.add(folder / "batches" / BATCH_FOLDER, BATCH_FOLDER)
        contents.append(file.getvalue())
    archive = OfficialArchive(folder / "fuzz.tar.gz", FAKE.release(folder))

    def read(content: bytes) -> None:
        archive.path.write_bytes(content)
        archive.read(train=True, trust=PIXELS)

    def case(rng: random.Random) -> tuple[Callable[[bytearray], object], bytes, int, int]:
        content = rng.choice(contents)
        if rng.random() < 0.5:
            return lambda c: read(gzip.compress(c, 1)), content, len(content), 2048
        return lambda c: read(bytes(c)), gzip.compress(content, 1), len(content), 300

    return case


def _png_case() -> Case:
    content = FAKE.png(True, 0)
    path = PurePosixPath("airplane/0_airplane.png")
    return lambda rng: (lambda c: _decode_png(bytes(c), path), content, 1 << 16, 60)


def _npy_case(folder: Path) -> Case:
    file = folder / "fuzz.npy"
    np.save(file, np.random.default_rng(0).random((100, 10)))
    content = file.read_bytes()

    def feed(changed: bytearray) -> None:
        file.write_bytes(changed)
        open_npy(file).sum()

    return lambda rng: (feed, content, len(content), 128)


def _label_case(folder: Path) -> Case:
    labels, file = load_noisy_labels(0.4, 0.2), folder / "fuzz labels"
    contents = []
    for form in ("dividemix", "cifar-n", "sop"):
        export_labels(file, labels, format=cast(Any, form))
        contents.append(file.read_bytes())

    def feed(changed: bytearray) -> None:
        file.write_bytes(changed)
        read_labels(file)

    def case(rng: random.Random) -> tuple[Callable[[bytearray], object], bytes, int, int]:
        content = rng.choice(contents)
        # Whatever the form, 50,000 labels are counted and compared as int64.
        return feed, content, max(len(content), 1 << 20), 400

    return case


def _try(outcome: Fuzz, feed: Callable[[bytearray], object], content: bytearray, size: int) -> None:
    start = time.perf_counter()
    outcome.n += 1
    said, memory = _fed(feed, bytearray(content))
    if memory > TIMES_REGISTERED_SIZE * size:
        # Once more: now and then the interpreter enlarges a table of its own, and not again.
        memory = min(memory, _fed(feed, bytearray(content))[1])
    if isinstance(said, CifarNoisyError):
        outcome.n_refused += 1
    elif said is not None:
        outcome.crashes.append(f"{type(said).__name__}: {said}")
    outcome.slowest = max(outcome.slowest, time.perf_counter() - start)
    outcome.most_memory = max(outcome.most_memory, memory / size)


def _fed(
    feed: Callable[[bytearray], object], content: bytearray
) -> tuple[BaseException | None, int]:
    """Return the error that came of it, if any, and the peak of memory beyond the overhead."""
    tracemalloc.clear_traces()
    tracemalloc.reset_peak()
    held = tracemalloc.get_traced_memory()[0]
    said: BaseException | None = None
    try:
        with no_hang(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            feed(content)
    except BaseException as error:
        said = error
    return said, tracemalloc.get_traced_memory()[1] - held - OVERHEAD
