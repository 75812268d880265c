"""Training that is dense at first: the topology is drawn by magnitude (sparsifier.dense_steps and dense_epochs)."""

import copy

import pytest
import torch
from torch import nn

from sparse_rnn import sparsify
from sparse_rnn.config.compose import compose_run
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.optim.averaged_sgd import AveragedSGD
from sparse_rnn.runs.flops import run_flops
from sparse_rnn.sparsity.checkpoint_format import load_states, saved_states
from sparse_rnn.sparsity.method import final_counts, make_topology
from sparse_rnn.sparsity.named_methods import composed_method
from sparse_rnn.sparsity.optimizer_state import tensors_like
from sparse_rnn.training.assembly import limited


@pytest.mark.parametrize("more", ["", "sparsifier.structure=fan_in"])
@pytest.mark.parametrize(
    ("method", "length", "ends", "updates"),
    [
        ("rigl", "sparsifier.dense_steps=4 sparsifier.update_interval=3", 4, [6, 9]),
        ("static_er", "sparsifier.dense_epochs=2", 6, []),
        (
            "selfish",
            "sparsifier.redistribution=none sparsifier.dense_epochs=1 sparsifier.update_interval=5",
            3,
            [5, 10],
        ),
    ],
)
def test_the_largest_weights_stay(training, method, length, ends, updates, more):
    """Until its end every entry is trained, and no network may be kept as the best; then all is as without it."""
    run = training(f"sparsifier={method}", *length.split(), *more.split(), "optimizer=adam")
    config, sparsifier, topology = run.run.sparsifier, run.sparsifier, run.topology
    target = sum(final_counts(config, topology).values())
    done = []
    for step in range(1, 12):
        before = {name: value.clone() for name, value in run.values.items()}
        run.backward()
        report = run.step()
        trained = {name: value.clone() for name, value in run.values.items()}
        if step % run.batches == 0:
            report = report or run.end_of_epoch()
        if report and step != ends:
            done.append(step)
        if step < ends:
            assert topology.active == topology.size
            assert not sparsifier.at_target
            assert sparsifier.final_sparsity == pytest.approx(1 - target / topology.size)
            assert all((before[w.name] != trained[w.name]).float().mean() > 0.5 for w in topology)
            continue
        assert topology.active == target
        assert sparsifier.at_target
        if step == ends:
            assert (report.removed, report.active) == (topology.size - target, target)
            for weight in topology:
                rows = [slice(None)] if not more else range(len(weight.mask))
                for row in rows:
                    mask, size = weight.mask[row], trained[weight.name][row].abs()
                    assert float(size[mask].min()) >= float(size[~mask].max())
                assert torch.equal(weight.values[weight.mask], trained[weight.name][weight.mask])
        for weight in topology:
            assert not weight.values[~weight.mask].any()
            for tensor in tensors_like(run.optimizer, weight.parameter).values():
                assert not weight.storage.dense(tensor)[~weight.mask].any()
    assert done == updates


@pytest.mark.parametrize("at", [3, 5])
def test_a_run_restored_before_or_after_its_end_does_the_same(training, at):
    settings = ["sparsifier=snfs", "sparsifier.dense_steps=4", "sparsifier.update_interval=2", "optimizer=adam"]
    run = training(*settings)
    other = type(run)(run.run)
    for step in range(1, 9):
        run.backward()
        run.step()
        if step == at:
            states = copy.deepcopy((run.sparsifier.state_dict(), saved_states(run.model, run.optimizer, run.topology)))
            other.sparsifier.load_state_dict(states[0])
            load_states(other.model, other.optimizer, other.topology, states[1])
            other.step_count = run.step_count
        if step > at:
            other.backward()
            other.step()
    for one, two in zip(run.topology, other.topology, strict=True):
        assert torch.equal(one.mask, two.mask)
        assert torch.equal(one.values, two.values)


def test_averages_of_what_goes_are_zero(training):
    """The trigger fires during the warm-up, also under the official code, which has no update in its epoch."""
    run = training("sparsifier=selfish", "optimizer=snt_asgd", "sparsifier.dense_epochs=2", "protocol=official_code")
    for step in range(1, 9):
        run.backward()
        run.step()
        if step in (3, 6):
            report = run.end_of_epoch(triggered=step == 3)
            assert (report is None) == (step == 3)
    assert isinstance(run.optimizer, AveragedSGD)
    assert run.topology.active == round(0.33 * run.topology.size)


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("gmp", {"dense_steps": 5}, "leave sparsifier.dense_steps out"),
        ("rigl", {"dense_steps": 5, "dense_epochs": 1}, "leave one of them out"),
        ("rigl", {"dense_steps": -1}, "at least 0"),
    ],
)
def test_what_makes_no_sense_is_refused(name, settings, said):
    with pytest.raises(ConfigError, match=said):
        composed_method(name, None, settings)


def test_a_warm_up_longer_than_training_is_refused():
    smoke = ["sparsifier=rigl", "budget=smoke", "dataset=pydoc"]  # 4 epochs of 15 windows of 4 x 10 tokens
    with pytest.raises(ConfigError, match=r"dense_epochs=4 leaves none of training\.epochs=4"):
        compose_run([*smoke, "sparsifier.dense_epochs=4"])
    run = compose_run([*smoke, "sparsifier.dense_steps=60"])
    with pytest.raises(ConfigError, match="none of about 60 steps"):
        limited(run, run.dataset.load())
    shorter = compose_run([*smoke, "sparsifier.dense_steps=15"])
    limited(shorter, shorter.dataset.load())
    plain, warm = run_flops(compose_run(smoke)), run_flops(shorter)
    assert warm.train_ratio == pytest.approx(plain.train_ratio + (1 - plain.train_ratio) / 4)
    assert warm.test_ratio == plain.test_ratio


def test_sparsify_takes_a_warm_up_and_resumes():
    def trained(steps, states=None):
        torch.manual_seed(1)
        model = nn.LSTM(6, 8)
        optimizer = torch.optim.Adam(model.parameters())
        more = {"method": "rigl", "update_interval": 3, "dense_steps": 4}
        made = sparsify(model, optimizer, sparsity=0.75, steps=10, **more)
        if states is not None:
            for each, state in zip((model, optimizer, made), copy.deepcopy(states), strict=True):
                each.load_state_dict(state)
        for step in steps:
            optimizer.zero_grad()
            torch.manual_seed(step)
            model(torch.randn(3, 2, 6))[0].square().mean().backward()
            made.before_step()
            optimizer.step()
            made.after_step()
        return model, optimizer, made

    whole = trained(range(10))
    assert whole[2].sparsity == 0.75
    dense = trained(range(2))
    assert (dense[2].sparsity, dense[2].next_update) == (0.0, 4)
    for done in (2, 6):
        parts = trained(range(done, 10), [each.state_dict() for each in trained(range(done))])
        for name, value in whole[0].state_dict().items():
            assert torch.equal(parts[0].state_dict()[name], value), (done, name)


@pytest.mark.parametrize(("settings", "said"), [({"dense_epochs": 1}, "counts steps"), ({"dense_steps": 9}, "none of")])
def test_sparsify_refuses_what_it_cannot_do(settings, said):
    model = nn.LSTM(6, 8)
    with pytest.raises(ConfigError, match=said):
        sparsify(model, torch.optim.SGD(model.parameters()), sparsity=0.5, steps=9, update_interval=2, **settings)


def test_the_topology_is_made_dense(method):
    config = method(dense_steps=3, removal="magnitude")
    topology = make_topology(config, nn.LSTM(6, 8))
    assert topology.active == topology.size
    assert sum(final_counts(config, topology).values()) == topology.size // 2
