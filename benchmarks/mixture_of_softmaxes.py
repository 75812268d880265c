"""The mixture of softmaxes in chunks against all at once: AWD-LSTM-MoS, sub-batch 5, BPTT 70, 33,278 words."""

import sys

import torch
from torch import Tensor

from benchmarks.row import Row, peak_rss, printed_by, ratio_of_times
from sparse_rnn.models.awd_lstm_mos import AWDLSTMMoS, AWDLSTMMoSConfig

VOCABULARY, BATCH, BPTT = 33_278, 5, 70


class Plain(AWDLSTMMoS):
    """The same model with the loss as its formula reads: all softmaxes, their mixture, and the logarithm of that."""

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats; 1e-8 avoids the logarithm of zero."""
        latent = self.dropout_latent(torch.tanh(self.latent(output)))
        logits = self.decoder(latent.view(-1, self.config.embedding))
        experts = torch.softmax(logits, dim=-1).view(targets.numel(), self.config.experts, -1)
        prior = torch.softmax(self.prior(output), dim=-1).view(targets.numel(), self.config.experts, 1)
        probabilities = (experts * prior).sum(1)
        return torch.nn.functional.nll_loss(torch.log(probabilities + 1e-8), targets.flatten())


class Step:
    """Forward, loss and backward of a whole model on one sub-batch."""

    def __init__(self, kind: type[AWDLSTMMoS]) -> None:
        self.model = kind(AWDLSTMMoSConfig(), VOCABULARY).train()
        self.window = torch.randint(VOCABULARY, (BPTT + 1, BATCH))
        self.hidden = self.model.initial_hidden(BATCH)

    def __call__(self) -> None:
        """Zero gradients, forward, backward."""
        self.model.zero_grad(set_to_none=True)
        loss, penalty, _ = self.model.training_loss(self.window[:-1], self.window[1:], self.hidden)
        assert penalty is not None
        torch.autograd.backward(loss + penalty)


def rows() -> list[Row]:
    """The ratios of a training step and of peak memory."""
    torch.manual_seed(1)
    step = ratio_of_times(Step(AWDLSTMMoS), Step(Plain), rounds=5)
    memory = _peak_memory("AWDLSTMMoS") / _peak_memory("Plain")
    return [
        Row("training step, AWD-LSTM-MoS / all softmaxes at once", step, 1.10, None),
        Row("peak memory, AWD-LSTM-MoS / all softmaxes at once", memory, 0.50, None),
    ]


def _peak_memory(kind: str) -> float:
    """The most by which RSS exceeds that after the imports, in bytes, in a process of its own."""
    return printed_by("benchmarks.mixture_of_softmaxes", kind)


def _measure_peak_memory(kind: str) -> int:
    before = peak_rss()
    step = Step({"AWDLSTMMoS": AWDLSTMMoS, "Plain": Plain}[kind])
    step()
    step()
    return peak_rss() - before


if __name__ == "__main__":
    torch.set_num_threads(2)
    print(_measure_peak_memory(sys.argv[1]))
