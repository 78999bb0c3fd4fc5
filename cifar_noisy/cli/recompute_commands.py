"""Commands that train again: recompute and recompute plan, run, slurm, status, collect."""

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifar_noisy.cli.app import recompute_app
from cifar_noisy.cli.options import AsJson, Device, ImagesRoot, Trust
from cifar_noisy.cli.output import print_json, print_table, rate, say
from cifar_noisy.errors import InvalidInputError, UnavailableError, UnknownArtifactError
from cifar_noisy.settings import Setting
from cifar_noisy.store.artifact_store import Store

if TYPE_CHECKING:
    from cifar_noisy.evaluation.evaluate import PyxEvaluation
    from cifar_noisy.recompute.command import RunCommand
    from cifar_noisy.recompute.run_config import Request, Task
    from cifar_noisy.recompute.slurm import JobArray

Noises = Annotated[
    list[float] | None, typer.Option("--noise", help="Fraction of wrong labels; may be repeated.")
]
Sparsities = Annotated[
    list[float] | None,
    typer.Option("--sparsity", help="Fraction of zero noise rates; may be repeated."),
]
DatasetOption = Annotated[
    str, typer.Option("--dataset", help="cifar10, or digits, which need no download.")
]
PlanFolder = Annotated[
    Path, typer.Option("--folder", help="Folder of one plan; everything is written there.")
]
Seed = Annotated[int, typer.Option(help="All randomness is drawn from it.")]
Folds = Annotated[int, typer.Option("--folds", help="Number of folds of the cross-validation.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A hyperparameter; a wrong NAME lists them all. May be repeated.",
    ),
]
RecipeOption = Annotated[
    str,
    typer.Option("--recipe", help="fast, or paper: the original ResNet-50, which takes days."),
]
TrainKept = Annotated[
    str | None,
    typer.Option(
        metavar="METHOD,...", help="Then train on what these (argmax, cl_pbc, ...) keep, and test."
    ),
]
Coteaching = Annotated[
    str | None, typer.Option(metavar="METHOD,...", help="Train on these with Co-Teaching too.")
]
DType = Annotated[str, typer.Option(help="Type of the probabilities: float16 or float32.")]
Threads = Annotated[
    int | None,
    typer.Option(min=1, max=4096, help="CPU threads, by default torch's; bits depend on them."),
]
OtherHardware = Annotated[
    bool,
    typer.Option(
        "--allow-other-hardware",
        help="Continue what was begun on another device, CPU, number of threads or version.",
    ),
]
PlannedRoot = Annotated[
    Path | None,
    typer.Option("--root", help="Where CIFAR-10's images are, if no longer where planned."),
]
SlurmOption = Annotated[str | None, typer.Option(help="Passed to sbatch as it is.")]
RECOMPUTED = Path("recomputed")


@recompute_app.callback(
    epilog="Example: cifar-noisy recompute --dataset digits --noise 0.4 --sparsity 0.2"
)
def recompute(
    context: typer.Context,
    noise: Noises = None,
    sparsity: Sparsities = None,
    dataset: DatasetOption = "cifar10",
    folder: PlanFolder = RECOMPUTED,
    root: ImagesRoot = None,
    trust: Trust = None,
    seed: Seed = 0,
    folds: Folds = 4,
    recipe: RecipeOption = "fast",
    overrides: Overrides = None,
    train_kept: TrainKept = None,
    coteaching: Coteaching = None,
    dtype: DType = "float16",
    device: Device = "cpu",
    threads: Threads = None,
    allow_other_hardware: OtherHardware = False,
    as_json: AsJson = False,
) -> None:
    """Make probabilities and masks from images: plan, run and collect in one go, or by itself.

    Whatever interrupts it, the same command continues.
    """
    from cifar_noisy.recompute.command import RunCommand
    from cifar_noisy.recompute.plan import make_plan

    if context.invoked_subcommand is not None:
        _refuse_options_before(context)
        return
    request, _ = make_plan(
        chosen_settings(noise, sparsity), folder, dataset=dataset, root=root, trust=trust,
        seed=seed, n_folds=folds, recipe=recipe, overrides=_hyperparameters(overrides),
        dtype=dtype, device=device,
        kept_methods=_names(train_kept), coteaching_methods=_names(coteaching),
    )  # fmt: skip
    command = RunCommand(folder, root, trust, device, threads, allow_other_hardware)
    run_and_report(request, command, as_json=as_json)


@recompute_app.command(
    "plan",
    epilog="Example: cifar-noisy recompute plan --dataset digits --noise 0.4 --sparsity 0.2",
)
def recompute_plan(
    noise: Noises = None,
    sparsity: Sparsities = None,
    dataset: DatasetOption = "cifar10",
    folder: PlanFolder = RECOMPUTED,
    root: ImagesRoot = None,
    trust: Trust = None,
    seed: Seed = 0,
    folds: Folds = 4,
    recipe: RecipeOption = "fast",
    overrides: Overrides = None,
    train_kept: TrainKept = None,
    coteaching: Coteaching = None,
    dtype: DType = "float16",
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Write a plan into a folder and list its tasks; nothing is trained."""
    from cifar_noisy.recompute.plan import make_plan

    request, _ = make_plan(
        chosen_settings(noise, sparsity), folder, dataset=dataset, root=root, trust=trust,
        seed=seed, n_folds=folds, recipe=recipe, overrides=_hyperparameters(overrides),
        dtype=dtype, device=device,
        kept_methods=_names(train_kept), coteaching_methods=_names(coteaching),
    )  # fmt: skip
    _print_tasks(request, folder, as_json)


@recompute_app.command("run", epilog="Example: cifar-noisy recompute run --tasks 0-3 --threads 2")
def recompute_run(
    folder: PlanFolder = RECOMPUTED,
    task: Annotated[list[str] | None, typer.Option(help="Id of a task; may be repeated.")] = None,
    tasks: Annotated[
        str | None, typer.Option(metavar="A-B", help="Number of a task, or first and last.")
    ] = None,
    root: PlannedRoot = None,
    trust: Trust = None,
    device: Device = "cpu",
    devices: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Devices to use at once, such as cuda:0,cuda:1."),
    ] = None,
    jobs_per_device: Annotated[
        int, typer.Option(min=1, help="Tasks at a time on each device.")
    ] = 1,
    threads: Threads = None,
    allow_other_hardware: OtherHardware = False,
    as_json: AsJson = False,
) -> None:
    """Run the tasks of a plan, all or those chosen; done ones are left, begun ones continue.

    With several devices, or several jobs on one, each task gets a process of its own, and the
    threads of the CPU are shared out among them. Ctrl-C, SIGTERM and SIGUSR1 make it save and end
    with status 75.
    """
    from cifar_noisy.recompute.command import RunCommand
    from cifar_noisy.recompute.plan import load_plan

    if devices is not None and device != "cpu":
        raise InvalidInputError("--device and --devices are both given: pass one of them")
    request = load_plan(folder)
    chosen = _chosen(request, task, tasks)
    slots = (devices or device).split(",") * jobs_per_device
    command = RunCommand(folder, root, trust, device, threads, allow_other_hardware)
    run_and_report(request, command, chosen, slots, as_json)


@recompute_app.command(
    "slurm",
    epilog="Example: cifar-noisy recompute slurm --partition gpu --gres gpu:1 --time 4:00:00",
)
def recompute_slurm(
    folder: PlanFolder = RECOMPUTED,
    partition: SlurmOption = None,
    gres: SlurmOption = None,
    time: SlurmOption = None,
    cpus_per_task: Annotated[int, typer.Option(min=1, help="CPUs of each task.")] = 1,
    mem: SlurmOption = None,
    account: SlurmOption = None,
    array_limit: Annotated[
        int | None, typer.Option(help="The most tasks of an array; by default the site's.")
    ] = None,
    max_parallel: Annotated[
        int | None, typer.Option(min=1, help="The most tasks of an array at a time.")
    ] = None,
    setup: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LINE",
            help="Line of bash to run first, such as 'module load cuda'; may be repeated.",
        ),
    ] = None,
    root: PlannedRoot = None,
    trust: Trust = None,
    device: Annotated[
        str | None,
        typer.Option(help="Device: cpu or cuda; by default cuda where --gres has a gpu."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; by default as --cpus-per-task.")
    ] = None,
    allow_other_hardware: OtherHardware = False,
    submit: Annotated[bool, typer.Option("--submit", help="Submit them too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the tasks that are not done as Slurm job arrays, and with --submit submit them.

    Each task saves and goes back into the queue when its time is up. Compute nodes need no network,
    but the folder, the cache and this Python where they are here.
    """
    from cifar_noisy.recompute import slurm
    from cifar_noisy.recompute.command import RunCommand
    from cifar_noisy.recompute.layout import state_of
    from cifar_noisy.recompute.plan import load_plan
    from cifar_noisy.recompute.recipes import check_device_name
    from cifar_noisy.recompute.run_config import tasks_of

    check_device_name(device or "cpu")
    request = load_plan(folder)
    tasks = tasks_of(request)
    done = {task.id for task in tasks if state_of(task, request, folder) == "done"}
    limit = slurm.site_array_limit() if array_limit is None else array_limit
    arrays = slurm.job_arrays(tasks, done, limit)
    resources = slurm.Resources(
        cpus_per_task, partition, gres, time, mem, account, max_parallel, tuple(setup or ())
    )
    command = RunCommand(
        folder, root, trust, device or resources.device, threads or cpus_per_task,
        allow_other_hardware,
    )  # fmt: skip
    paths = slurm.write_scripts(arrays, command, resources, Store.from_environment().cache)
    jobs = slurm.submit(folder) if submit and arrays else ()
    _print_arrays(folder, arrays, paths, jobs, as_json)


@recompute_app.command("status", epilog="Example: cifar-noisy recompute status")
def recompute_status(folder: PlanFolder = RECOMPUTED, as_json: AsJson = False) -> None:
    """Say how far each task of a plan is."""
    from cifar_noisy.recompute.plan import load_plan

    _print_tasks(load_plan(folder), folder, as_json)


@recompute_app.command("collect", epilog="Example: cifar-noisy recompute collect")
def recompute_collect(
    folder: PlanFolder = RECOMPUTED,
    root: PlannedRoot = None,
    trust: Trust = None,
    as_json: AsJson = False,
) -> None:
    """Combine trained folds into pyx, masks and a record of where they came from."""
    from cifar_noisy.recompute.command import RunCommand
    from cifar_noisy.recompute.plan import load_plan
    from cifar_noisy.recompute.run_config import tasks_of

    request = load_plan(folder)
    chosen = tuple(task.id for task in tasks_of(request) if task.kind == "collect")
    run_and_report(request, RunCommand(folder, root, trust), chosen, as_json=as_json)


def _refuse_options_before(context: typer.Context) -> None:
    """Refuse options that stand before a subcommand, which would not see them."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise InvalidInputError(
                f"options of recompute {context.invoked_subcommand} stand before it: write "
                f"cifar-noisy recompute {context.invoked_subcommand}, then the options"
            )


def chosen_settings(
    noises: Sequence[float | None] | None, sparsities: Sequence[float | None] | None
) -> list[Setting]:
    """Return each noise with each sparsity; a command trains nothing that was not named."""
    settings = [
        Setting(noise, sparsity)
        for noise in noises or ()
        for sparsity in sparsities or ()
        if noise is not None and sparsity is not None
    ]
    if not settings:
        raise InvalidInputError("which setting? Pass --noise and --sparsity, such as 0.4 and 0.2")
    return settings


def _hyperparameters(overrides: Sequence[str] | None) -> dict[str, str]:
    """Return hyperparameters by name, of NAME=VALUE each."""
    for text in overrides or ():
        if "=" not in text:
            raise InvalidInputError(
                f"--set {text!r} is no pair: write NAME=VALUE, such as epochs=2"
            )
    return dict(text.split("=", 1) for text in overrides or ())


def _names(text: str | None) -> tuple[str, ...]:
    """Return what an option lists, separated by commas."""
    return tuple(text.split(",")) if text else ()


def _chosen(
    request: "Request", ids: Sequence[str] | None, numbers: str | None
) -> tuple[str, ...] | None:
    """Return the ids of tasks chosen by id and by number; None if there was no choice."""
    from cifar_noisy.recompute.run_config import tasks_of

    if ids is None and numbers is None:
        return None
    chosen = list(ids or ())
    if numbers is not None:
        everything = [task.id for task in tasks_of(request)]
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", numbers)
        ends = [int(found[1]), int(found[2] or found[1])] if found else [-1, -1]
        if not 0 <= ends[0] <= ends[1] < len(everything):
            raise InvalidInputError(
                f"--tasks {numbers} is no range of this plan's tasks, 0-{len(everything) - 1}"
            )
        chosen += everything[ends[0] : ends[1] + 1]
    return tuple(chosen)


def run_and_report(
    request: "Request",
    command: "RunCommand",
    chosen: tuple[str, ...] | None = None,
    slots: Sequence[str] = (),
    as_json: bool = False,
) -> None:
    """Run tasks of a plan, and print what they came to."""
    from cifar_noisy.recompute.layout import record_of

    records: list[dict[str, Any]] = []
    for task, before in run_tasks(request, command, chosen, slots):
        records.append({"task": task.id, "before": before})
        if not as_json:
            say(f"{task.id}: {'done before' if before == 'done' else 'done'}")
        record = record_of(task, request, command.folder)
        if task.kind == "train" or record is None:
            continue
        published = _published(request, task)
        if as_json:
            records[-1] |= record | {"published": published and published.as_dict()}
        elif task.kind == "collect":
            _print_summary(task, record["summary"], published)
        else:
            say(
                f"{task.setting}, kept by {record['method']}, {record['training']}: test accuracy "
                f"{record['test_accuracy']:.4f} ({record['train_size']:,} examples)"
            )
    if as_json:
        print_json(records)


def run_tasks(
    request: "Request",
    command: "RunCommand",
    chosen: tuple[str, ...] | None = None,
    slots: Sequence[str] = (),
) -> Iterator[tuple["Task", str]]:
    """Run tasks in this process, or, where there are several slots, in one process each."""
    from cifar_noisy.recompute import task_runner
    from cifar_noisy.recompute.datasets import open_dataset
    from cifar_noisy.recompute.parallel_runner import run_in_slots
    from cifar_noisy.recompute.progress import step_bar, task_bar
    from cifar_noisy.recompute.run_config import tasks_of

    dataset = open_dataset(
        request.dataset,
        command.root or request.root,
        trust=command.trust or request.trust,
        with_test=request.needs_test,
    )
    if len(slots) > 1:
        n_tasks = len(tasks_of(request) if chosen is None else chosen)
        yield from task_bar(run_in_slots(request, command, slots, task_ids=chosen), n_tasks)
        return
    device = slots[0] if slots else command.device
    with step_bar() as show:
        yield from task_runner.run_tasks(
            request, dataset, command.folder, task_ids=chosen, device=device,
            threads=command.threads, allow_other_hardware=command.allow_other_hardware,
            on_step=show,
        )  # fmt: skip


def _published(request: "Request", task: "Task") -> "PyxEvaluation | None":
    """Return what the published files of a collected setting are worth, where there are any."""
    from cifar_noisy.evaluation.evaluate import evaluate_pyx
    from cifar_noisy.loading.artifact_loading import published_pyx

    if task.kind != "collect" or request.dataset != "cifar10":
        return None
    try:
        pyx = published_pyx(task.setting)
    except UnknownArtifactError:
        return None
    except UnavailableError as error:
        say(f"cifar-noisy: nothing published to compare with: {error}", err=True)
        return None
    return evaluate_pyx(pyx, task.setting.noise, task.setting.sparsity)


def _print_tasks(request: "Request", folder: Path, as_json: bool) -> None:
    from cifar_noisy.recompute.layout import state_of
    from cifar_noisy.recompute.run_config import tasks_of

    rows = [
        {"number": i, "id": task.id, "state": state_of(task, request, folder), "needs": task.needs}
        for i, task in enumerate(tasks_of(request))
    ]
    if as_json:
        print_json(rows)
        return
    print_table(
        (">number", "task", "state"),
        ((str(row["number"]), str(row["id"]), str(row["state"])) for row in rows),
    )


def _print_arrays(
    folder: Path,
    arrays: Sequence["JobArray"],
    paths: Sequence[Path],
    jobs: Sequence[str],
    as_json: bool,
) -> None:
    job_of = dict(zip(paths, jobs, strict=False))  # no jobs where nothing was submitted
    if as_json:
        print_json(
            [
                {"script": str(path), "tasks": array.task_ids, "job": job_of.get(path)}
                for array, path in zip(arrays, paths, strict=True)
            ]
        )
        return
    if not arrays:
        typer.echo("all tasks are done: nothing to submit")
        return
    print_table(
        ("script", ">tasks", "job"),
        (
            (str(path), str(len(array.task_ids)), job_of.get(path, "not submitted"))
            for array, path in zip(arrays, paths, strict=True)
        ),
    )
    if not jobs:
        script = shlex.quote(str(folder / "slurm" / "submit.sh"))
        typer.echo(f"submit them with --submit, or by: bash {script}")


def _print_summary(
    task: "Task", summary: dict[str, Any], published: "PyxEvaluation | None"
) -> None:
    """Print what probabilities and masks are worth, and beside it what the published ones are."""
    given = f"the noise allows {summary['given_bound']:.3f}"
    true = ""
    if published is not None:
        given = f"published {published.against_given.accuracy:.3f}, {given}"
        true = f" (published {published.against_true.accuracy:.3f})"
    say(
        f"{task.setting}: accuracy against given labels {summary['given_accuracy']:.3f} ({given}), "
        f"against true labels {summary['true_accuracy']:.3f}{true}"
    )
    names = ("precision", "recall", "F1")
    theirs = {found.name: found.row() for found in published.published} if published else {}
    print_table(
        ("method", *(f">{name}" for name in names),
         *(f">published {name}" for name in names if theirs)),
        (
            (method, *(rate(row[name.lower()]) for row in rows for name in names))
            for method, score in summary["scores"].items()
            for rows in ([score, theirs[method]] if theirs else [score],)
        ),
    )  # fmt: skip
