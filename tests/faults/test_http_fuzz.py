"""Mutated HTTP answers: an error of this package or the right bytes, soon, and nothing else."""

import random
import time
import warnings
from pathlib import Path

import pytest

from cifar_noisy import UnavailableError, artifacts
from tests.faults.fuzz import mutated
from tests.faults.server import Answer, serving
from tests.faults.test_web import store_of

MASK = artifacts(kind="train_mask", noise=0.4, sparsity=0.2, edition="2019")[0]
HEADS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 50128\r\nSet-Cookie: a=b; Path=/\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nc3d0\r\n",
    b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-50127/50128\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/x?y#z\r\nContent-Length: 3\r\n\r\n",
    b"HTTP/1.1 503 Busy\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 429 Slow\r\nRetry-After: 120\r\n\r\n",
)


@pytest.mark.long
def test_mutated_answers(upstream: Path, short_limits: None, tmp_path: Path) -> None:
    rng = random.Random(0)
    content = (upstream / MASK.path).read_bytes()
    n_refused = 0
    with serving(upstream) as server, warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in range(300):
            head = rng.choice(HEADS)
            server.answer = Answer(raw=bytes(mutated(head, rng, len(head))) + content)
            start = time.monotonic()
            try:
                assert store_of(tmp_path / str(n), server.url).read(MASK) == content
            except UnavailableError as error:
                said = str(error).split("\n")
                n_refused += all(line.isprintable() for line in said)
            assert time.monotonic() - start < 30
    assert n_refused > 100
