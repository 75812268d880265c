"""What the trainer asks of a text classifier."""

from torch import Tensor

from sparse_rnn.models.sequence_model import SequenceModel


class TextClassifier(SequenceModel):
    """Tells the class of a text; T is the length, B the batch."""

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens: int64 [T, B], 0 where padded. Returns logits [B, classes]."""
        raise NotImplementedError

    def layer_states(self, tokens: Tensor) -> list[Tensor]:
        """Hidden states of every layer without dropout, each [T, B, h]."""
        raise NotImplementedError
