"""A parameter that holds active values alone, and is dense for code that reads it past its module."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812
from torch.utils._pytree import tree_map

from sparse_rnn.backends.cpu.dense_gradient_taps import DenseContribution
from sparse_rnn.backends.cpu.structure import Structure

# What needs rows and columns. Optimizers, norms and penalties work entry by entry: they get the active values.
READS = frozenset(
    [
        *(F.linear, F.bilinear, F.embedding, F.embedding_bag, F.multi_head_attention_forward),
        *(torch.matmul, torch.mm, torch.bmm, torch.mv, torch.addmm, torch.baddbmm, torch.einsum),
        *(Tensor.matmul, Tensor.mm, Tensor.mv, Tensor.addmm, Tensor.__matmul__, Tensor.__rmatmul__),
        *(torch.t, Tensor.t, Tensor.T.__get__, Tensor.mT.__get__, torch.transpose, Tensor.transpose, Tensor.permute),
        *(Tensor.__getitem__, torch.index_select, Tensor.index_select, torch.chunk, Tensor.chunk, torch.split),
        *(Tensor.split, torch.unbind, Tensor.unbind),
    ]
)


class PackedParameter(nn.Parameter):
    """A parameter [active]. Products, lookups and other functions that read it get a dense copy, which is slow.

    This serves code such as `F.linear(x, embedding.weight)`, whose gradient comes back to the active values.
    """

    structure: Structure

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.__setitem__ and isinstance(args[0], PackedParameter):
            raise RuntimeError(
                "a weight on the kernels cannot be written to by index, since it holds active values alone: change a "
                "copy of model.state_dict() and load it."
            )
        if func in READS:
            args, kwargs = tree_map(_dense, (tuple(args), kwargs))
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)


def _dense(argument: object) -> object:
    if not isinstance(argument, PackedParameter):
        return argument
    with torch._C.DisableTorchFunctionSubclass():
        return _Unpacked.apply(argument, argument.structure)  # type: ignore[no-untyped-call]


class _Unpacked(torch.autograd.Function):
    """Stored values as a dense tensor."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, structure: Structure) -> Tensor:
        ctx.structure = structure
        return structure.unpack(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        structure: Structure = ctx.structure
        if structure.contributions is not None:
            structure.contributions.append(DenseContribution(gradient))
        return structure.pack(gradient), None
