"""The methods of conf/sparsifier by name, composed without Hydra for `sparsify`.

Hydra keeps global state, which may belong to the caller's own application.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sparse_rnn.core.conf import config_dir
from sparse_rnn.core.errors import ConfigError, suggest
from sparse_rnn.core.protocol import ProtocolConfig
from sparse_rnn.core.registry import lookup
from sparse_rnn.sparsity.method import SparsifierConfig, check_composition
from sparse_rnn.sparsity.rules.growth import GrowthRule

OWN_SCHEMA = "schema_"  # begins the entry of a defaults list that replaces SparsifierConfig by a class of its own
GROWTH = "override /growth@_global_.growth"  # the entry of a defaults list that chooses the growth


def named_method(name: str, growth: str | None, settings: Mapping[str, Any]) -> tuple[SparsifierConfig, GrowthRule]:
    """The method `name` with these settings, and the growth rule `growth` or the method's own; protocol=paper.

    Raises ConfigError for an unknown name or setting, for a method that has no topology or is not a composition of
    rules, and for parts that contradict each other.
    """
    file, defaults = _read(name)
    rule = lookup("growth", growth or defaults[GROWTH])()
    if unknown := settings.keys() - {f.name for f in fields(SparsifierConfig)}:
        word = min(unknown)
        known = [f.name for f in fields(SparsifierConfig)]
        raise ConfigError(f"{word} is not a setting of method={name}{suggest(word, known)}.")
    config = _compose(file, settings)
    if not config.masked:
        raise ConfigError(f"method={name} has no topology: leave sparsify out.")
    check_composition(config, rule.name)
    return config, rule


def _read(name: str) -> tuple[DictConfig, dict[str, str]]:
    """The settings in a method's file, and the choices in its defaults list; raises ConfigError."""
    folder = config_dir() / "sparsifier"
    known = [path.stem for path in folder.glob("*.yaml")]
    if name not in known:
        raise ConfigError(f"method={name} does not exist{suggest(name, known)}.")
    file = OmegaConf.load(folder / f"{name}.yaml")
    assert isinstance(file, DictConfig)
    defaults = OmegaConf.to_container(file.pop("defaults"))
    assert isinstance(defaults, list)
    if any(str(entry).startswith(OWN_SCHEMA) for entry in defaults):
        raise ConfigError(f"method={name} is not a composition of rules: sparsify does not offer it.")
    return file, {key: value for entry in defaults if isinstance(entry, dict) for key, value in entry.items()}


def _compose(file: DictConfig, settings: Mapping[str, Any]) -> SparsifierConfig:
    """The method's file, then the caller's settings, as a configuration; raises ConfigError for a wrong value."""
    # The file and the schema refer to a recipe and a protocol, which only a run has: these stand in for them.
    around = {"recipe": {"er": "er", "sparsity": 0.0, "removal_rate": 0.0}, "protocol": ProtocolConfig()}
    root = OmegaConf.create({**around, "sparsifier": OmegaConf.structured(SparsifierConfig)})
    try:
        root.sparsifier = OmegaConf.merge(root.sparsifier, file, dict(settings))
        config = OmegaConf.to_object(root.sparsifier)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{getattr(error, 'full_key', '')}: {str(error).splitlines()[0].rstrip('.')}.") from error
    assert isinstance(config, SparsifierConfig)
    return config
