"""A trained run, read from its folder: configuration, record, data, weights."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sparse_rnn.config.schema import Run
from sparse_rnn.config.stored import run_from_dict
from sparse_rnn.core.command_line import warn
from sparse_rnn.core.errors import ConfigError, DamagedFile
from sparse_rnn.data.base import Data
from sparse_rnn.data.tokenizers import TextTokenizer, Tokenizer, from_json, to_json, tokenizer_of
from sparse_rnn.models.base import SequenceModel, TextClassifier
from sparse_rnn.runs.folder import RunFolder, load_record
from sparse_rnn.runs.vocabulary import load_vocabulary
from sparse_rnn.runs.weights import load_weights
from sparse_rnn.sparsity.method import make_topology
from sparse_rnn.sparsity.topology import SparseTopology

if TYPE_CHECKING:
    from sparse_rnn.training.trainer import Trainer


def read_run(folder: RunFolder) -> tuple[dict[str, Any], Run]:
    """Record and configuration; raises ConfigError."""
    with reraise_damaged():
        record = load_record(folder)
    if record is None:
        raise ConfigError(f"{folder.path} holds no run: its record.json is missing.")
    if not record.get("sizes"):
        raise ConfigError(f"{folder.record} does not say for which sizes its model is built: it is damaged.")
    try:
        return record, run_from_dict(record["config"])
    except ConfigError as error:
        raise ConfigError(f"{folder.path} cannot be used: {error}") from None


def load_data(folder: RunFolder, record: dict[str, Any], run: Run) -> Data:
    """The data of the run, cut to its budget; raises ConfigError if they are not those it was trained on."""
    return data_of(run, record["data_sha256"], folder.path)


def data_of(run: Run, sha256: str, trained: Path) -> Data:
    """The data with this SHA-256, cut to the run's budget; raises ConfigError, which names what they were for."""
    data = run.dataset.load()
    if data.sha256 != sha256:
        raise ConfigError(f"The data are not those that {trained} was trained on: their SHA-256 differs.")
    return data.limited(run.budget.train_tokens, run.budget.eval_tokens)


def kept_tokenizer(folder: RunFolder, record: dict[str, Any]) -> Tokenizer | None:
    """What the run keeps of its vocabulary; None for a run of an earlier version. Raises ConfigError."""
    with reraise_damaged():
        return load_vocabulary(folder, record)


def load_tokenizer(folder: RunFolder, record: dict[str, Any], run: Run) -> Tokenizer:
    """The tokenizer that the run keeps, or else that of its data; raises ConfigError."""
    if kept := kept_tokenizer(folder, record):
        return kept
    try:
        found = tokenizer_of(load_data(folder, record, run))
    except ConfigError as error:
        why = str(error).rstrip(".")
        raise ConfigError(f"{folder.path} keeps no vocabulary, and its data cannot be used instead: {why}.") from None
    if found is None:
        raise ConfigError(f"{folder.path} has data without a vocabulary.")
    return found


def vocabulary_of(folder: RunFolder, tokenizer: Tokenizer | None) -> dict[str, str]:
    """What the metadata of a model's file say of the run's vocabulary; nothing, with a warning, if it keeps none."""
    if tokenizer is None:
        warn(f"{folder.path} keeps no vocabulary, as runs of earlier versions do not: its export has none either")
        return {}
    return {"vocabulary": to_json(tokenizer)}


def give_tokenizer(model: nn.Module, metadata: Mapping[str, str], sizes: Sequence[int]) -> None:
    """Let a model of these sizes read and write text, if its file has a vocabulary. Raises ValueError."""
    if "vocabulary" not in metadata or not isinstance(model, SequenceModel):
        return
    model.tokenizer = tokenizer = from_json(metadata["vocabulary"].encode(), sizes)
    if isinstance(model, TextClassifier) and isinstance(tokenizer, TextTokenizer) and not model.classes:
        model.classes = tokenizer.classes


def load_best(run: Run, sizes: Sequence[int], folder: RunFolder) -> tuple[nn.Module, SparseTopology, str]:
    """Model and topology of the best validation, and which weights they are; raises ConfigError, DamagedFile."""
    if not folder.best.exists():
        raise ConfigError(
            f"{folder.path} has no best weights (checkpoint.keep=none, or no checkpoint since the first epoch)."
        )
    try:
        model = run.model.build(*sizes)
        topology = make_topology(run.sparsifier, model)
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ConfigError(f"{folder.record} is damaged: it describes no model that can be built ({reason}).") from error
    origin = load_weights(folder.best, model, topology)
    return model, topology, f"best, {origin.get('weights', 'unknown')}, epoch {origin.get('epoch', 'unknown')}"


@contextmanager
def last_weights(
    run: Run, data: Data, folder: RunFolder, weights: str, device: torch.device
) -> Iterator[tuple["Trainer", str]]:
    """A trainer at the last checkpoint with its raw or averaged weights, and which they are; raises ConfigError."""
    if not folder.has_checkpoint:
        raise ConfigError(f"{folder.path} has no checkpoint; weights={weights} needs an unfinished run or keep=last.")
    from sparse_rnn.training.trainer import Trainer  # not for those who only read weights

    trainer = Trainer(run, data, folder, device, read_only=True)
    if trainer.damage:
        print(f"warning: {trainer.damage}: the checkpoint before is used", file=sys.stderr)
    if weights == "raw":
        yield trainer, f"raw, step {trainer.state.step}"
        return
    with trainer.evaluated_weights() as averaged:
        if not averaged:
            raise ConfigError(f"{folder.path} has not begun averaging; use weights=raw.")
        yield trainer, f"averaged, step {trainer.state.step}"


@contextmanager
def reraise_damaged() -> Iterator[None]:
    """Turn DamagedFile into ConfigError: the user reads a sentence about the file, not a traceback."""
    try:
        yield
    except DamagedFile as error:
        raise ConfigError(str(error)) from None
