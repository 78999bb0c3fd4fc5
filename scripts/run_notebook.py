"""Run a notebook with this interpreter, and store its outputs or compare them with those stored.

    python scripts/run_notebook.py docs/tour.ipynb            # store
    python scripts/run_notebook.py --check docs/tour.ipynb    # compare; status 1 if texts differ

The kernel is this interpreter, whatever kernels are installed, in an empty folder and with settings
of its own. What the notebook reads comes from CIFAR_NOISY_MIRRORS. Pictures are stored, but not
compared.
"""

import argparse
import difflib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

_PICTURE = "image/png"


def execute(notebook: Any) -> None:
    """Run the cells in order, and put their outputs into the notebook."""
    with tempfile.TemporaryDirectory() as folder:
        kernels = Path(folder, "kernels")
        (kernels / "this").mkdir(parents=True)
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec = {"argv": command, "display_name": "Python 3", "language": "python"}
        (kernels / "this" / "kernel.json").write_text(json.dumps(spec))
        environment = os.environ | {
            "IPYTHONDIR": f"{folder}/ipython",
            "JUPYTER_CONFIG_DIR": f"{folder}/jupyter",
            "MPLCONFIGDIR": f"{folder}/matplotlib",
            "TQDM_DISABLE": "1",  # what a bar leaves in an output depends on the time it took
        }
        specs = KernelSpecManager(kernel_dirs=[str(kernels)], ensure_native_kernel=False)
        # By files in the folder, so that neither a port nor a network is needed.
        manager = AsyncKernelManager(
            kernel_name="this", kernel_spec_manager=specs, transport="ipc", ip=f"{folder}/socket"
        )
        working = Path(folder, "working")
        working.mkdir()
        resources = {"metadata": {"path": str(working)}}
        client = NotebookClient(notebook, km=manager, timeout=600, resources=resources)
        client.execute(env=environment)


def clean(notebook: Any) -> None:
    """Remove what is different in each run, or says on which machine it was."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    for cell in notebook.cells:
        cell.metadata = {}
        for output in cell.get("outputs", ()):
            output.pop("transient", None)
            if "metadata" in output:
                output.metadata = {}


def texts(notebook: Any) -> list[str]:
    """Return the lines of inputs and outputs; of pictures and data frames' HTML only the kind."""
    lines = []
    for cell in notebook.cells:
        lines += cell.source.splitlines()
        for output in cell.get("outputs", ()):
            lines += output.get("text", "").splitlines()
            for kind, content in sorted(output.get("data", {}).items()):
                is_other = kind == _PICTURE or 'class="dataframe"' in content  # as pandas likes it
                lines += [kind] if is_other else content.replace("><", ">\n<").splitlines()
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    arguments = parser.parse_args()
    stored = nbformat.read(arguments.file, as_version=4)  # type: ignore[no-untyped-call]
    before = texts(stored)
    execute(stored)
    clean(stored)
    if not arguments.check:
        nbformat.write(stored, arguments.file)  # type: ignore[no-untyped-call]
        return 0
    difference = list(difflib.unified_diff(before, texts(stored), "stored", "now", lineterm=""))
    print("\n".join(difference))
    if difference:
        print(f"{arguments.file}: python scripts/run_notebook.py {arguments.file} stores it anew")
    return 1 if difference else 0


if __name__ == "__main__":
    sys.exit(main())
