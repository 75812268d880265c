"""ISS: a group lasso over the structures of hidden units, which removes whole units (Wen et al. 2018)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparse_rnn.core.declarations import Structures
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.registry import register
from sparse_rnn.sparsity.iss.structures import (
    find_structures,
    present,
    spread,
    squares,
    weights_inside,
    without_absent,
)
from sparse_rnn.sparsity.method import SparsifierConfig
from sparse_rnn.sparsity.sparsifier import Clock, Sparsifier, UpdateReport

EPSILON = 1e-8
FIXED: dict[str, object] = {
    "sparsity": 0.0,
    "initial": "dense",
    "removal": "none",
    "redistribution": "none",
    "structure": "unstructured",
    "groups": {},
    "dense_steps": 0,
    "dense_epochs": 0,
    "update_until": 1.0,
}


@register("sparsifier", "iss")
@dataclass
class ISSConfig(SparsifierConfig):
    """The network starts dense; how many structures are removed is an outcome of `group_lasso`.

    The defaults are those of the stacked LSTM.
    group_lasso: lambda, for a loss that is a mean over tokens.
    threshold: after every step, weights of at most this magnitude become zero.
    update_interval: how often structures whose entries are all zero are switched off permanently.
    """

    name: str = "iss"
    sparsity: float = 0.0
    initial: str = "dense"
    removal_rate: float = 0.0
    final_rate: float = 0.0
    group_lasso: float = 0.00245 / 35
    threshold: float = 1e-4

    def __post_init__(self) -> None:
        for key, value in FIXED.items():
            if getattr(self, key) != value:
                raise ConfigError(
                    f"sparsifier={self.name} starts dense and decides what is removed: leave sparsifier.{key} out."
                )
        super().__post_init__()
        for key in ("group_lasso", "threshold"):
            if not getattr(self, key) >= 0:
                raise ConfigError(f"sparsifier.{key}={getattr(self, key)} must not be negative.")

    @property
    def dynamic(self) -> bool:
        """True: structures are removed during training, although `removal` is none."""
        return True

    @property
    def prunes(self) -> bool:
        """True: nothing grows, so the number of active weights only falls."""
        return True

    def dense_weights(self, model: nn.Module) -> Sequence[str]:
        """The names of the weights in no structure; raises ConfigError for a model that declares no structures."""
        inside = weights_inside(self.structures(model))
        if self.keep_dense:
            raise ConfigError(f"sparsifier={self.name} decides what stays dense: leave sparsifier.keep_dense out.")
        return [name for name, p in model.named_parameters() if p.dim() >= 2 and name not in inside]

    def structures(self, model: nn.Module) -> Sequence[Structures]:
        """Those that the model declares; raises ConfigError if it declares none."""
        return find_structures(model)


def group_lasso(layers: Sequence[Structures], weights: Mapping[str, Tensor]) -> Tensor:
    """The sum over all structures of sqrt(sum of squares + EPSILON)."""
    return torch.cat([squares(layer, weights) for layer in layers]).add(EPSILON).sqrt().sum()


@torch.no_grad()
def add_group_lasso_gradient(layers: Sequence[Structures], weights: Mapping[str, Tensor], strength: float) -> None:
    """Add strength * w / norm to the gradient of every weight w, once for each structure that w is in."""
    for layer in layers:
        inverse = squares(layer, weights).add(EPSILON).rsqrt()
        for name, factor in spread(layer, inverse, weights):
            gradient = weights[name].grad
            assert gradient is not None
            gradient.addcmul_(weights[name], factor, value=strength)


class ISS(Sparsifier):
    """In every step, the penalty's gradient is added before masking and clipping; then small weights become zero.

    Structures that are entirely zero are switched off after the last step of an epoch, before its validation.
    """

    config: ISSConfig

    @property
    def _weights(self) -> dict[str, Tensor]:
        return {weight.name: weight.parameter for weight in self.topology}

    @property
    def at_target(self) -> bool:
        """True at any time: no sparsity is asked for, so every network may be kept as the best."""
        return True

    @property
    def final_sparsity(self) -> float:
        """Inactive share of the weights in structures, by the present masks: the final size is an outcome."""
        return 1.0 - self.topology.active / self.topology.size

    def facts(self, clock: Clock) -> dict[str, float]:
        """What is logged: the number of structures left in each layer, and the penalty."""
        masks = {weight.name: weight.mask for weight in self.topology}
        layers = self.topology.structures
        left = {f"structures/{layer.name}": float(present(layer, masks).count_nonzero()) for layer in layers}
        with torch.no_grad():
            penalty = self.config.group_lasso * float(group_lasso(layers, self._weights))
        return {**left, "penalty/group_lasso": penalty}

    @torch.no_grad()
    def before_step(self, clock: Clock) -> None:
        """Add the penalty's gradient, then mask the gradients."""
        add_group_lasso_gradient(self.topology.structures, self._weights, self.config.group_lasso)
        super().before_step(clock)

    @torch.no_grad()
    def after_step(self, clock: Clock) -> UpdateReport | None:
        """Zero small weights, and switch off structures if an update is due; returns the report of the update."""
        for weight in self.topology:
            torch.hardshrink(weight.parameter, self.config.threshold, out=weight.parameter)
        return super().after_step(clock)

    def _due(self, clock: Clock, at_epoch_end: bool) -> bool:
        if at_epoch_end:
            return False
        if self.config.update_interval == "epoch":
            return clock.batch == clock.batches
        return clock.step % int(self.config.update_interval) == 0

    @torch.no_grad()
    def update(self, clock: Clock) -> UpdateReport:
        """Switch off permanently every structure whose entries are all zero."""
        before = self.topology.active
        for name, mask in without_absent(self.topology.structures, self._weights).items():
            if not torch.equal(mask, self.topology[name].mask):
                dense_state = self.protocol.masking == "weight"
                self.topology.replace(name, mask, self.optimizer, dense_state=dense_state)
        self._target = self.topology.active
        return UpdateReport(before - self._target, 0, 0.0, self._target)
