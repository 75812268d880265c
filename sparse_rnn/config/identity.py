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
NEUTRAL = {  # younger than some records: each counts only with another value
    "model.decoder": "full",
    "precision": "fp32",
    "growth.minibatches": 1,
    "optimizer.ema": 0.0,
    "optimizer.warmup": 0.0,
    "optimizer.cosine_factor": 1.0,
    "optimizer.decay_vectors": True,
    "sparsifier.initial_sparsity": None,
    "sparsifier.alternations": 7,
    "sparsifier.gradient_weight": 0.01,
    "sparsifier.temperature": 9.0,
    "sparsifier.backward_sparsity": 0.5,
    "sparsifier.noise": 0.0,
    "sparsifier.l1": 0.0,
    "sparsifier.structure": "unstructured",
    "sparsifier.n": 0,
    "sparsifier.m": 0,
    "sparsifier.block": [],
    "sparsifier.ablation": 0.0,
    "sparsifier.dense_steps": 0,
    "sparsifier.dense_epochs": 0,
    "sparsifier.groups": {},
}


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration (as_dict) that decides what a run computes, apart from what the user's files hold."""
    own = {k: dict(v) if isinstance(v, Mapping) else v for k, v in config.items() if k not in NOT_IDENTITY}
    outside = OUTSIDE if config["dataset"]["name"] in OWN else ()
    for group, keys in {**NOT_OF_GROUP, "dataset": outside}.items():
        own[group] = {key: value for key, value in config[group].items() if key not in keys}
    for path, neutral in NEUTRAL.items():
        group, _, key = path.rpartition(".")
        holder = own[group] if group else own
        if holder.get(key, ...) == neutral:
            del holder[key]
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
