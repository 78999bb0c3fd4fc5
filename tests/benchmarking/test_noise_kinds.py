"""The document on kinds of noise says what one command computes."""

import re
import subprocess
import sys
from pathlib import Path

from conftest import REPOSITORY


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scripts.noise_kinds", *words], cwd=REPOSITORY, capture_output=True,
        text=True, check=False,
    )  # fmt: skip


def test_the_document_is_what_the_command_writes(label_sets: Path, tmp_path: Path) -> None:
    assert run("--check").returncode == 0
    assert run(str(tmp_path)).returncode == 0
    text = (tmp_path / "noise_kinds.md").read_text()
    assert text == (REPOSITORY / "docs" / "noise_kinds.md").read_text()
    picture = re.search(r"!\[.*\]\((.*)\)", text)
    assert picture is not None
    assert (tmp_path / picture[1]).read_bytes()[:4] == b"\x89PNG"


def test_absent_files_are_named(tmp_path: Path) -> None:
    done = run(str(tmp_path))
    assert done.returncode == 1
    assert "not reachable: 27 cases" in done.stderr
    assert not list(tmp_path.iterdir())
