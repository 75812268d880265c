"""Whether a run computes with masked dense weights or with active entries alone."""

from dataclasses import dataclass

import torch
from torch import nn

from sparse_rnn.config.schema import Run
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.sparsity.iss.penalty import ISSConfig
from sparse_rnn.sparsity.method import final_counts, signals_needed
from sparse_rnn.sparsity.topology import SparseTopology

CROSSOVER_DENSITY = {"awd_lstm_mos": 0.4}  # above it masked dense weights are faster, by model
OTHER_CROSSOVER_DENSITY = 0.5
SMALLEST = 1 << 20  # entries of a weight; networks with none so large are faster with masked dense weights

NOTHING, SMALL = "there is no sparse weight", "faster for weights this small"


@dataclass(frozen=True)
class Choice:
    """`masked` or `sparse`, and why, in a phrase; `expected`: nobody need be told."""

    name: str
    reason: str
    expected: bool = False


def choose_backend(run: Run, model: nn.Module, topology: SparseTopology, device: torch.device) -> Choice:
    """What computes; raises ConfigError if sparsifier.backend=sparse cannot be."""
    asked = run.sparsifier.backend
    if asked == "masked":
        return Choice("masked", "as asked for")
    refuse_backend(run, model, topology, device)
    if asked == "auto" and (reason := obstacle(run, model, topology, device) or slower(run, topology)):
        return Choice("masked", reason, expected=reason in (NOTHING, SMALL))
    from sparse_rnn.backends.cpu.compile import KernelsUnavailable, kernels

    try:
        kernels()
    except KernelsUnavailable as error:
        if asked == "sparse":
            raise
        return Choice("masked", str(error).rstrip("."))
    return Choice("sparse", "as asked for" if asked == "sparse" else f"at density {_density(run, topology):.2f}")


def refuse_backend(run: Run, model: nn.Module, topology: SparseTopology, device: torch.device) -> None:
    """Raise ConfigError if sparsifier.backend=sparse is asked for and cannot be; works on the meta device."""
    if run.sparsifier.backend == "sparse" and (reason := obstacle(run, model, topology, device)):
        raise ConfigError(f"sparsifier.backend=sparse cannot be, since {reason}: use sparsifier.backend=masked.")


def obstacle(run: Run, model: nn.Module, topology: SparseTopology, device: torch.device) -> str:
    """Why active entries alone would not do, in a phrase; empty if they would."""
    from sparse_rnn.backends.cpu.modules import unsupported

    if not len(topology):
        return NOTHING
    if device.type != "cpu":
        return f"its kernels are for the CPU and device={device}"
    if isinstance(run.sparsifier, ISSConfig):
        return f"sparsifier={run.sparsifier.name} needs all entries"
    if run.protocol.masking == "weight":
        return f"protocol={run.protocol.name} steps on dense gradients"
    if run.optimizer.name == "nt_asgd" and run.sparsifier.dynamic:
        return "averages of optimizer=nt_asgd keep the history of inactive weights"
    if dtypes := {weight.parameter.dtype for weight in topology} - {torch.float32, torch.float64}:
        return f"its kernels are for float32 and float64 and the weights are {dtypes.pop()}"
    if unknown := unsupported(model, topology):
        return f"its kernels do not know how {', '.join(unknown)} is used"
    return ""


def slower(run: Run, topology: SparseTopology) -> str:
    """Why masked dense weights are faster, in a phrase; empty if they are not."""
    method = run.sparsifier
    if method.prunes:
        return f"sparsifier={method.name} starts dense"
    if (density := _density(run, topology)) > CROSSOVER_DENSITY.get(run.model.name, OTHER_CROSSOVER_DENSITY):
        return f"faster at density {density:.2f}"
    if small(topology):
        return SMALL
    needs = signals_needed(method, run.growth)
    often = "momentum" in needs and not run.optimizer.averages
    if often or (needs and method.update_interval == "1"):
        return "dense gradients are needed in every step"
    return ""


def small(topology: SparseTopology) -> bool:
    """Whether masked dense weights are faster for want of a large one."""
    return max(weight.size for weight in topology) < SMALLEST


def _density(run: Run, topology: SparseTopology) -> float:
    return sum(final_counts(run.sparsifier, topology).values()) / topology.size
