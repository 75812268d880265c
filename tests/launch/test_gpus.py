"""Which runs get a GPU and which see none, on machines that tests only pretend to have GPUs."""

from pathlib import Path
from typing import Any

import pytest

from launch import slurm
from launch.clusters import LocalCluster, SlurmCluster, compose_cluster
from launch.local import LocalQueue, QueueState
from launch.requests import Entry
from launch.submission import send
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.tables.run_facts import RunFacts


@pytest.mark.parametrize(
    ("visible", "gpus", "shared_out"),
    [
        ("0,1", None, ["0", "1"]),
        (" GPU-5 , 3,", None, ["GPU-5", "3"]),
        ("0,1,2", 2, ["0", "1"]),
        ("0,1", 0, []),
        ("", None, []),
        ("-1", None, []),
        ("1,-1,0", None, ["1"]),
        ("NoDevFiles", None, []),
    ],
)
def test_the_gpus_of_this_machine(monkeypatch, visible, gpus, shared_out):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert LocalCluster(gpus=gpus).devices() == shared_out


def test_runs_at_a_time_follow_from_the_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert compose_cluster([]).runs_at_a_time() == 2
    assert compose_cluster(["cluster.runs_per_gpu=3"]).runs_at_a_time() == 6
    assert compose_cluster(["cluster.runs_per_gpu=3", "cluster.gpus=1"]).runs_at_a_time() == 3
    assert compose_cluster(["cluster.runs_per_gpu=3", "cluster.runs=4"]).runs_at_a_time() == 4
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert compose_cluster([]).runs_at_a_time() == 1
    with pytest.raises(ConfigError, match="runs_per_gpu=3 needs a GPU, and none is visible"):
        compose_cluster(["cluster.runs_per_gpu=3", "cluster.runs=4"]).runs_at_a_time()


def test_gpus_are_shared_evenly_by_the_runs_that_may_use_them():
    state = QueueState(runs=6)
    for number in range(4):
        state.working[str(number)] = {"gpu": state.free_gpu(["0", "1"])}
    state.working["elsewhere"] = {"gpu": state.free_gpu([])}
    assert [job["gpu"] for job in state.working.values()] == ["0", "1", "0", "1", ""]
    assert state.free_gpu(["1"]) == "1"


@pytest.fixture
def sent(monkeypatch, tmp_path):
    """A function that sends a run nowhere, and returns the devices that its overrides name then, and its GPUs."""
    found: list[tuple[list[str], list[str]]] = []

    def here(queue: LocalQueue, jobs: Any, *, runs: int, gpus: list[str]) -> None:
        found.extend((overrides, gpus) for _, overrides in jobs)

    def to_slurm(runs: Any, cluster: SlurmCluster, root: Path, configs: Any) -> Any:
        found.extend((overrides, []) for _, overrides, _ in runs)
        yield "1", [run_id for run_id, *_ in runs]

    monkeypatch.setattr(LocalQueue, "add", here)
    monkeypatch.setattr(slurm, "submit", to_slurm)

    def send_one(*overrides: str, cluster: list[str], model: str = "rhn", backend: str = "auto") -> Any:
        found.clear()
        config = {"model": {"name": model}, "sparsifier": {"backend": backend}}
        facts = RunFacts("run", config, None, None, 1.0, 1.0, 1.0)
        send([Entry("run", "", "", overrides, facts)], compose_cluster(cluster), tmp_path)
        [(given, gpus)] = found
        return [each for each in given if "device=" in each], gpus

    return send_one


def test_a_run_that_gets_a_gpu_has_to_use_it(sent, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert sent(cluster=[]) == (["device=cuda"], ["0", "1"])
    assert sent(cluster=["cluster.gpus=0"]) == ([], [])
    assert sent("device=cpu", cluster=[]) == (["device=cpu"], ["0", "1"])
    assert sent("++device=auto", cluster=[]) == (["++device=auto"], ["0", "1"])
    assert sent("sparsifier.backend=sparse", cluster=[], backend="sparse")[0] == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert sent(cluster=[]) == ([], [])


def test_a_job_that_asks_slurm_for_a_gpu_has_to_use_it(sent):
    assert sent(cluster=["cluster=slurm"])[0] == []
    assert sent(cluster=["cluster=slurm", "cluster.gpus=1"])[0] == ["device=cuda"]
    assert sent("device=cpu", cluster=["cluster=slurm", "cluster.gpus=1"])[0] == ["device=cpu"]
    of_a_model = ["cluster=slurm", "cluster.models.rhn={gpus: 1}"]
    assert sent(cluster=of_a_model)[0] == ["device=cuda"]
    assert sent(cluster=of_a_model, model="on_lstm")[0] == []


@pytest.mark.parametrize(
    ("options", "has_gpus"),
    [
        ({"gres": "gpu:a100:1"}, True),
        ({"gpus_per_task": 1}, True),
        ({"tres-per-task": "gres/gpu:1"}, True),
        ({"gres": "tmpdisk:10"}, False),
        ({"constraint": "gpu", "reservation": "gpu", "qos": "gpu"}, False),
    ],
)
def test_gpus_may_be_asked_for_in_sbatchs_words(options, has_gpus):
    assert SlurmCluster(sbatch=options).has_gpus() == has_gpus
