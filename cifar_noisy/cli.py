"""The command line: parses, calls one library function, prints; nothing else.

Results go to stdout, notices and progress to stderr. Exit status: 0 all well, 1 something is wrong,
2 a request that makes no sense, 3 nothing wrong but something could not be had, 75 a run was told
to stop and saved, and the same command continues it.
"""

import json
import os
import shlex
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

import cifar_noisy
from cifar_noisy.errors import (
    CifarNoisyError,
    CifarNoisyWarning,
    InterruptedRunError,
    InvalidInputError,
    MissingExtraError,
    RecomputeError,
    StorageError,
    UnavailableError,
)
from cifar_noisy.files import write_atomically
from cifar_noisy.registry import KINDS, Artifact, artifacts, at_least_one
from cifar_noisy.settings import METHODS, SETTINGS, Setting, check_choice
from cifar_noisy.store import OFFLINE_VARIABLE, Store
from cifar_noisy.transfer import readable_size

if TYPE_CHECKING:
    from tqdm import tqdm

    from cifar_noisy.evaluation import Detection, Evaluation, PyxEvaluation, Ranking
    from cifar_noisy.recompute.plan import Request, Task
    from cifar_noisy.recompute.slurm import JobArray
    from cifar_noisy.verification import Check

OK, WRONG, USAGE, NOT_REACHABLE = 0, 1, 2, 3
INTERRUPTED = 75  # sysexits.h: try again later; a scheduler can requeue on it
_EXAMPLES_SHOWN = 20
_WIDEST_TABLE = 400

app = typer.Typer(
    name="cifar-noisy",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
cache_app = typer.Typer(
    no_args_is_help=True,
    help="Look after the cache folder.",
    epilog="Example: cifar-noisy cache ls",
)
app.add_typer(cache_app, name="cache")
recompute_app = typer.Typer(invoke_without_command=True)
app.add_typer(recompute_app, name="recompute")

Noise = Annotated[
    float | None, typer.Option(help="Fraction of wrong labels: 0, 0.2, 0.4, 0.7 or 0.9.")
]
Sparsity = Annotated[
    float | None,
    typer.Option(help="Fraction of zero off-diagonal noise rates: 0, 0.2, 0.4 or 0.6."),
]
Method = Annotated[
    str | None, typer.Option(help="argmax, conf_joint_only, cl_pbc, cl_pbnr or cl_both.")
]
Edition = Annotated[str | None, typer.Option(help="Of the train masks: 2019 or 2021.")]
Kind = Annotated[
    str | None,
    typer.Option(help="pyx, train_mask, noisy_labels, noise_matrix or training_log."),
]
Trainer = Annotated[
    str | None, typer.Option(help="Of logs on kept examples: resnet50 or coteaching.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
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
    Path, typer.Option("--folder", help="Belongs to one plan; everything is written there.")
]
ImagesRoot = Annotated[
    Path | None, typer.Option("--root", help="Where CIFAR-10's images are; by default the cache.")
]
Trust = Annotated[
    str | None, typer.Option(help="pixels: admit images whose checksums are not the official ones.")
]
Seed = Annotated[int, typer.Option(help="All randomness is drawn from it.")]
Folds = Annotated[int, typer.Option("--folds", help="Of the cross-validation.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A hyperparameter; may be repeated."),
]
RecipeOption = Annotated[
    str,
    typer.Option("--recipe", help="fast, or paper: the original ResNet-50, which takes days."),
]
TrainKept = Annotated[
    str | None,
    typer.Option(metavar="METHOD,...", help="Then train on what these methods keep, and test."),
]
Coteaching = Annotated[
    str | None, typer.Option(metavar="METHOD,...", help="The same with Co-Teaching.")
]
DType = Annotated[str, typer.Option(help="Of the probabilities: float16 or float32.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:1.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Of the CPU; bits depend on it. By default torch's.")
]
SlurmOption = Annotated[str | None, typer.Option(help="As sbatch has it.")]
RECOMPUTED = Path("recomputed")


def main() -> None:
    """Run the command line: errors of this package become one line and an exit status."""
    warnings.simplefilter("always", CifarNoisyWarning)
    warnings.showwarning = _show_notice
    try:
        app()
    except UnavailableError as error:
        _fail(error, NOT_REACHABLE)
    except InterruptedRunError as error:
        _fail(error, INTERRUPTED)
    except (StorageError, RecomputeError) as error:
        _fail(error, WRONG)
    except CifarNoisyError as error:
        _fail(error, USAGE)
    except OSError as error:
        what = error.filename or "the output"
        _fail(f"{what} cannot be read or written ({error.strerror}): name another place", WRONG)


def _fail(error: object, status: int) -> None:
    typer.echo(f"cifar-noisy: {error}", err=True)
    sys.exit(status)


def _show_notice(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    typer.echo(f"cifar-noisy: {message}", err=True)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Open no socket, as CIFAR_NOISY_OFFLINE=1 does.")
    ] = False,
) -> None:
    """Serve the CIFAR-10 artifacts of the confident-learning paper, checked, recomputable."""
    if offline:
        os.environ[OFFLINE_VARIABLE] = "1"
    if version:
        typer.echo(f"cifar-noisy {cifar_noisy.__version__}")
        raise typer.Exit(OK)


@app.command("list", epilog="Example: cifar-noisy list --kind pyx --noise 0.4")
def list_(
    kind: Kind = None,
    noise: Noise = None,
    sparsity: Sparsity = None,
    method: Method = None,
    edition: Edition = None,
    trainer: Trainer = None,
    as_json: AsJson = False,
) -> None:
    """List what was published, how large it is and whether it is on this machine."""
    store = Store.from_environment()
    found = artifacts(
        kind=kind, noise=noise, sparsity=sparsity, method=method, edition=edition, trainer=trainer
    )
    if as_json:
        _print_json([_artifact_json(artifact, store) for artifact in found])
        return
    _print_table(
        ("kind", "noise", "sparsity", "method", "edition", "trainer", ">size", "where"),
        (_artifact_row(artifact, store) for artifact in found),
    )
    size = readable_size(sum(artifact.size for artifact in found))
    n_local = sum(store.local_path(artifact) is not None for artifact in found)
    typer.echo(f"{len(found)} files, {size}; {n_local} on this machine")


@app.command(epilog="Example: cifar-noisy info 0.7 0.2")
def info(
    noise: Annotated[float, typer.Argument(help="Fraction of wrong labels.")],
    sparsity: Annotated[float, typer.Argument(help="Fraction of zero noise rates.")],
    as_json: AsJson = False,
) -> None:
    """Say what is known of one setting: its noise, upstream's name for it, its files."""
    setting, store = Setting(noise, sparsity), Store.from_environment()
    labels = cifar_noisy.load_noisy_labels(setting.noise, setting.sparsity)
    measured = float((labels != cifar_noisy.load_true_labels()).mean())
    files = artifacts(noise=setting.noise, sparsity=setting.sparsity)
    if as_json:
        _print_json(
            {
                "noise": setting.noise,
                "sparsity": setting.sparsity,
                "measured_noise": measured,
                "upstream_key": setting.upstream_key,
                "files": [_artifact_json(artifact, store) for artifact in files],
            }
        )
        return
    typer.echo(f"{setting}: {measured:.2%} of the labels are wrong")
    typer.echo(f"upstream calls it {setting.upstream_key}")
    _print_table(
        ("kind", "method", "edition", "trainer", ">size", "where", "path"),
        (
            (row[0], *row[3:], artifact.path)
            for artifact in files
            for row in (_artifact_row(artifact, store),)
        ),
    )


@app.command(epilog="Example: cifar-noisy download --kind pyx --noise 0.4 --sparsity 0.2")
def download(
    kind: Kind = None,
    noise: Noise = None,
    sparsity: Sparsity = None,
    method: Method = None,
    edition: Edition = None,
    trainer: Trainer = None,
    as_json: AsJson = False,
) -> None:
    """Bring files to this machine, so that nothing later needs a network; all, or those chosen."""
    filters: dict[str, Any] = {
        "kind": kind, "noise": noise, "sparsity": sparsity,
        "method": method, "edition": edition, "trainer": trainer,
    }  # fmt: skip
    wanted = artifacts(**filters)
    with _progress("downloading", wanted) as progress:
        files = cifar_noisy.download(**filters, progress=progress)
    size = sum(artifact.size for artifact in wanted)
    if as_json:
        _print_json({"files": [str(file) for file in files], "size": size})
    else:
        typer.echo(f"{len(files)} files, {readable_size(size)}, checked and on this machine")


@app.command(epilog="Example: cifar-noisy verify --noise 0.4 --sparsity 0.2 --json verdicts.json")
def verify(
    noise: Noise = None,
    sparsity: Sparsity = None,
    method: Method = None,
    edition: Edition = None,
    json_file: Annotated[
        str | None,
        typer.Option(
            "--json", metavar="FILE", help="Also write every verdict there; - for stdout."
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
        folder = recomputed or RECOMPUTED
        if retrain:
            request = _make_plan(folder, "cifar10", _listed(noise), _listed(sparsity), root, trust)
            for task, _ in _run_tasks(request, folder, None, root, trust, [device]):
                typer.echo(f"{task.id}: done", err=True)
        _compare_recomputed(folder, noise, sparsity, json_file)
        return
    filters: dict[str, Any] = {
        "noise": noise, "sparsity": sparsity, "method": method, "edition": edition
    }  # fmt: skip
    checks = _verify(Store.from_environment(), filters, fail_fast)
    if json_file != "-":
        _print_verdicts(checks)
        absent = [check for check in checks if check.verdict == "not reachable"]
        if absent:
            typer.echo(f"not reachable: {len(absent)} masks; the first since {absent[0].detail}")
    if json_file is not None:
        _print_json([_check_json(check) for check in checks], json_file)
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
    from cifar_noisy.recompute.sources import open_dataset
    from cifar_noisy.report.retrained import write_retrained_report

    with tempfile.TemporaryDirectory() as folder:
        request = _make_plan(Path(folder), "digits", [0.4], [0.2])
        typer.echo("The chain on scikit-learn's 1,797 digits, as recompute runs it on CIFAR-10:")
        # Such small tensors gain nothing from a second thread, and lose much where cores are busy.
        _run_and_report(request, Path(folder), threads=1)
        try:
            write_retrained_report(out, open_dataset("digits"), Path(folder), request.settings[0])
            typer.echo(f"a page to look at: {out.absolute()}\n")
        except MissingExtraError as error:
            typer.echo(f"no page: {error}", err=True)
    store = replace(Store.from_environment(), is_offline=True)
    checks = _verify(store, {}, fail_fast=False)
    _print_verdicts(checks)
    if any(check.verdict == "not reachable" for check in checks):
        typer.echo(
            "The demo opens no socket, so masks whose files are not on this machine were not "
            "checked.\nWith a network, cifar-noisy verify fetches (16 MB) and checks them."
        )
    raise typer.Exit(_status(checks, OK))


@app.command(epilog="Example: cifar-noisy images --to cifar10 --layout imagefolder")
def images(
    to: Annotated[
        Path | None, typer.Option(help="Folder to write into; without it they are only packed.")
    ] = None,
    layout: Annotated[
        str,
        typer.Option(
            help="imagefolder: train/airplane/10008_airplane.png ...; torchvision: "
            "cifar-10-batches-py."
        ),
    ] = "imagefolder",
    root: Annotated[
        Path | None,
        typer.Option(
            help="Torchvision root, official archive, PNG archives or image tree to take them from."
        ),
    ] = None,
    trust: Annotated[
        str | None,
        typer.Option(help="pixels: admit a re-encoded copy, whose checksums do not hold."),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Download the official archive (170 MB) if needed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Pack CIFAR-10's images in the cache, and write them as other programs read them."""
    arguments: dict[str, Any] = {"root": root, "trust": trust, "download": download}
    with _bar("downloading", None) as progress:
        splits = [
            cifar_noisy.load_images(train=train, progress=progress, **arguments)
            for train in (True, False)
        ]
    if to is not None:
        cifar_noisy.write_images(to, layout, root=root, trust=trust)
    where = [str(split.path) for split in splits] if to is None else [str(to)]
    if as_json:
        is_official = all(split.is_official for split in splits)
        _print_json({"images": sum(map(len, splits)), "is_official": is_official, "paths": where})
    else:
        typer.echo(f"{sum(map(len, splits)):,} images in {' and '.join(where)}")


@app.command(epilog="Example: cifar-noisy report --noise 0.4 --sparsity 0.2 --out report.html")
def report(
    noise: Annotated[float, typer.Option(help="Fraction of wrong labels: 0, 0.2, 0.4, 0.7, 0.9.")],
    sparsity: Annotated[
        float, typer.Option(help="Fraction of zero off-diagonal noise rates: 0, 0.2, 0.4, 0.6.")
    ] = 0.0,
    pyx: Annotated[
        Path | None,
        typer.Option(
            help="An .npy file of your (50000, 10) probabilities, for the published ones."
        ),
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="An .npy file of your 50,000 bools, True = label error.")
    ] = None,
    order: Annotated[
        str, typer.Option(help="Of the rows of both files: imagefolder or torchvision.")
    ] = "imagefolder",
    images: Annotated[
        Path | None,
        typer.Option(help="Where the images are, if not in the cache; see cifar-noisy images."),
    ] = None,
    trust: Annotated[
        str | None,
        typer.Option(help="pixels: admit a re-encoded copy, whose checksums do not hold."),
    ] = None,
    examples: Annotated[
        int, typer.Option(min=1, help="Suspected errors in the explorer, at most.")
    ] = 300,
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    as_json: AsJson = False,
) -> None:
    """Write one self-contained HTML page: figures, tables, verdict and a label explorer."""
    from cifar_noisy.arrays import read_array

    found, no_images = None, ""
    try:
        found = cifar_noisy.load_images(images, trust=trust)
    except UnavailableError:
        if images is not None:
            raise
        no_images = (
            "CIFAR-10’s images are not in the cache of this machine: pass --images and the folder "
            "that has them, or run cifar-noisy images --download once."
        )
    with _busy("making the page"):
        path = cifar_noisy.write_report(
            out,
            noise,
            sparsity,
            pyx=None if pyx is None else read_array(pyx),
            mask=None if mask is None else read_array(mask),
            order=order,
            images=found,
            no_images=no_images,
            n_shown=examples,
        )
    size = path.stat().st_size
    if as_json:
        _print_json({"path": str(path), "size": size, "has_images": found is not None})
    else:
        without = "" if found is not None else ", without images (the page says how to have them)"
        typer.echo(f"{path}: {readable_size(size)}{without}")


@app.command("check-alignment", epilog="Example: cifar-noisy check-alignment cifar10/train")
def check_alignment(
    path: Annotated[
        Path, typer.Argument(help="Image folder, torchvision root or official archive.")
    ],
    as_json: AsJson = False,
) -> None:
    """Say whether the rows of an image folder, as PyTorch reads it, are the published rows.

    Exit status: 0 they are, 1 they are not, 3 it cannot be told.
    """
    found = cifar_noisy.check_alignment(path)
    if as_json:
        _print_json(asdict(found))
    else:
        typer.echo(found)
        for name, value, p_value in (
            ("R2 of the published log-probabilities", found.r2, found.r2_p_value),
            (
                "deviation from the train set's fingerprint",
                found.deviation,
                found.deviation_p_value,
            ),
        ):
            if value is not None:
                typer.echo(f"{name}: {value:.4f} (p = {p_value:.2g})")
    raise typer.Exit({"aligned": OK, "misaligned": WRONG, "unclear": NOT_REACHABLE}[found.verdict])


@app.command(epilog="Example: cifar-noisy evaluate mine.npy --noise 0.4 --sparsity 0.2")
def evaluate(
    file: Annotated[
        Path,
        typer.Argument(
            help="50,000 bool (True = label error), 50,000 float scores (higher = more likely "
            "wrong), or (50000, 10) probabilities."
        ),
    ],
    noise: Annotated[float, typer.Option(help="Fraction of wrong labels: 0, 0.2, 0.4, 0.7, 0.9.")],
    sparsity: Annotated[
        float, typer.Option(help="Fraction of zero off-diagonal noise rates: 0, 0.2, 0.4, 0.6.")
    ] = 0.0,
    order: Annotated[
        str, typer.Option(help="Of the file's rows: imagefolder or torchvision.")
    ] = "imagefolder",
    edition: Edition = None,
    by: Annotated[
        str | None, typer.Option(help="Also a row per given or true class, or per pair of them.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare a label-error mask, score or probabilities of yours with the published methods.

    Exit status: 0 compared, 3 evaluated, but the published masks could not be had.
    """
    from cifar_noisy.arrays import read_array

    array = read_array(file)
    options: dict[str, Any] = {"order": order, "edition": edition}
    result: Evaluation | PyxEvaluation = (
        cifar_noisy.evaluate_pyx(array, noise, sparsity, **options)
        if array.ndim == 2
        else cifar_noisy.evaluate(array, noise, sparsity, **options)
    )
    parts = {found.name: found.breakdown(by) for found in result.detections} if by else {}
    if as_json:
        rows = {name: [part.row() for part in found] for name, found in parts.items()}
        _print_json(result.as_dict() | ({"breakdown": rows} if by else {}))
    else:
        _print_evaluation(result)
        for name, found in parts.items():
            _print_detections(name, found)
    if result.edition and result.published_missing:
        raise typer.Exit(NOT_REACHABLE)


@app.command(epilog="Example: cifar-noisy tables --format markdown --rule best")
def tables(
    format_: Annotated[
        str, typer.Option("--format", help="text, markdown, latex or csv.")
    ] = "text",
    rule: Annotated[
        str, typer.Option(help="Test accuracy at which epoch: last, or best (on the test set).")
    ] = "last",
    network: Annotated[
        str, typer.Option(help="Of Co-Teaching's two networks: max, first, second or mean.")
    ] = "max",
    edition: Edition = None,
    as_json: AsJson = False,
) -> None:
    """Make the paper's tables from the published masks and logs: label errors, test accuracy."""
    from cifar_noisy.tables import FORMATS

    check_choice(format_, FORMATS, "format")
    with _busy("making the tables"):
        made = cifar_noisy.paper_tables(edition=edition, rule=rule, network=network)
    if as_json:
        _print_json([table.as_dict() for table in made])
    else:
        typer.echo(cifar_noisy.format_tables(made, format_), nl=False)


@cache_app.command("path", epilog="Example: cifar-noisy cache path")
def cache_path() -> None:
    """Print the cache folder."""
    typer.echo(Store.from_environment().cache)


@cache_app.command("ls", epilog="Example: cifar-noisy cache ls")
def cache_ls(as_json: AsJson = False) -> None:
    """Say how much of each setting is in the cache, and which images."""
    from cifar_noisy.cache import cached_artifacts, cached_images

    store = Store.from_environment()
    cached = set(cached_artifacts(store))
    rows = [_cache_row(setting, cached) for setting in SETTINGS]
    images = [str(path) for path in cached_images(store)]
    if as_json:
        _print_json({"settings": rows, "images": images})
        return
    _print_table(
        ("noise", "sparsity", *(f">{kind}" for kind in KINDS), ">size", "complete"),
        (
            (
                f"{row['noise']:g}",
                f"{row['sparsity']:g}",
                *(f"{row[kind]['cached']}/{row[kind]['published']}" for kind in KINDS),
                readable_size(row["size"]),
                "yes" if row["is_complete"] else "",
            )
            for row in rows
        ),
    )
    for path in images:
        typer.echo(f"images: {path}")


@cache_app.command("verify", epilog="Example: cifar-noisy cache verify --json")
def cache_verify(as_json: AsJson = False) -> None:
    """Hash every file in the cache again, without a network; exit status 1 if one is wrong."""
    from cifar_noisy.cache import cached_artifacts, check_cache, check_images

    store = Store.from_environment()
    complaints: dict[str, str | None] = {}
    with _progress("hashing", cached_artifacts(store)) as progress:
        for file in check_cache(store):
            progress.update(file.artifact.size)
            remedy = "remove it, or let cifar-noisy download replace it"
            complaints[str(file.path)] = None if file.is_right else remedy
    for images in check_images(store):
        remedy = f"{images.complaint}: remove it, and cifar-noisy images makes it again"
        complaints[str(images.path)] = remedy if images.complaint else None
    n_right = sum(complaint is None for complaint in complaints.values())
    if as_json:
        _print_json([{"path": path, "is_right": not said} for path, said in complaints.items()])
    else:
        for path, complaint in complaints.items():
            if complaint:
                typer.echo(f"wrong: {path} ({complaint})")
        typer.echo(f"{store.cache}: {len(complaints)} files and image folders: {n_right} right")
    raise typer.Exit(OK if n_right == len(complaints) else WRONG)


@cache_app.command("clear", epilog="Example: cifar-noisy cache clear --yes")
def cache_clear(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    images: Annotated[bool, typer.Option("--images", help="CIFAR-10's images too.")] = False,
) -> None:
    """Remove the published files from the cache; anything else in the folder stays."""
    from cifar_noisy.cache import cached_artifacts, cached_images, clear_cache, clear_images

    store = Store.from_environment()
    cached = cached_artifacts(store)
    size = readable_size(sum(artifact.size for artifact in cached))
    if not yes:
        also = " and CIFAR-10's images" if images and cached_images(store) else ""
        typer.confirm(f"Remove {len(cached)} files ({size}){also} from {store.cache}?", abort=True)
    for path in clear_images(store) if images else ():
        typer.echo(f"{path} removed")
    removed = clear_cache(store)
    size = readable_size(sum(artifact.size for artifact in removed))
    typer.echo(f"{len(removed)} files ({size}) removed from {store.cache}")


@cache_app.command("prune", epilog="Example: cifar-noisy cache prune")
def cache_prune(as_json: AsJson = False) -> None:
    """Remove what killed processes left unfinished; what a running one is writing stays."""
    from cifar_noisy.cache import prune_cache

    removed = prune_cache(Store.from_environment())
    if as_json:
        _print_json([{"path": path, "size": size} for path, size in removed])
    else:
        size = readable_size(sum(size for _, size in removed))
        typer.echo(f"{len(removed)} leftovers ({size}) removed")


@cache_app.command("export", epilog="Example: cifar-noisy cache export pyx.tar --kind pyx")
def cache_export(
    file: Annotated[Path, typer.Argument(help="The tar to write.")],
    kind: Kind = None,
    noise: Noise = None,
    sparsity: Sparsity = None,
    images: Annotated[
        bool, typer.Option("--images", help="With CIFAR-10's image archive (170 MB).")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write all files, or those chosen, as a bundle for a machine without a network.

    The bundle is a plain tar in the cache's own layout; sha256sum -c SHA256SUMS checks it.
    """
    from cifar_noisy.bundle import export_bundle

    wanted = at_least_one(artifacts(kind=kind, noise=noise, sparsity=sparsity))
    with _progress("reading", wanted) as progress:
        paths = export_bundle(
            Store.from_environment(), file, wanted, images=images, progress=progress
        )
    _report_bundle(file, paths, "written to", as_json)


@cache_app.command("import", epilog="Example: cifar-noisy cache import pyx.tar")
def cache_import(
    file: Annotated[Path, typer.Argument(help="The tar that cache export wrote.")],
    as_json: AsJson = False,
) -> None:
    """Check every file of a bundle against the registry, then put them into the cache."""
    from cifar_noisy.bundle import import_bundle

    with _progress("importing", ()) as progress:
        paths = import_bundle(Store.from_environment(), file, progress)
    _report_bundle(file, paths, "checked and imported from", as_json)


def _report_bundle(file: Path, paths: Sequence[str], what: str, as_json: bool) -> None:
    if as_json:
        _print_json({"bundle": str(file), "files": list(paths)})
    else:
        typer.echo(f"{len(paths)} files {what} {file}")


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
    as_json: AsJson = False,
) -> None:
    """Make probabilities and masks from images: plan, run and collect in one go, or by itself.

    Whatever interrupts it, the same command continues.
    """
    if context.invoked_subcommand is None:
        request = _make_plan(
            folder, dataset, noise, sparsity, root, trust, seed, folds, overrides, dtype, device,
            recipe, _names(train_kept), _names(coteaching),
        )  # fmt: skip
        _run_and_report(request, folder, None, root, trust, [device], threads, as_json)


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
    request = _make_plan(
        folder, dataset, noise, sparsity, root, trust, seed, folds, overrides, dtype, device,
        recipe, _names(train_kept), _names(coteaching),
    )  # fmt: skip
    _print_tasks(request, folder, as_json)


@recompute_app.command("run", epilog="Example: cifar-noisy recompute run --tasks 0-3 --threads 2")
def recompute_run(
    folder: PlanFolder = RECOMPUTED,
    task: Annotated[list[str] | None, typer.Option(help="By id; may be repeated.")] = None,
    tasks: Annotated[
        str | None, typer.Option(metavar="A-B", help="By number, both ends included.")
    ] = None,
    root: ImagesRoot = None,
    trust: Trust = None,
    device: Device = "cpu",
    devices: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Several at once, such as cuda:0,cuda:1."),
    ] = None,
    jobs_per_device: Annotated[
        int, typer.Option(min=1, help="Tasks at a time on each device.")
    ] = 1,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Run the tasks of a plan, all or those chosen; done ones are left, begun ones continue.

    With several devices, or several jobs on one, each task gets a process of its own, and the
    threads of the CPU are shared out among them. SIGTERM and SIGUSR1 make it save and end with
    status 75.
    """
    from cifar_noisy.recompute.plan import load_plan

    if devices is not None and device != "cpu":
        raise InvalidInputError("--device and --devices are both given: pass one of them")
    request = load_plan(folder)
    chosen = _chosen(request, task, tasks)
    slots = (devices or device).split(",") * jobs_per_device
    _run_and_report(request, folder, chosen, root, trust, slots, threads, as_json)


@recompute_app.command(
    "slurm",
    epilog="Example: cifar-noisy recompute slurm --partition gpu --gres gpu:1 --time 4:00:00",
)
def recompute_slurm(
    folder: PlanFolder = RECOMPUTED,
    partition: SlurmOption = None,
    gres: SlurmOption = None,
    time: SlurmOption = None,
    cpus_per_task: Annotated[int, typer.Option(min=1, help="Of each task.")] = 1,
    mem: SlurmOption = None,
    account: SlurmOption = None,
    array_limit: Annotated[
        int | None, typer.Option(help="The most tasks of an array; by default the site's.")
    ] = None,
    root: ImagesRoot = None,
    trust: Trust = None,
    device: Annotated[
        str | None, typer.Option(help="cpu or cuda; by default cuda where --gres has a gpu.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of the CPU; by default as --cpus-per-task.")
    ] = None,
    submit: Annotated[bool, typer.Option("--submit", help="Submit them too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the tasks that are not done as Slurm job arrays, and with --submit submit them.

    Each task saves and goes back into the queue when its time is up. Compute nodes need no network,
    but the folder, the cache and this Python where they are here.
    """
    from cifar_noisy.recompute import slurm
    from cifar_noisy.recompute.command import RunCommand
    from cifar_noisy.recompute.engine import state_of
    from cifar_noisy.recompute.plan import load_plan, tasks_of

    tasks = tasks_of(load_plan(folder))
    done = {task.id for task in tasks if state_of(task, folder) == "done"}
    limit = slurm.site_array_limit() if array_limit is None else array_limit
    arrays = slurm.job_arrays(tasks, done, limit)
    resources = slurm.Resources(cpus_per_task, partition, gres, time, mem, account)
    command = RunCommand(folder, root, trust, device or resources.device, threads or cpus_per_task)
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
    root: ImagesRoot = None,
    trust: Trust = None,
    as_json: AsJson = False,
) -> None:
    """Combine trained folds into pyx, masks and a record of where they came from."""
    from cifar_noisy.recompute.plan import load_plan, tasks_of

    request = load_plan(folder)
    chosen = tuple(task.id for task in tasks_of(request) if task.kind == "collect")
    _run_and_report(request, folder, chosen, root, trust, as_json=as_json)


def _make_plan(
    folder: Path,
    dataset: str,
    noises: Sequence[float] | None,
    sparsities: Sequence[float] | None,
    root: Path | None = None,
    trust: str | None = None,
    seed: int = 0,
    folds: int = 4,
    overrides: Sequence[str] | None = None,
    dtype: str = "float16",
    device: str = "cpu",
    recipe: str = "fast",
    kept_methods: Sequence[str] = (),
    coteaching_methods: Sequence[str] = (),
) -> "Request":
    from cifar_noisy.recompute.plan import make_request, save_plan
    from cifar_noisy.recompute.sources import open_dataset

    settings = [Setting(noise, sparsity) for noise in noises or () for sparsity in sparsities or ()]
    if not settings:
        raise InvalidInputError("which setting? Pass --noise and --sparsity, such as 0.4 and 0.2")
    pairs = [text.partition("=") for text in overrides or ()]
    request = make_request(
        settings,
        "",
        dataset=dataset,
        seed=seed,
        n_folds=folds,
        dtype=dtype,
        device=device,
        recipe=recipe,
        overrides={name: value for name, _, value in pairs},
        kept_methods=kept_methods,
        coteaching_methods=coteaching_methods,
    )
    images = open_dataset(dataset, root, trust=trust, with_test=request.needs_test)
    images.hold_aligned()
    request = replace(request, data_digest=images.digest())
    save_plan(request, folder)
    return request


def _names(text: str | None) -> tuple[str, ...]:
    """Return what an option lists, separated by commas."""
    return tuple(text.split(",")) if text else ()


def _chosen(
    request: "Request", ids: Sequence[str] | None, numbers: str | None
) -> tuple[str, ...] | None:
    """Return the ids of tasks chosen by id and by number; None if there was no choice."""
    from cifar_noisy.recompute.plan import tasks_of

    if ids is None and numbers is None:
        return None
    chosen = list(ids or ())
    if numbers is not None:
        everything = [task.id for task in tasks_of(request)]
        first, _, last = numbers.partition("-")
        ends = [int(end) if end.isdecimal() else -1 for end in (first, last or first)]
        if not 0 <= ends[0] <= ends[1] < len(everything):
            raise InvalidInputError(
                f"--tasks {numbers} is no range of this plan's tasks, 0-{len(everything) - 1}"
            )
        chosen += everything[ends[0] : ends[1] + 1]
    return tuple(chosen)


def _run_and_report(
    request: "Request",
    folder: Path,
    chosen: tuple[str, ...] | None = None,
    root: Path | None = None,
    trust: str | None = None,
    devices: Sequence[str] = ("cpu",),
    threads: int | None = None,
    as_json: bool = False,
) -> None:
    from cifar_noisy.recompute.engine import read_record

    records = []
    for task, before in _run_tasks(request, folder, chosen, root, trust, devices, threads):
        if not as_json:
            typer.echo(f"{task.id}: {'done before' if before == 'done' else 'done'}")
        if task.kind != "train":
            records.append(read_record(task, folder))
            if not as_json:
                _print_record(task, records[-1])
    if as_json:
        _print_json(records)


def _run_tasks(
    request: "Request",
    folder: Path,
    chosen: tuple[str, ...] | None,
    root: Path | None,
    trust: str | None,
    devices: Sequence[str],
    threads: int | None = None,
) -> Iterator[tuple["Task", str]]:
    from cifar_noisy.recompute.command import RunCommand
    from cifar_noisy.recompute.engine import run_tasks
    from cifar_noisy.recompute.slots import run_in_slots
    from cifar_noisy.recompute.sources import open_dataset

    dataset = open_dataset(request.dataset, root, trust=trust, with_test=request.needs_test)
    if len(devices) == 1:
        yield from run_tasks(
            request, dataset, folder, task_ids=chosen, device=devices[0], threads=threads
        )
    else:
        command = RunCommand(folder, root, trust, threads=threads)
        yield from run_in_slots(request, command, devices, task_ids=chosen)


def _print_tasks(request: "Request", folder: Path, as_json: bool) -> None:
    from cifar_noisy.recompute.engine import state_of
    from cifar_noisy.recompute.plan import tasks_of

    rows = [
        {"number": number, "id": task.id, "state": state_of(task, folder), "needs": task.needs}
        for number, task in enumerate(tasks_of(request))
    ]
    if as_json:
        _print_json(rows)
        return
    _print_table(
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
        _print_json(
            [
                {"script": str(path), "tasks": array.task_ids, "job": job_of.get(path)}
                for array, path in zip(arrays, paths, strict=True)
            ]
        )
        return
    if not arrays:
        typer.echo("all tasks are done: nothing to submit")
        return
    _print_table(
        ("script", ">tasks", "job"),
        (
            (str(path), str(len(array.task_ids)), job_of.get(path, "not submitted"))
            for array, path in zip(arrays, paths, strict=True)
        ),
    )
    if not jobs:
        script = shlex.quote(str(folder / "slurm" / "submit.sh"))
        typer.echo(f"submit them with --submit, or by: bash {script}")


def _print_record(task: "Task", record: dict[str, Any]) -> None:
    if task.kind == "collect":
        _print_summary(task, record["summary"])
        return
    typer.echo(
        f"{task.setting}, kept by {record['method']}, {record['training']}: test accuracy "
        f"{record['test_accuracy']:.4f} ({record['train_size']:,} examples)"
    )


def _print_summary(task: "Task", summary: dict[str, Any]) -> None:
    typer.echo(
        f"{task.setting}: accuracy against given labels {summary['given_accuracy']:.3f} "
        f"(the noise allows {summary['given_bound']:.3f}), "
        f"against true labels {summary['true_accuracy']:.3f}"
    )
    _print_table(
        ("method", ">precision", ">recall", ">F1"),
        (
            (method, *(_rate(score[name]) for name in ("precision", "recall", "f1")))
            for method, score in summary["scores"].items()
        ),
    )


def _print_evaluation(result: "Evaluation | PyxEvaluation") -> None:
    """Print what was passed and, beside it, what was published."""
    if isinstance(result, cifar_noisy.PyxEvaluation):
        _print_fits(result)
    if result.rankings:
        _print_rankings(result.rankings)
    published = (
        replace(found, name=f"{found.name} {result.edition}") for found in result.published
    )
    _print_detections("label errors", [*result.detections, *published])
    if result.published_missing:
        typer.echo(f"the published methods are left out: {result.published_missing}")


def _print_fits(result: "PyxEvaluation") -> None:
    """Print how well probabilities predict labels, with the bound that the noise sets."""
    _print_table(
        ("probabilities against", ">accuracy", ">at most", ">ECE", ">Brier"),
        (
            (name, _rate(fit.accuracy), _rate(bound), _rate(fit.ece), _rate(fit.brier))
            for name, fit, bound in (
                ("given labels", result.against_given, result.accuracy_bound),
                ("true labels", result.against_true, 1.0),
            )
        ),
    )


def _print_rankings(rankings: Sequence["Ranking"]) -> None:
    _print_table(
        (
            "score",
            ">average precision",
            ">ROC AUC",
            ">precision at the true number of errors",
            ">best F1",
            ">at the cut",
        ),
        (
            (
                ranking.name,
                _rate(ranking.average_precision),
                _rate(ranking.roc_auc),
                _rate(ranking.precision_at_n_errors),
                _rate(ranking.best_f1),
                "-" if ranking.best_cut is None else f"{ranking.best_cut:.6g}",
            )
            for ranking in rankings
        ),
    )
    _explain_dashes(rankings)


def _print_detections(head: str, detections: Sequence["Detection"]) -> None:
    _print_table(
        (head, ">precision", ">recall", ">F1", ">accuracy", ">found", ">true"),
        (
            (
                row.name,
                *map(_rate, (row.precision, row.recall, row.f1, row.accuracy)),
                f"{row.n_found:,}",
                f"{row.n_errors:,}",
            )
            for row in detections
        ),
    )
    _explain_dashes(detections)


def _explain_dashes(rows: Sequence["Detection"] | Sequence["Ranking"]) -> None:
    if any(value is None for row in rows for value in vars(row).values()):
        typer.echo("-: has no meaning, as nothing was found or there is nothing to find")


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _compare_recomputed(
    folder: Path, noise: float | None, sparsity: float | None, json_file: str | None
) -> None:
    from cifar_noisy.agreement import WORSE

    if noise is None or sparsity is None:
        raise InvalidInputError("which setting? Pass --noise and --sparsity, such as 0.4 and 0.2")
    rows = cifar_noisy.compare_recomputed(folder, noise, sparsity)
    if json_file != "-":
        _print_table(
            ("quantity", ">recomputed", ">published", ">expected", "verdict"),
            (
                (
                    row.quantity,
                    _rate(row.recomputed),
                    _rate(row.published),
                    "{:.3f} to {:.3f}".format(*row.expected),
                    row.verdict,
                )
                for row in rows
            ),
        )
    if json_file is not None:
        _print_json([{**asdict(row), "verdict": row.verdict} for row in rows], json_file)
    raise typer.Exit(WRONG if any(row.verdict == WORSE for row in rows) else OK)


def _listed(value: float | None) -> list[float] | None:
    return None if value is None else [value]


def _verify(store: Store, filters: dict[str, Any], fail_fast: bool) -> list["Check"]:
    from cifar_noisy.verification import files_needed

    masks = [a for a in artifacts(**filters) if a.kind == "train_mask"]
    checks = []
    with _progress("reading", files_needed(masks)) as progress:
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
    """Print a row per setting, then what the cells leave unsaid."""
    cells: dict[tuple[Setting, str], list[str]] = {}
    for check in sorted(checks, key=lambda check: check.artifact.edition or ""):
        column = check.artifact.method or _FROM_SEED[check.artifact.kind]
        cells.setdefault((check.artifact.setting, column), []).append(_cell(check))
    editions = sorted({check.artifact.edition for check in checks if check.artifact.edition})
    columns = [c for c in (*_FROM_SEED.values(), *METHODS) if any(c == key[1] for key in cells)]
    _print_table(
        ("noise", "sparsity", *_verdict_heads(columns, editions)),
        (
            (
                f"{setting.noise:g}",
                f"{setting.sparsity:g}",
                *(
                    _joined(cells.get((setting, column), []), editions if column in METHODS else [])
                    for column in columns
                ),
            )
            for setting in sorted({setting for setting, _ in cells})
        ),
    )
    typer.echo("= exact   ~n differs in n, all explained   *n differs in n, one or more known")
    typer.echo("!n differs in n, some unexplained   ? not reachable")
    for line in (*_summary(checks), *_remarks(checks)):
        typer.echo(line)


_FROM_SEED = {"noisy_labels": "labels", "noise_matrix": "matrix"}
_CELL_WIDTH = 5


def _verdict_heads(columns: Sequence[str], editions: Sequence[str]) -> Iterator[str]:
    """Yield the column heads; a method's has the editions below its name."""
    for column in columns:
        is_method = column in METHODS
        yield f"{column}\n{_joined(editions, editions)}" if is_method else column


def _joined(cells: Sequence[str], editions: Sequence[str]) -> str:
    """Set the cells of a method's editions in line; at noise 0 the first edition is missing."""
    missing = [""] * (len(editions) - len(cells)) if cells else []
    return "".join(f"{cell:<{_CELL_WIDTH}}" for cell in (*missing, *cells)).rstrip()


def _cell(check: "Check") -> str:
    symbol = {"exact": "=", "explained": "~", "known": "*", "unexplained": "!"}
    return symbol.get(check.verdict, "?") + (str(len(check.differences) or ""))


_VERDICTS = ("exact", "explained", "known", "unexplained", "not reachable")


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
        from cifar_noisy.rounding import REASONS

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


def _cache_row(setting: Setting, cached: set[Artifact]) -> dict[str, Any]:
    of_setting = artifacts(noise=setting.noise, sparsity=setting.sparsity)
    here = [artifact for artifact in of_setting if artifact in cached]
    counts: dict[str, Any] = {
        kind: {
            "cached": sum(artifact.kind == kind for artifact in here),
            "published": sum(artifact.kind == kind for artifact in of_setting),
        }
        for kind in KINDS
    }
    return {
        "noise": setting.noise,
        "sparsity": setting.sparsity,
        **counts,
        "size": sum(artifact.size for artifact in here),
        "is_complete": len(here) == len(of_setting),
    }


def _artifact_row(artifact: Artifact, store: Store) -> tuple[str, ...]:
    stray = " (stray)" if artifact.is_stray else ""
    return (
        artifact.kind + stray,
        f"{artifact.setting.noise:g}",
        f"{artifact.setting.sparsity:g}",
        artifact.method or "",
        artifact.edition or "",
        artifact.trainer or "",
        readable_size(artifact.size),
        _where(artifact, store),
    )


def _artifact_json(artifact: Artifact, store: Store) -> dict[str, Any]:
    fields = asdict(artifact)
    return {**fields.pop("setting"), **fields, "where": _where(artifact, store) or None}


def _where(artifact: Artifact, store: Store) -> str:
    path = store.local_path(artifact)
    if path is None:
        return ""
    return "cache" if path == store.cache_path(artifact) else "mirror"


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


def _print_json(value: object, file: str = "-") -> None:
    text = json.dumps(value, indent=2) + "\n"
    if file == "-":
        typer.echo(text, nl=False)
        return
    try:
        write_atomically(Path(file), text.encode())
    except OSError as error:
        raise StorageError(f"{file} cannot be written ({error.strerror}): name another") from error


def _print_table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table; a column whose head begins with ">" is set to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in header:
        is_right = head.startswith(">")
        table.add_column(head.lstrip(">"), justify="right" if is_right else "left")
    for row in rows:
        table.add_row(*row)
    # As wide as its cells, on a narrow terminal too: columns that are squeezed say less than lines
    # that the terminal wraps.
    Console(width=_WIDEST_TABLE, highlight=False, markup=False).print(table)


@contextmanager
def _progress(what: str, files: Sequence[Artifact]) -> Iterator["tqdm[Any]"]:
    """Show a bar of the bytes of files on stderr where that is a terminal."""
    with _bar(what, sum(artifact.size for artifact in files)) as progress:
        yield progress


@contextmanager
def _busy(what: str) -> Iterator[None]:
    """Show on stderr, where that is a terminal, that work of a few seconds goes on."""
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


@contextmanager
def _step_bar() -> Iterator[Callable[["Task", int, int], None]]:
    """Show a bar of a training's steps on stderr where that is a terminal."""
    from tqdm import tqdm

    with tqdm(unit="step", leave=False, disable=None) as bar:

        def show(task: "Task", step: int, n_steps: int) -> None:
            if step < bar.n or bar.total != n_steps:
                bar.reset(n_steps)
            bar.set_description(task.id, refresh=False)
            bar.update(step - bar.n)

        yield show


@contextmanager
def _bar(what: str, n_bytes: int | None) -> Iterator["tqdm[Any]"]:
    from tqdm import tqdm

    with tqdm(
        total=n_bytes, desc=what, unit="B", unit_scale=True, leave=False, disable=None
    ) as progress:
        yield progress


if __name__ == "__main__":
    main()
