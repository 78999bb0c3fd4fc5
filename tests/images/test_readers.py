"""Images from files that are broken or hostile: refused with one error of ours, or passed over."""

import gzip
import io
import os
import pickle
import random
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from cifar_noisy import (
    CorruptFileWarning,
    ImagesError,
    MissingInputError,
    UnavailableError,
    check_alignment,
    load_images,
    write_images,
)
from cifar_noisy.images import archive_download, readers
from cifar_noisy.images.readers import ARCHIVE, BATCH_FOLDER, _decode_batch
from cifar_noisy.loading import row_order
from cifar_noisy.settings import CLASSES
from tests.fake_cifar import PNG_ARCHIVES, FakeCifar, add
from tests.range_server import Behaviour, serving_ranges

FAKE = FakeCifar.random()
Pin = Callable[[Path], None]


@pytest.fixture
def pin(monkeypatch: pytest.MonkeyPatch) -> Pin:
    """Return a function that makes the files below a folder the official ones."""

    def pinned(folder: Path) -> None:
        monkeypatch.setattr(readers, "CIFAR10", FAKE.release(folder))
        monkeypatch.setattr(row_order, "OFFICIAL_LABELS_SHA256", FAKE.labels_sha256)

    return pinned


# What broken downloads and extractions leave.


def cut_archive(root: Path) -> None:
    (root / ARCHIVE).write_bytes(FAKE.write_archive(root).read_bytes()[:5000])


def web_page(root: Path) -> None:
    root.mkdir(exist_ok=True)
    (root / ARCHIVE).write_bytes(b"<html>not found</html>")


def half_extracted(root: Path) -> None:
    folder = FAKE.write_batches(root)
    (folder / "data_batch_2").write_bytes(b"\x80\x02")
    (folder / "data_batch_3").unlink()
    (folder / "test_batch").unlink()


def empty_folder(root: Path) -> None:
    (root / BATCH_FOLDER).mkdir(parents=True)


@pytest.mark.parametrize(
    ("leave", "named"),
    [
        *((leave, "root") for leave in (cut_archive, web_page, half_extracted, empty_folder)),
        *((leave, "the broken one") for leave in (cut_archive, web_page, half_extracted)),
    ],
)
def test_broken_leftovers_are_downloaded_again(
    leave: Callable[[Path], None],
    named: str,
    tmp_path: Path,
    pin: Pin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = FAKE.write_archive(tmp_path / "there").read_bytes()
    FAKE.write_batches(tmp_path / "there")
    pin(tmp_path / "there")
    root = tmp_path / "root"
    leave(root)
    left = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    path = root if named == "root" else next(root.iterdir())
    with pytest.raises(ImagesError):
        load_images(path)
    with serving_ranges() as server:
        monkeypatch.setattr(archive_download, "ARCHIVE_URLS", (server.url("/official"),))
        monkeypatch.setattr(archive_download, "PNG_URLS", ())
        with (
            pytest.warns(CorruptFileWarning, match="downloaded again, since"),
            pytest.raises(UnavailableError),
        ):
            load_images(path, download=True)
        server.files["/official"] = Behaviour(content)
        with pytest.warns(CorruptFileWarning, match="downloaded again, since"):
            loaded = load_images(path, download=True)
    assert loaded.is_official
    assert (root / ARCHIVE).read_bytes() == content
    # Whatever else was there is the user's, broken or not.
    assert all(path.read_bytes() == left[path] for path in left if path.name != ARCHIVE)
    assert load_images(root, train=False).is_official


def test_a_broken_archive_in_the_cache(
    tmp_path: Path, pin: Pin, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = FAKE.write_archive(tmp_path / "there").read_bytes()
    pin(tmp_path / "there")
    folder = Path(os.environ["CIFAR_NOISY_CACHE"]) / "images"
    folder.mkdir(parents=True)
    web_page(folder)
    with pytest.raises(ImagesError, match="has 22 bytes"):
        load_images()
    # What a mirror has is whole.
    monkeypatch.setenv("CIFAR_NOISY_MIRRORS", str(tmp_path / "there"))
    assert load_images(train=False).is_official
    monkeypatch.delenv("CIFAR_NOISY_MIRRORS")
    with serving_ranges() as server:
        monkeypatch.setattr(archive_download, "ARCHIVE_URLS", (server.url("/official"),))
        server.files["/official"] = Behaviour(content)
        with pytest.warns(CorruptFileWarning, match="downloaded again, since"):
            assert load_images(download=True).is_official


@pytest.mark.parametrize("leave", [half_extracted, empty_folder])
def test_what_is_whole_beside_leftovers_is_used(
    leave: Callable[[Path], None], tmp_path: Path, pin: Pin
) -> None:
    FAKE.write_archive(tmp_path / "there")
    FAKE.write_batches(tmp_path / "there")
    pin(tmp_path / "there")
    root = tmp_path / "root"
    leave(root)
    (tmp_path / "there" / ARCHIVE).rename(root / ARCHIVE)
    assert load_images(root).is_official
    assert load_images(root, download=True).is_official


def test_all_that_is_wrong_is_said(tmp_path: Path, pin: Pin) -> None:
    pin(tmp_path)
    half_extracted(tmp_path)
    web_page(tmp_path)
    with pytest.raises(
        ImagesError, match=r"data_batch_3 cannot be read .*; .*tar\.gz has 22 bytes"
    ):
        load_images(tmp_path)
    (tmp_path / "mine.tar.gz").write_bytes(b"mine")
    with pytest.raises(ImagesError, match=r"mine\.tar\.gz has 4 bytes"):
        load_images(tmp_path / "mine.tar.gz", download=True)
    assert (tmp_path / "mine.tar.gz").read_bytes() == b"mine"


# What is hostile or damaged.


def gz(content: bytes) -> bytes:
    return gzip.compress(content, 1)


def header(name: str, kind: bytes, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT)


def pax(record: bytes) -> bytes:
    content = b"%d %b" % (len(record) + 3, record)
    return header("x", tarfile.XHDTYPE, len(content)) + content.ljust(512, b"\0")


def endless(start: bytes, size: int = 3 << 30) -> bytes:
    """Return the gzip of a beginning and then 3 GB of zeros, in 3 MB."""
    packer = zlib.compressobj(9, wbits=31)

    def packed(content: bytes) -> bytes:
        return packer.compress(content) + packer.flush(zlib.Z_FULL_FLUSH)

    # After a full flush the same bytes are packed the same way.
    return packed(start) + packed(bytes(1 << 20)) * (size >> 20)


def huge(kind: bytes) -> bytes:
    return endless(header("././@LongLink", kind, 3 << 30))


def extended_sparse() -> bytes:
    block = bytearray(header(f"{BATCH_FOLDER}/data_batch_1", tarfile.GNUTYPE_SPARSE, 512))
    block[482] = 1
    block[148:156] = b"%06o\0 " % tarfile.calc_chksums(block)[0]  # type: ignore[attr-defined]
    return bytes(block) + b"\xff" * 512


def digits(form: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        add(tar, f"train/airplane/{'9' * 5000}_airplane.png", b"")
    return file.getvalue()


PNG_NAME = "train/airplane/0_airplane.png"
BATCH_NAME = f"{BATCH_FOLDER}/data_batch_1"
TARS: dict[str, Callable[[], bytes]] = {
    "long name": lambda: huge(tarfile.GNUTYPE_LONGNAME),
    "long link": lambda: huge(tarfile.GNUTYPE_LONGLINK),
    "pax": lambda: huge(tarfile.XHDTYPE),
    "global pax": lambda: huge(tarfile.XGLTYPE),
    "zeros": lambda: endless(b""),
    "negative size": lambda: gz(header("x", tarfile.REGTYPE, -1024)),
    "very negative size": lambda: gz(header("x", tarfile.XHDTYPE, -(2**80))),
    "very large size": lambda: gz(header("x", tarfile.REGTYPE, 2**80)),
    "sparse pax": lambda: gz(
        pax(b"GNU.sparse.major=1\n") + header(PNG_NAME, tarfile.REGTYPE, 512) + b"9" * 512
    ),
    "sparse": lambda: gz(extended_sparse()),
    "5,000 digits": lambda: gz(digits(tarfile.GNU_FORMAT)),
    "5,000 digits by pax": lambda: gz(digits(tarfile.PAX_FORMAT)),
    "folders": lambda: gz(header("a", tarfile.DIRTYPE, 0) * 1_500_000),
    "empty": lambda: b"",
    "empty tar": lambda: gz(b""),
    "a huge file": lambda: endless(header("x", tarfile.REGTYPE, 3 << 30)),
    "rubble": lambda: gz(bytes(range(256)) * 4),
    "not compressed": lambda: header("a", tarfile.DIRTYPE, 0),
    "bad gzip": lambda: b"\x1f\x8b\x08\x1c" + b"\xff" * 2000,
    "bad deflate": lambda: gz(b"")[:10] + b"\xff" * 2000,
    "wrong checksum": lambda: flipped(gz(header(BATCH_NAME, tarfile.DIRTYPE, 0) + bytes(1024))),
}


def flipped(content: bytes) -> bytes:
    return content[:-6] + bytes([content[-6] ^ 1]) + content[-5:]


def bounded(code: str, *arguments: object, megabytes: int = 300) -> str:
    """Run code that must end in an error of ours, in time and memory, in a process of its own."""
    program = (
        "import sys\nfrom cifar_noisy import CifarNoisyError\n"
        f"{code}\n"
        "try:\n    run()\nexcept CifarNoisyError as error:\n    print(error)\n"
        "peak = next(l for l in open('/proc/self/status') if l.startswith('VmHWM'))\n"
        f"assert int(peak.split()[1]) < {megabytes << 10}, peak\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1, done.stdout
    return done.stdout


READ = """
from pathlib import Path
from cifar_noisy.images.readers import find_sources
def run():
    for source in find_sources(Path(sys.argv[1])):
        source.read(train=True, trust="pixels")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
@pytest.mark.parametrize(
    ("name", "files"),
    [
        *((name, [ARCHIVE]) for name in TARS),
        *((name, PNG_ARCHIVES) for name in ("pax", "sparse pax", "5,000 digits", "a huge file")),
    ],
)
def test_hostile_archives(name: str, files: Sequence[str], tmp_path: Path) -> None:
    content = TARS[name]()
    for file in files:
        (tmp_path / file).write_bytes(content)
    said = bounded(READ, tmp_path)
    assert ("has no data_batch_1" if name == "zeros" else "cannot be read to its end") in said


def test_archives_as_people_make_them(tmp_path: Path, pin: Pin) -> None:
    FAKE.write_batches(tmp_path / "data")
    pin(tmp_path / "data")
    expected = load_images(tmp_path / "data").pixels
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        with tarfile.open(tmp_path / ARCHIVE, "w:gz", format=form) as tar:
            tar.add(tmp_path / "data" / BATCH_FOLDER, BATCH_FOLDER)  # with times, as pax has them
        found = load_images(tmp_path / ARCHIVE, trust="pixels").pixels
        assert (found == expected).all()


def test_names_in_archives_are_no_commands_to_a_terminal(tmp_path: Path, pin: Pin) -> None:
    FAKE.write_png_archives(tmp_path)
    pin(tmp_path)
    for name, content in ((f"\x1b[31m/{PNG_NAME}", b""), ("\x1b[31m\n/x.png", b"")):
        with tarfile.open(tmp_path / PNG_ARCHIVES[0], "w:gz") as tar:
            add(tar, name, content)
        with pytest.raises(ImagesError, match=r"^[ -~]*x1b\[31m[ -~]*$"):
            load_images(tmp_path, trust="pixels")


def test_an_archive_that_has_a_batch_twice(tmp_path: Path, pin: Pin) -> None:
    FAKE.write_batches(tmp_path / "data")
    pin(tmp_path / "data")
    with tarfile.open(tmp_path / ARCHIVE, "w:gz") as tar:
        for folder in ("a", "b"):
            tar.add(tmp_path / "data" / BATCH_FOLDER, f"{folder}/{BATCH_FOLDER}")
    with pytest.raises(ImagesError, match=r"has data_batch_\d twice"):
        load_images(tmp_path / ARCHIVE, trust="pixels")


def opcodes(*parts: bytes) -> bytes:
    return b"\x80\x02" + b"".join(parts) + b"."


def colliding(n: int) -> bytes:
    keys = (b"\x8a\x11" + (i * (2**61 - 1)).to_bytes(17, "little") + b"N" for i in range(1, n))
    return opcodes(b"}(", *keys, b"u")


def with_array(dtype: bytes, state: bytes, shape: bytes = b"K\x14M\x00\x0c\x86") -> bytes:
    """Return a batch with states of a dtype and an array as opcodes."""
    return opcodes(
        b"}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R",
        b"(K\x01", shape, b"cnumpy\ndtype\nU\x02", dtype, b"K\x00K\x01\x87R(", state, b"tb",
        b"\x89T\x00\xf0\x00\x00", b"A" * 61440, b"tbU\x06labels](", b"K\x01" * 20, b"eu",
    )  # fmt: skip


RIGHT_STATE = b"K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00"
SHARED = b"K\x00\x85" + b"q\x00h\x00\x86" * 60  # a tuple of twice a tuple of twice ...
PICKLES = {
    "large index": b"Np250000000\n.",
    "large binary index": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "index of 5,000 digits": b"Np" + b"9" * 5000 + b"\n.",
    "negative index": b"Np-5\n.",
    "colliding keys": colliding(200_000),
    "some colliding keys": colliding(900),
    "many lists": opcodes(b"]" * 50_000_000),
    "deep lists": opcodes(b"]" * 900 + b"a" * 899),
    "shared tuples as key": opcodes(b"}", SHARED, b"Ns"),
    "shared tuples called": opcodes(SHARED, SHARED, b"R"),
    "shared tuples as state": with_array(b"u1", RIGHT_STATE, SHARED),
    "shared tuples as dtype": opcodes(b"cnumpy\ndtype\n", SHARED, b"R"),
    "objects at addresses": with_array(b"O8", RIGHT_STATE, b"K\x14M\x80\x01\x86"),
    "flags": with_array(b"u1", b"K\x03U\x01|NNNK\x08K\x01K\x3f"),
    "subarray": with_array(b"u1", b"K\x03U\x01|K\x01K\x02\x86NN" + RIGHT_STATE[8:]),
    "fields": with_array(b"V8", b"K\x04U\x01|NU\x01a\x85}K\x08K\x01K\x10N"),
    "large shape": with_array(b"u1", RIGHT_STATE, b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86"),
    "negative shape": with_array(b"u1", RIGHT_STATE, b"J\xff\xff\xff\xffM\x00\x0c\x86"),
    "long name": b"c" + b"a" * 10_000_000 + b"\nb\n.",
    "encoded again and again": opcodes(
        b"X\x00\x00\x00\x02", bytes(1 << 25), b"q\x00",
        (b"c_codecs\nencode\nh\x00U\x06latin1\x86R") * 200,
    ),
    "long number": b"I" + b"9" * 10_000_000 + b"\n.",
    "large long": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "persistent": b"Pid\n.",
    "instance": b"(ios\nsystem\n.",
    "no stop": b"\x80\x02}",
    "nothing": b"",
    "no stack": b".",
    "no mark": b"\x80\x02u.",
    "quotes": b"S" + b"a" * 10_000_000 + b"\n.",
}  # fmt: skip


@pytest.mark.parametrize("name", PICKLES)
def test_hostile_pickles(name: str, tmp_path: Path) -> None:
    (tmp_path / "pickle").write_bytes(PICKLES[name])
    said = bounded(
        "from cifar_noisy.images.readers import _decode_batch\n"
        "def run():\n    _decode_batch(open(sys.argv[1], 'rb').read(), 20, 'it')\n",
        tmp_path / "pickle",
    )
    assert said.startswith("it is no batch file: ")
    assert len(said) < 300


def test_the_states_of_arrays_as_python_2_wrote_them() -> None:
    planes, labels = _decode_batch(with_array(b"u1", RIGHT_STATE), 20, "it")
    assert planes.shape == (20, 3072)
    assert labels.tolist() == [1] * 20


@pytest.mark.parametrize("dtype", ["int8", "int64", "float32", "bool"])
def test_batches_with_arrays_of_other_numbers(dtype: str) -> None:
    batch = FAKE.batch("data_batch_2")
    planes = batch["data"].astype(dtype)
    for changed in (batch | {"data": planes}, batch | {"extra": planes}):
        with pytest.raises(ImagesError, match="it is no batch file: the pickle calls numpy dtype"):
            _decode_batch(pickle.dumps(changed), 20, "it")


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("order", ["C", "F"])
def test_batches_of_every_protocol(protocol: int, order: Literal["C", "F"]) -> None:
    batch = FAKE.batch("data_batch_2")
    names = [f"leptodactylus_s_{i:06}.png" for i in range(20)]
    changed = {"data": np.asarray(batch["data"], order=order), "filenames": names, "loss": 0.5}
    planes, labels = _decode_batch(pickle.dumps(batch | changed, protocol), 20, "it")
    assert (planes == batch["data"]).all()
    assert labels.tolist() == batch["labels"]


def png_with(*chunks: tuple[bytes, bytes]) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)


IHDR = struct.pack(">IIBBBBB", 32, 32, 8, 2, 0, 0, 0)
BOMB = zlib.compress(bytes(1 << 25))[:60_000]
PNGS = {
    "cut header": png_with((b"IHDR", IHDR[:7])),
    "no header": png_with((b"IDAT", b"")),
    "text bomb": png_with((b"IHDR", IHDR), (b"zTXt", b"a\0\0" + BOMB), (b"IDAT", b"")),
    "profile bomb": png_with((b"IHDR", IHDR), (b"iCCP", b"a\0\0" + BOMB), (b"IDAT", b"")),
    "empty text": png_with((b"IHDR", IHDR), (b"zTXt", b""), (b"tRNS", b""), (b"IDAT", b"")),
    "short chunks": png_with((b"IHDR", IHDR), (b"pHYs", b"1"), (b"gAMA", b""), (b"IDAT", b"")),
    "animation": png_with((b"IHDR", IHDR), (b"acTL", b"1"), (b"fcTL", b"1"), (b"IDAT", b"")),
    "large": png_with((b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0))),
    "nothing": b"",
    "random": random.Random(0).randbytes(1000),
}


@pytest.mark.parametrize("name", PNGS)
def test_hostile_pngs(name: str, tmp_path: Path, pin: Pin) -> None:
    FAKE.write_tree(tmp_path)
    pin(tmp_path)
    (tmp_path / "train" / FAKE.name(True, 7)).write_bytes(PNGS[name])
    with pytest.raises(ImagesError, match=r"is no PNG that can be read|where RGB of"):
        load_images(tmp_path)
    with pytest.raises(ImagesError, match="is no image that can be read"):
        check_alignment(tmp_path)


def test_files_that_are_none(tmp_path: Path, pin: Pin) -> None:
    FAKE.write_tree(tmp_path / "tree")
    FAKE.write_batches(tmp_path / "batches")
    FAKE.write_archive(tmp_path / "archive")
    FAKE.write_png_archives(tmp_path / "pngs")
    for path in (
        tmp_path / "tree" / "train" / FAKE.name(True, 7),
        tmp_path / "batches" / BATCH_FOLDER / "data_batch_1",
        tmp_path / "archive" / ARCHIVE,
        tmp_path / "pngs" / PNG_ARCHIVES[0],
    ):
        path.unlink()
        os.mkfifo(path)
    pin(tmp_path)
    for root in sorted(tmp_path.iterdir()):
        for trust in (None, "pixels"):
            with pytest.raises(ImagesError, match="a pipe, a device or a socket"):
                load_images(root, trust=trust)
        with pytest.raises(ImagesError, match="a pipe, a device or a socket"):
            check_alignment(root)


def test_links_that_lead_in_a_circle(tmp_path: Path) -> None:
    for name in CLASSES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "circle").symlink_to(tmp_path)
    with pytest.raises(ImagesError, match=r"1,000 folders .* circle"):
        check_alignment(tmp_path)


@pytest.mark.parametrize("name", ["~nosuchuser/images", "\udcff", "a\0b", "x" * 5000])
def test_paths_that_nothing_can_have(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOME")
    with pytest.raises((ImagesError, MissingInputError)):
        check_alignment(name)


def test_paths_that_no_text_has(tmp_path: Path, pin: Pin) -> None:
    root = tmp_path / os.fsdecode(b"data \xff")
    FAKE.write_batches(root)
    pin(root)
    assert load_images(root).is_official
    (root / BATCH_FOLDER / "data_batch_1").write_bytes(b"")
    program = Path(sys.executable).with_name("cifar-noisy")
    done = subprocess.run([program, "check-alignment", root], capture_output=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(b"cifar-noisy: data_batch_1 of ")
    assert done.stderr.count(b"\n") == 1


def test_the_list_of_names_beside_written_batches(tmp_path: Path, pin: Pin) -> None:
    FAKE.write_tree(tmp_path / "data")
    pin(tmp_path / "data")
    written = write_images(tmp_path / "written", "torchvision", root=tmp_path / "data")
    about = pickle.loads((written / BATCH_FOLDER / "batches.meta").read_bytes())
    assert about == {"num_cases_per_batch": 20, "label_names": list(CLASSES), "num_vis": 3072}
    batch = pickle.loads((written / BATCH_FOLDER / "data_batch_5").read_bytes())
    assert len(batch["data"]) == len(batch["labels"]) == about["num_cases_per_batch"]
