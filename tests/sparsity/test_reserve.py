"""Top-KAST by hand: four of eight weights compute, two more are trained."""

import pytest
import torch
from storages import as_tested, set_gradient

from sparse_rnn.config.compose import compose_run
from sparse_rnn.runs.flops import run_flops
from sparse_rnn.sparsity.rules.growth import ReserveGrowth
from sparse_rnn.sparsity.sparsifier import Clock, Sparsifier
from sparse_rnn.sparsity.topology import SparseTopology


def set_up(weight_of, method, **optimizer):
    """The first four weights are active; the values of the others, and which of them are trained, are given."""
    weight = weight_of([0.1, 0.2, 0.3, -0.4, 0.0, 0.0, 0.0, 0.0], columns=8)
    topology = SparseTopology([weight])
    masks, values = topology.state_dict(), weight.values.clone()
    config = method(removal="reserve", schedule="constant", update_interval="2", backward_sparsity=0.25)
    sgd = torch.optim.SGD([weight.parameter], 0.1, **optimizer)
    sparsifier = Sparsifier(config, ReserveGrowth(), topology, sgd, seed=1)
    sparsifier.load_state_dict({**sparsifier.state_dict(), "topology": masks, "target": 4})
    weight.parameter.data.copy_(values)
    as_tested(weight)
    sparsifier.reserve.values["w"].copy_(torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.35, -0.05, 0.6, 0.01]]))
    sparsifier.reserve.choose(sparsifier.groups)
    return sparsifier, weight


def step(sparsifier: Sparsifier, number: int, gradient: list[float], clip: float = 1.0) -> None:
    """A step with this dense gradient, whose optimizer moves nothing."""
    clock = Clock(number, 0, 1, number, 1000)
    sparsifier.before_backward(clock)
    weight = sparsifier.topology["w"]
    set_gradient(weight, torch.tensor([gradient]))
    sparsifier.before_step(clock)
    weight.parameter.grad.mul_(clip)
    sparsifier.after_step(clock)


def reserve_of(sparsifier: Sparsifier) -> list[float]:
    return sparsifier.reserve.values["w"].flatten().tolist()


def test_a_superset_is_trained_and_the_largest_compute(weight_of, method):
    """.6 and .35 of the reserve are trained: .6 - .1 * 3 and .35 - .1 * 2. Then the four largest of all are -.4, .3, .3
    and .2: .1 goes to the reserve with its value, and .3 of the reserve goes on from there."""
    sparsifier, weight = set_up(weight_of, method)
    step(sparsifier, 1, [0.0, 0.0, 0.0, 0.0, 1.0, 9.0, 1.0, 9.0])
    assert reserve_of(sparsifier) == pytest.approx([0, 0, 0, 0, 0.25, -0.05, 0.5, 0.01])
    assert weight.values.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3, -0.4, 0, 0, 0, 0])
    step(sparsifier, 2, [0.0, 0.0, 0.0, 0.0, 1.0, 9.0, 2.0, 9.0])
    assert weight.mask.flatten().int().tolist() == [0, 1, 1, 1, 0, 0, 1, 0]
    assert weight.values.flatten().tolist() == pytest.approx([0, 0.2, 0.3, -0.4, 0, 0, 0.3, 0])
    assert reserve_of(sparsifier) == pytest.approx([0.1, 0, 0, 0, 0.15, -0.05, 0, 0.01])
    step(sparsifier, 3, [1.0] * 8)  # the two that are trained now are .15 and .1
    assert reserve_of(sparsifier) == pytest.approx([0.0, 0, 0, 0, 0.05, -0.05, 0, 0.01], abs=1e-7)


def test_the_reserve_is_clipped_and_decays_as_the_weights(weight_of, method):
    """Clipping halves the gradients of active weights, and so that of the reserve: .6 - .1 (3 / 2 + .6 * .2 / D), with
    D = 1/2."""
    sparsifier, _ = set_up(weight_of, method, weight_decay=0.2)
    step(sparsifier, 1, [1.0, 0.0, 2.0, 0.0, 0.0, 0.0, 3.0, 0.0], clip=0.5)
    expected = [0, 0, 0, 0, 0.35 - 0.1 * 0.35 * 0.4, -0.05, 0.6 - 0.1 * (1.5 + 0.6 * 0.4), 0.01]
    assert reserve_of(sparsifier) == pytest.approx(expected)


def test_the_reserve_is_part_of_a_checkpoint(weight_of, method):
    sparsifier, _ = set_up(weight_of, method)
    other, weight = set_up(weight_of, method)
    step(sparsifier, 1, [0.0] * 4 + [1.0] * 4)
    other.load_state_dict(sparsifier.state_dict())
    for each in (sparsifier, other):
        step(each, 2, [0.0] * 4 + [2.0] * 4)
    assert reserve_of(other) == reserve_of(sparsifier)
    assert torch.equal(weight.values, sparsifier.topology["w"].values)


def test_training_counts_the_gradients_of_the_superset():
    static, half, kast, alone = (
        run_flops(compose_run(overrides))
        for overrides in (
            ["sparsifier=static_uniform"],
            ["sparsifier=static_uniform", "sparsifier.sparsity=0.5"],
            ["sparsifier=top_kast"],
            ["sparsifier=top_kast", "sparsifier.backward_sparsity=0.67"],
        )
    )
    assert kast.test_ratio == alone.test_ratio == static.test_ratio
    assert alone.train_ratio == pytest.approx(static.train_ratio, rel=1e-6)
    assert static.train_ratio < kast.train_ratio < half.train_ratio
