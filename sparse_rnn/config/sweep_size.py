"""How many values an override sweeps over, found without making them."""

import math
from collections.abc import Iterable

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep
from hydra.errors import HydraException

from sparse_rnn.core.bounds import refuse_runs
from sparse_rnn.core.errors import ConfigError


def refuse_too_many(overrides: Iterable[str]) -> None:
    """Raise ConfigError if a sweep over all these overrides has more runs than a command takes.

    An override that cannot be read counts once: whoever composes it has the sentence for it.
    """
    parser, total = OverridesParser.create(), 1.0
    for override in overrides:
        try:
            total *= sweep_size(parser.parse_override(override))
        except HydraException:
            continue
    refuse_runs(total)


def sweep_size(override: Override) -> float:
    """The number of values; 1 for an override that sweeps over none, infinite for a range without end."""
    value = override.value()
    if isinstance(value, ChoiceSweep):
        return len(value.list)
    if not isinstance(value, RangeSweep):
        return 1
    start, stop, step = (float(each or 0) for each in (value.start, value.stop, value.step))
    if not all(map(math.isfinite, (start, stop, step))) or not step:
        raise ConfigError(f"{override.input_line} is no range: it needs finite numbers, and a step that is not 0.")
    return max(0, math.ceil((stop - start) / step))
