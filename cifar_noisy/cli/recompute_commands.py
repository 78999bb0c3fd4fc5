"""Commands that train again: recompute and recompute plan, run, slurm, status, collect."""

import functools
import inspect
import math
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cifar_noisy.cli.app import recompute_app
from cifar_noisy.cli.options import (
    AsJson,
    Device,
    ImagesRoot,
    Overrides,
    Threads,
    Trust,
    labels_in,
    parse_noise,
    parse_overrides,
)
from cifar_noisy.cli.output import counted, format_fraction, print_json, print_table, say
from cifar_noisy.errors import InvalidInputError, UnavailableError, UnknownArtifactError
from cifar_noisy.recompute.run_command import RunCommand
from cifar_noisy.store.artifact_store import Store

if TYPE_CHECKING:
    from cifar_noisy.evaluation.evaluate import PyxEvaluation
    from cifar_noisy.loading.given_labels import LabelSource
    from cifar_noisy.recompute.run_config import RunConfig, Task

PlanFolder = Annotated[Path, typer.Option(help="Folder of one plan; everything is written there.")]
OtherHardware = Annotated[
    bool,
    typer.Option(
        "--allow-other-hardware",
        help="Continue what was begun on another device, CPU, number of threads or version.",
    ),
]
PlannedRoot = Annotated[
    Path | None, typer.Option(help="Where CIFAR-10's images are, if no longer where planned.")
]
RECOMPUTED = Path("recomputed")


@dataclass(frozen=True)
class PlanOptions:
    """The options of both recompute and recompute plan."""

    noise: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NOISE", help="Fraction of wrong labels, or a label set; may be repeated."
        ),
    ] = None
    sparsity: Annotated[
        list[float] | None, typer.Option(help="Fraction of zero noise rates; may be repeated.")
    ] = None
    labels: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A file of given labels of your own; may be repeated."),
    ] = None
    dataset: Annotated[str, typer.Option(help="cifar10, or digits, which need no download.")] = (
        "cifar10"
    )
    folder: PlanFolder = RECOMPUTED
    root: ImagesRoot = None
    trust: Trust = None
    seed: Annotated[int, typer.Option(help="All randomness is drawn from it.")] = 0
    folds: Annotated[int, typer.Option(help="Number of folds of the cross-validation.")] = 4
    recipe: Annotated[
        str, typer.Option(help="fast, or paper: the original ResNet-50, which takes days.")
    ] = "fast"
    overrides: Overrides = None
    train_kept: Annotated[
        str | None,
        typer.Option(
            metavar="METHOD,...",
            help="Then train on what these (argmax, cl_pbc, ...) keep, and test.",
        ),
    ] = None
    coteaching: Annotated[
        str | None, typer.Option(metavar="METHOD,...", help="Train on these with Co-Teaching too.")
    ] = None
    dtype: Annotated[str, typer.Option(help="Type of the probabilities: float16 or float32.")] = (
        "float16"
    )
    device: Device = "cpu"
    minutes: Annotated[
        float,
        typer.Option(
            min=0, help="Time for the folds of a setting; fast is as wide as that allows."
        ),
    ] = 30.0
    probe: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="What recompute probe measured on the machine that will train."
        ),
    ] = None

    def make_plan(self) -> "RunConfig":
        """Write the plan into the folder."""
        from cifar_noisy.recompute.datasets import open_dataset
        from cifar_noisy.recompute.plan_file import make_plan, probe_for
        from cifar_noisy.recompute.run_config import make_run_config

        if self.dataset == "digits" and (self.root, self.trust) != (None, None):
            raise InvalidInputError("leave out --root and --trust: the digits need no images")
        overrides = parse_overrides(self.overrides)
        make_config = functools.partial(
            make_run_config,
            chosen_labels(
                map(parse_noise, self.noise or ()), self.sparsity or (), self.labels or ()
            ),
            dataset=self.dataset,
            seed=self.seed,
            n_folds=self.folds,
            dtype=self.dtype,
            recipe=self.recipe,
            overrides=overrides,
            kept_methods=self.train_kept.split(",") if self.train_kept else (),
            coteaching_methods=self.coteaching.split(",") if self.coteaching else (),
            root=self.root,
            trust=self.trust,
        )
        # What is wrong with options and images is said before seconds of measuring.
        make_config()
        open_dataset(self.dataset, self.root, trust=self.trust)
        probe = probe_for(
            self.folder, self.device, dataset=self.dataset, recipe=self.recipe,
            overrides=overrides, file=self.probe,
        )  # fmt: skip
        config = make_config(probe=probe, minutes=self.minutes)
        return make_plan(config, self.folder)


def takes_plan_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command each field of its `PlanOptions` as an option, before its own options."""
    fields = inspect.signature(PlanOptions).parameters
    own = dict(inspect.signature(command).parameters)
    del own["options"]

    @functools.wraps(command)
    def with_options(**values: Any) -> None:
        options = PlanOptions(**{name: values.pop(name) for name in fields})
        command(options=options, **values)

    parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in (*fields.values(), *own.values())]
    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return with_options


@recompute_app.callback(
    epilog="Example: cifar-noisy recompute --dataset digits --noise 0.4 --sparsity 0.2"
)
@takes_plan_options
def recompute(
    options: PlanOptions,
    context: typer.Context,
    threads: Threads = None,
    allow_other_hardware: OtherHardware = False,
    as_json: AsJson = False,
) -> None:
    """Make probabilities and masks from images: plan, run and collect in one go, or by itself.

    Whatever interrupts it, the same command continues.
    """
    if context.invoked_subcommand is not None:
        _refuse_options_before(context)
        return
    command = RunCommand(
        options.folder, options.root, options.trust, options.device, threads, allow_other_hardware
    )
    run_and_report(options.make_plan(), command, as_json=as_json)


@recompute_app.command(
    "plan",
    epilog="Example: cifar-noisy recompute plan --dataset digits --noise 0.4 --sparsity 0.2",
)
@takes_plan_options
def recompute_plan(options: PlanOptions, as_json: AsJson = False) -> None:
    """Write a plan into a folder and list its tasks; nothing is trained."""
    config = options.make_plan()
    _print_tasks(config, options.folder, as_json)
    expected = expected_times(config, 0)
    if expected is not None and expected["setting_seconds"] > 60 * options.minutes:
        say(
            f"cifar-noisy: the folds will take longer than --minutes {options.minutes:g}: no width "
            "that was measured takes less; --set epochs and --set width make them shorter",
            err=True,
        )


@recompute_app.command("probe", epilog="Example: cifar-noisy recompute probe --out probe.json")
def recompute_probe(
    out: Annotated[
        Path | None, typer.Option(help="A file for recompute plan --probe on another machine.")
    ] = None,
    device: Device = "cpu",
    as_json: AsJson = False,
) -> None:
    """Time a few training steps here, for a plan that is made on another machine.

    Where a plan is made on the machine that trains, it measures by itself.
    """
    from cifar_noisy.recompute.probe import expected_fold_seconds, measure, write_probe
    from cifar_noisy.recompute.recipes import FastRecipe

    found = measure(device)
    if out is not None:
        write_probe(found, out)
    if as_json:
        print_json(found.to_dict())
        return
    say(f"{found.device}, {found.processor}, {counted(found.n_cores, 'core')}")
    rows = []
    for (precision, width), (small, full) in found.seconds.items():
        fold = expected_fold_seconds(found, FastRecipe(width=width, precision=precision), 4)
        rows.append(
            (precision, str(width), f"{1 / small:,.0f}", f"{1 / full:,.0f}", f"{fold / 60:.1f}")
        )
    print_table(
        ("precision", ">width", ">images/s, 20x20", ">images/s, 32x32", ">minutes of a fold"), rows
    )


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
        int, typer.Option(min=1, max=4096, help="Tasks at a time on each device.")
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
    if devices is not None and device != "cpu":
        raise InvalidInputError("--device and --devices are both given: pass one of them")
    config, planned = _load(folder)
    chosen = task if tasks is None else [*(task or ()), *_numbered_tasks(planned, tasks)]
    slots = (device if devices is None else devices).split(",") * jobs_per_device
    command = RunCommand(folder, root, trust, device, threads, allow_other_hardware)
    run_and_report(config, command, chosen, slots, as_json)


@recompute_app.command(
    "slurm",
    epilog="Example: cifar-noisy recompute slurm --partition gpu --gres gpu:1 --time 4:00:00",
)
def recompute_slurm(
    folder: PlanFolder = RECOMPUTED,
    partition: Annotated[str | None, typer.Option(help="Partition of the cluster.")] = None,
    gres: Annotated[
        str | None, typer.Option(help="Other resources of each training, such as gpu:1.")
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(help="Time limit, such as 4:00:00; what is not done by then is requeued."),
    ] = None,
    cpus_per_task: Annotated[int, typer.Option(min=1, help="CPUs of each task.")] = 1,
    mem: Annotated[str | None, typer.Option(help="Memory of each task, such as 8G.")] = None,
    account: Annotated[str | None, typer.Option(help="Account that is charged.")] = None,
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
    but they must see the folder, the cache and this Python at the same paths as this machine.

    --partition, --gres, --time, --cpus-per-task, --mem and --account are those of sbatch. Its other
    options can be set by its variables, such as SBATCH_QOS.
    """
    from cifar_noisy.recompute import slurm
    from cifar_noisy.recompute.recipes import check_device_name
    from cifar_noisy.recompute.task_files import state_of

    check_device_name(device or "cpu")
    config, tasks = _load(folder)
    done = {task.id for task in tasks if state_of(task, config, folder) == "done"}
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
    rows = list(zip(map(str, paths), arrays, jobs or [None] * len(arrays), strict=True))
    if as_json:
        print_json(
            {
                "arrays": [
                    {"script": path, "tasks": array.task_ids, "job": job}
                    for path, array, job in rows
                ]
            }
        )
    elif not rows:
        typer.echo("all tasks are done: nothing to submit")
    else:
        print_table(
            ("script", ">tasks", "job"),
            ((path, str(len(array.task_ids)), job or "not submitted") for path, array, job in rows),
        )
        if not jobs:
            script = shlex.quote(str(folder / "slurm" / "submit.sh"))
            typer.echo(f"submit them with --submit, or by: bash {script}")


@recompute_app.command("status", epilog="Example: cifar-noisy recompute status")
def recompute_status(folder: PlanFolder = RECOMPUTED, as_json: AsJson = False) -> None:
    """Say how far each task of a plan is."""
    config, _ = _load(folder)
    _print_tasks(config, folder, as_json)


@recompute_app.command("collect", epilog="Example: cifar-noisy recompute collect")
def recompute_collect(
    folder: PlanFolder = RECOMPUTED,
    root: PlannedRoot = None,
    trust: Trust = None,
    as_json: AsJson = False,
) -> None:
    """Combine trained folds into pyx, masks and a record of where they came from."""
    config, tasks = _load(folder)
    chosen = [task.id for task in tasks if task.kind == "collect"]
    if not chosen:
        raise InvalidInputError(
            f"{folder} has no folds to collect: train its masks with cifar-noisy recompute run"
        )
    run_and_report(config, RunCommand(folder, root, trust), chosen, as_json=as_json)


def _load(folder: Path) -> tuple["RunConfig", Sequence["Task"]]:
    """Return the plan of a folder and its tasks."""
    from cifar_noisy.recompute.plan_file import load_plan
    from cifar_noisy.recompute.run_config import tasks_of

    config = load_plan(folder)
    return config, tasks_of(config)


def _refuse_options_before(context: typer.Context) -> None:
    """Refuse options that stand before a subcommand, which would not see them."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise InvalidInputError(
                f"options of recompute {context.invoked_subcommand} stand before it: write "
                f"cifar-noisy recompute {context.invoked_subcommand}, then the options"
            )


def chosen_labels(
    noises: Iterable[float | str], sparsities: Sequence[float] = (), files: Sequence[Path] = ()
) -> list["LabelSource"]:
    """Return the given labels to train on: each noise with each sparsity, names, and files.

    A command trains nothing that was not named.
    """
    from cifar_noisy.loading.given_labels import label_source

    listed = list(noises)
    has_fraction = any(isinstance(noise, float) for noise in listed)
    if sparsities and not has_fraction and (listed or files):
        raise InvalidInputError(
            f"leave sparsity={sparsities[0]!r} out: it goes with a fraction as noise="
        )
    chosen = [
        label_source(noise, sparsity)
        for noise in listed
        for sparsity in (sparsities if isinstance(noise, float) and sparsities else (None,))
    ]
    chosen += [label_source(labels_in(file)) for file in files]
    if not chosen:
        raise InvalidInputError(
            "which labels? Pass --noise and --sparsity, such as 0.4 and 0.2, --noise and the name "
            "of a label set, or --labels"
        )
    return chosen


def _numbered_tasks(tasks: Sequence["Task"], numbers: str) -> list[str]:
    """Return the ids of the tasks with a number, or from a first to a last one."""
    ids = [task.id for task in tasks]
    found = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", numbers)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (-1, -1)
    if not 0 <= first <= last < len(ids):
        raise InvalidInputError(
            f"--tasks {numbers:.60} is no range of this plan's tasks, 0-{len(ids) - 1}"
        )
    return ids[first : last + 1]


def run_and_report(
    config: "RunConfig",
    command: RunCommand,
    chosen: Sequence[str] | None = None,
    slots: Sequence[str] = (),
    as_json: bool = False,
) -> None:
    """Run tasks of a plan, and print their results."""
    from cifar_noisy.recompute.task_files import record_of

    records: list[dict[str, Any]] = []
    for task, before in dispatch_tasks(config, command, chosen, slots):
        records.append({"task": task.id, "before": before, "record": None, "published": None})
        if not as_json:
            say(f"{task.id}: {'done before' if before == 'done' else 'done'}")
        record = record_of(task, config, command.folder)
        if task.kind == "train" or record is None:
            continue
        published = _published(config, task)
        if as_json:
            records[-1] |= {"record": record, "published": published and published.as_dict()}
        elif task.kind == "collect":
            _print_summary(task, record["summary"], published)
        else:
            say(
                f"{task.setting}, kept by {record['method']}, {record['training']}: test accuracy "
                f"{record['test_accuracy']:.4f} ({record['train_size']:,} examples)"
            )
    if as_json:
        print_json({"tasks": records})


def dispatch_tasks(
    config: "RunConfig",
    command: RunCommand,
    chosen: Sequence[str] | None = None,
    slots: Sequence[str] = (),
) -> Iterator[tuple["Task", str]]:
    """Run tasks in this process or, if there are several slots, in one process each."""
    from cifar_noisy.recompute.datasets import open_dataset
    from cifar_noisy.recompute.parallel_runner import run_tasks_in_parallel
    from cifar_noisy.recompute.progress import step_bar, task_bar
    from cifar_noisy.recompute.run_config import find_tasks
    from cifar_noisy.recompute.task_runner import run_tasks

    dataset = open_dataset(
        config.dataset,
        command.root or config.root,
        trust=command.trust or config.trust,
        load_test_set=config.needs_test,
    )
    if len(slots) > 1:
        tasks = run_tasks_in_parallel(config, command, slots, task_ids=chosen)
        yield from task_bar(tasks, len(find_tasks(config, chosen)))
        return
    with step_bar() as show:
        yield from run_tasks(
            config, dataset, command.folder, task_ids=chosen,
            device=slots[0] if slots else command.device, threads=command.threads,
            allow_other_hardware=command.allow_other_hardware, on_step=show,
        )  # fmt: skip


def _published(config: "RunConfig", task: "Task") -> "PyxEvaluation | None":
    """Evaluate the published files of a merged setting, if there are any."""
    from cifar_noisy.evaluation.evaluate import evaluate_pyx
    from cifar_noisy.loading.artifact_loading import published_pyx

    if task.kind != "collect" or config.dataset != "cifar10":
        return None
    try:
        pyx = published_pyx(task.setting)
    except UnknownArtifactError:
        return None
    except UnavailableError as error:
        say(f"cifar-noisy: nothing published to compare with: {error}", err=True)
        return None
    return evaluate_pyx(pyx, task.setting)


def _print_tasks(config: "RunConfig", folder: Path, as_json: bool) -> None:
    from cifar_noisy.recompute.run_config import tasks_of
    from cifar_noisy.recompute.task_files import state_of

    rows = [(i, task, state_of(task, config, folder)) for i, task in enumerate(tasks_of(config))]
    n_left = sum(task.kind == "train" and state != "done" for _, task, state in rows)
    expected = expected_times(config, n_left)
    if as_json:
        tasks = [
            {"number": i, "id": task.id, "state": state, "needs": task.depends_on}
            for i, task, state in rows
        ]
        print_json({"tasks": tasks, "expected": expected})
        return
    print_table((">number", "task", "state"), ((str(i), task.id, state) for i, task, state in rows))
    if expected is not None:
        minutes = {name: f"{value / 60:.1f} min" for name, value in expected.items()}
        say(
            f"width {getattr(config.recipe, 'width', '-')}, "
            f"{getattr(config.recipe, 'precision', '-')}; expected by what was measured: "
            f"{minutes['fold_seconds']} a fold, {minutes['setting_seconds']} the folds of a "
            f"setting, {minutes['left_seconds']} what is left of them, a fold on each core at a "
            f"time (--jobs-per-device {expected['at_a_time']:.0f})"
        )


def expected_times(config: "RunConfig", n_left: int) -> dict[str, float] | None:
    """Return the seconds that folds will take on the machine of the plan's probe, if it has one."""
    from cifar_noisy.recompute.probe import expected_fold_seconds
    from cifar_noisy.recompute.recipes import FastRecipe

    has_folds = bool(config.settings)
    if config.probe is None or not isinstance(config.recipe, FastRecipe) or not has_folds:
        return None
    fold = expected_fold_seconds(config.probe, config.recipe, config.n_folds)
    at_a_time = min(config.probe.n_cores, config.n_folds)
    return {
        "fold_seconds": fold,
        "setting_seconds": fold * math.ceil(config.n_folds / at_a_time),
        "left_seconds": fold * math.ceil(n_left / at_a_time),
        "at_a_time": at_a_time,
    }


def _print_summary(
    task: "Task", summary: dict[str, Any], published: "PyxEvaluation | None"
) -> None:
    """Print the scores of probabilities and masks, beside those of the published ones."""
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
            (method, *(format_fraction(row[name.lower()]) for row in rows for name in names))
            for method, score in summary["scores"].items()
            for rows in ([score, theirs[method]] if theirs else [score],)
        ),
    )  # fmt: skip
