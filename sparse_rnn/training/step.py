"""One step of training."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparse_rnn.config.schema import TrainingConfig
from sparse_rnn.data.batches import Batch
from sparse_rnn.sparsity.sparsifier import Clock, Sparsifier
from sparse_rnn.training.running_sums import RunningSums
from sparse_rnn.training.tasks.base import Task


class FusedUpdate(Protocol):
    """Masks and clips gradients and steps the optimizer at once; `applies`: whether that is all the next step does."""

    @property
    def applies(self) -> bool: ...

    def __call__(self) -> None: ...


class TrainingStep:
    """Forward, backward, masked and clipped gradients, one step of the optimizer. Nothing in it waits for a GPU.

    rates: if given, a float32 [] on the device for each group of the optimizer, from which its step reads the learning
    rate; a captured step would repeat a number of the host for ever. fused: whether Triton kernels compute. update: if
    given, it does what follows the backward pass.
    """

    def __init__(
        self,
        config: TrainingConfig,
        model: nn.Module,
        task: Task,
        sparsifier: Sparsifier,
        optimizer: Optimizer,
        sums: RunningSums,
    ) -> None:
        self.config, self.model, self.task = config, model, task
        self.sparsifier, self.optimizer, self.sums = sparsifier, optimizer, sums
        self.rates: list[Tensor] | None = None
        self.fused = False
        self.update: FusedUpdate | None = None

    def read_rates_on_device(self) -> None:
        """Let the optimizer read its learning rates from tensors."""
        device = next(self.model.parameters()).device
        self.rates = self.rates or [torch.zeros((), device=device) for _ in self.optimizer.param_groups]

    def __call__(self, batch: Batch, hidden: Any, clock: Clock) -> Any:
        """Train on a batch; `clock` counts this step. Returns the hidden state to carry on."""
        with self.learning_rates(batch):
            return self.compute(batch, hidden, clock)

    def compute(self, batch: Batch, hidden: Any, clock: Clock) -> Any:
        """The step itself, at the learning rates that the optimizer has."""
        self.optimizer.zero_grad(set_to_none=True)
        self.sparsifier.before_backward(clock)
        totals, hidden = self.task.backward(batch, hidden)
        self.sums.add(totals)
        if self.update is not None and self.update.applies:
            self.sparsifier.read_signals(clock)
            self.update()
            return hidden
        self.sparsifier.before_step(clock)
        if self.config.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        return hidden

    @contextmanager
    def learning_rates(self, batch: Batch) -> Iterator[None]:
        """The learning rates of a step: with variable windows, times length / bptt (Merity et al. 2018)."""
        groups = self.optimizer.param_groups
        scale = batch.inputs.shape[0] / self.config.bptt if self.config.variable_bptt else 1.0
        own = [group["lr"] for group in groups]
        for index, group in enumerate(groups):
            rate = own[index] * scale
            group["lr"] = rate if self.rates is None else self.rates[index].fill_(rate)
        try:
            yield
        finally:
            for group, rate in zip(groups, own, strict=True):
                group["lr"] = rate
