"""ON-LSTM at the paper's size against a straightforward port: batch 20, BPTT 70, vocabulary 10,000."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from benchmarks.row import Row, median_seconds, ratio_of_times
from sparse_rnn.models.on_lstm import ONLSTMConfig

VOCABULARY, BATCH, BPTT = 10_000, 20, 70
CONFIG = ONLSTMConfig()
WIDTHS = [CONFIG.embedding, *[CONFIG.hidden] * (CONFIG.layers - 1), CONFIG.embedding]


class PortedCell(nn.Module):
    """A cell as it was published: dropped recurrent weights, cumax, and autograd through every step."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden, self.masters = hidden, hidden // CONFIG.chunk
        rows = 4 * hidden + 2 * self.masters
        self.ih, self.hh = nn.Linear(inputs, rows), nn.Linear(hidden, rows)

    def sample(self) -> None:
        """Draw the recurrent weights that are dropped in a window."""
        mask = torch.empty_like(self.hh.weight, dtype=torch.bool).bernoulli_(CONFIG.drop_connect)
        self.dropped = self.hh.weight.masked_fill(mask, 0.0)

    def forward(self, projected: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """The next h [B, H] and c [B, chunks, chunk], given what the input gives to the rows."""
        gates = projected + nn.functional.linear(h, self.dropped, self.hh.bias)
        master_in, master_forget = gates[:, : 2 * self.masters].chunk(2, dim=1)
        shape = (-1, 4 * self.masters, CONFIG.chunk)
        output, cell, inward, forget = gates[:, 2 * self.masters :].view(shape).chunk(4, dim=1)
        master_in = (1 - torch.cumsum(master_in.softmax(-1), -1))[:, :, None].expand_as(cell)
        master_forget = torch.cumsum(master_forget.softmax(-1), -1)[:, :, None].expand_as(cell)
        overlap = master_forget * master_in
        forget = forget.sigmoid() * overlap + (master_forget - overlap)
        inward = inward.sigmoid() * overlap + (master_in - overlap)
        c = forget * c + inward * cell.tanh()
        h = output.sigmoid() * c.tanh()
        return h.reshape(-1, self.hidden), c


class Port(nn.Module):
    """The published network of such cells."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, CONFIG.embedding)
        self.cells = nn.ModuleList(PortedCell(*pair) for pair in pairwise(WIDTHS))
        self.decoder = nn.Linear(CONFIG.embedding, VOCABULARY)
        self.decoder.weight = self.embedding.weight

    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats, plus AR and TAR; tokens and targets [T, B]."""
        words = self.embedding.weight.new_empty(VOCABULARY, 1).bernoulli_(1 - CONFIG.dropout_word)
        weight = self.embedding.weight * (words / (1 - CONFIG.dropout_word))
        x = _locked(nn.functional.embedding(tokens, weight), CONFIG.dropout_input)
        for layer, cell in enumerate(self.cells):
            if layer:
                x = _locked(x, CONFIG.dropout_hidden)
            x = _unroll(cell, x)
        logits = self.decoder(_locked(x, CONFIG.dropout_output).flatten(0, 1))
        loss = nn.functional.cross_entropy(logits, targets.flatten())
        loss = loss + CONFIG.activation_penalty * x.pow(2).mean()
        return loss + CONFIG.temporal_penalty * (x[1:] - x[:-1]).pow(2).mean()


def _unroll(cell: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(cell, PortedCell)
    cell.sample()
    h, c = x.new_zeros(BATCH, cell.hidden), x.new_zeros(BATCH, cell.masters, CONFIG.chunk)
    states = []
    for projected in cell.ih(x):
        h, c = cell(projected, h, c)
        states.append(h)
    return torch.stack(states)


def _locked(x: Tensor, p: float) -> Tensor:
    return x * x.new_empty(1, *x.shape[1:]).bernoulli_(1 - p).div_(1 - p)


class PortStep:
    """Forward, loss with its penalties and backward of the port."""

    def __init__(self, window: Tensor) -> None:
        self.model, self.window = Port(), window

    def __call__(self) -> None:
        """One training step up to the gradients."""
        self.model.zero_grad()
        torch.autograd.backward(self.model.loss(self.window[:-1], self.window[1:]))


class OurStep:
    """Forward, loss with its penalties and backward of our model."""

    def __init__(self, window: Tensor) -> None:
        self.model, self.window = CONFIG.build(VOCABULARY), window
        self.hidden = self.model.initial_hidden(BATCH)

    def __call__(self) -> None:
        """One training step up to the gradients."""
        self.model.zero_grad()
        loss, penalty, _ = self.model.training_loss(self.window[:-1], self.window[1:], self.hidden)
        assert penalty is not None
        torch.autograd.backward(loss + penalty)


class Products:
    """The matrix products of a step: three for each weight, the recurrent ones of forward and backward step by step."""

    def __init__(self) -> None:
        self.layers = [
            (torch.randn(BPTT * BATCH, cell.ih.in_features), cell.ih.weight.detach(), cell.hh.weight.detach())
            for cell in Port().cells
            if isinstance(cell, PortedCell)
        ]
        self.output, self.decoder = (
            torch.randn(BPTT * BATCH, CONFIG.embedding),
            torch.randn(VOCABULARY, CONFIG.embedding),
        )

    def __call__(self) -> None:
        """Compute them on random numbers."""
        for x, weight, recurrent in self.layers:
            rows = _three_products(x, weight)
            h, gates = rows[:BATCH, : recurrent.shape[1]], rows[:BATCH]
            for _ in range(BPTT):
                h @ recurrent.t()
                gates @ recurrent
            rows.t() @ rows[:, : recurrent.shape[1]]
        _three_products(self.output, self.decoder)


def _three_products(x: Tensor, weight: Tensor) -> Tensor:
    y = x @ weight.t()
    _ = y @ weight
    _ = y.t() @ x
    return y


def rows() -> list[Row]:
    """The ratio of a training step; its limit is the time of the matrix products alone."""
    torch.manual_seed(1)
    window = torch.randint(VOCABULARY, (BPTT + 1, BATCH))
    ours, port = OurStep(window), PortStep(window)
    ratio = ratio_of_times(ours, port)
    limit = ratio * median_seconds(Products()) / median_seconds(ours)
    return [Row("training step, ON-LSTM / straightforward port", ratio, 1.0, limit)]
