"""Many configurations, quickly: Hydra composes each combination of choices once, plain values are set afterwards."""

from collections.abc import Sequence
from copy import deepcopy

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from sparse_rnn.config.checks import check
from sparse_rnn.config.compose import compose_run, expand_shorthands, register_schemas
from sparse_rnn.config.schema import Run
from sparse_rnn.core.conf import is_group
from sparse_rnn.core.hydra_errors import OF_COMPOSITION
from sparse_rnn.core.hydra_files import compose_file


class Composer:
    """Composes what `compose_run` composes, about twenty times faster where runs differ in plain values only."""

    def __init__(self) -> None:
        self._parser = OverridesParser.create()
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def compose(self, overrides: Sequence[str]) -> Run:
        """Compose and check a configuration as the command line does; raises ConfigError."""
        try:
            parsed = self._parser.parse_overrides(expand_shorthands(overrides))
            if len({override.key_or_group for override in parsed}) < len(parsed):
                return compose_run(overrides)  # a key given twice: Hydra lets the last one win
            choices = tuple(sorted(str(override.input_line) for override in parsed if not _is_plain_value(override)))
            config = deepcopy(self._base(choices))
            for override in parsed:
                if _is_plain_value(override):
                    OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        except OF_COMPOSITION:
            return compose_run(overrides)  # which explains the error
        return check(config)

    def _base(self, choices: tuple[str, ...]) -> DictConfig:
        if choices not in self._composed:
            register_schemas()
            self._composed[choices] = compose_file("config", choices)
        return self._composed[choices]


def _is_plain_value(override: Override) -> bool:
    """Whether an override sets a value, and takes no part in choosing the files that are composed."""
    key = override.key_or_group
    plain = not (override.is_add() or override.is_force_add() or override.is_delete() or override.is_sweep_override())
    return plain and override.package is None and "/" not in key and not is_group(key)
