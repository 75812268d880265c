"""What the trainer asks of a language model."""

from typing import Any, Protocol

from torch import Tensor, nn

from sparse_rnn.registry import ConfigError

Hidden = Any
"""A tensor, or a tuple or list of hidden states, each with the batch as second-to-last dimension."""


class ModelConfig(Protocol):
    """A model's configuration; builds the model for a vocabulary."""

    name: str

    def build(self, vocabulary: int) -> "LanguageModel": ...


def check_sizes(**sizes: int) -> None:
    """Raise ConfigError for a size below 1."""
    for key, value in sizes.items():
        if value < 1:
            raise ConfigError(f"model.{key}={value} must be at least 1.")


def check_dropouts(**dropouts: float) -> None:
    """Raise ConfigError for a dropout outside [0, 1)."""
    for key, value in dropouts.items():
        if not 0 <= value < 1:
            raise ConfigError(f"model.{key}={value} must lie in [0, 1).")


class LanguageModel(nn.Module):
    """Predicts the next token; T is the window length, B the batch, H the width of the last layer."""

    decoder: nn.Linear

    def initial_hidden(self, batch: int) -> Hidden:
        """Zeros for `batch` sequences, on the model's device."""
        raise NotImplementedError

    def forward(self, tokens: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """tokens: int64 [T, B]. Returns the last layer's output after dropout [T, B, H] and the hidden state to
        carry on with."""
        raise NotImplementedError

    def layer_states(self, tokens: Tensor, hidden: Hidden) -> tuple[list[Tensor], Hidden]:
        """Hidden states of every layer without dropout, each [T, B, h], and the hidden state to carry on with."""
        raise NotImplementedError

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats; output [T, B, H], targets int64 [T, B]."""
        logits = self.decoder(output.flatten(0, 1))
        return nn.functional.cross_entropy(logits, targets.flatten())


def detach(hidden: Hidden) -> Hidden:
    """The same hidden state, cut off from the graph of earlier windows."""
    if isinstance(hidden, Tensor):
        return hidden.detach()
    return type(hidden)(detach(h) for h in hidden)
