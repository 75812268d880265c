"""The part of a configuration that decides what a run computes, and the run id made of it. Imports nothing heavy."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from sparse_rnn.core.defaults import former_default
from sparse_rnn.data.content import OUTSIDE, OWN, content
from sparse_rnn.data.labels import dataset_name

if TYPE_CHECKING:  # it brings torch, for which `launch status` must not wait
    from sparse_rnn.config.schema import Run

NOT_IDENTITY = frozenset({"logger", "device", "threads", "checkpoint", "deterministic"})
NOT_OF_GROUP = {
    "recipe": ("assumed", "model", "optimizer"),
    "sparsifier": ("backend",),
    "training": ("fused", "graph"),
}
NEUTRAL = {"precision": "fp32"}  # younger than some records: counts only with another value
NEUTRAL_OF_GROUP: dict[str, dict[str, Any]] = {
    "growth": {"minibatches": 1},
    "optimizer": {"ema": 0.0},
    "sparsifier": {
        "initial_sparsity": None,
        "alternations": 7,
        "gradient_weight": 0.01,
        "temperature": 9.0,
        "backward_sparsity": 0.5,
        "noise": 0.0,
        "l1": 0.0,
        "structure": "unstructured",
        "n": 0,
        "m": 0,
        "block": [],
        "ablation": 0.0,
        "dense_steps": 0,
        "dense_epochs": 0,
        "groups": {},
    },
}


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration (as_dict) that decides what a run computes, apart from what the user's files hold."""
    own = {k: v for k, v in config.items() if k not in NOT_IDENTITY and NEUTRAL.get(k, ...) != v}
    outside = OUTSIDE if config["dataset"]["name"] in OWN else ()
    for group, keys in {**NOT_OF_GROUP, "dataset": outside}.items():
        own[group] = {k: v for k, v in config[group].items() if k not in keys}
    for group, neutral in NEUTRAL_OF_GROUP.items():
        own[group] = {k: v for k, v in own[group].items() if neutral.get(k, ...) != v}
    return own


def as_dict(config: Any) -> Any:
    """A configuration as plain dictionaries, lists and values."""
    if is_dataclass(config):
        return {f.name: as_dict(getattr(config, f.name)) for f in fields(config)}
    return list(config) if isinstance(config, list | tuple) else config


def run_id(run: "Run") -> str:
    """`<model>-<dataset>-<sparsifier>-s<seed>-<hash>`, with the first 8 digits of a SHA-256.

    Values that equal their schema's default do not count, so that a new option with a neutral default keeps the ids of
    earlier runs. What the user's files hold counts, not where they are and how they are written. Their label, if they
    have one, takes the place of the dataset's name. Raises ConfigError if they cannot be read.
    """
    chosen = {path: value for path, value in _chosen(run) if path.split(".")[0] not in NOT_IDENTITY}
    for group, keys in NOT_OF_GROUP.items():
        for key in keys:
            chosen.pop(f"{group}.{key}", None)
    if run.dataset.name in OWN:
        for key in OUTSIDE:
            chosen.pop(f"dataset.{key}", None)
        chosen["dataset.content"] = content(run.dataset) or run.dataset.load().sha256
    digest = hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:8]
    return f"{run.model.name}-{dataset_name(vars(run.dataset))}-{run.sparsifier.name}-s{run.seed}-{digest}"


def _chosen(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of every name and of every value that is not its schema's default."""
    for f in fields(config):
        value = getattr(config, f.name)
        if is_dataclass(value):
            yield from _chosen(value, f"{prefix}{f.name}.")
            continue
        default = f.default_factory() if f.default_factory is not NO_DEFAULT else f.default
        if f.name == "name" or value != former_default(f, default):
            # The order of keys may mean something, and would be lost in JSON with sorted keys.
            yield f"{prefix}{f.name}", list(value.items()) if isinstance(value, dict) else as_dict(value)
