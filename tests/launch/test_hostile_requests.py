"""Clusters, seeds and sweeps that nothing can be sent with: refused in one sentence, before anything is written."""

import time

import pytest

from launch import commands
from launch.clusters import compose_cluster
from launch.requests import parse
from launch.sbatch_options import REASONS
from sparse_rnn.core.bounds import LARGEST_SEED
from sparse_rnn.core.errors import ConfigError

SLURM = ["table6", "cluster=slurm"]


def refused(*arguments: str) -> str:
    """The sentence that refuses `plan` with these arguments."""
    with pytest.raises(ConfigError) as caught:
        commands.plan(parse("plan", arguments))
    return str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["cluster.memory_gb=nan"], "cluster.memory_gb=nan must be at least 0.001 and at most 1,000,000, or null"),
        (["cluster.memory_gb=inf"], "cluster.memory_gb=inf must be at least 0.001"),
        (["cluster.memory_gb=0.0000001"], "cluster.memory_gb=1e-07 must be at least 0.001"),
        (["cluster.memory_gb=0"], "cluster.memory_gb=0 must be at least 0.001"),
        (["cluster.memory_gb=-8"], "cluster.memory_gb=-8 must be at least 0.001"),
        (["cluster.memory_gb=[8]"], "cluster.memory_gb: "),
        (["cluster.time=99999999999"], "cluster.time=99999999999 must be at most 1,000,000."),
        (["cluster.time=true"], "cluster.time: Value 'True' of type 'bool'"),
        (["cluster.cpus=100000"], "cluster.cpus=100000 must be at most 1,024."),
        (["cluster.gpus=-1"], "cluster.gpus=-1 must be at least 0."),
        (["cluster.threads=99999999999999999999"], "cluster.threads=99999999999999999999 must be at most 1,024."),
        (["cluster.warning=70000"], "cluster.warning=70000 must be at most 65,535."),
        (["cluster.array=0"], "cluster.array=0 must be at least 1."),
        (["cluster.partition=''"], "cluster.partition='' must be a text of one line, and not empty."),
        (["cluster.account=' '"], "cluster.account=' ' must be a text of one line, and not empty."),
        (["cluster.models={rhn: 5}"], "cluster.models.rhn=5 must be a mapping of keys, as in {rhn: {time: 600}}."),
        (["cluster.models={rhn: null}"], "cluster.models.rhn=None must be a mapping"),
        (["cluster.models={rhn: [time]}"], "cluster.models.rhn=['time'] must be a mapping"),
        (["cluster.models=5"], "cluster.models: "),
        (["cluster.models={rhn: {models: {}}}"], "cluster.models.rhn.models cannot differ from model to model"),
        (["cluster.models={rhn: {memory_gb: nan}}"], "cluster.memory_gb=nan must be at least 0.001"),
        (["cluster.models={rhn: {sbatch: {exclusive: true}}}"], "cluster.sbatch.exclusive cannot be set"),
        (
            ["cluster.sbatch={parsable: true}"],
            "cluster.sbatch.parsable cannot be set, because `launch` reads",
        ),
        (
            ["cluster.sbatch={no_requeue: true}"],
            "cluster.sbatch.no_requeue cannot be set, because a run",
        ),
        (["cluster.sbatch={exclusive: true}"], "cluster.sbatch.exclusive cannot be set, because a job is one task"),
        (["cluster.sbatch={exclusive: user}"], "cluster.sbatch.exclusive cannot be set"),
        (["cluster.sbatch={excl: true}"], "cluster.sbatch.excl cannot be set"),
        (["cluster.sbatch={pars: true}"], "cluster.sbatch.pars cannot be set"),
        (["cluster.sbatch={qos: [a]}"], "cluster.sbatch.qos=['a'] must be text or a number, or true"),
        (["cluster.sbatch={contiguous: false}"], "cluster.sbatch.contiguous=False must be text or a number, or true"),
        (["cluster.sbatch={qos: ''}"], "cluster.sbatch.qos='' must be a text of one line"),
        (["cluster.sbatch={a b: 1}"], "cluster.sbatch: 'a b' is no option of sbatch"),
        (["cluster.sbatch={Parsable: true}"], "cluster.sbatch: 'Parsable' is no option of sbatch"),
        (["cluster.sbatch=5"], "cluster.sbatch: "),
        (["cluster.setup=5"], "cluster.setup: "),
    ],
)
def test_clusters(arguments, sentence, tmp_path):
    said = refused(*SLURM, *arguments)
    assert said.startswith(sentence)
    assert said.endswith(".")
    assert "\n" not in said
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("option", REASONS)
def test_options_of_sbatch_that_break_what_launch_relies_on(option):
    with pytest.raises(ConfigError, match=f"^cluster.sbatch.{option} cannot be set, because .*: leave it out.$"):
        compose_cluster(["cluster=slurm", f"cluster.sbatch={{{option}: true}}"])


def test_other_options_of_sbatch_are_passed_on():
    own = "{constraint: a100, gres: 'gpu:a100:1', gpus: 1, nice: 100, hold: true, mem-per-cpu: 2G, nodelist: n1}"
    assert len(compose_cluster(["cluster=slurm", f"cluster.sbatch={own}"]).sbatch) == 7


@pytest.mark.parametrize("name", ["runs", "threads", "runs_per_gpu"])
def test_this_machine(name):
    assert refused("table6", f"cluster.{name}=99999999999").startswith(f"cluster.{name}=99999999999 must be at most ")
    assert refused("table6", f"cluster.{name}=nan").startswith(f"cluster.{name}: Value 'nan'")


@pytest.mark.parametrize("part", ["%a", "50%", "a\\b", "a\nb"])
def test_a_folder_that_slurm_would_not_find_again(part, tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSE_RNN_RUNS", str(tmp_path / part))
    with pytest.raises(ConfigError, match="choose another with SPARSE_RNN_RUNS"):
        commands.submit(parse("submit", SLURM))
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["table2", "seeds=range(0,1000000000)"], "That would be 1,000,000,000 runs: a command takes 10,000 at most"),
        (["table2", "seeds=shuffle(range(0,1000000000))"], "That would be 1,000,000,000 runs"),
        (["table2", "seeds=range(0,9000)"], "That would be 288,000 runs"),
        (["table2", "seeds=range(0,inf)"], "seed=range(0,inf) is no range: it needs finite numbers"),
        (["table2", "seeds=range(0,5,0)"], "seed=range(0,5,0) is no range"),
        (["table2", "seeds=range(0,5,0.000000001)"], "That would be 5,000,000,000 runs"),
        (["table2", "seeds=range(5,0)"], "seeds=range(5,0) must be whole numbers"),
        (["table2", "seeds="], "seeds= must be whole numbers"),
        (["table2", "seeds=nan"], "seeds=nan must be whole numbers"),
        (["table2", "seeds=true"], "seeds=true must be whole numbers"),
        (["table2", "seeds=٣"], "The override 'seeds=٣' cannot be read"),
        (["table2", f"seeds={'9' * 5000}"], "The override 'seeds=999"),
        (
            ["table2", f"seeds=1,{LARGEST_SEED + 1}"],
            f"seeds={LARGEST_SEED + 1} must be at most 9,223,372,036,854,775,807.",
        ),
        (["table2", "seeds=glob(*)"], "The override 'seeds=glob(*)' cannot be read"),
        (["table2", "seeds=interval(0,1)"], "The override 'seeds=interval(0,1)' cannot be read"),
        (["--sweep", "seed=range(0,1000000000)"], "That would be 1,000,000,000 runs"),
        (["--sweep", "seed=range(0,5000) model.hidden=range(1,5000)"], "That would be 24,995,000 runs"),
        (["--sweep", "model=rhn model.depth=100000000"], "model.depth=100000000 must be at most 1,000."),
        (["--sweep", "=5"], "=5 has no key"),
    ],
)
def test_more_runs_than_a_command_takes_are_refused_at_once(arguments, sentence, tmp_path):
    started = time.monotonic()
    said = refused(*arguments)
    assert said.startswith(sentence)
    assert "\n" not in said
    assert time.monotonic() - started < 20
    assert not list(tmp_path.rglob("*"))
