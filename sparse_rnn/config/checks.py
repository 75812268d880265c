"""Checks of a configuration, each with one sentence for what it refuses, before any data is loaded."""

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_origin

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sparse_rnn.config.schema import Run, RunConfig
from sparse_rnn.core.bounds import LARGEST, MOST_THREADS, check_device, check_real, check_seed, check_whole
from sparse_rnn.core.conf import GROUPS
from sparse_rnn.core.device import PRECISIONS
from sparse_rnn.core.errors import ConfigError, suggest
from sparse_rnn.core.hydra_errors import explain
from sparse_rnn.core.registry import choices, lookup
from sparse_rnn.data.base import learned
from sparse_rnn.sparsity.composition import check_composition, refuse_unordered
from sparse_rnn.sparsity.method import settle_structure

OFFICIAL_CODE_MODELS = ("stacked_lstm", "rhn")
SEEDS = ("seed", "init_seed")


def check(composed: DictConfig) -> Run:
    """The typed configuration; raises ConfigError for unknown keys, values out of range and choices that do not fit."""
    try:
        _refuse_unknown_keys(composed)
        settle_structure(composed.sparsifier)
        run = OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from error
    assert isinstance(run, RunConfig)
    checked = Run(**{f.name: getattr(run, f.name) for f in fields(RunConfig)})
    _check_names(checked)
    _check_values(checked)
    _check_choices(checked)
    return checked


def _refuse_unknown_keys(node: DictConfig, prefix: str = "") -> None:
    schema = OmegaConf.get_type(node)
    if not is_dataclass(schema):
        raise ConfigError(
            f"{prefix.rstrip('.')} has no schema: choose it by name, as in `model=rhn`; a file of "
            "your own begins with `defaults: [schema_NAME, _self_]`, where NAME is that of its class."
        )
    known = {f.name: f.type for f in fields(schema)}
    for key in map(str, node):
        if key not in known:
            raise ConfigError(f"{prefix}{key} is not a key of the configuration{suggest(key, known)}.")
        child = node._get_node(key)
        free = get_origin(known[key]) is dict  # a mapping whose keys are the user's
        if isinstance(child, DictConfig) and not (child._is_missing() or child._is_none() or free):
            _refuse_unknown_keys(child, f"{prefix}{key}.")


def _check_choices(run: Run) -> None:
    """Refuse components, and settings of theirs, that do not fit each other."""
    method = run.sparsifier
    for group, only in (("model", run.recipe.model), ("optimizer", run.recipe.optimizer)):
        if only not in (None, name := getattr(run, group).name):
            raise ConfigError(f"recipe={run.recipe.name} is for {group}={only}: choose another for {group}={name}.")
    if run.model.task != run.dataset.task:
        fitting = [name for name in choices("model") if lookup("model", name).task == run.dataset.task]
        raise ConfigError(
            f"model={run.model.name} is for {run.model.task} and dataset={run.dataset.name} for {run.dataset.task}: "
            f"choose model={' or '.join(fitting)}, or another data set."
        )
    check_composition(method, run.growth.name)
    refuse_unordered(method, run.growth)
    if method.epsilon is not None and run.recipe.sparsity not in (None, method.sparsity):
        raise ConfigError("sparsifier.epsilon and sparsifier.sparsity both say how sparse: leave one of them out.")
    if method.dense_epochs >= run.training.epochs:
        raise ConfigError(
            f"sparsifier.dense_epochs={method.dense_epochs} leaves none of training.epochs={run.training.epochs} to "
            "the sparse network."
        )
    if getattr(run.model, "decoder", "full") == "adaptive":
        _check_adaptive(run)
    if (learns := learned(run.dataset)) != "language_modelling":
        for key, neutral, written in (
            ("sub_batch", None, "null"),
            ("variable_bptt", False, "false"),
            ("max_bptt", None, "null"),
        ):
            if getattr(run.training, key) != neutral:
                unset = f"leave it out, or write training.{key}={written} if the recipe or the budget sets it"
                raise ConfigError(f"training.{key} means nothing for {learns}: {unset}.")
    if run.protocol.name == "official_code" and run.model.name not in OFFICIAL_CODE_MODELS:
        raise ConfigError(f"protocol=official_code has no working code for model={run.model.name}; use protocol=paper.")


def _check_adaptive(run: Run) -> None:
    """Refuse an adaptive decoder where it does not work."""
    if not getattr(run.dataset, "by_frequency", False):
        raise ConfigError(
            f"model.decoder=adaptive needs words that are numbered by frequency, as those of dataset=wikitext103: "
            f"leave it out for dataset={run.dataset.name}."
        )
    if run.sparsifier.name == "iss":
        raise ConfigError("sparsifier=iss removes units from a full decoder: leave model.decoder=adaptive out.")
    if run.training.graph == "on":
        raise ConfigError("training.graph=on cannot record an adaptive decoder: leave one of them out.")


def _check_names(run: Run) -> None:
    """Refuse a name that is not that of the component: it would stand for another one in ids and records."""
    for group in GROUPS:
        component = getattr(run, group)
        name, known = component.name, choices(group)
        registered = [each for each in known if lookup(group, each) is type(component)]
        if (name in known or registered) and name not in registered:
            chosen = registered[0] if registered else "NAME"
            raise ConfigError(f"{group}.name={name} is not the name of {group}={chosen}: leave it out.")
        if not re.fullmatch(r"[\w.-]+", name):  # it becomes a part of the name of the run's folder
            raise ConfigError(f"{group}.name={name} must be one word of letters, digits, '_', '-' and '.'.")


def _numbers(config: Any, prefix: str = "") -> Iterator[tuple[str, int | float]]:
    """Dotted key and value of every number, those in lists included; true and false are none."""
    for f in fields(config):
        value, key = getattr(config, f.name), f"{prefix}{f.name}"
        if is_dataclass(value):
            yield from _numbers(value, f"{key}.")
        else:
            each = value if isinstance(value, list) else [value]
            yield from ((key, n) for n in each if isinstance(n, int | float) and not isinstance(n, bool))


def _check_values(run: Run) -> None:
    """Refuse values out of range that belong to no component; the components check their own."""
    if run.threads is not None:
        check_whole("threads", run.threads, 1, MOST_THREADS)
    for key in SEEDS:
        check_seed(key, getattr(run, key))
    for key, value in _numbers(run):
        if isinstance(value, float):
            check_real(key, value)
        elif key not in SEEDS:
            check_whole(key, value, -LARGEST)
    check_device(run.device)
    if run.precision not in PRECISIONS:
        raise ConfigError(f"precision={run.precision} must be one of {', '.join(PRECISIONS)}.")
