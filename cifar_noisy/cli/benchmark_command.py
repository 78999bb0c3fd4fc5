"""The command that compares a label-error detector with baselines in many cases: benchmark."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import cifar_noisy
from cifar_noisy.cli.app import app
from cifar_noisy.cli.options import (
    AsJson,
    Device,
    ImagesRoot,
    Model,
    Overrides,
    Threads,
    Trust,
    parse_overrides,
)
from cifar_noisy.cli.output import is_stdout, print_json, print_table, say, stdout_on_stderr
from cifar_noisy.errors import ExitCode, InvalidInputError
from cifar_noisy.store.files import output_file, storage_errors

if TYPE_CHECKING:
    from cifar_noisy.benchmarking.benchmark import Benchmark


TRAINING_DEFAULTS = (False, "cpu", None, 0, None)


@app.command(epilog="Example: cifar-noisy benchmark my_module:detector --over noise0.4-sparsity0.2")
def benchmark(
    detector: Annotated[
        str,
        typer.Argument(
            help="module:function, a function of (labels, pyx), with --images of (images, labels), "
            "that returns 50,000 bool (True = label error) or float scores (higher = more likely "
            "wrong); or a folder that has such an array for each case, such as "
            "noise0.4-sparsity0.2.npy."
        ),
    ],
    over: Annotated[
        str,
        typer.Option(
            help="The cases: paper, human, all, or names of label sets and cases with commas "
            "between them, such as noise0.2-sparsity0,cifar10n-worst-resnet18."
        ),
    ] = "paper",
    model: Model = None,
    baselines: Annotated[
        str,
        typer.Option(
            help="Baselines: default (the paper's methods and two scores), all (also cleanlab's, "
            "where that is installed), none, or names with commas between them."
        ),
    ] = "default",
    n_jobs: Annotated[
        int, typer.Option("--jobs", help="Processes, each of which takes a case at a time.")
    ] = 1,
    with_images: Annotated[
        bool, typer.Option("--images", help="The detector takes (images, labels), to train.")
    ] = False,
    train: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Train on what each method keeps, in this folder, and test."
        ),
    ] = None,
    plan_only: Annotated[
        bool,
        typer.Option(
            "--plan-only", help="Only plan what --train is to train, for recompute run or slurm."
        ),
    ] = False,
    root: ImagesRoot = None,
    trust: Trust = None,
    device: Device = "cpu",
    threads: Threads = None,
    seed: Annotated[int, typer.Option(help="The randomness of --train is drawn from it.")] = 0,
    overrides: Overrides = None,
    as_json: AsJson = False,
    csv: Annotated[
        str | None,
        typer.Option(help="Write a row per case and method to a file; - is stdout."),
    ] = None,
) -> None:
    """Compare a label-error detector with baselines, over noises, label sets and networks.

    Exit status: 0 compared, 1 the detector failed in a case, 3 files of a case could not be had.
    """
    if as_json and csv is not None:
        raise InvalidInputError("leave --json or --csv out: each has all results")
    options: dict[str, Any] = {"model": model, "n_jobs": n_jobs}
    if not (with_images or train) and (root, trust) != (None, None):
        raise InvalidInputError("--root and --trust go with --images or --train: leave them out")
    if train is None and (plan_only, device, threads, seed, overrides) != TRAINING_DEFAULTS:
        raise InvalidInputError(
            "--plan-only, --device, --threads, --seed and --set go with --train: leave them out"
        )
    if with_images:
        options["images"] = cifar_noisy.load_images(root, trust=trust)
    if train is not None:
        options["train"] = cifar_noisy.Training(
            train, root, trust, device, threads, seed, parse_overrides(overrides), plan_only
        )
    with stdout_on_stderr():
        found = _detector(detector)

    @stdout_on_stderr()  # what the detector prints is no result
    def run() -> "Benchmark":
        return cifar_noisy.benchmark(found, over.split(","), baselines.split(","), **options)

    if csv is None or is_stdout(csv):
        result = run()
    else:  # before work of minutes, it is known that the file can be written
        with storage_errors(csv, "name another"), output_file(Path(csv)) as out:
            result = run()
            out.write(_csv(result).encode())
    if as_json:
        print_json(result.as_dict())
    elif csv is not None and is_stdout(csv):
        typer.echo(_csv(result), nl=False)
    else:
        _print_benchmark(result)
    if result.errors:
        raise typer.Exit(ExitCode.FAILURE)
    if result.unreachable:
        raise typer.Exit(ExitCode.UNAVAILABLE)


def _detector(text: str) -> Any:
    if Path(text).is_dir():
        return text
    from cifar_noisy.benchmarking.detectors import ImportedFunction

    sys.path.insert(0, str(Path.cwd()))  # as python -m has it; also that of other processes
    return ImportedFunction.of(text)


def _csv(result: "Benchmark") -> str:
    if result.training is None:
        return result.frame.to_csv(index=False)
    keys = ["case", "method"]
    training = result.training.rename(columns={"error": "training_error"}).set_index(keys)
    frame = result.frame.set_index(keys)
    rows = dict.fromkeys([*frame.index, *training.index])  # yours first; an outer join would sort
    return frame.join(training, how="outer").loc[list(rows)].to_csv()


def _print_benchmark(result: "Benchmark") -> None:
    if result.cases:
        print_table(*result.table())
    head, rows = result.training_table()
    if rows:
        typer.echo()
        print_table(head, rows)
    for note in result.notes():
        say(note)
