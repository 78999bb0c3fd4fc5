"""croissant.json: it follows from the registry, and the reference library admits it."""

import importlib
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cifar_noisy import artifacts, label_sets
from cifar_noisy.store.registry import all_artifacts

build_croissant: Any = importlib.import_module("scripts.build_croissant")

ROOT = Path(__file__).parents[1]
MADE: dict[str, Any] = json.loads((ROOT / "croissant.json").read_text("utf-8"))


def test_the_file_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/build_croissant.py", "--check"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "equal\n")


def test_another_registry_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = MADE | {"distribution": MADE["distribution"][1:]}
    monkeypatch.setattr(build_croissant, "FILE", tmp_path / "croissant.json")
    monkeypatch.setattr(sys, "argv", ["build_croissant.py", "--check"])
    for before in (None, json.dumps(other)):
        if before is not None:
            (tmp_path / "croissant.json").write_text(before)
        assert build_croissant.main() == 1
    monkeypatch.setattr(sys, "argv", ["build_croissant.py"])
    assert build_croissant.main() == 0
    assert build_croissant.main() == 0
    said = capsys.readouterr().out.splitlines()
    assert said == ["croissant.json differs"] * 2 + ["croissant.json written", "equal"]
    assert json.loads((tmp_path / "croissant.json").read_text("utf-8")) == MADE


def test_every_file_is_described() -> None:
    files = {file["@id"]: file for file in MADE["distribution"]}
    assert set(files) == {artifact.path for artifact in all_artifacts()}
    for artifact in artifacts():
        file = files[artifact.path]
        assert (file["sha256"], file["contentSize"]) == (artifact.sha256, f"{artifact.size} B")
        assert file["contentUrl"].startswith("https://")
        assert f"licence: {artifact.licence}" in file["description"]
    images = files["images/cifar-10-python.tar.gz"]
    assert images["contentUrl"] == "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"


def test_every_licence_that_is_stated_has_an_address() -> None:
    stated = {artifact.licence for artifact in all_artifacts()} - {"none stated"}
    assert set(build_croissant.LICENCES) == stated


@pytest.mark.filterwarnings("ignore")  # of libraries that mlcroissant imports
def test_the_reference_library_admits_it() -> None:
    mlcroissant = pytest.importorskip("mlcroissant", reason="needs mlcroissant")
    dataset = mlcroissant.Dataset(str(ROOT / "croissant.json"))
    issues = dataset.metadata.ctx.issues
    assert not issues.errors
    # No version has been published yet.
    assert all("datePublished" in warning for warning in issues.warnings)
    assert dataset.metadata.conforms_to[0] == "http://mlcommons.org/croissant/1.1"
    assert len(dataset.metadata.file_objects) == len(all_artifacts())
    # Every RAI field was understood: what the library does not know it drops.
    back = dataset.metadata.to_json()
    assert {key for key in back if key.startswith("rai:")} == set(build_croissant.RESPONSIBLE_AI)
    records = list(dataset.records("label_sets"))
    assert [record["label_sets/name"] for record in records] == [
        known.name for known in label_sets()
    ]


def test_the_table_of_the_data_card() -> None:
    files = Counter[tuple[str, ...]]()
    sizes = Counter[tuple[str, ...]]()
    for artifact in all_artifacts():
        source = artifact.repository_name or artifact.repository
        key = (source, f"`{artifact.kind}`", artifact.licence)
        files[key] += 1
        sizes[key] += artifact.size
    expected = [
        f"| {source} | {kind} | {n} | {sizes[source, kind, licence] / 1e6:.1f} | {licence} |"
        for (source, kind, licence), n in files.items()
    ]
    card = (ROOT / "docs" / "data_card.md").read_text("utf-8")
    assert [line for line in card.splitlines() if re.match(r"\| \S+ \| `", line)] == expected
    kinds = Counter(known.noise_kind for known in label_sets())
    for kind, n in kinds.items():
        assert f"| {kind} | {n} |" in card
    assert f"{len(label_sets())} label sets" in card
    assert f"{len(all_artifacts())} files" in card
