"""Modules as other people write them, and a loop that trains one with masks or on the kernels."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from sparse_rnn import sparsify

WORDS, WIDTH, HIDDEN, LENGTH, BATCH = 11, 6, 8, 5, 7


class Net(nn.Module):
    """An embedding, something recurrent, and an output layer: tokens [T, B] to logits [T, B, words]."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.embedding = nn.Embedding(WORDS, WIDTH, padding_idx=0 if kind == "padded" else None)
        makers = {
            "lstm": lambda: nn.LSTM(WIDTH, HIDDEN // 2, 2, bidirectional=True),
            "gru": lambda: nn.GRU(WIDTH, HIDDEN, batch_first=True),
            "rnn": lambda: nn.RNN(WIDTH, HIDDEN, bias=False),
            "lstm cell": lambda: nn.LSTMCell(WIDTH, HIDDEN),
            "gru cell": lambda: nn.GRUCell(WIDTH, HIDDEN),
            "rnn cell": lambda: nn.RNNCell(WIDTH, HIDDEN),
            "attention": lambda: nn.MultiheadAttention(WIDTH, 2, dropout=0.2, batch_first=True, bias=False),
            "cross attention": lambda: nn.MultiheadAttention(WIDTH, 2, kdim=WIDTH // 2, vdim=WIDTH // 2),
        }
        tied = kind in ("tied", "read directly", "attention", "cross attention")
        self.inner = makers.get(kind, lambda: nn.Linear(WIDTH, WIDTH if tied else HIDDEN))()
        if kind != "read directly":
            self.head = nn.Linear(WIDTH if tied else HIDDEN, WORDS)
        if kind == "tied":
            self.head.weight = self.embedding.weight
        if kind == "shared":  # by two modules, and one of them is called twice
            self.other = nn.Linear(WIDTH, HIDDEN)
            self.other.weight = self.inner.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits."""
        x = self.embedding(tokens)
        if isinstance(self.inner, nn.RNNBase):
            first = self.inner.batch_first
            output = self.inner(x.transpose(0, 1) if first else x)[0]
            return self.head(output.transpose(0, 1) if first else output)
        if isinstance(self.inner, nn.RNNCellBase):
            state, outputs = None, []
            for each in x:
                state = self.inner(each, state)
                outputs.append(state[0] if isinstance(state, tuple) else state)
            return self.head(torch.stack(outputs))
        if isinstance(self.inner, nn.MultiheadAttention):
            return self.head(x + self._attended(x))
        h = torch.tanh(self.inner(x))
        if self.kind == "shared":
            h = h + torch.tanh(self.other(x)) * torch.sigmoid(self.inner(x.flip(0)))
        return F.linear(h, self.embedding.weight) if self.kind == "read directly" else self.head(h)

    def _attended(self, x: Tensor) -> Tensor:
        later = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
        if self.kind == "attention":  # to itself, and then to itself the other way round
            x = x.transpose(0, 1)
            output, _ = self.inner(x, x, x, need_weights=False, attn_mask=later)
            return (output + self.inner(x, x.flip(1), x.flip(1), attn_mask=later)[0]).transpose(0, 1)
        padding = torch.zeros(BATCH, LENGTH, dtype=torch.bool)
        padding[1, 3:] = True
        output, weights = self.inner(x, x[..., ::2], x[..., 1::2], padding, average_attn_weights=False)
        return output + self.inner(x[:, 0], x[:, 0, ::2], x[:, 0, ::2])[0][:, None] * weights.square().sum()


KINDS = ("lstm", "gru", "rnn", "lstm cell", "gru cell", "rnn cell", "attention", "cross attention")
KINDS += ("plain", "padded", "tied", "read directly", "shared")


class Run:
    """A module in training, in float64; step n is on the tokens of its number."""

    def __init__(self, kind: str, backend: str, optimizer: str = "Adam", **settings: object) -> None:
        own = dict(OPTIMIZERS[optimizer])
        chosen = {"sparsity": 0.6, "steps": 30, "update_interval": 4, "backend": backend} | settings
        torch.manual_seed(2)
        self.model = Net(kind).double()
        self.optimizer = getattr(torch.optim, optimizer)(self.model.parameters(), **own)
        self.sparsifier = sparsify(self.model, self.optimizer, **chosen)
        self.losses: list[float] = []

    def loss(self, number: int) -> Tensor:
        """That of a minibatch."""
        tokens = torch.randint(WORDS, (LENGTH, BATCH), generator=torch.Generator().manual_seed(number))
        return F.cross_entropy(self.model(tokens).flatten(0, 1), (tokens * 3 + 1).flatten() % WORDS)

    def step(self) -> None:
        """One step."""
        self.optimizer.zero_grad()
        loss = self.loss(len(self.losses))
        torch.autograd.backward(loss)
        self.sparsifier.before_step()
        nn.utils.clip_grad_norm_(self.model.parameters(), 0.5)
        self.optimizer.step()
        self.sparsifier.after_step()
        self.losses.append(float(loss.detach()))

    def train(self, steps: int) -> "Run":
        """So many steps."""
        for _ in range(steps):
            self.step()
        return self

    @property
    def masks(self) -> dict[str, Tensor]:
        """The topology."""
        return {weight.name: weight.mask.clone() for weight in self.sparsifier.topology}


OPTIMIZERS: dict[str, dict[str, object]] = {
    "SGD": {"lr": 0.3, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    "Adam": {"lr": 0.02, "fused": True},
    "AdamW": {"lr": 0.02, "amsgrad": True, "foreach": True},
    "RMSprop": {"lr": 0.01, "momentum": 0.5, "centered": True},
    "Adagrad": {"lr": 0.05, "initial_accumulator_value": 0.1},
    "ASGD": {"lr": 0.3},
    "Adamax": {"lr": 0.02},
    "NAdam": {"lr": 0.02},
    "RAdam": {"lr": 0.02},
    "Adadelta": {"lr": 1.0},
    "Rprop": {"lr": 0.005},
}
