"""What the trainer asks of a model.

T is the length of a window or text, B the batch, h the width of a layer and H that of the last one.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from sparse_rnn.core.activations import ActivationListener
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.models.layers.mixture import LOGITS_BYTES, RowSoftmax, mixture_cross_entropy

Hidden = Any
"""A tensor, or a tuple or list of hidden states, each with the batch as second-to-last dimension."""


class ModelConfig(Protocol):
    """A model's settings: a dataclass whose `task` names what the model learns.

    `build` takes the sizes of the task's data: the vocabulary, or the numbers at each step, and for a classifier the
    number of classes.
    """

    name: str
    task: ClassVar[str]

    def build(self, *sizes: int) -> "SequenceModel": ...


class Tokenizer(Protocol):
    """What makes token numbers of a text, int64 [T], and a text of token numbers."""

    def encode(self, text: str) -> Tensor: ...

    def decode(self, tokens: Tensor | Sequence[int]) -> str: ...


class SequenceModel(nn.Module):
    """A model that reads sequences of tokens: a LanguageModel or a TextClassifier.

    tokenizer: of the data that it was trained on. A model has one once it was loaded from a file that keeps it.
    """

    tokenizer: Tokenizer | None = None

    def encode(self, text: str) -> Tensor:
        """The token numbers of a text as the model was trained on them, int64 [T]. Raises ConfigError."""
        return self._known_tokenizer().encode(text)

    def decode(self, tokens: Tensor | Sequence[int]) -> str:
        """The text of token numbers [T]. Raises ConfigError."""
        return self._known_tokenizer().decode(tokens)

    def _known_tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise ConfigError(
                "This model has no vocabulary: export its run again, which has one if this version trained it."
            )
        return self.tokenizer

    def flow(self, length: int) -> Tensor:
        """The sum of all logits when every token is read once, in columns of `length`, as [].

        SynFlow (Tanaka et al. 2020) prunes by it. Its input is free of data: it depends on the vocabulary alone.
        """
        raise NotImplementedError

    def every_token(self, length: int) -> Tensor:
        """Every token number once, in order, int64 [T, B], T at most `length`; the first ones fill up the end."""
        weights = [module.weight for module in self.modules() if isinstance(module, nn.Embedding)]
        count, device = len(weights[0]), weights[0].device
        columns = -(-count // min(length, count))
        rows = -(-count // columns)
        return (torch.arange(rows * columns, device=device) % count).view(columns, rows).T

    def weight_uses(self, length: int) -> dict[str, int]:
        """How often reading `length` tokens multiplies by each weight, for the count of FLOPs.

        By default once per token, but never by an embedding that is only looked up; an embedding tied with a decoder
        is used there. A model that differs overrides this.
        """
        modules = [module for module in self.modules() if not isinstance(module, nn.Embedding)]
        multiplied = {id(parameter) for module in modules for parameter in module.parameters(recurse=False)}
        weights = {name: parameter for name, parameter in self.named_parameters() if parameter.dim() >= 2}
        return {name: length if id(parameter) in multiplied else 0 for name, parameter in weights.items()}


class LanguageModel(SequenceModel):
    """Predicts the next token; its hidden state is carried from one window to the next."""

    decoder: "Decoder"

    def initial_hidden(self, batch: int) -> Hidden:
        """Zeros for `batch` sequences, on the model's device."""
        raise NotImplementedError

    def forward(self, tokens: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """The last layer's output after dropout [T, B, H], and the hidden state after the window.

        tokens: int64 [T, B].
        """
        raise NotImplementedError

    def training_loss(self, tokens: Tensor, targets: Tensor, hidden: Hidden) -> tuple[Tensor, Tensor | None, Hidden]:
        """The mean cross-entropy in nats, a penalty or None, and the hidden state after the window.

        The penalty is added for the gradient alone: it is no part of the loss that is logged.
        tokens, targets: int64 [T, B].
        """
        output, hidden = self(tokens, hidden)
        return self.loss(output, targets), None, hidden

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats; output [T, B, H], targets int64 [T, B]."""
        return self.decoder.cross_entropy(output.flatten(0, 1), targets.flatten())

    def log_probabilities(self, output: Tensor) -> Tensor:
        """Log probability of every next word, in nats [T, B, words]; output [T, B, H]."""
        return torch.log_softmax(self.decoder(output), dim=-1)

    def flow(self, length: int) -> Tensor:
        """See SequenceModel; logits are linear, so the decoder may read the sum of all positions."""
        tokens = self.every_token(length)
        output, _ = self(tokens, self.initial_hidden(tokens.shape[1]))
        return self.decoder.flow(output.flatten(0, 1).sum(0))

    def layer_states(self, tokens: Tensor, hidden: Hidden) -> tuple[list[Tensor], Hidden]:
        """Hidden states of every layer without dropout, each [T, B, h], and the hidden state after the window.

        tokens: int64 [T, B]. No gradient.
        """
        raise NotImplementedError


class TextClassifier(SequenceModel):
    """Tells the class of a text, or of a sequence of numbers, or answers it with a number, by a single logit.

    classes: their names by number, known where the tokenizer is.
    """

    classes: tuple[str, ...] = ()

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [B, classes]; tokens: int64 [T, B], 0 where padded, or numbers [T, B, V], see layers/inputs.py."""
        raise NotImplementedError

    def flow(self, length: int) -> Tensor:
        """See SequenceModel."""
        logits: Tensor = self(self.every_token(length))
        return logits.sum()

    def layer_states(self, tokens: Tensor) -> list[Tensor]:
        """Hidden states of every layer without dropout, each [T, B, h]; tokens: int64 [T, B]. No gradient."""
        raise NotImplementedError


class Decoder(nn.Linear):
    """The layer that computes the logits of all V words.

    Losses are methods of it, so that a backend can replace the module by one whose weight is not a dense matrix.
    row_softmax: what computes the softmaxes of a mixture; a backend may set another one with the same results.
    """

    row_softmax: type[RowSoftmax] = RowSoftmax
    activation_listener: ActivationListener | None = None  # for the mixture's logits; hooks see those of `forward`

    def cross_entropy(self, x: Tensor, targets: Tensor) -> Tensor:
        """Mean of -log p(target) in nats; x [N, H], targets int64 [N]."""
        return nn.functional.cross_entropy(self(x), targets)

    def flow(self, x: Tensor) -> Tensor:
        """The sum of all logits, []; x [..., H]."""
        logits: Tensor = self(x)
        return logits.sum()

    def mixture_cross_entropy(self, latent: Tensor, log_prior: Tensor, targets: Tensor) -> Tensor:
        """Mean of -log p(target) in nats of a mixture of K softmaxes.

        latent [N, K, E], log_prior [N, K], targets int64 [N].
        """
        if self.activation_listener is not None:
            at_once = max(1, LOGITS_BYTES // (len(self.weight) * self.weight.element_size()))
            for z in torch.split(latent.detach().flatten(0, 1), at_once):
                logits = nn.functional.linear(z, self.weight.detach(), self.bias.detach())
                self.activation_listener(self.weight, z, logits)
        return mixture_cross_entropy(latent, log_prior, self.weight, self.bias, targets, softmax=self.row_softmax)


def map_hidden(function: Callable[[Tensor], Tensor], hidden: Hidden) -> Hidden:
    """A hidden state of `function` of its tensors; None, for models that carry none, stays None."""
    if hidden is None or isinstance(hidden, Tensor):
        return None if hidden is None else function(hidden)
    return type(hidden)(map_hidden(function, part) for part in hidden)


def hidden_tensors(hidden: Hidden) -> list[Tensor]:
    """The tensors of a hidden state, in order."""
    if isinstance(hidden, Tensor):
        return [hidden]
    return [tensor for part in hidden or () for tensor in hidden_tensors(part)]


def detach(hidden: Hidden) -> Hidden:
    """The hidden state without the graph of earlier windows: truncated backpropagation through time."""
    return map_hidden(Tensor.detach, hidden)
