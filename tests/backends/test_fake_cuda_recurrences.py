"""The windows of RHN and ON-LSTM on a CUDA device that is not there: no step mixes devices or reads a value."""

import pytest
import torch
from fake_cuda import DEVICE, register_guard
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from sparse_rnn.models.layers import highway_window
from sparse_rnn.models.layers import ordered_neurons as ordered

STEPS, BATCH, HIDDEN, DEPTH, CHUNKS = 3, 4, 6, 2, 3
ROWS = 2 * CHUNKS + 4 * HIDDEN


def on_device(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=DEVICE)


@pytest.fixture(scope="module", autouse=True)
def _guard(tmp_path_factory):
    register_guard(tmp_path_factory.mktemp("guard"))


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=str)
def dtype(request):
    with FakeTensorMode():
        yield request.param


@pytest.mark.parametrize("masked", [False, True])
def test_a_highway(dtype, masked):
    projected, state = on_device(STEPS, BATCH, 2 * HIDDEN, dtype=dtype), on_device(BATCH, HIDDEN)
    mask = on_device(BATCH, HIDDEN) if masked else None
    weights = [on_device(2 * HIDDEN, HIDDEN, dtype=dtype) for _ in range(DEPTH)]
    biases, cell = [on_device(2 * HIDDEN)] * DEPTH, highway_window.TORCH
    states, between, _, gates = highway_window.unroll(cell, projected, state, mask, weights, biases, keep=True)
    path = highway_window._path(state, states, between)
    d_pre, d_state = highway_window.unroll_backward(cell, torch.ones_like(states), path, mask, gates, weights)
    assert {tensor.device.type for tensor in (states, d_pre, d_state)} == {"cuda"}
    assert (states.dtype, gates.dtype, d_pre.dtype, d_state.dtype) == (
        torch.float32,
        torch.float32,
        dtype,
        torch.float32,
    )
    assert d_pre.shape == (DEPTH, STEPS, BATCH, 2 * HIDDEN)


def test_ordered_neurons(dtype):
    projected, weight = on_device(STEPS, BATCH, ROWS, dtype=dtype), on_device(ROWS, HIDDEN, dtype=dtype)
    h, c, cell = on_device(BATCH, HIDDEN), on_device(BATCH, HIDDEN), ordered.TORCH
    states, cells, _, saved = ordered.unroll(cell, projected, weight, h, c)
    prepared = cell.prepare(saved, cells)
    d_rows, dh, dc = ordered.unroll_backward(cell, torch.ones_like(states), cells[-1], prepared, weight)
    assert {tensor.device.type for tensor in (states, cells, d_rows, dh, dc)} == {"cuda"}
    assert {tensor.dtype for tensor in (states, cells, *saved, dh, dc)} == {torch.float32}
    assert d_rows.dtype == dtype
    assert d_rows.shape == projected.shape
