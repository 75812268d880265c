"""Cells, layout and formats of tables of runs, from logs made by hand."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from results.gathering import Gathered, plan
from results.reported import ReportedValue
from results.requests import parse
from results.sources.logs import LoggedRun, Logs
from results.tables.by_name import make_table
from results.tables.cells import Cell, Table, fill, lines
from results.tables.flop_columns import FlopsOfRuns
from results.tables.layout import lay_out, number
from results.tables.render import html, latex, lines_csv, markdown
from sparse_rnn.tables.catalogue import Catalogue
from sparse_rnn.tables.declaration import load
from sparse_rnn.tables.expansion import PlannedRun
from sparse_rnn.tables.run_facts import RunFacts

ENVIRONMENT = {"commit": "0123456789abcdef", "modified": False, "host": "here"}
NOON = 1_790_000_000.0


def facts(overrides: Sequence[str], budget: str = "paper") -> RunFacts:
    """What a run would be; its id names its overrides."""
    chosen = dict(override.split("=") for override in overrides)
    names = {
        "model": "stacked_lstm",
        "dataset": "ptb",
        "sparsifier": "selfish",
        "growth": "random",
        "optimizer": "snt_asgd",
        "recipe": "none",
        "protocol": "official_code",
        "budget": budget,
    }
    config: dict[str, Any] = {group: {"name": chosen.get(group, name)} for group, name in names.items()}
    config["sparsifier"] |= {"initial": "uniform", "redistribution": "gates", "schedule": "cosine"}
    config["seed"] = int(chosen["seed"])
    return RunFacts(" ".join(overrides), config, 1000, 33.0, 3.3, 0.33, 0.33)


def logged(run_id: str, config: Mapping[str, Any], scores: Mapping[str, float], **more: Any) -> LoggedRun:
    """A finished run with the scores given as `valid` and `test`."""
    final = {
        "step": 10,
        "epoch": 2,
        "best/valid/loss": 1.0,
        **{f"best/{split}/perplexity": value for split, value in scores.items()},
        "best/active_parameters": 21_814_000,
        "averaging/trigger_epoch": 1,
        "averaging/forced": 0.0,
        "best/averaged": 1,
        "clock/finished": NOON,
        **more,
    }
    final = {key: value for key, value in final.items() if value is not None}
    provenance = {"environment": ENVIRONMENT, "device": "cpu"}
    return LoggedRun(run_id, config, provenance, "finished", final, "there", list)


def gathered_for(
    name: str, tests: Mapping[tuple[str, int], float | None], overrides: tuple[str, ...] = (), **more: Any
) -> Gathered:
    """A table whose runs have these test perplexities by row and seed; None: the run failed."""
    spec = load(name)
    budget = dict(each.split("=") for each in overrides).get("budget", "paper")
    planned, runs = [], {}
    for block in spec.blocks:
        for row in block.rows:
            for seed in spec.seeds if not row.reported else ():
                own = facts([*spec.common, *block.common, *row.overrides, f"seed={seed}"], budget)
                planned.append(PlannedRun(name, block.label, row.label, None, seed, (), own))
                if (row.label, seed) in tests:
                    test = tests[row.label, seed]
                    log = logged(own.run_id, own.config, {"valid": (test or 0) + 2, "test": test or 0}, **more)
                    if test is None:
                        log = LoggedRun(own.run_id, own.config, {}, "failed", None, "there", list)
                    runs[own.run_id] = log
    return Gathered(spec, planned, Logs("runs", runs), overrides, as_declared=not overrides)


OURS, MAGNITUDE = "Ours", "Mean of the magnitude of nonzero weights"
GRADIENT = "Mean of the gradient magnitude of nonzero weights"
THREE = {(OURS, 1): 71.0, (OURS, 2): 72.0, (OURS, 3): 73.0, (MAGNITUDE, 1): 72.5, (MAGNITUDE, 3): 73.5}


@pytest.fixture(autouse=True)
def own_runs(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SPARSE_RNN_RUNS", str(tmp_path))


def cell_of(table: Table, row: str, column: str) -> Cell:
    [found] = [c for b in table.blocks for r in b.rows if r.label == row for c in r.cells if c.column == column]
    return found


def page(gathered: Gathered) -> str:
    return markdown(lay_out(fill(gathered, FlopsOfRuns(gathered.planned)), None, "python -m results table x"))


def test_mean_std_seeds_ids_and_the_best() -> None:
    table = fill(gathered_for("table6", THREE), FlopsOfRuns([]))
    ours, other = cell_of(table, OURS, "test"), cell_of(table, MAGNITUDE, "test")
    assert (ours.mean, ours.std, ours.best, ours.complete) == (72.0, 1.0, True, True)
    assert (other.mean, other.std, other.best, other.complete) == (73.0, pytest.approx(0.5**0.5), False, False)
    assert [run_id[-6:] for run_id in other.run_ids] == ["seed=1", "seed=3"]
    assert cell_of(table, GRADIENT, "test").mean is None
    assert not cell_of(table, OURS, "parameters").best
    text = page(gathered_for("table6", THREE))
    assert "**72.00 ± 1.00**" in text
    assert "73.00 ± 0.71 (2/3 seeds)" in text
    assert "missing" in text
    assert "21.8M" in text


# Ours leads by 0.5 ± 0.1 and by 1, 0 and 2: of three seeds, t is 4.303.
CLOSE = {
    **{(OURS, seed): value for seed, value in ((1, 71.0), (2, 72.0), (3, 73.0))},
    **{(MAGNITUDE, seed): value for seed, value in ((1, 71.4), (2, 72.5), (3, 73.6))},
    **{(GRADIENT, seed): value for seed, value in ((1, 72.0), (2, 72.0), (3, 75.0))},
}


def bold(tests: Mapping[tuple[str, int], float | None], how: str) -> list[bool]:
    table = fill(gathered_for("table6", tests), FlopsOfRuns([]), how)
    return [cell_of(table, row, "test").best for row in (OURS, MAGNITUDE, GRADIENT)]


def test_bold_is_the_best_mean_or_all_that_cannot_be_told_from_it() -> None:
    assert bold(CLOSE, "mean") == [True, False, False]
    assert bold(CLOSE, "significant") == [True, False, True]
    text = markdown(lay_out(fill(gathered_for("table6", CLOSE), FlopsOfRuns([]), "significant"), None, "made"))
    assert "- Bold: the best mean of its block, and all that cannot be told from it" in text
    assert "**73.00 ± 1.73**" in text


@pytest.mark.parametrize(
    "tests",
    [
        {(OURS, 1): 71.0, (MAGNITUDE, 1): 99.0},
        {(OURS, 1): 71.0, (OURS, 2): 72.0, (MAGNITUDE, 3): 99.0},
        {(OURS, 1): 71.0, (OURS, 2): 72.0, (MAGNITUDE, 1): 71.5, (MAGNITUDE, 2): 72.4},
    ],
    ids=["one seed", "no seed in common", "two seeds that agree too little"],
)
def test_nothing_is_bold_where_nothing_can_be_told_apart(tests: Mapping[tuple[str, int], float | None]) -> None:
    assert bold(tests, "significant") == [False, False, False]
    text = markdown(lay_out(fill(gathered_for("table6", tests), FlopsOfRuns([]), "significant"), None, "made"))
    assert "- Nothing is bold: " in text


def test_a_diverged_run_is_never_among_the_best() -> None:
    tests = CLOSE | {(GRADIENT, 2): float("inf")}
    assert bold(tests, "significant") == [True, False, False]


def test_the_papers_number_stands_beside_and_is_marked_where_it_is_far() -> None:
    near = {(OURS, seed): 71.65 + away for seed, away in ((1, -0.1), (2, 0.0), (3, 0.1))}
    far = {(OURS, seed): 73.0 + away for seed, away in ((1, -0.1), (2, 0.0), (3, 0.1))}
    two = {(OURS, 1): 73.0, (OURS, 2): 73.1}
    marked = [
        cell_of(fill(gathered_for("table6", each), FlopsOfRuns([])), OURS, "test").outside for each in (near, far, two)
    ]
    assert marked == [False, True, False]
    assert "73.00 ± 0.10†" in page(gathered_for("table6", far))
    assert "71.65" in page(gathered_for("table6", {}))


@pytest.mark.parametrize("overrides", [("budget=reduced",), ("protocol=paper",), ("training.epochs=5",)])
def test_other_sizes_and_protocols_are_never_set_against_the_papers(overrides: tuple[str, ...]) -> None:
    gathered = gathered_for("table6", {(OURS, seed): 100.0 + seed / 10 for seed in (1, 2, 3)}, overrides)
    table = fill(gathered, FlopsOfRuns([]))
    assert not table.gathered.comparable
    assert not cell_of(table, OURS, "test").outside
    text = page(gathered)
    assert "paper (full size)" in text
    assert "Not comparable with the paper's numbers: " in text
    assert overrides[0].replace("budget=", "budget ") in text
    assert "†" not in text


@pytest.mark.parametrize(
    ("overrides", "same"),
    [
        (["device=cpu", "logger=files", "checkpoint.keep=last"], True),
        (["budget=paper"], True),
        (["protocol=official_code"], True),
        (["protocol=paper"], False),
        (["budget=reduced"], False),
    ],
)
def test_overrides_that_change_no_run_leave_it_as_declared(overrides: list[str], same: bool, tmp_path) -> None:
    assert plan("table6", Catalogue(tmp_path), overrides=overrides).as_declared is same


def test_an_override_that_changes_a_later_block_is_noticed(tmp_path) -> None:
    catalogue = Catalogue(tmp_path)
    assert not plan("figure5", catalogue, overrides=["optimizer=snt_asgd"]).as_declared


def test_a_run_with_other_values_than_are_asked_for_is_no_result(tmp_path) -> None:
    gathered = plan("table6", Catalogue(tmp_path), seeds=[1])
    first, second, third = gathered.planned
    stale = {**second.facts.config, "training": {**second.facts.config["training"], "epochs": 7}}
    configs = {first.run_id: first.facts.config, second.run_id: stale}
    logs = Logs("runs", {each: logged(each, config, {"valid": 2.0, "test": 1.0}) for each, config in configs.items()})
    with_logs = gathered.with_logs(logs)
    assert [run.run_id for run in with_logs.missing] == [second.run_id, third.run_id]
    assert with_logs.logs.problems == (
        f"{second.run_id} is stale: it was trained with other values of training.epochs.",
    )


def test_runs_that_failed_and_runs_that_never_averaged_say_so() -> None:
    failed = gathered_for("table6", {(OURS, 1): None})
    assert cell_of(fill(failed, FlopsOfRuns([])), OURS, "test").failed == 1
    assert "failed" in page(failed)
    never = {"averaging/trigger_epoch": None, "averaging/forced": None}
    assert "72.00 ± 1.00 (no averaging)" in page(gathered_for("table6", THREE, **never))
    one = {place: value for place, value in THREE.items() if place[0] == OURS}
    assert "72.00 ± 1.00 (averaging forced)" in page(gathered_for("table6", one, **{"averaging/forced": 1.0}))
    everywhere = page(gathered_for("table6", THREE, **{"averaging/forced": 1.0}))
    assert "72.00 ± 1.00**" in everywhere
    assert "- Averaging forced in every run that averages: the trigger had not fired" in everywhere
    assert "72.00 ± 1.00 (not averaged)" in page(gathered_for("table6", THREE, **{"best/averaged": 0}))
    assert "averag" not in page(gathered_for("table6", THREE)).lower()


def test_blocks_that_stand_side_by_side_and_rows_of_the_literature() -> None:
    text = page(gathered_for("table5", {("Selfish-RNN", 1): 71.0}))
    [heading] = [line for line in text.splitlines() if "Stacked LSTM" in line]
    assert "RHN" in heading
    assert "AWD-LSTM-MoS" in heading
    dense = next(line for line in page(gathered_for("table2", {})).splitlines() if line.startswith("| Dense*"))
    assert [field.strip() for field in dense.split("|")[2:6]] == ["-", "66.0M", "-", "82.57"]


def test_flops_are_shares_of_the_largest_dense_model() -> None:
    rows = {("Static-ER (SNT-ASGD)", seed): 74.0 for seed in (1, 2, 3)}
    gathered = gathered_for("table9", rows)
    flops = FlopsOfRuns(gathered.planned)
    assert flops.dense["stacked_lstm", "ptb"] == {
        "flops_train": pytest.approx(100.0),
        "flops_test": pytest.approx(10.0),
    }
    [planned] = [run for run in gathered.planned if run.row == "Static-ER (SNT-ASGD)" and run.seed == 1][:1]
    assert flops.ratio("flops_train", planned, gathered.logs.runs[planned.run_id]) == pytest.approx(0.33)


def test_csv_has_a_line_a_cell_with_its_runs() -> None:
    read = list(csv.DictReader(io.StringIO(lines_csv(lines(fill(gathered_for("table6", THREE), FlopsOfRuns([])))))))
    assert len(read) == 3 * 3
    [ours] = [line for line in read if (line["row"], line["column"]) == (OURS, "test")]
    assert (ours["mean"], ours["n"], ours["seeds"], ours["paper"], ours["best"]) == ("72.0", "3", "3", "71.65", "True")
    assert ours["run_ids"].count("seed=") == 3


def test_every_format_has_every_number() -> None:
    gathered = gathered_for("table6", THREE)
    grid = lay_out(fill(gathered, FlopsOfRuns([])), None, "make table6")
    for text, plus_minus in ((markdown(grid), "±"), (latex(grid), r"$\pm$"), (html(grid).replace("\u00a0", " "), "±")):
        assert f"72.00 {plus_minus} 1.00" in text
        assert f"73.00 {plus_minus} 0.71 (2/3 seeds)" in text
        assert "71.65" in text
        assert "0123456" in text
        assert "2026-09-21" in text


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("parameters", 21_814_000, "21.8M"),
        ("parameters", 48_713, "0.049M"),
        ("test", 71.654, "71.65"),
        ("test", 12_345_678.0, "1.23e7"),
        ("valid", 0.5, "0.50"),
        ("test", float("inf"), "inf"),
        ("flops_train", 0.33274, "0.333x"),
        ("flops_test", float("nan"), "unknown"),
    ],
)
def test_numbers_as_their_columns_show_them(column: str, value: float, text: str) -> None:
    assert number(column, value) == text


def test_outside_needs_three_seeds_and_a_deviation() -> None:
    cell = Cell("test", {1: 1.0, 2: 1.0, 3: 1.0}, expected=3, reported=ReportedValue("2", 2.0))
    assert cell.std == 0.0
    assert cell.outside
    assert not Cell("parameters", {1: 1.0, 2: 1.0, 3: 1.0}, expected=3, reported=ReportedValue("2", 2.0)).outside


def test_the_footer_says_how_to_make_it_again() -> None:
    request = parse("table", ["table6", "budget=reduced", "seeds=1,2", "--source", "records"])
    grid = make_table("table6", gathered_for("table6", {}), request.again("table", "table6")).grid
    assert grid.footer[-1] == "Made by: python -m results table table6 budget=reduced seeds=1,2 --source records"


def test_the_footer_names_precision_and_device() -> None:
    gathered = gathered_for("table6", {(OURS, 1): 71.0, (OURS, 2): 72.0})
    one = next(iter(gathered.logs.runs.values()))
    environment = ENVIRONMENT | {"device_name": "NVIDIA H100 80GB HBM3"}
    on_gpu = {"environment": environment, "device": "cuda:0"}
    gathered.logs.runs[one.run_id] = replace(one, config={**one.config, "precision": "tf32"}, provenance=on_gpu)
    assert "\nComputed: fp32 on CPUs, tf32 on NVIDIA H100 80GB HBM3  \n" in page(gathered)


def test_of_accuracies_the_highest_is_the_best_in_whatever_column() -> None:
    more = {"best/test/accuracy": 0.8, "best/valid/accuracy": 0.7}
    gathered = gathered_for("table6", {(OURS, 1): 1.0, (MAGNITUDE, 1): 1.0}, **more)
    [worse] = [log for run_id, log in gathered.logs.runs.items() if "gate_magnitude" in run_id]
    assert worse.final is not None
    object.__setattr__(worse, "final", {**worse.final, "best/test/accuracy": 0.6})
    table = fill(gathered, FlopsOfRuns([]))
    assert cell_of(table, OURS, "test").best
    assert not cell_of(table, MAGNITUDE, "test").best
    assert "**80.00%" in page(gathered)


def test_an_infinite_perplexity_hides_no_other_row() -> None:
    gathered = gathered_for(
        "table6", {(OURS, 1): float("inf"), (OURS, 2): 70.0, (MAGNITUDE, 1): 90.0, (GRADIENT, 1): 80.0}
    )
    table = fill(gathered, FlopsOfRuns([]))
    assert cell_of(table, OURS, "test").std is None
    assert [cell_of(table, row, "test").best for row in (OURS, MAGNITUDE, GRADIENT)] == [False, False, True]
    assert "inf (2/3 seeds)" in page(gathered)


def test_bands_of_different_width_are_laid_out_with_their_own_labels() -> None:
    gathered = gathered_for("table5", {})
    first, second, third, _ = gathered.spec.blocks
    spec = replace(gathered.spec, blocks=(first, replace(second, beside=False), replace(third, beside=True)))
    text = page(replace(gathered, spec=spec))
    assert "**Stacked LSTM**" in text
    assert "**RHN \\| ON-LSTM**" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in rows}) == 1
