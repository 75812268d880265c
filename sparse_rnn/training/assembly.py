"""The parts of a run, made from its configuration: here a Run is taken apart, and each part gets what it needs."""

import torch
from torch import nn
from torch.optim import Optimizer

from sparse_rnn.backends.choice import Choice, choose_backend, refuse_backend
from sparse_rnn.backends.cpu.convert import use_sparse_kernels
from sparse_rnn.config.schema import Run
from sparse_rnn.core.registry import lookup
from sparse_rnn.data.base import Data
from sparse_rnn.sparsity.iss.penalty import ISS, ISSConfig
from sparse_rnn.sparsity.method import make_topology
from sparse_rnn.sparsity.sparsifier import Sparsifier
from sparse_rnn.sparsity.topology import SparseTopology
from sparse_rnn.training.tasks import language_modelling, text_classification  # noqa: F401  (fill the registry)
from sparse_rnn.training.tasks.base import Task


def check_method(run: Run, device: torch.device | None = None) -> None:
    """Raise ConfigError if the method does not fit the model, or the backend does not fit the run.

    Needs neither memory nor data. device: where the run will compute; by default the CPU.
    """
    with torch.device("meta"):
        model = run.model.build(*lookup("task", run.model.task).smallest)
        topology = make_topology(run.sparsifier, model)
        refuse_backend(run.sparsifier, run.optimizer, run.protocol, model, topology, device or torch.device("cpu"))


def make_task(run: Run, data: Data, model: nn.Module, device: torch.device) -> Task:
    """What the model learns from the data."""
    task: Task = lookup("task", run.model.task)(run.training, run.seed, data, model, device)
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


def use_backend(run: Run, model: nn.Module, topology: SparseTopology, device: torch.device) -> Choice:
    """Choose what computes with the sparse weights, and let the model do so; raises ConfigError."""
    choice = choose_backend(run.sparsifier, run.growth, run.optimizer, run.protocol, model, topology, device)
    if choice.name == "sparse":
        use_sparse_kernels(model, topology)
    return choice
