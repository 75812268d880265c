import re

import pytest
import torch
from torch import nn

from sparse_rnn.core.declarations import Gates
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.sparsity.gates import find_gates
from sparse_rnn.sparsity.topology import SparseTopology


def rows_of(gates: Gates) -> dict[str, tuple[int, int]]:
    return {gate: (rows.start, rows.stop) for gate, rows in gates.rows.items()}


def test_stacked_lstm_has_torch_s_gate_order_and_a_cell_a_layer():
    """facts A.1: rows i, f, g, o."""
    found = find_gates(nn.Sequential(nn.LSTM(3, 5, num_layers=2)))
    assert set(found) == {f"0.weight_{kind}_l{layer}" for kind in ("ih", "hh") for layer in (0, 1)}
    expected = {"input": (0, 5), "forget": (5, 10), "cell": (10, 15), "output": (15, 20)}
    assert all(rows_of(gates) == expected for gates in found.values())
    assert found["0.weight_ih_l0"].cell == found["0.weight_hh_l0"].cell
    assert found["0.weight_ih_l0"].cell != found["0.weight_ih_l1"].cell


def test_the_gate_rows_are_those_that_torch_computes_with():
    """Closing the output gate alone, by its rows, makes the output vanish."""
    lstm = nn.LSTM(3, 5)
    output = find_gates(lstm)["weight_ih_l0"].rows["output"]
    with torch.no_grad():
        lstm.bias_ih_l0[output] = -100.0
    assert lstm(torch.randn(4, 1, 3))[0].abs().max() < 1e-20


def test_two_directions_are_two_cells():
    found = find_gates(nn.LSTM(3, 5, bidirectional=True))
    assert len(found) == 4
    assert len({gates.cell for gates in found.values()}) == 2
    assert found["weight_hh_l0"].cell != found["weight_hh_l0_reverse"].cell


def test_a_projection_has_no_gates():
    model = nn.LSTM(3, 6, proj_size=2)
    topology = SparseTopology.of(model)
    assert rows_of(find_gates(model)["weight_hh_l0"])["output"] == (18, 24)
    assert topology["weight_hr_l0"].cell is None
    assert dict(topology["weight_hr_l0"].gates) == {"all": slice(0, 2)}


@pytest.mark.parametrize(
    ("module", "gates"),
    [
        (nn.LSTMCell(3, 4), ["input", "forget", "cell", "output"]),
        (nn.GRU(3, 4), ["reset", "update", "new"]),
        (nn.GRUCell(3, 4), ["reset", "update", "new"]),
        (nn.RNN(3, 4), ["all"]),
        (nn.RNNCell(3, 4), ["all"]),
    ],
)
def test_torch_cells(module, gates):
    for wrapped, prefix in [(module, ""), (nn.ModuleDict({"cell": module}), "cell.")]:
        found = find_gates(wrapped)
        assert len(found) == 2
        for name, declared in found.items():
            assert name.startswith(prefix + "weight_")
            assert list(declared.rows) == gates
            assert list(rows_of(declared).values()) == [(4 * k, 4 * k + 4) for k in range(len(gates))]
        assert len({declared.cell for declared in found.values()}) == 1


class MinimalGatedUnit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inputs = nn.Linear(3, 8)
        self.states = nn.Linear(4, 8)

    def gates(self):
        rows = {"candidate": slice(0, 4), "gate": slice(4, 8)}
        return {"inputs.weight": Gates(rows, "unit"), "states.weight": Gates(rows, "unit")}


def test_a_module_declares_its_own_gates_wherever_it_stands():
    model = nn.ModuleDict({"a": MinimalGatedUnit(), "b": nn.Sequential(MinimalGatedUnit()), "out": nn.Linear(4, 2)})
    topology = SparseTopology.of(model)
    assert list(topology["a.inputs.weight"].gates) == ["candidate", "gate"]
    assert list(topology["b.0.states.weight"].gates) == ["candidate", "gate"]
    assert topology["a.inputs.weight"].cell == topology["a.states.weight"].cell
    assert topology["a.inputs.weight"].cell != topology["b.0.inputs.weight"].cell
    assert topology["out.weight"].cell is None


def test_the_argument_wins_over_the_module_and_the_module_over_the_built_in_map():
    class Renamed(nn.LSTM):
        def gates(self):
            return {"weight_hh_l0": {"first": slice(0, 10), "second": slice(10, 20)}}

    model = nn.ModuleDict({"lstm": Renamed(3, 5)})
    assert list(find_gates(model)["lstm.weight_hh_l0"].rows) == ["first", "second"]
    assert "lstm.weight_ih_l0" not in find_gates(model)
    whole = {"lstm.weight_hh_l0": {"whole": slice(0, 20)}}
    assert list(SparseTopology.of(model, gates=whole)["lstm.weight_hh_l0"].gates) == ["whole"]


def test_an_attribute_called_gates_is_no_declaration():
    class Cell(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gates = nn.Linear(3, 12)

    assert find_gates(Cell()) == {}


@pytest.mark.parametrize(
    ("name", "rows", "complaint"),
    [
        ("weight", {"all": slice(0, 7)}, "cover its 8 rows"),
        ("weight", {"a": slice(0, 4), "b": slice(5, 8)}, "cover its 8 rows"),
        ("weight", {"a": slice(0, 5), "b": slice(4, 8)}, "cover its 8 rows"),
        ("weight", {"a": slice(0, 4), "b": slice(4, 9)}, "cover its 8 rows"),
        ("weight", {"a": slice(0, 4, 2), "b": slice(4, 8)}, "without a step"),
        ("weight", {"a": slice(0, 8), "b": slice(8, 8)}, "cover its 8 rows"),
        ("weight", {}, "cover its 8 rows"),
        ("wieght", {"all": slice(0, 8)}, "not a parameter"),
    ],
)
def test_wrong_declarations_are_refused_in_one_sentence(name, rows, complaint):
    with pytest.raises(ConfigError, match=re.escape(complaint)) as refused:
        SparseTopology.of(nn.Linear(3, 8), gates={name: rows})
    text = str(refused.value)
    assert name in text
    assert "\n" not in text
    assert text.endswith(".")


def test_open_ended_slices_are_understood():
    found = find_gates(nn.Linear(3, 8), {"weight": {"a": slice(None, 4), "b": slice(4, None)}})
    assert list(found["weight"].rows) == ["a", "b"]


def test_tied_weights_count_once():
    embedding, decoder = nn.Embedding(10, 4), nn.Linear(4, 10)
    decoder.weight = embedding.weight
    topology = SparseTopology.of(nn.ModuleDict({"embedding": embedding, "decoder": decoder}))
    assert [weight.name for weight in topology] == ["embedding.weight"]
    assert topology.size == 40


def test_tied_recurrent_weights_keep_their_gates():
    first, second = nn.LSTM(4, 4), nn.LSTM(4, 4)
    second.weight_hh_l0 = first.weight_hh_l0
    topology = SparseTopology.of(nn.ModuleList([first, second]))
    assert [w.name for w in topology] == ["0.weight_ih_l0", "0.weight_hh_l0", "1.weight_ih_l0"]
    assert all(len(weight.gates) == 4 for weight in topology)
    assert topology["0.weight_hh_l0"].cell == topology["0.weight_ih_l0"].cell


def test_a_tied_weight_may_be_declared_by_any_of_its_names():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    model = nn.ModuleList([first, second])
    topology = SparseTopology.of(model, gates={"1.weight": {"a": slice(0, 2), "b": slice(2, 4)}})
    assert list(topology["0.weight"].gates) == ["a", "b"]


def test_an_outer_module_may_declare_for_an_inner_one():
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(3, 5)

        def gates(self):
            return {"lstm.weight_hh_l0": {"upper": slice(0, 10), "lower": slice(10, 20)}}

    found = find_gates(nn.Sequential(Wrapper()))
    assert list(found["0.lstm.weight_hh_l0"].rows) == ["upper", "lower"]
    assert len(found["0.lstm.weight_ih_l0"].rows) == 4


def test_keep_dense_takes_globs_of_names():
    model = nn.ModuleDict({"lstm": nn.LSTM(3, 4, num_layers=2), "decoder": nn.Linear(4, 5)})
    names = [w.name for w in SparseTopology.of(model, keep_dense=["*_ih_l?", "decoder.*"])]
    assert names == ["lstm.weight_hh_l0", "lstm.weight_hh_l1"]


@pytest.mark.parametrize("glob", ["prior.*", "decoder.bias", "Decoder.weight"])
def test_a_glob_that_matches_no_weight_is_refused(glob):
    model = nn.ModuleDict({"lstm": nn.LSTM(3, 4), "decoder": nn.Linear(4, 5)})
    with pytest.raises(ConfigError, match=re.escape(glob)) as refused:
        SparseTopology.of(model, keep_dense=[glob])
    assert "decoder.weight" in str(refused.value)
