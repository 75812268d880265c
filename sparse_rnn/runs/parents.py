"""The runs that a run begins with: of iterative magnitude pruning, the round before, and the dense run."""

from dataclasses import replace

from torch import Tensor, nn

from sparse_rnn.config.identity import run_id
from sparse_rnn.config.schema import Run
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.runs.folder import RunFolder, runs_root
from sparse_rnn.runs.weights import load_weights, sparse_values
from sparse_rnn.sparsity.lottery import IMPConfig
from sparse_rnn.sparsity.topology import SparseTopology


def parent_of(run: Run) -> Run | None:
    """The run whose weights decide which ones this run begins with; None if it needs none. Raises ConfigError."""
    method = run.sparsifier
    if not isinstance(method, IMPConfig) or not method.rounds:
        return None
    if run.checkpoint.keep == "none":
        raise ConfigError(f"sparsifier={method.name} reads the weights of its parent: choose another checkpoint.keep.")
    if method.rewind_epoch >= run.training.epochs:
        raise ConfigError(
            f"sparsifier.rewind_epoch={method.rewind_epoch} must be less than training.epochs={run.training.epochs}."
        )
    return replace(run, sparsifier=method.before(method.rounds - 1))


def what_a_parent_changes(parent: Run) -> list[str]:
    """The overrides that make a parent's configuration of its child's."""
    assert isinstance(parent.sparsifier, IMPConfig)
    return [f"sparsifier.{key}={getattr(parent.sparsifier, key)!r}" for key in ("rounds", "sparsity")]


def magnitudes_of_parent(run: Run, topology: SparseTopology) -> dict[str, Tensor] | None:
    """The magnitudes of the weights that a run's parent kept, by name; None if it has no parent. Raises DamagedFile."""
    parent = parent_of(run)
    if parent is None:
        return None
    values = sparse_values(_folder(parent).best, topology)
    return {name: value.abs() for name, value in values.items()}


def rewind(run: Run, model: nn.Module, topology: SparseTopology) -> None:
    """Give a model the weights that a run begins with, if these are not the initial ones. Raises DamagedFile."""
    method = run.sparsifier
    if isinstance(method, IMPConfig) and method.rounds and method.rewind_epoch:
        load_weights(_folder(replace(run, sparsifier=method.before(0))).rewind, model, topology)


def keeps_rewind(run: Run, epoch: int) -> bool:
    """Whether other runs will begin with the weights that this one has after so many epochs."""
    method = run.sparsifier
    return isinstance(method, IMPConfig) and not method.rounds and 0 < method.rewind_epoch == epoch


def _folder(run: Run) -> RunFolder:
    return RunFolder(runs_root() / run_id(run))
