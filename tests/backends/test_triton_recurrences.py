"""Windows on Triton's kernels, in its interpreter, against the same in torch."""

import copy

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("triton", reason="triton is not installed")

from sparse_rnn.backends.gpu.convert import use_triton
from sparse_rnn.backends.gpu.highway import LARGEST_BLOCK, TritonHighwayCell
from sparse_rnn.backends.gpu.ordered_neurons import TritonOrderedNeuronsCell
from sparse_rnn.models.layers.highway import HighwayRecurrence
from sparse_rnn.models.layers.ordered_neurons import ONLSTMLayer
from sparse_rnn.models.on_lstm import ONLSTMConfig
from sparse_rnn.models.rhn import RHNConfig

HIGHWAYS = [  # steps, batch, depth, hidden; entries below, at and above one block
    (1, 1, 1, 7),
    (5, 1, 3, 33),
    (5, 20, 1, 7),
    (1, 20, 3, 33),
    (2, 1, 2, LARGEST_BLOCK),
    (1, 20, 2, 130),
    (2, 1, 1, 1),
]
ORDERED = [  # steps, batch, chunks, chunk
    (1, 1, 7, 1),
    (5, 1, 5, 7),
    (2, 3, 26, 5),
    (1, 20, 13, 10),
    (5, 1, 1, 33),
    (2, 1, 33, 1),
    (2, 2, 1, 1),
    (1, 2, 4, 8),
]


def run_highway(layer: HighwayRecurrence, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
    return layer(x, h)


def run_ordered(layer: ONLSTMLayer, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
    states, (_, cell) = layer(x, (h, c), training=True)
    return states, cell


def compare(layer: nn.Module, run, steps: int, batch: int, hidden: int, *, low: bool, tolerance: float) -> None:
    """The largest difference of outputs and gradients, as a share of the largest entry."""
    inputs = torch.randn(steps, batch, hidden), torch.randn(batch, hidden), torch.randn(batch, hidden)
    by = torch.randn(steps, batch, hidden), torch.randn(batch, hidden)
    on_triton, results = copy.deepcopy(layer), []
    use_triton(on_triton)
    for own in (layer, on_triton):
        torch.manual_seed(1)
        given = [tensor.clone().requires_grad_() for tensor in inputs]
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            found = run(own, *given)
        torch.autograd.backward(found, [weight.reshape(part.shape) for part, weight in zip(found, by, strict=True)])
        leaves = [leaf for leaf in (*given, *own.parameters()) if leaf.grad is not None]
        results.append([*(part.detach() for part in found), *(leaf.grad for leaf in leaves)])
    torch_s, triton_s = results
    assert len(torch_s) == len(triton_s) > len(list(layer.parameters())) + 3
    for k, (one, other) in enumerate(zip(triton_s, torch_s, strict=True)):
        assert one.dtype == other.dtype == torch.float32
        assert (one - other).abs().max() <= tolerance * other.abs().max(), k


@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize(("steps", "batch", "depth", "hidden"), HIGHWAYS)
def test_a_highway(steps, batch, depth, hidden, p):
    torch.manual_seed(0)
    compare(HighwayRecurrence(hidden, depth, p), run_highway, steps, batch, hidden, low=False, tolerance=1e-5)


@pytest.mark.parametrize(("steps", "batch", "chunks", "chunk"), ORDERED)
def test_ordered_neurons(steps, batch, chunks, chunk):
    torch.manual_seed(0)
    hidden = chunks * chunk
    compare(ONLSTMLayer(hidden, hidden, chunk, 0.3), run_ordered, steps, batch, hidden, low=False, tolerance=1e-5)


@pytest.mark.parametrize("p", [0.0, 0.3])
def test_products_in_bf16(p):
    torch.manual_seed(0)
    compare(HighwayRecurrence(33, 2, p), run_highway, 3, 4, 33, low=True, tolerance=2e-2)
    compare(ONLSTMLayer(33, 33, 3, p), run_ordered, 3, 2, 33, low=True, tolerance=2e-2)


def test_activations_far_from_zero_and_near_it():
    """The rows of h hold the values, and those of t open the gate: the state becomes tanh of them."""
    values = torch.tensor([-100, -20, -9, -1, -0.25, -0.2499, -1e-3, -1e-6, 0, 1e-7, 1e-2, 0.3, 2, 10, 30, 1e4])
    wild = torch.tensor([torch.inf, -torch.inf, torch.nan])
    x = torch.cat([values, wild])
    layer = HighwayRecurrence(len(x), 1, 0.0)
    use_triton(layer)
    with torch.no_grad():
        layer.recurrent[0].weight.zero_()
        layer.recurrent[0].bias.copy_(torch.cat([x, torch.full_like(x, 1000.0)]))
        layer.input.bias.zero_()
        states, _ = layer(torch.zeros(1, 1, len(x)), torch.zeros(1, len(x)))
    torch.testing.assert_close(states[0, 0], torch.tanh(x), rtol=1e-6, atol=0, equal_nan=True)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_a_nan_reaches_all_units_of_its_sequence_and_no_other():
    torch.manual_seed(0)
    layer = ONLSTMLayer(6, 6, 2, 0.0)
    use_triton(layer)
    x, state = torch.randn(2, 2, 6), torch.zeros(2, 6)
    x[0, 1] = torch.nan
    states, (_, cell) = layer(x, (state, state), training=False)
    assert states[:, 1].isnan().all()
    assert cell[1].isnan().all()
    assert states[:, 0].isfinite().all()


@pytest.mark.parametrize(
    ("config", "cell"),
    [
        (RHNConfig(hidden=6, depth=2), TritonHighwayCell),
        (ONLSTMConfig(embedding=6, hidden=12, chunk=3), TritonOrderedNeuronsCell),
    ],
)
def test_every_recurrence_of_a_model_is_converted(config, cell):
    model = config.build(11)
    names = dict(model.named_parameters()).keys()
    use_triton(model)
    cells = [module.cell for module in model.modules() if isinstance(module, HighwayRecurrence | ONLSTMLayer)]
    assert len(cells) == (1 if cell is TritonHighwayCell else 3)
    assert all(type(own) is cell for own in cells)
    assert dict(model.named_parameters()).keys() == names
