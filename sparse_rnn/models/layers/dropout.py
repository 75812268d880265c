"""Dropouts of recurrent language models; off in evaluation."""

import torch
from torch import Tensor, nn


class LockedDropout(nn.Module):
    """One mask per sequence, the same at every time step (Gal & Ghahramani 2016)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """x [T, B, H]; the entries of [B, H] that are dropped are the same at all T steps."""
        if not self.training or self.p == 0:
            return x
        return x * inverted_mask(x[:1], self.p)


def inverted_mask(like: Tensor, p: float) -> Tensor:
    """0 with probability p, else 1 / (1 - p), of the shape, type and device of `like`."""
    return torch.empty_like(like).bernoulli_(1 - p).div_(1 - p)


def embed_with_word_dropout(embedding: nn.Embedding, tokens: Tensor, p: float, training: bool) -> Tensor:
    """The embedded tokens [T, B, E]; in training, a word that is dropped is dropped wherever it occurs.

    tokens: int64 [T, B]. One draw for the whole vocabulary (Gal & Ghahramani 2016).
    """
    embedded: Tensor = embedding(tokens)
    if not training or p == 0:
        return embedded
    words = inverted_mask(embedding.weight.detach().new_empty(embedding.num_embeddings, 1), p)
    return embedded * words[tokens]


def drop_connect(weight: Tensor, p: float, training: bool, *, inverted: bool) -> Tensor:
    """The weight with single entries dropped in training, one draw per call (Wan et al. 2013, Merity et al. 2018).

    inverted: training scales the entries that are kept by 1 / (1 - p); otherwise evaluation scales all by 1 - p.
    """
    if p == 0:
        return weight
    if not training:
        return weight if inverted else weight * (1 - p)
    like = weight.detach()
    return weight * (inverted_mask(like, p) if inverted else torch.empty_like(like).bernoulli_(1 - p))
