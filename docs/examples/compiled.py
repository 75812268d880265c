"""A module under torch.compile: python compiled.py CHECKPOINT [STOP]. The same command again resumes it.

The sparsifier changes weights and masks in place, so that nothing is compiled again after an update.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from sparse_rnn import sparsify

STEPS, TOKENS, HIDDEN = 60, 8, 32


class Cell(nn.Module):
    """A gated unit of one's own, which declares its gates: the rows of each in its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = nn.Linear(16, 2 * HIDDEN)
        self.recurrent = nn.Linear(HIDDEN, 2 * HIDDEN, bias=False)

    def gates(self) -> dict[str, dict[str, slice]]:
        rows = {"update": slice(0, HIDDEN), "new": slice(HIDDEN, 2 * HIDDEN)}
        return {"inputs.weight": rows, "recurrent.weight": rows}

    def forward(self, inputs: Tensor, state: Tensor) -> Tensor:
        """inputs [B, 16] and state [B, HIDDEN] to the next state [B, HIDDEN]."""
        update, new = (self.inputs(inputs) + self.recurrent(state)).chunk(2, 1)
        return torch.lerp(state, torch.tanh(new), torch.sigmoid(update))


class Recaller(nn.Module):
    """Reads a sequence of tokens, int64 [T, B], and tells which one came first, as logits [B, TOKENS]."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, 16)
        self.cell = Cell()
        self.head = nn.Linear(HIDDEN, TOKENS)

    def forward(self, tokens: Tensor) -> Tensor:
        inputs = self.embedding(tokens)
        state = inputs.new_zeros(inputs.shape[1], HIDDEN)
        for each in inputs:
            state = self.cell(each, state)
        return self.head(state)


def batch(step: int) -> Tensor:
    """The minibatch of a step, the same in a run that was interrupted."""
    return torch.randint(TOKENS, (3, 16), generator=torch.Generator().manual_seed(step))


def main(checkpoint: Path, stop: int = STEPS) -> None:
    torch.manual_seed(1)
    model = Recaller()
    compiled = torch.compile(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    sparsifier = sparsify(model, optimizer, sparsity=0.8, steps=STEPS, update_interval=10)
    parts = {"model": model, "optimizer": optimizer, "sparsifier": sparsifier}
    if checkpoint.exists():
        for name, state in torch.load(checkpoint).items():
            parts[name].load_state_dict(state)
    while sparsifier.step < stop:
        tokens = batch(sparsifier.step)
        loss = nn.functional.cross_entropy(compiled(tokens), tokens[0])
        optimizer.zero_grad()
        loss.backward()
        sparsifier.before_step()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        sparsifier.after_step()
    sparsifier.check()
    torch.save({name: part.state_dict() for name, part in parts.items()}, checkpoint)
    print(sparsifier)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
