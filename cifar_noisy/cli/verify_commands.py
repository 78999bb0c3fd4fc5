"""Commands that recompute and compare: verify, demo."""

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import cifar_noisy
from cifar_noisy.cli.app import NOT_REACHABLE, OK, WRONG, app
from cifar_noisy.cli.options import Device, Edition, ImagesRoot, Method, Noise, Sparsity, Trust
from cifar_noisy.cli.output import busy, byte_progress, print_json, print_table, rate, say
from cifar_noisy.cli.recompute_commands import (
    RECOMPUTED,
    chosen_settings,
    dispatch_tasks,
    run_and_report,
)
from cifar_noisy.errors import InvalidInputError, MissingExtraError
from cifar_noisy.settings import METHODS, Setting
from cifar_noisy.store.artifact_store import Store
from cifar_noisy.store.registry import artifacts

if TYPE_CHECKING:
    from cifar_noisy.evaluation.verification import Check

_EXAMPLES_SHOWN = 20
_CELL_WIDTH = 5
_VERDICTS = ("exact", "explained", "known", "unexplained", "not reachable")


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
    accuracy and agreement. Exit status: 0 all as expected, 1 something differs unexplained or is
    worse than expected, 3 nothing wrong but not everything could be had.
    """
    if recomputed is not None or retrain:
        from cifar_noisy.recompute.command import RunCommand

        command = RunCommand(recomputed or RECOMPUTED, root, trust, device)
        if retrain:
            from cifar_noisy.recompute.plan import make_plan
            from cifar_noisy.recompute.run_config import make_run_config

            settings = chosen_settings([noise], [sparsity])
            config = make_run_config(settings, root=root, trust=trust, device=device)
            for task, _ in dispatch_tasks(make_plan(config, command.folder), command):
                say(f"{task.id}: done", err=True)
        _compare_recomputed(command.folder, noise, sparsity, json_file)
        return
    filters: dict[str, Any] = {
        "noise": noise, "sparsity": sparsity, "method": method, "edition": edition
    }  # fmt: skip
    checks = _verify(Store.from_environment(), filters, fail_fast)
    if json_file != "-":
        _print_verdicts(checks)
        absent = [check for check in checks if check.verdict == "not reachable"]
        if absent:
            say(f"not reachable: {len(absent)} masks; the first since {absent[0].detail}")
    if json_file is not None:
        print_json([_check_json(check) for check in checks], json_file)
    raise typer.Exit(_status(checks, NOT_REACHABLE))


@app.command(epilog="Example: cifar-noisy demo")
def demo(
    out: Annotated[Path, typer.Option(help="The HTML file to write, a page to look at.")] = Path(
        "demo_report.html"
    ),
) -> None:
    """Run the whole chain on scikit-learn's digits, then verify what needs no network.

    The chain: noise 0.4, sparsity 0.2 -> noisy labels -> four folds -> probabilities -> five masks
    -> their scores against the true errors -> a page. Verified are labels, noise matrices, and
    masks whose files are here.
    """
    from cifar_noisy.recompute.command import RunCommand
    from cifar_noisy.recompute.datasets import open_dataset
    from cifar_noisy.recompute.plan import make_plan
    from cifar_noisy.recompute.run_config import make_run_config
    from cifar_noisy.report.retrained import write_retrained_report

    with tempfile.TemporaryDirectory() as folder:
        # Such small tensors gain nothing from a second thread, and lose much where cores are busy.
        command = RunCommand(Path(folder), threads=1)
        setting = Setting(0.4, 0.2)
        config = make_plan(make_run_config([setting], dataset="digits"), command.folder)
        say("The chain on scikit-learn's 1,797 digits, as recompute runs it on CIFAR-10:")
        run_and_report(config, command)
        try:
            write_retrained_report(out, open_dataset("digits"), command.folder, setting)
            say(f"a page to look at: {out.absolute()}\n")
        except MissingExtraError as error:
            say(f"no page: {error}", err=True)
    store = replace(Store.from_environment(), is_offline=True)
    checks = _verify(store, {}, fail_fast=False)
    _print_verdicts(checks)
    if any(check.verdict == "not reachable" for check in checks):
        say(
            "The demo opens no socket, so masks whose files are not on this machine were not "
            "checked.\nWith a network, cifar-noisy verify fetches (16 MB) and checks them."
        )
    raise typer.Exit(_status(checks, OK))


def _compare_recomputed(
    folder: Path, noise: float | None, sparsity: float | None, json_file: str | None
) -> None:
    from cifar_noisy.evaluation.agreement import WORSE

    if noise is None or sparsity is None:
        raise InvalidInputError("which setting? Pass --noise and --sparsity, such as 0.4 and 0.2")
    if not folder.is_dir():
        raise InvalidInputError(f"{folder} is no folder: name the one of cifar-noisy recompute")
    with busy("comparing"):
        rows = cifar_noisy.compare_recomputed(folder, noise, sparsity)
    if json_file != "-":
        print_table(
            ("quantity", ">recomputed", ">published", ">expected", "verdict"),
            (
                (
                    row.quantity,
                    rate(row.recomputed),
                    rate(row.published),
                    "{:.3f} to {:.3f}".format(*row.expected),
                    row.verdict,
                )
                for row in rows
            ),
        )
    if json_file is not None:
        print_json([{**asdict(row), "verdict": row.verdict} for row in rows], json_file)
    raise typer.Exit(WRONG if any(row.verdict == WORSE for row in rows) else OK)


def _verify(store: Store, filters: dict[str, Any], fail_fast: bool) -> list["Check"]:
    from cifar_noisy.evaluation.verification import files_needed

    masks = [a for a in artifacts(**filters) if a.kind == "train_mask"]
    checks = []
    with byte_progress("reading", files_needed(masks)) as progress:
        for check in cifar_noisy.verify(**filters, store=store, progress=progress):
            checks.append(check)
            if fail_fast and check.verdict == "unexplained":
                break
    return checks


def _status(checks: Sequence["Check"], if_not_reachable: int) -> int:
    verdicts = {check.verdict for check in checks}
    if "unexplained" in verdicts:
        return WRONG
    return if_not_reachable if "not reachable" in verdicts else OK


def _print_verdicts(checks: Sequence["Check"]) -> None:
    """Print a row per setting for the masks, then what the cells leave unsaid."""
    masks = [check for check in checks if check.artifact.kind == "train_mask"]
    cells = {
        (check.artifact.setting, check.artifact.method, check.artifact.edition): _cell(check)
        for check in masks
    }
    editions = sorted({check.artifact.edition for check in masks if check.artifact.edition})
    methods = [method for method in METHODS if any(method == key[1] for key in cells)]
    if masks:
        years = _in_line(editions)
        print_table(
            ("noise", "sparsity", *(f"{method}\n{years}" for method in methods)),
            (
                (
                    f"{setting.noise:g}",
                    f"{setting.sparsity:g}",
                    *(
                        _in_line([cells.get((setting, method, year), "") for year in editions])
                        for method in methods
                    ),
                )
                for setting in sorted({check.artifact.setting for check in masks})
            ),
        )
        say("\n= exact   ~n differs in n, all explained   *n differs in n, one or more known")
        say("!n differs in n, some unexplained   ? not reachable")
    for line in (*_summary(checks), *_remarks(checks)):
        say(line)


def _in_line(cells: Sequence[str]) -> str:
    """Set the cells of a method's editions in line."""
    return "".join(f"{cell:<{_CELL_WIDTH}}" for cell in cells).rstrip()


def _cell(check: "Check") -> str:
    symbol = {"exact": "=", "explained": "~", "known": "*", "unexplained": "!"}
    return symbol.get(check.verdict, "?") + (str(len(check.differences) or ""))


def _summary(checks: Sequence["Check"]) -> Iterator[str]:
    """Yield, per kind and edition, how many files came out how."""
    groups: dict[str, Counter[str]] = {}
    for check in checks:
        edition = check.artifact.edition
        name = check.artifact.kind.replace("_", " ") + (f" {edition}" if edition else "")
        groups.setdefault(name, Counter())[check.verdict] += 1
    for name, verdicts in groups.items():
        counts = ", ".join(f"{verdicts[v]} {v}" for v in _VERDICTS if verdicts[v])
        yield f"{name}: {verdicts['exact']}/{verdicts.total()} exact ({counts})"
    explained = [d.explanation for check in checks for d in check.differences if d.explanation]
    if explained:
        from cifar_noisy.confident_learning.float16_bounds import REASONS

        for reason, count in Counter(explanation.reason for explanation in explained).items():
            ranks = [e.ranks_from_cut for e in explained if e.ranks_from_cut is not None]
            distance = f", 0 to {max(ranks)} ranks away" if reason == "cut" else ""
            yield f"{count} differing bits explained: {REASONS[reason]}{distance}"


def _remarks(checks: Sequence["Check"]) -> Iterator[str]:
    """Yield a line for each known anomaly and each unexplained file."""
    for check in checks:
        for difference in check.differences:
            if difference.known:
                yield f"known: {check.artifact}, example {difference.index}: {difference.known}"
        unexplained = [d.index for d in check.differences if d.is_unexplained]
        if check.verdict == "unexplained":
            examples = ", ".join(map(str, unexplained[:_EXAMPLES_SHOWN]))
            more = ", …" if len(unexplained) > _EXAMPLES_SHOWN else ""
            yield (
                f"unexplained: {check.artifact}: "
                + (f"{len(unexplained)} examples: {examples}{more}" if examples else check.detail)
            )


def _check_json(check: "Check") -> dict[str, Any]:
    return {
        "path": check.artifact.path,
        "kind": check.artifact.kind,
        "noise": check.artifact.setting.noise,
        "sparsity": check.artifact.setting.sparsity,
        "method": check.artifact.method,
        "edition": check.artifact.edition,
        "verdict": check.verdict,
        "detail": check.detail,
        "differences": [asdict(difference) for difference in check.differences],
    }
