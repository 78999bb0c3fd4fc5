"""Bundles: the same files, the same bytes; nothing but registered files ever comes out of one."""

import dataclasses
import hashlib
import io
import os
import random
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cifar_noisy import BundleError, StorageError, UnavailableError, artifacts
from cifar_noisy.store import registry
from cifar_noisy.store.artifact_store import Host, Store
from cifar_noisy.store.bundle import export_bundle, import_bundle
from tests.faults.server import serving

WANTED = artifacts(noise=0.4, sparsity=0.2)
MATRIX, OTHER = artifacts(kind="noise_matrix", noise=0.4)[:2]


@pytest.fixture
def exported(published: str, tmp_path: Path) -> Path:
    file = tmp_path / "exported.tar"
    export_bundle(Store.from_environment(), file, [MATRIX])
    return file


def empty(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache", is_offline=True)


def test_from_a_network_to_a_cluster(upstream: Path, tmp_path: Path) -> None:
    with serving(upstream) as server:
        outside = Store(tmp_path / "outside", (Host(f"{server.url}/{{path}}"),), public_hosts=())
        paths = export_bundle(outside, tmp_path / "a.tar", WANTED)
    assert len(paths) == len(WANTED)
    inside = empty(tmp_path)
    assert import_bundle(inside, tmp_path / "a.tar") == paths
    for artifact in WANTED:
        assert inside.cache_path(artifact).read_bytes() == (upstream / artifact.path).read_bytes()
    assert (inside.cache / "CACHEDIR.TAG").is_file()

    # Again, over files that are there: none is touched.
    before = [inside.cache_path(artifact).stat() for artifact in WANTED]
    import_bundle(inside, tmp_path / "a.tar")
    assert [inside.cache_path(artifact).stat() for artifact in WANTED] == before


def test_the_same_files_give_the_same_bytes(published: str, tmp_path: Path) -> None:
    store = Store.from_environment()
    export_bundle(store, tmp_path / "a.tar", WANTED)
    umask = os.umask(0o077)
    try:
        export_bundle(store, tmp_path / "b.tar", [*reversed(WANTED), WANTED[0]])
    finally:
        os.umask(umask)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    # Nothing of the day, the machine or the user is in it.
    with tarfile.open(tmp_path / "a.tar") as tar:
        about = {(m.mtime, m.mode, m.uid, m.gid, m.uname, m.gname) for m in tar}
    assert about == {(1_609_459_200, 0o644, 0, 0, "", "")}


def test_by_hand(published: str, tmp_path: Path) -> None:
    if not (shutil.which("tar") and shutil.which("sha256sum")):
        pytest.skip("needs tar and sha256sum")
    export_bundle(Store.from_environment(), tmp_path / "a.tar", WANTED)
    cache = tmp_path / "cache"
    cache.mkdir()
    unpacked = subprocess.run(
        ["tar", "-xvf", "../a.tar"], cwd=cache, check=True, capture_output=True, text=True
    )
    assert unpacked.stderr == ""
    checked = subprocess.run(
        ["sha256sum", "-c", "SHA256SUMS"], cwd=cache, check=True, capture_output=True, text=True
    )
    assert checked.stdout.count(": OK\n") == len(WANTED)
    assert empty(tmp_path).fetch(WANTED)
    # And the other way round: a tar made by hand is imported.
    names = [artifact.path for artifact in WANTED]
    subprocess.run(["tar", "--format=ustar", "-cf", "../b.tar", *names], cwd=cache, check=True)
    assert import_bundle(Store(tmp_path / "other"), tmp_path / "b.tar") == tuple(names)


def test_everything_fits_the_format(upstream: Path, published: str, tmp_path: Path) -> None:
    paths = export_bundle(Store.from_environment(), tmp_path / "a.tar", artifacts())
    assert len(paths) == len(artifacts())
    assert import_bundle(empty(tmp_path), tmp_path / "a.tar") == paths


def test_the_image_archive_travels_too(
    published: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = random.Random(0).randbytes(1_000_000)
    (archive,) = artifacts(kind="images")
    small = dataclasses.replace(
        archive, size=len(content), sha256=hashlib.sha256(content).hexdigest()
    )
    monkeypatch.setattr(registry, "all_artifacts", lambda: (small,))
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "cifar-10-python.tar.gz").write_bytes(content)
    with serving(tmp_path / "served") as server:
        outside = Store(tmp_path / "outside", (Host(f"{server.url}/{{path}}"),), public_hosts=())
        paths = export_bundle(outside, tmp_path / "a.tar", [], images=True)
    assert paths == ("images/cifar-10-python.tar.gz",)
    import_bundle(empty(tmp_path), tmp_path / "a.tar")
    assert (tmp_path / "cache" / paths[0]).read_bytes() == content


def test_what_cannot_be_had_leaves_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError):
        export_bundle(empty(tmp_path), tmp_path / "a.tar", WANTED)
    with pytest.raises(StorageError, match=r"/dev/null/a\.tar cannot be written"):
        export_bundle(empty(tmp_path), Path("/dev/null/a.tar"), [])
    assert not list(tmp_path.glob("*.tar"))


Tar = Callable[[tarfile.TarFile], None]


def file(name: str, content: bytes = b"x", **fields: object) -> Tar:
    def add(tar: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        for field, value in fields.items():
            setattr(member, field, value)
        tar.addfile(member, io.BytesIO(content))

    return add


def of_type(kind: bytes) -> Tar:
    def add(tar: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(OTHER.path)
        member.type, member.linkname = kind, "/etc/passwd"
        tar.addfile(member)

    return add


NASTY: dict[str, tuple[Tar, str]] = {
    "unregistered": (file("cifar10/notes.txt"), "is not in the registry"),
    "traversal": (file("../../etc/passwd"), "is not in the registry"),
    "traversal to a registered name": (file(f"x/../{OTHER.path}"), "not in the registry"),
    "absolute": (file(f"/{OTHER.path}"), "is not in the registry"),
    "tag": (file("CACHEDIR.TAG"), "is not in the registry"),
    "wrong size": (file(OTHER.path, b"short"), "has 5 bytes"),
    "wrong bytes": (file(OTHER.path, bytes(OTHER.size)), "has sha256"),
    "symbolic link": (of_type(tarfile.SYMTYPE), "no plain file"),
    "hard link": (of_type(tarfile.LNKTYPE), "no plain file"),
    "character device": (of_type(tarfile.CHRTYPE), "no plain file"),
    "block device": (of_type(tarfile.BLKTYPE), "no plain file"),
    "pipe": (of_type(tarfile.FIFOTYPE), "no plain file"),
    "folder": (of_type(tarfile.DIRTYPE), "no plain file"),
    "sparse": (of_type(tarfile.GNUTYPE_SPARSE), "no plain file"),
    "long name": (file("x" * 300), "no plain file"),
    "control characters": (file("a\n\x1b[31mb"), r"'a\\n\\x1b\[31mb'"),
    "huge list of checksums": (file("SHA256SUMS", bytes(2 << 20)), "not in the registry"),
}


@pytest.mark.parametrize("name", NASTY)
def test_refused_before_anything_is_written(name: str, exported: Path, tmp_path: Path) -> None:
    add, said = NASTY[name]
    form = tarfile.GNU_FORMAT if name == "long name" else tarfile.USTAR_FORMAT
    with tarfile.open(exported, "w" if name.startswith("huge") else "a", format=form) as tar:
        add(tar)
    with pytest.raises(BundleError, match=said) as error:
        import_bundle(empty(tmp_path), exported)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "cache").exists()


def negative(size: int) -> bytes:
    """Return the header of a list of checksums with a size below zero."""
    header = bytearray(tarfile.TarInfo("SHA256SUMS").tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = size.to_bytes(12, "big", signed=True)
    header[148:156] = b"%06o\0 " % tarfile.calc_chksums(header)[0]  # type: ignore[attr-defined]
    return bytes(header)


def test_bombs_and_rubble(exported: Path, tmp_path: Path) -> None:
    right = exported.read_bytes()
    huge = tarfile.TarInfo(MATRIX.path)
    huge.size = 1 << 32
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 1 << 32
    for content, said in (
        (huge.tobuf(tarfile.USTAR_FORMAT), "size of 4,294,967,296 bytes"),
        (header.tobuf(tarfile.USTAR_FORMAT), "size of 4,294,967,296 bytes"),
        (negative(-1024), "size of -1,024 bytes"),
        (negative(-(2**80)), "size of -1,2"),
        (bytes(10240), "has no published file in it"),
        (right[:512] + bytes(10240), "is no plain tar|lacks|cut off"),
        (right[:1024] + bytes(10240), r"lacks 'cifar10/.*', which its SHA256SUMS lists"),
        (b"", "is cut off"),
        (b"\x1f\x8b" + bytes(600), "is no plain tar"),
        (bytes(range(256)) * 2, "is no plain tar"),
        (right[:2560], "is cut off"),
        (right[:700], "is cut off"),
        (right[:2560] + right[1024:], "twice"),
    ):
        exported.write_bytes(content)
        with pytest.raises(BundleError, match=said):
            import_bundle(empty(tmp_path), exported)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "nowhere.tar", tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(BundleError, match="cannot be read"):
            import_bundle(empty(tmp_path), path)


def test_what_is_no_file_in_the_cache(exported: Path, tmp_path: Path) -> None:
    store = empty(tmp_path)
    target = store.cache_path(MATRIX)
    target.parent.mkdir(parents=True)
    os.mkfifo(target)
    with pytest.raises(StorageError, match=r"cannot be written .*a pipe"):
        import_bundle(store, exported)
    assert target.is_fifo()


def test_progress_that_is_false(exported: Path, tmp_path: Path) -> None:
    from tqdm import tqdm

    with tqdm(total=None, disable=True) as progress:
        import_bundle(empty(tmp_path), exported, progress)
    with tqdm(total=None, file=io.StringIO()) as progress:
        import_bundle(empty(tmp_path), exported, progress)
        assert progress.n == MATRIX.size


def test_a_bundle_where_an_output_may_be(published: str, tmp_path: Path) -> None:
    store = Store.from_environment()
    export_bundle(store, tmp_path / "plain.tar", WANTED)
    expected = (tmp_path / "plain.tar").read_bytes()
    (tmp_path / "inner").mkdir()
    private = tmp_path / "inner" / "private.tar"
    private.write_bytes(b"old")
    private.chmod(0o600)
    link = tmp_path / "link.tar"
    link.symlink_to("inner/private.tar")
    export_bundle(store, link, WANTED)
    assert link.is_symlink()
    assert private.read_bytes() == expected
    assert private.stat().st_mode & 0o777 == 0o600
    program = Path(sys.executable).with_name("cifar-noisy")
    command = '"$0" cache export "$1" --noise 0.4 --sparsity 0.2'
    for target, after in (("/dev/stdout", " | cat"), ("/dev/fd/3", " 3>&1 >/dev/null | cat")):
        run = subprocess.run(
            ["bash", "-c", command + after, program, target], capture_output=True, check=True
        )
        assert run.stdout[: len(expected)] == expected
        # After the end of a tar nobody reads on.
        assert import_stdout(run.stdout, tmp_path)


def import_stdout(content: bytes, tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / "piped.tar").write_bytes(content)
    return import_bundle(empty(tmp_path), tmp_path / "piped.tar")


def test_a_cache_that_cannot_be_written(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("mine")
    with pytest.raises(StorageError, match=r"cannot be written .*CIFAR_NOISY_CACHE"):
        import_bundle(empty(tmp_path), exported)
    assert (tmp_path / "cache").read_text() == "mine"


def test_no_bundle_on_the_command_line(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("cifar-noisy")
    (tmp_path / "empty.tar").write_bytes(b"")
    (tmp_path / "zeros.tar").write_bytes(bytes(10240))
    for path in ("/dev/zero", tmp_path / "empty.tar", tmp_path / "zeros.tar"):
        done = subprocess.run(
            [program, "cache", "import", path], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
