"""The public record: the clock, the rules, and the page that is made of the logs."""

import json
import os
import sys

import pytest

from benchmarks.record import __main__ as command
from benchmarks.record import clock
from benchmarks.record.clock import facts, first_reached, measure
from benchmarks.record.entries import arguments, check_rules, load_entries
from benchmarks.record.page import LOGS, NOTHING, PAGE, rewritten, table
from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import as_dict
from sparse_rnn.core.errors import ConfigError, RunFailed

pytestmark = pytest.mark.documented

SMOKE = ["dataset=pydoc", "budget=smoke", "sparsifier=set", "sparsifier.backend=masked", "threads=1"]
CONFIG = {
    "dataset": {"name": "ptb"},
    "training": {"valid_batch": 10},
    "budget": {"train_tokens": None, "eval_tokens": None},
    "threads": 2,
    "device": "cpu",
}
RECORD = {
    "config": CONFIG,
    "status": "stopped",
    "data_sha256": "",
    "parameters": 1200,
    "active_parameters": 450,
    "sparsity": 0.75,
    "threads": 2,
    "environment": {"device_name": "a processor", "commit": "0123456789abcdef", "modified": False},
}


def rows(*perplexities, sparsity=0.75):
    """An epoch's last row for each perplexity, after one of training loss alone."""
    epochs = enumerate(perplexities, start=1)
    return [{"step": 1, "epoch": 1, "train/loss_recent": 7.0}] + [
        {"step": 10 * k, "epoch": k, "valid/perplexity": value, "sparsity/model": sparsity} for k, value in epochs
    ]


@pytest.fixture
def write(tmp_path):
    """Write the log of one run by hand; returns the folder of all logs."""

    def written(name="sparse", seed=1, seconds=(100.0, 140.0), perplexities=(130.0, 118.0, 109.0), **changes):
        folder = tmp_path / "logs" / name / f"run-s{seed}"
        folder.mkdir(parents=True)
        times = {target: s for target, s in zip((120, 110), seconds, strict=True) if s}
        log = {"entry": name, "overrides": ["model=rhn"], "seed": seed, "load": 0.1}
        log |= facts(RECORD, rows(*perplexities), (120, 110), times) | changes
        (folder / "record.json").write_text(json.dumps(RECORD))
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(*perplexities)))
        (folder / "time.json").write_text(json.dumps(log))
        return tmp_path / "logs"

    return written


@pytest.mark.parametrize(("target", "epoch"), [(120, 2), (118.0, 2), (117.9, 3), (101, None)])
def test_the_first_row_at_or_under_a_target_counts(target, epoch):
    row = first_reached(rows(130.0, 118.0, 110.0, 119.0), target)
    assert (row and row["epoch"]) == epoch


def test_a_target_never_reached_has_no_time():
    targets = facts(RECORD, rows(130.0, 118.0), (120, 110), {120: 81.26})["targets"]
    assert targets == {"120": {"seconds": 81.3, "epoch": 2, "perplexity": 118.0}, "110": None}


def test_a_network_that_was_pruned_is_as_large_as_it_was():
    pruned = rows(130.0, sparsity=0.25) + rows(118.0, sparsity=0.75)
    size = facts(RECORD, pruned, (120,), {})
    assert (size["active_parameters"], size["sparsity"]) == (950, 0.25)


@pytest.mark.parametrize(
    ("targets", "epochs", "status"), [((1e6, 1e5), 100_000, "stopped"), ((1e6, 0.5), 2, "finished")]
)
def test_a_run_is_timed_and_its_log_kept(tmp_path, monkeypatch, targets, epochs, status):
    monkeypatch.chdir(tmp_path)
    log = measure("tiny", [*SMOKE, f"training.epochs={epochs}"], 3, 0.0, tmp_path / "logs", targets)
    [folder] = (tmp_path / "logs" / "tiny").iterdir()
    record = json.loads((folder / "record.json").read_text())
    assert record["status"] == status
    assert json.loads((folder / "time.json").read_text()) == log
    first, second = log["targets"].values()
    row = first_reached([json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()], 1e6)
    assert (first["epoch"], first["perplexity"]) == (1, row["valid/perplexity"])
    assert second == (first if status == "stopped" else None)
    assert 0.5 < first["seconds"] < 200
    assert (log["seed"], log["threads"], log["commit"]) == (3, 1, record["environment"]["commit"])
    assert log["active_parameters"] == record["active_parameters"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs"]


def test_nothing_is_kept_of_a_run_that_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(clock.sys, "executable", "false")
    with pytest.raises(RunFailed, match="exit code 1"):
        measure("tiny", SMOKE, 1, 0.0, tmp_path / "logs")
    assert not (tmp_path / "logs").exists()


def test_the_page_is_what_the_committed_logs_give():
    page = PAGE.read_text(encoding="utf-8")
    assert rewritten(page, LOGS) == page, "run: python -m benchmarks.record --page"


def test_the_table_has_all_seeds_and_the_fastest_first(write):
    for seed, seconds in enumerate([(100.0, 140.0), (102.0, 150.4), (110.0, 160.0)], start=1):
        write("dense", seed, seconds=(seconds[0] + 60, None), perplexities=(130.0, 118.0))
        logs = write("sparse", seed, seconds=seconds)
    lines = table(logs).splitlines()
    links = [os.path.relpath(logs / name, PAGE.parent) for name in ("sparse", "dense")]
    assert lines[2:4] == [
        "| sparse | 450 | 0.7500 | 1, 2, 3 | 104 (100 to 110) | 150 (140 to 160) | a processor | 0123456 "
        f"| [sparse]({links[0]}) |",
        "| dense | 450 | 0.7500 | 1, 2, 3 | 164 (160 to 170) | not reached by 3 of 3 seeds | a processor | 0123456 "
        f"| [dense]({links[1]}) |",
    ]
    assert lines[6] == "# sparse"
    assert lines[7] == "python -m sparse_rnn.train model=rhn device=cpu logger=files seed=1"
    page = f"before\n<!-- records -->\n{NOTHING}<!-- end of records -->\nafter\n"
    assert rewritten(page, logs) == page.replace(NOTHING, table(logs))


def test_a_seed_that_does_not_reach_the_target_counts(write):
    write(seed=1)
    write(seed=2)
    logs = write(seed=3, seconds=(100.0, None), perplexities=(130.0, 118.0))
    assert "| 100 (100 to 100) | not reached by 1 of 3 seeds |" in table(logs)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"overrides": ["model=on_lstm"]}, "differ in overrides"),
        ({"device_name": "another"}, "differ in device_name"),
        ({"targets": {"120": None, "110": None}}, "not of its metrics.jsonl"),
    ],
)
def test_logs_that_do_not_belong_together_are_refused(write, changes, said):
    write(seed=1)
    write(seed=2)
    logs = write(seed=3, **changes)
    with pytest.raises(ConfigError, match=said):
        table(logs)


def test_two_seeds_are_too_few(write):
    write(seed=1)
    with pytest.raises(ConfigError, match="has 2 seeds, and the rules ask for 3"):
        table(write(seed=2))


def test_without_a_log_there_is_no_entry(tmp_path):
    assert table(tmp_path) == NOTHING


@pytest.mark.parametrize("name", load_entries())
def test_every_entry_keeps_the_rules(name):
    check_rules(name, as_dict(compose_run(arguments(load_entries()[name], 1))))


@pytest.mark.parametrize(
    "override", ["threads=4", "dataset=pydoc", "training.valid_batch=20", "budget.eval_tokens=1000", "threads=null"]
)
def test_an_entry_that_breaks_a_rule_is_refused_before_anything_runs(monkeypatch, override):
    broken = [o for o in load_entries()["dense"] if o.partition("=")[0] != override.partition("=")[0]]
    monkeypatch.setattr(command, "load_entries", lambda: {"mine": [*broken, override]})
    monkeypatch.setattr(command, "take_two_cores", lambda: pytest.fail("it went on"))
    monkeypatch.setattr(sys, "argv", ["record", "mine"])
    with pytest.raises(ConfigError, match=f"Entry mine has {override}, and the rules ask for"):
        command.main()


def test_fewer_than_two_cores_are_refused(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3})
    monkeypatch.setattr(os, "sched_setaffinity", lambda *given: pytest.fail("it went on"))
    with pytest.raises(ConfigError, match="takes 2 CPU cores, and this process may use 1 core"):
        command.take_two_cores()


def test_of_more_cores_two_are_taken(monkeypatch):
    taken = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {7, 3, 5})
    monkeypatch.setattr(os, "sched_setaffinity", lambda process, cores: taken.extend(cores))
    command.take_two_cores()
    assert taken == [3, 5]


@pytest.mark.parametrize("load", [0.2, 1.75])
def test_a_busy_machine_is_warned_of(monkeypatch, capsys, load):
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    assert command.load_before() == load
    assert ("busy" in capsys.readouterr().err) == (load > 0.5)


def test_what_is_printed_of_a_run():
    log = {"entry": "sparse", "seed": 2, **facts(RECORD, rows(130.0, 118.0), (120, 110), {120: 81.26})}
    assert command.line(log) == "sparse, seed 2: perplexity 120 after 81.3 s (epoch 2), perplexity 110 not reached"
