"""Options of sbatch that a cluster's `sbatch` may set, and those that would break what `launch` relies on."""

import re
from typing import Any

from sparse_rnn.core.errors import ConfigError

# By sbatch's manual page (22.05). The job has one task on one node, so that what shapes tasks is harmless otherwise.
REFUSED = {
    "`launch` sets it itself": ("job-name", "output", "error", "array", "signal", "open-mode", "requeue", "wrap"),
    "cluster.time says it": ("time",),
    "`launch` reads the number of the job from what sbatch prints": ("parsable", "quiet", "help", "usage", "version"),
    "nothing would be sent": ("test-only",),
    "`launch` returns once a job is queued": ("wait",),
    "`launch` asks only this cluster about its jobs": ("clusters", "cluster-constraint"),
    "a run that is stopped is queued again": ("no-requeue",),
    "a run would wait for a node that has gone": ("no-kill",),
    "a job is one task on one node, and has the CPUs that it asks for": (
        "exclusive",
        "nodes",
        "ntasks",
        "ntasks-per-core",
        "ntasks-per-gpu",
        "ntasks-per-node",
        "ntasks-per-socket",
        "tasks-per-node",
        "spread-job",
        "core-spec",
        "thread-spec",
    ),
    "a run needs the folder and the variables of the command that sent it": (
        "chdir",
        "workdir",
        "export",
        "export-file",
        "get-user-env",
        "container",
        "uid",
        "gid",
    ),
}
REASONS = {option: reason for reason, options in REFUSED.items() for option in options}
BEGINNINGS_ALLOWED = ("gpus",)  # an option of its own, beside gpus-per-...


def check_option(option: Any, value: Any) -> None:
    """Raise ConfigError for an option that `launch` cannot do with, or a value that sbatch could not read."""
    name, key = str(option).replace("_", "-"), f"cluster.sbatch.{option}"
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise ConfigError(f"cluster.sbatch: {str(option)!r} is no option of sbatch: write options as in {{qos: high}}.")

    # sbatch takes the beginning of an option for the option.
    meant = [name] if name in REASONS else [full for full in REASONS if full.startswith(name)]
    if meant and name not in BEGINNINGS_ALLOWED:
        raise ConfigError(f"{key} cannot be set, because {REASONS[meant[0]]}: leave it out.")
    if value is True:
        return
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ConfigError(f"{key}={value} must be text or a number, or true for an option without a value.")
    check_text(key, str(value))


def check_text(key: str, text: str | None) -> None:
    """Raise ConfigError for a text that cannot stand in a batch script's head, where it has to be one line."""
    if text is not None and (not text.strip() or not text.isprintable()):
        raise ConfigError(f"{key}={text!r} must be a text of one line, and not empty.")
