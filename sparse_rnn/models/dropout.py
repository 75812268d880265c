"""Dropouts of recurrent language models; all scale by 1 / (1 - p) and do nothing in evaluation."""

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
    words = inverted_mask(embedding.weight[:, :1].detach(), p)
    return embedded * words[tokens]
