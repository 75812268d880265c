"""Where runs can be sent: the configuration group `cluster`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sparse_rnn.command_line import config_dir
from sparse_rnn.registry import ConfigError


@dataclass
class LocalCluster:
    """This machine. runs: at a time, None: one for each GPU, or one. threads: of each, None: this machine's divided
    by `runs`. gpus: names for CUDA_VISIBLE_DEVICES, one for each run at a time, None: all that torch finds."""

    name: str = "local"
    runs: int | None = None
    threads: int | None = None
    gpus: list[str] | None = None

    def __post_init__(self) -> None:
        _at_least_one(self, "runs", "threads")

    def devices(self) -> list[str]:
        """The GPUs to be divided among the runs."""
        if self.gpus is not None:
            return self.gpus
        import torch

        return [str(index) for index in range(torch.cuda.device_count())]

    def runs_at_a_time(self) -> int:
        """How many runs go at once."""
        return self.runs or max(1, len(self.devices()))

    def threads_of_a_run(self) -> int:
        """How many threads a run computes with."""
        return self.threads or max(1, _cores() // self.runs_at_a_time())


@dataclass
class SlurmCluster:
    """A SLURM cluster: what a run asks for, in sbatch's words.

    time: minutes, after which a run is stopped and queued again. gpus, cpus, memory_gb: of one run. threads: that it
    computes with, None: `cpus`. parallel: tasks of an array at a time. array: the most tasks in one array. warning:
    seconds between the signal that a run is to stop and the time limit. sbatch: other options, as {constraint: a100}.
    setup: lines of shell before the run. models: other values of these for a model, as {rhn: {time: 600}}.
    """

    name: str = "slurm"
    partition: str | None = None
    account: str | None = None
    time: int = 1440
    gpus: int = 0
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
        _at_least_one(self, "time", "cpus", "threads", "parallel", "array", "warning")
        if self.gpus < 0:
            raise ConfigError(f"cluster.gpus={self.gpus} must not be negative.")
        if self.memory_gb is not None and self.memory_gb <= 0:
            raise ConfigError(f"cluster.memory_gb={self.memory_gb:g} must be greater than 0, or null for SLURM's own.")
        for model, values in self.models.items():
            self._refuse_unknown(model, values)

    def of_model(self, model: str) -> "SlurmCluster":
        """What a run of this model asks for."""
        values = {key: getattr(self, key) for key in self.__dataclass_fields__}
        return SlurmCluster(**{**values, **self.models.get(model, {}), "models": {}})

    def threads_of_a_run(self) -> int:
        """How many threads a run computes with."""
        return self.threads or self.cpus

    def _refuse_unknown(self, model: str, values: Any) -> None:
        from sparse_rnn.registry import near

        known = set(self.__dataclass_fields__) - {"name", "models"}
        if not isinstance(values, dict):
            raise ConfigError(f"cluster.models.{model} must be keys and values, as in {{time: 600}}.")
        for key in values:
            if key not in known:
                raise ConfigError(f"cluster.models.{model}.{key} is not a key of a cluster{near(key, known)}.")


Cluster = LocalCluster | SlurmCluster


def _at_least_one(cluster: Any, *keys: str) -> None:
    for key in keys:
        value = getattr(cluster, key)
        if value is not None and value < 1:
            raise ConfigError(f"cluster.{key}={value} must be at least 1.")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def compose_cluster(overrides: Sequence[str]) -> Cluster:
    """The cluster that overrides like `cluster=slurm cluster.time=60` name; raises ConfigError."""
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    store = ConfigStore.instance()
    store.store(group="cluster", name="schema_local", node=LocalCluster)
    store.store(group="cluster", name="schema_slurm", node=SlurmCluster)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            cluster = OmegaConf.to_object(compose("launch", list(overrides)).cluster)
    except (HydraException, OmegaConfBaseException) as error:
        from sparse_rnn.config import explain

        raise ConfigError(explain(error)) from error
    if not isinstance(cluster, Cluster):
        raise ConfigError(
            "A cluster's file must begin with `defaults: [slurm, _self_]` or `defaults: [local, _self_]`."
        )
    return cluster
