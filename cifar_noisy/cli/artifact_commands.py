"""Commands on the published files: list, info, download."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

import cifar_noisy
from cifar_noisy.cli.app import app
from cifar_noisy.cli.options import AsJson, Edition, Kind, Method, Noise, Sparsity, Trainer
from cifar_noisy.cli.output import artifact_progress, counted, print_json, print_table, say
from cifar_noisy.settings import Setting
from cifar_noisy.store.artifact_store import Store
from cifar_noisy.store.http_download import format_size
from cifar_noisy.store.registry import KINDS, Artifact, artifacts


@app.command("list", epilog="Example: cifar-noisy list --kind pyx --noise 0.4")
def list_(
    kind: Kind = None,
    noise: Noise = None,
    sparsity: Sparsity = None,
    method: Method = None,
    edition: Edition = None,
    trainer: Trainer = None,
    files: Annotated[
        bool, typer.Option("--files", help="Print a line per file instead of one per setting.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List what was published, how large it is and how much of it is on this machine."""
    store = Store.from_environment()
    filters: dict[str, Any] = {
        "kind": kind, "noise": noise, "sparsity": sparsity,
        "method": method, "edition": edition, "trainer": trainer,
    }  # fmt: skip
    found = artifacts(**filters)
    here = {artifact for artifact in found if store.local_path(artifact) is not None}
    rows = setting_rows(found, here, "here")
    files = files or not rows  # the images belong to no setting
    if as_json:
        print_json([_artifact_json(artifact, store) for artifact in found] if files else rows)
        return
    if files:
        _print_files(found, store)
    else:
        print_settings(rows, "here")
    say(f"\n{counted(len(found), 'file')}, {total_size(found)}; {len(here)} on this machine")


@app.command(epilog="Example: cifar-noisy info 0.7 0.2")
def info(
    noise: Annotated[float, typer.Argument(help="Fraction of wrong labels.")],
    sparsity: Annotated[float, typer.Argument(help="Fraction of zero noise rates.")],
    as_json: AsJson = False,
) -> None:
    """Say what is known of one setting: its noise, upstream's name for it, its files."""
    setting, store = Setting(noise, sparsity), Store.from_environment()
    labels = cifar_noisy.load_noisy_labels(setting)
    measured = float((labels != cifar_noisy.load_true_labels()).mean())
    files = artifacts(noise=setting)
    if as_json:
        rows = [_artifact_json(artifact, store) for artifact in files]
        measurements = {"measured_noise": measured, "upstream_key": setting.upstream_key}
        print_json(asdict(setting) | measurements | {"files": rows})
        return
    say(f"{setting}: {measured:.2%} of the labels are wrong")
    say(f"upstream calls it {setting.upstream_key}\n")
    _print_files(files, store)


@app.command(epilog="Example: cifar-noisy download --kind pyx --noise 0.4 --sparsity 0.2")
def download(
    kind: Kind = None,
    noise: Noise = None,
    sparsity: Sparsity = None,
    method: Method = None,
    edition: Edition = None,
    trainer: Trainer = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy what mirror folders have into the cache.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring files to this machine, so that nothing later needs a network; all, or those chosen."""
    filters: dict[str, Any] = {
        "kind": kind, "noise": noise, "sparsity": sparsity,
        "method": method, "edition": edition, "trainer": trainer,
    }  # fmt: skip
    wanted = artifacts(**filters)
    with artifact_progress("downloading", wanted) as progress:
        files = cifar_noisy.download(**filters, copy=copy, progress=progress)
    if as_json:
        size = sum(artifact.size for artifact in wanted)
        print_json({"files": [str(file) for file in files], "size": size})
        return
    cache = cifar_noisy.cache_folder()
    n_cached = sum(cache in file.parents for file in files)
    n_files = counted(len(files), "file")
    say(f"{n_files}, {total_size(wanted)}, checked: {n_cached} in {cache}")
    n_other = len(files) - n_cached
    if n_other:
        say(
            f"the other {n_other} {'is' if n_other == 1 else 'are'} in mirror folders and read in "
            "place; --copy copies files to the cache"
        )


def total_size(files: Collection[Artifact]) -> str:
    """Return the size of some files together, for people."""
    return format_size(sum(artifact.size for artifact in files))


def setting_rows(
    found: Sequence[Artifact], here: Collection[Artifact], where: str
) -> list[dict[str, Any]]:
    """Count the files of each setting by kind, all of them and those `here`.

    `where` is the name of the place that `here` lists.
    """
    rows = []
    found = [artifact for artifact in found if artifact.kind != "images"]
    for setting in sorted({artifact.setting for artifact in found}):
        published = [artifact for artifact in found if artifact.setting == setting]
        local = [artifact for artifact in published if artifact in here]
        n_published, n_local = (Counter(a.kind for a in files) for files in (published, local))
        counts = {kind: {where: n_local[kind], "published": n_published[kind]} for kind in KINDS}
        sizes = {
            "size": sum(artifact.size for artifact in local),
            "published_size": sum(artifact.size for artifact in published),
        }
        rows.append(asdict(setting) | counts | sizes | {"is_complete": local == published})
    return rows


def print_settings(rows: Sequence[dict[str, Any]], where: str) -> None:
    """Print the rows of `setting_rows`, without kinds that have no file."""
    kinds = [kind for kind in KINDS if any(row[kind]["published"] for row in rows)]
    heads = (f">{kind.replace('_', ' ')}" for kind in kinds)
    print_table(
        ("noise", "sparsity", *heads, ">size", f">{where}"),
        (
            (
                f"{row['noise']:g}",
                f"{row['sparsity']:g}",
                *("{}/{}".format(*row[kind].values()) for kind in kinds),
                format_size(row["published_size"]),
                format_size(row["size"]),
            )
            for row in rows
        ),
    )


def _print_files(files: Sequence[Artifact], store: Store) -> None:
    print_table(
        ("kind", "noise", "sparsity", "method", "edition or trainer", ">size", "where"),
        (
            (
                artifact.kind + (" (stray)" if artifact.is_stray else ""),
                "" if artifact.noise is None else f"{artifact.noise:g}",
                "" if artifact.sparsity is None else f"{artifact.sparsity:g}",
                artifact.method or "",
                artifact.edition or artifact.trainer or "",
                format_size(artifact.size),
                _where(artifact, store),
            )
            for artifact in files
        ),
    )


def _artifact_json(artifact: Artifact, store: Store) -> dict[str, Any]:
    return asdict(artifact) | {"where": _where(artifact, store) or None}


def _where(artifact: Artifact, store: Store) -> str:
    path = store.local_path(artifact)
    if path is None:
        return ""
    return "cache" if path == store.cache_path(artifact) else "mirror"
