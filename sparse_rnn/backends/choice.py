"""Whether a run computes with masked dense weights or with active entries alone."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from sparse_rnn.backends.cpu.compile import KernelsUnavailable, are_compiled, kernels
from sparse_rnn.backends.cpu.convert import unsupported
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.protocol import ProtocolConfig
from sparse_rnn.models.awd_lstm_mos import AWDLSTMMoS
from sparse_rnn.optim.configurations import OptimizerConfig
from sparse_rnn.sparsity.iss.penalty import ISSConfig
from sparse_rnn.sparsity.method import SparsifierConfig, final_counts, reads_in_every_step, signals_needed
from sparse_rnn.sparsity.rules.growth import DENSE_GRADIENTS, GrowthRule
from sparse_rnn.sparsity.topology import SparseTopology, SparseWeight

# Where the kernels and masked dense weights take the same time, as measured: see docs/performance.md.
CROSSOVER_DENSITY: dict[type[nn.Module], float] = {AWDLSTMMoS: 0.4}  # above it masks are faster, by model
OTHER_CROSSOVER_DENSITY = 0.5
# What the kernels save for each inactive entry and each token of training: the least that was measured, see
# docs/performance.md and `make bench ARGS=small_networks`.
SAVED_SECONDS = 15e-12
START_SECONDS = 1.0  # to load the kernels and convert a network, rounded up
COMPILE_SECONDS = 50.0  # on two cores
LARGE = 1 << 20  # entries of a weight that are worth compiling for where nobody knows how much is to be computed
ALWAYS = bool(os.environ.get("SPARSE_RNN_BACKEND_TEST"))  # for `make test-backend` alone: auto ignores what is faster

NOTHING, SMALL = "there is no sparse weight", "compiling the kernels may not pay for weights this small"
SHORT = "faster for a run this short"
OF_CPU = "its kernels are for the CPU"
BEGUN = "as the run began"


@dataclass(frozen=True)
class Choice:
    """`masked` or `sparse`, and why, in a phrase; `expected`: so usual that it is not printed."""

    name: str
    reason: str
    expected: bool = False


def choose_backend(
    sparsifier: SparsifierConfig,
    growth: GrowthRule,
    optimizer: OptimizerConfig,
    protocol: ProtocolConfig,
    model: nn.Module,
    topology: SparseTopology,
    device: torch.device,
    precision: str = "fp32",
    tokens: float | None = None,
    begun: str | None = None,
) -> Choice:
    """What computes; raises ConfigError if sparsifier.backend=sparse is not possible.

    tokens: see `too_little`. begun: what a run that resumes has computed with; `auto` stays with it if it can.
    """
    asked = sparsifier.backend
    if asked == "masked":
        return Choice("masked", "as requested")
    refuse_backend(sparsifier, growth, optimizer, protocol, model, topology, device, precision)
    choice = Choice("sparse", "as requested")
    if asked == "auto":
        impossible = obstacle(sparsifier, growth, optimizer, protocol, model, topology, device, precision)
        masked = impossible or slower(sparsifier, growth, optimizer, model, topology, tokens)
        choice = _going_on(begun, impossible, masked) or _faster(masked, sparsifier, topology)
    if choice.name == "sparse":
        try:
            kernels()
        except KernelsUnavailable as error:
            if asked == "sparse":
                raise
            return Choice("masked", str(error).rstrip("."))
    return choice


def _going_on(begun: str | None, impossible: str, masked: str) -> Choice | None:
    """What a run that resumes has begun with, if it is possible and a new run would choose otherwise."""
    otherwise = (begun == "masked" and not masked) or (begun == "sparse" and masked and not impossible)
    return Choice(begun, BEGUN) if begun and otherwise else None


def _faster(masked: str, sparsifier: SparsifierConfig, topology: SparseTopology) -> Choice:
    """Masks for the reason `masked`, or the kernels if that is empty."""
    if masked:
        usual = masked in (NOTHING, SMALL, SHORT) or masked.startswith(OF_CPU)
        return Choice("masked", masked, expected=usual)
    share = f"{_density(sparsifier, topology):.0%} of the sparse weights are active"
    return Choice("sparse", f"{share}, and it computes with those alone")


def refuse_backend(
    sparsifier: SparsifierConfig,
    growth: GrowthRule,
    optimizer: OptimizerConfig,
    protocol: ProtocolConfig,
    model: nn.Module,
    topology: SparseTopology,
    device: torch.device,
    precision: str = "fp32",
) -> None:
    """Raise ConfigError if sparsifier.backend=sparse is requested and not possible; works on the meta device."""
    if sparsifier.backend != "sparse":
        return
    if reason := obstacle(sparsifier, growth, optimizer, protocol, model, topology, device, precision):
        raise ConfigError(
            f"sparsifier.backend=sparse is not possible, because {reason}: use sparsifier.backend=masked."
        )


def obstacle(
    sparsifier: SparsifierConfig,
    growth: GrowthRule,
    optimizer: OptimizerConfig,
    protocol: ProtocolConfig,
    model: nn.Module,
    topology: SparseTopology,
    device: torch.device,
    precision: str = "fp32",
) -> str:
    """Why active entries alone are not enough, in a phrase; empty if they are."""
    if not len(topology):
        return NOTHING
    if device.type != "cpu":
        return f"{OF_CPU} and device={device}"
    if precision != "fp32":
        return f"its kernels compute in fp32 and precision={precision}"
    if isinstance(sparsifier, ISSConfig):
        return f"sparsifier={sparsifier.name} needs all entries"
    if "activations" in signals_needed(sparsifier, growth):
        return "its modules do not show the activations that the method reads"
    if protocol.masking == "weight":
        return f"protocol={protocol.name} steps on dense gradients"
    if optimizer.name == "nt_asgd" and sparsifier.dynamic:
        return "averages of optimizer=nt_asgd keep the history of inactive weights"
    if dtypes := {weight.parameter.dtype for weight in topology} - {torch.float32, torch.float64}:
        return f"its kernels are for float32 and float64 and the weights are {dtypes.pop()}"
    if unknown := unsupported(model, topology):
        return f"its kernels do not support the module that uses {', '.join(unknown)}"
    return ""


def slower(
    sparsifier: SparsifierConfig,
    growth: GrowthRule,
    optimizer: OptimizerConfig,
    model: nn.Module,
    topology: SparseTopology,
    tokens: float | None,
) -> str:
    """Why masked dense weights are faster, in a phrase; empty if they are not. tokens: see `too_little`."""
    if ALWAYS:
        return ""
    if sparsifier.warms_up or (sparsifier.prunes and sparsifier.initial == "dense"):
        return f"sparsifier={sparsifier.name} starts dense"
    limit = crossover(model)
    density = _density(sparsifier, topology)
    if (most := max(density, 1 - sparsifier.start_sparsity) if sparsifier.scheduled else density) > limit:
        return f"{most:.0%} of the sparse weights are active, and above {limit:.0%} masks are faster"
    needs = signals_needed(sparsifier, growth) & DENSE_GRADIENTS
    every_step = ("momentum" in needs and not optimizer.averages) or "reserve" in needs
    if every_step or reads_in_every_step(sparsifier, growth):
        return "dense gradients are needed in every step"
    return too_little([weight.size for weight in topology], density, tokens)


def too_little(sizes: Sequence[int], density: float, tokens: float | None) -> str:
    """Why the kernels do not pay for sparse weights of these sizes (entries), in a phrase; empty if they do.

    Kernels that are not compiled yet must also save the time that compiling takes. Compiles nothing.
    density: the share of entries that are active. tokens: that each weight is multiplied with in the whole training,
    steps x batch x window; None: nobody knows.
    """
    if tokens is None:
        return "" if max(sizes) >= LARGE or are_compiled() else SMALL
    saved = SAVED_SECONDS * sum(sizes) * (1 - density) * tokens
    if saved < START_SECONDS:
        return SHORT
    if saved < START_SECONDS + COMPILE_SECONDS and not are_compiled():
        return f"compiling the kernels would take longer than they save in this run (some {saved:.0f} s)"
    return ""


def crossover(model: nn.Module) -> float:
    """The density above which windows are faster with masked dense weights."""
    return CROSSOVER_DENSITY.get(type(model), OTHER_CROSSOVER_DENSITY)


def small(weights: Iterable[SparseWeight]) -> bool:
    """Whether no weight is large enough to compile for where nobody knows how much is to be computed."""
    return max(weight.size for weight in weights) < LARGE


def _density(sparsifier: SparsifierConfig, topology: SparseTopology) -> float:
    return sum(final_counts(sparsifier, topology).values()) / topology.size
