"""The adaptive softmax, for vocabularies that are too large for the logits of all words (Grave et al. 2017)."""

import torch
from torch import Tensor, nn

SHARES = (0.075, 0.225)  # of the words: the head has those up to the first, the first tail those up to the second
DIVISOR = 4.0  # by which each tail is narrower than what is before it
NARROWEST = int(DIVISOR ** len(SHARES))  # of a last layer that the last tail divides


class AdaptiveDecoder(nn.AdaptiveLogSoftmaxWithLoss):
    """Three clusters of words, numbered by frequency: the first 7.5 % in the head, 15 % and 77.5 % in the two tails.

    Of V words with the cutoffs a and b, over H units, the weights are head.weight [a + 2, H], tail.0.0.weight [H/4, H],
    tail.0.1.weight [b - a, H/4], tail.1.0.weight [H/16, H] and tail.1.1.weight [V - b, H/16], all without biases. Each
    is sparse or dense as any other weight, with exact counts. FLOPs are counted as if every token's target were in
    every cluster, as in generating: training needs fewer.
    """

    def __init__(self, width: int, words: int) -> None:
        first = max(1, round(SHARES[0] * words))
        second = min(max(first + 1, round(SHARES[1] * words)), words - 1)
        super().__init__(width, words, [first, second], div_value=DIVISOR)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Log probabilities [..., words], in nats, which are logits too; x [..., H]."""
        said: Tensor = self.log_prob(x.flatten(0, -2))
        return said.view(*x.shape[:-1], self.n_classes)

    def flow(self, x: Tensor) -> Tensor:
        """The sum of the logits of all clusters, []; x [..., H]."""
        clusters: list[Tensor] = [self.head(x), *(tail(x) for tail in self.tail)]
        return torch.stack([logits.sum() for logits in clusters]).sum()

    def cross_entropy(self, x: Tensor, targets: Tensor) -> Tensor:
        """Mean of -log p(target) in nats; x [N, H], targets int64 [N].

        As torch's, but a tail that no target is in has gradients too, which are zero: methods read them.
        """
        total, chosen, low = x.new_zeros((), dtype=torch.float32), targets, self.shortlist_size
        for number, tail in enumerate(self.tail):
            high = self.cutoffs[number + 1]
            inside = (targets >= low) & (targets < high)
            if len(rows := inside.nonzero().squeeze(1)):
                total = total + nn.functional.cross_entropy(tail(x[rows]), targets[rows] - low, reduction="sum")
            else:
                total = total + 0 * tail(x[:1]).sum()
            chosen, low = chosen.masked_fill(inside, self.shortlist_size + number), high
        total = total + nn.functional.cross_entropy(self.head(x), chosen, reduction="sum")
        return total / len(targets)
