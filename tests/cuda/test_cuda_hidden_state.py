"""The hidden state in a low precision, and activations that growth reads on a GPU."""

import pytest
import torch
from coactive_growth import CoactiveGrowth
from device_runs import DEVICE, FIXED, MODELS, composed, overrides_of, record_of

from sparse_rnn.core import registry
from sparse_rnn.core.device import autocast, set_up_device
from sparse_rnn.models.base import hidden_tensors
from sparse_rnn.sparsity.coactivation import Coactivation
from sparse_rnn.sparsity.method import make_topology


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_the_stacked_lstm_s_hidden_state_has_the_dtype_of_products(precision, dtype):
    """cuDNN computes a layer in one dtype; what is carried to the next window is what it gave out."""
    set_up_device(torch.device(DEVICE), precision, deterministic=False)
    model = composed(overrides_of("stacked_lstm")).model.build(20).to(DEVICE)
    hidden = model.initial_hidden(3)
    for _ in range(2):
        with autocast(torch.device(DEVICE), precision):
            output, hidden = model(torch.randint(20, (5, 3), device=DEVICE), hidden)
        assert output.dtype == dtype
        assert [part.dtype for part in hidden_tensors(hidden)] == [dtype, dtype]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 0.05)])
def test_activations_are_those_of_the_cpu(model, precision, tolerance):
    """Without dropout, up to the rounding of the precision."""
    run = composed(overrides_of(model))
    torch.manual_seed(1)
    sizes = (20, 4) if run.model.task == "text_classification" else (20,)
    built = run.model.build(*sizes).eval()
    tokens = torch.randint(20, (5, 3))
    found = {}
    for device, own in (("cpu", "fp32"), (DEVICE, precision)):
        built.to(device)
        set_up_device(torch.device(device), own, deterministic=False)
        seen = Coactivation(make_topology(run.sparsifier, built))
        seen.watch()
        given = tokens.to(device)
        with autocast(torch.device(device), own):
            if len(sizes) == 2:
                built(given)
            else:
                built.training_loss(given, given, built.initial_hidden(3))
        found[device] = seen.taken()
    for name, expected in found["cpu"].items():
        assert found[DEVICE][name].dtype == torch.float32
        scale = float(expected.abs().max())
        torch.testing.assert_close(found[DEVICE][name].cpu(), expected, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("switches", ["graph=off fused=off", "graph=on fused=on"])
@pytest.mark.parametrize("model", MODELS)
def test_growth_by_activations_trains(runs, monkeypatch, model, switches):
    """Captured or not, every update finds the activations of its step."""
    monkeypatch.setitem(registry._REGISTRY["growth"], "coactive", CoactiveGrowth)
    more = ["growth=schema_coactive", "sparsifier.update_interval=9"]
    more += [f"training.{switch}" for switch in switches.split()]
    own = [] if model == "lstm_classifier" else FIXED
    assert record_of(runs(overrides_of(model, "rigl", None, *more, *own)))["signal"] == "activations"
