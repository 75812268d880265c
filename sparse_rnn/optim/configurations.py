"""The optimizers by name; each is a dataclass whose fields are its configuration."""

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from omegaconf import II, MISSING
from torch import nn
from torch.optim import Optimizer

from sparse_rnn.core.bounds import check_whole
from sparse_rnn.core.defaults import changed_default
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.protocol import ProtocolConfig
from sparse_rnn.core.registry import register
from sparse_rnn.optim.after_validation import (
    ConstantRate,
    NonMonotonicTrigger,
    Plateau,
    Schedule,
    StepDecay,
    WarmupCosine,
)
from sparse_rnn.optim.averaged_sgd import AveragedSGD
from sparse_rnn.optim.moving_average import keep_moving_average
from sparse_rnn.optim.portable_state import cuda_flags, make_portable

# Adam's steps on a GPU can be captured, whether a run does so or not; torch would warn of every run that does not.
warnings.filterwarnings("ignore", message="This instance was constructed with capturable=True")


class OptimizerConfig(Protocol):
    """Builds an optimizer, and what happens to it after each validation.

    averages: whether it is averaged SGD, and so has no momentum.
    """

    name: str
    averages: ClassVar[bool]

    def build(self, parameters: Iterable[nn.Parameter], protocol: ProtocolConfig) -> Optimizer: ...

    def schedule(self, optimizer: Optimizer, epochs: int) -> Schedule: ...


def _check_rates(lr: float, weight_decay: float) -> None:
    if not lr > 0:
        raise ConfigError(f"optimizer.lr={lr} must be greater than 0.")
    if weight_decay < 0:
        raise ConfigError(f"optimizer.weight_decay={weight_decay} must not be negative.")


class _MayAverage:
    """An optimizer of torch's, whose weights may be averaged.

    ema: the decay of an exponential moving average of the weights, which is evaluated in their place; 0: there is none.
    """

    ema: float

    def _finished(self, optimizer: Optimizer) -> Optimizer:
        """The optimizer with checkpoints for every device and, if asked for, the average."""
        make_portable(optimizer)
        if self.ema:
            keep_moving_average(optimizer, self.ema)
        return optimizer


@dataclass
class _WithPlateau(_MayAverage):
    """An optimizer of torch's whose learning rate may fall on plateaus.

    lr: the learning rate. weight_decay: the share of each weight that is added to its gradient. plateau_factor: what
    the learning rate is multiplied by on a plateau of the validation loss; 1: it stays. plateau_patience: how many
    epochs in a row may pass without a new best loss before that.
    """

    lr: float = MISSING
    weight_decay: float = 0.0
    plateau_factor: float = 1.0
    plateau_patience: int = 2
    ema: float = 0.0
    averages: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_rates(self.lr, self.weight_decay)
        _check_shares(ema=self.ema)
        if not 0 < self.plateau_factor <= 1:
            raise ConfigError(f"optimizer.plateau_factor={self.plateau_factor} must lie in (0, 1].")
        check_whole("optimizer.plateau_patience", self.plateau_patience, 0)

    def schedule(self, optimizer: Optimizer, epochs: int) -> Schedule:
        """The learning rate falls on a plateau of the validation loss; with plateau_factor=1 it is constant."""
        if self.plateau_factor == 1:
            return ConstantRate()
        return Plateau(optimizer, self.plateau_factor, self.plateau_patience)


def _check_shares(**shares: float) -> None:
    for key, value in shares.items():
        if not 0 <= value < 1:
            raise ConfigError(f"optimizer.{key}={value} must lie in [0, 1).")


@register("optimizer", "sgd")
@dataclass
class SGDConfig(_MayAverage):
    """Plain SGD, by default at a constant rate.

    lr: the learning rate. weight_decay: the share of each weight that is added to its gradient. decay_factor: what the
    learning rate is multiplied by at each decay; 1: it stays.
    decay_after, decay_every: the shares of training before the first decay and between further ones, rounded to epochs.
    """

    name: str = "sgd"
    lr: float = MISSING
    weight_decay: float = 0.0
    decay_factor: float = 1.0
    decay_after: float = 1 / 3
    decay_every: float = 1 / 3
    ema: float = 0.0
    averages: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_rates(self.lr, self.weight_decay)
        _check_shares(ema=self.ema)
        for key in ("decay_factor", "decay_after", "decay_every"):
            if not 0 < getattr(self, key) <= 1:
                raise ConfigError(f"optimizer.{key}={getattr(self, key)} must lie in (0, 1].")

    def build(self, parameters: Iterable[nn.Parameter], protocol: ProtocolConfig) -> Optimizer:
        """The optimizer over `parameters`."""
        given = list(parameters)
        flags = cuda_flags(given, fused=True)
        return self._finished(torch.optim.SGD(given, self.lr, weight_decay=self.weight_decay, **flags))

    def schedule(self, optimizer: Optimizer, epochs: int) -> Schedule:
        """The learning rate falls in steps."""
        after, every = (max(1, round(share * epochs)) for share in (self.decay_after, self.decay_every))
        return StepDecay(optimizer, self.decay_factor, after, every)


@dataclass
class _Adaptive(_WithPlateau):
    """Optimizers with running means of gradients and of their squares; the defaults are torch's.

    beta1, beta2: the decay of both running means. epsilon: added to the root of the second, which divides.
    warmup: the share of training in which the learning rate rises linearly from zero. cosine_factor: the share of the
    learning rate that it falls to, in a cosine from there to the end of training; 1: it does not.
    """

    lr: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    warmup: float = 0.0
    cosine_factor: float = 1.0
    kind: ClassVar[type[torch.optim.Adam]]

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_shares(beta1=self.beta1, beta2=self.beta2, warmup=self.warmup)
        if not 0 <= self.cosine_factor <= 1:
            raise ConfigError(f"optimizer.cosine_factor={self.cosine_factor} must lie in [0, 1].")
        if self.plateau_factor < 1 and (self.warmup or self.cosine_factor < 1):
            raise ConfigError(
                f"optimizer.plateau_factor={self.plateau_factor} means nothing with optimizer.warmup or "
                "optimizer.cosine_factor, which set the learning rate of every step: leave one of them out."
            )
        if not self.epsilon > 0:
            raise ConfigError(f"optimizer.epsilon={self.epsilon} must be greater than 0.")

    def build(self, parameters: Iterable[nn.Parameter], protocol: ProtocolConfig) -> Optimizer:
        """The optimizer over `parameters`."""
        given, betas = list(parameters), (self.beta1, self.beta2)
        flags = cuda_flags(given, fused=True, capturable=True)
        return self._finished(self.kind(self.groups(given), self.lr, betas, self.epsilon, self.weight_decay, **flags))

    def groups(self, parameters: list[nn.Parameter]) -> Any:
        """The parameters as torch's optimizer takes them."""
        return parameters

    def schedule(self, optimizer: Optimizer, epochs: int) -> Schedule:
        """The learning rate rises and falls with the share of training that is done, or falls on a plateau."""
        if self.warmup or self.cosine_factor < 1:
            return WarmupCosine(optimizer, self.warmup, self.cosine_factor)
        return super().schedule(optimizer, epochs)


@register("optimizer", "adam")
@dataclass
class AdamConfig(_Adaptive):
    """Adam (Kingma & Ba 2015); weight decay is added to the gradient.

    The defaults are torch's, at a constant rate. The papers' beta = (0, 0.999), epsilon = 1e-9, weight decay and
    plateau are in their recipes.
    """

    name: str = "adam"
    lr: float = changed_default(0.001, formerly=MISSING)
    weight_decay: float = changed_default(0.0, formerly=1.2e-6)
    plateau_factor: float = changed_default(1.0, formerly=0.5)
    beta1: float = changed_default(0.9, formerly=0.0)
    epsilon: float = changed_default(1e-8, formerly=1e-9)
    kind: ClassVar[type[torch.optim.Adam]] = torch.optim.Adam


@register("optimizer", "adamw")
@dataclass
class AdamWConfig(_Adaptive):
    """AdamW (Loshchilov & Hutter 2019): weights shrink apart from the gradient.

    The defaults are torch's, at a constant rate. weight_decay: the share of itself, times lr, that a weight loses in
    each step.
    decay_vectors: whether parameters of one dimension shrink too, such as biases and the scales of norms.
    """

    name: str = "adamw"
    weight_decay: float = 0.01
    decay_vectors: bool = True
    kind: ClassVar[type[torch.optim.Adam]] = torch.optim.AdamW

    def groups(self, parameters: list[nn.Parameter]) -> Any:
        """Matrices and vectors apart if only the former shrink."""
        if self.decay_vectors:
            return parameters
        matrices, vectors = ([p for p in parameters if (p.dim() > 1) == several] for several in (True, False))
        return [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]


@register("optimizer", "momentum_sgd")
@dataclass
class MomentumSGDConfig(_WithPlateau):
    """SGD with momentum, by default at a constant rate; the papers' weight decay and plateau are in their recipes.

    momentum: the share of the last step that the next one repeats.
    """

    name: str = "momentum_sgd"
    weight_decay: float = changed_default(0.0, formerly=1.2e-6)
    momentum: float = 0.9
    plateau_factor: float = changed_default(1.0, formerly=1 / 1.33)
    plateau_patience: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_shares(momentum=self.momentum)

    def build(self, parameters: Iterable[nn.Parameter], protocol: ProtocolConfig) -> Optimizer:
        """The optimizer over `parameters`."""
        given = list(parameters)
        flags = cuda_flags(given, fused=True)
        return self._finished(torch.optim.SGD(given, self.lr, self.momentum, weight_decay=self.weight_decay, **flags))


@dataclass
class _Averaged:
    """SGD with averaged weights.

    lr: the learning rate. weight_decay: the share of each weight that is added to its gradient.
    nonmono: epochs of the non-monotonic trigger. average_by: the share of the epochs after which averaging starts at
    the latest (1: only when triggered). restarts: epochs after which running averages start anew.
    """

    lr: float = MISSING
    weight_decay: float = 1.2e-6
    nonmono: int = 5
    average_by: float = II("budget.average_by")
    restarts: list[int] = field(default_factory=list)
    averages: ClassVar[bool] = True
    sparse: ClassVar[bool]

    def __post_init__(self) -> None:
        _check_rates(self.lr, self.weight_decay)
        if self.nonmono < 0:
            raise ConfigError(f"optimizer.nonmono={self.nonmono} must not be negative.")
        if not 0 < self.average_by <= 1:
            raise ConfigError(f"optimizer.average_by={self.average_by} must lie in (0, 1].")
        for epoch in self.restarts:
            check_whole("optimizer.restarts", epoch, 1)

    def build(self, parameters: Iterable[nn.Parameter], protocol: ProtocolConfig) -> Optimizer:
        """The optimizer over `parameters`."""
        return AveragedSGD(
            parameters, self.lr, self.weight_decay, sparse=self.sparse, skip_first=protocol.skip_first_average
        )

    def schedule(self, optimizer: Optimizer, epochs: int) -> Schedule:
        """The non-monotonic trigger of averaging."""
        assert isinstance(optimizer, AveragedSGD)
        latest = max(1, math.floor(self.average_by * epochs)) if self.average_by < 1 else None
        return NonMonotonicTrigger(optimizer, self.nonmono, latest, self.restarts)


@register("optimizer", "nt_asgd")
@dataclass
class NTASGDConfig(_Averaged):
    """NT-ASGD: averages keep their history when the topology changes (Selfish-RNN Table 5, "w/o Sparse NT-ASGD")."""

    name: str = "nt_asgd"
    sparse: ClassVar[bool] = False


@register("optimizer", "snt_asgd")
@dataclass
class SNTASGDConfig(_Averaged):
    """SNT-ASGD: the averages of weights that are removed or grown restart (Selfish-RNN Eq. 5)."""

    name: str = "snt_asgd"
    sparse: ClassVar[bool] = True
