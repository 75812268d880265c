"""From overrides to a checked configuration, as Hydra composes it."""

from collections.abc import Sequence

from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import (
    OmegaConfBaseException,
)

from sparse_rnn.config.checks import check
from sparse_rnn.config.schema import Run, RunConfig
from sparse_rnn.core.conf import SHORTHANDS, config_dir
from sparse_rnn.core.errors import ConfigError, suggest
from sparse_rnn.core.hydra_errors import explain
from sparse_rnn.core.registry import choices, lookup

OPTIONAL_GROUPS = ("size", "tuning", "pairing")


def register_schemas() -> None:
    """Put the schema of every component into Hydra's ConfigStore, as `<group>/schema_<name>`."""
    store = ConfigStore.instance()
    store.store(name="schema", node=RunConfig)
    for group in ("model", "dataset", "optimizer", "growth", "sparsifier"):
        for name in choices(group):
            store.store(group=group, name=f"schema_{name}", node=lookup(group, name))


def expand_shorthands(overrides: Sequence[str]) -> list[str]:
    """Overrides with short keys written out: `snapshots=true` is `snapshots.enabled=true`.

    Raises ConfigError for an option of an optional group that does not exist, which Hydra would pass over.
    """
    expanded = []
    for override in overrides:
        key, equals, value = override.partition("=")
        if key in OPTIONAL_GROUPS:
            _require_option(key, value)
        expanded.append(SHORTHANDS.get(key, key) + equals + value)
    return expanded


def _require_option(group: str, names: str) -> None:
    known = sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))
    for name in names.split(","):
        if name not in known:
            raise ConfigError(f"{group}={name} does not exist{suggest(name, known)}.")


def compose_run(overrides: Sequence[str]) -> Run:
    """Compose and check a configuration as the command line does; raises ConfigError."""
    register_schemas()
    try:
        return check(compose_file("config", expand_shorthands(overrides)))
    except ConfigError:
        raise
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(explain(error)) from error


def compose_file(name: str, overrides: Sequence[str]) -> "DictConfig":
    """What Hydra composes from a file of the configuration folder; raises what Hydra and OmegaConf do."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose(name, list(overrides))
