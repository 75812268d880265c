"""The methods of conf/sparsifier and the rules of conf/growth by name, composed without Hydra for `sparsify`.

Hydra keeps global state, which may belong to the caller's own application.
"""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from sparse_rnn.core.conf import options
from sparse_rnn.core.errors import ConfigError, suggest
from sparse_rnn.core.protocol import ProtocolConfig
from sparse_rnn.core.registry import choices, lookup
from sparse_rnn.core.wording import one_line
from sparse_rnn.sparsity.composition import check_composition, refuse_unordered
from sparse_rnn.sparsity.method import SparsifierConfig, settle_structure
from sparse_rnn.sparsity.rules.growth import GrowthRule
from sparse_rnn.sparsity.rules.initial import saliency_of

SCHEMA = "schema_"  # begins the entry of a defaults list that names a registered class
GROWTH = "override /growth@_global_.growth"  # the entry of a defaults list that chooses the growth
ITSELF = "_self_"


def composed_method(
    method: str | SparsifierConfig, growth: str | GrowthRule | None, settings: Mapping[str, Any]
) -> tuple[SparsifierConfig, GrowthRule]:
    """A method with these settings, and the growth rule `growth` or the method's own; protocol=paper.

    Raises ConfigError for an unknown name or setting, for a method that has no topology or is not a composition of
    rules, and for parts that contradict each other.
    """
    name = method if isinstance(method, str) else method.name
    if unknown := settings.keys() - {f.name for f in fields(SparsifierConfig)}:
        word = min(unknown)
        known = [f.name for f in fields(SparsifierConfig)]
        raise ConfigError(f"{word} is not a setting of method={name}{suggest(word, known)}.")
    file, own_growth = _read_method(method) if isinstance(method, str) else (OmegaConf.create(), None)
    config = _compose(SparsifierConfig if isinstance(method, str) else method, file, settings)
    if growth is None:
        growth = own_growth or ("random" if config.regrows else "none")
    rule = named_growth(growth) if isinstance(growth, str) else growth
    if not config.masked:
        raise ConfigError(f"method={name} has no topology: leave sparsify out.")
    if saliency_of(config.initial) is not None:
        raise ConfigError(
            f"method={name} scores the network on minibatches, which sparsify does not see: choose another "
            "initial, or train with `python -m sparse_rnn.train`."
        )
    check_composition(config, rule.name)
    refuse_unordered(config, rule)
    return config, rule


def named_growth(name: str) -> GrowthRule:
    """The growth rule of a file in conf/growth, or of a class that is registered without one; raises ConfigError."""
    files = options("growth")
    if name not in {*files, *choices("growth")}:
        raise ConfigError(f"growth={name} does not exist{suggest(name, {*files, *choices('growth')})}.")
    if name not in files:
        rule: GrowthRule = lookup("growth", name)()
        return rule
    file, defaults = _read("growth", files[name])
    schemas = [entry.removeprefix(SCHEMA) for entry in defaults if isinstance(entry, str) and entry.startswith(SCHEMA)]
    composed: GrowthRule = _to_object("growth", OmegaConf.structured(lookup("growth", (schemas or [name])[0])), file)
    return composed


def _read_method(name: str) -> tuple[DictConfig, str | None]:
    """The settings in a method's file and in those that it builds on, and the growth that they choose."""
    known = options("sparsifier")
    if name not in known:
        raise ConfigError(f"method={name} does not exist{suggest(name, known)}.")
    file, defaults = _read("sparsifier", known[name])
    growth, below = None, OmegaConf.create()
    for entry in defaults:
        if isinstance(entry, dict):
            growth = entry.get(GROWTH, growth)
        elif not isinstance(entry, str):
            raise ConfigError(f"{known[name]} has an entry in `defaults` that is neither a name nor a choice.")
        elif entry.startswith(SCHEMA):
            raise ConfigError(f"method={name} is not a composition of rules: sparsify does not offer it.")
        elif entry != ITSELF:
            below, growth = _read_method(entry)
    return OmegaConf.merge(below, file), growth  # type: ignore[return-value]


def _read(group: str, path: Path) -> tuple[DictConfig, list[Any]]:
    """A file without its defaults list, and that list; raises ConfigError."""
    try:
        file = OmegaConf.load(path)
        if isinstance(file, DictConfig):
            defaults = OmegaConf.to_container(file.pop("defaults", OmegaConf.create([])))
            if isinstance(defaults, list):
                return file, defaults
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path} cannot be read ({one_line(str(error).splitlines()[0])}).") from error
    raise ConfigError(f"{path} must hold keys and values, and `defaults` a list.")


def _compose(
    schema: type[SparsifierConfig] | SparsifierConfig, file: DictConfig, settings: Mapping[str, Any]
) -> SparsifierConfig:
    """The method's file, then the caller's settings, as a configuration; raises ConfigError for a wrong value."""
    try:
        config: SparsifierConfig = _to_object("sparsifier", OmegaConf.structured(schema), file, dict(settings))
    except TypeError as error:  # of a class of the caller's own
        raise ConfigError(f"method: {one_line(str(error))}.") from error
    return config


def _to_object(group: str, schema: Any, *layers: Any) -> Any:
    """An object of the schema's class with what the layers set, later ones over earlier ones; raises ConfigError."""
    # The files and the schema refer to a recipe and a protocol, which only a run has: these stand in for them.
    around = {"recipe": {"er": "er", "sparsity": 0.0, "removal_rate": 0.0}, "protocol": ProtocolConfig()}
    root = OmegaConf.create({**around, group: schema})
    try:
        root[group] = OmegaConf.merge(root[group], *layers)
        if group == "sparsifier":
            settle_structure(root[group])
        return OmegaConf.to_object(root[group])
    except OmegaConfBaseException as error:
        sentence = one_line(str(error).splitlines()[0].rstrip("."))
        raise ConfigError(f"{getattr(error, 'full_key', '') or group}: {sentence}.") from error
