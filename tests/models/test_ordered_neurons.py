"""The recurrence of ordered neurons and its layer, by hand and by small differences, in float64."""

import pytest
import torch
from torch import Tensor, nn

from sparse_rnn.models.layers.ordered_neurons import ONLSTMLayer, ordered_neurons


def layer_inputs(steps: int = 3, units: int = 6, chunks: int = 3) -> list[Tensor]:
    random = torch.Generator().manual_seed(7)
    rows = 4 * units + 2 * chunks
    shapes = [(steps, 2, rows), (rows, units), (2, units), (2, units)]
    return [torch.randn(shape, generator=random, dtype=torch.float64).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("chunks", [1, 2, 6])
def test_the_recurrence_has_the_gradient_of_small_differences(steps, chunks):
    assert torch.autograd.gradcheck(ordered_neurons, layer_inputs(steps, chunks=chunks))


@pytest.mark.parametrize("of", ["states", "cell"])
@pytest.mark.parametrize("wanted", range(4))
def test_one_gradient_alone_is_the_same(wanted, of):
    """Of one input, and of one output: what is not asked for may be left out, not the rest."""
    inputs = layer_inputs()
    output = ordered_neurons(*inputs)[of == "cell"]
    expected = torch.autograd.grad(output.sum(), inputs)[wanted]
    alone = [x.detach().requires_grad_(k == wanted) for k, x in enumerate(inputs)]
    (gradient,) = torch.autograd.grad(ordered_neurons(*alone)[of == "cell"].sum(), alone[wanted])
    torch.testing.assert_close(gradient, expected)
    assert expected.any()


def test_a_master_gate_shut_for_a_chunk_keeps_its_memory():
    """Master input at 0 and master forget at 1: the chunk's c stays, whatever its own gates say."""
    projected, weight, h, c = (x.detach() for x in layer_inputs(steps=4))
    projected[..., :3] = torch.tensor([1000.0, 0.0, 0.0])
    projected[..., 3:6] = torch.tensor([1000.0, 0.0, 0.0])
    torch.testing.assert_close(ordered_neurons(projected, weight, h, c)[1], c)


def zero_layer() -> ONLSTMLayer:
    """Six units in two chunks, all parameters zero."""
    layer = ONLSTMLayer(6, 6, 3, 0.0).double()
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


@pytest.mark.parametrize(
    ("gate", "bias", "kept", "written", "output"),
    [
        # two chunks, all else 0: i' = [1/2, 0], f' = [1/2, 1], w = [1/4, 0], single gates 1/2
        ("cell", 1000.0, [0.375, 1.0], [0.375, 0.0], 0.5),
        ("output", -1000.0, [0.375, 1.0], [0.0, 0.0], 0.0),
        ("output", 1000.0, [0.375, 1.0], [0.0, 0.0], 1.0),
        ("forget", -1000.0, [0.25, 1.0], [0.0, 0.0], 0.5),
        ("forget", 1000.0, [0.5, 1.0], [0.0, 0.0], 0.5),
        ("master_forget", [1000.0, 0.0], [0.75, 1.0], [0.0, 0.0], 0.5),
        ("master_forget", [0.0, 1000.0], [0.0, 1.0], [0.0, 0.0], 0.5),
        ("master_input", [1000.0, 0.0], [0.5, 1.0], [0.0, 0.0], 0.5),
    ],
)
def test_the_gate_rows_are_those_that_it_computes_with(gate, bias, kept, written, output):
    layer = zero_layer()
    with torch.no_grad():
        layer.input.bias[layer.gates()["input.weight"].rows[gate]] = torch.as_tensor(bias).double()
    c = torch.arange(1.0, 7.0, dtype=torch.float64).expand(2, 6)
    states, (_, after) = layer(torch.zeros(1, 2, 6, dtype=torch.float64), (torch.zeros_like(c), c), training=False)
    by_unit = torch.tensor([kept, written], dtype=torch.float64).repeat_interleave(3, dim=1)
    torch.testing.assert_close(after, by_unit[0] * c + by_unit[1])
    torch.testing.assert_close(states[0], output * torch.tanh(after))


def test_the_input_gate_s_rows():
    """As above: with tanh(cell) at 1 and the input gate open, i^ = w + i' - w = 1/2 and not 3/8."""
    layer = zero_layer()
    rows = layer.gates()["recurrent.weight"].rows
    with torch.no_grad():
        layer.recurrent.bias[rows["cell"]] = 1000.0
        layer.recurrent.bias[rows["input"]] = 1000.0
    zeros = torch.zeros(2, 6, dtype=torch.float64)
    _, (_, after) = layer(zeros[None], (zeros, zeros), training=False)
    assert after[0].tolist() == [0.5, 0.5, 0.5, 0.0, 0.0, 0.0]
