"""The softmaxes of a mixture's loss in two Triton kernels, each one pass over the logits."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparse_rnn.models.layers.mixture import RowSoftmax

BLOCK = 4096
WARPS = 8


class TritonRowSoftmax(RowSoftmax):
    """RowSoftmax of float32 or bfloat16 logits, computed in float32."""

    def __init__(self, logits: Tensor, target: Tensor) -> None:
        self._logits, self._target = logits.contiguous(), target.contiguous()
        rows, words = logits.shape
        self._largest, self._total, self.of_target = (logits.new_empty(rows, 1, dtype=torch.float32) for _ in range(3))
        _log_probability[(rows,)](
            *(self._logits, self._target, self._largest, self._total, self.of_target),
            *(words, BLOCK),
            num_warps=WARPS,
        )

    def gradient(self, factor: Tensor) -> tuple[Tensor, Tensor]:
        """See RowSoftmax: here residual = p - onehot(target) and scale = factor."""
        rows, words = self._logits.shape
        _residual[(rows, triton.cdiv(words, BLOCK))](
            *(self._logits, self._target, self._largest, self._total, words, BLOCK), num_warps=WARPS
        )
        return self._logits, factor


@triton.jit  # type: ignore[untyped-decorator]
def _log_probability(  # type: ignore[no-untyped-def]
    logits, target, largest, total, of_target, words: tl.constexpr, block: tl.constexpr
):
    """One row: its largest logit, the sum of exp(logit - largest), and the log of the target's probability."""
    row = tl.program_id(0)
    own = logits + row.to(tl.int64) * words
    most = float("-inf")
    summed = 0.0
    for first in range(0, words, block):
        word = first + tl.arange(0, block)
        x = tl.load(own + word, mask=word < words, other=float("-inf")).to(tl.float32)
        new = tl.maximum(most, tl.max(x, 0))
        summed = summed * tl.exp(most - new) + tl.sum(tl.exp(x - new), 0)
        most = new
    x = tl.load(own + tl.load(target + row)).to(tl.float32)
    tl.store(largest + row, most)
    tl.store(total + row, summed)
    tl.store(of_target + row, x - most - tl.log(summed))


@triton.jit  # type: ignore[untyped-decorator]
def _residual(  # type: ignore[no-untyped-def]
    logits, target, largest, total, words: tl.constexpr, block: tl.constexpr
):
    """A block of a row, in place: softmax - onehot(target)."""
    row = tl.program_id(0)
    word = tl.program_id(1) * block + tl.arange(0, block)
    own = logits + row.to(tl.int64) * words + word
    x = tl.load(own, mask=word < words, other=float("-inf")).to(tl.float32)
    p = tl.exp(x - tl.load(largest + row)) / tl.load(total + row)
    p = tl.where(word == tl.load(target + row), p - 1.0, p)
    tl.store(own, p.to(logits.dtype.element_ty), mask=word < words)
