"""Commands on CIFAR-10's images: images, check-alignment."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

import cifar_noisy
from cifar_noisy.cli.app import app, in_cli_words
from cifar_noisy.cli.options import AsJson, Trust
from cifar_noisy.cli.output import print_json
from cifar_noisy.errors import ExitCode


@app.command(epilog="Example: cifar-noisy images --to cifar10 --layout imagefolder")
def images(
    to: Annotated[
        Path | None, typer.Option(help="Folder to write into; without it they are only packed.")
    ] = None,
    layout: Annotated[
        str,
        typer.Option(
            help="imagefolder: train/airplane/10008_airplane.png ...; torchvision: "
            "cifar-10-batches-py."
        ),
    ] = "imagefolder",
    root: Annotated[
        Path | None,
        typer.Option(
            help="Torchvision root, official archive, PNG archives or image tree to take them from."
        ),
    ] = None,
    trust: Trust = None,
    download: Annotated[
        bool, typer.Option("--download", help="Download the official archive (170 MB) if needed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Pack CIFAR-10's images in the cache, and write them as other programs read them."""
    arguments: dict[str, Any] = {"root": root, "trust": trust, "download": download}
    splits = [cifar_noisy.load_images(train=train, **arguments) for train in (True, False)]
    if to is not None:
        cifar_noisy.write_images(to, layout, root=root, trust=trust)
    n_images, paths = sum(map(len, splits)), [str(split.path) for split in splits]
    if to is not None:
        paths = [str(to)]
    if as_json:
        is_official = all(split.is_official for split in splits)
        print_json({"images": n_images, "is_official": is_official, "paths": paths})
    else:
        typer.echo(f"{n_images:,} images in {' and '.join(paths)}")


@app.command("check-alignment", epilog="Example: cifar-noisy check-alignment cifar10/train")
def check_alignment(
    context: typer.Context,
    path: Annotated[
        Path, typer.Argument(help="Image folder, torchvision root or official archive.")
    ],
    as_json: AsJson = False,
) -> None:
    """Say whether the rows of an image folder, as PyTorch reads it, are the published rows.

    Exit status: 0 they are, 1 they are not, 3 it cannot be told.
    """
    found = cifar_noisy.check_alignment(path)
    if as_json:
        print_json(asdict(found))
    else:
        typer.echo(in_cli_words(str(found), context.command, context.find_root().command))
        fingerprint = "deviation from the train set's fingerprint"
        for name, value, p_value in (
            ("R2 of the published log-probabilities", found.r2, found.r2_p_value),
            (fingerprint, found.deviation, found.deviation_p_value),
        ):
            if value is not None:
                typer.echo(f"{name}: {value:.4f} (p = {p_value:.2g})")
    exit_codes = {"aligned": ExitCode.OK, "misaligned": ExitCode.FAILURE}
    raise typer.Exit(exit_codes.get(found.verdict, ExitCode.UNAVAILABLE))
