"""Iterative magnitude pruning with rewinding: the lottery tickets of Frankle & Carbin (2019)."""

from dataclasses import dataclass

from sparse_rnn.core.bounds import check_whole
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.registry import register
from sparse_rnn.sparsity.method import SparsifierConfig


@register("sparsifier", "imp")
@dataclass
class IMPConfig(SparsifierConfig):
    """A round of training whose topology are the largest weights that its parent run ended with, in the whole network.

    The parent is the same run with one round less, which has pruned the same share of the weights in each round; with
    rounds=0 it is dense. Every round begins with the same weights: the initial ones, or later ones of the dense run
    (Frankle et al. 2020). The number of active weights is exact in every round and
    fixed in training; memory and time are those of a static network, once for each round.

    rounds: how many have pruned; 0: the dense run. rewind_epoch: the epoch of the dense run after which weights are
    those that every round begins with; 0: the initial ones.
    """

    name: str = "imp"
    initial: str = "parent"
    rounds: int = 3
    rewind_epoch: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("sparsifier.rounds", self.rounds, 0)
        check_whole("sparsifier.rewind_epoch", self.rewind_epoch, 0)
        if self.initial != "parent" or self.dynamic:
            raise ConfigError(
                f"sparsifier={self.name} takes its topology from its parent: leave initial and removal out."
            )
        if not isinstance(self.sparsity, str) and (self.rounds == 0) != (self.sparsity == 0):
            raise ConfigError(
                f"sparsifier.sparsity={self.sparsity} does not go with sparsifier.rounds={self.rounds}: the dense run, "
                "and only that, has neither."
            )

    def before(self, rounds: int) -> "IMPConfig":
        """The configuration of an earlier round, in which fewer rounds have pruned."""
        density = (1.0 - self.sparsity) ** (rounds / self.rounds)
        return IMPConfig(**{**vars(self), "rounds": rounds, "sparsity": 1.0 - density if rounds else 0.0})
