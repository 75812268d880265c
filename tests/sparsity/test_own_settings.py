"""Sparsity and removal rate by globs of weights: `sparsifier.groups`."""

import dataclasses

import pytest
import torch
from torch import nn

from sparse_rnn import sparsify
from sparse_rnn.config.compose import compose_run, expand_shorthands
from sparse_rnn.config.identity import as_dict, run_id
from sparse_rnn.config.stored import differences, run_from_dict
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.runs.description import describe
from sparse_rnn.sparsity.method import final_counts, make_topology
from sparse_rnn.sparsity.own_settings import check_settings, glob_of

NAMES = ("embedding.weight", "lstm.weight_ih_l0", "lstm.weight_hh_l0", "lstm.weight_hh_l1")
GROUPS = 'sparsifier.groups={"*weight_hh*": {sparsity: 0.9, removal_rate: 0.2}, *_l1: {sparsity: 0.5}}'


def test_the_last_glob_that_matches_decides():
    assert list(glob_of(NAMES, ["*weight_hh*", "*_l1"]).values()) == [None, None, "*weight_hh*", "*_l1"]
    assert list(glob_of(NAMES, ["*", "*weight_hh*"]).values()) == ["*", "*", "*weight_hh*", "*weight_hh*"]


@pytest.mark.parametrize(
    ("globs", "said"),
    [
        (["lstm.weight_hx_l0"], r"matches no sparse weight \(did you mean lstm.weight_"),
        (["*_l1", "*weight_hh*"], r"\*_l1 decides for no weight"),
    ],
)
def test_a_glob_that_decides_for_nothing_is_refused(globs, said):
    with pytest.raises(ConfigError, match=said):
        glob_of(NAMES, globs)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({}, "sets nothing"), ({"sparsty": 0.5}, "did you mean sparsity"), ({"scope": 1.0}, "choose from")],
)
def test_other_settings_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        check_settings({"*": settings})


def test_values_are_checked_as_the_method_s(method):
    with pytest.raises(ConfigError, match=r"\*_l1: sparsifier.sparsity=1.5 must lie in"):
        method(groups={"*_l1": {"sparsity": 1.5}})
    with pytest.raises(ConfigError, match=r"2 of 4 weights are a sparsity of 0\.5"):
        method(groups={"*_l1": {"sparsity": 0.9}}, structure="n_m", n=2, m=4)


@pytest.mark.parametrize("more", ["", "sparsifier.initial=er", "sparsifier.scope=cell", "sparsifier.scope=gate"])
def test_counts_are_exact_for_every_group(training, more):
    """With every initial distribution and scope, and after updates; each group loses its own share."""
    overrides = ["sparsifier=selfish", GROUPS, "sparsifier.update_interval=2", "optimizer=adam"]
    run = training(*overrides, *more.split())
    assert run.run.sparsifier.removal_rate == 0.7
    names = [w.name for w in run.topology]
    recurrent = [name for name in names if "weight_hh_l0" in name]
    upper = [name for name in names if name.endswith("_l1")]
    parts = {0.9: recurrent, 0.5: upper, 0.67: [n for n in names if n not in {*recurrent, *upper}]}

    def active(part):
        return sum(run.topology[name].active for name in part)

    expected = {s: round((1 - s) * sum(run.topology[n].size for n in part)) for s, part in parts.items()}
    total = sum(expected.values())
    for step in range(1, 6):
        assert {s: active(part) for s, part in parts.items()} == expected
        assert run.topology.active == total
        before = {w.name: w.mask.clone() for w in run.topology}
        run.backward()
        report = run.step()
        if step == 2:
            rate = report.rate / 0.7
            kept = sum(int((before[n] & run.topology[n].mask).sum()) for n in recurrent)
            assert kept >= expected[0.9] - (rate * 0.2 * expected[0.9] + 4)
            assert report.removed == pytest.approx(rate * (0.2 * expected[0.9] + 0.7 * (total - expected[0.9])), abs=10)


def test_gmp_prunes_every_group_to_its_own_sparsity(training):
    run = training(
        "sparsifier=gmp", 'sparsifier.groups={"*weight_hh*": {sparsity: 0.9}}', "sparsifier.update_interval=2"
    )
    for _ in range(11):
        run.backward()
        run.step()
    recurrent = [w for w in run.topology if "hh" in w.name]
    assert sum(w.active for w in recurrent) == round(0.1 * sum(w.size for w in recurrent))
    assert run.topology.active == sum(final_counts(run.run.sparsifier, run.topology).values())
    assert run.sparsifier.at_target


def test_epsilon_holds_for_the_weights_without_a_sparsity_of_their_own(method):
    config = method(initial="er", epsilon=2.0, groups={"0.weight": {"sparsity": 0.5}})
    topology = make_topology(config, nn.Sequential(nn.Linear(10, 6), nn.Linear(6, 20)))
    assert final_counts(config, topology) == {"0.weight": 30, "1.weight": 2 * (6 + 20)}


def test_describe_shows_the_groups():
    facts = describe([GROUPS, "model.hidden=10", "sparsifier=rigl"])
    found = {each["glob"]: each for each in facts["groups"]}
    assert list(found) == [None, "*weight_hh*", "*_l1"]
    assert found["*weight_hh*"]["weights"] == ["lstm.weight_hh_l0"]
    assert (found["*weight_hh*"]["active"], found["*weight_hh*"]["removal_rate"]) == (40, 0.2)
    assert found["*_l1"]["active"] == 400
    others = found[None]
    assert others["active"] == round(0.33 * others["size"])
    assert facts["flops_train"] is not None


def test_a_configuration_survives_its_record_and_its_order_counts():
    run = compose_run(["sparsifier=rigl", GROUPS])
    assert run.sparsifier.groups == {"*weight_hh*": {"sparsity": 0.9, "removal_rate": 0.2}, "*_l1": {"sparsity": 0.5}}
    assert run_from_dict(as_dict(run)) == run
    assert differences(as_dict(run), as_dict(run)) == []
    turned = dataclasses.replace(run.sparsifier, groups=dict(reversed(run.sparsifier.groups.items())))
    assert run_id(dataclasses.replace(run, sparsifier=turned)) != run_id(run)
    assert expand_shorthands(["sparsifier.groups={'a*': {sparsity: 1}}"]) == ["+sparsifier.groups={a*: {sparsity: 1}}"]


def test_what_has_no_sparsity_refuses_groups():
    with pytest.raises(ConfigError, match=r"leave sparsifier\.groups out"):
        compose_run(["sparsifier=dense", GROUPS])


def test_sparsify_takes_groups():
    torch.manual_seed(1)
    model = nn.LSTM(6, 10)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    groups = {"weight_hh*": {"sparsity": 0.9, "removal_rate": 0.0}}
    made = sparsify(model, optimizer, sparsity=0.5, steps=5, update_interval=2, groups=groups)
    first = {w.name: w.mask.clone() for w in made.topology}
    for _ in range(5):
        optimizer.zero_grad()
        model(torch.randn(3, 2, 6))[0].square().mean().backward()
        made.before_step()
        optimizer.step()
        made.after_step()
    assert {w.name: w.active for w in made.topology} == {"weight_ih_l0": 120, "weight_hh_l0": 40}
    same = {w.name: torch.equal(w.mask, first[w.name]) for w in made.topology}
    assert same == {"weight_ih_l0": False, "weight_hh_l0": True}
    other = nn.LSTM(6, 10)
    with pytest.raises(ConfigError, match="matches no sparse weight"):
        sparsify(other, torch.optim.SGD(other.parameters()), sparsity=0.5, steps=999, groups={"x": {"sparsity": 0.9}})
    assert bool(other.weight_hh_l0.all())
