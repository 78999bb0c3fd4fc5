"""Bytes of a label file to its columns by name; what they mean is for `label_files` to say."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_noisy.errors import InvalidInputError, printable
from cifar_noisy.loading.npy_files import open_npy
from cifar_noisy.loading.torch_files import MAX_BYTES, is_torch_file, read_bounded, read_torch_file
from cifar_noisy.store.files import reason

Column = NDArray[Any] | list[Any]

MAX_TEXT = 1 << 23
"""Bytes of JSON and CSV beyond which a file is refused; the published files have 3.4 MB."""

IMAGE_NAME = re.compile(r"(?:.*[/\\])?(\d{1,9})_([a-z]+)\.png")
"""Upstream's name of an image file, with or without its folders: official index and class."""

_MAX_ROWS = 100_000
_NPY = b"\x93NUMPY"
_ONE_OF = "a JSON list, an .npy or .pt file, or a CSV with a header"


@dataclass(frozen=True)
class Columns:
    """What a file has.

    Attributes
    ----------
    format : str
        What it is, in a few words.
    by_name : dict of str to array or list
        Columns of values; of a file with one column that has no name, the name is empty.
    file_names : list of str or None
        The name of each row's image file, if the file has them.
    """

    format: str
    by_name: dict[str, Column]
    file_names: list[str] | None = None


def read_columns(path: str | os.PathLike[str]) -> Columns:
    """Recognise a label file by its content and return its columns.

    Raises
    ------
    InvalidInputError, MissingInputError
        If it is in none of the formats, is damaged or too large, or is no regular file.
    """
    content = read_bounded(path, MAX_BYTES)
    if is_torch_file(content):
        found = read_torch_file(path)
        if isinstance(found, dict):
            return Columns("torch dict", dict(found))
        return Columns("torch array", {"": found})
    if content.startswith(_NPY):
        return Columns("npy", {"": np.array(open_npy(path))})
    if not content.strip():
        raise InvalidInputError(f"{os.fspath(path)} is empty: pass {_ONE_OF}")
    if len(content) > MAX_TEXT:
        raise InvalidInputError(
            f"{os.fspath(path)} has more than {MAX_TEXT >> 20} MiB of text, too many for labels: "
            "name another"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInputError(
            f"{os.fspath(path)} is of an unknown format: pass {_ONE_OF}"
        ) from None
    return (_from_json if text.lstrip()[:1] in ("[", "{") else _from_csv)(text, os.fspath(path))


def _from_json(text: str, path: str) -> Columns:
    try:
        # An object becomes a tuple of pairs, so that a name that comes twice is seen.
        value = json.loads(text, object_pairs_hook=tuple)
    except (ValueError, RecursionError) as error:
        problem = printable(reason(error), 200)
        raise InvalidInputError(
            f"{path} is no JSON, or not the whole of it ({problem}): write it by json.dump"
        ) from error
    if isinstance(value, list):
        return Columns("JSON list", {"": value})
    names = [name for name, _ in value]
    odd = next((name for name in names if not IMAGE_NAME.fullmatch(name)), None)
    if odd is not None:
        raise InvalidInputError(
            f"{path} is a JSON object with the name {printable(repr(odd), 60)}, which is no image "
            "such as 0_frog.png: write the labels as a JSON list, or by file name"
        )
    return Columns("JSON dict of file names", {"": [label for _, label in value]}, names)


def _from_csv(text: str, path: str) -> Columns:
    try:
        lines = filter(None, csv.reader(io.StringIO(text, newline=None), strict=True))
        rows = list(itertools.islice(lines, _MAX_ROWS + 1))
    except csv.Error as error:
        raise InvalidInputError(
            f"{path} is no CSV ({printable(reason(error), 200)}): pass {_ONE_OF}"
        ) from error
    header = [name.strip() for name in rows[0]] if rows else []
    if len(rows) > _MAX_ROWS:
        raise InvalidInputError(
            f"{path} has more than {_MAX_ROWS:,} lines: pass one for each image"
        )
    if len(rows) < 2 or len(set(header)) < len(header):
        raise InvalidInputError(
            f"{path} is no CSV with names of columns and a line for each image: pass {_ONE_OF}"
        )
    if any(re.fullmatch(r"[-+.\d]+", name) or IMAGE_NAME.fullmatch(name) for name in header):
        raise InvalidInputError(
            f"{path} has no header: write a first line that names the columns, such as label"
        )
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise InvalidInputError(
                f"{path} has {len(row)} cells in its row {number:,}, where its header has "
                f"{len(header)}: use an undamaged copy"
            )
    cells = {name: [row[i] for row in rows[1:]] for i, name in enumerate(header)}
    of_names = [name for name, column in cells.items() if IMAGE_NAME.fullmatch(column[0])]
    file_names = [cells.pop(name) for name in of_names]
    by_name = {name: _numbers_or_text(column) for name, column in cells.items()}
    return Columns("CSV", by_name, file_names[0] if file_names else None)


def _numbers_or_text(cells: list[str]) -> Column:
    try:
        return np.array(cells).astype(np.float64)
    except ValueError:
        return cells
