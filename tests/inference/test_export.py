"""An exported model computes what the run's model does, whatever the layout."""

import math

import pytest
import torch
from exported_models import SIZES, SPARSE, made, outputs, stored
from safetensors.torch import load_file, load_model
from scipy.sparse import csr_matrix

from sparse_rnn.backends.cpu.convert import use_sparse_kernels
from sparse_rnn.inference.export import holds, load_exported
from sparse_rnn.inference.exported import LAYOUTS


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", SIZES)
def test_what_is_read_back_computes_the_same(name, layout, tmp_path):
    run, model, topology, sizes = made(name)
    path = stored(tmp_path / "model.safetensors", layout, run, model, topology, sizes)
    torch.manual_seed(5)
    again = load_exported(path)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3)), "loading must not draw from the caller's generator"
    assert type(again) is type(model)
    assert not again.training
    assert holds(again, model, topology)
    for first, second in zip(outputs(model), outputs(again), strict=True):
        assert torch.equal(first, second)
    assert [f"{weight.name}.values" in load_file(path) for weight in topology] == [layout in SPARSE] * len(topology)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_model_of_the_kernels_is_exported_like_a_masked_one(layout, tmp_path):
    run, model, topology, sizes = made("rhn")
    masked = load_file(stored(tmp_path / "masked.safetensors", layout, run, model, topology, sizes))
    use_sparse_kernels(model, topology)
    path = stored(tmp_path / "sparse.safetensors", layout, run, model, topology, sizes)
    assert load_file(path).keys() == masked.keys()
    assert all(torch.equal(tensor, masked[name]) for name, tensor in load_file(path).items())
    assert holds(load_exported(path), model, topology)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_not_finite_and_what_is_active_and_zero_stay_as_they_are(layout, tmp_path):
    run, model, topology, sizes = made("stacked_lstm")
    weight = topology["lstm.weight_hh_l0"]
    with torch.no_grad():
        weight.parameter[weight.mask] = torch.tensor([math.nan, math.inf, -math.inf, 0.0]).repeat(weight.active)[
            : weight.active
        ]
    path = stored(tmp_path / "model.safetensors", layout, run, model, topology, sizes)
    again = load_exported(path)
    assert holds(again, model, topology)
    assert again.lstm.weight_hh_l0.isnan().any()
    if layout in SPARSE:
        assert load_file(path)["lstm.weight_hh_l0.values"].numel() == weight.active


@pytest.mark.parametrize("layout", SPARSE)
@pytest.mark.parametrize("sparsity", [0.5, 0.67, 0.9, 0.95])
def test_the_file_is_no_larger_than_it_may_be(sparsity, layout, tmp_path):
    """At most 1.6 x density x the dense file, at the width of the papers' layers less the vocabulary."""
    settings = ["model.hidden=256", f"sparsifier.sparsity={sparsity}"]
    run, model, topology, sizes = made("stacked_lstm", *settings, vocabulary=500)
    path = stored(tmp_path / "model.safetensors", layout, run, model, topology, sizes)
    dense = stored(tmp_path / "dense.safetensors", "dense", run, model, topology, sizes)
    total = sum(parameter.numel() for parameter in model.parameters())
    density = (total - topology.size + topology.active) / total
    assert path.stat().st_size <= 1.6 * density * dense.stat().st_size


def test_a_file_can_be_read_without_this_project(tmp_path):
    run, model, topology, sizes = made("rhn")
    made_of = (run, model, topology, sizes)
    csr = load_file(stored(tmp_path / "csr.safetensors", "csr", *made_of))
    coo = load_file(stored(tmp_path / "coo.safetensors", "coo", *made_of))
    for weight in topology:
        values, columns, starts, shape = (csr[f"{weight.name}.{p}"] for p in ("values", "columns", "starts", "shape"))
        matrix = csr_matrix((values.numpy(), columns.numpy(), starts.numpy()), shape.tolist())
        assert torch.equal(torch.from_numpy(matrix.toarray()), weight.parameter)
        flat = torch.zeros(weight.parameter.numel())
        flat[coo[f"{weight.name}.gaps"].long().cumsum(0)] = coo[f"{weight.name}.values"]
        assert torch.equal(flat.view_as(weight.parameter), weight.parameter)
    dense = run.model.build(*sizes)
    missing, unexpected = load_model(dense, stored(tmp_path / "dense.safetensors", "dense", *made_of))
    assert not missing
    assert not unexpected
    assert holds(dense, model, topology)
