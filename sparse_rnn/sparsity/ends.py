"""What the weights of torch's modules read and what came out for them, seen from outside.

Each function takes what a forward hook is given and yields, for every weight, the weight [rows, columns], then the
activations of its columns [..., columns] and of its rows: [..., rows], or [..., units] for units that have one row in
each gate, or the numbers of the rows that are active, int64 [...].
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.backends import cudnn
from torch.nn.utils.rnn import PackedSequence

Ends = Iterator[tuple[Tensor, Tensor, Tensor]]
EndsOf = Callable[[Any, Sequence[Any], Mapping[str, Any], Any], Ends]


def ends_of(module: nn.Module) -> EndsOf | None:
    """The function for a module; None for one that is not known here, or computes something of its own."""
    if isinstance(module, nn.RNNBase) and module.proj_size:
        return None  # the states before the projection are not to be seen
    for kind, function in KNOWN.items():
        if isinstance(module, kind) and type(module).forward is kind.forward:
            return function
    return None


def of_linear(module: nn.Linear, args: Sequence[Any], kwargs: Mapping[str, Any], output: Tensor) -> Ends:
    """Input and output, the bias included."""
    yield module.weight, _given(args, kwargs, 0, "input"), output


def of_embedding(module: nn.Embedding, args: Sequence[Any], kwargs: Mapping[str, Any], output: Tensor) -> Ends:
    """Here a row is what is read: 1 for that of the token, 0 for all others. The columns have the token's vector."""
    yield module.weight, output, _given(args, kwargs, 0, "input")


def of_cell(module: nn.RNNCellBase, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> Ends:
    """The input, the hidden state before, and that after the step; every gate of a unit has the unit's state."""
    state = _given(args, kwargs, 1, "hx")
    after = output[0] if isinstance(output, tuple) else output
    before = state[0] if isinstance(state, tuple) else state
    yield module.weight_ih, _given(args, kwargs, 0, "input"), after
    yield module.weight_hh, torch.zeros_like(after) if before is None else before, after


def of_rnn(module: nn.RNNBase, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> Ends:
    """As for cells, layer by layer and direction by direction.

    The states between layers are computed again, without the dropout between them.
    """
    data, sizes, states = _tokens(module, _given(args, kwargs, 0, "input"), _given(args, kwargs, 1, "hx"))
    suffixes = ("", "_reverse") if module.bidirectional else ("",)
    kinds = ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if module.bias else ()))
    for layer in range(module.num_layers):
        first = [part[layer * len(suffixes) : (layer + 1) * len(suffixes)] for part in states]
        names = [f"l{layer}{suffix}" for suffix in suffixes]
        weights = [getattr(module, f"{kind}_{name}") for name in names for kind in kinds]
        after = _layer(module, data, sizes, first, weights)
        for name, h, own in zip(names, first[0], after.chunk(len(names), dim=-1), strict=True):
            before = _states_before(own, h, sizes.tolist(), backwards=name.endswith("_reverse"))
            yield getattr(module, f"weight_ih_{name}"), data, own
            yield getattr(module, f"weight_hh_{name}"), before, own
        data = after


KNOWN: dict[Any, EndsOf] = {
    nn.Linear: of_linear,
    nn.Embedding: of_embedding,
    **dict.fromkeys((nn.LSTM, nn.GRU, nn.RNN), of_rnn),
    **dict.fromkeys((nn.LSTMCell, nn.GRUCell, nn.RNNCell), of_cell),
}


def _given(args: Sequence[Any], kwargs: Mapping[str, Any], position: int, name: str) -> Any:
    """An argument of a call, by position or name; None if it was left out."""
    return args[position] if len(args) > position else kwargs.get(name)


def _tokens(module: nn.RNNBase, x: Tensor | PackedSequence, state: Any) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The input of all tokens [N, inputs], step after step, the sequences in each step, int64 [T], and the state before
    the first step, h or h and c, each [layers * directions, B, hidden]."""
    parts = [] if state is None else list(state) if isinstance(state, tuple) else [state]
    parts = [part if part.dim() == 3 else part.unsqueeze(1) for part in parts]
    if isinstance(x, PackedSequence):
        data, sizes = x.data, x.batch_sizes
        parts = parts if x.sorted_indices is None else [part.index_select(1, x.sorted_indices) for part in parts]
    else:
        by_step = x.unsqueeze(1) if x.dim() == 2 else x.transpose(0, 1) if module.batch_first else x
        data, sizes = by_step.flatten(0, 1), torch.full(by_step.shape[:1], by_step.shape[1])
    data = data.to(next(module.parameters()).dtype)
    if not parts:
        shape = module.num_layers * (1 + module.bidirectional), int(sizes[0]), module.hidden_size
        parts = [data.new_zeros(shape) for _ in range(2 if module.mode == "LSTM" else 1)]
    return data, sizes, [part.to(data.dtype) for part in parts]


def _layer(
    module: nn.RNNBase, data: Tensor, sizes: Tensor, first: Sequence[Tensor], weights: Sequence[Tensor]
) -> Tensor:
    """The states of one layer [N, directions * hidden], as torch computes them."""
    run = getattr(torch, module.mode.lower())
    state = tuple(first) if module.mode == "LSTM" else first[0]
    with cudnn.flags(enabled=False):  # cuDNN wants the weights of a layer in one piece of memory, and warns
        states: Tensor = run(data, sizes, state, weights, module.bias, 1, 0.0, False, module.bidirectional)[0]
    return states


def _states_before(states: Tensor, first: Tensor, sizes: Sequence[int], *, backwards: bool) -> Tensor:
    """For each of these states [N, hidden] the one that it followed; the first ones of sequences follow `first`."""
    steps = torch.split(states, list(sizes))
    if backwards:  # the last step of a sequence comes first; longer sequences stand before shorter ones
        later = [*steps[1:], states[:0]]
        pairs = zip(steps, later, strict=True)
        return torch.cat([torch.cat([after, first[len(after) : len(own)]]) for own, after in pairs])
    earlier = [first, *steps[:-1]]
    return torch.cat([before[: len(own)] for own, before in zip(steps, earlier, strict=True)])
