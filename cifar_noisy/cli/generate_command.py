"""The command that generates noisy labels: generate."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer

import cifar_noisy
from cifar_noisy.cli.app import app
from cifar_noisy.cli.options import AsJson, Order
from cifar_noisy.cli.output import (
    format_fraction,
    is_stdout,
    output_path,
    print_json,
    print_table,
    say,
)
from cifar_noisy.settings import CLASSES
from cifar_noisy.store.files import output_file, storage_errors
from cifar_noisy.store.registry import npy_bytes


@app.command(
    epilog="Example: cifar-noisy generate labels.npy --model symmetric --rate 0.4 --seed 0"
)
def generate(
    file: Annotated[
        Path, typer.Argument(help="The .npy file to write, 50,000 int64; - is stdout.")
    ],
    model: Annotated[
        str,
        typer.Option(
            help="Noise model: symmetric, symmetric-exclusive, pairflip, asymmetric, "
            "elr-asymmetric or confident-learning."
        ),
    ],
    rate: Annotated[float, typer.Option(help="Noise rate as the model means it, 0 to 1.")],
    seed: Annotated[int, typer.Option(help="Seed of the draws, 0 to 2**32 - 1.")],
    order: Order = "imagefolder",
    sparsity: Annotated[
        float | None,
        typer.Option(help="Fraction of zero noise rates, of confident-learning only."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Generate noisy labels of CIFAR-10, and say how many of them came out wrong."""
    options: dict[str, Any] = {"seed": seed, "order": order, "sparsity": sparsity}
    made = cifar_noisy.generate_labels(cast(Any, model), rate, **options)
    with storage_errors(file, "name another"), output_file(output_path(file)) as out:
        out.write(npy_bytes(made.labels))
    err = is_stdout(file)
    if as_json:
        print_json({"path": str(file), "order": order} | made.as_dict(), err=err)
        return
    summary = f"{made.model}, asked {made.asked:g}, got {made.got:.4f}"
    say(f"{summary}: {file}", err=err)
    if not err:
        say()
        print_table(
            ("true class", ">wrong"),
            zip(CLASSES, map(format_fraction, made.got_by_class), strict=True),
        )
