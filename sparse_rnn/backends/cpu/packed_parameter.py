"""A parameter that holds active values alone, and is dense for code that reads it past its module."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812
from torch.utils._pytree import tree_map

from sparse_rnn.backends.cpu.dense_gradient_taps import DenseContribution
from sparse_rnn.backends.cpu.functions.products import linear
from sparse_rnn.backends.cpu.structure import Structure

# What needs rows and columns. Optimizers, norms and penalties work entry by entry: they get the active values.
READS = frozenset(
    [
        *(F.bilinear, F.embedding, F.embedding_bag, F.multi_head_attention_forward),
        *(torch.matmul, torch.mm, torch.bmm, torch.mv, torch.addmm, torch.baddbmm, torch.einsum),
        *(Tensor.matmul, Tensor.mm, Tensor.mv, Tensor.addmm, Tensor.__matmul__, Tensor.__rmatmul__),
        *(torch.t, Tensor.t, torch.transpose, Tensor.transpose, Tensor.permute),
        *(attribute.__get__ for attribute in (Tensor.T, Tensor.mT)),  # type: ignore[attr-defined]
        *(Tensor.__getitem__, torch.index_select, Tensor.index_select, torch.chunk, Tensor.chunk, torch.split),
        *(Tensor.split, torch.unbind, Tensor.unbind),
    ]
)


class PackedParameter(nn.Parameter):
    """A parameter [active]. Functions that read its rows and columns get a dense copy, which is slow.

    Their gradient comes back to the active values. `F.linear(x, embedding.weight)`, as tied weights are often written,
    is computed by the kernels.
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
        if func in (Tensor.detach, torch.detach):
            # What averages of weights are made of. A tensor of inference mode refuses writes, which would be
            # without effect.
            with torch._C.DisableTorchFunctionSubclass(), torch.inference_mode():
                return args[0].structure.unpack(args[0])
        if func is F.linear and not kwargs and isinstance(args[1], PackedParameter):
            x, weight, *bias = args
            with torch._C.DisableTorchFunctionSubclass():
                return linear(x, weight, weight.structure, *bias)
        if func in READS or func is F.linear:
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
