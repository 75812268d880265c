"""The papers' numbers: a line for every row of every table, as printed, and nothing read that is wrong."""

import csv
import os
from pathlib import Path

import pytest

from results.gathering import PAPERS
from results.reported import (
    FILES,
    FOLDER,
    KEYS,
    PRINTED,
    Claim,
    ReportedRow,
    ReportedValue,
    claims,
    read_rows,
    reported,
)
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.tables.declaration import load, names

TABLES = [name for name in names("table") if load(name).source.startswith(PAPERS)]
OF_OTHERS = ("sequences",)  # tables of our own, with some numbers of other papers
REFERENCE = os.environ.get("SPARSE_RNN_REFERENCE")
REFERENCE_FILES = {"": "selfish_rnn_icml2021.csv", "st_": "st_rnn_ncaa2021.csv"}
REFERENCE_COLUMNS = {"valid": "val_ppl", "test": "test_ppl", "flops_train": "flops_train", "flops_test": "flops_test"}
MISSING = "st_table7"


def labels(table: str) -> list[tuple[str, str]]:
    return [(block.label, row.label) for block in load(table).blocks for row in block.rows]


@pytest.mark.parametrize("table", TABLES)
def test_every_row_of_a_table_has_a_line_and_every_line_a_row(table: str) -> None:
    assert sorted(reported(table)) == sorted(labels(table))


def test_only_tables_have_lines() -> None:
    assert {table for file in FILES for table in read_rows(FOLDER / file)} == {*TABLES, *OF_OTHERS}


@pytest.mark.parametrize("table", OF_OTHERS)
def test_every_line_of_other_papers_is_a_row_of_a_table_of_our_own(table: str) -> None:
    assert set(reported(table)) <= set(labels(table))


@pytest.mark.parametrize("table", [table for table in TABLES if table != MISSING])
def test_every_line_has_a_number_for_every_column_of_its_table(table: str) -> None:
    columns = set(load(table).columns) & set(PRINTED)
    assert [key for key, row in reported(table).items() if not columns <= set(row.values)] == []


def test_the_table_without_a_body_says_so_in_every_row() -> None:
    rows = reported(MISSING).values()
    assert len(rows) == 8
    assert {row.note for row in rows if not row.values} == {
        "Not available: the source of these numbers lacks the body of the table."
    }


def test_values_keep_their_digits() -> None:
    row = reported("table2")["Stacked LSTM", "Dense (NT-ASGD)"]
    assert row == ReportedRow(
        {
            "parameters": ReportedValue("66.0M", 66e6),
            "valid": ReportedValue("74.51", 74.51),
            "test": ReportedValue("72.40", 72.4),
        },
        None,
        "",
        "Selfish-RNN (ICML 2021), Table 2",
    )


def test_means_have_their_deviation_and_number_of_runs() -> None:
    row = reported("table7")["ON-LSTM", "Selfish-RNN1000 (SNT-ASGD)"]
    assert row.values["test"] == ReportedValue("56.31 ± 0.10", 56.31, 0.1)
    assert row.runs == 5


def test_accuracies_are_shares_as_in_the_logs() -> None:
    row = reported("st_table5")["AG", "ST-LSTM"]
    assert row.values["accuracy"] == ReportedValue("90.9% ± 0.20%", 0.909, 0.002)


def test_flops_are_ratios_and_the_note_has_the_number() -> None:
    row = reported("table9")["RHN", "Dense*"]
    assert row.values["flops_train"] == ReportedValue("1x", 1.0)
    assert row.note == "From Zilly et al. (2017). 1x is 6.5e16 FLOPs in training and 3.3e10 in the test."


def test_table_9_has_the_perplexities_of_table_2() -> None:
    for key, row in reported("table2").items():
        again = reported("table9")[key]
        assert {**again.values, **row.values} == again.values


@pytest.mark.parametrize(
    ("table", "block", "row", "other"),
    [
        ("table2", "Stacked LSTM, sparsity 0.67", "GMP (SNT-ASGD)", ("table3", "SNT-ASGD", "SET")),
        ("table2", "RHN, sparsity 0.53", "Small dense (NT-ASGD)", ("st_table3", "Sparsity 0.528", "Small dense")),
    ],
)
def test_doubtful_twins_are_marked(table: str, block: str, row: str, other: tuple[str, str, str]) -> None:
    one, two = reported(table)[block, row], reported(other[0])[other[1:]]
    assert [one.values[split].value for split in ("valid", "test")] == [
        two.values[split].value for split in ("valid", "test")
    ]
    assert one.note.startswith("Equals")
    assert two.note.startswith("Equals")


def test_other_tables_have_no_lines() -> None:
    assert reported("figure6") == {}
    assert reported("of_my_own") == {}


def test_claims_stand_at_a_row_of_their_figure() -> None:
    with (FOLDER / "claims.csv").open(encoding="utf-8") as file:
        figures = sorted({line["figure"] for line in csv.DictReader(file)})
    assert figures == ["figure3", "figure4", "figure6", "figure7", "st_figure2", "st_figure3"]
    for figure in figures:
        assert {(claim.block, claim.row) for claim in claims(figure)} <= set(labels(figure))


def test_claims_of_figure_6() -> None:
    found = claims("figure6")
    assert [claim.value for claim in found] == [0.25, 0.4, 0.45, 0.4]
    what = "share of parameters that reaches the dense model"
    assert found[0] == Claim("Sparsity", "Stacked LSTM", what, 0.25, "Selfish-RNN (ICML 2021), section 5.4")
    assert claims("figure5") == ()


GOOD = {"table": "t", "block": "b", "row": "r", "test": "72.40", "source": "a paper, Table 1"}


def written(path: Path, *lines: dict[str, str]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, KEYS)
        writer.writeheader()
        writer.writerows(lines)
    return path


def test_a_line_is_read(tmp_path: Path) -> None:
    rows = read_rows(written(tmp_path / "paper.csv", GOOD))
    assert rows == {
        "t": {("b", "r"): ReportedRow({"test": ReportedValue("72.40", 72.4)}, None, "", "a paper, Table 1")}
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"row": ""}, "line 2: row is empty"),
        ({"source": ""}, "line 2: source is empty"),
        ({"test": "72,4"}, "test=72,4 must be a number like"),
        ({"test": "-1"}, "test=-1 must be a number like"),
        ({"parameters": "21.8 M"}, "parameters=21.8 M must be a number like"),
        ({"accuracy": "0.778"}, "accuracy=0.778 must be in per cent"),
        ({"test_std": "about 1"}, "test_std=about 1 must be a number like"),
        ({"valid_std": "0.1"}, "valid_std needs valid"),
        ({"test": ""}, "has no number: say why in its note"),
        ({"runs": "0"}, "runs=0 must be a whole number of at least 1"),
        ({"runs": "five"}, "runs=five must be a whole number of at least 1"),
    ],
)
def test_wrong_lines_are_refused(tmp_path: Path, change: dict[str, str], message: str) -> None:
    path = written(tmp_path / "paper.csv", {**GOOD, **change})
    with pytest.raises(ConfigError) as refused:
        read_rows(path)
    assert str(refused.value).startswith(f"{path}, line 2")
    assert message in str(refused.value)


def test_a_row_that_stands_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 3: t has this row of this block already"):
        read_rows(written(tmp_path / "paper.csv", GOOD, {**GOOD, "test": "70"}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the columns must be table,block"),
        ("table,block,row\n", "the columns must be table,block"),
        (",".join(KEYS) + "\nt,b,r\n", "line 2 has 3 fields instead of 15"),
        (",".join(KEYS) + '\n"t,b\n', "cannot be read as CSV"),
    ],
)
def test_files_that_are_no_such_csv_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "paper.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_rows(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_rows(tmp_path / "none.csv")


ALIASES = {
    "Mean of the magnitude of nonzero weights": "Selfish-RNN / redistribution by mean |w| of nonzeros",
    "Mean of the gradient magnitude of nonzero weights": "Selfish-RNN / redistribution by mean |grad| of nonzeros",
    "Ours": "Selfish-RNN / Ours",
    "w/o cell gate redistribution": "Selfish-RNN w/o cell gate redistribution",
    "w/o Sparse NT-ASGD": "Selfish-RNN w/o SNT-ASGD",
}


def same_method(method: str, label: str) -> bool:
    def short(text: str) -> str:
        return text.replace(" ", "").replace(",", "").rstrip("*").lower()

    return method == ALIASES.get(label) or short(label).startswith(short(method).removesuffix("-lstm"))


def transcribed(line: dict[str, str]) -> tuple[float | None, ...]:
    """The numbers of a line of the reference, in the order of `printed`."""
    numbers = [line[name].partition("x")[0] for name in REFERENCE_COLUMNS.values()]
    std = [line["val_std"], line["test_std"]]
    return tuple(float(number) if number else None for number in [*numbers, line["accuracy"], *std, line["n_runs"]])


def printed(row: ReportedRow) -> tuple[float | None, ...]:
    values = [row.values.get(column) for column in (*REFERENCE_COLUMNS, "accuracy")]
    numbers = [value and value.value for value in values]
    valid, test, *_, accuracy = values
    stds = [valid and valid.std, test and test.std]
    if accuracy:
        numbers[-1] = round(100 * accuracy.value, 6)
        stds[1] = accuracy.std and round(100 * accuracy.std, 6)
    return (*numbers, *stds, row.runs)


@pytest.mark.skipif(not REFERENCE, reason="SPARSE_RNN_REFERENCE names no folder of transcribed tables")
@pytest.mark.parametrize("table", [table for table in TABLES if table != MISSING])
def test_lines_equal_an_independent_transcription(table: str) -> None:
    file = REFERENCE_FILES["st_" if table.startswith("st_") else ""]
    with (Path(str(REFERENCE)) / file).open(encoding="utf-8") as opened:
        number = table.removeprefix("st_").removeprefix("table")
        lines = [line for line in csv.DictReader(opened) if line["table"] == f"Table {number}"]
    rows = reported(table)
    assert len(rows) == len(lines)
    for (_, label), row in rows.items():
        same = [line for line in lines if transcribed(line) == printed(row) and same_method(line["method"], label)]
        assert same, (label, row)
        if "parameters" in row.values:
            assert float(same[0]["params_M"]) * 1e6 == pytest.approx(row.values["parameters"].value)
        lines.remove(same[0])
