"""CIFAR-10's images from every form that people have them in, packed once and never half."""

import contextlib
import io
import json
import os
import pickle
import shutil
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

from cifar_noisy import (
    ImagesError,
    InvalidInputError,
    StorageError,
    UnavailableError,
    UnknownArtifactError,
    image_sources,
    images,
    load_images,
    order,
    write_images,
)
from cifar_noisy.image_sources import ARCHIVE, BATCH_FOLDER, git_blob_id
from cifar_noisy.settings import CLASSES
from cifar_noisy.store import Store
from tests.conftest import JpegCopy
from tests.fake_cifar import PNG_ARCHIVES, FakeCifar, add
from tests.range_server import Behaviour, RangeServer, serving_ranges

FAKE = FakeCifar.random()
Pin = Callable[[Path], None]


@pytest.fixture
def pin(monkeypatch: pytest.MonkeyPatch) -> Pin:
    """Return a function that makes the files below a folder the official ones."""

    def pinned(folder: Path) -> None:
        monkeypatch.setattr(image_sources, "CIFAR10", FAKE.release(folder))
        monkeypatch.setattr(order, "OFFICIAL_LABELS_SHA256", FAKE.labels_sha256)

    return pinned


def cache() -> Path:
    return Path(os.environ["CIFAR_NOISY_CACHE"]) / "images"


def assert_is_fake(train: bool, loaded: images.Images) -> None:
    """Hold images to a plain loop over the made-up ones, sorted as their file names are."""
    labels = FAKE.labels[train].tolist()
    names = sorted((CLASSES[label], f"{i}_", i) for i, label in enumerate(labels))
    assert loaded.indices.tolist() == [index for *_, index in names]
    assert loaded.labels.tolist() == [CLASSES.index(name) for name, *_ in names]
    assert loaded.pixels.shape == (len(labels), 32, 32, 3)
    for row, (*_, index) in enumerate(names):
        assert (loaded.pixels[row] == FAKE.pixels[train][index]).all()
    assert isinstance(loaded.pixels, np.memmap)
    assert not any(a.flags.writeable for a in (loaded.pixels, loaded.labels, loaded.indices))


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
    assert loaded.is_official == (form != "tree")
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
    monkeypatch.setattr(image_sources.BatchFolder, "_read", None)
    assert_is_fake(True, load_images(root))
    assert_is_fake(True, load_images())
    (root / BATCH_FOLDER / "data_batch_2").touch()
    with pytest.raises(TypeError):
        load_images(root)


def test_the_cache_holds_complete_folders_only(tmp_path: Path, pin: Pin) -> None:
    root = FORMS["batches"](tmp_path)
    pin(root)
    load_images(root)
    names = {path.name for path in cache().iterdir()}
    assert names == {"official-train", "sources", "official_train_labels", ".lock"}
    labels = np.fromfile(cache() / "official_train_labels", np.uint8)
    assert (labels == FAKE.labels[True]).all()


def test_official_labels_come_with_the_images(tmp_path: Path, pin: Pin) -> None:
    root = FORMS["batches"](tmp_path)
    pin(root)
    with pytest.raises(UnavailableError, match=r"load_images has packed them, or .* label file"):
        order.official_indices_published(Store(tmp_path, is_offline=True))
    expected = load_images(root).indices
    store = Store.from_environment()
    assert (order.official_indices_published(store) == expected).all()
    (cache() / "official_train_labels").write_bytes(b"\1" * 100)
    other = Store(store.cache, is_offline=True)
    with pytest.warns(match="not the official labels"), pytest.raises(UnavailableError):
        order.official_indices_published(other)


def test_a_source_that_changes_is_packed_again(tmp_path: Path, pin: Pin) -> None:
    root = FAKE.write_tree(tmp_path)
    pin(root)
    first = load_images(root)
    name = FAKE.name(True, 7)
    (root / "train" / name).write_bytes(FAKE.png(True, 8))
    again = load_images(root)
    row = again.indices.tolist().index(7)
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
        ({"data": np.zeros((20, 3071), np.uint8)}, r"data uint8 of \(20, 3071\), where uint8"),
        ({"data": np.zeros((20, 3072))}, r"data float64 of \(20, 3072\), where uint8"),
        ({"data": [1, 2]}, "data <class 'list'>, where uint8"),
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
        (odd_member(tarfile.FIFOTYPE, f"{BATCH_FOLDER}/data_batch_1"), "a link or device"),
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
    with pytest.raises(UnavailableError, match=r"has no CIFAR-10 images: .* or pass download=True"):
        load_images(tmp_path / "missing")
    with pytest.raises(UnavailableError, match=r"not in the cache .* or download=True"):
        load_images()
    monkeypatch.setenv("CIFAR_NOISY_OFFLINE", "1")
    with pytest.raises(UnavailableError, match=r"CIFAR_NOISY_OFFLINE is set: .* and put it at"):
        load_images(tmp_path, download=True)


# Downloads.


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    """Run a server, at which the public addresses lead."""
    with serving_ranges() as running:
        urls = [running.url(f"/{host}") for host in ("official", "copy")]
        monkeypatch.setattr(images, "ARCHIVE_URLS", tuple(urls))
        pngs = [running.url("/raw/{name}"), running.url("/swh/{blob}")]
        monkeypatch.setattr(images, "PNG_URLS", tuple(pngs))
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
    load_images(download=True)
    assert server.asked == [(f"/mine/{ARCHIVE}", None)]


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
    assert images.ARCHIVE_URLS[0] == CIFAR10.url
    assert image_sources.CIFAR10.archive_md5 == CIFAR10.tgz_md5
    names = dict([*CIFAR10.train_list, *CIFAR10.test_list])
    assert image_sources.CIFAR10.batch_md5 == names
    assert all(url.startswith("https://") for url in (*images.ARCHIVE_URLS, *images.PNG_URLS))


# Killed runs, and several at once.

PACK = """
import sys, time
from pathlib import Path
from cifar_noisy import image_sources, images, load_images, order
from tests.test_images import FAKE
root = Path(sys.argv[1])
image_sources.CIFAR10 = FAKE.release(root)
order.OFFICIAL_LABELS_SHA256 = FAKE.labels_sha256
if "slow" in sys.argv:
    write = images._write_rows
    def slow(*arguments):
        write(*arguments)
        print("written", flush=True)
        time.sleep(60)
    images._write_rows = slow
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
    assert not (cache() / "official-train").exists()
    assert len(list(cache().glob(".*.part"))) == 1
    with pytest.raises(UnavailableError):
        load_images()
    assert_is_fake(True, load_images(root))
    assert not list(cache().glob(".*.part"))


def test_processes_that_pack_at_once(tmp_path: Path) -> None:
    root = FORMS["batches"](tmp_path)
    processes = [packing(root) for _ in range(3)]
    assert [process.communicate()[0] for process in processes] == ["100\n"] * 3
    assert [process.returncode for process in processes] == [0] * 3
    assert {path.name for path in cache().iterdir()} >= {"official-train"}
    assert not list(cache().glob(".*.part"))


def test_a_damaged_pack(tmp_path: Path, pin: Pin) -> None:
    root = FORMS["batches"](tmp_path)
    pin(root)
    path = load_images(root).path
    (path / "pixels.npy").write_bytes((path / "pixels.npy").read_bytes()[:-1])
    with pytest.raises(StorageError, match=r"official-train is damaged .* packed again"):
        load_images(root)
    shutil.rmtree(path)
    assert_is_fake(True, load_images(root))
    (path / "about.json").write_text(json.dumps({"n_images": 3}))
    with pytest.raises(StorageError, match="is damaged"):
        load_images()


def test_the_cache_commands_know_the_images(tmp_path: Path, pin: Pin) -> None:
    def cache_command(*words: str) -> subprocess.CompletedProcess[str]:
        program = Path(sys.executable).with_name("cifar-noisy")
        return subprocess.run(
            [program, "cache", *words], capture_output=True, text=True, check=False
        )

    root = FORMS["batches"](tmp_path)
    pin(root)
    folders = [load_images(root, train=train).path for train in (False, True)]
    folders.sort()
    listed = json.loads(cache_command("ls", "--json").stdout)
    assert listed["images"] == [str(folder) for folder in folders]
    assert all(f"images: {folder}\n" in cache_command("ls").stdout for folder in folders)
    assert cache_command("verify").stdout.endswith("2 files and image folders: 2 right\n")
    pixels = folders[0] / "pixels.npy"
    content = bytearray(pixels.read_bytes())
    content[-1] ^= 1
    pixels.write_bytes(content)
    checked = cache_command("verify")
    assert checked.returncode == 1
    assert f"wrong: {folders[0]} (holds other images than were packed" in checked.stdout
    pixels.write_bytes(content[:-1])
    assert "is damaged" in cache_command("verify").stdout
    archive = folders[0].parent / "cifar-10-python.tar.gz"
    archive.write_bytes(b"?")
    assert f"wrong: {archive} (has 1 bytes" in cache_command("verify").stdout
    assert cache_command("clear", "--yes").returncode == 0
    assert folders[0].exists()
    assert cache_command("clear", "--yes", "--images").returncode == 0
    assert not archive.parent.exists()


def test_a_cache_that_is_a_file(tmp_path: Path, pin: Pin, monkeypatch: pytest.MonkeyPatch) -> None:
    root = FORMS["batches"](tmp_path / "data")
    pin(root)
    (tmp_path / "cache").write_text("mine")
    monkeypatch.setenv("CIFAR_NOISY_CACHE", str(tmp_path / "cache"))
    with pytest.raises(StorageError, match=r"cannot be written \(.*CIFAR_NOISY_CACHE"):
        load_images(root)


def test_images_travel_by_path(tmp_path: Path, pin: Pin) -> None:
    root = FORMS["batches"](tmp_path)
    pin(root)
    travelled = pickle.dumps(load_images(root))
    assert len(travelled) < 1000
    assert_is_fake(True, pickle.loads(travelled))


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
        assert (loaded.pixels == theirs.data[loaded.indices]).all()
        assert loaded.labels.tolist() == np.array(theirs.targets)[loaded.indices].tolist()
        assert load_images(jpeg.tree, train=train).path == loaded.path
        folder = ImageFolder(str(jpeg.tree / ("train" if train else "test")))
        names = [Path(path).name for path, _ in folder.samples]
        expected = [f"{i}_{CLASSES[label]}.png" for i, label in zip(
            loaded.indices.tolist(), loaded.labels.tolist(), strict=True)]  # fmt: skip
        assert names == expected
        for row in range(0, len(folder), 997):
            assert (np.asarray(folder[row][0]) == loaded.pixels[row]).all()


def test_the_jpeg_copy_is_not_official(jpeg: JpegCopy) -> None:
    with pytest.raises(ImagesError, match=r"data_batch_1 has md5 .* official file has c99cafc1"):
        load_images(jpeg.batches)


def test_the_map_from_the_images_alone(jpeg: JpegCopy) -> None:
    assert "CIFAR_NOISY_MIRRORS" not in os.environ
    store = Store(Path(os.environ["CIFAR_NOISY_CACHE"]), is_offline=True)
    loaded = load_images(jpeg.batches, trust="pixels")
    assert (order.official_indices_published(store) == loaded.indices).all()
