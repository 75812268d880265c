"""Recorded configurations: compared with today's, and read back. Imports nothing heavy."""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from sparse_rnn.config.identity import as_dict, identity
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.plugins import PLUGINS
from sparse_rnn.core.registry import choices, lookup
from sparse_rnn.core.shapes import misfit

if TYPE_CHECKING:
    from sparse_rnn.config.schema import Run

OTHER_VERSION = "The recorded configuration is damaged, or of another version of sparse_rnn"


class Named(TypedDict):
    """A group of a configuration, which may have more keys."""

    name: str


class Training(TypedDict):
    """The group `training`, which has no name and may have more keys."""

    epochs: int


class Config(TypedDict):
    """What every configuration has that this version can read."""

    model: Named
    dataset: Named
    optimizer: Named
    growth: Named
    sparsifier: Named
    recipe: Named
    protocol: Named
    budget: Named
    training: Training
    seed: int


def check_config(recorded: Mapping[str, Any]) -> None:
    """Raise ConfigError unless a recorded configuration has all the parts that every configuration has."""
    if wrong := misfit(recorded, Config):
        raise ConfigError(f"{OTHER_VERSION} ({wrong}).")


def changed_keys(recorded: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """The same as `differences`, without reading the recorded configuration where both are equal as they stand."""
    check_config(recorded)
    return [] if identity(recorded) == identity(config) else differences(recorded, config)


def differences(recorded: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """Keys whose values differ between two configurations, as far as they decide what a run computes.

    An option that is younger than the recorded configuration counts there as its default. Raises ConfigError if the
    recorded one cannot be read.
    """
    check_config(recorded)
    old, new = dict(flat(identity(as_dict(run_from_dict(recorded))))), dict(flat(identity(config)))
    return sorted(key for key in old.keys() | new.keys() if old.get(key, ...) != new.get(key, ...))


def flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested mappings with its dotted key."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _known(group: str, name: str) -> Any:
    """The class of a component; raises ConfigError if it was that of a plugin which is not there now, or of none."""
    if name not in choices(group):
        raise ConfigError(
            f"{group}={name} is not known here: if a module of yours registers it, name that in {PLUGINS}."
        )
    return lookup(group, name)


def run_from_dict(config: Mapping[str, Any]) -> "Run":
    """The configuration that `as_dict` was made from; raises ConfigError if it is of another version."""
    from sparse_rnn.config.schema import Run  # brings torch and fills the registry: only here, see identity.py

    check_config(config)
    components = {group: _known(group, config[group]["name"]) for group in ("model", "dataset", "optimizer", "growth")}
    if config["sparsifier"]["name"] in choices("sparsifier"):
        components["sparsifier"] = lookup("sparsifier", config["sparsifier"]["name"])
    schemas = {f.name: f.type for f in fields(Run) if is_dataclass(f.type)} | components
    try:
        younger = {f.name for f in fields(Run) if f.default is not MISSING} - config.keys()
        names = [f.name for f in fields(Run) if f.name not in younger]
        values = {name: config.get(name, {}) if name in schemas else config[name] for name in names}
        for name, value in values.items():
            if wrong := misfit(value, schemas.get(name, Any), name):
                raise TypeError(wrong)
        return Run(**{key: _made(schemas[key], value) if key in schemas else value for key, value in values.items()})
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{OTHER_VERSION} ({error}).") from None


def _made(schema: Any, recorded: Mapping[str, Any]) -> Any:
    """A component from its recorded configuration, which some can translate from an earlier version's."""
    translate = getattr(schema, "translated", dict)
    return schema(**translate(recorded))
