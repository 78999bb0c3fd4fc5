"""Every block of the README and of the documents in docs/ runs, and prints what they say."""

import doctest
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import JpegCopy, write_example_scores

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = [
    (ROOT / "docs" / name).read_text(encoding="utf-8")
    for name in ("architecture.md", "json_output.md", "label_sets.md", "noise_models.md")
]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", "".join([README, *DOCS]), re.MULTILINE | re.DOTALL)
BIN = Path(sys.executable).parent


def blocks(language: str) -> list[str]:
    return [body for name, body in BLOCKS if name == language]


def test_every_block_is_of_a_kind_that_runs() -> None:
    assert {name for name, _ in BLOCKS} == {"console", "pycon", "bibtex"}


@pytest.mark.parametrize("block", blocks("pycon"), ids=lambda block: block.split("\n")[0])
def test_python(
    block: str,
    published: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.chdir(tmp_path)
    if "cifar10n-worst" in block:
        request.getfixturevalue("label_sets")
    Path("docs").symlink_to(ROOT / "docs")
    if '"data"' in block:
        copy: JpegCopy = request.getfixturevalue("official_jpeg")
        Path("data").symlink_to(copy.batches)
        Path("cifar10").symlink_to(copy.tree)
    test = doctest.DocTestParser().get_doctest(block, {}, "README.md", "README.md", 0)
    assert doctest.DocTestRunner().run(test).failed == 0


def test_python_of_the_evaluation_has_the_types_that_it_needs(tmp_path: Path) -> None:
    block = next(block for block in blocks("pycon") if "cifar_noisy.evaluate(" in block)
    lines = re.findall(r"^(?:>>>|\.\.\.) (.*)$", block, re.MULTILINE)
    (tmp_path / "example.py").write_text("\n".join(lines))
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", ROOT / "pyproject.toml",
         tmp_path / "example.py"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout


def steps(block: str) -> list[tuple[str, str]]:
    """Split a console block into its commands and what each of them prints."""
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)
    assert parts[0] == ""
    return list(zip(parts[1::2], parts[2::2], strict=True))


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("block", blocks("console"), ids=lambda block: block.split("\n")[0])
def test_console(block: str, published: str, tmp_path: Path) -> None:
    if "mine.npy" in block:
        write_example_scores(tmp_path)
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    for command, expected in steps(block):
        words = shlex.split(command, comments=True)
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            # The folders of the README are examples; the test has folders of its own.
            places = {"/shared/cifar-noisy": str(tmp_path / "cache"), "/data/upstream": published}
            environment[name] = places.get(value, value)
        elif words[0] == "make":
            assert words[1] in ("demo", "test")  # one has a test below, the other runs this
        else:
            result = subprocess.run(
                words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            assert result.returncode == 0, result.stderr
            if expected:
                assert lines(result.stdout) == lines(expected)


def test_make_demo() -> None:
    """Run the demo as make runs it, in the environment that runs the tests."""
    page = ROOT / "demo_report.html"
    page.unlink(missing_ok=True)
    result = subprocess.run(
        ["make", "-C", ROOT, "--assume-old=.venv/installed", f"BIN={BIN}", "demo"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "noisy labels: 17/17 exact" in result.stdout
    assert f"a page to look at: {page}" in result.stdout
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_commands_of_the_table_exist() -> None:
    rows = re.findall(r"^\| `cifar-noisy ([\w ]+?)[ `]", README, re.MULTILINE)
    assert len(rows) >= 5
    for row in rows:
        command = [word for word in row.split() if word.isalpha()]
        result = subprocess.run(
            [BIN / "cifar-noisy", *command, "--help"], capture_output=True, text=True, check=False
        )
        assert result.returncode == 0
