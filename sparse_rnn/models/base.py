"""What the trainer asks of a model."""

from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.models.layers.mixture import mixture_cross_entropy


class SequenceModel(nn.Module):
    """Reads sequences of tokens."""

    def weight_uses(self, length: int) -> dict[str, int]:
        """How often reading `length` tokens multiplies by each weight; a model of which this is not true says so.

        Once a token, but never by an embedding that is only looked up; one tied with a decoder is used there.
        """
        modules = [module for module in self.modules() if not isinstance(module, nn.Embedding)]
        multiplied = {id(parameter) for module in modules for parameter in module.parameters(recurse=False)}
        weights = {name: parameter for name, parameter in self.named_parameters() if parameter.dim() >= 2}
        return {name: length if id(parameter) in multiplied else 0 for name, parameter in weights.items()}


Hidden = Any
"""A tensor, or a tuple or list of hidden states, each with the batch as second-to-last dimension."""


class ModelConfig(Protocol):
    """A model's configuration; `task` is what it learns, and builds it for the sizes of the task's data."""

    name: str
    task: ClassVar[str]

    def build(self, *sizes: int) -> SequenceModel: ...


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


def check_init_range(init_range: float | None) -> None:
    """Raise ConfigError for a range that is not greater than 0."""
    if init_range is not None and not init_range > 0:
        raise ConfigError(f"model.init_range={init_range} must be greater than 0.")


def init_uniform(model: nn.Module, init_range: float) -> None:
    """Draw all parameters, biases too, from U(+-init_range)."""
    for parameter in model.parameters():
        nn.init.uniform_(parameter, -init_range, init_range)


def check_penalties(**penalties: float) -> None:
    """Raise ConfigError for a penalty that is negative or not a number."""
    for key, value in penalties.items():
        if not value >= 0:
            raise ConfigError(f"model.{key}={value} must not be negative.")


class Decoder(nn.Linear):
    """The layer that gives the logits of all words."""

    def cross_entropy(self, x: Tensor, targets: Tensor) -> Tensor:
        """Mean of -log p(target) in nats; x [N, H], targets int64 [N]."""
        return nn.functional.cross_entropy(self(x), targets)

    def mixture_cross_entropy(self, latent: Tensor, log_prior: Tensor, targets: Tensor) -> Tensor:
        """Mean of -log p(target) in nats of a mixture of softmaxes; latent [N, K, E], log_prior [N, K], targets [N]."""
        return mixture_cross_entropy(latent, log_prior, self.weight, self.bias, targets)


class LanguageModel(SequenceModel):
    """Predicts the next token; T is the window length, B the batch, H the width of the last layer."""

    decoder: Decoder

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
        return self.decoder.cross_entropy(output.flatten(0, 1), targets.flatten())

    def log_probabilities(self, output: Tensor) -> Tensor:
        """Of every next word, in nats [T, B, words]; output [T, B, H]."""
        return torch.log_softmax(self.decoder(output), dim=-1)

    def training_loss(self, tokens: Tensor, targets: Tensor, hidden: Hidden) -> tuple[Tensor, Tensor | None, Hidden]:
        """Mean cross-entropy, a penalty that is added to it for the gradient alone (None: none), the hidden state."""
        output, hidden = self(tokens, hidden)
        return self.loss(output, targets), None, hidden


def detach(hidden: Hidden) -> Hidden:
    """The same hidden state, cut off from the graph of earlier windows."""
    if isinstance(hidden, Tensor):
        return hidden.detach()
    return type(hidden)(detach(h) for h in hidden)


def activation_penalty(output: Tensor, states: Tensor, activation: float, temporal: float) -> Tensor:
    """activation * mean(output^2) + temporal * mean((states_t+1 - states_t)^2), both [T, B, H] (AR and TAR, Merity et
    al. 2017)."""
    penalty = activation * output.square().mean()
    if states.shape[0] > 1:
        penalty = penalty + temporal * (states[1:] - states[:-1]).square().mean()
    return penalty


class TextClassifier(SequenceModel):
    """Tells the class of a text; T is the length, B the batch."""

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens: int64 [T, B], 0 where padded. Returns logits [B, classes]."""
        raise NotImplementedError

    def layer_states(self, tokens: Tensor) -> list[Tensor]:
        """Hidden states of every layer without dropout, each [T, B, h]."""
        raise NotImplementedError
