"""What `sparsify` refuses of a module, since zeros there would not be zeros of the weights that it computes with."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.sparsity.topology import SparseTopology

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def refuse_unready(module: nn.Module) -> None:
    """Raise ConfigError for TorchScript, and parameters that have no shape yet; before anything is asked of them."""
    if any(isinstance(each, torch.jit.ScriptModule) for each in module.modules()):
        raise ConfigError("module is, or holds, TorchScript: call sparsify before the module is scripted.")
    for name, parameter in module.named_parameters():
        if is_lazy(parameter):
            raise ConfigError(f"{name} has no shape yet: run a batch through the module before sparsify.")


def refuse_unsuitable(module: nn.Module, topology: SparseTopology) -> None:
    """Raise ConfigError for the first sparse weight that cannot be kept sparse."""
    for name, owner in owners(module, topology).items():
        weight = topology[name]
        if reason := _unsuitable(weight.parameter) or _of_owner(owner, name.rpartition(".")[2]):
            raise ConfigError(f"{name} {reason}, or name it in keep_dense.")
    for name, source in _computed(module).items():
        if name in {weight.name for weight in topology}:
            raise ConfigError(
                f"{name} belongs to {source}, which computes the weight from it: remove {source} before sparsify, or "
                "name it in keep_dense."
            )
    _refuse_shared_memory(module, topology)


def owners(module: nn.Module, topology: SparseTopology) -> dict[str, nn.Module]:
    """The module that each sparse weight is an attribute of, by the weight's name."""
    return {weight.name: module.get_submodule(weight.name.rpartition(".")[0]) for weight in topology}


def _unsuitable(parameter: nn.Parameter) -> str:
    """What is wrong with a parameter, and what to do; empty if nothing is."""
    if parameter.is_meta:
        return "is on the meta device and has no values: load them, or call module.to_empty and initialise, first"
    if parameter.layout != torch.strided:
        return f"is stored as {str(parameter.layout).removeprefix('torch.')}: make it dense first"
    if type(parameter.data) is not Tensor:
        return f"is a {type(parameter.data).__name__}, not a plain tensor: make it one first"
    if parameter.dtype not in DTYPES:
        return f"is of type {str(parameter.dtype).removeprefix('torch.')}: make it a float first"
    if parameter.is_inference():
        return "was made in inference mode and cannot be trained: make the module outside of it"
    return ""


def _of_owner(owner: nn.Module, attribute: str) -> str:
    if getattr(owner, "sparse", False) is True and isinstance(owner, nn.Embedding | nn.EmbeddingBag):
        return "has sparse gradients: make its embedding with sparse=False"
    return ""


def _computed(module: nn.Module) -> dict[str, str]:
    """The parameters from which a weight is computed, by name, and what does so."""
    found: dict[str, str] = {}
    for prefix, each in module.named_modules():
        start = f"{prefix}." if prefix else ""
        if parametrize.is_parametrized(each):
            for attribute, chain in each.parametrizations.items():
                source = _name_of(chain[0])
                names = (f"{start}parametrizations.{attribute}.{own}" for own, _ in chain.named_parameters())
                found |= dict.fromkeys(names, source)
        for attribute, source, endings in _old_hooks(each):
            found |= dict.fromkeys((f"{start}{attribute}{ending}" for ending in endings), source)
    return found


def _name_of(parametrization: nn.Module) -> str:
    """What users call a parametrisation: torch names its own classes with an underscore."""
    known = {"_WeightNorm": "weight_norm", "_SpectralNorm": "spectral_norm", "_Orthogonal": "orthogonal"}
    name = type(parametrization).__name__
    return known.get(name, f"the parametrisation {name}")


def _old_hooks(module: nn.Module) -> Iterator[tuple[str, str, Sequence[str]]]:
    """Weights that a hook computes before every forward pass: attribute, by what, and the endings of its parameters."""
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm):
            yield hook.name, "weight_norm", ("_g", "_v")
        elif isinstance(hook, SpectralNorm):
            yield hook.name, "spectral_norm", ("_orig",)
        elif isinstance(hook, BasePruningMethod):
            yield hook._tensor_name, "torch's pruning", ("_orig",)


def _refuse_shared_memory(module: nn.Module, topology: SparseTopology) -> None:
    """Two parameters that are views of the same entries: a mask of one would be undone through the other."""
    by_storage: dict[int, dict[str, nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.numel() and parameter.layout == torch.strided and not parameter.is_meta:
            by_storage.setdefault(parameter.untyped_storage().data_ptr(), {})[name] = parameter
    sparse = {weight.name for weight in topology}
    for sharing in by_storage.values():
        if not sparse & sharing.keys():
            continue
        for name, parameter in sharing.items():
            if any(s == 0 and n > 1 for s, n in zip(parameter.stride(), parameter.shape, strict=True)):
                raise ConfigError(f"{name} repeats its entries in memory: clone it, or name it in keep_dense.")
        if pair := _overlapping(sharing):
            raise ConfigError(
                f"{pair[0]} and {pair[1]} are views of the same entries: make them one parameter, or clone one."
            )


def _overlapping(parameters: Mapping[str, nn.Parameter]) -> tuple[str, str] | None:
    """The first two of these parameters of one storage that have an entry in common."""
    for (name, one), (other, two) in combinations(parameters.items(), 2):
        ranges = sorted(_bytes_between(each) for each in (one, two))
        # cuDNN lays the weights of a recurrent layer side by side in one storage: only ranges that meet are looked at.
        if ranges[0][1] > ranges[1][0] and np.intersect1d(_places(one), _places(two)).size:
            return name, other
    return None


def _bytes_between(parameter: nn.Parameter) -> tuple[int, int]:
    """Where a parameter begins in its storage, and where it ends, in bytes."""
    start = parameter.storage_offset()
    last = start + sum(step * (n - 1) for step, n in zip(parameter.stride(), parameter.shape, strict=True))
    return int(start) * parameter.element_size(), int(last + 1) * parameter.element_size()


def _places(parameter: nn.Parameter) -> "np.ndarray[Any, Any]":
    """Where each entry of a parameter lies in its storage, in bytes [size]."""
    places = np.full(1, parameter.storage_offset())
    for step, count in zip(parameter.stride(), parameter.shape, strict=True):
        places = (places[:, None] + np.arange(count) * step).ravel()
    return places * parameter.element_size()
