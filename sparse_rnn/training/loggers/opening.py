"""The loggers of a run: what they need is checked before it begins, and they are opened once it is ready."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from sparse_rnn.config.schema import LoggerConfig
from sparse_rnn.runs.folder import PROVENANCE, RunFolder
from sparse_rnn.runs.mlflow_store import check_store, store_of
from sparse_rnn.training.loggers.base import Dispensable, Logger, Loggers
from sparse_rnn.training.loggers.json_lines import JsonLines
from sparse_rnn.training.loggers.mlflow import MLflow
from sparse_rnn.training.loggers.terminal import Terminal
from sparse_rnn.training.loggers.wandb import WandB, check_login


def check_loggers(config: LoggerConfig, folder: RunFolder) -> None:
    """Raise ConfigError, or ModuleNotFoundError for want of an extra, if a logger cannot be used.

    A run that has begun goes on without a store that does not answer, which then gets its rows later.
    """
    if config.wandb:
        check_login(config)
    for package in ("tensorboard", "mlflow"):
        if getattr(config, package) and find_spec(package) is None:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    if config.mlflow and not folder.has_checkpoint:
        check_store(store_of(config.uri))


def open_loggers(
    config: LoggerConfig, record: Mapping[str, Any], folder: RunFolder, rows: JsonLines, terminal: Terminal
) -> Loggers:
    """metrics.jsonl, the terminal and what was asked for, which also gets the rows of earlier processes that it lacks.

    Raises ConfigError and OSError.
    """
    settings, before = record["config"], rows.written()
    loggers: list[Logger] = [rows, terminal]
    if config.wandb:
        known = settings | {"record": {key: record[key] for key in PROVENANCE}}
        loggers.append(Dispensable("W&B", WandB(config, record["run_id"], folder.path, known, before)))
    if config.tensorboard:
        from sparse_rnn.training.loggers.tensorboard import TensorBoard  # imports TensorBoard, of an extra

        loggers.append(Dispensable("TensorBoard", TensorBoard(folder, settings, before)))
    if config.mlflow:
        loggers.append(MLflow(store_of(config.uri), config.project, folder, record, before))
    return Loggers(loggers)
