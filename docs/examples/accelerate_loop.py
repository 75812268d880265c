"""A loop of Hugging Face Accelerate: python accelerate_loop.py FOLDER [STOP]. The same command again resumes it."""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from sparse_rnn import sparsify

STEPS, TOKENS, ACCUMULATED = 60, 8, 2


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


def batch(step: int, part: int) -> Tensor:
    """A part of the minibatch of a step, the same in a run that was interrupted."""
    seed = ACCUMULATED * step + part
    return torch.randint(TOKENS, (6, 8), generator=torch.Generator().manual_seed(seed))


def main(folder: Path, stop: int = STEPS) -> None:
    torch.manual_seed(1)
    accelerator = Accelerator(gradient_accumulation_steps=ACCUMULATED)
    model = Recaller()
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=0.01))
    sparsifier = sparsify(model, optimizer, sparsity=0.8, steps=STEPS, update_interval=10)  # after prepare
    accelerator.register_for_checkpointing(sparsifier)
    if folder.exists():
        accelerator.load_state(folder)
    while sparsifier.step < stop:
        step = sparsifier.step
        for part in range(ACCUMULATED):
            with accelerator.accumulate(model):
                tokens = batch(step, part).to(accelerator.device)
                loss = nn.functional.cross_entropy(model(tokens), tokens[0])
                accelerator.backward(loss)
                if accelerator.sync_gradients:  # the optimizer steps only now
                    sparsifier.before_step()
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                if accelerator.sync_gradients:
                    sparsifier.after_step()
                optimizer.zero_grad()
    sparsifier.check()
    accelerator.save_state(folder)
    print(sparsifier)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
