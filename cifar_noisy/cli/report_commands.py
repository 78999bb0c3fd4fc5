"""Commands that write the paper's tables and the report of a setting: tables, report."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer

import cifar_noisy
from cifar_noisy.cli.app import app
from cifar_noisy.cli.options import (
    AsJson,
    Edition,
    Labels,
    Method,
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
from cifar_noisy.errors import ExitCode, InvalidInputError, UnavailableError
from cifar_noisy.settings import check_choice
from cifar_noisy.store.http_download import format_size


@app.command(epilog="Example: cifar-noisy tables --against print --noise 0.7")
def tables(
    format_: Annotated[
        str, typer.Option("--format", help="Format: text, markdown, latex or csv.")
    ] = "text",
    rule: Annotated[
        str | None,
        typer.Option(
            help="Test accuracy at which epoch: last (the default), or best (on the test set)."
        ),
    ] = None,
    network: Annotated[
        str, typer.Option(help="Which Co-Teaching network counts: max, first, second or mean.")
    ] = "max",
    edition: Edition = None,
    noise: Noise = None,
    sparsity: Sparsity = None,
    method: Method = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="print: show what was printed beside what the files give, each print by the "
            "edition or rule that it follows, and count the cells that agree."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make the paper's tables from the published masks and logs: label errors, test accuracy.

    Exit status: 0, or with --against print 1 if a cell differs and the reason is not known.
    """
    from cifar_noisy.evaluation.table_formats import FORMATS

    form = check_choice(format_, FORMATS, "format")
    if as_json and form != "text":
        raise InvalidInputError("leave --json or --format out: JSON is a format of its own")
    choices: dict[str, Any] = {
        "edition": edition, "network": network,
        "noise": noise, "sparsity": sparsity, "method": method,
    }  # fmt: skip
    if against is None:
        made = cifar_noisy.paper_tables(rule=cast(Any, rule or "last"), **choices)
        _print_tables(made, {"tables": [table.as_dict() for table in made]}, form, as_json)
        return
    check_choice(against, ("print",), "against")
    compared = cifar_noisy.compare_with_print(rule=cast(Any, rule), **choices)
    _print_tables(compared, compared.as_dict(), form, as_json)
    if any(cell.reason is None for cell in compared.differing):
        raise typer.Exit(ExitCode.FAILURE)


def _print_tables(made: Any, values: dict[str, Any], form: Any, as_json: bool) -> None:
    if as_json:
        print_json(values)
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
            images=images, no_images=no_images, n_shown=n_shown, progress=False, **arrays,
        )  # fmt: skip
    size, err = path.stat().st_size if path.is_file() else None, is_stdout(path)
    if as_json:
        print_json({"path": str(path), "size": size, "has_images": images is not None}, err=err)
    else:
        written = "written" if size is None else format_size(size)
        without = ", without images (the page says how to have them)" if images is None else ""
        say(f"{path}: {written}{without}", err=err)
