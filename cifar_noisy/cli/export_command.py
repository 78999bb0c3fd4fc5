"""The command that writes labels for the code of other repositories: export."""

from pathlib import Path
from typing import Annotated, Any

import typer

import cifar_noisy
from cifar_noisy.cli.app import app
from cifar_noisy.cli.options import (
    AsJson,
    Edition,
    ImagesRoot,
    Labels,
    Model,
    Noise,
    Sparsity,
    Trust,
    given_labels,
)
from cifar_noisy.cli.output import is_stdout, output_path, print_json, say
from cifar_noisy.errors import InvalidInputError

IMAGE_FOLDERS = "imagefolder"
"""The layout that has images too; the others are the formats of `export_labels`."""


@app.command(
    epilog="Example: cifar-noisy export noise.json --noise 0.4 --sparsity 0.2 --for dividemix"
)
def export(
    file: Annotated[
        Path, typer.Argument(help="The file to write, - for stdout; for imagefolder, a folder.")
    ],
    format: Annotated[  # noqa: A002, its name in errors of the library
        str,
        typer.Option(
            "--for",
            help="Who reads it: dividemix or promix (JSON list), cifar-n or sop (.pt), npy, csv, "
            "or imagefolder (the images, in a folder for each noisy label).",
        ),
    ],
    noise: Noise = None,
    sparsity: Sparsity = None,
    labels: Labels = None,
    keep: Annotated[
        str | None,
        typer.Option(
            "--clean",
            help="Only images that a method keeps, for csv and imagefolder: argmax, "
            "conf_joint_only, cl_pbc, cl_pbnr or cl_both.",
        ),
    ] = None,
    edition: Edition = None,
    model: Model = None,
    root: ImagesRoot = None,
    trust: Trust = None,
    as_json: AsJson = False,
) -> None:
    """Write noisy labels as DivideMix, ProMix, CIFAR-N's loader, SOP and others read them.

    Rows are in torchvision's order, which is that of these repositories.
    """
    for name, value in (("edition", edition), ("model", model)):
        if keep is None and value is not None:
            raise InvalidInputError(f"leave {name}={value!r} out, or pass keep= and a method")
    if format == IMAGE_FOLDERS and is_stdout(file):
        raise InvalidInputError(f"{file} is stdout, which takes no folder of images: name a folder")
    given = given_labels(noise, labels)
    written = cifar_noisy.load_noisy_labels(given, sparsity)
    words: dict[str, Any] = {"method": keep, "edition": edition, "format": format}
    mask = None
    if keep is not None:
        mask = cifar_noisy.load_train_mask(
            words["method"], given, sparsity, edition=words["edition"], model=model
        )
    if format == IMAGE_FOLDERS:
        path = cifar_noisy.export_images(file, written, keep=mask, root=root, trust=trust)
    elif root is not None or trust is not None:
        raise InvalidInputError(f"leave root= and trust= out: a file for {format} has no images")
    else:
        path = cifar_noisy.export_labels(
            output_path(file), written, format=words["format"], keep=mask
        )
    is_wrong = (written != cifar_noisy.load_true_labels())[slice(None) if mask is None else mask]
    n_labels, n_wrong, err = len(is_wrong), int(is_wrong.sum()), is_stdout(path)
    if as_json:
        counts = {"labels": n_labels, "wrong": n_wrong}
        print_json({"path": str(path), "for": format, **counts}, err=err)
    else:
        say(
            f"{path}: {n_labels:,} labels for {format}, {n_wrong / n_labels:.2%} of them wrong",
            err=err,
        )
