"""A plain training loop: python plain_loop.py CHECKPOINT [STOP]. The same command again resumes it."""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from sparse_rnn import sparsify

STEPS, TOKENS = 60, 8


class Recaller(nn.Module):
    """Reads a sequence of tokens, int64 [T, B], and tells which one came first, as logits [B, TOKENS]."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, 16)
        self.gru = nn.GRU(16, 32)
        self.head = nn.Linear(32, TOKENS)

    def forward(self, tokens: Tensor) -> Tensor:
        _, hidden = self.gru(self.embedding(tokens))
        return self.head(hidden[-1])


def batch(step: int) -> Tensor:
    """The minibatch of a step, the same in a run that was interrupted."""
    return torch.randint(TOKENS, (6, 16), generator=torch.Generator().manual_seed(step))


def main(checkpoint: Path, stop: int = STEPS) -> None:
    torch.manual_seed(1)
    model = Recaller()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    sparsifier = sparsify(model, optimizer, sparsity=0.8, steps=STEPS, update_interval=10)
    parts = {"model": model, "optimizer": optimizer, "sparsifier": sparsifier}
    if checkpoint.exists():
        for name, state in torch.load(checkpoint).items():
            parts[name].load_state_dict(state)
    while sparsifier.step < stop:
        tokens = batch(sparsifier.step)
        loss = nn.functional.cross_entropy(model(tokens), tokens[0])
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
