"""Clipping, weight decay, SGD, mask and averaging in two passes over each weight, as Triton kernels."""

from collections.abc import Mapping

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from sparse_rnn.optim.averaged_sgd import AveragedSGD

BLOCK = 4096
WARPS = 8


class FusedAveragedStep:
    """What masking gradients, clipping their norm and a plain step of AveragedSGD do together, up to rounding.

    masks_by_parameter: bool, of the parameter's shape and only written to in place; a parameter without one is dense.
    clip: the largest norm of all masked gradients together; None: not clipped. Parameters and masks must be contiguous.

    Gradients are left as they are, neither masked nor clipped. Nothing is read on the host, so a call can be captured;
    a replay of it must be counted by `optimizer.count_step`, as the call itself does.
    """

    def __init__(
        self, optimizer: AveragedSGD, masks_by_parameter: Mapping[nn.Parameter, Tensor], clip: float | None
    ) -> None:
        self._optimizer, self._clip = optimizer, clip
        self._masks = {parameter: mask.view(torch.uint8) for parameter, mask in masks_by_parameter.items()}
        tensors = [*optimizer.parameters, *self._masks.values()]
        if not all(tensor.is_contiguous() for tensor in tensors):
            raise ValueError("a parameter or mask is not contiguous: use optimizer.step() instead.")

    @property
    def applies(self) -> bool:
        """Whether the optimizer's next step is plain; any other one must be left to it."""
        return self._optimizer.next_step_is_plain

    @torch.no_grad()
    def __call__(self) -> None:
        """One step; raises TypeError unless every learning rate is a 0-dim float32 tensor on the device."""
        coefficient = self._coefficient()
        sums = iter(self._optimizer.sums)
        for group in self._optimizer.param_groups:
            rate = group["lr"]
            if not (isinstance(rate, Tensor) and rate.dtype == torch.float32):
                raise TypeError("FusedAveragedStep reads the learning rate on the device: make it a float32 tensor.")
            for parameter in group["params"]:
                self._update(parameter, rate, group["weight_decay"], coefficient, next(sums, None))
        self._optimizer.count_step()

    def _coefficient(self) -> Tensor | None:
        """What gradients are multiplied by, float32 [], as by torch.nn.utils.clip_grad_norm_; None: nothing."""
        given = [(p, p.grad.contiguous()) for p in self._optimizer.parameters if p.grad is not None]
        if self._clip is None or not given:
            return None
        blocks = [triton.cdiv(p.numel(), BLOCK) for p, _ in given]
        squares = given[0][1].new_empty(sum(blocks), dtype=torch.float32)
        for (parameter, gradient), of_parameter in zip(given, torch.split(squares, blocks), strict=True):
            mask = self._masks.get(parameter)
            _sum_of_squares[(len(of_parameter),)](
                *(gradient, mask, of_parameter, gradient.numel(), BLOCK), num_warps=WARPS
            )
        return torch.clamp(self._clip / (squares.sum().sqrt() + 1e-6), max=1.0)

    def _update(
        self, parameter: nn.Parameter, rate: Tensor, decay: float, coefficient: Tensor | None, total: Tensor | None
    ) -> None:
        if parameter.grad is None:
            if total is not None:
                total.add_(parameter)
            return
        mask, size = self._masks.get(parameter), parameter.numel()
        _step[(triton.cdiv(size, BLOCK),)](
            *(parameter, parameter.grad.contiguous(), mask, total, rate, coefficient, decay, size, BLOCK),
            num_warps=WARPS,
        )


@triton.jit  # type: ignore[untyped-decorator]
def _sum_of_squares(gradient, mask, squares, size, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """The sum of squares of a block of masked gradients; a NaN stays one, whatever the mask."""
    at = tl.program_id(0) * block + tl.arange(0, block)
    inside = at < size
    g = tl.load(gradient + at, mask=inside, other=0.0)
    if mask is not None:
        g *= tl.load(mask + at, mask=inside, other=0).to(tl.float32)
    tl.store(squares + tl.program_id(0), tl.sum(g * g, 0))


@triton.jit  # type: ignore[untyped-decorator]
def _step(  # type: ignore[no-untyped-def]
    parameter, gradient, mask, total, rate, coefficient, decay, size, block: tl.constexpr
):
    """SGD on a block of a parameter and, with `total`, the addition of its new values."""
    at = tl.program_id(0) * block + tl.arange(0, block)
    inside = at < size
    w = tl.load(parameter + at, mask=inside, other=0.0)
    g = tl.load(gradient + at, mask=inside, other=0.0)
    if mask is not None:
        g *= tl.load(mask + at, mask=inside, other=0).to(tl.float32)
    if coefficient is not None:
        g *= tl.load(coefficient)
    w -= tl.load(rate) * (g + decay * w)
    tl.store(parameter + at, w, mask=inside)
    if total is not None:
        tl.store(total + at, tl.load(total + at, mask=inside, other=0.0) + w, mask=inside)
