"""The package as others get it: a wheel in an empty environment, lazy imports, public names."""

import ast
import graphlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

import cifar_noisy

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel with the backend that is installed here, so that no index is asked."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT],
        check=True, capture_output=True,
    )  # fmt: skip
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_lists_the_artifacts_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "empty"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--no-deps", "--no-index", wheel],
        check=True, capture_output=True,
    )  # fmt: skip
    # Its libraries are those of this environment; an editable install of it does not follow.
    libraries = next(path for path in sys.path if path.endswith("site-packages"))

    def run(*command: str | Path) -> str:
        return subprocess.run(
            command, cwd=tmp_path, check=True, capture_output=True, text=True,
            env=os.environ | {"PYTHONPATH": libraries},
        ).stdout  # fmt: skip

    assert "340 files, 141.8 MB" in run(environment / "bin" / "cifar-noisy", "list")
    program = "import cifar_noisy as c; print(c.__file__, c.load_noisy_labels(0.4, 0.2).sum())"
    file, total = run(python, "-c", program).split()
    assert Path(file).is_relative_to(environment)
    assert int(total) == cifar_noisy.load_noisy_labels(0.4, 0.2).sum()
    # Template, style and script of the report are in it too.
    np.save(tmp_path / "pyx.npy", np.eye(10, dtype=np.float32)[cifar_noisy.load_true_labels()])
    written = run(
        environment / "bin" / "cifar-noisy", "report",
        "--noise", "0.9", "--sparsity", "0", "--pyx", "pyx.npy",
    )  # fmt: skip
    assert written.startswith("report.html: ")
    assert "</html>" in (tmp_path / "report.html").read_text()


def test_every_public_name_is_there_and_documented() -> None:
    stub = ast.parse((ROOT / "cifar_noisy" / "__init__.pyi").read_text())
    names = {
        alias.asname
        for node in ast.walk(stub)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert names == set(dir(cifar_noisy)) - {"__version__"}
    for name in names:
        value = getattr(cifar_noisy, str(name))
        if callable(value):
            assert value.__doc__, name
            if not isinstance(value, type):
                assert "Examples" in value.__doc__, name
                assert "Returns" in value.__doc__ or "Yields" in value.__doc__, name


def test_import_loads_nothing_heavy() -> None:
    program = (
        "import sys, cifar_noisy\n"
        "print({'numpy', 'pandas', 'torch', 'cleanlab', 'pooch', 'requests'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert result.stdout == "set()\n"


def test_imports_point_down() -> None:
    """Hold the modules to floors: sorted by what they import, none comes round to itself."""
    imports: dict[str, set[str]] = {}
    paths = list((ROOT / "cifar_noisy").rglob("*.py"))
    for path in paths:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("cifar_noisy."):
                imports.setdefault(name, set()).add(str(node.module))
    graphlib.TopologicalSorter(imports).prepare()  # raises where there is a circle
    assert "cifar_noisy.errors" not in imports
    above = ROOT / "cifar_noisy" / "cli"
    library = [path for path in paths if above not in path.parents and path.stem != "__main__"]
    assert not any("import cifar_noisy.cli" in text or "from cifar_noisy.cli" in text
               for text in (path.read_text(encoding="utf-8") for path in library))  # fmt: skip


def test_an_upward_import_is_refused(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "cifar_noisy", tmp_path / "cifar_noisy")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "cifar_noisy" / "store" / "locks.py").open("a") as file:
        file.write("\n\ndef upward() -> None:\n    from cifar_noisy.images import packs  # noqa\n")
    result = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert "cifar_noisy.store.locks -> cifar_noisy.images.packs" in result.stdout
