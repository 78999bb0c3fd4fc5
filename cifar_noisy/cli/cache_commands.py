"""Commands that look after the cache: cache path, ls, verify, clear, prune, export, import."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from cifar_noisy.cli.app import cache_app
from cifar_noisy.cli.artifact_commands import print_settings, setting_rows, total_size
from cifar_noisy.cli.options import AsJson, Kind, Model, Noise, Sparsity
from cifar_noisy.cli.output import (
    artifact_progress,
    counted,
    is_stdout,
    output_path,
    print_json,
    say,
)
from cifar_noisy.errors import ExitCode
from cifar_noisy.store.artifact_store import Store
from cifar_noisy.store.http_download import format_size
from cifar_noisy.store.registry import all_artifacts, artifacts, require_nonempty


@cache_app.command("path", epilog="Example: cifar-noisy cache path")
def cache_path() -> None:
    """Print the cache folder."""
    typer.echo(Store.from_environment().cache)


@cache_app.command("ls", epilog="Example: cifar-noisy cache ls")
def cache_ls(as_json: AsJson = False) -> None:
    """Say how much of each setting is in the cache, and which images."""
    from cifar_noisy.images.image_cache import cached_images
    from cifar_noisy.store.cache import cached_artifacts

    store = Store.from_environment()
    cached = set(cached_artifacts(store))
    paper = [artifact for artifact in all_artifacts() if artifact.noise is not None]
    others = [artifact for artifact in cached if artifact.noise is None]
    rows = setting_rows([*paper, *others], cached, "cached")
    images = [str(path) for path in cached_images(store)]
    if as_json:
        print_json({"settings": rows, "images": images})
        return
    print_settings(rows, "cached")
    for path in images:
        say(f"images: {path}")


@cache_app.command("verify", epilog="Example: cifar-noisy cache verify --json")
def cache_verify(as_json: AsJson = False) -> None:
    """Hash every file in the cache again, without a network; exit status 1 if one is wrong."""
    from cifar_noisy.images.image_cache import check_images
    from cifar_noisy.store.cache import cached_artifacts, check_cache

    store = Store.from_environment()
    problems: dict[str, str | None] = {}
    with artifact_progress("hashing", cached_artifacts(store)) as progress:
        for file in check_cache(store):
            progress.update(file.artifact.size)
            remedy = "remove it, or let cifar-noisy download replace it"
            problems[str(file.path)] = None if file.is_right else remedy
    problems |= {str(images.path): images.problem for images in check_images(store)}
    n_right = sum(problem is None for problem in problems.values())
    if as_json:
        print_json(
            {
                "files": [
                    {"path": path, "is_right": not said, "problem": said}
                    for path, said in problems.items()
                ]
            }
        )
    else:
        for path, problem in problems.items():
            if problem:
                say(f"wrong: {path} ({problem})")
        say(f"{store.cache}: {counted(len(problems), 'file')}: {n_right} right")
    raise typer.Exit(ExitCode.OK if n_right == len(problems) else ExitCode.FAILURE)


@cache_app.command("clear", epilog="Example: cifar-noisy cache clear --yes")
def cache_clear(
    yes: Annotated[bool, typer.Option("--yes", help="Remove them without asking.")] = False,
    images: Annotated[bool, typer.Option("--images", help="Remove CIFAR-10's images too.")] = False,
) -> None:
    """Remove the published files from the cache; anything else in the folder stays."""
    from cifar_noisy.images.image_cache import cached_images, clear_images
    from cifar_noisy.store.cache import cached_artifacts, clear_cache

    store = Store.from_environment()
    cached = cached_artifacts(store)
    also = " and CIFAR-10's images" if images and cached_images(store) else ""
    if not cached and not also:
        say(f"nothing to remove from {store.cache}")
        return
    if not yes:
        files = f"{counted(len(cached), 'file')} ({total_size(cached)})"
        typer.confirm(f"Remove {files}{also} from {store.cache}?", abort=True, err=True)
    for path in clear_images(store) if images else ():
        say(f"{path} removed")
    removed = clear_cache(store)
    say(f"{counted(len(removed), 'file')} ({total_size(removed)}) removed from {store.cache}")


@cache_app.command("prune", epilog="Example: cifar-noisy cache prune")
def cache_prune(as_json: AsJson = False) -> None:
    """Remove what killed processes left unfinished; what a running one is writing stays."""
    from cifar_noisy.images.image_cache import prune

    removed = prune(Store.from_environment())
    if as_json:
        print_json({"removed": [{"path": path, "size": size} for path, size in removed]})
    else:
        size = format_size(sum(size for _, size in removed))
        say(f"{counted(len(removed), 'leftover')} ({size}) removed")


@cache_app.command("export", epilog="Example: cifar-noisy cache export pyx.tar --kind pyx")
def cache_export(
    file: Annotated[Path, typer.Argument(help="The tar file to write; - is stdout.")],
    kind: Kind = None,
    noise: Noise = None,
    sparsity: Sparsity = None,
    model: Model = None,
    images: Annotated[
        bool, typer.Option("--images", help="Add CIFAR-10's image archive (170 MB).")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write all files, or those chosen, as a bundle for a machine without a network.

    The bundle is a plain tar in the cache's own layout; sha256sum -c SHA256SUMS checks it.
    """
    from cifar_noisy.store.bundle import export_bundle

    store, file = Store.from_environment(), output_path(file)
    wanted = require_nonempty(
        artifacts(kind=cast(Any, kind), noise=noise, sparsity=sparsity, model=model)
    )
    with artifact_progress("reading", wanted) as progress:
        paths = export_bundle(store, file, wanted, images=images, progress=progress)
    _report_bundle(file, paths, "written to", as_json, err=is_stdout(file))


@cache_app.command("import", epilog="Example: cifar-noisy cache import pyx.tar")
def cache_import(
    file: Annotated[Path, typer.Argument(help="The tar file that cache export wrote.")],
    as_json: AsJson = False,
) -> None:
    """Check every file of a bundle against the registry, then put them into the cache."""
    from cifar_noisy.store.bundle import import_bundle

    with artifact_progress("importing", ()) as progress:
        paths = import_bundle(Store.from_environment(), file, progress)
    _report_bundle(file, paths, "checked and imported from", as_json)


def _report_bundle(
    file: Path, paths: Sequence[str], what: str, as_json: bool, *, err: bool = False
) -> None:
    if as_json:
        print_json({"bundle": str(file), "files": list(paths)}, err=err)
    else:
        say(f"{counted(len(paths), 'file')} {what} {file}", err=err)
