"""Mixed precision with a GradScaler: python mixed_precision.py CHECKPOINT [STOP]. The same command again resumes it.

On a GPU it computes in float16, which needs the scaler. A CPU computes in bfloat16, where the scaler only goes along.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from sparse_rnn import sparsify

STEPS, TOKENS = 60, 8
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPE = torch.float16 if DEVICE == "cuda" else torch.bfloat16


class Recaller(nn.Module):
    """Reads a sequence of tokens, int64 [T, B], and tells which one came first, as logits [B, TOKENS]."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, 16)
        self.lstm = nn.LSTM(16, 32)
        self.head = nn.Linear(32, TOKENS)

    def forward(self, tokens: Tensor) -> Tensor:
        output, _ = self.lstm(self.embedding(tokens))
        return self.head(output[-1])


def batch(step: int) -> Tensor:
    """The minibatch of a step, the same in a run that was interrupted."""
    return torch.randint(TOKENS, (6, 16), generator=torch.Generator().manual_seed(step)).to(DEVICE)


def main(checkpoint: Path, stop: int = STEPS) -> None:
    torch.manual_seed(1)
    model = Recaller().to(DEVICE)  # before the optimizer and the sparsifier are made
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler(DEVICE)
    sparsifier = sparsify(model, optimizer, sparsity=0.8, steps=STEPS, update_interval=10, method="rigl")
    parts = {"model": model, "optimizer": optimizer, "scaler": scaler, "sparsifier": sparsifier}
    if checkpoint.exists():
        for name, state in torch.load(checkpoint).items():
            parts[name].load_state_dict(state)
    while sparsifier.step < stop:
        tokens = batch(sparsifier.step)
        with torch.autocast(DEVICE, DTYPE):
            loss = nn.functional.cross_entropy(model(tokens), tokens[0])
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)  # growth by gradient reads gradients as they are
        sparsifier.before_step()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        sparsifier.after_step()  # a step that the scaler left out does not count
    sparsifier.check()
    torch.save({name: part.state_dict() for name, part in parts.items()}, checkpoint)
    print(sparsifier)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
