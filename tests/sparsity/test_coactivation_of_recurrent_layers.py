"""The co-activation in torch's recurrent layers and cells, by cells that are called one token after the other."""

import pytest
import torch
from coactivation_loops import coactivation, loop
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from sparse_rnn.models.slstm import SLSTM

CELLS = {nn.LSTM: nn.LSTMCell, nn.GRU: nn.GRUCell, nn.RNN: nn.RNNCell}
HIDDEN, INPUTS, STEPS, BATCH = 3, 2, 4, 2


def plain_layers(rnn: nn.RNNBase, x: Tensor, lengths: list[int], states: list[Tensor]) -> dict[str, Tensor]:
    """By cells, one sequence after the other; x [T, B, inputs], states [layers * directions, B, hidden] each."""
    kind = next(kind for kind in CELLS if isinstance(rnn, kind))
    expected, suffixes = {}, ("", "_reverse") if rnn.bidirectional else ("",)
    outputs = [x[:length, b] for b, length in enumerate(lengths)]
    for layer in range(rnn.num_layers):
        directions = []
        for d, suffix in enumerate(suffixes):
            cell = CELLS[kind](outputs[0].shape[1], HIDDEN, bias=rnn.bias).double()
            name = f"l{layer}{suffix}"
            cell.load_state_dict({key: getattr(rnn, f"{key}_{name}") for key in cell.state_dict()})
            of_input, recurrent, found = [], [], []
            for b, sequence in enumerate(outputs):
                own = [part[layer * len(suffixes) + d, b] for part in states]
                state, after = tuple(own) if len(own) > 1 else own[0], [torch.empty(0)] * len(sequence)
                for t in range(len(sequence))[:: -1 if suffix else 1]:
                    before = state[0] if isinstance(state, tuple) else state
                    state = cell(sequence[t], state)
                    after[t] = state[0] if isinstance(state, tuple) else state
                    of_input.append((sequence[t], after[t]))
                    recurrent.append((before, after[t]))
                found.append(torch.stack(after))
            gates = len(rnn.weight_hh_l0) // HIDDEN
            expected[f"weight_ih_{name}"] = loop(of_input).repeat(gates, 1)
            expected[f"weight_hh_{name}"] = loop(recurrent).repeat(gates, 1)
            directions.append(found)
        outputs = [torch.cat(parts, dim=1) for parts in zip(*directions, strict=True)]
    return expected


@torch.no_grad()
def expected_of(rnn: nn.RNNBase, x: Tensor, lengths: list[int], states: list[Tensor]) -> dict[str, Tensor]:
    return plain_layers(rnn, x, lengths, states)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"bias": False},
        {"num_layers": 2},
        {"num_layers": 2, "dropout": 0.5},  # whose draws are not seen
        {"bidirectional": True, "num_layers": 2},
        {"batch_first": True},
    ],
    ids=lambda settings: " ".join(map(str, settings)) or "plain",
)
@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("given", ["sequences", "a state", "packed", "unsorted", "unbatched"])
def test_torch_s_recurrent_layers(kind: type, settings: dict, given: str) -> None:
    rnn = kind(INPUTS, HIDDEN, **settings).double()
    batch = 1 if given == "unbatched" else BATCH
    x, lengths = torch.randn(STEPS, batch, INPUTS, dtype=torch.float64), [STEPS] * batch
    places = (1 + rnn.bidirectional) * rnn.num_layers, batch, HIDDEN
    states = [torch.zeros(places, dtype=torch.float64) for _ in range(2 if kind is nn.LSTM else 1)]
    state = None
    if given in ("a state", "unsorted"):
        states = [torch.randn_like(part) for part in states]
        state = tuple(states) if kind is nn.LSTM else states[0]
    call = x.transpose(0, 1) if rnn.batch_first else x
    if given in ("packed", "unsorted"):
        lengths = [2, STEPS] if given == "unsorted" else [STEPS, 2]
        call = pack_padded_sequence(call, torch.tensor(lengths), rnn.batch_first, enforce_sorted=given == "packed")
    if given == "unbatched":
        call = x[:, 0]
    found = coactivation(rnn, lambda: rnn(call, state))
    expected = expected_of(rnn, x, lengths, states)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("given", ["a state", "nothing", "names", "unbatched"])
def test_torch_s_cells(kind: type, given: str) -> None:
    """A cell that is called for every step has the co-activation of the layer."""
    rnn, cell = kind(INPUTS, HIDDEN).double(), CELLS[kind](INPUTS, HIDDEN).double()
    cell.load_state_dict({name: getattr(rnn, f"{name}_l0") for name in cell.state_dict()})
    x = torch.randn(STEPS, 1, INPUTS, dtype=torch.float64)
    zeros = torch.zeros(1, HIDDEN, dtype=torch.float64)

    def steps() -> None:
        state = None if given in ("nothing", "unbatched") else (zeros, zeros) if kind is nn.LSTM else zeros
        for step in x:
            own = step[0] if given == "unbatched" else step
            state = cell(input=own, hx=state) if given == "names" else cell(own, state)

    found, expected = coactivation(cell, steps), coactivation(rnn, lambda: rnn(x))
    for name, value in found.items():
        torch.testing.assert_close(value, expected[f"{name}_l0"])


def test_slstm() -> None:
    """A block of the recurrent weight reads the state of its head alone; W reads the input for the states of all."""
    layer = SLSTM(6, heads=2).double()
    x = torch.randn(STEPS, BATCH, 6, dtype=torch.float64)
    state, pairs = layer.initial_state(BATCH), {"input.weight": [], "recurrent.0": [], "recurrent.1": []}
    with torch.no_grad():
        for row in x:
            before, (_, state) = state, layer(row[None], state)
            for b in range(BATCH):
                pairs["input.weight"].append((row[b], torch.cat([state[0][0, b], state[0][1, b]])))
                for k in range(2):
                    pairs[f"recurrent.{k}"].append((before[0][k, b], state[0][k, b]))
    found = coactivation(layer, lambda: layer(x, layer.initial_state(BATCH)))
    assert found.keys() == pairs.keys()
    for name, own in pairs.items():
        torch.testing.assert_close(found[name], loop(own).repeat(4, 1), msg=lambda text, name=name: f"{name}: {text}")
