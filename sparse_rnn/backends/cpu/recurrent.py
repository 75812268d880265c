"""Torch's recurrent modules on the kernels.

A module is not replaced but given the class from here that corresponds to its own: `module.__class__ = SparseGRU`. It
keeps its attributes and its parameter objects, and is called as before. Two things must be set: the parameter of a
sparse weight holds active values alone, [active], and `structures` has the structure of each 2-D weight by the name of
its parameter. A weight that is kept dense keeps its shape, and has a structure with all entries.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from sparse_rnn.backends.cpu.functions.dropout import dropout
from sparse_rnn.backends.cpu.functions.products import Stored
from sparse_rnn.backends.cpu.functions.recurrence import FORWARD, Order, recurrent_layer
from sparse_rnn.backends.cpu.modules import drop_connect, stored_weight
from sparse_rnn.backends.cpu.structure import Structure

States = tuple[Tensor, ...]  # h, and of an LSTM c
Hidden = Tensor | States  # as torch's modules take and return it: h alone is no tuple


class _Recurrent(nn.Module):
    """What layers and cells share. A cell's names have no suffix; those of a layer do, such as `_l0_reverse`."""

    structures: dict[str, Structure]
    bias: bool
    hidden_size: int
    parts: tuple[str, ...] = ("hx",)  # what torch calls the tensors of a state

    @classmethod
    def refused(cls, module: nn.Module) -> str:
        """Why a module of torch's cannot have this class, as a phrase; empty if it can."""
        return ""

    @property
    def kind(self) -> str:
        """The name of the operators."""
        raise NotImplementedError

    def window(self, x: Tensor, state: States, suffix: str, order: Order = FORWARD, drop: float = 0.0) -> States:
        """All states and the last one, see recurrent_layer; `drop`: DropConnect of the recurrent weight."""
        of_input, recurrent = (self._stored(f"weight_{of}{suffix}") for of in ("ih", "hh"))
        recurrent = drop_connect(recurrent, drop, self.training, inverted=True)
        of_ih, of_hh = (getattr(self, f"bias_{of}{suffix}") if self.bias else None for of in ("ih", "hh"))
        return recurrent_layer(self.kind, x, state, (of_input, recurrent), (of_ih, of_hh), order)

    def _stored(self, name: str) -> Stored:
        return stored_weight(getattr(self, name), self.structures[name])

    def _states(self, hx: Hidden) -> States:
        return (hx,) if isinstance(hx, Tensor) else tuple(hx)

    def _hidden(self, states: States) -> Hidden:
        return states if len(self.parts) > 1 else states[0]

    def _zeros(self, x: Tensor, *shape: int) -> States:
        return (x.new_zeros(*shape, self.hidden_size),) * len(self.parts)


class _Layers(_Recurrent, nn.RNNBase):
    """Layers over sequences: nn.RNNBase with torch's calling conventions."""

    def forward(self, input: Tensor | PackedSequence, hx: Hidden | None = None) -> tuple[Any, Hidden]:
        """The last layer's states and the last state of every layer and direction, as torch's module returns them."""
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        self._check_dimensions(input, hx)
        batched, batch_at = input.dim() == 3, 0 if self.batch_first else 1
        if not batched:
            input = input.unsqueeze(batch_at)
            hx = None if hx is None else self._hidden(tuple(part.unsqueeze(1) for part in self._states(hx)))
        states = self._first(input, input.shape[batch_at], hx, None)
        output, last = self._run(input.transpose(0, 1) if self.batch_first else input, states)
        output = output.transpose(0, 1) if self.batch_first else output
        if not batched:
            output, last = output.squeeze(batch_at), tuple(part.squeeze(1) for part in last)
        return output, self._hidden(last)

    def _forward_packed(self, packed: PackedSequence, hx: Hidden | None) -> tuple[PackedSequence, Hidden]:
        """The same for sequences of unequal lengths, which a layer takes as they are packed."""
        x, sizes, to_sorted, from_sorted = packed
        hx = None if hx is None else self.permute_hidden(hx, to_sorted)  # type: ignore[arg-type]
        states = self._first(x, int(sizes[0]), hx, sizes)
        output, last = self._run(x, states, tuple(sizes.tolist()))
        hidden: Hidden = self.permute_hidden(self._hidden(last), from_sorted)  # type: ignore[arg-type]
        return PackedSequence(output, sizes, to_sorted, from_sorted), hidden

    def _first(self, x: Tensor, batch: int, hx: Hidden | None, sizes: Tensor | None) -> States:
        """The first states of all layers, zeros if None; raises what torch raises if they or x have another shape."""
        if hx is None:
            hx = self._hidden(self._zeros(x, self.num_layers * (1 + self.bidirectional), batch))
        self.check_forward_args(x, hx, sizes)  # type: ignore[arg-type]
        return self._states(hx)

    def _check_dimensions(self, x: Tensor, hx: Hidden | None) -> None:
        """Raise what torch raises if the number of dimensions is wrong."""
        if x.dim() not in (2, 3):
            name = self.mode.partition("_")[0]
            raise ValueError(f"{name}: Expected input to be 2D or 3D, got {x.dim()}D instead")
        dimensions = [part.dim() for part in self._states(hx)] if hx is not None else []
        if any(number != x.dim() for number in dimensions):
            given = "batched 3-D" if x.dim() == 3 else "unbatched 2-D"
            found = ", ".join(f"{number}-D" for number in dimensions)
            raise RuntimeError(
                f"For {given} input, {' and '.join(self.parts)} should also be {x.dim()}-D but got {found} tensors"
            )

    def _run(self, x: Tensor, first: States, sizes: tuple[int, ...] | None = None) -> tuple[Tensor, States]:
        """The last layer's states, and the last states of all, [layers x directions, B, H]; x [T, B, I] or packed."""
        carried: list[States] = []
        for number in range(self.num_layers):
            if number:
                x = dropout(x, self.dropout, self.training)
            outputs = []
            for direction in ("", "_reverse") if self.bidirectional else ("",):
                own = tuple(part[len(carried)] for part in first)
                output, *last = self.window(x, own, f"_l{number}{direction}", Order(bool(direction), sizes))
                outputs.append(output)
                carried.append(tuple(last))
            x = torch.cat(outputs, -1) if self.bidirectional else outputs[0]
        return x, tuple(torch.stack(part) for part in zip(*carried, strict=True))


class SparseLSTM(_Layers, nn.LSTM):  # type: ignore[misc]
    """nn.LSTM with sparse weights, or this project's LSTM, whose layers can be run one by one."""

    kind = "lstm"
    parts = ("hx", "cx")

    @classmethod
    def refused(cls, module: nn.Module) -> str:
        """Why a module of torch's cannot have this class, as a phrase; empty if it can."""
        return "the kernels have no projections (proj_size)" if getattr(module, "proj_size", 0) else ""

    def run_layer(self, number: int, inputs: Tensor, state: States, drop: float = 0.0) -> tuple[Tensor, States]:
        """One layer: its states [T, B, H], and its last h and c, each [1, B, H]; `drop`: DropConnect of weight_hh."""
        output, h, c = self.window(inputs, (state[0][0], state[1][0]), f"_l{number}", drop=drop)
        return output, (h[None], c[None])


class SparseGRU(_Layers, nn.GRU):  # type: ignore[misc]
    """nn.GRU with sparse weights."""

    kind = "gru"


class SparseRNN(_Layers, nn.RNN):  # type: ignore[misc]
    """nn.RNN with sparse weights."""

    @property
    def kind(self) -> str:
        """The name of the operators."""
        return f"rnn_{self.nonlinearity}"


class _Cell(_Recurrent, nn.RNNCellBase):
    """One step of a layer, with torch's calling conventions: a window of one step."""

    def forward(self, input: Tensor, hx: Hidden | None = None) -> Hidden:
        """The next state [B, H], or [H] for a single input [I]; `hx`: the one before, zeros if None."""
        name = type(self).__name__.removeprefix("Sparse")
        for what, part in [("input", input), *zip(self.parts, () if hx is None else self._states(hx), strict=False)]:
            if part.dim() not in (1, 2):
                raise ValueError(f"{name}: Expected {what} to be 1D or 2D, got {part.dim()}D instead")
        if input.shape[-1] != self.input_size:
            raise RuntimeError(f"input has inconsistent input_size: got {input.shape[-1]} expected {self.input_size}")
        batched = input.dim() == 2
        if not batched:
            input = input[None]
            hx = None if hx is None else tuple(part[None] for part in self._states(hx))
        states = self._zeros(input, len(input)) if hx is None else self._states(hx)
        _, *last = self.window(input[None], states, "")
        return self._hidden(tuple(last) if batched else tuple(part[0] for part in last))


class SparseLSTMCell(_Cell, nn.LSTMCell):  # type: ignore[misc]
    """nn.LSTMCell with sparse weights."""

    kind = "lstm"
    parts = ("hx[0]", "hx[1]")


class SparseGRUCell(_Cell, nn.GRUCell):  # type: ignore[misc]
    """nn.GRUCell with sparse weights."""

    kind = "gru"
    parts = ("hidden",)


class SparseRNNCell(_Cell, nn.RNNCell):  # type: ignore[misc]
    """nn.RNNCell with sparse weights."""

    parts = ("hidden",)

    @property
    def kind(self) -> str:
        """The name of the operators."""
        return f"rnn_{self.nonlinearity}"
