"""Which entries make a structure, worked out by hand on networks of two hidden units."""

import pytest
import torch
from torch import nn

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.models.rhn import RHNConfig
from sparse_rnn.models.stacked_lstm import StackedLSTMConfig
from sparse_rnn.sparsity.iss.structures import check_structures, find_structures, without_absent


def filled(model: nn.Module, values: dict[str, float]) -> dict[str, torch.Tensor]:
    """The weights of a model, all entries of each set to one value."""
    weights = {name: p for name, p in model.named_parameters() if p.dim() > 1}
    with torch.no_grad():
        for name, value in values.items():
            weights[name].fill_(value)
    return weights


def members(weights: dict[str, torch.Tensor], layer: int, name: str) -> list[list[list[int]]]:
    """For each entry of a weight, how often it counts in each structure of a layer."""
    for weight in weights.values():
        weight.detach().zero_()
    weight, counts = weights[name].detach(), []
    for row in range(weight.shape[0]):
        counts.append([])
        for column in range(weight.shape[1]):
            weight[row, column] = 1
            counts[-1].append(find_structures(weights)[layer].squares(weights).int().tolist())
            weight[row, column] = 0
    return counts


@pytest.fixture
def lstm() -> dict[str, torch.Tensor]:
    model = StackedLSTMConfig(hidden=2, layers=2).build(3)
    names = [f"lstm.weight_{kind}_l{k}" for k in (0, 1) for kind in ("ih", "hh")]
    return filled(model, dict(zip([*names, "decoder.weight"], (1.0, 2.0, 3.0, 4.0, 5.0), strict=True)))


@pytest.fixture
def rhn() -> dict[str, torch.Tensor]:
    model = RHNConfig(hidden=2, depth=2).build(3)
    names = ["embedding.weight", "highway.input.weight", "highway.recurrent.0.weight", "highway.recurrent.1.weight"]
    return filled(model, dict(zip(names, (5.0, 2.0, 3.0, 1.0), strict=True)))


def test_squares_of_the_stacked_lstm(lstm):
    """Layer 0: four gate rows of ih (8 * 1) and hh (8 * 4), column of hh (8 * 4) and of the next ih (8 * 9).
    Layer 1: 8 * 9 + 8 * 16 + 8 * 16, and 3 * 25 of the decoder's column."""
    first, second = find_structures(lstm)
    assert (first.name, second.name) == ("lstm.l0", "lstm.l1")
    assert first.squares(lstm).tolist() == [144, 144]
    assert second.squares(lstm).tolist() == [403, 403]


def test_squares_of_the_rhn(rhn):
    """Embedding column 3 * 25; row of each gate and column, 2 * 2 + 4 entries, of W (4), R_0 (9) and R_1 (1)."""
    (layer,) = find_structures(rhn)
    assert (layer.name, layer.width) == ("highway", 2)
    assert layer.squares(rhn).tolist() == [75 + 8 * (4 + 9 + 1)] * 2


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
    assert not any("embedding" in name for layer in find_structures(lstm) for name in (*layer.rows, *layer.columns))


def test_members_of_the_rhn(rhn):
    """Rows k and k + 2 are unit k's candidate and transform gate at each depth."""
    both = [[[2, 0], [1, 1]], [[1, 1], [0, 2]]] * 2
    for name in ("highway.input.weight", "highway.recurrent.0.weight", "highway.recurrent.1.weight"):
        assert members(rhn, 0, name) == both
    assert members(rhn, 0, "embedding.weight") == [[[1, 0], [0, 1]]] * 3


def test_masks_without_a_unit_of_the_stacked_lstm(lstm):
    """Without unit 1 of layer 0."""
    with torch.no_grad():
        for name in ("lstm.weight_ih_l0", "lstm.weight_hh_l0"):
            lstm[name][1::2] = 0
        for name in ("lstm.weight_hh_l0", "lstm.weight_ih_l1"):
            lstm[name][:, 1] = 0
    first, second = find_structures(lstm)
    assert first.present(lstm).tolist() == [True, False]
    assert second.present(lstm).tolist() == [True, True]
    masks = {name.removeprefix("lstm.weight_"): m.int().tolist() for name, m in without_absent([first], lstm).items()}
    assert masks["ih_l0"] == [[1, 1], [0, 0]] * 4
    assert masks["hh_l0"] == [[1, 0], [0, 0]] * 4
    assert masks["ih_l1"] == [[1, 0]] * 8
    assert masks["hh_l1"] == [[1, 1]] * 8
    assert masks["decoder.weight"] == [[1, 1]] * 3


def test_masks_without_a_unit_of_the_rhn(rhn):
    """Without unit 0."""
    with torch.no_grad():
        for name, weight in rhn.items():
            weight[:, 0] = 0
            if name != "embedding.weight":
                weight[::2] = 0
    layers = find_structures(rhn)
    masks = {name: mask.int().tolist() for name, mask in without_absent(layers, rhn).items()}
    assert masks.pop("embedding.weight") == [[0, 1]] * 3
    assert list(masks.values()) == [[[0, 0], [0, 1]] * 2] * 3


@pytest.mark.parametrize("part", ["row", "column"])
def test_one_entry_keeps_a_structure(lstm, part):
    with torch.no_grad():
        for weight in lstm.values():
            weight.zero_()
        lstm["lstm.weight_ih_l0"][7, 0] = 1e-30 if part == "row" else 0
        lstm["lstm.weight_ih_l1"][7, 1] = 1e-30 if part == "column" else 0
    first, _ = find_structures(lstm)
    assert first.present(lstm).tolist() == [False, True]


def test_sums_of_squares_over_many_rows():
    """More rows than are summed at once."""
    model = RHNConfig(hidden=4, depth=1).build(1000)
    weights = {name: p for name, p in model.named_parameters() if p.dim() > 1}
    (layer,) = find_structures(weights)
    expected = weights["embedding.weight"].square().sum(0)
    for name in layer.rows:
        square = weights[name].square()
        expected = expected + square.sum(0) + square.sum(1).view(2, 4).sum(0)
    torch.testing.assert_close(layer.squares(weights), expected)


def test_other_models_are_refused_in_one_sentence():
    with pytest.raises(ConfigError, match=r"stacked_lstm and model=rhn only\.$"):
        check_structures(nn.GRU(2, 2))
