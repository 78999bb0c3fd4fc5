"""Files of torch.save, read without torch: as torch reads them, or refused with one line."""

import collections
import io
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cifar_noisy import InvalidInputError, MissingInputError
from cifar_noisy.loading.torch_files import read_torch_file
from tests.images.test_readers import bounded


def saved(value: object, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


TENSORS = {
    "long": torch.arange(10),
    "int": torch.arange(10, dtype=torch.int32),
    "short": torch.arange(10, dtype=torch.int16),
    "char": torch.arange(10, dtype=torch.int8) - 5,
    "byte": torch.arange(10, dtype=torch.uint8),
    "bool": torch.arange(10) > 3,
    "half": torch.arange(10, dtype=torch.float16) / 3,
    "float": torch.arange(10, dtype=torch.float32) / 3,
    "double": torch.arange(10, dtype=torch.float64) / 3,
    "column": torch.arange(20).reshape(10, 2)[:, 1],
    "transposed": torch.arange(20).reshape(4, 5).T,
    "part": torch.arange(20)[5:9],
    "one": torch.tensor(7),
    "row of one": torch.arange(20).reshape(4, 5)[2:3],
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor(name: str) -> None:
    found = read_torch_file(saved(TENSORS[name]))
    assert isinstance(found, np.ndarray)
    expected = TENSORS[name].numpy()
    assert found.dtype == expected.dtype
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_dictionary_as_torch_reads_it(protocol: int, tmp_path: Path) -> None:
    dtypes = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
              "float16", "float32", "float64", ">i4")  # fmt: skip
    arrays: dict[str, Any] = {name: np.arange(6).astype(name).reshape(2, 3) for name in dtypes}
    arrays["fortran"] = np.asfortranarray(arrays["int64"])
    base = torch.arange(12)
    value = collections.OrderedDict(
        arrays | {"a": base[:6], "b": base[6:], "list": [3, 1, 2], "rate": 0.4, "n": 5, "is": True}
    )
    path = tmp_path / "file.pt"
    torch.save(value, path, pickle_protocol=protocol)
    found = read_torch_file(path)
    assert isinstance(found, dict)
    expected = torch.load(path, weights_only=False)
    assert list(found) == list(expected)
    for name, array in expected.items():
        dtypes_of = (np.asarray(array).dtype, found[name].dtype)
        assert len({dtype.newbyteorder("=") for dtype in dtypes_of}) == 1
        assert np.array_equal(np.asarray(array), found[name])


def test_the_other_byte_order() -> None:
    with zipfile.ZipFile(io.BytesIO(saved(torch.arange(5)))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (order,) = (name for name in members if name.endswith("byteorder"))
    (data,) = (name for name in members if name.endswith("data/0"))
    members |= {order: b"big", data: np.arange(5).astype(">i8").tobytes()}
    found = read_torch_file(zipped(members, zipfile.ZIP_DEFLATED))
    assert isinstance(found, np.ndarray)
    assert found.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(InvalidInputError, match=r"no file of torch\.save"):
        read_torch_file(zipped(members | {order: b"middle"}))


class Call:
    """A pickle of it calls a function."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return print, ("called",)


def tensor(shape: object, strides: object, offset: object = 0, n: object = 4) -> bytes:
    """Return a file whose tensor of four int64 says of itself what it wants."""

    class Place:
        pass

    class Pickler(pickle._Pickler):  # the one in Python, whose names can be chosen
        def persistent_id(self, value: object) -> object:
            return (
                ("storage", torch.LongStorage, "0", "cpu", n) if isinstance(value, Place) else None
            )

    class Rebuilt:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            hooks: dict[str, object] = collections.OrderedDict()
            rebuild = torch._utils._rebuild_tensor_v2
            return rebuild, (Place(), offset, shape, strides, False, hooks)

    file = io.BytesIO()
    Pickler(file, 2).dump(Rebuilt())
    return zipped({"a/data.pkl": file.getvalue(), "a/data/0": bytes(32)})


def test_a_tensor_made_by_hand() -> None:
    found = read_torch_file(tensor((2, 2), (2, 1)))
    assert isinstance(found, np.ndarray)
    assert found.tolist() == [[0, 0], [0, 0]]


def pickled(value: object) -> bytes:
    return zipped({"a/data.pkl": pickle.dumps(value, 2), "a/version": b"3\n"})


def many_members() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}))
        for i in range(150_000):
            archive.writestr(zipfile.ZipInfo(str(i)), b"")
    return file.getvalue()


WHOLE = saved(torch.arange(1000))
SAME = np.zeros(1 << 20)
REFUSED: dict[str, Callable[[], bytes]] = {
    "a call": lambda: saved({"a": Call()}),
    "a module": lambda: saved(torch.nn.Linear(2, 2)),
    "a parameter": lambda: saved(torch.nn.Parameter(torch.zeros(3))),
    "complex": lambda: saved(torch.zeros(3, dtype=torch.complex64)),
    "bfloat16": lambda: saved(torch.zeros(3, dtype=torch.bfloat16)),
    "sparse": lambda: saved(torch.zeros(3).to_sparse()),
    "objects": lambda: saved(np.array([{}], object)),
    "texts": lambda: saved(np.array(["cat"])),
    "a text": lambda: saved("cat"),
    "a text in a list": lambda: saved([1, "cat"]),
    "nothing": lambda: saved({"a": None}),
    "a dictionary in a dictionary": lambda: saved({"a": {"b": 1}}),
    "numbered": lambda: saved({1: torch.zeros(3)}),
    "a number of 30 digits": lambda: saved([10**30]),
    "before zips": lambda: saved(torch.arange(10), _use_new_zipfile_serialization=False),
    "an npz": lambda: zipped({"labels.npy": b""}),
    "two pickles": lambda: zipped({"a/data.pkl": b"", "b/data.pkl": b""}),
    "no storage": lambda: zipped({"a/data.pkl": b"\x80\x02}q\x00."}) [:-30],
    "cut": lambda: WHOLE[:-100],
    "cut early": lambda: WHOLE[:100],
    "changed": lambda: WHOLE.replace(np.arange(10).tobytes(), bytes(80)),
    "nothing at all": lambda: b"",
    "another file": lambda: b"label\n1\n2\n",
    "negative shape": lambda: tensor((-1,), (1,)),
    "large shape": lambda: tensor((1 << 40,), (1,)),
    "many large sizes": lambda: tensor((4, 4, 4), (1, 1, 1)),
    "repeated": lambda: tensor((1 << 40,), (0,)),
    "repeated a little": lambda: tensor((5,), (0,)),
    "many dimensions": lambda: tensor((1,) * 40, (1,) * 40),
    "shape of numbers that are none": lambda: tensor(("4",), (1,)),
    "shape that is none": lambda: tensor(4, 1),
    "strides beyond": lambda: tensor((3,), (2,)),
    "large strides": lambda: tensor((2,), (1 << 70,)),
    "negative strides": lambda: tensor((2,), (-1,)),
    "other strides": lambda: tensor((2, 2), (1,)),
    "offset beyond": lambda: tensor((2,), (1,), 3),
    "negative offset": lambda: tensor((2,), (1,), -1),
    "large offset": lambda: tensor((0,), (1,), 1 << 70),
    "another size": lambda: tensor((4,), (1,), n=5),
    "endless": lambda: zipped({"a/data.pkl": b"\x80\x02" + b"]" * 10_000_000}, 8),
    "one array, often": lambda: pickled({str(i): SAME for i in range(500)}),
    "a list, often": lambda: pickled({str(i): x for x in [[0] * 99_000] for i in range(900)}),
    "a bomb": lambda: zipped({"a/data.pkl": bytes(1 << 28)}, zipfile.ZIP_DEFLATED),
    "a bomb of bzip2": lambda: zipped({"a/data.pkl": bytes(1 << 28)}, zipfile.ZIP_BZIP2),
    "lzma": lambda: zipped({"a/data.pkl": b""}, zipfile.ZIP_LZMA),
    "members": many_members,
    "a large file": lambda: bytes((1 << 24) + 1),
}  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    path.write_bytes(REFUSED[name]())
    said = bounded(
        "from cifar_noisy.loading.torch_files import read_torch_file\n"
        "def run():\n    read_torch_file(sys.argv[1])\n    print('read')\n",
        path,
        megabytes=200,
    )
    assert str(path) in said
    assert len(said) < 400
    assert ("torch before 1.6" in said) == (name == "before zips")
    assert said.strip() != "read"


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="does not exist"):
        read_torch_file(tmp_path / "none.pt")


def test_the_files_of_other_repositories(label_sets: Path) -> None:
    """The official file of CIFAR-10N, and a tensor, as torch reads them."""
    cal = "KlemenVovk/noisy-labels/src/reproducibility/learning_strategies/CAL/assets"
    for path in ("UCSC-REAL/cifar-10-100n/data/CIFAR-10_human.pt", f"{cal}/IDN_0.4_C10.pt"):
        found = read_torch_file(label_sets / path)
        expected = torch.load(label_sets / path, weights_only=False)
        if isinstance(found, dict):
            assert list(found) == list(expected)
            assert all(np.array_equal(found[name], expected[name]) for name in found)
        else:
            assert np.array_equal(found, expected)
