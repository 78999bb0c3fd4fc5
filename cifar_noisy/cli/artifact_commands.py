"""Commands on the published files: list, info, download."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

import cifar_noisy
from cifar_noisy.cli.app import app
from cifar_noisy.cli.options import AsJson, Edition, Kind, Method, Noise, Sparsity, Trainer
from cifar_noisy.cli.output import byte_progress, print_json, print_table
from cifar_noisy.registry import Artifact, artifacts
from cifar_noisy.settings import Setting
from cifar_noisy.store import Store
from cifar_noisy.transfer import readable_size


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
        print_json([_artifact_json(artifact, store) for artifact in found])
        return
    print_table(
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
        print_json(
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
    print_table(
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
    with byte_progress("downloading", wanted) as progress:
        files = cifar_noisy.download(**filters, copy=copy, progress=progress)
    size = sum(artifact.size for artifact in wanted)
    cache = cifar_noisy.cache_folder()
    n_cached = sum(cache in file.parents for file in files)
    if as_json:
        print_json({"files": [str(file) for file in files], "size": size})
    else:
        typer.echo(f"{len(files)} files, {readable_size(size)}, checked: {n_cached} in {cache}")
        if n_cached < len(files):
            typer.echo(
                f"the other {len(files) - n_cached} are in mirror folders, where they are read in "
                "place; --copy puts them into the cache too"
            )


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
