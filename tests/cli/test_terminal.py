"""What a terminal, a pipe, a full disk, Ctrl-C and an ASCII locale make of the command line."""

import io
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
import tarfile
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main

from cifar_noisy import artifacts, load_pyx
from cifar_noisy.cli import main
from cifar_noisy.cli.app import app, in_cli_words
from cifar_noisy.store.artifact_store import Store
from tests.conftest import write_example_scores
from tests.fake_cifar import FakeCifar

PROGRAM = Path(sys.executable).with_name("cifar-noisy")
ROOT = Path(__file__).parents[2]
SETTING = "--noise 0.4 --sparsity 0.2"
PLAN = f"recompute plan --dataset digits {SETTING} --folds 2 --set epochs=1 --set width=4"


def run(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *shlex.split(line)],
        env=os.environ | environment, capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def on_terminal(line: str, columns: int = 80, *, term: str = "xterm") -> tuple[int, list[str]]:
    """Run a command on a terminal; return its status and the lines that stay on the screen."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (24, columns))
    environment = {name: os.environ[name] for name in os.environ if name != "COLUMNS"}
    with subprocess.Popen(
        [PROGRAM, *shlex.split(line)], env=environment | {"TERM": term},
        stdin=theirs, stdout=theirs, stderr=theirs,
    ) as process:  # fmt: skip
        os.close(theirs)
        seen = b""
        try:
            while part := os.read(ours, 1 << 16):
                seen += part
        except OSError:  # how Linux says that the other end was closed
            pass
    os.close(ours)
    text = seen.decode().replace("\r\n", "\n")
    text = re.sub(r"[^\n]*\n(\x1b\[\?25h)?\r?\x1b\[1A\x1b\[2K", "", text)  # up, and cleared
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    return process.returncode, [line.rpartition("\r")[2].rstrip() for line in text.split("\n")]


def words(text: str) -> set[str]:
    return {word for word in text.split() if set(word) != {"-"}}


@pytest.fixture
def folder(published: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "line",
    [
        "list",
        "list --files --noise 0.2",
        "info 0.4 0.2",
        "cache ls",
        f"evaluate mine.npy {SETTING}",
        f"evaluate pyx.npy {SETTING} --by pair",
        "generate made.npy --model elr-asymmetric --rate 0.4 --seed 0",
        "tables",
        "verify --noise 0.7",
        f"{PLAN} --folder planned",
        "recompute slurm --folder planned --array-limit 9",
    ],
)
@pytest.mark.parametrize("columns", [80, 40])
def test_a_table_fits_the_terminal_and_breaks_no_word(
    line: str, columns: int, folder: Path
) -> None:
    if columns < 80 and not line.startswith(("list", "cache")):
        pytest.skip("is tried on 80 columns")
    if "mine.npy" in line:
        write_example_scores(folder)
    if "pyx.npy" in line:
        np.save("pyx.npy", load_pyx(0.4, 0.2))
    if "slurm" in line:
        run(f"{PLAN} --folder planned")
    piped = run(line)
    status, shown = on_terminal(line, columns)
    assert (status, piped.returncode, piped.stderr) == (0, 0, "")
    too_long = [line for line in shown if len(line) > columns and " " in line.strip()]
    assert too_long == []
    assert {word.rstrip(":") for word in words(" ".join(shown))} <= {
        word.rstrip(":") for word in words(piped.stdout)
    }


def test_a_row_is_a_line_where_there_is_no_terminal(folder: Path) -> None:
    assert len(run("list", COLUMNS="40").stdout.splitlines()) == 2 + 17 + 2


def test_what_is_printed_is_not_mixed_with_a_bar(folder: Path) -> None:
    wrong = Path(os.environ["CIFAR_NOISY_CACHE"]) / artifacts(kind="pyx")[5].path
    wrong.parent.mkdir(parents=True)
    wrong.write_bytes(b"?")
    status, shown = on_terminal("download --kind pyx", columns=400)
    assert status == 0
    (notice,) = (line for line in shown if "holds 1 bytes" in line)
    assert notice.startswith(f"cifar-noisy: {wrong} holds")
    status, shown = on_terminal(PLAN.replace("recompute plan", "recompute") + " --threads 1")
    done = [line for line in shown if "done" in line]
    assert status == 0
    assert done == [*(f"train-noise0.4-sparsity0.2-fold{n}: done" for n in (0, 1)),
                    "collect-noise0.4-sparsity0.2: done"]  # fmt: skip


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"TERM": "dumb"},
        {"NO_COLOR": "1"},
    ],
    ids=str,
)
def test_environments(environment: dict[str, str], folder: Path) -> None:
    wrong = Path(os.environ["CIFAR_NOISY_CACHE"]) / artifacts(kind="pyx")[0].path
    wrong.parent.mkdir(parents=True)
    wrong.write_bytes(b"?")
    for line, status in (
        ("--help", 0), ("list --kind pyx", 0), ("images --help", 0), ("download --kind pyx", 0),
        ("cache verify", 1), ("info 0.6 0", 2), ("list --noise much", 2),
    ):  # fmt: skip
        result = run(line, **environment)
        assert result.returncode == status, result.stderr
        assert "Traceback" not in result.stderr
        assert "\x1b" not in result.stdout + result.stderr
    status, _ = on_terminal("list", term=environment.get("TERM", "xterm"))
    assert status == 0


@pytest.fixture
def silent_mirror() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_ctrl_c_is_a_line_and_status_130(silent_mirror: socket.socket) -> None:
    url = f"http://127.0.0.1:{silent_mirror.getsockname()[1]}"
    with subprocess.Popen(
        [PROGRAM, "download", "--kind", "pyx"], env=os.environ | {"CIFAR_NOISY_MIRRORS": url},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        connection, _ = silent_mirror.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            said, notices = process.communicate()
    assert (process.returncode, said, notices) == (130, "", "cifar-noisy: interrupted\n")


@pytest.mark.parametrize("line", ["list --files", "cache export - --kind pyx --noise 0"])
def test_a_closed_pipe_is_no_error(line: str, published: str) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    result = subprocess.run([PROGRAM, *line.split()], stdout=theirs, stderr=subprocess.PIPE,
                            text=True, check=False)  # fmt: skip
    os.close(theirs)
    assert (result.returncode, result.stderr) == (141, "")


@pytest.mark.parametrize("line", ["list", "cache path", "list --json", "--version"])
def test_a_full_disk_behind_stdout_is_one_line(line: str) -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [PROGRAM, *line.split()], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert result.returncode == 1
    assert result.stderr == (
        "cifar-noisy: the output cannot be read or written (No space left on device): name "
        "another place\n"
    )


def test_an_error_of_the_system_without_a_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> Store:
        raise OSError("the archive ends early")

    monkeypatch.setattr(Store, "from_environment", classmethod(fail))
    monkeypatch.setattr(sys, "argv", ["cifar-noisy", "cache", "ls"])
    with pytest.raises(SystemExit, match="1"):
        main()
    assert "(the archive ends early)" in capsys.readouterr().err


def test_a_name_that_cannot_be_decoded_is_shown() -> None:
    result = subprocess.run(
        [os.fsencode(PROGRAM), b"check-alignment", b"caf\xe9"], capture_output=True, check=False
    )
    assert result.returncode == 2
    assert re.fullmatch(rb"cifar-noisy: caf\\udce9 .*\n", result.stderr)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (f"evaluate missing.npy {SETTING}", 2),
        (f"evaluate . {SETTING}", 2),
        (f"report --pyx missing.npy {SETTING}", 2),
        ("check-alignment missing", 2),
        ("cache import missing.tar", 2),
        ("images --root batches", 2),  # whose md5 is another
        ("info 0.6 0", 2),
        (f"verify --recomputed missing {SETTING}", 2),
        ("verify --noise 0.9 --json /dev/null/x", 1),
        ("--offline download --kind pyx", 3),
    ],
)
def test_exit_statuses(line: str, status: int, tmp_path: Path,
                       monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    if "batches" in line:
        FakeCifar.random().write_batches(tmp_path / "batches")
    result = run(line)
    assert result.returncode == status, result.stderr
    assert re.match("cifar-noisy: .", result.stderr)
    assert "Traceback" not in result.stderr
    assert not re.search(r"\b(trust|download|root|order|edition)=", result.stderr)


@pytest.mark.parametrize("stdout", ["/dev/stdout", "-"])
def test_a_bundle_on_stdout_has_its_summary_on_stderr(stdout: str, folder: Path) -> None:
    for option in ([], ["--json"]):
        wanted = ["--kind", "noise_matrix", "--noise", "0", *option]
        result = subprocess.run([PROGRAM, "cache", "export", stdout, *wanted],
                                capture_output=True, check=True)  # fmt: skip
        with tarfile.open(fileobj=io.BytesIO(result.stdout)) as bundle:
            assert len([name for name in bundle.getnames() if name.endswith(".pickle")]) == 1
        assert result.stdout.endswith(b"\0" * 1024)
        assert (b'"bundle": "/dev/stdout"' if option else b"1 file written to /dev/stdout\n") in (
            result.stderr
        )


ARCHIVE = "or download=True (cifar-noisy images --download)"


@pytest.mark.parametrize(
    ("command", "message", "shown"),
    [
        ("images", "pass trust='pixels' if so", "pass --trust pixels if so"),
        ("images", "or pass download=True, or root=", "or pass --download, or --root"),
        ("images", f"pass root=, {ARCHIVE}", f"pass --root, {ARCHIVE}"),
        ("report", f"pass root=, {ARCHIVE}", "pass --images, or run cifar-noisy images --download"),
        ("verify", "use edition='2021'", "use --edition 2021"),
        ("list", "give sparsity=0.2", "give --sparsity 0.2"),
        ("info", "so ask for noise=0.7", "so ask for NOISE 0.7"),
        ("info", "pass order='torchvision'", "pass --order torchvision"),
        ("list", "set n_folds=3: CIFAR_NOISY_OFFLINE=1", "set n_folds=3: CIFAR_NOISY_OFFLINE=1"),
        ("list", "load_pyx(noise=0.4)", "load_pyx(noise=0.4)"),
        ("recompute", "--set epochs=2", "--set epochs=2"),
    ],
)
def test_errors_speak_in_options(command: str, message: str, shown: str) -> None:
    program: Any = typer.main.get_command(app)
    shown = shown.replace("download=True", "--download")
    assert in_cli_words(message, program.commands[command], program) == shown


def test_arguments_are_named_as_in_the_help() -> None:
    assert run("info 0.6 0.2").stderr.endswith("so ask for NOISE 0.7\n")
    assert run("info 0 0.2").stderr.endswith("use SPARSITY 0\n")


STOPPED = """
import os, signal, sys

class StopAtImport:
    def find_spec(self, name, *_):
        if name in ("sklearn", "torch"):
            os.kill(os.getpid(), signal.SIGTERM)

sys.meta_path.insert(0, StopAtImport())
sys.argv = ["cifar-noisy", *sys.argv[1:]]
from cifar_noisy.cli import main
main()
"""


def test_a_stop_signal_during_imports_is_status_75(folder: Path) -> None:
    assert run(f"{PLAN} --folder planned").returncode == 0
    for line in (PLAN, "recompute run --folder planned"):
        result = subprocess.run([sys.executable, "-c", STOPPED, *line.split()],
                                capture_output=True, text=True, check=False)  # fmt: skip
        assert (result.returncode, result.stdout) == (75, "")
        assert result.stderr == (
            "cifar-noisy: stopped by a signal: run the same command again to continue\n"
        )


STOPPED_IN_A_LOCK = """
import signal, sys
from tqdm import std, tqdm

class Lock(std.TqdmDefaultWriteLock):
    def acquire(self, *args, **kwargs):
        signal.raise_signal(signal.SIGTERM)
        super().acquire(*args, **kwargs)

tqdm.set_lock(Lock())
sys.argv = ["cifar-noisy", "recompute", "status", "--folder", "nowhere"]
from cifar_noisy.cli import main
main()
"""


def test_a_stop_signal_while_a_lock_is_taken_is_status_75() -> None:
    result = subprocess.run([sys.executable, "-c", STOPPED_IN_A_LOCK],
                            capture_output=True, text=True, check=False)  # fmt: skip
    assert (result.returncode, result.stdout) == (75, "")
    assert result.stderr == (
        "cifar-noisy: stopped by a signal: run the same command again to continue\n"
    )


LIGHT = {"torch", "matplotlib", "cleanlab", "pandas", "sklearn", "scipy"}


@pytest.mark.parametrize(
    ("line", "needed"),
    [
        ("--help", set()),
        ("list", set()),
        ("list --files", set()),
        ("info 0.4 0.2", set()),
        ("download --kind pyx", set()),
        ("cache ls", set()),
        ("cache verify", set()),
        ("cache clear --yes", set()),
        ("cache prune", set()),
        ("cache export one.tar --kind noise_matrix", set()),
        ("images", set()),
        (f"evaluate mask.npy {SETTING}", set()),
        ("tables", {"pandas"}),
        ("verify --noise 0.4", {"cleanlab", "pandas", "sklearn", "scipy"}),
    ],
)
def test_a_command_imports_what_it_needs(line: str, needed: set[str], folder: Path) -> None:
    np.save("mask.npy", np.zeros(50_000, bool))
    program = f"import sys\nsys.argv = {['cifar-noisy', *line.split()]}\n"
    program += "from cifar_noisy.cli import main\ntry:\n    main()\nfinally:\n"
    program += f"    print('imported', *({LIGHT} & set(sys.modules)), file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert set(result.stderr.splitlines()[-1].split()[1:]) <= needed


def test_the_module_is_the_program() -> None:
    result = subprocess.run([sys.executable, "-P", "-m", "cifar_noisy", "--version"],
                            capture_output=True, text=True, check=True)  # fmt: skip
    assert result.stdout == run("--version").stdout


def commands() -> Iterator[tuple[str, typer.core.TyperCommand]]:
    """Yield each command with its words."""
    waiting = [("", typer.main.get_command(app))]
    while waiting:
        name, command = waiting.pop()
        yield name, command  # type: ignore[misc]
        for word, subcommand in getattr(command, "commands", {}).items():
            waiting.append((f"{name} {word}".strip(), subcommand))


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=lambda value: str(value))
def test_help_is_said_in_sentences(name: str, command: typer.core.TyperCommand) -> None:
    texts = {name: str(command.help)}
    texts |= {parameter.name or "": str(getattr(parameter, "help", ""))
              for parameter in command.params}  # fmt: skip
    for what, text in texts.items():
        first = text.split()[0]
        assert text.rstrip().endswith("."), (what, text)
        assert len(text.split()) > 2, (what, text)
        assert not first[0].islower() or first.endswith((":", ",")), (what, text)
        assert first not in ("Of", "By", "As"), (what, text)
    assert "Example: cifar-noisy" in str(command.epilog)
    if name != "cache" and name:
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        found = re.search(rf"cifar-noisy {name}\b", readme)
        in_a_list = name.startswith("cache ") and f"`{name.split()[1]}`" in readme
        assert found or in_a_list, f"README does not mention cifar-noisy {name}"
