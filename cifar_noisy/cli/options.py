"""Options that several commands take."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifar_noisy.errors import InvalidInputError

if TYPE_CHECKING:
    from cifar_noisy.loading.label_files import LabelFile


def parse_noise(text: str) -> float | str:
    """Return a fraction of wrong labels as a number, and the name of a label set as it is."""
    try:
        return float(text)
    except ValueError:
        return text


NOISE_HELP = "Fraction of wrong labels, 0, 0.2, 0.4, 0.7 or 0.9; or the name of a label set."
Noise = Annotated[Any, typer.Option(parser=parse_noise, metavar="NOISE", help=NOISE_HELP)]
Labels = Annotated[
    Path | None,
    typer.Option(help="A file of 50,000 given labels of your own, instead of --noise."),
]
Model = Annotated[
    str | None,
    typer.Option(help="Network of a label set's probabilities, such as resnet18."),
]
Sparsity = Annotated[
    float | None,
    typer.Option(help="Fraction of zero off-diagonal noise rates: 0, 0.2, 0.4 or 0.6."),
]
Method = Annotated[
    str | None, typer.Option(help="Method: argmax, conf_joint_only, cl_pbc, cl_pbnr or cl_both.")
]
Edition = Annotated[str | None, typer.Option(help="Edition of the masks: 2019 or 2021.")]
Kind = Annotated[
    str | None,
    typer.Option(
        help="Kind: pyx, train_mask, noisy_labels, noise_matrix, training_log, or test_labels or "
        "images (which no other choice includes)."
    ),
]
Trainer = Annotated[
    str | None, typer.Option(help="Trainer on kept examples: resnet50 or coteaching.")
]
Order = Annotated[str, typer.Option(help="Order of the rows: imagefolder or torchvision.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
ImagesRoot = Annotated[
    Path | None, typer.Option("--root", help="Where CIFAR-10's images are; by default the cache.")
]
Trust = Annotated[
    str | None, typer.Option(help="pixels: admit a re-encoded copy, whose checksums do not hold.")
]
Device = Annotated[str, typer.Option(help="Device: cpu, cuda or cuda:1.")]

Threads = Annotated[
    int | None,
    typer.Option(min=1, max=4096, help="CPU threads, by default torch's; bits depend on them."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A hyperparameter; a wrong NAME lists them all. May be repeated.",
    ),
]


def parse_overrides(texts: list[str] | None) -> dict[str, str]:
    """Return hyperparameters by name."""
    for text in texts or ():
        if "=" not in text:
            raise InvalidInputError(
                f"--set {text!r} is no pair: write NAME=VALUE, such as epochs=2"
            )
    return dict(text.split("=", 1) for text in texts or ())


def given_labels(noise: float | str | None, labels: Path | None) -> Any:
    """Return what --noise or --labels name; one of them is needed."""
    if (noise is None) == (labels is None):
        raise InvalidInputError("name the given labels: pass --noise or --labels, one of them")
    return noise if labels is None else labels_in(labels)


def labels_in(file: Path) -> "LabelFile":
    """Return the labels of a file; what only arguments in Python can settle is said so."""
    from cifar_noisy.loading.label_files import read_labels

    try:
        return read_labels(file)
    except InvalidInputError as error:
        in_python = r"call read_labels(\1=\2) and export_labels in Python"
        message = re.sub(r"\bpass (order|key)=('\w+')?", in_python, str(error))
        raise type(error)(message) from error
