"""Dropouts of recurrent language models; off in evaluation."""

import torch
from torch import Tensor, nn


class LockedDropout(nn.Module):
    """One mask a sequence, the same at every time step (Gal & Ghahramani 2016). Input [T, B, H]."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """x with the same entries of [B, H] dropped in every row."""
        if not self.training or self.p == 0:
            return x
        return x * inverted_mask(x[:1], self.p)


def inverted_mask(like: Tensor, p: float) -> Tensor:
    """0 with probability p, else 1 / (1 - p), of the shape, type and device of `like`."""
    return torch.empty_like(like).bernoulli_(1 - p).div_(1 - p)


def embed_with_word_dropout(embedding: nn.Embedding, tokens: Tensor, p: float, training: bool) -> Tensor:
    """The embedded tokens [T, B, E]; in training whole words are dropped, one draw for all of them."""
    embedded: Tensor = embedding(tokens)
    if not training or p == 0:
        return embedded
    words = inverted_mask(embedding.weight.detach().new_empty(embedding.num_embeddings, 1), p)
    return embedded * words[tokens]


def drop_connect(weight: Tensor, p: float, training: bool, *, inverted: bool) -> Tensor:
    """A weight with single entries dropped in training, one draw a call (Wan et al. 2013, Merity et al. 2018).

    inverted: what is kept is scaled by 1 / (1 - p) in training; otherwise evaluation scales by 1 - p.
    """
    if p == 0:
        return weight
    if not training:
        return weight if inverted else weight * (1 - p)
    like = weight.detach()
    return weight * (inverted_mask(like, p) if inverted else torch.empty_like(like).bernoulli_(1 - p))
