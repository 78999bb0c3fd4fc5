"""Commands that write the paper's tables and the report of a setting: tables, report."""

from pathlib import Path
from typing import Annotated, Any

import typer

import cifar_noisy
from cifar_noisy.cli.app import app
from cifar_noisy.cli.options import (
    AsJson,
    Edition,
    Labels,
    Model,
    Noise,
    Order,
    Sparsity,
    Trust,
    given_labels,
)
from cifar_noisy.cli.output import (
    is_stdout,
    output_path,
    print_json,
    say,
    spinner,
    terminal_width,
)
from cifar_noisy.errors import UnavailableError
from cifar_noisy.settings import check_choice
from cifar_noisy.store.http_download import format_size


@app.command(epilog="Example: cifar-noisy tables --format markdown --rule best")
def tables(
    format_: Annotated[
        str, typer.Option("--format", help="Format: text, markdown, latex or csv.")
    ] = "text",
    rule: Annotated[
        str, typer.Option(help="Test accuracy at which epoch: last, or best (on the test set).")
    ] = "last",
    network: Annotated[
        str, typer.Option(help="Which Co-Teaching network counts: max, first, second or mean.")
    ] = "max",
    edition: Edition = None,
    as_json: AsJson = False,
) -> None:
    """Make the paper's tables from the published masks and logs: label errors, test accuracy."""
    from cifar_noisy.evaluation.tables import FORMATS

    form = check_choice(format_, FORMATS, "format")
    choices: dict[str, Any] = {"edition": edition, "rule": rule, "network": network}
    with spinner("making the tables"):
        made = cifar_noisy.paper_tables(**choices)
    if as_json:
        print_json([table.as_dict() for table in made])
    else:
        say(cifar_noisy.format_tables(made, form, width=terminal_width()).rstrip("\n"))


@app.command(epilog="Example: cifar-noisy report --noise 0.4 --sparsity 0.2 --out report.html")
def report(
    noise: Noise = None,
    sparsity: Sparsity = None,
    labels: Labels = None,
    model: Model = None,
    pyx: Annotated[
        Path | None,
        typer.Option(
            help="An .npy file of your (50000, 10) probabilities, for the published ones."
        ),
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="An .npy file of your 50,000 bools, True = label error.")
    ] = None,
    order: Order = "imagefolder",
    root: Annotated[
        Path | None,
        typer.Option(
            "--images",
            help="Where the images are, if not in the cache; see cifar-noisy images.",
        ),
    ] = None,
    trust: Trust = None,
    n_shown: Annotated[
        int,
        typer.Option(
            "--examples", min=0, help="Suspected errors with pictures in the explorer, at most."
        ),
    ] = 3_000,
    out: Annotated[Path, typer.Option(help="The HTML file to write; - is stdout.")] = Path(
        "report.html"
    ),
    as_json: AsJson = False,
) -> None:
    """Write one self-contained HTML page: figures, tables, verdict and a label explorer."""
    from cifar_noisy.loading.npy_files import open_npy

    images, no_images = None, ""
    try:
        images = cifar_noisy.load_images(root, trust=trust)
    except UnavailableError:
        no_images = (
            "CIFAR-10’s images are not in the cache of this machine: pass --images and the folder "
            "that has them, or run cifar-noisy images --download once."
        )
    arrays: dict[str, Any] = {
        "pyx": None if pyx is None else open_npy(pyx),
        "mask": None if mask is None else open_npy(mask),
        "order": order,
    }
    with spinner("making the page"):
        path = cifar_noisy.write_report(
            output_path(out), given_labels(noise, labels), sparsity, model=model,
            images=images, no_images=no_images, n_shown=n_shown, **arrays,
        )  # fmt: skip
    size, err = path.stat().st_size if path.is_file() else None, is_stdout(path)
    if as_json:
        print_json({"path": str(path), "size": size, "has_images": images is not None}, err=err)
    else:
        written = "written" if size is None else format_size(size)
        without = ", without images (the page says how to have them)" if images is None else ""
        say(f"{path}: {written}{without}", err=err)
