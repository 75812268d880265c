"""The kernels in modules that somebody else wrote: while these train, and only then, they have other classes.

Whoever looks sees a dense module: its state and the optimizer's, copies and pickles are torch's own. So whatever saves,
loads, moves or copies first makes the weights dense, masked ones; the next forward pass of training packs them again.
"""

import copyreg
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_map

from sparse_rnn.backends.cpu.convert import SPARSE, give_class, readers_of, weights_of
from sparse_rnn.backends.cpu.memory import lasting_memory
from sparse_rnn.backends.cpu.packed_parameter import PackedParameter
from sparse_rnn.backends.cpu.storage import Packed, assign
from sparse_rnn.backends.cpu.structure import Structure
from sparse_rnn.sparsity.optimizer_state import carry_entries
from sparse_rnn.sparsity.storage import Masked
from sparse_rnn.sparsity.topology import SparseWeight

DTYPES = (torch.float32, torch.float64)


class KernelWeights:
    """Sparse weights that the kernels compute with, in a module of which `SPARSE` knows all that read them.

    start: called by the first forward pass of training after the weights were dense; it calls `pack` and returns
    whether it did. Neither the module nor the owner of `start` is kept alive.
    """

    def __init__(
        self,
        module: nn.Module,
        weights: Sequence[SparseWeight],
        optimizer: Optimizer,
        start: Callable[[], bool],
    ) -> None:
        self._weights, self._optimizer = weights, optimizer
        self._start = weakref.WeakMethod(start)
        self.packed = False
        readers = list(readers_of(module, {weight.parameter for weight in weights}))
        self._readers = [(weakref.ref(reader), type(reader), weights_of(reader)) for reader in readers]
        for reader, dense, _ in self._readers:
            each = cast(nn.Module, reader())
            each.__dict__["kernels"] = self
            each.__class__ = _class(_Waiting, dense)
        hook = partial(_unpack, weakref.ref(self))
        self._hooks = [
            optimizer.register_state_dict_pre_hook(hook),
            optimizer.register_load_state_dict_pre_hook(hook),
        ]

    def start(self) -> bool:
        """A forward pass of training begins: pack the weights if nothing is wrong with them; whether that was done."""
        able = all(w.parameter.dtype in DTYPES and w.parameter.device.type == "cpu" for w in self._weights)
        start = self._start()
        return able and start is not None and start()

    @torch.no_grad()
    def pack(self) -> None:
        """From masked weights to active values, of parameters, gradients and optimizer state."""
        structures: dict[Tensor, Structure] = {}
        with lasting_memory():
            for weight in self._weights:
                structures[weight.parameter] = structure = Structure(weight.mask)
                _carry(weight.parameter, self._optimizer, structure.pack)
                weight.storage = Packed(structure)
            for reader, dense, weights in self._readers:
                if (module := reader()) is not None:
                    sparse = SPARSE[dense]
                    give_class(module, _class(_Computing, sparse), weights, structures)
        for parameter, structure in structures.items():
            parameter.__class__ = PackedParameter
            cast(PackedParameter, parameter).structure = structure
        self.packed = True

    @torch.no_grad()
    def unpack(self) -> None:
        """Back to dense, masked weights."""
        if not self.packed:
            return
        for weight in self._weights:
            structure = cast(Packed, weight.storage).structure
            weight.parameter.__class__ = nn.Parameter
            del weight.parameter.__dict__["structure"]
            _carry(weight.parameter, self._optimizer, structure.unpack)
            weight.storage = Masked(structure.mask)
        for reader, dense, _ in self._readers:
            if (module := reader()) is not None:
                del module.__dict__["structures"]
                module.__class__ = _class(_Waiting, dense)
        self.packed = False

    def release(self) -> None:
        """Leave torch's own module behind, with dense, masked weights."""
        self.unpack()
        for reader, dense, _ in self._readers:
            if (module := reader()) is not None:
                del module.__dict__["kernels"]
                module.__class__ = dense
        for hook in self._hooks:
            hook.remove()


def _carry(parameter: nn.Parameter, optimizer: Optimizer, carry: Callable[[Tensor], Tensor]) -> None:
    """Store a parameter, its gradient and its optimizer state another way."""
    carry_entries(optimizer, parameter, carry)
    gradient = parameter.grad
    assign(parameter, carry(parameter.data))
    parameter.grad = None if gradient is None else carry(gradient)


def _unpack(kernels: weakref.ReferenceType[KernelWeights], *_: object) -> None:
    if (alive := kernels()) is not None:
        alive.unpack()


class _OwnModule(nn.Module):
    """A module of somebody's that reads weights of a KernelWeights."""

    kernels: KernelWeights
    original: ClassVar[type[nn.Module]]

    def _save_to_state_dict(self, *args: Any, **settings: Any) -> None:
        self.kernels.unpack()
        super()._save_to_state_dict(*args, **settings)

    def _load_from_state_dict(self, *args: Any, **settings: Any) -> None:
        self.kernels.unpack()
        super()._load_from_state_dict(*args, **settings)

    def _apply(self, *args: Any, **settings: Any) -> Any:
        self.kernels.unpack()
        return super()._apply(*args, **settings)  # type: ignore[no-untyped-call]

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copied and pickled as torch's own module, with dense weights."""
        self.kernels.unpack()
        _, _, state, *rest = cast(tuple[Any, ...], super().__reduce_ex__(protocol))
        state = {name: value for name, value in state.items() if name != "kernels"}
        # copyreg.__newobj__ refuses another class than that of the module.
        return copyreg._reconstructor, (type(self).original, object, None), state, *rest  # type: ignore[attr-defined]


# Under torch.compile both run as they are: it cannot trace the kernels, or a module that changes its class.
# torch.compiler.disable would import the compiler, which takes seconds; torch's optimizers use this one as well.
_eager = torch._disable_dynamo  # type: ignore[attr-defined]


class _Waiting(_OwnModule):
    """With dense weights, until the next forward pass of training."""

    @_eager
    def forward(self, *args: Any, **settings: Any) -> Any:
        """Torch's own, or that of the class which the module is given now."""
        if torch.is_grad_enabled() and self.kernels.start():
            return self.forward(*args, **settings)
        return super().forward(*args, **settings)


class _Computing(_OwnModule):
    """With active values alone. Under autocast the kernels compute in the weights' own type."""

    @_eager
    def forward(self, *args: Any, **settings: Any) -> Any:
        """What the kernels compute."""
        if not torch.is_autocast_enabled("cpu"):
            return super().forward(*args, **settings)
        dtype = next(iter(self.parameters())).dtype
        args, settings = tree_map(partial(_of_type, dtype), (args, settings))
        with torch.autocast("cpu", enabled=False):
            return super().forward(*args, **settings)


def _of_type(dtype: torch.dtype, argument: object) -> object:
    floating = isinstance(argument, Tensor) and argument.is_floating_point()
    return argument.to(dtype) if isinstance(argument, Tensor) and floating else argument


_made: dict[tuple[type, type], type[nn.Module]] = {}


def _class(kind: type[_OwnModule], computes: type[nn.Module]) -> type[nn.Module]:
    """The class `computes` for a module of somebody's."""
    if (kind, computes) not in _made:
        attributes = {"__module__": computes.__module__, "original": computes}
        _made[kind, computes] = type(computes.__name__, (kind, computes), attributes)
    return _made[kind, computes]
