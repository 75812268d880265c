"""From overrides to a checked configuration, as Hydra composes it."""

from collections.abc import Sequence

from hydra.core.config_store import ConfigStore

from sparse_rnn.config.checks import check
from sparse_rnn.config.schema import Run, RunConfig
from sparse_rnn.core.conf import GROUPS, OPTIONAL_GROUPS, SHORTHANDS, options
from sparse_rnn.core.errors import ConfigError, suggest
from sparse_rnn.core.hydra_errors import OF_COMPOSITION, explain
from sparse_rnn.core.hydra_files import compose_file
from sparse_rnn.core.registry import choices, lookup

MAPPINGS = ("sparsifier.groups",)  # whose keys are the user's
LONGEST_KEY = 200  # Hydra looks for a file of this name


def compose_run(overrides: Sequence[str]) -> Run:
    """Compose and check a configuration as the command line does; raises ConfigError."""
    register_schemas()
    try:
        return check(compose_file("config", expand_shorthands(overrides)))
    except ConfigError:
        raise
    except OF_COMPOSITION as error:
        raise ConfigError(explain(error)) from error


def register_schemas() -> None:
    """Put the schema of every component into Hydra's ConfigStore, as `<group>/schema_<name>`, unless it is there."""
    store = ConfigStore.instance()
    if "schema.yaml" not in store.repo:
        store.store(name="schema", node=RunConfig)
    for group in ("model", "dataset", "optimizer", "growth", "sparsifier"):
        for name in choices(group):
            if f"schema_{name}.yaml" not in store.repo.get(group, {}):
                store.store(group=group, name=f"schema_{name}", node=lookup(group, name))


def expand_shorthands(overrides: Sequence[str]) -> list[str]:
    """Overrides as Hydra needs them: `snapshots=true` becomes `snapshots.enabled=true`.

    The options of the optional groups may be written with underscores: `size=reduced_rhn` becomes `size=reduced/rhn`.
    The keys of `sparsifier.groups` may have quotes. Raises ConfigError if such an option does not exist, because Hydra
    would ignore it without a word.
    """
    expanded = []
    for override in overrides:
        key, equals, value = override.partition("=")
        _check_key(override, key.lstrip("+~").partition("@")[0].strip())
        # Hydra adds to a mapping only with a plus, and knows no quotes around its keys.
        if key in MAPPINGS and value.startswith("{"):
            key, value = f"+{key}", value.replace('"', "").replace("'", "")
        if key in OPTIONAL_GROUPS:
            value = ",".join(_option(key, name) for name in value.split(","))
        expanded.append(SHORTHANDS.get(key, key) + equals + value)
    return expanded


def _check_key(override: str, key: str) -> None:
    """Refuse what Hydra fails on, and a name that is not chosen by its group: it would stand for another component."""
    group, _, rest = key.partition(".")
    if not key and "=" in override:
        raise ConfigError(f"{override} has no key: write key=value.")
    if group in GROUPS and rest == "name":
        raise ConfigError(f"{override} gives another name to what is chosen by {group}=NAME: leave it out.")
    if len(key) > LONGEST_KEY:
        raise ConfigError(f"{key[:LONGEST_KEY]}... is not a key of the configuration.")


def _option(group: str, name: str) -> str:
    """The path of an option's file below the folder of its group, without the suffix."""
    paths = options(group)
    spellings = {path.replace("/", "_"): path for path in paths} | {path: path for path in paths}
    if name not in spellings:
        raise ConfigError(f"{group}={name} does not exist{suggest(name, paths)}.")
    return spellings[name]
