"""The runtime objects of a configuration."""

import torch
from torch import nn
from torch.optim import Optimizer

from sparse_rnn import language_modelling, text_classification  # noqa: F401  (fill the registry)
from sparse_rnn.config import Run
from sparse_rnn.data.datasets import Data
from sparse_rnn.kernels.backend import refuse_backend
from sparse_rnn.registry import ConfigError, lookup
from sparse_rnn.sparsity.iss import ISS, ISSConfig
from sparse_rnn.sparsity.sparsifier import Sparsifier, refuse_without_gates
from sparse_rnn.sparsity.topology import SparseTopology
from sparse_rnn.task import Task


def make_device(name: str) -> torch.device:
    """`auto`: CUDA if it is there, else the CPU; otherwise as named. Raises ConfigError if it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ConfigError(f"device={name} is not available here; use device=auto.") from None
    return device


def check_method(run: Run, device: torch.device | None = None) -> None:
    """Raise ConfigError if the method does not fit the model, or its backend the rest; needs neither memory nor data.

    device: where the run is to take place; by default the CPU.
    """
    with torch.device("meta"):
        model = run.model.build(*lookup("task", run.model.task).smallest)
        refuse_backend(run, model, make_topology(run, model), device or torch.device("cpu"))


def make_topology(run: Run, model: nn.Module) -> SparseTopology:
    """The topology of a method, all active as yet; empty if the method has none. Raises ConfigError."""
    if not run.sparsifier.masked:
        return SparseTopology([])
    topology = SparseTopology.of(model, keep_dense=run.sparsifier.dense_weights(model))
    if not len(topology):
        raise ConfigError("sparsifier.keep_dense leaves no weight to make sparse; use sparsifier=dense instead.")
    refuse_without_gates(run.sparsifier, topology)
    return topology


def make_task(run: Run, data: Data, model: nn.Module, device: torch.device) -> Task:
    """What the model learns from the data."""
    task: Task = lookup("task", run.model.task)(run, data, model, device)
    return task


def make_optimizer(run: Run, model: nn.Module) -> Optimizer:
    """The optimizer over all parameters."""
    return run.optimizer.build(model.parameters(), run.protocol)


def make_sparsifier(run: Run, topology: SparseTopology, optimizer: Optimizer) -> Sparsifier:
    """The method at work; draws the first topology. Averaged SGD has no momentum: the gradient takes its place."""
    kind = ISS if isinstance(run.sparsifier, ISSConfig) else Sparsifier
    return kind(
        run.sparsifier,
        run.growth,
        topology,
        optimizer,
        seed=run.seed,
        init_seed=run.init_seed,
        protocol=run.protocol,
        momentum_signal="gradient" if run.optimizer.averages else "momentum",
    )
