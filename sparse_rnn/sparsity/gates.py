"""Finds how the rows of recurrent weights divide into gates."""

import inspect
import warnings
from collections.abc import Iterator, Mapping
from numbers import Integral
from typing import Any

from torch import nn

from sparse_rnn.core.declarations import GRU_GATES, LSTM_GATES, GateMap, Gates
from sparse_rnn.core.errors import ConfigError


def _declared_gates(module: nn.Module) -> GateMap | None:
    """What the module's `gates()` declares of its own parameters; None if it has none, or another method of that name.

    A declaration takes no argument and returns rows, or `Gates`, by the names of parameters. Raises ConfigError for one
    that names a parameter and does not give its rows.
    """
    if not callable(getattr(type(module), "gates", None)):  # of the class: a submodule may also be called `gates`
        return None
    method: Any = module.gates
    if not _takes_no_argument(method):
        return None
    try:
        found = method()
    except Exception as error:  # it is the user's code, and perhaps meant for something else
        warnings.warn(f"{type(module).__name__}.gates() failed ({error}): it declares no gates.", stacklevel=2)
        return None
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        return None
    if wrong := [name for name, rows in found.items() if not _are_rows(rows)]:
        if not set(found) & {name for name, _ in module.named_parameters()}:
            return None
        raise ConfigError(
            f"{type(module).__name__}.gates() must give the rows of {wrong[0]} as slices by the names of its gates."
        )
    return found


def _takes_no_argument(method: Any) -> bool:
    try:
        inspect.signature(method).bind()
    except (TypeError, ValueError):  # it needs arguments, or is written in C
        return False
    return True


def _are_rows(rows: object) -> bool:
    return isinstance(rows, Gates) or (
        isinstance(rows, Mapping)
        and all(isinstance(gate, str) and isinstance(each, slice) for gate, each in rows.items())
    )


def find_gates(model: nn.Module, declared: GateMap | None = None) -> dict[str, Gates]:
    """The gates of every recurrent weight of `model`, by full parameter name.

    The sources, in order of precedence: `declared`; the `gates()` of modules, an outer one before those inside it;
    torch's RNN modules. A tied weight may be declared under any of its names and is found under its first.
    Raises ConfigError if a declaration names an unknown parameter, leaves out rows or has a wrong form.
    """
    parameters = dict(model.named_parameters())
    first = {parameter: name for name, parameter in parameters.items()}
    names = {name: first[parameter] for name, parameter in model.named_parameters(remove_duplicate=False)}
    found: dict[str, Gates] = {}
    for prefix, module in model.named_modules():
        declaration = _declared_gates(module)
        own = dict(_torch_gates(module)) if declaration is None else declaration
        for name, gates in own.items():
            full = f"{prefix}.{name}" if prefix else name
            cell = prefix or type(module).__name__
            found.setdefault(names.get(full, full), _as_gates(gates, default_cell=cell, prefix=prefix))
    for name, gates in (declared or {}).items():
        if not _are_rows(gates):
            raise ConfigError(f"gates must give the rows of {name} as slices by the names of its gates.")
        found[names.get(name, name)] = _as_gates(gates, default_cell=name, prefix="")
    for name, gate_rows in found.items():
        if name not in parameters:
            raise ConfigError(f"The gates declare {name}, which is not a parameter of the model.")
        _check_rows(name, gate_rows, parameters[name].shape[0])
    return found


def _torch_gates(module: nn.Module) -> Iterator[tuple[str, Gates]]:
    if isinstance(module, nn.LSTM | nn.LSTMCell):
        names: tuple[str, ...] = LSTM_GATES
    elif isinstance(module, nn.GRU | nn.GRUCell):
        names = GRU_GATES
    elif isinstance(module, nn.RNN | nn.RNNCell):
        names = ("all",)
    else:
        return
    for name, parameter in module.named_parameters(recurse=False):
        if name.startswith(("weight_ih", "weight_hh")):
            layer = name.partition("_l")[2]
            yield name, Gates.equal(names, parameter.shape[0] // len(names), cell=f"layer{layer}" if layer else "")


def _as_gates(gates: Gates | Mapping[str, slice], default_cell: str, prefix: str) -> Gates:
    if not isinstance(gates, Gates):
        return Gates(dict(gates), default_cell)
    cell = ".".join(part for part in (prefix, gates.cell) if part)
    return Gates(gates.rows, cell or default_cell)


def _check_rows(name: str, gates: Gates, rows: int) -> None:
    bounds = (bound for each in gates.rows.values() for bound in (each.start, each.stop, each.step))
    if not all(bound is None or isinstance(bound, Integral) for bound in bounds):
        raise ConfigError(f"The gates of {name} must be slices of whole numbers.")
    covered = sorted((s.start or 0, rows if s.stop is None else s.stop) for s in gates.rows.values())
    edges = [0] + [stop for _, stop in covered]
    once = [start for start, _ in covered] == edges[:-1] and edges[-1] == rows
    plain = all(start < stop for start, stop in covered) and all(s.step in (None, 1) for s in gates.rows.values())
    if not (once and plain):
        raise ConfigError(
            f"The gates of {name} must cover its {rows} rows once each, in non-empty slices without a step."
        )
