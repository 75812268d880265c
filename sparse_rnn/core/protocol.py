"""Where the papers and their official code differ; see docs/deviations."""

from dataclasses import dataclass

from sparse_rnn.core.errors import ConfigError


@dataclass
class ProtocolConfig:
    """One side of each difference; the defaults are what the papers say.

    masking: `gradient` masks gradients before clipping, so that inactive weights and their optimizer state stay
    zero; `weight` clips and steps on the dense gradient and masks the weights afterwards.
    keep_regrown: a weight removed and regrown in one update keeps its value and state.
    skip_first_average: averages leave out a weight's first value.
    final_rate: where the removal rate ends.
    update_at_trigger: the topology is also updated in the epoch whose validation starts the averaging.
    independent_scope: the scope of the methods that treat gates independently (set, st_rnn).
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
