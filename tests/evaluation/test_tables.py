"""The tables from the published files against what was printed, and as texts."""

import csv
import dataclasses
import io
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from typer.testing import CliRunner

import cifar_noisy
from cifar_noisy import (
    Setting,
    Table,
    TrainingLogError,
    UnknownArtifactError,
    accuracy_table,
    compare_with_print,
    evaluate_published,
    format_tables,
    label_error_table,
    paper_tables,
    parse_training_log,
)
from cifar_noisy.cli.app import app
from cifar_noisy.evaluation import printed_tables as printed_module
from cifar_noisy.evaluation.printed_tables import printed_tables
from cifar_noisy.evaluation.table_formats import FORMATS
from cifar_noisy.evaluation.tables import RULES, TEN_TRIALS, Cell, Network, Rule
from cifar_noisy.settings import METHODS, Edition
from conftest import MIRROR
from tests.cli.test_app import run
from tests.json_schemas import answer_of

Say = Callable[[str], None]
PRINTED = {printed.name: printed.cells for printed in printed_tables()}
ERRORS_2020, ERRORS_2021, ACCURACY_2020, RESNET50, FINAL = PRINTED
EMPTY_LOG: Cell = ("resnet50", "cl_both", Setting(0.2, 0.6))


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Return a function that prints whatever pytest captures."""

    def to_the_terminal(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}", end=" ")

    return to_the_terminal


@pytest.fixture(scope="module")
def by_rule() -> dict[str, Table]:
    """Return the accuracy tables of both rules, which take some seconds."""
    if MIRROR is None:
        return {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR_NOISY_MIRRORS", MIRROR)
        return {rule: cifar_noisy.accuracy_table(rule=rule) for rule in RULES}


def disagreeing(
    table: Table, printed_cells: Mapping[Cell, str], factor: int = 1
) -> dict[Cell, str]:
    """Return the printed cells that the table does not give, with what it gives."""
    found = {}
    for cell, text in printed_cells.items():
        value = table.cells[cell]
        decimals = len(text.partition(".")[2])
        ours = "missing" if value is None else f"{value * factor:.{decimals}f}".removeprefix("0")
        if ours != text:
            found[cell] = ours
    return found


@pytest.mark.parametrize(
    ("edition", "printed_cells", "what"),
    [
        ("2019", PRINTED[ERRORS_2020], "the print of 2020"),
        ("2021", PRINTED[ERRORS_2021], "the notebook of 2021"),
    ],
)
def test_label_errors_agree(
    edition: Edition, printed_cells: Mapping[Cell, str], what: str, published: str, say: Say
) -> None:
    table = cifar_noisy.label_error_table(edition=edition)
    wrong = disagreeing(table, printed_cells)
    say(f"label errors, edition {edition}, {what}: {120 - len(wrong)} of {len(printed_cells)}")
    assert len(printed_cells) == 120
    assert wrong == {}
    assert f"edition {edition}" in table.rule


def test_the_other_edition_differs_in_two_cells(published: str) -> None:
    assert set(
        disagreeing(cifar_noisy.label_error_table(edition="2019"), PRINTED[ERRORS_2021])
    ) == {
        ("precision", "cl_pbc", Setting(0.2, 0)),
        ("recall", "cl_pbc", Setting(0.2, 0.6)),
    }


def test_accuracies_agree_at_the_last_epoch(
    published: str, by_rule: dict[str, Table], say: Say
) -> None:
    table = by_rule["last"]
    for group, name, number in (("coteaching", "kept", 60), ("all examples", "all", 24)):
        cells = {cell: text for cell, text in PRINTED[ACCURACY_2020].items() if cell[0] == group}
        wrong = disagreeing(table, cells)
        say(f"trained on {name} examples: {number - len(wrong)} of {len(cells)}")
        assert len(cells) == number
        assert wrong == {}


def test_other_rules_do_not_agree(published: str, by_rule: dict[str, Table]) -> None:
    """Hold that the agreement says something: the rule matters."""
    assert len(disagreeing(by_rule["best"], PRINTED[ACCURACY_2020])) > 50
    assert len(disagreeing(by_rule["last"], PRINTED[RESNET50], 100)) > 50


def test_resnet50_agrees_at_the_best_epoch(
    published: str, by_rule: dict[str, Table], say: Say
) -> None:
    table = by_rule["best"]
    with_log = {cell: text for cell, text in PRINTED[RESNET50].items() if cell != EMPTY_LOG}
    wrong = disagreeing(table, with_log, 100)
    exceptions = ", ".join(
        f"{cell[1]} at {cell[2]}: the log gives {ours}, upstream printed {with_log[cell]}"
        for cell, ours in wrong.items()
    )
    say(f"ResNet-50 on kept examples: {64 - len(wrong)} of {len(with_log)} ({exceptions})")
    assert len(with_log) == 64
    # Two machines' logs of this training were swapped; the printed maximum is that of a stray.
    assert wrong == {("resnet50", "argmax", Setting(0.7, 0.4)): "32.18"}


def test_what_is_missing_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR_NOISY_OFFLINE", "1")
    with pytest.raises(FileNotFoundError) as error:
        paper_tables()
    assert str(error.value).startswith("221 files (")
    assert "run cifar-noisy download where there" in str(error.value)
    with pytest.raises(FileNotFoundError, match=r"^60 files .* --kind train_mask --edition 2021"):
        label_error_table(edition="2021")
    with pytest.raises(FileNotFoundError, match=r"^161 files .* --kind training_log"):
        accuracy_table()
    with pytest.raises(
        FileNotFoundError, match=r"^5 files .* --noise 0.4 --sparsity 0.2 --edition"
    ):
        evaluate_published(0.4, 0.2)


def test_the_empty_log_is_missing_and_no_number(published: str, by_rule: dict[str, Table]) -> None:
    for table in by_rule.values():
        assert len(table.cells) == 161
        assert [cell for cell, value in table.cells.items() if value is None] == [EMPTY_LOG]
        assert list(table.missing) == [EMPTY_LOG]
        assert "0 bytes in upstream's repository" in table.missing[EMPTY_LOG]
        assert table.frame.isna().sum().sum() == 13 * 13 - 161 + 1


LOG = """
Epoch [1/2] Test Accuracy on the 10000 test data: Model1 50.0000 % Model2 70.0000 %
Epoch [2/2] Test Accuracy on the 10000 test data: Model1 40.0000 % Model2 30.0000 %
"""


@pytest.mark.parametrize(
    ("rule", "network", "accuracy"),
    [
        ("last", "max", 0.4), ("last", "first", 0.4),
        ("last", "second", 0.3), ("last", "mean", 0.35),
        ("best", "max", 0.7), ("best", "first", 0.5),
        ("best", "second", 0.7), ("best", "mean", 0.6),
    ],
)  # fmt: skip
def test_rules_by_hand(rule: Rule, network: Network, accuracy: float) -> None:
    found = cifar_noisy.accuracy_of_log(parse_training_log(LOG), rule=rule, network=network)
    assert found == pytest.approx(accuracy)


def test_a_cut_log_has_no_accuracy() -> None:
    with pytest.warns(cifar_noisy.TruncatedLogWarning):
        log = parse_training_log(LOG[:100])
    with pytest.raises(TrainingLogError, match="stops after epoch 1 of 2, so it has no accuracy"):
        cifar_noisy.accuracy_of_log(log, rule="best")


def test_unknown_choices() -> None:
    log = parse_training_log(LOG)
    with pytest.raises(UnknownArtifactError, match="rule 'latest' is unknown: did you mean last"):
        cifar_noisy.accuracy_of_log(log, rule="latest")  # type: ignore[arg-type]
    with pytest.raises(UnknownArtifactError, match="network 'both' is unknown"):
        cifar_noisy.accuracy_table(network="both")  # type: ignore[arg-type]
    with pytest.raises(UnknownArtifactError, match="edition '2020' is unknown"):
        cifar_noisy.label_error_table(edition="2020")  # type: ignore[arg-type]
    with pytest.raises(UnknownArtifactError, match="format 'html' is unknown"):
        cifar_noisy.format_tables([], "html")  # type: ignore[arg-type]


SMALL = Table(
    "Numbers", "by hand", "trained",
    {
        ("coteaching", "argmax", Setting(0.2, 0)): 0.12345,
        ("coteaching", "conf_joint_only", Setting(0.4, 0)): 0.5,
        ("resnet50", "argmax", Setting(0.2, 0)): None,
    },
    {("resnet50", "argmax", Setting(0.2, 0)): "it is empty, or so"},
    ("A note.",),
    decimals=3,
)  # fmt: skip


def test_text() -> None:
    assert cifar_noisy.format_tables([SMALL]).splitlines() == [
        "Numbers. Rule: by hand. Columns: noise/sparsity.",
        "trained            method         0.2/0    0.4/0",
        "-----------------  -----------  -------  -------",
        "Co-Teaching, kept  C_confusion    0.123        -",
        "                   C_y~,y*            -    0.500",
        "ResNet-50, kept    C_confusion  missing        -",
        "missing: it is empty, or so",
        "A note.",
    ]


def test_markdown() -> None:
    lines = cifar_noisy.format_tables([SMALL, SMALL], "markdown").splitlines()
    assert lines[2].replace(" ", "") == "|trained|method|0.2/0|0.4/0|"
    assert lines[4].replace(" ", "") == r"|Co-Teaching,kept|C\_confusion|0.123|-|"
    assert lines[:2] == ["Numbers. Rule: by hand. Columns: noise/sparsity.", ""]
    assert lines[7:10] == ["", "missing: it is empty, or so", "A note."]
    assert lines[11:] == lines[:10]


def test_latex() -> None:
    lines = cifar_noisy.format_tables([SMALL], "latex").splitlines()
    assert lines[0].startswith("% Numbers. Rule: by hand.")
    assert lines[1] == r"\begin{tabular}{llrr}"
    assert r"C\_y\textasciitilde{},y*" in lines[6]
    assert lines[-4:] == [
        r"\bottomrule", r"\end{tabular}", "% missing: it is empty, or so", "% A note."
    ]  # fmt: skip


def test_one_table_is_a_table() -> None:
    for form in FORMATS:
        assert cifar_noisy.format_tables(SMALL, form) == cifar_noisy.format_tables([SMALL], form)


NAMED = Table(
    "A title\nof *two* lines", "by_hand", "trained|on",
    {("a|b\n`c`", METHODS[0], Setting(0.2, 0)): 0.5},
    {}, ("100 % <b>\\input{x}\nof it",), decimals=1,
)  # fmt: skip


def test_names_in_markdown_are_no_markup() -> None:
    lines = cifar_noisy.format_tables(NAMED, "markdown").splitlines()
    assert lines[0] == r"A title of \*two\* lines. Rule: by\_hand. Columns: noise/sparsity."
    assert [re.split(r"(?<!\\)\|", line)[1:-1] for line in (lines[2], lines[4])] == [
        [r" trained\|on   ", " method       ", "   0.2/0 "],
        [r" a\|b \`c\`    ", r" C\_confusion ", "     0.5 "],
    ]
    assert lines[6:] == [r"100 % \<b\>\\input{x} of it"]


def test_names_in_latex_are_no_commands() -> None:
    lines = cifar_noisy.format_tables(NAMED, "latex").splitlines()
    assert lines[0].startswith("% A title of *two* lines.")
    assert lines[-1] == r"% 100 % <b>\input{x} of it"
    cell = "50 % of $x_1$ & \\more{}"
    row = dataclasses.replace(NAMED, cells={(cell, METHODS[0], Setting(0.2, 0)): 0.5})
    text = cifar_noisy.format_tables(row, "latex")
    assert r"50 \% of \$x\_1\$ \& \textbackslash{}more\{\} " in text


def test_a_method_of_ones_own_and_a_name_that_no_encoding_has() -> None:
    cells: Any = {("\udc80\x1b[2J", "my own", Setting(0.2, 0)): 0.5}
    for form in ("text", "markdown", "latex"):
        table = dataclasses.replace(NAMED, cells=cells)
        text = cifar_noisy.format_tables(table, form)
        assert "my own" in text
        assert "udc80" in text
        assert text.encode().isascii()
        assert "\x1b" not in text


@pytest.mark.parametrize("width", [80, 60, 40, 1])
def test_text_is_as_narrow_as_asked(width: int, published: str, by_rule: dict[str, Table]) -> None:
    table = by_rule["last"]
    wide = cifar_noisy.format_tables(table).splitlines()
    narrow = cifar_noisy.format_tables(table, width=width).splitlines()
    assert (narrow[0], narrow[-2:]) == (wide[0], wide[-2:])
    rows = [line for line in narrow[1:-2] if line]
    assert max(map(len, rows)) <= max(width, 42)  # the least: names and one column
    numbers = re.findall(r"0\.\d{3}", " ".join(narrow))
    assert sorted(numbers) == sorted(re.findall(r"0\.\d{3}", " ".join(wide)))
    assert len(numbers) == 160


def test_csv() -> None:
    rows = list(csv.DictReader(io.StringIO(cifar_noisy.format_tables([SMALL, SMALL], "csv"))))
    assert len(rows) == 6
    assert rows[0] == {
        "table": "Numbers", "edition": "", "rule": "by hand", "group": "coteaching",
        "method": "argmax", "paper_name": "C_confusion", "noise": "0.2", "sparsity": "0.0",
        "value": "0.12345", "missing": "",
    }  # fmt: skip
    assert (rows[2]["value"], rows[2]["missing"]) == ("", "it is empty, or so")


def test_the_command_states_its_rule(published: str) -> None:
    result = run("tables", "--rule", "best", "--network", "mean", "--edition", "2021")
    assert (result.returncode, result.stderr) == (0, "")
    assert "Rule: published train masks of edition 2021" in result.stdout
    assert "Rule: at the best epoch, which is chosen on the test set" in result.stdout
    assert "of two networks the mean" in result.stdout
    assert "mean of ten trials whose logs were never published" in result.stdout
    assert result.stdout.count(" missing ") == 1


def test_the_command_as_json(published: str) -> None:
    errors, accuracies = answer_of(run("tables", "--json").stdout, "tables")["tables"]
    assert (errors["edition"], accuracies["edition"]) == ("2019", None)
    assert {cell["paper_name"] for cell in errors["cells"]} == {
        "C_confusion", "C_y~,y*", "CL: PBC", "CL: PBNR", "CL: C+NR",
    }  # fmt: skip
    assert (len(errors["cells"]), len(accuracies["cells"])) == (240, 161)
    assert [cell["method"] for cell in accuracies["cells"] if cell["value"] is None] == ["cl_both"]
    assert {cell["method"] for cell in errors["cells"]} == set(METHODS)


@pytest.mark.parametrize(
    "arguments",
    [
        (option, "x", *others)
        for option in ("--rule", "--network", "--edition", "--method", "--format")
        for others in ((), ("--against", "print"))
    ]
    + [("--against", "x")],
)
def test_the_command_says_in_one_line_what_is_unknown(arguments: tuple[str, ...]) -> None:
    result = run("tables", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    assert f"{arguments[0].lstrip('-')} 'x' is unknown" in result.stderr


def test_filters_choose_cells(published: str) -> None:
    whole = {table.title: table for table in paper_tables()}
    for filters in (
        {"noise": 0.4},
        {"sparsity": 0.6},
        {"method": "cl_pbc"},
        {"method": "sceloss"},
        {"noise": 0},
        {"noise": Setting(0.7, 0.2), "method": "argmax"},
    ):
        setting = filters.get("noise")
        noise, sparsity = (
            (setting.noise, setting.sparsity)
            if isinstance(setting, Setting)
            else (setting, filters.get("sparsity"))
        )
        for table in paper_tables(**filters):
            expected = {}
            for (group, method, of), value in whole[table.title].cells.items():
                if noise is not None and of.noise != noise:
                    continue
                if sparsity is not None and of.sparsity != sparsity:
                    continue
                if filters.get("method") is not None and filters["method"] != method:
                    continue
                expected[group, method, of] = value
            assert expected
            assert list(table.cells.items()) == list(expected.items())
    assert len(paper_tables(method="sceloss")) == len(paper_tables(noise=0)) == 1
    with pytest.raises(UnknownArtifactError, match=r"noise '0.2' is not a number"):
        paper_tables(noise="0.2")  # type: ignore[arg-type]


def test_filters_fetch_only_what_they_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIFAR_NOISY_OFFLINE", "1")
    for function, filters, n_files in (
        (paper_tables, {"noise": 0.4, "sparsity": 0.2}, 5 + 13),
        (label_error_table, {"method": "cl_pbc"}, 12),
        (accuracy_table, {"method": "cl_pbc", "noise": 0}, 1),
        (compare_with_print, {"method": "argmax", "noise": 0.4, "sparsity": 0.6}, 2 + 2),
        (compare_with_print, {"edition": "2019", "noise": 0.2, "method": "sceloss"}, 4),
    ):
        with pytest.raises(FileNotFoundError) as error:
            function(**filters)
        n_absent = re.match(r"(\d+) files|.*", str(error.value))
        assert n_absent is not None
        assert n_absent[1] == (str(n_files) if n_files > 1 else None), str(error.value)


@pytest.mark.parametrize(
    "filters", [{"noise": 0.9}, {"noise": 0, "method": "sceloss"}, {"noise": 0, "sparsity": 0.2}]
)
def test_filters_that_leave_nothing(filters: dict[str, Any]) -> None:
    for function in (paper_tables, accuracy_table, compare_with_print):
        with pytest.raises(UnknownArtifactError, match="leave one of them out"):
            function(**filters)
    with pytest.raises(UnknownArtifactError, match="leave one of them out"):
        label_error_table(noise=0)


def test_what_was_printed_is_compared_cell_by_cell(published: str, say: Say) -> None:
    """Hold the comparison to a loop of its own over the tables."""
    found = compare_with_print()
    tables = {
        ERRORS_2020: (label_error_table(edition="2019"), 1),
        ERRORS_2021: (label_error_table(edition="2021"), 1),
        ACCURACY_2020: (accuracy_table(rule="last"), 1),
        RESNET50: (accuracy_table(rule="best"), 100),
        FINAL: (accuracy_table(rule="best"), 100),
    }
    for compared in found.prints:
        table, factor = tables[compared.name]
        wrong = disagreeing(table, PRINTED[compared.name], factor)
        say(f"{compared.name}: {compared.n_agreeing} of {len(compared.cells)}")
        assert (compared.edition, compared.rule) == (table.edition, table.rule)
        assert {
            (cell.group, cell.method, cell.setting): cell.recomputed for cell in compared.differing
        } == wrong
        for cell in compared.cells:
            key = (cell.group, cell.method, cell.setting)
            assert (cell.printed, cell.value) == (PRINTED[compared.name][key], table.cells[key])
            assert cell.agrees == (cell.reason is None)
    assert [(p.n_agreeing, len(p.cells)) for p in found.prints] == [
        (120, 120), (120, 120), (84, 84), (63, 65), (0, 60),
    ]  # fmt: skip
    # Typed from the places that printed them.
    spots = {
        (FINAL, "coteaching", "argmax", Setting(0.2, 0)): "89.64",
        (FINAL, "coteaching", "cl_pbnr", Setting(0.7, 0.6)): "36.37",
        (RESNET50, "resnet50", "argmax", Setting(0, 0)): "88.05",
        (ACCURACY_2020, "all examples", "sceloss", Setting(0.7, 0.6)): ".240",
        (ERRORS_2020, "precision", "cl_pbc", Setting(0.2, 0)): ".64",
        (ERRORS_2021, "precision", "cl_pbc", Setting(0.2, 0)): ".63",
    }
    printed = {
        (p.name, c.group, c.method, c.setting): c.printed for p in found.prints for c in p.cells
    }
    assert spots.items() <= printed.items()


def test_reasons_of_what_differs(published: str) -> None:
    found = compare_with_print(edition="2019", rule="last", network="first")
    by_name = {compared.name: compared for compared in found.prints}
    assert [(cell.group, cell.setting) for cell in by_name[ERRORS_2021].differing] == [
        ("precision", Setting(0.2, 0)), ("recall", Setting(0.2, 0.6)),
    ]  # fmt: skip
    assert {cell.reason for cell in by_name[ERRORS_2021].differing} == {
        "the print follows edition 2021"
    }
    assert {cell.reason for cell in by_name[ACCURACY_2020].differing} == {
        "the print takes the better network"
    }
    reasons = {cell.reason for cell in by_name[RESNET50].differing}
    assert len(reasons) == 2
    assert "the print follows the rule 'best'" in reasons
    assert any("0 bytes in upstream" in str(reason) for reason in reasons)
    assert {cell.reason for cell in by_name[FINAL].differing} == {TEN_TRIALS}


def test_a_comparison_in_all_its_forms(published: str) -> None:
    found = compare_with_print(noise=0.7, method="argmax")
    lines = str(found).splitlines()
    assert lines[0] == "All prints together: 23 of 28 cells agree."
    assert "test accuracy of ResNet-50: 3 of 4 cells agree" in lines
    assert re.search(r"^ResNet-50, kept  C_confusion  printed .* 32\.84 ", str(found), re.MULTILINE)
    assert re.search(r"^ {15,}recomputed .* 32\.18\* ", str(found), re.MULTILINE)
    assert sum("printed 32.84, recomputed 32.18: two machines" in line for line in lines) == 1
    assert lines[-1].startswith("Not compared: the rows INCV, Mixup,")
    frame = found.frame
    assert len(frame) == len(found.cells) == 28
    assert frame.agrees.sum() == 23
    values = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert (values["n_cells"], values["n_agreeing"], len(values["prints"])) == (28, 23, 5)
    assert format_tables([found, *paper_tables(noise=0.7)]).startswith(str(found))
    rows = list(csv.DictReader(io.StringIO(format_tables(found, "csv"))))
    assert [row["printed"] for row in rows] == [cell.printed for cell in found.cells]
    assert {row["paper_name"] for row in rows} == {"C_confusion"}
    for form in ("markdown", "latex"):
        assert "cifar10\\_benchmarks.png" in format_tables(found, "markdown")
        assert "32.18" in format_tables(found, form)
    narrow = format_tables(found, width=60).splitlines()
    assert max(len(line) for line in narrow if line.startswith(("-", " "))) <= 60


def test_the_command_against_print(published: str, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("tables", "--against", "print", "--method", "cl_both", "--noise", "0.2")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("All prints together: 23 of 28 cells agree.\n")
    monkeypatch.setattr(printed_module, "_KNOWN", {})
    words = ["tables", "--against", "print", "--method", "argmax", "--noise", "0.7"]
    ended = CliRunner().invoke(app, words)
    assert ended.exit_code == 1
    assert "recomputed 32.18: the reason is not known" in ended.stdout
