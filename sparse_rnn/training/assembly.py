"""The parts of a run, made from its configuration: here a Run is taken apart, and each part gets what it needs."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparse_rnn.backends.choice import Choice, choose_backend, refuse_backend
from sparse_rnn.backends.cpu.convert import use_sparse_kernels
from sparse_rnn.backends.gpu.choice import choose_fused, choose_graph
from sparse_rnn.config.schema import Run
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.protocol import ProtocolConfig
from sparse_rnn.core.registry import lookup
from sparse_rnn.data.base import Data, learned
from sparse_rnn.data.corpus import Corpus
from sparse_rnn.optim.averaged_sgd import AveragedSGD
from sparse_rnn.sparsity.coactivation import Coactivation
from sparse_rnn.sparsity.iss.penalty import ISS, ISSConfig
from sparse_rnn.sparsity.method import make_topology, signals_needed
from sparse_rnn.sparsity.sparsifier import Sparsifier
from sparse_rnn.sparsity.topology import SparseTopology
from sparse_rnn.training.captured_step import CapturedStep, CUDAGraphs
from sparse_rnn.training.running_sums import RunningSums
from sparse_rnn.training.step import TrainingStep
from sparse_rnn.training.tasks import (  # noqa: F401  (fill the registry)
    drawn_sequences,
    language_modelling,
    text_classification,
)
from sparse_rnn.training.tasks.base import Task


def check_method(run: Run, device: torch.device | None = None) -> None:
    """Raise ConfigError if the method does not fit the model, or the ways of computing do not fit the run.

    Needs neither memory nor data. device: where the run will compute; None if that is not known yet.
    """
    if device is not None:
        choose_fused(run.training.fused, device)
        choose_graph(run.training.graph, device)
    with torch.device("meta"):
        model = run.model.build(*lookup("task", run.model.task).smallest)
        topology = make_topology(run.sparsifier, model)
        on = device or torch.device("cpu")
        if "activations" in signals_needed(run.sparsifier, run.growth):
            Coactivation(topology)
        refuse_backend(run.sparsifier, run.growth, run.optimizer, run.protocol, model, topology, on, run.precision)


def load_data(run: Run) -> Data:
    """The data of a run, cut to its budget; raises ConfigError if they cannot be had or are too few for its batches."""
    return limited(run, run.dataset.load())


def limited(run: Run, data: Data) -> Data:
    """The part of a data set that the budget of a run takes; raises ConfigError if it is too little for its batches."""
    part = data.limited(run.budget.train_tokens, run.budget.eval_tokens)
    if isinstance(part, Corpus):
        language_modelling.check_batches(run.training, part)
    _check_warm_up(run, part)
    return part


def _check_warm_up(run: Run, data: Data) -> None:
    """Raise ConfigError if training is over before the sparse network begins."""
    batch = run.training.batch * (run.training.bptt if isinstance(data, Corpus) else 1)
    steps = run.training.epochs * (data.counts["train"] // batch)
    if run.sparsifier.dense_steps >= max(1, steps):
        raise ConfigError(
            f"sparsifier.dense_steps={run.sparsifier.dense_steps} leaves none of about {steps:,} steps to the sparse "
            "network."
        )


def make_task(run: Run, data: Data, model: nn.Module, device: torch.device) -> Task:
    """What the model learns from the data."""
    task: Task = lookup("task", learned(run.dataset))(run.training, run.seed, data, model, device, run.precision)
    return task


def make_optimizer(run: Run, model: nn.Module) -> Optimizer:
    """The optimizer over all parameters."""
    return run.optimizer.build(model.parameters(), run.protocol)


def make_sparsifier(
    run: Run, topology: SparseTopology, optimizer: Optimizer, scores: Mapping[str, Tensor] | None = None
) -> Sparsifier:
    """The method at work; draws the first topology, or takes it from `scores`.

    Averaged SGD has no momentum: the gradient takes its place.
    """
    kind = ISS if isinstance(run.sparsifier, ISSConfig) else Sparsifier
    return kind(
        run.sparsifier,
        run.growth,
        topology,
        optimizer,
        seed=run.seed,
        init_seed=run.init_seed,
        scores=scores,
        protocol=run.protocol,
        momentum_signal="gradient" if run.optimizer.averages else "momentum",
    )


def make_step(
    run: Run, model: nn.Module, task: Task, sparsifier: Sparsifier, optimizer: Optimizer, sums: RunningSums
) -> TrainingStep | CapturedStep:
    """One step of training: fused, captured, both or neither, as configured. Raises ConfigError without a GPU."""
    device = next(model.parameters()).device
    step = TrainingStep(run.training, model, task, sparsifier, optimizer, sums)
    if choose_fused(run.training.fused, device):
        _use_triton(step, run.protocol)
    return CapturedStep(step, CUDAGraphs(device)) if choose_graph(run.training.graph, device) else step


def _use_triton(step: TrainingStep, protocol: ProtocolConfig) -> None:
    """Let Triton kernels compute what they can: cells, the mixture's loss and, for averaged SGD, the update."""
    from sparse_rnn.backends.gpu.averaged_step import FusedAveragedStep  # imports triton, which not every machine has
    from sparse_rnn.backends.gpu.convert import use_triton

    use_triton(step.model)
    step.fused = True
    plain = protocol.masking == "gradient" and not isinstance(step.sparsifier, ISS) and step.sparsifier.reserve is None
    if plain and isinstance(step.optimizer, AveragedSGD):
        step.read_rates_on_device()
        masks = {weight.parameter: weight.mask for weight in step.sparsifier.topology}
        step.update = FusedAveragedStep(step.optimizer, masks, step.config.clip)


def use_backend(
    run: Run, model: nn.Module, topology: SparseTopology, device: torch.device, task: Task, begun: str | None
) -> Choice:
    """Choose what computes with the sparse weights, and let the model do so; raises ConfigError.

    begun: what a run that resumes has computed with so far.
    """
    method = run.sparsifier, run.growth, run.optimizer, run.protocol
    choice = choose_backend(*method, model, topology, device, run.precision, _tokens(run, task), begun)
    if choice.name == "sparse":
        use_sparse_kernels(model, topology)
    return choice


def _tokens(run: Run, task: Task) -> int:
    """About as many as the run is trained on, each as often as it is read."""
    batches = task.batches(0)
    return run.training.epochs * len(batches) * next(batches.after(0)).tokens
