"""The weekly check of public addresses, against a server on loopback that fails in each way."""

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import pytest

from cifar_noisy.store.registry import Artifact, all_artifacts
from tests.file_server import serving

check_addresses: Any = importlib.import_module("scripts.check_addresses")


def chosen(kind: str, n: int) -> list[Artifact]:
    return [a for a in all_artifacts() if a.kind == kind and a.noise is not None][:n]


def test_addresses(upstream: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks, matrices = chosen("train_mask", 4), chosen("noise_matrix", 2)
    with serving(upstream) as server:
        hosts = server.public_hosts()
        own = dataclasses.replace(masks[3], urls=(f"{server.url}/{masks[3].path}",))
        files = [*masks[:3], *matrices, own]
        assert list(check_addresses.problems(hosts, files)) == []
        asked = {url.split("/")[1].split(".")[-2:][0] for url in server.asked}
        assert asked == {"githubusercontent", "jsdelivr", "softwareheritage", "mirror"}
        assert len(server.asked) == 6 + 3

        def path_of(url: str) -> str:
            return "/" + url.split("/", 3)[3]

        smallest = min(matrices, key=lambda artifact: artifact.size)
        server.answers = {
            path_of(hosts[0].url(masks[0])): 404,
            path_of(hosts[0].url(masks[1])): b"short",
            path_of(own.urls[0]): 503,
            path_of(hosts[1].url(smallest)): bytes(smallest.size),
        }
        assert list(check_addresses.problems(hosts, files)) == [
            f"{hosts[0].url(masks[0])}: status 404",
            f"{hosts[0].url(masks[1])}: 5 bytes, where 50128 were published",
            f"{own.urls[0]}: status 503",
            f"{hosts[1].url(smallest)}: other bytes than those of sha256 {smallest.sha256}",
        ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check_addresses, "PUBLIC_HOSTS", hosts)  # nobody listens there any more
        patch.setattr(check_addresses, "all_artifacts", lambda: masks[:1])
        assert check_addresses.main() == 1
        assert capsys.readouterr().out.endswith("4 problems\n")
        patch.setattr(check_addresses, "all_artifacts", list)
        assert check_addresses.main() == 0
