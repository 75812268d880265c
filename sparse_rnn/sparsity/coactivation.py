"""The co-activation of the two ends of every sparse weight, for rules that ask for `activations`.

Entry [i, j] of a weight connects what its column j reads, x_j, with what comes out for its row i, y_i. In a minibatch
in which the weight is used for N tokens, their co-activation is Hebb's product, averaged (Hebb 1949):

    C[i, j] = 1/N sum_n y_i(n) x_j(n)

It is the numerator of the cosine similarity by which CTRE grows weights (Atashgahi et al. 2022), and is signed: a rule
that asks how much both ends are active together takes |C|. The ends are:

- nn.Linear: its input, and its output.
- LSTM, GRU, RNN and their cells: the input or, for the recurrent weight, the hidden state of the step before; and the
  hidden state of the row's unit, the same for all gates. ON-LSTM too; a row of a master gate has the mean of its chunk.
- RHN: the input, or the state before the depth as its product reads it; and the state after the depth.
- nn.Embedding [words, dimensions]: the row's word, 1 for tokens that are this word and 0 for others; and the vector
  that is looked up. So C is zero where the entry is zero: an embedding that is not tied has nothing to grow by.

x is what the product sees, after dropout; y has not gone through the dropout that follows. The uses of a tied weight
add up, as its gradients do.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.sparsity.ends import EndsOf, ends_of
from sparse_rnn.sparsity.topology import SparseTopology

LISTENER = "activation_listener"  # see core.activations


@dataclass
class _Use:
    """The sum of products [rows or units, columns] over the tokens of one module's calls."""

    total: Tensor
    tokens: int = 0


class Coactivation:
    """Sums up the co-activation of the forward passes between `watch` and `taken`; without them it costs nothing.

    Passes without gradients are left out: they are no part of training. Raises ConfigError if the ends of a sparse
    weight cannot be seen.
    """

    def __init__(self, topology: SparseTopology) -> None:
        self._weights: dict[Tensor, str] = {weight.parameter: weight.name for weight in topology}
        self._shapes = {weight.name: weight.shape for weight in topology}
        self._modules: list[tuple[nn.Module, EndsOf | None]] = []
        self._handles: list[RemovableHandle] = []
        self._uses: dict[tuple[str, int], _Use] = {}
        unseen: set[Tensor] = set(self._weights) if topology.model is None else set()
        if topology.model is not None:
            self._find(topology.model, unseen)
        if names := [name for parameter, name in self._weights.items() if parameter in unseen]:
            raise ConfigError(
                f"The activations of {', '.join(names)} cannot be had, since only nn.Linear, nn.Embedding, torch's "
                "LSTM, GRU and RNN without projections, their cells, and modules with an activation_listener show "
                "theirs: name it in keep_dense, or choose a growth that reads none."
            )

    def _find(self, module: nn.Module, unseen: set[Tensor]) -> None:
        """Collect the modules that show their ends; `unseen` takes the parameters of those that do not."""
        if any(module is known for known, _ in self._modules):
            return
        ends, listens = ends_of(module), hasattr(type(module), LISTENER)
        if ends or listens:
            self._modules.append((module, ends))
        else:
            unseen.update(module.parameters(recurse=False))
        for child in () if listens else module.children():
            self._find(child, unseen)

    def watch(self) -> None:
        """Sum up from now on, from zero."""
        self.stop()
        self._uses = {}
        for module, ends in self._modules:
            if hasattr(type(module), LISTENER):
                setattr(module, LISTENER, partial(self._heard, id(module)))
            if ends is not None:
                hook = partial(self._seen, ends)
                self._handles.append(module.register_forward_hook(hook, with_kwargs=True))

    def stop(self) -> None:
        """Leave the modules as they were."""
        while self._handles:
            self._handles.pop().remove()
        for module, _ in self._modules:
            module.__dict__.pop(LISTENER, None)

    def taken(self) -> dict[str, Tensor]:
        """The co-activation since `watch`, by weight name, of the weight's shape; watches no longer.

        Raises ConfigError if a weight was not used where it could be seen.
        """
        self.stop()
        uses, self._uses = self._uses, {}
        found: dict[str, Tensor] = {}
        for (name, _), use in uses.items():
            mean = use.total.div_(max(use.tokens, 1))
            gates = self._shapes[name][0] // len(mean)
            mean = mean.repeat(gates, 1) if gates > 1 else mean
            found[name] = found[name].add_(mean) if name in found else mean
        if missing := [name for name in self._shapes if name not in found]:
            raise ConfigError(
                f"The activations of {', '.join(missing)} were not seen in this step: the module that owns it must be "
                "called as it is, not compiled, after sparsifier.before_backward(), or be named in keep_dense."
            )
        return found

    def _seen(self, ends: EndsOf, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """The forward hook of a module of torch's."""
        if torch.is_grad_enabled():
            with torch.no_grad(), torch.autocast(next(module.parameters()).device.type, enabled=False):
                for weight, columns, rows in ends(module, args, kwargs, output):
                    self._add(id(module), weight, columns, rows)

    def _heard(self, module: int, weight: Tensor, columns: Tensor, rows: Tensor) -> None:
        """What a layer calls itself; see core.activations."""
        if torch.is_grad_enabled():
            with torch.no_grad(), torch.autocast(weight.device.type, enabled=False):
                self._add(module, weight, columns, rows)

    def _add(self, module: int, weight: Tensor, columns: Tensor, rows: Tensor) -> None:
        """Add the products of a call of a module; in the weight's precision, whatever autocast computes in."""
        if weight not in self._weights:
            return  # it is kept dense
        numbers = not rows.is_floating_point()  # of rows that are 1, while all others are 0
        columns = columns.reshape(-1, columns.shape[-1]).to(weight.dtype)
        rows = rows.flatten() if numbers else rows.reshape(-1, rows.shape[-1]).to(weight.dtype)
        height = len(weight) if numbers else rows.shape[1]
        key = self._weights[weight], module
        use = self._uses.setdefault(key, _Use(columns.new_zeros(height, columns.shape[1])))
        use.tokens += len(columns)
        if numbers:
            use.total.index_add_(0, rows, columns)
        else:
            use.total.addmm_(rows.t(), columns)
