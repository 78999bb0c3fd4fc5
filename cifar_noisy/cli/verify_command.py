"""The command that recomputes and compares with what was published: verify."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import cifar_noisy
from cifar_noisy.cli.app import app
from cifar_noisy.cli.options import Device, Edition, ImagesRoot, Method, Noise, Sparsity, Trust
from cifar_noisy.cli.output import (
    artifact_progress,
    format_fraction,
    is_stdout,
    print_json,
    print_table,
    say,
    spinner,
)
from cifar_noisy.cli.recompute_commands import RECOMPUTED, chosen_labels, dispatch_tasks
from cifar_noisy.errors import ExitCode, InvalidInputError
from cifar_noisy.settings import METHODS
from cifar_noisy.store.artifact_store import Store

if TYPE_CHECKING:
    from cifar_noisy.evaluation.verification import Check, Verification

_CELL_WIDTH = 5
_SYMBOLS = {"exact": "=", "explained": "~", "known": "*", "unexplained": "!", "not reachable": "?"}


@app.command(epilog="Example: cifar-noisy verify --noise 0.4 --sparsity 0.2 --json verdicts.json")
def verify(
    noise: Noise = None,
    sparsity: Sparsity = None,
    method: Method = None,
    edition: Edition = None,
    json_file: Annotated[
        str | None,
        typer.Option(
            "--json", metavar="FILE", help="Write every verdict to this file too; - is stdout."
        ),
    ] = None,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first unexplained difference.")
    ] = False,
    recomputed: Annotated[
        Path | None,
        typer.Option(help="Compare a folder of recompute with the published probabilities."),
    ] = None,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train first, into that folder or ./recomputed.")
    ] = False,
    root: ImagesRoot = None,
    trust: Trust = None,
    device: Device = "cpu",
) -> None:
    """Recompute labels, noise matrices and masks, and compare them with what was published.

    With --recomputed or --retrain, compare trained-again probabilities of one setting instead, by
    accuracy and agreement: each in a band around the published network. Exit status: 0 all as
    published, 1 something differs unexplained or is below its band, 3 nothing wrong but not
    everything could be had.
    """
    if retrain:
        _retrain(recomputed or RECOMPUTED, noise, sparsity, root, trust, device)
    if recomputed is not None or retrain:
        _compare_recomputed(recomputed or RECOMPUTED, noise, sparsity, json_file)
        return
    filters = {"noise": noise, "sparsity": sparsity, "method": method, "edition": edition}
    checks = run_checks(Store.from_environment(), filters, fail_fast=fail_fast)
    if json_file is None or not is_stdout(json_file):
        print_verdicts(checks)
        for line in checks.absent():
            say(line)
    if json_file is not None:
        print_json({"checks": [_check_json(check) for check in checks]}, json_file)
    raise typer.Exit(exit_code_of(checks, ExitCode.UNAVAILABLE))


def _retrain(
    folder: Path,
    noise: float | str | None,
    sparsity: float | None,
    root: Path | None,
    trust: str | None,
    device: str,
) -> None:
    from cifar_noisy.evaluation.retrained_agreement import published_side
    from cifar_noisy.recompute.plan_file import make_plan, probe_for
    from cifar_noisy.recompute.run_command import RunCommand
    from cifar_noisy.recompute.run_config import make_run_config

    (setting,) = chosen_labels(*_one(noise, sparsity))
    published_side(setting)  # before hours of training
    config = make_plan(
        make_run_config([setting], root=root, trust=trust, probe=probe_for(folder, device)), folder
    )
    for task, _ in dispatch_tasks(config, RunCommand(folder, root, trust, device)):
        say(f"{task.id}: done", err=True)


def _one(
    noise: float | str | None, sparsity: float | None
) -> tuple[list[float | str], list[float]]:
    return [] if noise is None else [noise], [] if sparsity is None else [sparsity]


def _compare_recomputed(
    folder: Path, noise: float | str | None, sparsity: float | None, json_file: str | None
) -> None:
    (setting,) = chosen_labels(*_one(noise, sparsity))
    if not folder.is_dir():
        raise InvalidInputError(f"{folder} is no folder: name the one of cifar-noisy recompute")
    with spinner("comparing"):
        compared = cifar_noisy.compare_recomputed(folder, setting)
    if json_file is None or not is_stdout(json_file):
        print_table(
            ("quantity", ">recomputed", ">published", ">band", "verdict"),
            (
                (
                    row.quantity,
                    format_fraction(row.recomputed),
                    format_fraction(row.published),
                    "{:.3f} to {:.3f}".format(*row.band),
                    row.verdict,
                )
                for row in compared.rows
            ),
        )
        say("\n".join(["", *compared.notes(), "", compared.verdict]))
    if json_file is not None:
        print_json(compared.as_dict(), json_file)
    raise typer.Exit(ExitCode.OK if compared.is_as_good else ExitCode.FAILURE)


def run_checks(store: Store, filters: dict[str, Any], *, fail_fast: bool = False) -> "Verification":
    """Verify the published files that match the filters, with a progress bar."""
    from cifar_noisy.evaluation.verification import (
        Verification,
        each_check,
        files_needed,
        files_to_check,
        masks_of,
    )

    wanted, checks = files_to_check(**filters), []
    with artifact_progress("reading", files_needed(masks_of(wanted))) as progress:
        for check in each_check(wanted, store, progress):
            checks.append(check)
            if fail_fast and check.verdict == "unexplained":
                break
    return Verification(checks)


def exit_code_of(checks: "Verification", if_not_reachable: ExitCode) -> ExitCode:
    """Return the exit code that the verdicts mean."""
    if "unexplained" in checks.counts:
        return ExitCode.FAILURE
    return ExitCode.OK if checks.is_as_expected else if_not_reachable


def print_verdicts(checks: "Verification") -> None:
    """Print a row per setting for the masks, then a summary and remarks on single files."""
    masks = [check for check in checks if check.artifact.kind == "train_mask"]
    if masks:
        _print_masks(masks)
        say("\n= exact   ~n differs in n, all explained   *n differs in n, one or more known")
        say("!n differs in n, some unexplained   ? not reachable")
    for line in (*checks.summary(), *checks.reasons(), *checks.remarks()):
        say(line)


def _print_masks(masks: Sequence["Check"]) -> None:
    """Print a row per setting and a column per method; a cell has the editions side by side."""
    cells = {
        (check.artifact.setting, check.artifact.method, check.artifact.edition): (
            _SYMBOLS[check.verdict] + str(len(check.differences) or "")
        )
        for check in masks
    }
    settings, used_methods, editions = (sorted(set(column)) for column in zip(*cells, strict=True))
    methods = [method for method in METHODS if method in used_methods]

    def side_by_side(texts: Sequence[str]) -> str:
        return "".join(f"{text:<{_CELL_WIDTH}}" for text in texts).rstrip()

    print_table(
        ("noise", "sparsity", *(f"{method}\n{side_by_side(editions)}" for method in methods)),
        (
            (
                f"{setting.noise:g}",
                f"{setting.sparsity:g}",
                *(
                    side_by_side([cells.get((setting, method, year), "") for year in editions])
                    for method in methods
                ),
            )
            for setting in settings
        ),
    )


def _check_json(check: "Check") -> dict[str, Any]:
    names = ("path", "kind", "noise", "sparsity", "label_sets", "model", "method", "edition")
    return {
        **{name: getattr(check.artifact, name) for name in names},
        "verdict": check.verdict,
        "detail": check.detail,
        "differences": [asdict(difference) for difference in check.differences],
    }
