"""Whether the kernels compute with the weights of a module that somebody else wrote."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.optim import Optimizer

from sparse_rnn.backends.choice import ALWAYS, OTHER_CROSSOVER_DENSITY, small
from sparse_rnn.backends.cpu.compile import KernelsUnavailable, kernels
from sparse_rnn.backends.cpu.convert import unsupported
from sparse_rnn.backends.cpu.own_modules import DTYPES, KernelWeights
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.optim.averaged_sgd import AveragedSGD
from sparse_rnn.sparsity.method import SparsifierConfig, final_counts, reads_in_every_step, signals_needed
from sparse_rnn.sparsity.rules.growth import DENSE_GRADIENTS, EVERY_STEP, GrowthRule
from sparse_rnn.sparsity.step_sparsifier import StepSparsifier
from sparse_rnn.sparsity.topology import SparseTopology, SparseWeight

# Optimizers that move each entry by its own gradient and state, and so do the same with active entries alone. By exact
# type: a subclass, or one that wraps others, may do something else.
BY_ENTRY = {
    *(torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad, torch.optim.ASGD),
    *(torch.optim.Adamax, torch.optim.NAdam, torch.optim.RAdam, torch.optim.Adadelta, torch.optim.Rprop, AveragedSGD),
}

# Steps of small networks gain too, but not enough to surprise with packed weights whoever did not ask for them.
SMALL = "no weight has 2^20 entries; backend=sparse uses the kernels all the same"


@dataclass(frozen=True)
class OwnChoice:
    """The names of the weights that the kernels compute with, none with masks, and why, in a phrase."""

    names: Sequence[str]
    reason: str

    def apply(self, sparsifier: StepSparsifier, module: nn.Module) -> None:
        """Let the kernels compute with these weights."""
        weights = [sparsifier.topology[name] for name in self.names]
        if weights:
            sparsifier.backend = "sparse"
            sparsifier.pack_with(partial(KernelWeights, module, weights, sparsifier.optimizer))
        sparsifier.backend_reason = self.reason


def choose_for_own(
    config: SparsifierConfig, growth: GrowthRule, module: nn.Module, topology: SparseTopology, optimizer: Optimizer
) -> OwnChoice:
    """What computes; raises ConfigError if backend=sparse is requested and a weight cannot be on the kernels."""
    asked = config.backend == "sparse"
    whole = obstacle(config, growth, optimizer)
    single = unusable(module, topology)
    if asked and whole:
        raise ConfigError(f"backend=sparse is not possible, because {whole}: use backend=masked.")
    if asked and single:
        raise ConfigError(f"backend=sparse is not possible for {listed(single)}: use auto, or name it in keep_dense.")
    usable = [weight for weight in topology if weight.name not in single]
    if reason := whole or ("" if usable else f"the kernels cannot compute with {listed(single)}"):
        return OwnChoice((), reason)
    if not asked and (reason := slower(config, growth, topology, usable)):
        return OwnChoice((), reason)
    try:
        kernels()
    except KernelsUnavailable as error:
        sentence = str(error).replace("sparsifier.backend", "backend")
        if asked:
            raise KernelsUnavailable(sentence) from None
        return OwnChoice((), sentence.rstrip("."))
    share = f"{_density(config, topology, usable):.0%} of the weights are active, and it computes with those alone"
    others = f", but for {listed(single)}" if single else ""
    return OwnChoice([weight.name for weight in usable], ("as requested" if asked else share) + others)


def obstacle(config: SparsifierConfig, growth: GrowthRule, optimizer: Optimizer) -> str:
    """Why no weight can be on the kernels, in a phrase; empty if some may be."""
    if "activations" in signals_needed(config, growth):
        return "its modules do not show the activations that the method reads"
    if type(optimizer) not in BY_ENTRY:
        return f"{type(optimizer).__name__} is not known to move every entry of a weight by itself"
    return ""


def unusable(module: nn.Module, topology: SparseTopology) -> dict[str, str]:
    """The weights that cannot be on the kernels, and why, in a phrase."""
    found = unsupported(module, topology)
    for weight in topology:
        if weight.parameter.device.type != "cpu":
            found[weight.name] = f"on {weight.parameter.device}, and the kernels are for the CPU"
        elif weight.parameter.dtype not in DTYPES:
            dtype = str(weight.parameter.dtype).removeprefix("torch.")
            found[weight.name] = f"of type {dtype}, and the kernels are for float32 and float64"
        elif type(weight.parameter) is not nn.Parameter:
            found[weight.name] = f"a {type(weight.parameter).__name__}, and no plain nn.Parameter"
    return found


def listed(reasons: dict[str, str]) -> str:
    """The weights that each reason holds for, and the reason in brackets."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        by_reason.setdefault(reason, []).append(name)
    return ", ".join(f"{', '.join(names)} ({reason})" for reason, names in by_reason.items())


def slower(
    config: SparsifierConfig, growth: GrowthRule, topology: SparseTopology, usable: Sequence[SparseWeight]
) -> str:
    """Why masks are faster, in a phrase; empty if they are not."""
    if ALWAYS:
        return ""
    if config.warms_up or (config.prunes and config.initial == "dense"):
        return f"method={config.name} starts dense"
    density = _density(config, topology, usable)
    if (most := max(density, 1 - config.start_sparsity) if config.scheduled else density) > OTHER_CROSSOVER_DENSITY:
        return f"{most:.0%} of the weights are active, and above {OTHER_CROSSOVER_DENSITY:.0%} masks are faster"
    if signals_needed(config, growth) & DENSE_GRADIENTS & EVERY_STEP or reads_in_every_step(config, growth):
        return "dense gradients are needed in every step"
    return SMALL if small(usable) else ""


def _density(config: SparsifierConfig, topology: SparseTopology, weights: Sequence[SparseWeight]) -> float:
    """The active share of these weights, at the end of training."""
    counts = final_counts(config, topology)
    return sum(counts[weight.name] for weight in weights) / sum(weight.size for weight in weights)
