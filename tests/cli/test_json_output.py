"""What every command prints with --json is described by docs/json_output.schema.json."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import typer.main
from typer.testing import CliRunner

from cifar_noisy import Setting, evaluate_pyx, load_pyx
from cifar_noisy.cli import artifact_commands
from cifar_noisy.cli.app import app
from cifar_noisy.cli.output import SCHEMA_VERSION, print_json
from cifar_noisy.settings import METHODS, OTHER_METHODS, SPARSITIES
from cifar_noisy.store.registry import KINDS, artifacts
from conftest import REPOSITORY
from tests.json_schemas import answer_of, definitions, hold_to_schema

PROGRAM = Path(sys.executable).with_name("cifar-noisy")


def with_json(command: Any, words: str = "") -> Iterator[str]:
    """Yield the words of each command that has --json."""
    if any("--json" in parameter.opts for parameter in command.params):
        yield words
    for name, subcommand in getattr(command, "commands", {}).items():
        yield from with_json(subcommand, f"{words} {name}".strip())


def objects_in(schema: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each schema of an object that names its keys, with its place."""
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            yield where, schema
        for name, part in schema.items():
            yield from objects_in(part, f"{where}/{name}")
    elif isinstance(schema, list):
        for i, part in enumerate(schema):
            yield from objects_in(part, f"{where}/{i}")


COMMANDS = list(with_json(typer.main.get_command(app)))
OBJECTS = dict(objects_in(definitions()))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_schema(command: str) -> None:
    assert command in definitions(), f"docs/json_output.schema.json has no schema of {command}"
    with pytest.raises(jsonschema.ValidationError):
        hold_to_schema({"schema_version": 1, "other": 1}, command)
    with pytest.raises(jsonschema.ValidationError):
        hold_to_schema([], command)


def test_the_schema_is_one() -> None:
    schema = json.loads((REPOSITORY / "docs" / "json_output.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    assert definitions()["schema_version"]["const"] == SCHEMA_VERSION
    assert definitions()["kind"]["enum"] == list(KINDS)
    assert definitions()["method"]["enum"] == [*METHODS, *OTHER_METHODS]
    assert definitions()["sparsity"]["enum"] == [*SPARSITIES, None]


LEFT_OUT = {
    "info": {"upstream_key"},
    "detection": {"noise", "sparsity"},
    "pyx_evaluation": {"schema_version", "breakdown"},
    "mask_evaluation": {"schema_version", "breakdown"},
    "kept_record": {"forget_rate"},
    "benchmark": {"difference", "difference_low", "difference_high"},
}
"""Keys that an answer may lack, by the first word of their place."""


@pytest.mark.parametrize("place", OBJECTS)
def test_each_object_is_strict_and_each_key_described(place: str) -> None:
    schema = OBJECTS[place]
    assert schema["additionalProperties"] is False
    optional = set(schema["properties"]) - set(schema["required"])
    assert set(schema["required"]) <= set(schema["properties"])
    assert optional <= LEFT_OUT.get(place.split("/")[1], set())
    for name, part in schema["properties"].items():
        described = part
        while "description" not in described and "$ref" in described:
            described = definitions()[described["$ref"].rpartition("/")[2]]
        assert described.get("description"), f"{place}: {name} is not described"


def test_no_number_is_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [math.nan, {"b": (1.5, -math.inf)}], "c": float(np.float64("inf"))})
    assert json.loads(capsys.readouterr().out) == {
        "schema_version": 1, "a": [None, {"b": [1.5, None]}], "c": None,
    }  # fmt: skip


def test_published_scores_beside_a_recomputed_setting(published: str) -> None:
    values = evaluate_pyx(load_pyx(0.4, 0.2), 0.4, 0.2).as_dict()
    hold_to_schema(json.loads(json.dumps(values)), "pyx_evaluation")
    with pytest.raises(jsonschema.ValidationError):
        hold_to_schema(values | {"edition": "2020"}, "pyx_evaluation")


@pytest.mark.parametrize(
    "words",
    [
        ("list", "--kind", "pix"),
        ("info", "0.6", "0"),
        ("download", "--kind", "pyx", "--noise", "0.4"),
        ("evaluate", "absent.npy", "--noise", "0.4", "--sparsity", "0.2"),
        ("benchmark", "nowhere:detector"),
        ("generate", "labels.npy", "--model", "pairflip", "--rate", "2", "--seed", "0"),
        ("tables", "--rule", "x"),
        ("report", "--noise", "0.4", "--sparsity", "0.2"),
        ("export", "labels.csv", "--for", "csv"),
        ("images", "--root", "absent"),
        ("check-alignment", "absent"),
        ("cache", "import", "absent.tar"),
        ("cache", "export", "absent/a.tar", "--kind", "pyx"),
        ("recompute", "status"),
        ("recompute", "plan"),
        ("recompute", "--folder", "new"),
    ],
)
def test_a_command_that_fails_prints_nothing_on_stdout(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    offline = os.environ | {"CIFAR_NOISY_OFFLINE": "1"}
    ran = subprocess.run(
        [PROGRAM, *words, "--json"],
        cwd=tmp_path, env=offline, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode in (2, 3)
    assert ran.stdout == ""
    assert ran.stderr.startswith("cifar-noisy: ")


def test_a_list_is_an_answer_though_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifact_commands, "artifacts", lambda **_: ())
    ended = CliRunner().invoke(app, ["list", "--json"])
    assert answer_of(ended.stdout, "list")["files"] == []


def test_leftovers_are_listed(published: str) -> None:
    target = Path(os.environ["CIFAR_NOISY_CACHE"]) / artifacts(kind="pyx")[0].path
    target.parent.mkdir(parents=True)
    part = target.with_name(f".{target.name}.part")
    part.write_bytes(b"half")
    removed = answer_of(CliRunner().invoke(app, ["cache", "prune", "--json"]).stdout, "cache prune")
    assert [(row["path"], row["size"]) for row in removed["removed"]] in ([], [(str(part), 4)])
    assert load_pyx(Setting(0, 0)).shape == (50_000, 10)
