"""The points in which the papers and their official code differ; see docs/deviations.md."""

from dataclasses import dataclass

from sparse_rnn.core.errors import ConfigError


@dataclass
class ProtocolConfig:
    """Which side of each difference a run takes; the defaults are the papers'.

    masking: `gradient` masks gradients before clipping, so that inactive weights and their optimizer state stay
    zero; `weight` clips and steps on the dense gradient, and masks the weights afterwards.
    keep_regrown: whether a weight that one update removes and grows again keeps its value and optimizer state.
    skip_first_average: whether averages leave out the first value of each weight.
    final_rate: the removal rate at the end of its schedule.
    update_at_trigger: whether the topology is also updated in the epoch whose validation starts the averaging.
    independent_scope: the scope of the methods that treat gates independently (set, st_rnn): gate or tensor.
    """

    name: str = "paper"
    masking: str = "gradient"
    keep_regrown: bool = False
    skip_first_average: bool = False
    final_rate: float = 0.0
    update_at_trigger: bool = True
    independent_scope: str = "gate"

    def __post_init__(self) -> None:
        if self.masking not in ("gradient", "weight"):
            raise ConfigError(f"protocol.masking={self.masking} must be gradient or weight.")
