"""A callback of Lightning: python lightning_callback.py CHECKPOINT [STOP]. The same command again resumes it."""

import sys
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from sparse_rnn import StepSparsifier, sparsify

STEPS, TOKENS = 60, 8


class Sparsify(lightning.Callback):
    """Keeps the module of a Trainer sparse; takes the arguments of `sparsify` but `steps`."""

    def __init__(self, steps: int, **settings: Any) -> None:
        self.steps, self.settings = steps, settings
        self.sparsifier: StepSparsifier | None = None
        self.saved: dict[str, Any] | None = None
        self.before = False

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        # Lightning restores the module before it makes the optimizer: the sparsifier's state comes last.
        [optimizer] = trainer.optimizers
        self.sparsifier = sparsify(pl_module, optimizer, steps=self.steps, **self.settings)
        if self.saved is not None:
            self.sparsifier.load_state_dict(self.saved)

    def on_before_optimizer_step(self, *_: Any) -> None:
        self.sparsifier.before_step()
        self.before = True

    def on_train_batch_end(self, *_: Any) -> None:
        if self.before:  # not after a batch whose gradients were only accumulated
            self.sparsifier.after_step()
            self.before = False

    def state_dict(self) -> dict[str, Any]:
        return {} if self.sparsifier is None else self.sparsifier.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.saved = state_dict or None


class Recaller(lightning.LightningModule):
    """Reads sequences of tokens, int64 [T, B], and learns which one came first."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, 16)
        self.gru = nn.GRU(16, 32)
        self.head = nn.Linear(32, TOKENS)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        tokens = minibatch(self.global_step)
        _, hidden = self.gru(self.embedding(tokens))
        return nn.functional.cross_entropy(self.head(hidden[-1]), tokens[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


def minibatch(step: int) -> Tensor:
    """That of a step: Lightning's loaders begin anew where a run resumes in the middle of an epoch."""
    return torch.randint(TOKENS, (6, 16), generator=torch.Generator().manual_seed(step))


def main(checkpoint: Path, stop: int = STEPS) -> None:
    lightning.seed_everything(1, verbose=False)
    model = Recaller()
    callback = Sparsify(STEPS, sparsity=0.8, update_interval=7)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=stop,
        gradient_clip_val=1.0,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    resumed = checkpoint if checkpoint.exists() else None
    trainer.fit(model, DataLoader(range(STEPS)), ckpt_path=resumed)
    callback.sparsifier.check()
    trainer.save_checkpoint(checkpoint)
    print(callback.sparsifier)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
