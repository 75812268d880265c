"""How the parameters of several models start."""

from torch import nn


def init_embedding_and_decoder(embedding: nn.Embedding, decoder: nn.Linear) -> None:
    """Draw the embedding, and the decoder's weight unless it is tied, from U(+-0.1); the decoder's bias is zero."""
    nn.init.uniform_(embedding.weight, -0.1, 0.1)
    if decoder.weight is not embedding.weight:
        nn.init.uniform_(decoder.weight, -0.1, 0.1)
    nn.init.zeros_(decoder.bias)


def init_uniform(model: nn.Module, init_range: float) -> None:
    """Draw all parameters, including biases, from U(+-init_range)."""
    for parameter in model.parameters():
        nn.init.uniform_(parameter, -init_range, init_range)
