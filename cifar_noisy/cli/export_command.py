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
from cifar_noisy.loading.label_exports import EXPORT_FORMATS
from cifar_noisy.settings import check_choice

IMAGE_FOLDERS = "imagefolder"
HUGGINGFACE = "huggingface"
"""What has images too; the others are the formats of `export_labels`."""


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
            "imagefolder (images, in a folder for each noisy label) or huggingface (Parquet with "
            "images, labels and masks).",
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
    train_masks: Annotated[
        str | None,
        typer.Option(
            "--masks",
            metavar="METHOD,...",
            help="For huggingface: methods whose masks are columns.",
        ),
    ] = None,
    images: Annotated[
        bool, typer.Option("--images/--no-images", help="For huggingface: with images, or without.")
    ] = True,
    edition: Edition = None,
    model: Model = None,
    root: ImagesRoot = None,
    trust: Trust = None,
    as_json: AsJson = False,
) -> None:
    """Write noisy labels as DivideMix, ProMix, CIFAR-N's loader, Hugging Face and others read them.

    Rows are in torchvision's order, which is that of these repositories.
    """
    check_choice(format, (*EXPORT_FORMATS, IMAGE_FOLDERS, HUGGINGFACE), "format")
    given = given_labels(noise, labels)
    words: dict[str, Any] = {"edition": edition, "model": model}
    if format == HUGGINGFACE:
        if keep is not None:
            raise InvalidInputError(
                "leave keep= out: all rows are written, train_masks= adds masks"
            )
        methods: Any = train_masks.split(",") if train_masks else ()
        train = cifar_noisy.as_hf_dataset(
            given, sparsity, order="torchvision", train_masks=methods, images=images, root=root,
            trust=trust, **words,
        )  # fmt: skip
        path, mask = cifar_noisy.export_hf_dataset(output_path(file), train), None
        written = cifar_noisy.load_noisy_labels(given, sparsity)
    else:
        if train_masks is not None or not images:
            raise InvalidInputError(f"leave train_masks= and --no-images out: {format} has neither")
        written = cifar_noisy.load_noisy_labels(given, sparsity)
        mask = _mask(keep, given, sparsity, words)
        path = _export_for(format, file, written, mask, root, trust)
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


def _mask(keep: str | None, given: Any, sparsity: float | None, words: dict[str, Any]) -> Any:
    """Return the train mask of a method; None without one."""
    for name, value in words.items():
        if keep is None and value is not None:
            raise InvalidInputError(f"leave {name}={value!r} out, or pass keep= and a method")
    method: Any = keep
    return None if keep is None else cifar_noisy.load_train_mask(method, given, sparsity, **words)


def _export_for(
    format: Any,  # noqa: A002
    file: Path,
    labels: Any,
    mask: Any,
    root: Path | None,
    trust: str | None,
) -> Path:
    if format == IMAGE_FOLDERS:
        if is_stdout(file):
            raise InvalidInputError(
                f"{file} is stdout, which takes no folder of images: name a folder"
            )
        return cifar_noisy.export_images(file, labels, keep=mask, root=root, trust=trust)
    if root is not None or trust is not None:
        raise InvalidInputError(f"leave root= and trust= out: a file for {format} has no images")
    return cifar_noisy.export_labels(output_path(file), labels, format=format, keep=mask)
