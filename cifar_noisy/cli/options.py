"""Options that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

Noise = Annotated[
    float | None, typer.Option(help="Fraction of wrong labels: 0, 0.2, 0.4, 0.7 or 0.9.")
]
RequiredNoise = Annotated[
    float, typer.Option(help="Fraction of wrong labels: 0, 0.2, 0.4, 0.7, 0.9.")
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
        help="Kind: pyx, train_mask, noisy_labels, noise_matrix, training_log, or images (which no "
        "other choice includes)."
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
