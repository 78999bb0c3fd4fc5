"""Commands on the published files: list, info, download."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

import cifar_noisy
from cifar_noisy.cli.app import app
from cifar_noisy.cli.options import (
    NOISE_HELP,
    AsJson,
    Edition,
    Kind,
    Method,
    Model,
    Noise,
    Sparsity,
    Trainer,
    parse_noise,
)
from cifar_noisy.cli.output import artifact_progress, counted, print_json, print_table, say
from cifar_noisy.errors import InvalidInputError
from cifar_noisy.settings import Setting
from cifar_noisy.store.artifact_store import Store
from cifar_noisy.store.http_download import format_size
from cifar_noisy.store.label_sets import LabelSet
from cifar_noisy.store.registry import KINDS, Artifact, artifacts


@app.command("list", epilog="Example: cifar-noisy list --kind pyx --noise 0.4")
def list_(
    kind: Kind = None,
    noise: Noise = None,
    sparsity: Sparsity = None,
    method: Method = None,
    edition: Edition = None,
    trainer: Trainer = None,
    model: Model = None,
    files: Annotated[
        bool, typer.Option("--files", help="Print a line per file instead of one per setting.")
    ] = False,
    labels: Annotated[
        bool, typer.Option("--labels", help="List the label sets by name instead.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List what was published, how large it is and how much of it is on this machine."""
    filters: dict[str, Any] = {
        "kind": kind, "noise": noise, "sparsity": sparsity, "method": method,
        "edition": edition, "trainer": trainer, "model": model,
    }  # fmt: skip
    if labels:
        if files or any(value is not None for value in filters.values()):
            raise InvalidInputError("--labels lists all label sets: leave the other options out")
        _print_label_sets(as_json)
        return
    store = Store.from_environment()
    found = artifacts(**filters)
    here = {artifact for artifact in found if store.local_path(artifact) is not None}
    rows = setting_rows(found, here, "here")
    files = files or not rows  # the images belong to no setting
    if as_json:
        answer = (
            {"files": [_artifact_json(a, store) for a in found]} if files else {"settings": rows}
        )
        print_json(answer)
        return
    if files:
        _print_files(found, store)
    else:
        print_settings(rows, "here")
    say(f"\n{counted(len(found), 'file')}, {total_size(found)}; {len(here)} on this machine")


def _print_label_sets(as_json: bool) -> None:
    rows = [labels.as_dict() for labels in cifar_noisy.label_sets()]
    if as_json:
        print_json({"label_sets": rows})
        return
    print_table(
        ("label set", ">wrong", "noise", "probabilities", "licence"),
        (
            (
                row["name"],
                f"{row['noise_rate']:.2%}",
                row["noise_kind"],
                str(len(row["models"]) or "-"),
                row["licence"],
            )
            for row in rows
        ),
    )
    say("\nprobabilities: of how many networks; cifar-noisy info NAME says more of one")


@app.command(epilog="Example: cifar-noisy info 0.7 0.2")
def info(
    noise: Annotated[Any, typer.Argument(parser=parse_noise, metavar="NOISE", help=NOISE_HELP)],
    sparsity: Annotated[
        float | None, typer.Argument(help="Fraction of zero noise rates; none beside a name.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what is known of given labels: noise, source, licence, citation and files."""
    from cifar_noisy.loading.given_labels import identity, label_source

    source, store = label_source(noise, sparsity), Store.from_environment()
    labels = next(known for known in cifar_noisy.label_sets() if known.name == source.name)
    files = artifacts(noise=labels.setting or labels.name)
    upstream = {"upstream_key": labels.setting.upstream_key} if labels.setting else {}
    if as_json:
        rows = [_artifact_json(artifact, store) for artifact in files]
        measured = {"measured_noise": labels.noise_rate}
        print_json(identity(source) | measured | upstream | labels.as_dict() | {"files": rows})
        return
    say(f"{source}: {labels.noise_rate:.2%} of the labels are wrong ({labels.noise_kind} noise)")
    for key in upstream.values():
        say(f"upstream calls it {key}")
    say(f"from {labels.repository}, licence: {labels.licence}")
    say(f"cite: {labels.citation}\n")
    _print_files(files, store)


@app.command(epilog="Example: cifar-noisy download --kind pyx --noise 0.4 --sparsity 0.2")
def download(
    kind: Kind = None,
    noise: Noise = None,
    sparsity: Sparsity = None,
    method: Method = None,
    edition: Edition = None,
    trainer: Trainer = None,
    model: Model = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy what mirror folders have into the cache.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring files to this machine, so that nothing later needs a network; all, or those chosen."""
    filters: dict[str, Any] = {
        "kind": kind, "noise": noise, "sparsity": sparsity, "method": method,
        "edition": edition, "trainer": trainer, "model": model,
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
    from cifar_noisy.loading.given_labels import identity

    rows = []
    for source, published in _by_labels(found).items():
        local = [artifact for artifact in published if artifact in here]
        n_published, n_local = (Counter(a.kind for a in files) for files in (published, local))
        counts = {kind: {where: n_local[kind], "published": n_published[kind]} for kind in KINDS}
        sizes = {
            "size": sum(artifact.size for artifact in local),
            "published_size": sum(artifact.size for artifact in published),
        }
        rows.append(identity(source) | counts | sizes | {"is_complete": local == published})
    return rows


def _by_labels(found: Sequence[Artifact]) -> dict[Setting | LabelSet, list[Artifact]]:
    """Group files by the labels that they belong to, the paper's first; images belong to none."""
    groups: dict[Setting | LabelSet, list[Artifact]] = {}
    for labels in cifar_noisy.label_sets():
        key = labels.setting or labels
        files = [
            a for a in found
            if labels.name in a.label_sets or (a.noise is not None and a.setting == key)
        ]  # fmt: skip
        if files:
            groups[key] = files
    return groups


def print_settings(rows: Sequence[dict[str, Any]], where: str) -> None:
    """Print the rows of `setting_rows`, without kinds that have no file."""
    kinds = [kind for kind in KINDS if any(row[kind]["published"] for row in rows)]
    heads = (f">{kind.replace('_', ' ')}" for kind in kinds)
    print_table(
        ("noise", "sparsity", *heads, ">size", f">{where}"),
        (
            (
                *_identity_cells(row["noise"], row["sparsity"]),
                *("{}/{}".format(*row[kind].values()) for kind in kinds),
                format_size(row["published_size"]),
                format_size(row["size"]),
            )
            for row in rows
        ),
    )


def _identity_cells(noise: float | str | None, sparsity: float | None) -> tuple[str, str]:
    shown = noise if isinstance(noise, str) else "" if noise is None else f"{noise:g}"
    return shown, "" if sparsity is None else f"{sparsity:g}"


def _label_sets_cell(names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} others" if len(names) > 1 else ""
    return f"{names[0]}{more}" if names else ""


def _print_files(files: Sequence[Artifact], store: Store) -> None:
    print_table(
        ("kind", "noise", "sparsity", "method", "edition, trainer or model", ">size", "where"),
        (
            (
                artifact.kind + (" (stray)" if artifact.is_stray else ""),
                *_identity_cells(
                    _label_sets_cell(artifact.label_sets) or artifact.noise, artifact.sparsity
                ),
                artifact.method or "",
                artifact.edition or artifact.trainer or artifact.model or "",
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
