"""An update of the topology on a GPU selects what the CPU selects, from the same weights, gradients and keys."""

import pytest
import torch
from device_runs import DEVICE, composed, overrides_of

from sparse_rnn.sparsity.method import make_topology
from sparse_rnn.sparsity.sparsifier import Clock
from sparse_rnn.training.assembly import make_optimizer, make_sparsifier

METHODS = ("selfish", "set", "st_rnn", "rigl", "snfs", "dsr", "gmp")
SIZES = {"stacked_lstm": ["model.hidden=96"], "rhn": ["model.hidden=61", "model.depth=3"]}
CLOCKS = [Clock(step=100 * n, epoch=n, epochs=10, batch=100, batches=100) for n in range(1, 9)]


def masks_after_updates(run, device):
    """The masks after each of some updates; weights and gradients are drawn on the CPU, alike for every device."""
    torch.manual_seed(1)
    model = run.model.build(203).to(device)
    topology = make_topology(run.sparsifier, model)
    optimizer = make_optimizer(run, model)
    sparsifier = make_sparsifier(run, topology, optimizer)
    masks = [{weight.name: weight.mask.cpu().clone() for weight in topology}]
    for clock in CLOCKS:
        drawn = torch.Generator().manual_seed(clock.step)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=drawn).to(device)
        for weight in topology:
            with torch.no_grad():
                weight.parameter.copy_(torch.randn(weight.shape, generator=drawn).to(device) * weight.mask)
        sparsifier.before_backward(clock)
        sparsifier.before_step(clock)
        sparsifier.update(clock)
        masks.append({weight.name: weight.mask.cpu().clone() for weight in topology})
    return masks


@pytest.mark.parametrize("model", SIZES)
@pytest.mark.parametrize("method", METHODS)
def test_masks_are_the_cpu_s(model, method):
    more = ["sparsifier.prune_start=0.1"] if method == "gmp" else []
    run = composed(overrides_of(model, method, "snt_asgd", *SIZES[model], *more))
    for update, (ours, cpus) in enumerate(
        zip(masks_after_updates(run, torch.device(DEVICE)), masks_after_updates(run, torch.device("cpu")), strict=True)
    ):
        for name, mask in cpus.items():
            assert torch.equal(ours[name], mask), f"{name} after update {update}"


def test_updates_change_masks():
    run = composed(overrides_of("stacked_lstm", "selfish", "snt_asgd"))
    masks = masks_after_updates(run, torch.device(DEVICE))
    assert not torch.equal(masks[0]["decoder.weight"], masks[1]["decoder.weight"])
