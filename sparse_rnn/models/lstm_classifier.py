"""The LSTM text classifier of ST-RNN section 4.2."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from sparse_rnn.core.declarations import LSTM_GATES
from sparse_rnn.core.registry import register
from sparse_rnn.models.base import TextClassifier
from sparse_rnn.models.checks import check_dropouts, check_sizes
from sparse_rnn.models.layers.inputs import embed
from sparse_rnn.models.layers.lstm import LSTM


@register("model", "lstm_classifier")
@dataclass
class LSTMClassifierConfig:
    """A text classifier of one LSTM layer, as in ST-RNN.

    embedding: dimensions of the embedding. hidden: units of the layer. dropout: of the embedding and of the last state.
    """

    task: ClassVar[str] = "text_classification"

    name: str = "lstm_classifier"
    embedding: int = 256
    hidden: int = 256
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_sizes(embedding=self.embedding, hidden=self.hidden)
        check_dropouts(dropout=self.dropout)

    def build(self, vocabulary: int, classes: int) -> "LSTMClassifier":
        """The model for a vocabulary of so many words and so many classes."""
        return LSTMClassifier(self, vocabulary, classes)


class LSTMClassifier(TextClassifier):
    """Embedding, LSTM, and a linear layer on its last state.

    Initialised as in Keras, which ST-RNN used: embedding U(+-0.05), input and output weights Glorot uniform,
    recurrent weights orthogonal, biases zero except the forget gate's, which is one.
    """

    def __init__(self, config: LSTMClassifierConfig, vocabulary: int, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, config.embedding)
        self.lstm = LSTM(config.embedding, config.hidden)
        self.decoder = nn.Linear(config.hidden, classes)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.uniform_(self.embedding.weight, -0.05, 0.05)
        nn.init.xavier_uniform_(self.lstm.get_parameter("weight_ih_l0"))
        nn.init.orthogonal_(self.lstm.get_parameter("weight_hh_l0"))
        bias = self.lstm.get_parameter("bias_ih_l0")
        nn.init.zeros_(bias)
        nn.init.zeros_(self.lstm.get_parameter("bias_hh_l0"))
        with torch.no_grad():
            torch.chunk(bias, len(LSTM_GATES))[LSTM_GATES.index("forget")].fill_(1.0)
        nn.init.xavier_uniform_(self.decoder.weight)
        nn.init.zeros_(self.decoder.bias)

    def weight_uses(self, length: int) -> dict[str, int]:
        """See SequenceModel, but the output layer reads only the last state."""
        return super().weight_uses(length) | {"decoder.weight": 1}

    def forward(self, tokens: Tensor) -> Tensor:
        """See TextClassifier; padding is read like a word, as in Keras without masking."""
        _, (last, _) = self.lstm(self.dropout(embed(self.embedding, tokens)))
        logits: Tensor = self.decoder(self.dropout(last[0]))
        return logits

    @torch.no_grad()
    def layer_states(self, tokens: Tensor) -> list[Tensor]:
        """See TextClassifier."""
        states, _ = self.lstm(embed(self.embedding, tokens))
        return [states]
