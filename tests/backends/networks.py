"""Small networks of every model, masked and sparse."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparse_rnn.backends.cpu.convert import use_sparse_kernels
from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.schema import Run
from sparse_rnn.sparsity.method import make_topology
from sparse_rnn.sparsity.sparsifier import Clock, Sparsifier
from sparse_rnn.sparsity.topology import SparseTopology
from sparse_rnn.training.assembly import make_optimizer, make_sparsifier

MODELS = ("stacked_lstm", "rhn", "on_lstm", "awd_lstm_mos", "lstm_classifier", "gru", "mamba")
WORDS, CLASSES, LENGTH, BATCH = 23, 4, 7, 3


def composed(model: str, *overrides: str, method: str = "set", optimizer: str = "adam") -> Run:
    """A run at budget=smoke, with settings where the papers give none."""
    dataset = "pydoc_topics" if model == "lstm_classifier" else "pydoc"
    given = [f"model={model}", f"sparsifier={method}", f"optimizer={optimizer}", f"dataset={dataset}", "budget=smoke"]
    given += ["recipe=none", "sparsifier.removal_rate=0.5"]
    given += ["sparsifier.sparsity=0.6"] if method not in ("dense", "iss") else []
    given += [f"optimizer.lr={0.01 if optimizer in ('adam', 'adamw') else 0.5}"]
    return compose_run([*given, *overrides])


class Network:
    """A model with its method at work; `steps` of training, `batches` an epoch."""

    def __init__(self, run: Run, *, sparse: bool, dtype: torch.dtype = torch.float64, batches: int = 3) -> None:
        self.run, self.batches, self.step = run, batches, 0
        torch.manual_seed(1)
        sizes = (WORDS, CLASSES) if run.model.task == "text_classification" else (WORDS,)
        self.model: nn.Module = run.model.build(*sizes).to(dtype)
        self.topology: SparseTopology = make_topology(run.sparsifier, self.model)
        self.optimizer: Optimizer = make_optimizer(run, self.model)
        self.sparsifier: Sparsifier = make_sparsifier(run, self.topology, self.optimizer)
        if sparse:
            use_sparse_kernels(self.model, self.topology)

    def loss(self, number: int = 0) -> Tensor:
        """What is trained, of minibatch `number`; dropouts are drawn by its number."""
        random = torch.Generator().manual_seed(number)
        tokens = torch.randint(WORDS, (LENGTH + 1, BATCH), generator=random)
        torch.manual_seed(number)
        if self.run.model.task == "text_classification":
            return nn.functional.cross_entropy(self.model(tokens), tokens[0] % CLASSES)
        loss, penalty, _ = self.model.training_loss(tokens[:-1], tokens[1:], self.model.initial_hidden(BATCH))
        return loss if penalty is None else loss + penalty

    def clock(self, step: int, epochs: int) -> Clock:
        """That of a step, from 1."""
        epoch, batch = divmod(step - 1, self.batches)
        return Clock(step, epoch, epochs, batch + 1, self.batches)

    def train(self, epochs: int, steps: int | None = None) -> list[float]:
        """Losses of the steps of so many epochs, each of which ends with an update if one is due."""
        losses = []
        for _ in range(epochs * self.batches if steps is None else steps):
            clock = self.clock(self.step + 1, epochs)
            self.optimizer.zero_grad(set_to_none=True)
            self.sparsifier.before_backward(clock)
            loss = self.loss(self.step)
            torch.autograd.backward(loss)
            losses.append(loss.item())
            self.step += 1
            self.sparsifier.before_step(clock)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 0.25)
            self.optimizer.step()
            self.sparsifier.after_step(clock)
            if clock.batch == self.batches:
                self.sparsifier.after_epoch(clock)
        return losses

    @property
    def masks(self) -> dict[str, Tensor]:
        """The topology."""
        return {weight.name: weight.mask.clone() for weight in self.topology}

    def dense(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tensors like parameters, by their names, dense and zero where inactive."""
        sparse = {weight.name: weight for weight in self.topology}
        return {
            name: sparse[name].storage.dense(tensor) * sparse[name].mask if name in sparse else tensor
            for name, tensor in tensors.items()
        }
