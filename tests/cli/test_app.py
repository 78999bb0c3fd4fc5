"""The command line as real processes: output, exit status, one line for an error."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cifar_noisy import artifacts
from cifar_noisy.cli.app import app, cache_app
from cifar_noisy.evaluation import verification
from cifar_noisy.store.artifact_store import Store
from cifar_noisy.store.cache import clear_cache
from tests.conftest import write_example_scores
from tests.file_server import FileServer, serving
from tests.json_schemas import answer_of

PROGRAM = Path(sys.executable).with_name("cifar-noisy")


def run(
    *arguments: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *arguments],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def server(upstream: Path) -> Iterator[FileServer]:
    with serving(upstream) as running:
        yield running


def names() -> list[tuple[str, ...]]:
    """Return every command as its words."""
    commands = [(str(command.name or command.callback.__name__),)  # type: ignore[union-attr]
                for command in app.registered_commands]  # fmt: skip
    return commands + [("cache", str(command.name)) for command in cache_app.registered_commands]


DETECTOR = """
def detector(labels, pyx):
    return pyx.argmax(axis=1) != labels
"""

# Their examples need CIFAR-10's images, and run in test_images_cli.py.
WITH_IMAGES = {("images",), ("check-alignment",)}


@pytest.mark.parametrize("words", [w for w in names() if w not in WITH_IMAGES], ids=" ".join)
def test_every_help_ends_in_a_real_example(
    words: tuple[str, ...], published: str, tmp_path: Path
) -> None:
    if words == ("cache", "import"):
        run("cache", "export", "pyx.tar", "--kind", "pyx", cwd=tmp_path)
    if words == ("evaluate",):
        write_example_scores(tmp_path)
    if words == ("benchmark",):
        (tmp_path / "my_module.py").write_text(DETECTOR)
    result = run(*words, "--help", COLUMNS="200")
    assert result.returncode == 0
    example = re.search(r"Example: cifar-noisy (.*\S)\s*$", result.stdout)
    assert example is not None, result.stdout
    arguments = example[1].split()
    assert tuple(arguments[: len(words)]) == words
    if "verdicts.json" in arguments:
        arguments[arguments.index("verdicts.json")] = "-"
    ran = run(*arguments, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert re.fullmatch(r"(train-\S+: epoch \d+ of \d+, \S+ left\n)*", ran.stderr)


def test_version_and_bare_call() -> None:
    assert run("--version").stdout.startswith("cifar-noisy 0.")
    assert "Usage: cifar-noisy" in run("--help").stdout


def test_help_imports_nothing_heavy() -> None:
    program = "import sys\nsys.argv = ['cifar-noisy', '--help']\nfrom cifar_noisy.cli import main\n"
    program += "try:\n    main()\nexcept SystemExit:\n    pass\n"
    program += "print({'torch', 'cleanlab', 'pandas', 'sklearn', 'pooch'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.endswith("set()\n")


def test_verify_over_a_web_server(server: FileServer, tmp_path: Path) -> None:
    report = tmp_path / "verdicts.json"
    result = run("verify", "--json", str(report), CIFAR_NOISY_MIRRORS=server.url)
    assert (result.returncode, result.stderr) == (0, "")
    assert "noisy labels: 17/17 exact" in result.stdout
    assert "noise matrix: 17/17 exact" in result.stdout
    assert "train mask 2021: 64/65 exact (64 exact, 1 known)" in result.stdout
    assert "train mask 2019: 1/60 exact (1 exact, 58 explained, 1 known)" in result.stdout
    assert result.stdout.count("known: train_mask, noise 0.7, sparsity 0.4, argmax") == 3
    checks = answer_of(report.read_text(), "verify")["checks"]
    assert len(checks) == 17 + 17 + 65 + 60
    assert re.search(r"^0.7 +0.4 +\*2 +\*2 +~6 += ", result.stdout, re.MULTILINE)
    assert {check["verdict"] for check in checks} == {"exact", "explained", "known"}
    differences = [d for check in checks for d in check["differences"]]
    assert {d["explanation"]["reason"] for d in differences if d["explanation"]} == {
        "tie", "threshold", "cut"
    }  # fmt: skip


def test_verify_where_not_everything_can_be_had() -> None:
    result = run("verify", "--noise", "0.9")
    assert result.returncode == 0
    result = run("verify", "--noise", "0.2", "--sparsity", "0", CIFAR_NOISY_OFFLINE="1")
    assert result.returncode == 3
    assert "not reachable: 10 masks; the first since 6 files (1.3 MB)" in result.stdout
    assert "run cifar-noisy download --noise 0.2 --sparsity 0 where there is a" in result.stdout
    assert result.stdout.count("the web was not asked") == 1


def test_a_difference_that_nothing_explains_is_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "generate_noisy_labels", lambda _: np.zeros(50_000, np.int64))
    arguments = ["verify", "--noise", "0.9", "--json", "-"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    verdicts = [check["verdict"] for check in answer_of(result.stdout, "verify")["checks"]]
    assert verdicts == ["unexplained", "exact"] * 4
    result = CliRunner().invoke(app, [*arguments, "--fail-fast"])
    assert (result.exit_code, len(answer_of(result.stdout, "verify")["checks"])) == (1, 1)
    result = CliRunner().invoke(app, arguments[:3])
    assert "unexplained: noisy_labels, noise 0.9, sparsity 0: its seed gives" in result.stdout


def test_a_wrong_answer_of_a_mirror_is_a_notice(server: FileServer, upstream: Path) -> None:
    mask = artifacts(kind="train_mask", noise=0.4, sparsity=0, edition="2019")[0]
    cache = Path(os.environ["CIFAR_NOISY_CACHE"]) / mask.path
    cache.parent.mkdir(parents=True)
    cache.write_bytes(b"wrong")
    result = run("download", "--kind", "train_mask", "--noise", "0.4", "--sparsity", "0",
                 CIFAR_NOISY_MIRRORS=server.url)  # fmt: skip
    assert result.returncode == 0
    assert re.fullmatch(rf"cifar-noisy: {cache} holds 5 bytes .* not used\n", result.stderr)
    assert cache.read_bytes() == (upstream / mask.path).read_bytes()


def test_the_cache_from_download_to_clear(server: FileServer) -> None:
    result = run("download", "--kind", "pyx", "--json", CIFAR_NOISY_MIRRORS=server.url)
    assert len(answer_of(result.stdout, "download")["files"]) == 13
    cache = Path(run("cache", "path").stdout.strip())
    assert cache == Path(os.environ["CIFAR_NOISY_CACHE"])
    settings = answer_of(run("cache", "ls", "--json").stdout, "cache ls")["settings"]
    assert [row["pyx"]["cached"] for row in settings] == [1] * 13 + [0] * 4
    files = answer_of(run("list", "--kind", "pyx", "--files", "--json").stdout, "list")["files"]
    assert [file["where"] for file in files] == ["cache"] * 13
    listed = answer_of(run("list", "--kind", "pyx", "--json").stdout, "list")["settings"]
    assert [row["pyx"] for row in listed] == [{"here": 1, "published": 1}] * 13
    assert run("cache", "verify").stdout == f"{cache}: 13 files: 13 right\n"

    wrong = cache / artifacts(kind="pyx")[2].path
    wrong.write_bytes(b"?")
    result = run("cache", "verify")
    assert result.returncode == 1
    assert f"wrong: {wrong}" in result.stdout
    verdicts = answer_of(run("cache", "verify", "--json").stdout, "cache verify")["files"]
    assert [v["path"] for v in verdicts if not v["is_right"]] == [str(wrong)]

    mine = cache / "cifar10" / "notes.txt"
    mine.write_text("mine")
    asked = run("cache", "clear")
    assert (asked.returncode, asked.stdout.strip()) == (1, "")  # gets no answer
    assert "Remove 13 files (13.0 MB) from" in asked.stderr
    assert run("cache", "clear", "--yes").stdout == f"13 files (13.0 MB) removed from {cache}\n"
    left = [path for path in cache.rglob("*") if path.is_file()]
    assert sorted(left) == [cache / "CACHEDIR.TAG", mine]
    assert run("cache", "clear").stdout == f"nothing to remove from {cache}\n"


def test_clear_leaves_what_a_linked_folder_leads_to(upstream: Path, tmp_path: Path) -> None:
    mask = artifacts(kind="train_mask")[0]
    theirs = tmp_path / "clone" / mask.path
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes((upstream / mask.path).read_bytes())
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "cifar10").symlink_to(tmp_path / "clone" / "cifar10")
    result = run("cache", "clear", "--yes", CIFAR_NOISY_CACHE=str(cache))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("0 files")
    assert theirs.is_file()


def test_an_import_replaces_a_file_without_end(published: str, tmp_path: Path) -> None:
    wanted = ("--kind", "pyx", "--noise", "0.4", "--sparsity", "0.2")
    assert run("cache", "export", "pyx.tar", *wanted, cwd=tmp_path).returncode == 0
    (artifact,) = artifacts(kind="pyx", noise=0.4, sparsity=0.2)
    planted = tmp_path / "cache" / artifact.path
    planted.parent.mkdir(parents=True)
    planted.touch()
    os.truncate(planted, 1 << 40)
    here = {"CIFAR_NOISY_CACHE": str(tmp_path / "cache"), "CIFAR_NOISY_MIRRORS": ""}
    assert run("cache", "import", "pyx.tar", cwd=tmp_path, **here).returncode == 0
    assert planted.stat().st_size == artifact.size


def test_caches_are_cleared_by_several_at_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    for artifact in artifacts():
        store.cache_path(artifact).parent.mkdir(parents=True, exist_ok=True)
        store.cache_path(artifact).touch()
    together = threading.Barrier(4)

    def clear(_: int) -> None:
        together.wait()
        clear_cache(store)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(clear, range(4)))
    assert not list(store.cache.rglob("*"))


def test_a_cache_of_an_impossible_name(tmp_path: Path) -> None:
    cache_commands = (
        ("cache", *words.split()) for words in ("ls", "verify", "prune", "clear --yes")
    )
    for command in (("list",), *cache_commands):
        assert run(*command, CIFAR_NOISY_CACHE=str(tmp_path / ("a" * 300))).returncode == 0


@pytest.mark.parametrize("name", [".", "cifar10"])
def test_links_that_go_in_circles(name: str, tmp_path: Path) -> None:
    link = tmp_path / "cache" / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(link.name)
    for words in ("ls", "verify", "prune", "clear --yes --images"):
        done = run("cache", *words.split(), CIFAR_NOISY_CACHE=str(tmp_path / "cache"))
        assert (done.returncode, done.stderr) == (0, ""), words
    assert link.is_symlink()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("info", "0.6", "0"), 2, "noise 0.6 was not published"),
        (("verify", "--method", "cl_pcb"), 2, "did you mean cl_pbc"),
        (("download", "--kind", "pyx", "--noise", "0.9"), 2, "nothing published matches"),
    ],
)
def test_an_error_is_one_line(arguments: tuple[str, ...], status: int, said: str) -> None:
    result = run(*arguments, CIFAR_NOISY_OFFLINE="1")
    assert result.returncode == status
    assert result.stdout == ""
    # What could not be had has a line for each source below.
    assert re.fullmatch(rf"cifar-noisy: .*{said}.*\n(  .*\n)*", result.stderr)


def test_missing_files_are_said_once_and_then_a_line_for_each_source() -> None:
    result = run("download", "--kind", "pyx", CIFAR_NOISY_OFFLINE="1")
    assert (result.returncode, result.stdout) == (3, "")
    first, cache, offline = result.stderr.splitlines()
    assert re.match(r"cifar-noisy: 13 files \(13.0 MB\), the first of them", first)
    assert cache.endswith(".npy does not exist")
    assert offline == "  the web was not asked, since this store is offline"


def test_verdicts_are_shown_though_their_file_cannot_be_written() -> None:
    result = run("verify", "--noise", "0.9", "--json", "/dev/null/x")
    assert result.returncode == 1
    assert "noisy labels: 4/4 exact" in result.stdout
    assert re.fullmatch(r"cifar-noisy: /dev/null/x cannot be written .*\n", result.stderr)


def test_text_for_a_number_is_a_usage_error() -> None:
    result = run("verify", "--noise", "0.4", "--sparsity", "much")
    assert result.returncode == 2
    assert "Invalid value for '--sparsity'" in result.stderr
    assert "Traceback" not in result.stderr


def test_output_off_a_terminal_has_a_line_per_row(published: str) -> None:
    wanted = ("--noise", "0.7", "--sparsity", "0")
    heads, _, row, *_, last = run("list", *wanted).stdout.splitlines()
    assert heads.split("  ")[0] == "noise"
    assert row.split() == ["0.7", "0", "1/1", "10/10", "1/1", "1/1", "13/13", *["8.5", "MB"] * 2]
    assert last == "26 files, 8.5 MB; 26 on this machine"
    lines = run("list", "--files", *wanted).stdout.splitlines()
    assert len(lines) == 2 + 26 + 2
    assert sum(line.startswith("train_mask") for line in lines) == 10
    assert len(run("list").stdout.splitlines()) == 2 + 17 + 2
    assert len(run("list", "--files").stdout.splitlines()) == 2 + 340 + 2


def test_download_says_where_and_copies(published: str, tmp_path: Path) -> None:
    words = ("download", "--kind", "pyx", "--noise", "0.4")
    in_place = run(*words).stdout
    assert "4 files, 4.0 MB, checked: 0 in " in in_place
    assert "the other 4 are in mirror folders" in in_place
    assert "4 files, 4.0 MB, checked: 4 in " in run(*words, "--copy").stdout
    assert "4 files: 4 right" in run("cache", "verify").stdout


def test_verify_writes_the_verdicts_on_a_label_set(label_sets: Path, tmp_path: Path) -> None:
    result = run("verify", "--noise", "idn-cores-0.2", "--json", "-")
    assert (result.returncode, result.stderr) == (0, "")
    (check,) = answer_of(result.stdout, "verify")["checks"]
    assert check["verdict"] == "exact"
    assert check["label_sets"] == ["idn-cores-0.2"]
    assert (check["noise"], check["sparsity"], check["model"]) == (None, None, None)
    result = run("verify", "--noise", "pmd-0.35", CIFAR_NOISY_MIRRORS="", CIFAR_NOISY_OFFLINE="1")
    assert result.returncode == 3
    assert "not reachable: 1 file; the first since" in result.stdout


def test_what_labels_files_need_is_said_in_words_that_help(tmp_path: Path) -> None:
    """No option of these commands says which labels of a file are meant, or their order."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "mask.npy", rng.random(50_000) < 0.4)
    np.save(tmp_path / "random.npy", rng.integers(0, 10, 50_000))
    first, second = rng.integers(0, 10, (2, 50_000)).tolist()
    rows = "".join(f"{a},{b}\n" for a, b in zip(first, second, strict=True))
    (tmp_path / "two.csv").write_text("first,second\n" + rows)
    for command in ("evaluate mask.npy", "export out.csv --for csv", "report", "recompute plan"):
        for name, argument in (("random.npy", "order"), ("two.csv", "key")):
            result = run(*command.split(), "--labels", name, cwd=tmp_path)
            assert result.returncode == 2
            assert f"call read_labels({argument}=) and export_labels in Python" in result.stderr
            assert "pass --" not in result.stderr


def test_evaluate_without_the_probabilities_of_a_model_is_status_3(tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", np.arange(50_000) % 3 == 0)
    arguments = ("evaluate", "mask.npy", "--noise", "cifar10s")
    result = run(*arguments, cwd=tmp_path, CIFAR_NOISY_OFFLINE="1")
    assert result.returncode == 0
    result = run(*arguments, "--model", "resnet18", cwd=tmp_path, CIFAR_NOISY_OFFLINE="1")
    assert result.returncode == 3
    assert "yours" in result.stdout
    assert "the published methods are left out: cleanlab/" in result.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="other systems heed no such limit")
@pytest.mark.parametrize("command", ["verify", "tables"])
def test_too_little_memory_is_one_line(command: str, published: str) -> None:
    words = ["bash", "-c", f'ulimit -v 140000; exec "$0" {command}', str(PROGRAM)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch("cifar-noisy: too little memory.*ulimit -v.*\n", done.stderr)
