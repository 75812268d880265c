"""What a model reads at a step: a token, or a vector of numbers."""

import torch
from torch import Tensor, nn


def embed(embedding: nn.Embedding, inputs: Tensor) -> Tensor:
    """The vectors [T, B, E] of the inputs: looked up for tokens int64 [T, B], W^T x for numbers x float [T, B, V].

    A token is the vector of V numbers in which one is 1 and all others are 0, so that both are one linear map, whose
    weight is the embedding's [V, E].
    """
    numbers = inputs.is_floating_point()
    # Of numbers, by a look-up of every row, which the kernels compute too where the weight holds active values alone.
    rows: Tensor = embedding(torch.arange(embedding.num_embeddings, device=inputs.device) if numbers else inputs)
    return inputs @ rows if numbers else rows
