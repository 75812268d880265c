"""Which entries make a structure, worked out by hand on networks of two hidden units."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sparse_rnn.core.declarations import Structures
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.models.rhn import RHNConfig
from sparse_rnn.models.stacked_lstm import StackedLSTMConfig
from sparse_rnn.sparsity.iss import structures
from sparse_rnn.sparsity.iss.structures import find_structures, present, squares, weights_inside, without_absent


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p for name, p in model.named_parameters() if p.dim() > 1}


def filled(model: nn.Module, values: dict[str, float]) -> nn.Module:
    """A model with all entries of each weight set to one value."""
    weights = weights_of(model)
    with torch.no_grad():
        for name, value in values.items():
            weights[name].fill_(value)
    return model


def members(model: nn.Module, layer: int, name: str) -> list[list[list[int]]]:
    """For each entry of a weight, how often it counts in each structure of a layer."""
    weights = weights_of(model)
    for weight in weights.values():
        weight.detach().zero_()
    weight, counts = weights[name].detach(), []
    for row in range(weight.shape[0]):
        counts.append([])
        for column in range(weight.shape[1]):
            weight[row, column] = 1
            counts[-1].append(squares(find_structures(model)[layer], weights).int().tolist())
            weight[row, column] = 0
    return counts


@pytest.fixture
def lstm() -> nn.Module:
    model = StackedLSTMConfig(hidden=2, layers=2).build(3)
    names = [f"lstm.weight_{kind}_l{k}" for k in (0, 1) for kind in ("ih", "hh")]
    return filled(model, dict(zip([*names, "decoder.weight"], (1.0, 2.0, 3.0, 4.0, 5.0), strict=True)))


@pytest.fixture
def rhn() -> nn.Module:
    model = RHNConfig(hidden=2, depth=2).build(3)
    names = ["embedding.weight", "highway.input.weight", "highway.recurrent.0.weight", "highway.recurrent.1.weight"]
    return filled(model, dict(zip(names, (5.0, 2.0, 3.0, 1.0), strict=True)))


def test_squares_of_the_stacked_lstm(lstm):
    """Layer 0: four gate rows of ih (8 * 1) and hh (8 * 4), column of hh (8 * 4) and of the next ih (8 * 9).
    Layer 1: 8 * 9 + 8 * 16 + 8 * 16, and 3 * 25 of the decoder's column."""
    first, second = find_structures(lstm)
    assert (first.name, second.name) == ("lstm.l0", "lstm.l1")
    assert squares(first, weights_of(lstm)).tolist() == [144, 144]
    assert squares(second, weights_of(lstm)).tolist() == [403, 403]


def test_squares_of_the_rhn(rhn):
    """Embedding column 3 * 25; row of each gate and column, 2 * 2 + 4 entries, of W (4), R_0 (9) and R_1 (1)."""
    (layer,) = find_structures(rhn)
    assert (layer.name, layer.width) == ("highway", 2)
    assert squares(layer, weights_of(rhn)).tolist() == [75 + 8 * (4 + 9 + 1)] * 2


def test_members_of_the_stacked_lstm(lstm):
    """Rows k, k + 2, k + 4, k + 6 are unit k's gates; its own recurrent connections count as row and as column."""
    by_row = [[[1, 0], [1, 0]], [[0, 1], [0, 1]]] * 4
    by_column = [[[1, 0], [0, 1]]] * 8
    nothing = [[[0, 0], [0, 0]]] * 8
    both = [[[2, 0], [1, 1]], [[1, 1], [0, 2]]] * 4
    kinds = {
        "ih_l0": (by_row, nothing),
        "hh_l0": (both, nothing),
        "ih_l1": (by_column, by_row),
        "hh_l1": (nothing, both),
    }
    for kind, expected in kinds.items():
        for layer in (0, 1):
            assert members(lstm, layer, f"lstm.weight_{kind}") == expected[layer], (kind, layer)
    assert members(lstm, 1, "decoder.weight") == by_column[:3]
    assert members(lstm, 0, "decoder.weight") == nothing[:3]
    assert not any("embedding" in name for name in weights_inside(find_structures(lstm)))


def test_members_of_the_rhn(rhn):
    """Rows k and k + 2 are unit k's candidate and transform gate at each depth."""
    both = [[[2, 0], [1, 1]], [[1, 1], [0, 2]]] * 2
    for name in ("highway.input.weight", "highway.recurrent.0.weight", "highway.recurrent.1.weight"):
        assert members(rhn, 0, name) == both
    assert members(rhn, 0, "embedding.weight") == [[[1, 0], [0, 1]]] * 3


def test_masks_without_a_unit_of_the_stacked_lstm(lstm):
    """Without unit 1 of layer 0."""
    weights = weights_of(lstm)
    with torch.no_grad():
        for name in ("lstm.weight_ih_l0", "lstm.weight_hh_l0"):
            weights[name][1::2] = 0
        for name in ("lstm.weight_hh_l0", "lstm.weight_ih_l1"):
            weights[name][:, 1] = 0
    first, second = find_structures(lstm)
    assert present(first, weights).tolist() == [True, False]
    assert present(second, weights).tolist() == [True, True]
    found = without_absent([first], weights).items()
    masks = {name.removeprefix("lstm.weight_"): mask.int().tolist() for name, mask in found}
    assert masks["ih_l0"] == [[1, 1], [0, 0]] * 4
    assert masks["hh_l0"] == [[1, 0], [0, 0]] * 4
    assert masks["ih_l1"] == [[1, 0]] * 8
    assert masks["hh_l1"] == [[1, 1]] * 8
    assert masks["decoder.weight"] == [[1, 1]] * 3


def test_masks_without_a_unit_of_the_rhn(rhn):
    """Without unit 0."""
    weights = weights_of(rhn)
    with torch.no_grad():
        for name, weight in weights.items():
            weight[:, 0] = 0
            if name != "embedding.weight":
                weight[::2] = 0
    layers = find_structures(rhn)
    masks = {name: mask.int().tolist() for name, mask in without_absent(layers, weights).items()}
    assert masks.pop("embedding.weight") == [[0, 1]] * 3
    assert list(masks.values()) == [[[0, 0], [0, 1]] * 2] * 3


@pytest.mark.parametrize("part", ["row", "column"])
def test_one_entry_keeps_a_structure(lstm, part):
    weights = weights_of(lstm)
    with torch.no_grad():
        for weight in weights.values():
            weight.zero_()
        weights["lstm.weight_ih_l0"][7, 0] = 1e-30 if part == "row" else 0
        weights["lstm.weight_ih_l1"][7, 1] = 1e-30 if part == "column" else 0
    first, _ = find_structures(lstm)
    assert present(first, weights).tolist() == [False, True]


def test_sums_of_squares_over_many_rows():
    """More rows than are summed at once."""
    model = RHNConfig(hidden=4, depth=1).build(1000)
    weights = weights_of(model)
    (layer,) = find_structures(model)
    expected = weights["embedding.weight"].square().sum(0)
    for name in layer.rows:
        square = weights[name].square()
        expected = expected + square.sum(0) + square.sum(1).view(2, 4).sum(0)
    torch.testing.assert_close(squares(layer, weights), expected)


class Counting(TorchDispatchMode):
    """Counts the operations that torch starts."""

    operations = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.operations += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("dim", [0, 1])
def test_sums_of_squares_need_two_operations_on_a_gpu(dim):
    """Pieces would cost a launch each."""
    weight = torch.ones(1000, 4, device="meta")
    with Counting() as counted:
        sums = structures._sums_of_squares(weight, dim)
    assert sums.shape == ((4,), (1000,))[dim]
    assert counted.operations == 2


def test_other_models_are_refused_in_one_sentence():
    with pytest.raises(ConfigError, match=r"declares structures\(\), as model=stacked_lstm and model=rhn do\.$"):
        find_structures(nn.GRU(2, 2))


class Declaring(nn.Module):
    """A linear layer that declares given structures."""

    def __init__(self, declared: Structures) -> None:
        super().__init__()
        self.linear, self.declared = nn.Linear(3, 6), declared

    def structures(self) -> list[Structures]:
        return [self.declared]


def test_any_model_may_declare_structures():
    declared = Structures("linear", 3, ("linear.weight",), ("linear.weight",))
    model = Declaring(declared)
    assert find_structures(model) == [declared]
    with torch.no_grad():
        model.linear.weight.fill_(2)
    assert squares(declared, weights_of(model)).tolist() == [4 * (2 * 3 + 6)] * 3


@pytest.mark.parametrize(
    ("declared", "complaint"),
    [
        (Structures("one", 3, ("linear.weigth",), ()), r"name linear\.weigth, which is not a weight"),
        (Structures("one", 3, ("linear.bias",), ()), r"name linear\.bias, which is not a weight"),
        (Structures("one", 4, ("linear.weight",), ()), "do not fit the shapes of 4 hidden units"),
        (Structures("one", 6, (), ("linear.weight",)), "do not fit the shapes of 6 hidden units"),
    ],
)
def test_structures_that_do_not_fit_are_refused_in_one_sentence(declared, complaint):
    with pytest.raises(ConfigError, match=rf"^The structures of one {complaint}.*\.$"):
        find_structures(Declaring(declared))
