"""CIFAR-10's images from every form that people have them in, packed once and never half."""

import contextlib
import errno
import io
import json
import mmap
import os
import pickle
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy._core.multiarray import _reconstruct
from torchvision.datasets import CIFAR10, ImageFolder
from tqdm import tqdm

from cifar_noisy import (
    CorruptFileWarning,
    ImagesError,
    InvalidInputError,
    MissingInputError,
    StorageError,
    UnavailableError,
    UnknownArtifactError,
    load_images,
    write_images,
)
from cifar_noisy.images import archive_download, packs, readers
from cifar_noisy.images.image_cache import cached_images, check_images, clear_images, prune
from cifar_noisy.images.readers import ARCHIVE, BATCH_FOLDER, git_blob_id
from cifar_noisy.settings import CLASSES
from cifar_noisy.store.artifact_store import Store
from cifar_noisy.store.cache import clear_cache
from cifar_noisy.store.sealed import read_sealed, write_sealed
from tests.conftest import JpegCopy
from tests.fake_cifar import PNG_ARCHIVES, FakeCifar, add
from tests.faults.power_loss import power_loss_of_packs
from tests.range_server import Behaviour, RangeServer, serving_ranges

FAKE = FakeCifar.random()
Pin = Callable[[Path], None]


@pytest.fixture
def pin(monkeypatch: pytest.MonkeyPatch) -> Pin:
    """Return a function that makes the files below a folder the official ones."""

    def pinned(folder: Path) -> None:
        monkeypatch.setattr(readers, "CIFAR10", FAKE.release(folder))

    return pinned


def cache() -> Path:
    return Path(os.environ["CIFAR_NOISY_CACHE"]) / "images"


def assert_is_fake(train: bool, loaded: packs.Images) -> None:
    """Hold images to a plain loop over the made-up ones, sorted as their file names are."""
    labels = FAKE.labels[train].tolist()
    names = sorted((CLASSES[label], f"{i}_", i) for i, label in enumerate(labels))
    assert loaded.torchvision_index.tolist() == [index for *_, index in names]
    assert loaded.labels.tolist() == [CLASSES.index(name) for name, *_ in names]
    assert loaded.pixels.shape == (len(labels), 32, 32, 3)
    for row, (*_, index) in enumerate(names):
        assert (loaded.pixels[row] == FAKE.pixels[train][index]).all()
    base: object = loaded.pixels
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base, memoryview)
    assert isinstance(base.obj, mmap.mmap)
    assert not any(
        a.flags.writeable for a in (loaded.pixels, loaded.labels, loaded.torchvision_index)
    )


FORMS: dict[str, Callable[[Path], Path]] = {
    "batches": lambda root: FAKE.write_batches(root).parent,
    "batch folder": lambda root: FAKE.write_batches(root),
    "archive": lambda root: FAKE.write_archive(root).parent,
    "archive file": lambda root: FAKE.write_archive(root),
    "png archives": FAKE.write_png_archives,
    "png archives in upstream's folder": lambda root: FAKE.write_png_archives(
        root / "cifar10" / "dataset"
    ).parents[1],
    "tree": FAKE.write_tree,
}


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same(form: str, train: bool, tmp_path: Path, pin: Pin) -> None:
    root = FORMS[form](tmp_path / "data")
    pin(root.parent if root.name in (ARCHIVE, BATCH_FOLDER) else root)
    if "upstream" in form:
        pin(root / "cifar10" / "dataset")
    before = sorted(tmp_path.rglob("*"))
    loaded = load_images(root, train=train)
    assert_is_fake(train, loaded)
    assert loaded.is_official  # by its pixels: no checksum covers the files of a tree
    assert_is_fake(train, load_images(str(root), train=train))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_part_of_a_tree(tmp_path: Path, pin: Pin) -> None:
    FAKE.write_tree(tmp_path)
    pin(tmp_path)
    assert_is_fake(True, load_images(tmp_path / "train"))
    assert_is_fake(False, load_images(tmp_path / "test", train=False))


@pytest.mark.parametrize("protocol", range(5))
def test_pickles_of_every_protocol(protocol: int, tmp_path: Path, pin: Pin) -> None:
    FAKE.write_batches(tmp_path, protocol)
    pin(tmp_path)
    assert_is_fake(True, load_images(tmp_path))


def test_packed_once(tmp_path: Path, pin: Pin, monkeypatch: pytest.MonkeyPatch) -> None:
    root = FORMS["batches"](tmp_path)
    pin(root)
    load_images(root)
    # Whoever opens it without a root, or from another form, gets what is packed.
    monkeypatch.setattr(readers.BatchFolder, "_read", None)
    assert_is_fake(True, load_images(root))
    assert_is_fake(True, load_images())
    (root / BATCH_FOLDER / "data_batch_2").touch()
    with pytest.raises(TypeError):
        load_images(root)


def test_the_cache_holds_one_file_per_split(tmp_path: Path, pin: Pin) -> None:
    root = FORMS["batches"](tmp_path)
    pin(root)
    load_images(root)
    assert {path.name for path in cache().iterdir()} == {"official-train.sealed", "sources"}


def test_a_source_that_changes_is_packed_again(tmp_path: Path, pin: Pin) -> None:
    root = FAKE.write_tree(tmp_path)
    pin(root)
    first = load_images(root)
    name = FAKE.name(True, 7)
    (root / "train" / name).write_bytes(FAKE.png(True, 8))
    again = load_images(root)
    row = again.torchvision_index.tolist().index(7)
    assert (again.pixels[row] == FAKE.pixels[True][8]).all()
    assert again.path != first.path


# What is not CIFAR-10.


def rewrite(path: Path, content: dict[str, object]) -> None:
    path.write_bytes(pickle.dumps(content, 2))


def test_bytes_that_are_not_official_need_trust(tmp_path: Path, pin: Pin) -> None:
    root = FORMS["batches"](tmp_path)
    pin(root)
    batch = FAKE.batch("data_batch_3")
    batch["data"] = batch["data"] // 2
    rewrite(root / BATCH_FOLDER / "data_batch_3", batch)
    for _ in range(2):
        with pytest.raises(ImagesError, match=r"data_batch_3 has md5 .* pass trust='pixels'"):
            load_images(root)
        copy = load_images(root, trust="pixels")
        assert not copy.is_official
    assert load_images(root, train=False).is_official
    with pytest.raises(InvalidInputError, match="trust 'yes' is unknown"):
        load_images(root, trust="yes")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": FAKE.batch("data_batch_1")["labels"][::-1]}, "not in the official order"),
        ({"labels": [0] * 20}, "images of class airplane, where CIFAR-10 has 10"),
        ({"labels": [10] * 20}, "no list of 20 labels from 0 to 9"),
        ({"labels": [0] * 19}, "no list of 20 labels from 0 to 9"),
        ({"labels": None}, "no list of 20 labels from 0 to 9"),
        ({"data": np.zeros((20, 3071), np.uint8)}, r"array of another shape than \(20, 3072\)"),
        ({"data": np.zeros((20, 3072))}, "calls numpy dtype as no array of numbers"),
        ({"data": [1, 2]}, "no data that is an array"),
    ],
)  # fmt: skip
def test_batches_that_are_not_cifar10(
    change: dict[str, object], said: str, tmp_path: Path, pin: Pin
) -> None:
    root = FORMS["batches"](tmp_path)
    pin(root)
    rewrite(root / BATCH_FOLDER / "data_batch_1", FAKE.batch("data_batch_1") | change)
    with pytest.raises(ImagesError, match=said):
        load_images(root, trust="pixels")
    assert not list(cache().glob("pixels*"))


class Evil:
    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple[object, ...]:
        return (self.call[0], self.call[1:])


@pytest.mark.parametrize(
    "evil",
    [
        Evil(os.system, "touch pwned"),
        Evil(eval, "open('pwned', 'w')"),
        Evil(np.ndarray, (10**6,)),
        Evil(np.load, "x"),
        Evil(getattr, "", "join"),
        Evil(np.frombuffer, b"1"),
        Evil(_reconstruct, np.ndarray, (10**6,), b"b"),
    ],
    ids=["system", "eval", "ndarray", "load", "getattr", "frombuffer", "large array"],
)
@pytest.mark.parametrize("form", ["batches", "archive"])
def test_a_pickle_that_calls_anything(
    evil: Evil, form: str, tmp_path: Path, pin: Pin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = FORMS[form](tmp_path / "data")
    pin(root)
    content = pickle.dumps(FAKE.batch("data_batch_1") | {"data": evil}, 2)
    if form == "batches":
        (root / BATCH_FOLDER / "data_batch_1").write_bytes(content)
    else:
        with tarfile.open(root / ARCHIVE, "w:gz") as tar:
            add(tar, f"{BATCH_FOLDER}/data_batch_1", content)
    with pytest.raises(ImagesError, match=r"no batch file: the pickle (asks for|calls|has)"):
        load_images(root, trust="pixels")
    assert not (tmp_path / "pwned").exists()


def test_a_pickle_that_is_cut_off(tmp_path: Path, pin: Pin) -> None:
    root = FORMS["batches"](tmp_path)
    pin(root)
    file = root / BATCH_FOLDER / "data_batch_1"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ImagesError, match=r"data_batch_1 of .* is no batch file"):
        load_images(root, trust="pixels")
    file.unlink()
    with pytest.raises(ImagesError, match=r"data_batch_1 cannot be read \(No such file"):
        load_images(root, trust="pixels")


def odd_member(kind: bytes, name: str, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (odd_member(tarfile.REGTYPE, f"{BATCH_FOLDER}/../../data_batch_1"), "has the path"),
        (odd_member(tarfile.REGTYPE, f"/{BATCH_FOLDER}/data_batch_1"), "has the path"),
        (odd_member(tarfile.SYMTYPE, f"{BATCH_FOLDER}/data_batch_1", "/etc/passwd"), "a link"),
        (odd_member(tarfile.LNKTYPE, f"{BATCH_FOLDER}/data_batch_1", "/etc/passwd"), "a link"),
        (
            odd_member(tarfile.FIFOTYPE, f"{BATCH_FOLDER}/data_batch_1"),
            "a link, device, sparse file",
        ),
    ],
)
@pytest.mark.parametrize("form", ["archive", "png archives"])
def test_odd_members_of_archives(
    member: tarfile.TarInfo, said: str, form: str, tmp_path: Path, pin: Pin
) -> None:
    root = FORMS[form](tmp_path / "data")
    pin(root)
    with tarfile.open(root / (ARCHIVE if form == "archive" else PNG_ARCHIVES[0]), "w:gz") as tar:
        tar.addfile(member)
    with pytest.raises(ImagesError, match=said):
        load_images(root, trust="pixels")


def test_a_member_that_is_too_large(tmp_path: Path, pin: Pin) -> None:
    root = FORMS["png archives"](tmp_path)
    pin(root)
    with tarfile.open(root / PNG_ARCHIVES[0], "w:gz") as tar:
        add(tar, "train/airplane/0_airplane.png", b"\0" * 100_000)
    with pytest.raises(ImagesError, match="of 100,000 bytes, too many"):
        load_images(root, trust="pixels")


@pytest.mark.parametrize("form", ["archive", "png archives"])
@pytest.mark.parametrize("trust", [None, "pixels"])
def test_truncated_archives(form: str, trust: str | None, tmp_path: Path, pin: Pin) -> None:
    root = FORMS[form](tmp_path)
    pin(root)
    file = root / (ARCHIVE if form == "archive" else PNG_ARCHIVES[0])
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    said = r"has [0-9,]+ bytes, where|has git blob id"
    if trust:
        # An archive cut off between two files looks like a shorter one.
        said = r"cannot be read to its end|has no data_batch_\d"
    with pytest.raises(ImagesError, match=said):
        load_images(root, trust=trust)


def test_an_archive_that_lacks_a_batch(tmp_path: Path, pin: Pin) -> None:
    root = FORMS["archive"](tmp_path)
    pin(root)
    with tarfile.open(root / ARCHIVE, "w:gz") as tar:
        add(tar, f"{BATCH_FOLDER}/data_batch_1", pickle.dumps(FAKE.batch("data_batch_1"), 2))
    with pytest.raises(ImagesError, match="has no data_batch_2, data_batch_3"):
        load_images(root, trust="pixels")


def move(root: Path, index: int, name: str) -> None:
    target = root / "train" / name
    target.parent.mkdir(exist_ok=True)
    (root / "train" / FAKE.name(True, index)).rename(target)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda root: (root / "train" / FAKE.name(True, 7)).unlink(),
         "has 99 train images, where CIFAR-10 has 100: image 7 is missing"),
        (lambda root: (root / "train" / "airplane").rename(root / "train" / "plane"),
         "has no folder airplane: an image tree has the ten folders airplane, automobile"),
        (lambda root: move(root, 7, "frog/7.png"), r"frog/7.png is not named like upstream's"),
        (lambda root: move(root, 7, "frog/007_frog.png"), "is not named like upstream's"),
        (lambda root: move(root, 7, "frog/100_frog.png"), "with a number below 100"),
        (lambda root: move(root, 7, "frog/7_dog.png"), "is not named like upstream's"),
        (lambda root: (root / "train" / FAKE.name(True, 7)).write_bytes(b"text"),
         "is no PNG that can be read"),
        (lambda root: (root / "train" / FAKE.name(True, 7)).write_bytes(
            FAKE.png(True, 7)[:500]), "is no PNG that can be read"),
    ],
)  # fmt: skip
def test_trees_that_are_not_cifar10(
    damage: Callable[[Path], object], said: str, tmp_path: Path, pin: Pin
) -> None:
    root = FAKE.write_tree(tmp_path)
    pin(root)
    damage(root)
    with pytest.raises(ImagesError, match=said):
        load_images(root)


def test_two_images_that_change_classes(tmp_path: Path, pin: Pin) -> None:
    root = FAKE.write_tree(tmp_path)
    pin(root)
    labels = FAKE.labels[True]
    other = int(np.flatnonzero(labels != labels[0])[0])
    first, second = CLASSES[labels[0]], CLASSES[labels[other]]
    move(root, 0, f"{second}/0_{second}.png")
    move(root, other, f"{first}/{other}_{first}.png")
    with pytest.raises(ImagesError, match="not in the official order"):
        load_images(root)


def test_an_image_of_another_size(tmp_path: Path, pin: Pin) -> None:
    root = FAKE.write_tree(tmp_path)
    pin(root)
    with images_of_size(64) as content:
        (root / "train" / FAKE.name(True, 7)).write_bytes(content)
    with pytest.raises(ImagesError, match="is RGB of 64x64, where RGB of 32x32"):
        load_images(root)


@contextlib.contextmanager
def images_of_size(side: int) -> Iterator[bytes]:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (side, side)).save(file, "PNG")
    yield file.getvalue()


def test_nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingInputError, match=r"has no CIFAR-10 images: .* or download=True"):
        load_images(tmp_path / "missing")
    with pytest.raises(UnavailableError, match=r"not in the cache .* or download=True"):
        load_images()
    monkeypatch.setenv("CIFAR_NOISY_OFFLINE", "1")
    with pytest.raises(UnavailableError, match=r"CIFAR_NOISY_OFFLINE is set: .* and put it at"):
        load_images(tmp_path, download=True)


# Images whose pixels only the caller vouches for.


def other_pixels(root: Path, divisor: int = 2) -> FakeCifar:
    """Write batches with CIFAR-10's labels and other pixels, and return them."""
    other = FakeCifar({t: p // divisor for t, p in FAKE.pixels.items()}, FAKE.labels)
    other.write_batches(root)
    return other


def test_trusted_pixels_are_found_by_what_they_are(tmp_path: Path, pin: Pin) -> None:
    pin(FORMS["batches"](tmp_path / "official"))
    other_pixels(tmp_path / "copy")
    packed = load_images(tmp_path / "copy", trust="pixels")
    assert load_images(trust="pixels") == packed
    with pytest.raises(UnavailableError, match=rf"trust='pixels' to use {packed.path.name}"):
        load_images()
    with pytest.raises(UnavailableError, match="not in the cache") as missing:
        load_images(train=False, trust="pixels")
    assert "trust=" not in str(missing.value)  # it is passed already
    other_pixels(tmp_path / "another", 3)
    second = load_images(tmp_path / "another", trust="pixels")
    with pytest.raises(InvalidInputError, match=r"pass root= .*which images you mean") as error:
        load_images(trust="pixels")
    assert all(one.path.name in str(error.value) for one in (packed, second))
    # The official ones, where they are there, are the ones that are meant.
    official = load_images(tmp_path / "official")
    assert load_images(trust="pixels") == official != packed


# Downloads.


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    """Run a server, at which the public addresses lead."""
    with serving_ranges() as running:
        urls = [running.url(f"/{host}") for host in ("official", "copy")]
        monkeypatch.setattr(archive_download, "ARCHIVE_URLS", tuple(urls))
        pngs = [running.url("/raw/{name}"), running.url("/swh/{blob}")]
        monkeypatch.setattr(archive_download, "PNG_URLS", tuple(pngs))
        yield running


def test_an_archive_put_into_the_cache_is_packed_offline(
    tmp_path: Path, pin: Pin, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = FAKE.write_archive(tmp_path)
    pin(tmp_path)
    cache().mkdir(parents=True)
    archive.rename(cache() / archive.name)
    monkeypatch.setenv("CIFAR_NOISY_OFFLINE", "1")
    assert_is_fake(True, load_images())


def test_downloads_into_the_cache(server: RangeServer, tmp_path: Path, pin: Pin) -> None:
    content = FAKE.write_archive(tmp_path).read_bytes()
    pin(tmp_path)
    server.files["/official"] = Behaviour(content, cut_after=[1000, 0])
    server.files["/copy"] = Behaviour(content)
    assert_is_fake(True, load_images(download=True))
    assert server.asked == [("/official", None), ("/copy", "bytes=1000-")]
    # Both splits are packed, and the archive is gone.
    assert_is_fake(False, load_images(train=False))
    assert_is_fake(True, load_images(download=True))
    assert len(server.asked) == 2
    assert not list(cache().rglob("*.gz*"))


def test_an_archive_of_another_user_stays(
    server: RangeServer, tmp_path: Path, pin: Pin, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/official"] = Behaviour(FAKE.write_archive(tmp_path).read_bytes())
    pin(tmp_path)
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.name == ARCHIVE:
            raise PermissionError(errno.EPERM, "Operation not permitted", path)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    assert_is_fake(True, load_images(download=True))


def test_downloads_into_a_root(server: RangeServer, tmp_path: Path, pin: Pin) -> None:
    content = FAKE.write_archive(tmp_path / "there").read_bytes()
    pin(tmp_path / "there")
    server.files["/official"] = Behaviour(content)
    root = tmp_path / "root"
    assert_is_fake(True, load_images(root, download=True))
    assert (root / ARCHIVE).read_bytes() == content
    assert_is_fake(False, load_images(root, train=False))


def test_mirrors_come_first(
    server: RangeServer, tmp_path: Path, pin: Pin, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = FAKE.write_archive(tmp_path / "there").read_bytes()
    pin(tmp_path / "there")
    server.files[f"/mine/{ARCHIVE}"] = Behaviour(content)
    monkeypatch.setenv("CIFAR_NOISY_MIRRORS", server.url("/mine"))
    # A bar that does not know its total has no truth value.
    with tqdm(disable=True) as bar:
        load_images(download=True, progress=bar)
    assert server.asked == [(f"/mine/{ARCHIVE}", None)]


@pytest.mark.parametrize("leftover", ["cut archive", "web page", "half a folder"])
def test_what_a_broken_download_left_is_downloaded_again(
    leftover: str, server: RangeServer, tmp_path: Path, pin: Pin
) -> None:
    content = FAKE.write_archive(tmp_path / "there").read_bytes()
    pin(tmp_path / "there")
    root = tmp_path / "root"
    root.mkdir()
    server.files["/official"] = Behaviour(content)
    if leftover == "half a folder":
        batches = FAKE.write_batches(root)
        (batches / "data_batch_1").write_bytes((batches / "data_batch_1").read_bytes()[:1000])
        (root / ARCHIVE).write_bytes(content)
    else:
        (root / ARCHIVE).write_bytes(b"<html>" if leftover == "web page" else content[:1000])
    if leftover != "half a folder":
        with pytest.raises(ImagesError):
            load_images(root)
    # A whole archive beside what is broken will do.
    warned = pytest.warns(CorruptFileWarning, match="downloaded again, since")
    with contextlib.nullcontext() if leftover == "half a folder" else warned:
        assert_is_fake(True, load_images(root, download=True))
    assert len(server.asked) == (leftover != "half a folder")


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_the_command_downloads(words: list[str], server: RangeServer, tmp_path: Path) -> None:
    content = FAKE.write_archive(tmp_path).read_bytes()
    server.files[f"/mine/{ARCHIVE}"] = Behaviour(content)
    script = (
        "import sys; from pathlib import Path; from tests.images.test_packs import FAKE\n"
        "from cifar_noisy.images import readers; from cifar_noisy.cli import main\n"
        "readers.CIFAR10 = FAKE.release(Path(sys.argv.pop(1))); main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, tmp_path, "images", "--download", *words],
        env=os.environ | {"CIFAR_NOISY_MIRRORS": server.url("/mine")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    assert all(f"official-{split}.sealed" in result.stdout for split in ("train", "test"))


@pytest.mark.parametrize("form", ["archive", "batches", "png archives"])
def test_a_mirror_folder_needs_no_download(
    form: str, tmp_path: Path, pin: Pin, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = FORMS[form](tmp_path)
    pin(root)
    monkeypatch.setenv("CIFAR_NOISY_MIRRORS", str(root))
    assert_is_fake(True, load_images())


def test_png_archives_where_no_host_has_the_archive(
    server: RangeServer, tmp_path: Path, pin: Pin
) -> None:
    FAKE.write_png_archives(tmp_path)
    pin(tmp_path)
    blobs = {name: git_blob_id(io.BytesIO((tmp_path / name).read_bytes())) for name in PNG_ARCHIVES}
    for name, blob in blobs.items():
        server.files[f"/swh/{blob}"] = Behaviour((tmp_path / name).read_bytes())
    server.files["/copy"] = Behaviour(b"<html>")
    assert_is_fake(True, load_images(download=True))
    paths = [path for path, _ in server.asked]
    assert paths[:4] == [
        "/official", "/copy", f"/raw/{PNG_ARCHIVES[0]}", f"/swh/{blobs[PNG_ARCHIVES[0]]}"
    ]  # fmt: skip


def test_no_host_has_anything(server: RangeServer, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as error:
        load_images(tmp_path, download=True)
    said = str(error.value)
    assert "/official answered 404" in said
    assert "/raw/train_part_1_of_2.tar.gz answered 404" in said
    assert f"6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce at {tmp_path}" in said


def test_public_addresses() -> None:
    assert archive_download.ARCHIVE_URLS[0] == CIFAR10.url
    assert readers.CIFAR10.archive_md5 == CIFAR10.tgz_md5
    names = dict([*CIFAR10.train_list, *CIFAR10.test_list])
    assert readers.CIFAR10.batch_md5 == names
    assert readers.CIFAR10.records_sha256.keys() == names.keys()
    assert all(
        url.startswith("https://")
        for url in (*archive_download.ARCHIVE_URLS, *archive_download.PNG_URLS)
    )


# Killed runs, and several at once.

PACK = """
import sys, time
from pathlib import Path
from cifar_noisy import load_images
from cifar_noisy.images import readers
from cifar_noisy.images import packs
from tests.images.test_packs import FAKE
root = Path(sys.argv[1])
readers.CIFAR10 = FAKE.release(root)
if "slow" in sys.argv:
    chunks = packs._chunks
    def slow(*arguments):
        for chunk in chunks(*arguments):
            yield chunk
            print("written", flush=True)
            time.sleep(60)
    packs._chunks = slow
print(len(load_images(root)))
"""


def packing(root: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PACK, str(root), *more], stdout=subprocess.PIPE, text=True
    )


def test_a_killed_run_leaves_nothing_half_made(tmp_path: Path, pin: Pin) -> None:
    root = FORMS["batches"](tmp_path)
    pin(root)
    process = packing(root, "slow")
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (cache() / "official-train.sealed").exists()
    (part,) = cache().glob(".*.part")
    with pytest.raises(UnavailableError):
        load_images()
    assert_is_fake(True, load_images(root))
    assert prune(Store.from_environment()) == ()  # it may be a live process's
    os.utime(part, (0, 0))
    (cache() / ".official-test.sealed.lock").touch()
    not_ours = [cache() / name for name in (".x.part", ".x.lock", ".x.sealed.0123abcd.part")]
    for path in not_ours:
        path.touch()
    removed = {name for name, _ in prune(Store.from_environment())}
    assert removed == {f"images/{part.name}", "images/.official-test.sealed.lock"}
    assert all(path.exists() for path in not_ours)


def test_processes_that_pack_at_once(tmp_path: Path) -> None:
    root = FORMS["batches"](tmp_path)
    processes = [packing(root) for _ in range(3)]
    assert [process.communicate()[0] for process in processes] == ["100\n"] * 3
    assert [process.returncode for process in processes] == [0] * 3
    assert {path.name for path in cache().iterdir()} == {"official-train.sealed", "sources"}


def test_damage_and_loss_of_power(tmp_path: Path) -> None:
    outcome = power_loss_of_packs(tmp_path)
    assert outcome.n > 800
    assert (outcome.n_wrong, outcome.n_stuck) == (0, 0)


@pytest.mark.parametrize("pixels", ["black", "another order", "of the other split"])
@pytest.mark.parametrize("name", ["official-train.sealed", "official-test.sealed"])
def test_a_pack_made_by_hand_is_not_official(
    name: str, pixels: str, tmp_path: Path, pin: Pin
) -> None:
    root = FORMS["batches"](tmp_path)
    pin(root)
    train = name == "official-train.sealed"
    right = load_images(root, train=train)
    labels = FAKE.labels[train].astype(np.uint8)
    content = {
        "black": bytes(right.pixels.nbytes) + labels.tobytes(),
        "another order": right.pixels[::-1].tobytes() + labels.tobytes(),
        "of the other split": read_sealed(load_images(root, train=not train).path),
    }[pixels]
    assert content is not None
    path = cache() / name
    path.unlink()
    write_sealed(path, [content])
    with pytest.raises(UnavailableError):
        load_images(train=train)
    (checked,) = [images for images in check_images(Store.from_environment()) if
                  images.path == path]  # fmt: skip
    assert "damaged, or not what its name says" in str(checked.problem)
    with pytest.raises(StorageError, match="not what its name says"):
        packs.Images.open(path)
    assert_is_fake(train, load_images(root, train=train))
    assert load_images(train=train).is_official


def test_labels_of_trusted_packs_are_held_to_the_official_ones(tmp_path: Path, pin: Pin) -> None:
    pin(FORMS["batches"](tmp_path / "official"))
    other_pixels(tmp_path / "copy")
    packed = load_images(tmp_path / "copy", trust="pixels")
    for labels in (FAKE.labels[True][::-1], np.zeros(100), np.full(100, 200)):
        write_sealed(packed.path, [packed.pixels.tobytes(), labels.astype(np.uint8).tobytes()])
        with pytest.raises(UnavailableError):
            load_images(trust="pixels")


@pytest.mark.parametrize(
    "said",
    [b"", b"official-test.sealed", b"../official-train.sealed", b"/etc/passwd", b"\xff\x00",
     b"pixels-train-0123456789abcdef.sealed", b"official-train"],
)  # fmt: skip
def test_a_note_that_says_anything(said: bytes, tmp_path: Path, pin: Pin) -> None:
    def seal(path: Path, content: bytes) -> None:
        write_sealed(path, [content])

    root = FORMS["batches"](tmp_path)
    pin(root)
    for train in (True, False):
        load_images(root, train=train)
    for note in (cache() / "sources").iterdir():
        for write in (seal, Path.write_bytes):
            write(note, said)
            for train in (True, False):
                assert_is_fake(train, load_images(root, train=train))


def test_folders_of_earlier_versions_are_not_read(tmp_path: Path, pin: Pin) -> None:
    root = FORMS["batches"](tmp_path)
    pin(root)
    for name in ("official-train", "official-train.sealed"):
        (cache() / name).mkdir(parents=True)
        (cache() / name / "about.json").write_text(json.dumps({"is_official": True}))
    with pytest.raises(UnavailableError):
        load_images()
    with pytest.raises(StorageError, match=r"cannot be written \(Is a directory"):
        load_images(root)


def test_the_cache_commands_know_the_images(tmp_path: Path, pin: Pin) -> None:
    root = FORMS["batches"](tmp_path)
    pin(root)
    store = Store.from_environment()
    packs = sorted(load_images(root, train=train).path for train in (False, True))
    archive = cache() / ARCHIVE
    archive.write_bytes(b"?")
    assert cached_images(store) == (archive, *packs)
    content = bytearray(packs[0].read_bytes())
    content[-100] ^= 1
    packs[0].write_bytes(content)
    wrong = {images.path: images.problem for images in check_images(store) if images.problem}
    assert wrong.keys() == {packs[0], archive}
    assert "has 1 bytes" in str(wrong[archive])
    assert all(said.count("again") == 1 for said in wrong.values() if said)  # one remedy each
    assert clear_cache(store) == ()
    assert clear_images(store) == tuple(sorted([*packs, archive]))
    assert not cache().exists()


def test_only_names_that_we_made_are_removed(tmp_path: Path, pin: Pin) -> None:
    root = FORMS["batches"](tmp_path / "data")
    pin(root)
    load_images(root)
    (tmp_path / "theirs").write_bytes(b"photograph")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "official-train.sealed").write_bytes(b"photograph")
    kept = ["photograph.jpg", "sources/mine", "sets/about.json", "my-official-train.sealed",
            "pixels-train-x.sealed", f"{ARCHIVE}.old"]  # fmt: skip
    for name in kept:
        (cache() / name).parent.mkdir(exist_ok=True)
        (cache() / name).write_bytes(b"mine")
    (cache() / "official-test.sealed").symlink_to(tmp_path / "theirs")
    (cache() / "pixels-train-0123456789abcdef.sealed").mkdir()
    store = Store.from_environment()
    assert clear_images(store) == (cache() / "official-train.sealed",)
    assert all((cache() / name).read_bytes() == b"mine" for name in kept)
    assert (cache() / "official-test.sealed").is_symlink()
    assert (cache() / "pixels-train-0123456789abcdef.sealed").is_dir()
    assert len(list((cache() / "sources").iterdir())) == 1
    cache().rename(tmp_path / "moved")
    cache().symlink_to(tmp_path / "folder")
    assert clear_images(store) == ()
    assert (tmp_path / "folder" / "official-train.sealed").exists()


def test_a_cache_that_is_a_file(tmp_path: Path, pin: Pin, monkeypatch: pytest.MonkeyPatch) -> None:
    root = FORMS["batches"](tmp_path / "data")
    pin(root)
    (tmp_path / "cache").write_text("mine")
    monkeypatch.setenv("CIFAR_NOISY_CACHE", str(tmp_path / "cache"))
    with pytest.raises(StorageError, match=r"set CIFAR_NOISY_CACHE .* cannot be written \("):
        load_images(root)


def test_images_travel_by_path(tmp_path: Path, pin: Pin, monkeypatch: pytest.MonkeyPatch) -> None:
    root = FORMS["batches"](tmp_path / "data")
    pin(root)
    loaded = load_images(root)
    travelled = pickle.dumps(loaded)
    assert len(travelled) < 1000
    with monkeypatch.context() as patch:  # who has it open has hashed it
        patch.setattr(packs, "_record_digests", None)
        assert_is_fake(True, pickle.loads(travelled))
    assert pickle.loads(travelled) == loaded == load_images(root)
    assert len({loaded, load_images(root)}) == 1
    # Elsewhere, the pack of that place's cache will do.
    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setenv("CIFAR_NOISY_CACHE", str(elsewhere))
    assert_is_fake(True, load_images(root))
    loaded.path.rename(tmp_path / "moved")
    assert pickle.loads(travelled).path == elsewhere / "images" / loaded.path.name
    (elsewhere / "images" / loaded.path.name).unlink()
    with pytest.raises(StorageError, match=rf"{loaded.path}, where .* is not on this machine") as e:
        pickle.loads(travelled)
    assert f"{elsewhere / 'images'} has no copy" in str(e.value)
    loaded.path.write_bytes(b"")
    with pytest.raises(StorageError, match="is damaged"):
        pickle.loads(travelled)


def test_a_file_system_that_maps_no_files_is_named(tmp_path: Path, pin: Pin) -> None:
    odd = Path("/sys/kernel/notes")
    if not odd.is_file():
        pytest.skip("needs a file that cannot be mapped")
    pin(FORMS["batches"](tmp_path))
    cache().mkdir(parents=True)
    (cache() / "official-train.sealed").symlink_to(odd)
    with pytest.raises(StorageError, match=r"cannot be mapped into memory \(No such device\)"):
        load_images()


# Writing other layouts.


def test_the_tree_has_upstreams_names(tmp_path: Path, pin: Pin) -> None:
    root = FORMS["batches"](tmp_path / "data")
    pin(root)
    written = write_images(tmp_path / "tree", root=root)
    ours = {path.relative_to(written) for path in written.rglob("*") if path.is_file()}
    assert len(ours) == 120
    theirs = FAKE.write_tree(tmp_path / "other")
    assert ours == {path.relative_to(theirs) for path in theirs.rglob("*") if path.is_file()}
    assert_is_fake(True, load_images(written))
    with pytest.raises(InvalidInputError, match="train is there already: name another folder"):
        write_images(written, root=root)
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "test").symlink_to("nowhere")
    with pytest.raises(InvalidInputError, match="test is there already: name another folder"):
        write_images(linked, root=root)
    assert not (linked / "train").exists()
    folder = ImageFolder(str(written / "train"))
    assert folder.classes == list(CLASSES)
    loaded = load_images(root)
    for row in (0, 50, 99):
        assert (np.asarray(folder[row][0]) == loaded.pixels[row]).all()
        assert folder[row][1] == loaded.labels[row]


def test_the_torchvision_layout(tmp_path: Path, pin: Pin, monkeypatch: pytest.MonkeyPatch) -> None:
    root = FAKE.write_tree(tmp_path / "data")
    pin(root)
    written = write_images(tmp_path / "written", "torchvision", root=root)
    assert_is_fake(True, load_images(written, trust="pixels"))
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    for train in (True, False):
        theirs = CIFAR10(str(written), train=train)
        assert theirs.classes == list(CLASSES)
        assert (theirs.data == FAKE.pixels[train]).all()
        assert theirs.targets == FAKE.labels[train].tolist()
    with pytest.raises(UnknownArtifactError, match="layout 'png' is unknown"):
        write_images(tmp_path / "x", "png")


# The JPEG copy.


def test_the_jpeg_copy_from_both_forms(jpeg: JpegCopy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    for train in (True, False):
        loaded = load_images(jpeg.batches, train=train, trust="pixels")
        theirs = CIFAR10(str(jpeg.batches), train=train)
        assert (loaded.pixels == theirs.data[loaded.torchvision_index]).all()
        assert loaded.labels.tolist() == np.array(theirs.targets)[loaded.torchvision_index].tolist()
        assert load_images(jpeg.tree, train=train).path == loaded.path
        folder = ImageFolder(str(jpeg.tree / ("train" if train else "test")))
        names = [Path(path).name for path, _ in folder.samples]
        expected = [f"{i}_{CLASSES[label]}.png" for i, label in zip(
            loaded.torchvision_index.tolist(), loaded.labels.tolist(), strict=True)]  # fmt: skip
        assert names == expected
        for row in range(0, len(folder), 997):
            assert (np.asarray(folder[row][0]) == loaded.pixels[row]).all()


def test_the_jpeg_copy_is_not_official(jpeg: JpegCopy) -> None:
    with pytest.raises(ImagesError, match=r"data_batch_1 has md5 .* official file has c99cafc1"):
        load_images(jpeg.batches)
