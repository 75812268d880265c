"""The untrained network as pruning at initialisation probes it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from itertools import islice

import torch
from torch import Tensor

from sparse_rnn.config.schema import Run
from sparse_rnn.models.base import SequenceModel
from sparse_rnn.runs.parents import magnitudes_of_parent
from sparse_rnn.sparsity.groups import Group, whole_of
from sparse_rnn.sparsity.rules.initial import active_total, saliency_of
from sparse_rnn.sparsity.topology import SparseTopology
from sparse_rnn.training.tasks.base import Task, evaluation

MINIBATCHES = 10  # whose mean gradient scores the weights
WINDOW = 35  # tokens of a column of data-free input


def initial_scores(
    run: Run, model: SequenceModel, task: Task, topology: SparseTopology, *, placeholder: bool = False
) -> dict[str, Tensor] | None:
    """The scores of all entries by weight name, from the method's initial rule; None if it draws the topology.

    placeholder: zeros, for a topology that will be read from a checkpoint.
    """
    saliency = saliency_of(run.sparsifier.initial)
    if saliency is None:
        return None
    if placeholder:
        return zeros_for(topology)
    probe = Untrained(run, model, task, topology)
    with torch.no_grad():
        return saliency(probe, active_total([probe.whole], run.sparsifier.sparsity))


def zeros_for(topology: SparseTopology) -> dict[str, Tensor]:
    """Zero for every entry of the sparse weights, by weight name."""
    return {weight.name: torch.zeros_like(weight.values) for weight in topology}


class Untrained:
    """A model with its task as a Probe, see sparsity.saliency."""

    def __init__(self, run: Run, model: SequenceModel, task: Task, topology: SparseTopology) -> None:
        self._run = run
        self._model, self._task, self._topology = model, task, topology

    @cached_property
    def whole(self) -> Group:
        """All entries of the sparse weights."""
        return whole_of(self._topology)

    @cached_property
    def weights(self) -> Mapping[str, Tensor]:
        """Their values by name."""
        return {weight.name: weight.parameter.data for weight in self._topology}

    def loss_gradients(self) -> dict[str, Tensor]:
        """Of the mean loss over the first MINIBATCHES of training, with the hidden state carried."""
        hidden, count = self._task.initial_hidden(), 0
        with self._differentiated():
            for batch in islice(self._task.batches(0).after(0), MINIBATCHES):
                _, hidden = self._task.backward(batch, hidden)
                count += 1
            return {name: gradient / count for name, gradient in self._gradients()}

    def flow_gradients(self) -> dict[str, Tensor]:
        """Of the sum of all outputs for every word once."""
        values = [parameter.detach().clone() for parameter in self._model.parameters()]
        with self._differentiated():
            for parameter in self._model.parameters():
                parameter.data.abs_()
            torch.autograd.backward(self._model.flow(WINDOW))
            found = dict(self._gradients())
        for parameter, value in zip(self._model.parameters(), values, strict=True):
            parameter.data.copy_(value)
        return found

    def parent_magnitudes(self) -> dict[str, Tensor]:
        """Of the run that trained the round before; zeros in the first round. Raises DamagedFile."""
        return magnitudes_of_parent(self._run, self._topology) or zeros_for(self._topology)

    @contextmanager
    def _differentiated(self) -> Iterator[None]:
        """Without dropout, and with gradients that are gone afterwards. cuDNN would differentiate only with dropout."""
        with evaluation(self._model), torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            self._model.zero_grad(set_to_none=True)
            yield
        self._model.zero_grad(set_to_none=True)

    def _gradients(self) -> Iterator[tuple[str, Tensor]]:
        for weight in self._topology:
            gradient = weight.parameter.grad
            yield weight.name, torch.zeros_like(weight.parameter) if gradient is None else gradient.clone()
