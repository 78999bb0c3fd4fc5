"""Array files of the caller's: mapped, or refused in one line."""

import errno
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from cifar_noisy import InvalidInputError
from cifar_noisy.loading.npy_files import open_npy


def npy(header: str, version: int = 1) -> bytes:
    text = header.encode() + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + bytes(80)


def of_shape(shape: object, dtype: str = "'<f8'", version: int = 1) -> bytes:
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}}}"
    return npy(text, version)


@pytest.mark.parametrize(
    "array",
    [np.zeros(0), np.array(3.0), np.zeros((3, 0)), np.eye(3, 2, dtype=bool),
     np.arange(9, dtype=">i2")],
)  # fmt: skip
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_mapped(array: np.ndarray, order: Literal["C", "F"], tmp_path: Path) -> None:
    np.save(tmp_path / "file.npy", np.asarray(array, order=order))
    found = open_npy(tmp_path / "file.npy")
    assert isinstance(found, np.memmap)
    assert not found.flags.writeable
    assert found.dtype == array.dtype
    assert found.tolist() == array.tolist()


def test_an_array_where_nothing_can_be_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    orders: tuple[Literal["C", "F"], ...] = ("C", "F")
    for order in orders:
        array = np.asarray(np.arange(6).reshape(2, 3), order=order)
        np.save(tmp_path / "file.npy", array)
        with monkeypatch.context() as patch:
            patch.setattr("mmap.mmap", refuse)
            found = open_npy(tmp_path / "file.npy")
        assert found.tolist() == [[0, 1, 2], [3, 4, 5]]
        assert not found.flags.writeable


DAMAGED = {
    "negative shape": of_shape((-50_000, 10)),
    "large shape": of_shape((10**30, 10)),
    "large shape of nothing": of_shape((0, 10**30)),
    "digits": of_shape("9" * 5000),
    "dimensions": of_shape("(" + "1, " * 1000 + ")"),
    "no whole number": of_shape((1.5,)),
    "truth": of_shape((True,)),
    "brackets": npy("[" * 9000),
    "many brackets": npy("[" * 60_000),
    "few brackets": npy("[" * 4000),
    "signs": npy("-" * 7000 + "1"),
    "objects": of_shape((1,), "'|O'"),
    "texts": of_shape((1,), "'<U4'"),
    "records": of_shape((1,), "[('a', '<f8', (1000000000,))]"),
    "version 3": of_shape((1,), version=3),
    "version 9": of_shape((1,), version=9),
    "long header": b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(100),
    "cut": of_shape((11,)),
    "text": b"1,2,3\n",
    "nothing": b"",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_no_array(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file.npy"
    path.write_bytes(DAMAGED[name])
    with pytest.raises(InvalidInputError, match=r"file\.npy is no .npy file of numbers") as error:
        open_npy(path)
    assert len(str(error.value)) < 400 + len(str(path))


def test_a_long_header_is_not_read(tmp_path: Path) -> None:
    import tracemalloc

    with (tmp_path / "file.npy").open("wb") as file:
        file.write(b"\x93NUMPY\x02\x00\xff\xff\xff\x3f")
        file.truncate(1 << 30)
    tracemalloc.start()
    with pytest.raises(InvalidInputError):
        open_npy(tmp_path / "file.npy")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npy")
    for path in (tmp_path / "pipe.npy", tmp_path, Path("/dev/zero"), tmp_path / "none"):
        with pytest.raises(OSError, match=r"a pipe, a device|Is a directory|does not exist"):
            open_npy(path)
    with zipfile.ZipFile(tmp_path / "file.npz", "w") as file:
        file.writestr("a.npy", of_shape((10,)))
    with pytest.raises(InvalidInputError, match=r"is an archive of arrays"):
        open_npy(tmp_path / "file.npz")


def test_a_pipe_on_the_command_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npy")
    program = Path(sys.executable).with_name("cifar-noisy")
    done = subprocess.run(
        [program, "evaluate", tmp_path / "pipe.npy", "--noise", "0.4", "--sparsity", "0.2"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode in (1, 2)
    assert "pipe.npy" in done.stderr
    assert "a pipe, a device or a socket" in done.stderr
    assert done.stderr.count("\n") == 1
