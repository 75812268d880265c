"""ISS: group lasso over the hidden units' structures, which switches whole units off (Wen et al. 2018)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.registry import register
from sparse_rnn.sparsity.iss.structures import Structures, check_structures, find_structures, without_absent
from sparse_rnn.sparsity.method import SparsifierConfig
from sparse_rnn.sparsity.sparsifier import Clock, Sparsifier, UpdateReport

EPSILON = 1e-8
FIXED = {
    "sparsity": 0.0,
    "initial": "dense",
    "removal": "none",
    "redistribution": "none",
    "update_until": 1.0,
}


@register("sparsifier", "iss")
@dataclass
class ISSConfig(SparsifierConfig):
    """Starts dense; how many structures go is an outcome of `group_lasso`. Defaults are those of the stacked LSTM.

    group_lasso: lambda, beside a loss that is a mean over tokens. threshold: weights up to it in magnitude become zero
    after every step. update_interval: how often structures that are all zero are switched off for good.
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
                    f"sparsifier={self.name} starts dense and finds out itself what goes: leave sparsifier.{key} out."
                )
        super().__post_init__()
        for key in ("group_lasso", "threshold"):
            if not getattr(self, key) >= 0:
                raise ConfigError(f"sparsifier.{key}={getattr(self, key)} must not be negative.")

    @property
    def dynamic(self) -> bool:
        """Always."""
        return True

    @property
    def prunes(self) -> bool:
        """Always."""
        return True

    def dense_weights(self, model: nn.Module) -> Sequence[str]:
        """The weights of no structure; raises ConfigError for a model whose structures are not known."""
        check_structures(model)
        if self.keep_dense:
            raise ConfigError(
                f"sparsifier={self.name} decides itself what stays dense: leave sparsifier.keep_dense out."
            )
        weights = {name: parameter for name, parameter in model.named_parameters() if parameter.dim() >= 2}
        inside = {name for layer in find_structures(weights) for name in (*layer.rows, *layer.columns)}
        return [name for name in weights if name not in inside]


def group_lasso(layers: Sequence[Structures], weights: Mapping[str, Tensor]) -> Tensor:
    """The sum over all structures of sqrt(sum of squares + 1e-8)."""
    return torch.cat([layer.squares(weights) for layer in layers]).add(EPSILON).sqrt().sum()


@torch.no_grad()
def add_group_lasso_gradient(layers: Sequence[Structures], weights: Mapping[str, Tensor], strength: float) -> None:
    """Add the gradient of strength * group_lasso to that of the weights: w / norm for each structure w is in."""
    for layer in layers:
        inverse = layer.squares(weights).add(EPSILON).rsqrt()
        for name, factor in layer.spread(inverse, weights):
            gradient = weights[name].grad
            assert gradient is not None
            gradient.addcmul_(weights[name], factor, value=strength)


class ISS(Sparsifier):
    """The penalty's gradient joins the dense gradient before masking and clipping; small weights become zero after
    every step; structures that are all zero are switched off before the validation that ends an epoch."""

    config: ISSConfig

    @cached_property
    def layers(self) -> list[Structures]:
        """The structures by layer."""
        return find_structures(self._weights)

    @property
    def _weights(self) -> dict[str, Tensor]:
        return {weight.name: weight.parameter for weight in self.topology}

    @property
    def at_target(self) -> bool:
        """Always: no sparsity is asked for."""
        return True

    @property
    def final_sparsity(self) -> float:
        """Inactive share of the weights that are in structures, by the masks as they are."""
        return 1.0 - self.topology.active / self.topology.size

    def facts(self, clock: Clock) -> dict[str, float]:
        """The number of structures left in each layer, and the penalty."""
        masks = {weight.name: weight.mask for weight in self.topology}
        left = {f"structures/{layer.name}": float(layer.present(masks).count_nonzero()) for layer in self.layers}
        with torch.no_grad():
            penalty = self.config.group_lasso * float(group_lasso(self.layers, self._weights))
        return {**left, "penalty/group_lasso": penalty}

    @torch.no_grad()
    def before_step(self, clock: Clock) -> None:
        """Add the penalty's gradient, then mask the gradients."""
        add_group_lasso_gradient(self.layers, self._weights, self.config.group_lasso)
        super().before_step(clock)

    @torch.no_grad()
    def after_step(self, clock: Clock) -> UpdateReport | None:
        """Zero small weights; switch off structures if it is time."""
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
        """Switch off, for good, every structure whose entries are all zero."""
        before = self.topology.active
        for name, mask in without_absent(self.layers, self._weights).items():
            if not torch.equal(mask, self.topology[name].mask):
                dense_state = self.protocol.masking == "weight"
                self.topology.replace(name, mask, self.optimizer, dense_state=dense_state)
        self._target = self.topology.active
        return UpdateReport(before - self._target, 0, 0.0, self._target)
