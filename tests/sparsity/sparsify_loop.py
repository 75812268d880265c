"""Other people's modules, and their own training loop around `sparsify`."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sparse_rnn import sparsify
from sparse_rnn.optim.averaged_sgd import AveragedSGD

STEPS, INTERVAL = 40, 8
CLASSES, LENGTH, BATCH = 4, 6, 16


class Cell(nn.Module):
    """A gated cell as somebody wrote it: two gates stacked in one matrix of inputs and hidden state."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.weight = nn.Parameter(torch.randn(2 * hidden, inputs + hidden) / hidden**0.5)

    def forward(self, inputs: Tensor) -> Tensor:
        """[T, B, inputs] to the last hidden state [B, hidden]."""
        state = inputs.new_zeros(inputs.shape[1], self.hidden)
        for x in inputs:
            update, new = (torch.cat((x, state), 1) @ self.weight.T).chunk(2, 1)
            state = torch.lerp(state, torch.tanh(new), torch.sigmoid(update))
        return state


class DeclaringCell(Cell):
    """A Cell that declares its gates."""

    def gates(self) -> dict[str, dict[str, slice]]:
        return {"weight": {"update": slice(0, self.hidden), "new": slice(self.hidden, 2 * self.hidden)}}


class Classifier(nn.Module):
    """Tells from a sequence which token it began with."""

    def __init__(self, encoder: nn.Module, pick: Callable[[object], Tensor]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CLASSES, 16)
        self.encoder, self.pick, self.head = encoder, pick, nn.Linear(16, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        """int64 [T, B] to logits [B, classes]."""
        return self.head(self.pick(self.encoder(self.embedding(tokens))))


def make(kind: str) -> Classifier:
    """A classifier around nn.GRU, a hand-written cell, or nn.TransformerEncoder, always with the same weights."""
    torch.manual_seed(3)
    if kind == "gru":
        return Classifier(nn.GRU(16, 16), lambda output: output[1][0])
    if kind == "transformer":
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0)
        return Classifier(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), lambda output: output[0])
    return Classifier({"cell": Cell, "declaring": DeclaringCell}[kind](16, 16), lambda state: state)


MODULES = ["gru", "cell", "declaring", "transformer"]


class Loop:
    """A training loop with the three lines in it."""

    def __init__(self, kind: str = "gru", optimizer: str = "adam", **settings: object) -> None:
        self.model = make(kind)
        self.optimizer = {
            "adam": lambda p: torch.optim.Adam(p, 0.01),
            "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
            "averaged": lambda p: AveragedSGD(p, 0.5),
        }[optimizer](self.model.parameters())
        chosen = {"sparsity": 0.6, "steps": STEPS, "update_interval": INTERVAL} | settings
        self.sparsifier = sparsify(self.model, self.optimizer, **chosen)
        self.losses: list[float] = []

    def step(self):
        """One step on the minibatch of its number."""
        tokens = torch.randint(CLASSES, (LENGTH, BATCH), generator=torch.Generator().manual_seed(len(self.losses)))
        loss = nn.functional.cross_entropy(self.model(tokens), tokens[0])
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.sparsifier.before_step()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.losses.append(float(loss.detach()))
        return self.sparsifier.after_step()

    def run(self, steps: int) -> dict[int, object]:
        """So many steps; the reports of the updates, by step."""
        reports = {len(self.losses): self.step() for _ in range(steps)}
        return {step + 1: report for step, report in reports.items() if report is not None}

    @property
    def masks(self) -> dict[str, Tensor]:
        return {w.name: w.mask.clone() for w in self.sparsifier.topology}
