"""Torch's multi-head attention on the kernels: its projections are sparse products, the attention itself is torch's."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from sparse_rnn.backends.cpu.functions.products import linear
from sparse_rnn.backends.cpu.structure import Structure


class SparseMultiheadAttention(nn.MultiheadAttention):
    """nn.MultiheadAttention with sparse projections. B sequences, H heads, T queries, S keys, E features."""

    structures: dict[str, Structure]

    @classmethod
    def refused(cls, module: nn.MultiheadAttention) -> str:
        """Why a module of torch's cannot have this class, as a phrase; empty if it can."""
        options = {"add_bias_kv": module.bias_k is not None, "add_zero_attn": module.add_zero_attn}
        used = [name for name, is_used in options.items() if is_used]
        return f"the kernels have no {' and no '.join(used)} of nn.MultiheadAttention" if used else ""

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The output and, if `need_weights`, the attention weights, as torch's module takes and returns them.

        is_causal is a hint which says what `attn_mask` is; it is not needed here.
        """
        if is_causal and attn_mask is None:
            raise RuntimeError("Need attn_mask if specifying the is_causal hint.")
        batched = query.dim() == 3
        projected = self._projected(query, key, value)
        if not batched:
            projected = [each[None] for each in projected]
            key_padding_mask = None if key_padding_mask is None else key_padding_mask[None]
        elif not self.batch_first:
            projected = [each.transpose(0, 1) for each in projected]
        # [B, H, T, E / H], and S in place of T
        q, k, v = (each.reshape(*each.shape[:2], self.num_heads, -1).transpose(1, 2) for each in projected)
        mask = self._mask(attn_mask, key_padding_mask, q, k.shape[2])
        drop = self.dropout if self.training else 0.0
        if need_weights:
            scores = q @ k.transpose(-2, -1) / math.sqrt(self.head_dim)
            weights = F.dropout((scores if mask is None else scores + mask).softmax(-1), drop)
            output = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights if batched else weights.squeeze(0)
        else:
            weights, output = None, F.scaled_dot_product_attention(q, k, v, mask, drop)
        output = self.out_proj(output.transpose(1, 2).flatten(2))
        if not batched:
            output = output.squeeze(0)
        elif not self.batch_first:
            output = output.transpose(0, 1)
        return output, weights

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """What the three are multiplied by their weights, [..., E] each."""
        inputs = query, key, value
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        if self.in_proj_weight is None:
            names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
            return [self._product(x, name, bias) for x, name, bias in zip(inputs, names, biases, strict=True)]
        known: dict[int, list[Tensor]] = {}
        for x in inputs:  # one product for all that are the same tensor
            if id(x) not in known:
                known[id(x)] = list(self._product(x, "in_proj_weight", self.in_proj_bias).chunk(3, -1))
        return [known[id(x)][part] for part, x in enumerate(inputs)]

    def _product(self, x: Tensor, name: str, bias: Tensor | None) -> Tensor:
        weight: Tensor = getattr(self, name)
        return F.linear(x, weight, bias) if weight.dim() == 2 else linear(x, weight, self.structures[name], bias)

    def _mask(self, attn: Tensor | None, padding: Tensor | None, q: Tensor, keys: int) -> Tensor | None:
        """What is added to the scores [B, H, T, S]; attn: [T, S] or [B H, T, S], padding: [B, S], bool or floats."""
        total = None
        if attn is not None:
            total = _added(attn, q.dtype)
            total = total.view(*q.shape[:3], keys) if attn.dim() == 3 else total
        if padding is not None:
            own = _added(padding, q.dtype)[:, None, None]
            total = own if total is None else total + own
        return total


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask whose True means `not this one` as what is added to scores; floats are that already."""
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, -math.inf)
