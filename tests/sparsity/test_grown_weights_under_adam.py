"""The first step of a newly active weight (design, section 4)."""

import pytest
import torch
from storages import as_tested, set_gradient

from sparse_rnn.sparsity.optimizer_state import tensors_like
from sparse_rnn.sparsity.topology import SparseTopology

LEARNING_RATE = 1e-3


def first_steps(weight_of, beta1: float, *, zero_second_moments: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Sizes of the step after an update: of the grown weights and of the others, after 1,000 steps of Adam on
    gradients of magnitude .5 to 1.5."""
    random = torch.Generator().manual_seed(4)

    def gradient() -> torch.Tensor:
        signs = torch.randint(0, 2, (8, 8), generator=random) * 2 - 1
        return signs * (0.5 + torch.rand(8, 8, generator=random))

    weight = weight_of(torch.randn(64, generator=random).tolist(), columns=8)
    weight.mask.copy_(torch.rand(8, 8, generator=random) < 0.5)
    topology = SparseTopology([weight])
    topology.mask_weights()
    as_tested(weight)
    optimizer = torch.optim.Adam([weight.parameter], LEARNING_RATE, (beta1, 0.999), 1e-9)
    for _ in range(1000):
        set_gradient(weight, gradient())
        topology.mask_gradients()
        optimizer.step()
    new = torch.zeros(64, dtype=torch.bool)
    new[(~weight.mask).flatten().nonzero().flatten()[:10]] = True
    grown = new.reshape(8, 8)
    others = weight.mask.clone()
    topology.replace("w", weight.mask | grown, optimizer)
    if zero_second_moments:
        tensors_like(optimizer, weight.parameter)["exp_avg_sq"][weight.storage.stored(grown)] = 0
    before = weight.values.clone()
    set_gradient(weight, gradient())
    topology.mask_gradients()
    optimizer.step()
    change = (weight.values - before).abs()
    return change[grown], change[others]


@pytest.mark.parametrize("beta1", [0.0, 0.9])
def test_the_first_step_of_a_grown_weight_is_an_ordinary_one(weight_of, beta1):
    grown, others = first_steps(weight_of, beta1, zero_second_moments=False)
    assert (grown > 0).all()
    assert grown.max() <= 3 * others.median()


def test_from_zero_second_moments_it_would_be_a_leap(weight_of):
    """1 / sqrt(1 - .999) = 31.6 in the long run, 25.1 after 1,000 steps."""
    grown, others = first_steps(weight_of, 0.0, zero_second_moments=True)
    assert grown.min() > 15 * others.median()


@pytest.mark.parametrize("method", ["selfish", "rigl", "snfs"])
def test_in_a_language_model_too(training, method):
    """In every recurrent tensor, the median first step of the grown weights against that of the others."""
    run = training(f"sparsifier={method}", "optimizer=adam", epochs=40)
    for _ in range(10 * run.batches - 1):
        run.backward()
        run.step()
    run.backward()
    run.step()
    assert run.end_of_epoch() is not None
    before = {w.name: w.values.clone() for w in run.topology}
    run.backward()
    run.step()
    for weight in run.topology:
        if weight.cell is None:
            continue
        change = (weight.values - before[weight.name]).abs()
        grown = weight.mask & (before[weight.name] == 0)
        assert grown.any()
        assert 0 < change[grown].median() <= 3 * change[weight.mask & ~grown].median(), weight.name
