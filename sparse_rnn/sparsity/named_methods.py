"""The methods of conf/sparsifier by name, composed without Hydra: `sparsify` must leave a caller's Hydra alone."""

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

PLAIN_SCHEMA = "schema"
GROWTH = "override /growth@_global_.growth"


def named_method(name: str, growth: str | None, settings: Mapping[str, Any]) -> tuple[SparsifierConfig, GrowthRule]:
    """The method `name` with other settings, and its growth rule or the one given; under the paper's protocol.

    Raises ConfigError for a name that does not exist, a method that has no topology or is no composition of rules,
    an unknown setting, and a composition that makes no sense.
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
    """The settings in a method's file, and the choices of its defaults list."""
    folder = config_dir() / "sparsifier"
    known = [path.stem for path in folder.glob("*.yaml")]
    if name not in known:
        raise ConfigError(f"method={name} does not exist{suggest(name, known)}.")
    file = OmegaConf.load(folder / f"{name}.yaml")
    assert isinstance(file, DictConfig)
    defaults = OmegaConf.to_container(file.pop("defaults"))
    assert isinstance(defaults, list)
    if any(str(entry).startswith(f"{PLAIN_SCHEMA}_") for entry in defaults):
        raise ConfigError(f"method={name} is not a composition of rules: sparsify does not offer it.")
    return file, {key: value for entry in defaults if isinstance(entry, dict) for key, value in entry.items()}


def _compose(file: DictConfig, settings: Mapping[str, Any]) -> SparsifierConfig:
    """The settings of the file and of the caller, with what the file takes from a recipe and the protocol."""
    around = {"recipe": {"er": "er", "sparsity": 0.0, "removal_rate": 0.0}, "protocol": ProtocolConfig()}
    root = OmegaConf.create({**around, "sparsifier": OmegaConf.structured(SparsifierConfig)})
    try:
        root.sparsifier = OmegaConf.merge(root.sparsifier, file, dict(settings))
        config = OmegaConf.to_object(root.sparsifier)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{getattr(error, 'full_key', '')}: {str(error).splitlines()[0].rstrip('.')}.") from error
    assert isinstance(config, SparsifierConfig)
    return config
