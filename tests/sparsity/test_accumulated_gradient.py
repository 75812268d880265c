"""Growth by a gradient that is summed over several minibatches (growth.minibatches)."""

import copy

import pytest
import torch

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.sparsity.checkpoint_format import load_states, saved_states
from sparse_rnn.sparsity.method import reads_in_every_step
from sparse_rnn.sparsity.rules.growth import GradientGrowth, RandomGrowth
from sparse_rnn.sparsity.sparsifier import Clock


def test_the_sum_of_the_last_minibatches_decides(training):
    """Of five minibatches before an update the last three are read: the largest sums grow, which are not those of the
    last minibatch alone. A run that is restored between them does the same."""
    settings = ["sparsifier=rigl", "optimizer=sgd", "optimizer.lr=0.5", "recipe=none", "training.epochs=4"]
    settings += ["sparsifier.sparsity=0.7", "sparsifier.removal_rate=0.3", "sparsifier.update_interval=5"]
    run = training(*settings, "growth.minibatches=3", epochs=8)
    sums = dict.fromkeys((w.name for w in run.topology), 0)
    last, other = {}, type(run)(run.run, epochs=8)
    for step in range(1, 6):
        gradients = run.dense_gradients()
        if step >= 3:
            sums = {name: total + gradients[name] for name, total in sums.items()}
            last = gradients
        before = {w.name: w.mask.clone() for w in run.topology}
        run.backward()
        report = run.step()
        assert set(run.sparsifier._signals) == ({"gradient"} if step in (3, 4) else set())
        if step == 4:
            other.sparsifier.load_state_dict(copy.deepcopy(run.sparsifier.state_dict()))
            states = copy.deepcopy(saved_states(run.model, run.optimizer, run.topology))
            load_states(other.model, other.optimizer, other.topology, states)
            other.step_count = run.step_count
    assert report is not None
    grown = {w.name: w.mask & ~before[w.name] for w in run.topology}
    by_last = []
    for weight in run.topology:
        smallest = sums[weight.name][grown[weight.name]].abs().min()
        outside = ~weight.mask & ~before[weight.name]
        assert float(sums[weight.name][outside].abs().max()) <= float(smallest) + 1e-6
        by_last.append(
            float(last[weight.name][outside].abs().max() - last[weight.name][grown[weight.name]].abs().min())
        )
    assert max(by_last) > 1e-4, "the last minibatch alone would have chosen others"
    other.backward()
    other.step()
    for one, two in zip(run.topology, other.topology, strict=True):
        assert torch.equal(one.mask, two.mask)


@pytest.mark.parametrize(
    ("interval", "minibatches", "expected"),
    [
        ("epoch", 1, [3, 6, 9]),
        ("epoch", 2, [2, 3, 5, 6, 8, 9]),
        ("epoch", 9, [1, 2, 3, 4, 5, 6, 7, 8, 9]),  # none in the last epoch, which ends without an update
        ("5", 2, [4, 5, 9, 10]),
        ("5", 4, [2, 3, 4, 5, 7, 8, 9, 10]),  # across the ends of epochs
        ("2", 4, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    ],
)
def test_gradients_are_read_in_the_steps_before_an_update_alone(training, interval, minibatches, expected):
    run = training("sparsifier=rigl", f"growth.minibatches={minibatches}", f"sparsifier.update_interval={interval}")
    clocks = [Clock(step, (step - 1) // 3, 4, (step - 1) % 3 + 1, 3) for step in range(1, 13)]
    assert [clock.step for clock in clocks if run.sparsifier._signals_read(clock)] == expected
    assert all(run.sparsifier.keeps_signals(clock) == (clock.step in expected) for clock in clocks)


def test_where_updates_are_close_every_gradient_is_read(method):
    near = method(removal="magnitude", update_interval="3")
    assert reads_in_every_step(near, GradientGrowth(minibatches=3))
    assert not reads_in_every_step(near, GradientGrowth(minibatches=2))
    assert not reads_in_every_step(near, RandomGrowth())
    assert not reads_in_every_step(method(removal="magnitude"), GradientGrowth(minibatches=99))


def test_no_minibatch_is_refused():
    with pytest.raises(ConfigError, match=r"growth\.minibatches=0 must be at least 1"):
        GradientGrowth(minibatches=0)
