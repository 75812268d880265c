"""Hydra's submitit launchers, set so that runs survive time limits: -m hydra/launcher=submitit_slurm."""

from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra_plugins.hydra_submitit_launcher.config import LocalQueueConf, SlurmQueueConf
from omegaconf import OmegaConf, open_dict

ALWAYS: dict[str, Any] = {
    "name": "sparse_rnn",
    "submitit_folder": "${hydra.sweep.dir}/.launch/submitit/%j",
    "stderr_to_stdout": True,
}

TIMEOUTS = 1000  # submitit counts a preempted job of less than 12.5 minutes as timed out
WEEK = 7 * 24 * 60
BEFORE_A_HANDLER = ["env", "--ignore-signal=USR2"]  # SLURM's signal kills a process that has no handler yet
ALL_CPUS = 'test -z "$SLURM_CPUS_PER_TASK" || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK'  # since SLURM 22.05


def register_launchers() -> None:
    """Replace the plugin's settings by ours, under the same names; hydra.launcher.KEY=VALUE changes them.

    submitit_slurm is an array of jobs that save before their time limit, are queued again and resume; submitit_local
    starts all runs at once. The command waits for the last run.
    """
    Plugins.instance()  # registers the plugin's settings, which ours replace: they must come later
    resources = {"timeout_min": 12 * 60, "signal_delay_s": 120, "cpus_per_task": 4, "mem_gb": 16}
    slurm = SlurmQueueConf(max_num_timeout=TIMEOUTS, setup=[ALL_CPUS], **resources, **ALWAYS)
    local = LocalQueueConf(timeout_min=WEEK, **ALWAYS)
    _register("submitit_slurm", slurm, srun_args=BEFORE_A_HANDLER)
    _register("submitit_local", local, max_num_timeout=TIMEOUTS)


def _register(name: str, settings: Any, **unknown_to_the_plugin: Any) -> None:
    node = OmegaConf.structured(settings)
    with open_dict(node):
        node.update(unknown_to_the_plugin)
    ConfigStore.instance().store(group="hydra/launcher", name=name, node=node, provider="sparse_rnn")
