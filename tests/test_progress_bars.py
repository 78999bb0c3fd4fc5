"""Who sees a progress bar: terminals and notebooks, and what was told to show or to be told."""

import contextlib
import inspect
import io
import json
import os
import pty
import re
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from torch.utils.data import DataLoader

import cifar_noisy
from cifar_noisy import InvalidInputError
from cifar_noisy.progress_bars import is_shown, progress_bar

ROOT = Path(__file__).parents[1]
AT_ONCE = "import cifar_noisy, cifar_noisy.progress_bars as bars; bars._DELAY = 0; "
VERIFY = AT_ONCE + "cifar_noisy.verify(noise=0.4, sparsity=0.2{})"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Told:
    n = 0.0

    def update(self, n: float | None = 1) -> None:
        self.n += n or 0


def on_terminal(program: str) -> str:
    """Run a program whose stderr alone is a terminal, and return what that was sent."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (24, 80))
    with subprocess.Popen(
        [sys.executable, "-c", program], stderr=theirs, stdout=subprocess.PIPE
    ) as process:
        os.close(theirs)
        seen = b""
        try:
            while part := os.read(ours, 1 << 16):
                seen += part
        except OSError:  # how Linux says that the other end was closed
            pass
        assert process.stdout is not None
        assert process.stdout.read() == b""
    os.close(ours)
    assert process.returncode == 0, seen.decode()
    return seen.decode()


def left_on_screen(seen: str) -> str:
    """Return what stays, of a terminal that knows carriage returns, newlines and the way up."""
    screen, row, column = [""], 0, 0
    for part in re.findall(r"\r|\n|\x1b\[A|[^\r\n\x1b]+", seen):
        if part == "\r":
            column = 0
        elif part == "\n":
            row, column = row + 1, 0
            screen += [""] if row == len(screen) else []
        elif part == "\x1b[A":
            row -= 1
        else:
            line = screen[row].ljust(column)
            screen[row] = line[:column] + part + line[column + len(part) :]
            column += len(part)
    return "".join(screen).strip()


def test_a_terminal_sees_bars_and_keeps_none(published: str) -> None:
    seen = on_terminal(VERIFY.format(""))
    assert "verifying" in seen
    assert "12" in seen
    assert left_on_screen(seen) == ""
    assert on_terminal(VERIFY.format(", progress=False")) == ""


def test_off_a_terminal_only_who_asks_sees_one(published: str) -> None:
    def stderr(options: str) -> str:
        command = [sys.executable, "-c", VERIFY.format(options)]
        result = subprocess.run(command, check=True, capture_output=True, text=True)
        assert result.stdout == ""
        return result.stderr

    assert stderr("") == ""
    assert "verifying" in stderr(", progress=True")


def test_no_bar_is_shown_for_what_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_bar(None, "reading", 3) as bar:
        bar.update(3)
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("stderr", [None, object(), io.StringIO(), Terminal()])
def test_any_stderr_will_do(stderr: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    assert is_shown(None) is isinstance(stderr, Terminal)
    if isinstance(stderr, io.StringIO):
        stderr.close()
        assert not is_shown(None)


class Watched:
    """A dataset whose items say whether their process would show a bar."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, item: int) -> bool:
        sys.stderr = Terminal()
        return is_shown(None)


def test_workers_of_a_data_loader_show_none() -> None:
    stderr = sys.stderr
    try:
        assert Watched()[0]
    finally:
        sys.stderr = stderr
    shown = [bool(item) for item in DataLoader(Watched(), None, num_workers=1)]  # type: ignore[arg-type]
    assert shown == [False, False]


def test_a_notebook_sees_bars(tmp_path: Path) -> None:
    source = "from cifar_noisy.progress_bars import is_shown, tqdm_bar\nis_shown(None)"
    quiet = "import warnings; warnings.simplefilter('error')\ntqdm_bar(None).close()"
    file = tmp_path / "small.ipynb"
    notebook = new_notebook(  # type: ignore[no-untyped-call]
        cells=[new_code_cell(part) for part in (source, quiet)]  # type: ignore[no-untyped-call]
    )
    nbformat.write(notebook, file)  # type: ignore[no-untyped-call]
    program = ROOT / "scripts" / "run_notebook.py"
    subprocess.run([sys.executable, program, file], check=True, capture_output=True)
    first, second = json.loads(file.read_text())["cells"]
    assert first["outputs"][0]["data"]["text/plain"] == ["True"]
    assert second["outputs"] == []


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "NoisyCIFAR10": lambda told: cifar_noisy.NoisyCIFAR10(noise=0.4, sparsity=0, progress=told),
    "accuracy_table": lambda told: cifar_noisy.accuracy_table(progress=told),
    "benchmark": lambda told: cifar_noisy.benchmark(np.isnan, "cifar10s", "none", progress=told),
    "check_alignment": lambda told: cifar_noisy.check_alignment(
        [(np.zeros((32, 32, 3)), label) for label in cifar_noisy.load_true_labels()], progress=told
    ),
    "download": lambda told: cifar_noisy.download(kind="pyx", noise=0, progress=told),
    "export_images": lambda told: cifar_noisy.export_images(
        "new", np.arange(50_000) // 5_000, progress=told
    ),
    "load_images": lambda told: cifar_noisy.load_images(progress=told),
    "load_pyx": lambda told: cifar_noisy.load_pyx(0, progress=told),
    "paper_tables": lambda told: cifar_noisy.paper_tables(progress=told),
    "verify": lambda told: cifar_noisy.verify(noise=0.4, sparsity=0, progress=told),
    "write_images": lambda told: cifar_noisy.write_images("new", progress=told),
    "write_report": lambda told: cifar_noisy.write_report("page.html", 0, progress=told),
}


def test_every_function_with_progress_is_known_here() -> None:
    public = {name: getattr(cifar_noisy, name) for name in dir(cifar_noisy)}
    parameters = {
        name: inspect.signature(value).parameters
        for name, value in public.items()
        if callable(value) and not (isinstance(value, type) and issubclass(value, Exception))
    }
    having = {name: of["progress"].default for name, of in parameters.items() if "progress" in of}
    assert having == dict.fromkeys(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("progress", ["yes", 1, Told])
def test_what_shows_nothing_is_refused_before_any_work(
    name: str, progress: Any, fake: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIFAR_NOISY_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInputError, match=r"progress=.* shows nothing: pass True, False"):
        FUNCTIONS[name](progress)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["download", "load_pyx", "verify", "accuracy_table"])
def test_an_object_is_told(name: str, published: str) -> None:
    told = Told()
    FUNCTIONS[name](told)
    assert told.n == {"accuracy_table": 161, "verify": told.n}.get(name, 1_000_128)
    assert told.n > 100


def test_images_are_counted(fake: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("export_images", "check_alignment"):
        told = Told()
        FUNCTIONS[name](told)
        assert told.n == 50_000


def test_bars_leave_json_alone(published: str, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (24, 80))
    program = str(Path(sys.executable).with_name("cifar-noisy"))
    command = [program, "verify", "--noise", "0.4", "--json", "-"]

    def drain() -> None:  # what is not read would in the end stop the program
        with contextlib.suppress(OSError):
            while os.read(ours, 1 << 16):
                pass

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        reader = threading.Thread(target=drain)
        reader.start()
        assert process.stdout is not None
        assert len(json.load(process.stdout)["checks"]) == 48
    reader.join()
    os.close(ours)


def test_the_caller_may_turn_bars_off() -> None:
    program = AT_ONCE + "\nwith bars.progress_bar(True, 'reading', 2) as bar: bar.update()"
    choices: tuple[dict[str, str], ...] = ({}, {"TQDM_DISABLE": "1"})
    for chosen in choices:
        result = subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True,
            env=os.environ | chosen,
        )  # fmt: skip
        assert ("reading" in result.stderr) is (not chosen)
