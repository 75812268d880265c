"""Command lines that cannot be meant: one sentence on stderr, exit code 2, and nothing left behind."""

import sys
import time

import pytest

from results.commands import site, table
from results.requests import parse
from sparse_rnn import evaluate, generate
from sparse_rnn.core import command_line
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.runs.folder import runs_root
from sparse_rnn.training import sweep

SMOKE = ["dataset=pydoc", "budget=smoke", "logger=files"]


@pytest.fixture
def train(monkeypatch, capfd):
    """The train command in this process: its exit code, and what it printed on stderr."""

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # which the command sets for itself
        monkeypatch.setattr(sys, "argv", ["train"])

        def command() -> None:
            for failure in sweep.train_all([*SMOKE, *arguments]):
                raise failure

        with pytest.raises(SystemExit) as end:
            command_line.guard(command)
        return int(end.value.code), capfd.readouterr().err

    return run


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["threads=100000"], "threads=100000 must be at most 1,024."),
        (["threads=99999999999999999999"], "threads=99999999999999999999 must be at most 1,024."),
        (["seed=99999999999999999999999"], "seed=99999999999999999999999 must be at most 9,223,372,036,854,775,807."),
        ([f"seed={'9' * 5000}"], "Exceeds the limit (4300 digits)"),
        (["training.batch=100000"], "The train split has 600 tokens: too few for a batch of 100000."),
        (["training.valid_batch=100000"], "The valid split has 200 tokens: too few for a batch of 100000."),
        (["training.test_batch=100000"], "The test split has 200 tokens: too few for a batch of 100000."),
        (["dataset.name=kjv"], "dataset.name=kjv gives another name to what is chosen by dataset=NAME: leave it out."),
        (["model.name=x"], "model.name=x gives another name to what is chosen by model=NAME: leave it out."),
        (["=5"], "=5 has no key: write key=value."),
        (["model=null"], "Config group override must be a string or a list. Got NoneType."),
        (["hydra=5"], "Config group override must be a string or a list. Got int."),
        (["-x"], "These arguments cannot be read (unrecognized arguments: -x)"),
        (["--cfg"], "These arguments cannot be read ("),
        (["--resolve"], "The --resolve flag can only be used in conjunction with --cfg or --help."),
        (["-m", "seed=range(0,1000000000)"], "That would be 1,000,000,000 runs: a command takes 10,000 at most"),
        (["-m", "seed=range(0,200)", "init_seed=range(0,200)"], "That would be 40,000 runs"),
        (["-m", "seed=range(0,inf)"], "seed=range(0,inf) is no range"),
        (["-m", "hydra.launcher=5"], ""),
    ],
)
def test_train(train, arguments, sentence):
    code, said = train(*arguments)
    assert code == 2
    assert said.startswith(f"error: {sentence}")
    assert said.count("\n") == 1
    assert not runs_root().exists()


def test_a_run_is_not_begun_that_could_not_be_sent_to_wandb(train, tmp_path, monkeypatch):
    for variable in ("WANDB_API_KEY", "NETRC"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    code, said = train("logger.wandb=true", "logger.mode=online")
    assert (code, said.count("\n")) == (2, 1)
    assert said.startswith("error: logger.mode=online needs a key of W&B: log in by `wandb login`")
    assert not runs_root().exists()


def test_a_folder_of_runs_that_slurm_would_not_find_again(train, tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSE_RNN_RUNS", str(tmp_path / "%a"))
    code, said = train("-m", "hydra/launcher=submitit_slurm", "seed=1,2")
    assert (code, said.count("\n")) == (2, 1)
    assert "which SLURM replaces in the names of logs" in said
    assert not runs_root().exists()


@pytest.mark.parametrize(
    ("command", "defaults", "wrong", "sentence"),
    [
        (evaluate.evaluate, evaluate.DEFAULTS, wrong, sentence)
        for wrong, sentence in (
            ({"threads": "100000"}, "threads=100000 must be at most 1,024."),
            ({"threads": "nan"}, "threads=nan must be a whole number of at least 1."),
            ({"threads": "-1"}, "threads=-1 must be a whole number of at least 1."),
            ({"threads": "٣"}, "threads=٣ must be a whole number of at least 1."),
            ({"threads": "9" * 5000}, "must be a whole number of at least 1."),
            ({"batch": "99999999999"}, "batch=99999999999 must be at most 1,000,000,000."),
            ({"batch": "true"}, "batch=true must be a whole number of at least 1."),
            ({"device": "gpu"}, "device=gpu must be auto, cpu, cuda or cuda:N."),
            ({"device": "cuda:99999999999"}, "device=cuda:99999999999 must be auto, cpu, cuda or cuda:N."),
        )
    ]
    + [
        (generate.generate, generate.DEFAULTS, wrong, sentence)
        for wrong, sentence in (
            ({"threads": "100000"}, "threads=100000 must be at most 1,024."),
            ({"words": "99999999999999999999"}, "words=99999999999999999999 must be at most 1,000,000."),
            ({"words": "1e3"}, "words=1e3 must be a whole number of at least 1."),
            ({"seed": "99999999999999999999"}, "seed=99999999999999999999 must be at most 9,223,372,036,854,775,807."),
            ({"seed": ""}, "seed= must be a whole number of at least 0."),
            ({"temperature": "inf"}, "temperature=inf must be a number of at least 0."),
            ({"temperature": "-0.1"}, "temperature=-0.1 must be a number of at least 0."),
        )
    ],
)
def test_numbers_of_commands(command, defaults, wrong, sentence):
    with pytest.raises(ConfigError) as caught:
        command(**defaults | wrong)
    assert str(caught.value).endswith(sentence)


@pytest.mark.parametrize(
    ("command", "arguments", "sentence"),
    [
        (site, ["site", "--out", "."], "--out . is a folder: name the file of the page, as in --out site.html."),
        (site, ["site", "budget=nope"], "These overrides suit no table and no figure. Of table2: "),
        (site, ["site", "seeds=range(0,9999)"], "That would be "),
        (table, ["table", "table2", "seeds=range(0,1000000000)"], "That would be 1,000,000,000 runs: "),
        (table, ["table", "table2", "--out", "a.png"], "--out a.png: a table ends in "),
        (table, ["table", "all", "--out", "a.md"], "--out a.md is one file for "),
    ],
)
def test_results_are_not_begun_that_cannot_be_written(command, arguments, sentence, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("results.sources.choice.load", lambda *_: pytest.fail("the logs are read"))
    started = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        command(parse(*arguments[:1], arguments[1:]))
    assert str(caught.value).startswith(sentence)
    assert time.monotonic() - started < 60
    assert not list(tmp_path.rglob("*"))
