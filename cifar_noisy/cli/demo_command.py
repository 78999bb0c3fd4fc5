"""The command that shows everything without a network: demo."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cifar_noisy.cli.app import app
from cifar_noisy.cli.output import say
from cifar_noisy.cli.recompute_commands import run_and_report
from cifar_noisy.cli.verify_command import exit_code_of, print_verdicts, run_checks
from cifar_noisy.errors import ExitCode, MissingExtraError
from cifar_noisy.settings import Setting
from cifar_noisy.store.artifact_store import Store


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
    from cifar_noisy.recompute.datasets import open_dataset
    from cifar_noisy.recompute.plan_file import make_plan
    from cifar_noisy.recompute.run_command import RunCommand
    from cifar_noisy.recompute.run_config import make_run_config
    from cifar_noisy.report.retrained_page import write_retrained_report

    with tempfile.TemporaryDirectory() as folder:
        # Tensors are so small that a second thread gains nothing, and loses much on busy cores.
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
    checks = run_checks(replace(Store.from_environment(), is_offline=True), {})
    print_verdicts(checks)
    if any(check.verdict == "not reachable" for check in checks):
        say(
            "The demo opens no socket, so masks whose files are not on this machine were not "
            "checked.\nWith a network, cifar-noisy verify fetches (16 MB) and checks them."
        )
    raise typer.Exit(exit_code_of(checks, ExitCode.OK))
