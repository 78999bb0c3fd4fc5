"""Ask every public address whether it still gives the published files.

    python scripts/check_addresses.py

Each file on GitHub, and each that has addresses of its own, is asked for its size (HEAD). Of each
repository, the smallest file is fetched from each host and its checksum compared, so that a host
with other bytes is noticed too. The exit status is 1 if any address failed.
"""

import hashlib
import sys
from collections.abc import Iterable, Iterator, Sequence

import requests

from cifar_noisy import Artifact
from cifar_noisy.store.artifact_store import PUBLIC_HOSTS, Host
from cifar_noisy.store.registry import all_artifacts

TIMEOUT = (10, 60)
"""Seconds to connect, and between bytes."""


def problems(hosts: Sequence[Host], artifacts: Iterable[Artifact]) -> Iterator[str]:
    """Yield a line for each address that does not give what is published."""
    found = list(artifacts)
    on_hosts = [artifact for artifact in found if not artifact.urls]
    with requests.Session() as session:
        session.headers["Accept-Encoding"] = "identity"  # or Content-Length is another
        for artifact in found:
            for url in artifact.urls or (hosts[0].url(artifact),):
                yield from _problem(session, "HEAD", url, artifact)
        for repository in sorted({artifact.repository for artifact in on_hosts}):
            files = [artifact for artifact in on_hosts if artifact.repository == repository]
            smallest = min((file for file in files if file.size), key=lambda file: file.size)
            for host in hosts:
                yield from _problem(session, "GET", host.url(smallest), smallest)


def _problem(session: requests.Session, method: str, url: str, artifact: Artifact) -> Iterator[str]:
    try:
        answer = session.request(method, url, timeout=TIMEOUT, allow_redirects=True)
    except requests.RequestException as error:
        yield f"{url}: {error}"
        return
    size = answer.headers.get("Content-Length")
    if answer.status_code != requests.codes.ok:
        yield f"{url}: status {answer.status_code}"
    elif method == "GET" and hashlib.sha256(answer.content).hexdigest() != artifact.sha256:
        yield f"{url}: other bytes than those of sha256 {artifact.sha256}"
    elif method == "HEAD" and size is not None and int(size) != artifact.size:
        yield f"{url}: {size} bytes, where {artifact.size} were published"


def main() -> int:
    n_problems = 0
    for line in problems(PUBLIC_HOSTS, all_artifacts()):
        print(line, flush=True)
        n_problems += 1
    print(f"{n_problems} problems")
    return 1 if n_problems else 0


if __name__ == "__main__":
    sys.exit(main())
