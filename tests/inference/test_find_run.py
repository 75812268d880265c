"""What `run=` may be: an id, the beginning of one, a folder, or the last run."""

import json
import re
from pathlib import Path

import pytest

from launch import commands
from launch.requests import parse
from sparse_rnn import evaluate, export, extract, generate
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.inference.find_run import find_run
from sparse_rnn.runs.folder import runs_root

IDS = [f"rhn-pydoc-selfish-s{seed}-{hash}" for seed, hash in ((1, "0a1b2c3d"), (2, "11111111"), (10, "22222222"))]


def write(
    run_id: str, status: str = "finished", weights: bool = True, root: Path | None = None, **times: float
) -> Path:
    """A run's folder."""
    folder = (root or runs_root()) / run_id
    folder.mkdir(parents=True)
    record = {"config": {}, "status": status, "data_sha256": "", **times}
    (folder / "record.json").write_text(json.dumps(record))
    (folder / "log.txt").write_text(f"log of {run_id}\n")
    if weights:
        (folder / "best.safetensors").touch()
    return folder


@pytest.fixture
def runs() -> list[Path]:
    """Three runs, of which the second was trained last, though the first folder is the youngest."""
    made = [write(run_id, written=written) for run_id, written in zip(IDS, (1.0, 3.0, 2.0), strict=True)]
    (made[0] / "record.json").touch()
    return made


@pytest.mark.parametrize(
    ("name", "number"),
    [(IDS[0], 0), ("rhn-pydoc-selfish-s1-", 0), ("rhn-pydoc-selfish-s2", 1), ("rhn-pydoc-selfish-s10", 2), ("last", 1)],
)
def test_a_name_means_one_run(runs, name, number):
    assert find_run(name).path == runs[number]


def test_a_folder_is_a_name_and_so_is_the_beginning_of_one(runs, tmp_path):
    other = write("on_lstm-ptb-set-s1-00000000", root=tmp_path / "others")
    assert find_run(str(other)).path == other
    assert find_run(str(other)[:-5]).path == other
    assert find_run(str(runs_root() / "rhn-pydoc-selfish-s2")).path == runs[1]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("", r"Which run\? .*run=last\."),
        ("rhn-", r"run=rhn- fits 3 runs: " + ", ".join(sorted(IDS)) + r"; write more of the id\."),
        ("rhn-pydoc-selfish-s1", r"run=rhn-pydoc-selfish-s1 fits 2 runs: \S+, \S+; write more of the id\."),
        ("rnh-pydoc", r"run=rnh-pydoc does not exist in \S+ \(.*rhn-pydoc-selfish-s1-0a1b2c3d.*\)\."),
        ("nowhere/rhn", r"run=nowhere/rhn does not exist in nowhere\."),
    ],
)
def test_a_name_that_means_none_or_several_is_one_sentence(runs, name, sentence):
    with pytest.raises(ConfigError) as refusal:
        find_run(name)
    assert re.fullmatch(sentence, str(refusal.value)), str(refusal.value)


def test_of_many_matches_a_few_are_named():
    for number in range(9):
        write(f"rhn-ptb-set-s{number}-00000000")
    with pytest.raises(ConfigError, match=r"fits 9 runs: \S+, \S+, \S+ and 6 more; write more of the id\.$"):
        find_run("rhn")


@pytest.mark.parametrize("damage", ["[]", '{"status": 3}', ""])
def test_the_last_run_is_that_of_the_records(runs, damage, capsys):
    """Not one that has only begun, was set aside without its record, or has a damaged one."""
    write("a-begun-s1-00000000", status="running", weights=False, written=9.0)
    broken = write("a-broken-s1-00000000", written=9.0)
    (broken / "record.json").write_text(damage)
    assert find_run("last").path == runs[1]
    assert "warning: " in capsys.readouterr().err
    stopped = write("a-stopped-s1-00000000", status="stopped", written=4.0)
    assert find_run("last").path == stopped


def test_records_of_earlier_versions_are_ordered_by_their_ends():
    write("a-s1-0", started=1.0, finished=9.0)
    write("b-s1-0", started=5.0, finished=8.0)
    assert find_run("last").path.name == "a-s1-0"


def test_without_a_run_there_is_no_last_one():
    with pytest.raises(ConfigError, match=r"^run=last: no run in \S+ has been trained yet\.$"):
        find_run("last")


@pytest.mark.parametrize("command", [evaluate, export, extract, generate])
def test_every_command_that_takes_a_run_finds_it_so(command, runs):
    """What follows fails, since these runs are empty; that says which run was found."""
    run = {evaluate: evaluate.evaluate, export: export.export_run, extract: extract.extract_run}
    function = run.get(command, generate.generate)
    for name in ("last", "rhn-pydoc-selfish-s2"):
        with pytest.raises(ConfigError, match=IDS[1]):
            function(**{**command.DEFAULTS, "run": name})
    with pytest.raises(ConfigError, match="fits 3 runs"):
        function(**{**command.DEFAULTS, "run": "rhn"})


@pytest.mark.parametrize("name", ["last", "rhn-pydoc-selfish-s2", f"runs/{IDS[1]}"])
def test_launch_finds_its_log_in_the_same_way(runs, name, capsys):
    commands.logs(parse("logs", [name]))
    assert capsys.readouterr().out == f"log of {IDS[1]}\n"


def test_launch_refuses_in_the_same_words(runs):
    with pytest.raises(ConfigError, match=r"^rhn fits 3 runs: .*; write more of the id\.$"):
        commands.logs(parse("logs", ["rhn"]))
