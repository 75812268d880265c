"""Masks against plain torch: stacked LSTM 1500 x 2, batch 20, BPTT 35, vocabulary 10,000."""

import sys

import psutil
import torch
from torch import nn

from benchmarks.row import Row, median_seconds, printed_by, ratio_of_times
from sparse_rnn.config.compose import compose_run
from sparse_rnn.optim.averaged_sgd import FOLD, AveragedSGD
from sparse_rnn.sparsity.method import make_topology
from sparse_rnn.sparsity.sparsifier import Clock, Sparsifier
from sparse_rnn.training.assembly import make_sparsifier

VOCABULARY, BATCH, BPTT, HIDDEN = 10_000, 20, 35, 1500
CLOCK = Clock(step=1328, epoch=0, epochs=100, batch=1328, batches=1328)
MID_EPOCH = Clock(step=7, epoch=0, epochs=100, batch=7, batches=1328)


class Plain(nn.Module):
    """The same language model as one writes it with torch alone."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, HIDDEN)
        self.lstm = nn.LSTM(HIDDEN, HIDDEN, 2, dropout=0.65)
        self.decoder = nn.Linear(HIDDEN, VOCABULARY)
        self.dropout = nn.Dropout(0.65)

    def loss(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy in nats; tokens and targets [T, B]."""
        output, _ = self.lstm(self.dropout(self.embedding(tokens)))
        logits = self.decoder(self.dropout(output).flatten(0, 1))
        return nn.functional.cross_entropy(logits, targets.flatten())


class PlainStep:
    """A training step of the plain model with torch.optim.SGD."""

    def __init__(self) -> None:
        self.model = Plain()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1.0, weight_decay=1.2e-6)
        self.window = torch.randint(VOCABULARY, (BPTT + 1, BATCH))

    def __call__(self) -> None:
        """Zero gradients, forward, backward, step."""
        self.optimizer.zero_grad(set_to_none=True)
        self.model.loss(self.window[:-1], self.window[1:]).backward()
        self.optimizer.step()


class OurStep:
    """A training step of this project: masked gradients, clipping, SNT-ASGD; `overrides` as on the command line."""

    def __init__(self, *overrides: str, vocabulary: int = VOCABULARY) -> None:
        given = [] if any(override.startswith("model=") for override in overrides) else ["model=stacked_lstm"]
        run = compose_run([*given, "dataset=ptb", "sparsifier.removal_rate=0.7", *overrides])
        self.run = run
        self.model = run.model.build(vocabulary).train()
        self.topology = make_topology(run.sparsifier, self.model)
        optimizer = run.optimizer.build(self.model.parameters(), run.protocol)
        assert isinstance(optimizer, AveragedSGD)
        self.optimizer = optimizer
        self.sparsifier: Sparsifier = make_sparsifier(run, self.topology, optimizer)
        self.window = torch.randint(vocabulary, (BPTT + 1, BATCH))
        self.hidden = self.model.initial_hidden(BATCH)

    def __call__(self, clock: Clock = MID_EPOCH) -> None:
        """Zero gradients, forward, backward, mask, clip, step."""
        self.optimizer.zero_grad(set_to_none=True)
        self.sparsifier.before_backward(clock)
        output, _ = self.model(self.window[:-1], self.hidden)
        self.model.loss(output, self.window[1:]).backward()
        self.sparsifier.before_step(clock)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.run.training.clip)
        self.optimizer.step()
        self.sparsifier.after_step(clock)


def rows() -> list[Row]:
    """The ratios of a training step, an optimizer step, topology updates and memory."""
    torch.manual_seed(1)
    plain, ours = PlainStep(), OurStep("sparsifier=selfish")
    step = ratio_of_times(ours, plain)
    ours.optimizer.start_averaging()
    ours.sparsifier.update(CLOCK)
    ours.optimizer.step()
    optimizer = ratio_of_times(lambda: ours.optimizer.step(), lambda: plain.optimizer.step(), rounds=15)
    fused = torch.optim.SGD(plain.model.parameters(), lr=1.0, weight_decay=1.2e-6, fused=True)
    beside_fused = ratio_of_times(lambda: ours.optimizer.step(), lambda: fused.step(), rounds=15)
    one_step = median_seconds(ours)
    update = median_seconds(lambda: ours.sparsifier.update(CLOCK)) / one_step
    rigl = OurStep("sparsifier=rigl")
    rigl(CLOCK)
    captured = rigl.sparsifier.state_dict()

    # An update consumes the gradients that the step before has kept, so each call gets them again.
    def rigl_update() -> None:
        rigl.sparsifier._signals["gradient"] = captured["signals"]["gradient"]
        rigl.sparsifier.update(CLOCK)

    rigl_ratio = median_seconds(rigl_update) / one_step
    memory = _memory("selfish", "snt_asgd") / _memory("dense", "nt_asgd")
    return [
        Row("training step, selfish with masks / plain torch LSTM with SGD", step, 1.10, 1.0),
        Row("optimizer step, SNT-ASGD after the trigger / SGD", optimizer, 1.25, 1.0),
        Row("optimizer step, SNT-ASGD after the trigger / fused SGD", beside_fused, None, 1.0),
        Row("topology update, selfish / training step", update, 3.0, 0.0),
        Row("topology update, rigl / training step", rigl_ratio, 3.0, 0.0),
        Row("memory after the trigger, SNT-ASGD selfish / dense NT-ASGD", memory, 1.35, 1.0),
    ]


def _memory(sparsifier: str, optimizer: str) -> float:
    """RSS in bytes once averages are kept, minus that after the imports, in a process of its own."""
    return printed_by("benchmarks.masked_training", sparsifier, optimizer)


def _measure_memory(sparsifier: str, optimizer: str) -> int:
    process = psutil.Process()
    before = process.memory_info().rss
    step = OurStep(f"sparsifier={sparsifier}", f"optimizer={optimizer}")
    step()
    step.optimizer.start_averaging()
    step()
    if step.run.sparsifier.dynamic:
        step.sparsifier.update(CLOCK)
    step.optimizer.steps = FOLD - 1  # the next step folds the sums
    step()
    return int(process.memory_info().rss - before)


if __name__ == "__main__":
    torch.set_num_threads(2)
    print(_measure_memory(sys.argv[1], sys.argv[2]))
