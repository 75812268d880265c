"""The types of what users give to `sparsify`, and a sentence for each that is wrong."""

import reprlib
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, get_args

import torch
from torch import nn
from torch.optim import Optimizer

from sparse_rnn.core.bounds import check_seed, check_whole
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.wording import one_line
from sparse_rnn.sparsity.method import SparsifierConfig
from sparse_rnn.sparsity.rules.growth import Signal


def plain_module(module: object) -> nn.Module:
    """The module itself, where torch.compile or data parallelism has wrapped it; raises ConfigError."""
    if not isinstance(module, nn.Module):
        raise ConfigError(f"module must be an nn.Module, not {_shown(module)}.")
    wrapped = getattr(module, "_orig_mod", None)
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        wrapped = module.module
    return plain_module(wrapped) if isinstance(wrapped, nn.Module) else module


def check_optimizer(optimizer: object) -> None:
    """Raise ConfigError unless it is an optimizer of torch."""
    if not isinstance(optimizer, Optimizer):
        raise ConfigError(f"optimizer must be a torch.optim.Optimizer, not {_shown(optimizer)}.")


def whole_number(key: str, value: object, least: int = 1) -> int:
    """The value as an int; raises ConfigError."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ConfigError(f"{key} must be a whole number, not {_shown(value)}.")
    check_whole(key, int(value), least)
    return int(value)


def number(key: str, value: object) -> float:
    """The value as a float; raises ConfigError."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ConfigError(f"{key} must be a number, not {_shown(value)}.")
    return float(value)


def seed_number(value: object) -> int:
    """A seed; raises ConfigError."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ConfigError(f"seed must be a whole number, not {_shown(value)}.")
    check_seed("seed", int(value))
    return int(value)


def interval(value: object) -> int:
    """A number of steps between updates; raises ConfigError."""
    if value == "epoch":
        raise ConfigError("update_interval=epoch cannot be used here: sparsify counts steps, so give a number of them.")
    return whole_number("update_interval", value)


def names(key: str, value: object) -> list[str]:
    """A list of names; raises ConfigError."""
    if not isinstance(value, list | tuple | set | frozenset) or not all(isinstance(each, str) for each in value):
        raise ConfigError(f"{key} must be a list of names or globs, not {_shown(value)}.")
    return sorted(value) if isinstance(value, set | frozenset) else list(value)


def check_gates(gates: object) -> None:
    """Raise ConfigError unless gates are given by the names of parameters, or not at all."""
    if gates is not None and not (isinstance(gates, Mapping) and all(isinstance(name, str) for name in gates)):
        raise ConfigError(f"gates must map names of parameters to the rows of their gates, not be {_shown(gates)}.")


def check_method(method: object) -> None:
    """Raise ConfigError unless it is a name or a configuration."""
    if not isinstance(method, str | SparsifierConfig):
        raise ConfigError(f"method must be a name or a SparsifierConfig, not {_shown(method)}.")


def check_growth(growth: object) -> None:
    """Raise ConfigError unless it is a name, a rule, or None."""
    if growth is None or isinstance(growth, str):
        return
    if isinstance(growth, type):
        raise ConfigError(f"growth must be a rule, not its class: write {growth.__name__}().")
    if not callable(growth) or not hasattr(growth, "needs") or not hasattr(growth, "name"):
        raise ConfigError(f"growth must be a name or a rule with `name` and `needs`, not {_shown(growth)}.")
    _check_needs(growth)


def _check_needs(rule: Any) -> None:
    known = set(get_args(Signal))
    if not isinstance(rule.needs, set | frozenset) or rule.needs - known:
        raise ConfigError(f"{_shown(rule)}: `needs` must be a set of signals, which are {', '.join(sorted(known))}.")


def _shown(value: object) -> str:
    """A value that may be anything, in a few words."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, torch.Tensor | nn.Module):
        return f"a {type(value).__name__}"
    return one_line(reprlib.repr(value))
