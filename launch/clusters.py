"""Where runs can be sent: the configuration group `cluster`."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import takewhile
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sparse_rnn.core.bounds import MOST_THREADS, check_whole
from sparse_rnn.core.conf import options
from sparse_rnn.core.errors import ConfigError, suggest
from sparse_rnn.core.hydra_errors import OF_COMPOSITION, explain
from sparse_rnn.core.hydra_files import compose_file

from .sbatch_options import check_option, check_text

WITH_ANY_KEY = ("sbatch", "models")
NO_GPU = ("-1", "NoDevFiles")  # what else than an empty CUDA_VISIBLE_DEVICES hides all GPUs
MOST = {  # of whole numbers: SLURM counts minutes in 32 bits, tasks up to 4,000,001, seconds of a signal in 16 bits
    "runs": MOST_THREADS,
    "threads": MOST_THREADS,
    "cpus": MOST_THREADS,
    "gpus": 1_000,
    "runs_per_gpu": 1_000,
    "time": 1_000_000,
    "parallel": 1_000_000,
    "array": 1_000_000,
    "warning": 65_535,
}
LEAST_MEMORY_GB, MOST_MEMORY_GB = 0.001, 1_000_000
EARLY_SECONDS = 30  # how much too early the signal before the time limit may come: measured on SLURM 22.05


@dataclass
class LocalCluster:
    """This machine.

    runs: how many at a time; None: `runs_per_gpu` on each GPU, or one without GPUs. threads: of each run; None: this
    machine's cores divided by `runs`. gpus: how many are shared out among the runs; None: all there are; 0: the runs
    see none. runs_per_gpu: how many runs share a GPU where `runs` does not say it.
    """

    name: str = "local"
    runs: int | None = None
    threads: int | None = None
    gpus: int | None = None
    runs_per_gpu: int = 1

    def __post_init__(self) -> None:
        _check_numbers(self, "runs", "threads", "runs_per_gpu", "gpus")
        if self.runs_per_gpu > 1 and self.gpus == 0:
            raise ConfigError(
                f"cluster.runs_per_gpu={self.runs_per_gpu} needs a GPU, and cluster.gpus=0 hides them all."
            )

    def devices(self) -> list[str]:
        """The GPUs to be shared out among the runs, as CUDA_VISIBLE_DEVICES names them."""
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is not None:
            names = takewhile(lambda name: name not in NO_GPU, map(str.strip, visible.split(",")))
            return [name for name in names if name][: self.gpus]
        import torch  # seconds, which only a machine whose GPUs must be counted waits for

        return [str(index) for index in range(torch.cuda.device_count())][: self.gpus]

    def of_model(self, model: str) -> "LocalCluster":
        """The cluster itself: here no model asks for other resources."""
        return self

    def runs_at_a_time(self) -> int:
        """How many runs are trained at a time; raises ConfigError if they are to share a GPU and there is none."""
        gpus = len(self.devices())
        if self.runs_per_gpu > 1 and not gpus:
            raise ConfigError(f"cluster.runs_per_gpu={self.runs_per_gpu} needs a GPU, and none is visible here.")
        return self.runs or self.runs_per_gpu * max(1, gpus)

    def threads_of_a_run(self) -> int:
        """How many threads a run computes with."""
        return self.threads or max(1, _cores() // self.runs_at_a_time())


@dataclass
class SlurmCluster:
    """A SLURM cluster: what a run asks for, in sbatch's words.

    partition, account: which of the cluster's (None: the user's default). time: minutes, after which a run is stopped
    and queued again. gpus: of one job; 0 hides those of the node from its runs. runs_per_gpu: how many runs of the same
    resources share a job, which then has one GPU. cpus, memory_gb: of one run; the job asks for as many times that as
    it has runs. threads: how many a run computes with; None: `cpus`.
    parallel: how many tasks of an array run at a time. array: the most tasks in one array; a task is a job. warning:
    seconds between the signal to stop and the time limit. sbatch: other options, as {constraint: a100}. setup: lines of
    shell before the runs. models: other values of these keys for a model, as {rhn: {time: 600}}.
    """

    name: str = "slurm"
    partition: str | None = None
    account: str | None = None
    time: int = 1440
    gpus: int = 0
    runs_per_gpu: int = 1
    cpus: int = 2
    memory_gb: float | None = 8.0
    threads: int | None = None
    parallel: int = 100
    array: int = 1000
    warning: int = 120
    sbatch: dict[str, Any] = field(default_factory=dict)
    setup: list[str] = field(default_factory=list)
    models: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_numbers(self, *MOST.keys() & vars(self).keys())
        if self.runs_per_gpu > 1 and (self.gpus > 1 or not self.has_gpus()):
            raise ConfigError(
                f"cluster.runs_per_gpu={self.runs_per_gpu} needs jobs with one GPU each, and cluster.gpus={self.gpus}: "
                "set cluster.gpus=1."
            )
        if self.memory_gb is not None and not LEAST_MEMORY_GB <= self.memory_gb <= MOST_MEMORY_GB:  # 0 is all of a node
            raise ConfigError(
                f"cluster.memory_gb={self.memory_gb:g} must be at least {LEAST_MEMORY_GB} and at most "
                f"{MOST_MEMORY_GB:,}, or null for SLURM's own."
            )
        if 60 * self.time < self.warning + EARLY_SECONDS:
            raise ConfigError(
                f"cluster.time={self.time} leaves a run no time: SLURM's signal comes {self.warning} s "
                f"(cluster.warning) before the end, and up to {EARLY_SECONDS} s earlier."
            )
        for option, value in self.sbatch.items():
            check_option(option, value)
        for key in ("partition", "account"):
            check_text(f"cluster.{key}", getattr(self, key))

    def has_gpus(self) -> bool:
        """Whether a job has a GPU; `sbatch` may ask for one as well, as {gres: gpu:a100:1}."""
        options = ((str(option), str(value)) for option, value in self.sbatch.items())
        asked = (f"{key}={value}" if key.startswith(("gres", "tres")) else key for key, value in options)
        return self.gpus > 0 or any("gpu" in words for words in asked)

    def of_model(self, model: str) -> "SlurmCluster":
        """What a run of this model asks for: the cluster with the values of `models` for it."""
        own = {**asdict(self), **self.models.get(model, {}), "models": {}}
        made = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(SlurmCluster), own))
        assert isinstance(made, SlurmCluster)
        return made

    def threads_of_a_run(self) -> int:
        """How many threads a run computes with."""
        return self.threads or self.cpus


Cluster = LocalCluster | SlurmCluster


def _check_numbers(cluster: Any, *keys: str) -> None:
    for key in sorted(keys):
        if (value := getattr(cluster, key)) is not None:
            check_whole(f"cluster.{key}", value, 0 if key == "gpus" else 1, MOST[key])


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _allow_new_key(override: str) -> str:
    """The override, marked for Hydra as one that may add a key where any key is allowed."""
    key = override.partition("=")[0].split(".")
    return f"++{override}" if len(key) > 1 and key[1] in WITH_ANY_KEY else override


def compose_cluster(overrides: Sequence[str]) -> Cluster:
    """The cluster that overrides like `cluster=slurm cluster.time=60` name; raises ConfigError."""
    store = ConfigStore.instance()
    store.store(group="cluster", name="schema_local", node=LocalCluster)
    store.store(group="cluster", name="schema_slurm", node=SlurmCluster)
    try:
        cluster = _checked(compose_file("launch", [_allow_new_key(override) for override in overrides]).cluster)
        chosen = [override.removeprefix("cluster=") for override in overrides if override.startswith("cluster=")]
        return replace(cluster, name=chosen[-1]) if chosen else cluster
    except ConfigError:
        raise
    except OF_COMPOSITION as error:
        raise ConfigError(explain(error)) from error


def _checked(node: DictConfig) -> Cluster:
    """The cluster of a composed node; raises ConfigError for keys and models that do not exist."""
    cluster = OmegaConf.to_object(node)
    if not isinstance(cluster, Cluster):
        raise ConfigError("A cluster's file begins with `defaults: [slurm, _self_]` or `defaults: [local, _self_]`.")
    known = {each.name for each in fields(cluster)}
    for key in map(str, node):
        if key not in known:
            raise ConfigError(f"cluster.{key} is not a key of cluster={cluster.name}{suggest(key, known)}.")
    if isinstance(cluster, SlurmCluster):
        models = options("model")
        for model in cluster.models:
            if model not in models:
                raise ConfigError(f"cluster.models.{model} is not a model{suggest(model, models)}.")
            _check_own(model, cluster.models[model])
            try:
                cluster.of_model(model)
            except OmegaConfBaseException as error:
                raise ConfigError(f"cluster.models.{model}: {str(error).splitlines()[0]}.") from error
    return cluster


def _check_own(model: str, own: Any) -> None:
    """Refuse what is no mapping of keys that a model may have for itself."""
    if not isinstance(own, dict):
        raise ConfigError(f"cluster.models.{model}={own} must be a mapping of keys, as in {{{model}: {{time: 600}}}}.")
    for key in ("name", "models"):
        if key in own:
            raise ConfigError(f"cluster.models.{model}.{key} cannot differ from model to model: leave it out.")
