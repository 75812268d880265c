"""A run in W&B, online or offline."""

import logging
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sparse_rnn.config.schema import LoggerConfig
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.wandb_environment import own_run_only
from sparse_rnn.data.labels import dataset_name
from sparse_rnn.training.loggers.base import Logger, Row


def check_login(config: LoggerConfig) -> None:
    """Raise ConfigError if runs are to be sent to W&B, and there is no key to do so."""
    if config.mode != "online":
        return
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    try:
        found = wandb.login(prompt=False, verify=False)
    except wandb.errors.Error as error:
        raise _no_login(error) from None
    if not found:
        raise ConfigError("logger.mode=online needs a key of W&B: log in by `wandb login`, or use logger.mode=offline.")


def _no_login(error: Exception) -> ConfigError:
    reason = str(error).splitlines()[0].rstrip(".")
    return ConfigError(f"logger.mode=online failed ({reason}): log in, or use logger.mode=offline.")


class WandB(Logger):
    """A W&B run under the run's id. `step` and `epoch` are columns of their own: W&B's step restarts on resume.

    before: the rows of earlier processes, of which W&B may lack the last ones.
    """

    def __init__(
        self, config: LoggerConfig, run_id: str, folder: Path, settings: Mapping[str, Any], before: Iterable[Row]
    ) -> None:
        import wandb

        tags = {key: settings[key]["name"] for key in ("model", "dataset", "sparsifier", "optimizer", "budget")}
        tags["dataset"] = dataset_name(settings["dataset"])
        quiet = wandb.Settings(
            console="off",
            silent=True,
            x_disable_stats=True,
            x_transaction_log_flush_interval=1,
            sagemaker_disable=True,  # which would give the run the id of its job
        )
        logging.raiseExceptions = False  # else W&B's own log prints tracebacks once the disk is full
        try:
            with own_run_only(folder / "wandb" / "cache") as ignored:
                self._run = wandb.init(
                    id=run_id,
                    name=run_id,
                    resume="allow" if config.mode == "online" else None,
                    project=config.project,
                    entity=config.entity,
                    dir=folder,
                    mode="online" if config.mode == "online" else "offline",
                    config=dict(settings),
                    group=run_id.rsplit("-s", 1)[0],
                    tags=list(tags.values()),
                    settings=quiet,
                )
        except ValueError as error:  # pydantic's, of a variable that W&B does get
            reason = ": ".join(line.strip() for line in str(error).splitlines()[1:3]).partition(" [")[0]
            raise ConfigError(f"A variable WANDB_* of the environment is wrong ({reason}).") from None
        except wandb.errors.Error as error:
            raise _no_login(error) from None
        _report(name for name, value in ignored.items() if (name, value) != ("WANDB_MODE", config.mode))
        last_step = int(self._run.summary.get("step", 0))
        for row in before:
            if int(row["step"] or 0) >= last_step:
                self.row(row)

    def row(self, row: Row) -> None:
        """Log a row."""
        self._run.log(dict(row))

    def finish(self, exit_code: int) -> None:
        """Close the run, so that every row is on disk."""
        self._run.finish(exit_code=exit_code)

    def give_up(self) -> None:
        """End W&B's own process, so that W&B does not try again when this one exits."""
        import wandb

        wandb.teardown()


def _report(ignored: Iterable[str]) -> None:
    """Say which of the user's variables W&B does not get; WANDB_SERVICE is none, W&B sets it itself."""
    if names := [name for name in ignored if name != "WANDB_SERVICE"]:
        print(f"warning: ignored {', '.join(names)}: logger.* says how W&B keeps a run.", file=sys.stderr)
