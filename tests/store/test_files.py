"""Files that a person names as outputs, and files that carry their own checksum."""

import contextlib
import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from cifar_noisy.errors import StorageError
from cifar_noisy.store.files import (
    WORTH_KEEPING,
    open_regular,
    output_file,
    resumable_file,
    storage_errors,
)
from cifar_noisy.store.sealed import (
    map_sealed,
    read_sealed,
    read_sealed_json,
    write_sealed,
    write_sealed_json,
)


def write(path: Path, content: bytes = b"new") -> None:
    with output_file(path) as file:
        file.write(content)


def test_an_output_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o600)
    write(path)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_output_through_links(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    target = tmp_path / "inner" / "file"
    target.write_bytes(b"old")
    (tmp_path / "one").symlink_to("inner/file")
    (tmp_path / "two").symlink_to("one")
    write(tmp_path / "two")
    assert (tmp_path / "two").is_symlink()
    assert (tmp_path / "one").is_symlink()
    assert target.read_bytes() == b"new"
    target.unlink()
    write(tmp_path / "two")
    assert target.read_bytes() == b"new"


def test_an_output_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), output_file(path) as file:
        file.write("no bytes")  # type: ignore[call-overload]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "x" * 241])
def test_a_name_as_long_as_it_may_be(name: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    content = bytes(WORTH_KEEPING)
    with contextlib.suppress(StorageError), resumable_file(tmp_path / name) as file:
        file.write(content)
        raise StorageError
    with resumable_file(tmp_path / name) as file:
        file.seek(0)
        assert file.read() == content
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 256)
    said = r"/x{256} cannot be written \(File name too long\): name another"
    with pytest.raises(StorageError, match=said), storage_errors(path, "name another"):
        write(path)


def test_an_output_to_a_device_or_pipe(tmp_path: Path) -> None:
    before = Path("/dev/null").stat()
    write(Path("/dev/null"))
    assert Path("/dev/null").stat().st_rdev == before.st_rdev
    program = (
        "import sys\nfrom pathlib import Path\nfrom cifar_noisy.store.files import output_file\n"
        "with output_file(Path(sys.argv[1])) as file:\n    file.write(b'new')\n"
    )
    for command in (
        '"$0" -c "$1" >(cat > "$2"); sleep 0.5',
        '"$0" -c "$1" /dev/stdout > "$2"',
        '"$0" -c "$1" /dev/stdout | cat > "$2"',
    ):
        file = tmp_path / "out"
        subprocess.run(["bash", "-c", command, sys.executable, program, file], check=True)
        assert file.read_bytes() == b"new"
        file.unlink()


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a memory file system there")
def test_an_output_below_dev_is_replaced() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path = Path(folder) / "file"
        path.write_bytes(b"old")
        write(path)
        assert path.read_bytes() == b"new"


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match=r"pipe, a device|directory"):
            open_regular(path)
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"content"


def test_a_file_without_end_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(OSError, match="File too large"):
        open_regular(path)
    assert read_sealed(path) is None
    assert map_sealed(path) is None
    assert read_sealed_json(path) is None


def test_a_sealed_file_on_a_file_system_that_refuses_maps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr("mmap.mmap", refuse)
    write_sealed(tmp_path / "file", [b"content"])
    with pytest.raises(StorageError, match="cannot be mapped into memory"):
        map_sealed(tmp_path / "file")


def test_a_sealed_file_is_right_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "file"
    content = os.urandom(100)
    write_sealed(path, [content])
    assert read_sealed(path) == content
    assert bytes(map_sealed(path) or b"") == content
    whole = path.read_bytes()
    broken = [whole[:n] for n in range(len(whole))]
    broken += [whole + b"\n", whole[:7] + bytes([whole[7] ^ 1]) + whole[8:]]
    broken += [whole[:-3] + b"0\n", b"garbage", bytes(1000)]
    for text in broken:
        path.write_bytes(text)
        assert read_sealed(path) is None
        assert map_sealed(path) is None
    path.unlink()
    os.mkfifo(path)
    assert read_sealed(path) is None
    assert map_sealed(path) is None
    assert read_sealed(tmp_path) is None
    assert read_sealed(tmp_path / "none") is None


def test_a_sealed_json_object_is_right_or_absent(tmp_path: Path) -> None:
    import json

    path = tmp_path / "file"
    value = {"n": 1, "of": {"a": [1, 2], "b": None}}
    write_sealed_json(path, value)
    assert read_sealed_json(path) == value
    read = json.loads(path.read_text())
    assert len(read.pop("sha256")) == 64
    assert read == value
    whole = path.read_bytes()
    for text in [whole[:n] for n in range(len(whole))] + [whole.replace(b"1", b"3"), b"[" * 10_000]:
        path.write_bytes(text)
        assert read_sealed_json(path) is None


def test_a_sealed_array_is_an_npy_file(tmp_path: Path) -> None:
    from cifar_noisy.store.registry import npy_bytes

    write_sealed(tmp_path / "file.npy", [npy_bytes(np.arange(7))])
    assert np.load(tmp_path / "file.npy").tolist() == list(range(7))


def test_a_sealed_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="make room"):
        write_sealed(tmp_path / "file" / "inner", [b""])


def test_a_huge_file_is_no_sealed_one(tmp_path: Path) -> None:
    """Sparse, and larger than any memory."""
    with (tmp_path / "file").open("wb") as file:
        file.truncate(1 << 42)
    assert read_sealed(tmp_path / "file") is None
    assert read_sealed_json(tmp_path / "file") is None
