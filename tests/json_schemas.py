"""The JSON that commands print, held to its schema in docs/."""

import functools
import json
from typing import Any, NoReturn

import jsonschema

from conftest import REPOSITORY


@functools.cache
def definitions() -> dict[str, Any]:
    """Return the schemas of the commands, and their parts, by name."""
    text = (REPOSITORY / "docs" / "json_output.schema.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)["$defs"]
    return found


def hold_to_schema(value: Any, name: str) -> None:
    """Raise unless a value is as the schema of a command, or a part of one, says."""
    schema = {"$defs": definitions(), "$ref": f"#/$defs/{name.replace(' ', '%20')}"}
    jsonschema.Draft202012Validator(schema).validate(value)


def answer_of(text: str, command: str) -> Any:
    """Return the one object that a command printed, which must be as its schema says."""
    answer = json.loads(text, parse_constant=_no_json)
    assert answer["schema_version"] == 1
    hold_to_schema(answer, command)
    return answer


def _no_json(text: str) -> NoReturn:
    raise AssertionError(f"{text} is no JSON")
