"""Structures by hand on small weights, and their patterns after every update of every method that can have them."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn

from sparse_rnn import sparsify
from sparse_rnn.config.compose import compose_run
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.sparsity.checkpoint_format import load_states, saved_states
from sparse_rnn.sparsity.composition import refuse_unordered
from sparse_rnn.sparsity.groups import groups_of
from sparse_rnn.sparsity.iss.penalty import ISSConfig
from sparse_rnn.sparsity.method import final_counts, make_topology, start_counts
from sparse_rnn.sparsity.named_methods import composed_method
from sparse_rnn.sparsity.rules.growth import GradientGrowth, NoGrowth, RandomGrowth
from sparse_rnn.sparsity.selection import select_within
from sparse_rnn.sparsity.sparsifier import Clock, Sparsifier
from sparse_rnn.sparsity.structure import FanIn
from sparse_rnn.sparsity.tiles import tiled
from sparse_rnn.sparsity.topology import SparseTopology

N_M = {"structure": "n_m", "n": 2, "m": 4}
FAN_IN = {"structure": "fan_in"}
BLOCK = {"structure": "block", "block": [2, 2]}


def updated(weight, method, growth, gradient, **settings):
    """The mask, as rows of 0 and 1, after one update that starts from the non-zero values of a weight."""
    topology, mask, value = SparseTopology([weight]), weight.mask.clone(), weight.parameter.detach().clone()
    defaults = {"removal": "magnitude", "schedule": "constant", "update_interval": "1"}
    config = method(**defaults | settings)
    sparsifier = Sparsifier(config, growth, topology, torch.optim.SGD([weight.parameter], 0.1), seed=1)
    drawn = topology.active
    weight.set_mask(mask)
    weight.parameter.data.copy_(value)
    sparsifier._target = int(mask.sum())
    weight.parameter.grad = torch.tensor(gradient)
    clock = Clock(1, 0, 1, 1, 1000)
    sparsifier.before_backward(clock)
    sparsifier.before_step(clock)
    report = sparsifier.after_step(clock)
    assert report.removed == report.grown
    assert topology.active == drawn == int(mask.sum())
    return weight.mask.int().tolist(), report


def test_two_of_four_by_hand(weight_of, method):
    """Of 6 weights .1, .2 and .3 go: the first row's units lose 2 and 1. The last unit of a row has two entries, one of
    them active. Each unit grows what it lost, by gradient; the 9s of the second row lie in units that lost nothing."""
    values = [0.1, 0.2, 0.0, 0.0, 0.3, 0.0, 0.9, 0.8, 0.0, 0.0, 0.4, 0.0]
    weight = weight_of(values, columns=6)
    gradient = [[1.0, 0.0, 3.0, 2.0, 0.0, 5.0], [0.0, 0.0, 9.0, 9.0, 8.0, 7.0]]
    mask, report = updated(weight, method, GradientGrowth(), gradient, **N_M)
    assert report.removed == 3
    assert mask == [[0, 0, 1, 1, 0, 1], [1, 1, 0, 0, 1, 0]]


def test_a_constant_fan_in_by_hand(weight_of, method):
    """.1, .2 and .4 go, two of the first row and one of the second, which grow as many by gradient; the 9s stay out."""
    weight = weight_of([0.1, 0.2, 0.0, 0.0, 0.4, 0.0, 0.7, 0.0, 0.8, 0.9, 0.0, 0.0], columns=4)
    gradient = [[0.0, 1.0, 3.0, 2.0], [2.0, 5.0, 0.0, 3.0], [0.0, 0.0, 9.0, 9.0]]
    mask, _ = updated(weight, method, GradientGrowth(), gradient, **FAN_IN)
    assert mask == [[0, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 0]]


def test_ablation_by_hand(weight_of, method):
    """.1, .2 and .3 go. Over the whole weight the gradients 9, 8 and 7 are the largest. So 1, 0 and 4 entries are
    salient, and the second row, with none, is switched off: 6 active weights for two rows are 3 each.
    """
    values = [0.1, 0.5, 0.0, 0.0, 0.2, 0.3, 0.0, 0.0, 0.7, 0.6, 0.0, 0.0]
    gradient = [[1.0, 0.0, 3.0, 7.0], [0.0, 5.0, 4.0, 3.0], [0.0, 0.0, 8.0, 9.0]]
    weight = weight_of(values, columns=4, cell="cell")
    mask, report = updated(weight, method, GradientGrowth(), gradient, **FAN_IN, ablation=0.5)
    assert mask == [[0, 1, 1, 1], [0, 0, 0, 0], [1, 1, 0, 1]]
    assert report.removed == 3
    outside, _ = updated(weight_of(values, columns=4), method, GradientGrowth(), gradient, **FAN_IN, ablation=0.5)
    assert outside == [[0, 1, 0, 1], [0, 1, 1, 0], [1, 1, 0, 0]], "only recurrent weights lose rows"


def test_units_are_pruned_alike_by_hand(weight_of, method):
    """Half of the window over, the density is 1 - .75 * 7/8 = .34: units of four keep two, the larger ones of each,
    although the second unit has the four largest of all. At the end they keep one."""
    weight = weight_of([0.1, 0.4, 0.3, 0.2, 0.9, -0.8, 0.7, 0.6], columns=8)
    config = method(structure="n_m", n=1, m=4, sparsity=0.75, initial="dense", removal="magnitude", schedule="cubic")
    optimizer = torch.optim.SGD([weight.parameter], 0.1)
    sparsifier = Sparsifier(config, NoGrowth(), SparseTopology([weight]), optimizer, seed=1)
    report = sparsifier.update(Clock(500, 0, 1, 500, 1000))
    assert weight.mask.int().tolist() == [[0, 1, 1, 0, 1, 1, 0, 0]]
    assert (report.removed, report.grown, sparsifier.at_target) == (4, 0, False)
    sparsifier.update(Clock(1000, 0, 1, 1000, 1000))
    assert weight.mask.int().tolist() == [[0, 1, 0, 0, 1, 0, 0, 0]]
    assert sparsifier.at_target


@pytest.mark.parametrize(
    ("salient", "total", "expected"),
    [
        ([2, 2, 2, 2], 8, [2, 2, 2, 2]),
        ([3, 0, 2, 2], 8, [3, 0, 3, 2]),  # .3 * 2 = .6, so none is too few; the rest goes to the most salient
        ([8, 0, 0, 0], 8, [4, 4, 0, 0]),  # a row has 4 entries: two rows are needed, the second one is drawn
    ],
)
def test_rows_that_stay_share_all_weights(salient, total, expected):
    shared = FanIn(0.3)._shared(torch.tensor(salient), total, 4, ("key",))
    assert sorted(shared.tolist()) == sorted(expected)
    assert int(shared.argmax()) == 0


def test_blocks_by_hand(weight_of, method):
    """2x2 blocks with means .2, .5 | .6, 0 and, at the right edge, 2x1 blocks .9 | 0. Of 3 blocks round(1.5) = 2 go; of
    the single 2x1 block none may. By the mean |gradient| the blocks with 4 and 3 grow, although one entry has 9.
    """
    rows = [
        [0.1, 0.3, 0.5, 0.5, 0.9],
        [0.3, 0.1, -0.5, -0.5, 0.9],
        [0.6, 0.6, 0.0, 0.0, 0.0],
        [0.6, 0.6, 0.0, 0.0, 0.0],
    ]
    weight = weight_of([value for row in rows for value in row], columns=5)
    gradient = [
        [4.0, -4.0, 9.0, 0.0, 0.0],
        [4.0, -4.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 3.0, 3.0, 5.0],
        [0.0, 0.0, 3.0, -3.0, 5.0],
    ]
    mask, report = updated(weight, method, GradientGrowth(), gradient, **BLOCK, sparsity=0.3)
    assert mask == [[1, 1, 0, 0, 1], [1, 1, 0, 0, 1], [1, 1, 1, 1, 0], [1, 1, 1, 1, 0]]
    assert report.removed == 8


def test_tiles_read_means_and_write_whole(weight_of):
    weight = weight_of([float(n) for n in range(1, 31)], columns=5, gates=("a", "b"))  # gates of three rows
    [group] = groups_of(SparseTopology([weight]), "tensor")
    found = {each.name: each for each in tiled(group, (2, 2))}
    assert {name: each.size for name, each in found.items()} == {
        "w in 2x2": 4,
        "w in 2x1": 2,
        "w in 1x2": 4,
        "w in 1x1": 2,
    }
    whole = found["w in 2x2"]
    assert whole.values.tolist() == [4.0, 6.0, 19.0, 21.0]  # (1 + 2 + 6 + 7) / 4 = 4; gate b begins in row 3
    assert [each.name for each in whole.split()] == ["w/a in 2x2", "w/b in 2x2"]
    mask = torch.zeros_like(weight.mask)
    whole.scatter(torch.tensor([False, True, False, False]), {"w": mask})
    found["w in 1x2"].scatter(torch.tensor([False, False, True, False]), {"w": mask})
    assert mask.nonzero().tolist() == [[0, 2], [0, 3], [1, 2], [1, 3], [5, 0], [5, 1]]


def test_selection_within_rows_equals_one_by_one():
    draw = torch.Generator().manual_seed(3)
    for trial in range(20):
        values = torch.randint(4, (6, 7), generator=draw).float()
        values[0, 0] = torch.nan
        candidates = torch.rand(6, 7, generator=draw) < 0.6
        counts = (candidates.sum(1) * torch.rand(6, generator=draw)).long()
        chosen = select_within(values, candidates, counts, ("trial", trial))
        assert not (chosen & ~candidates).any()
        assert chosen.sum(1).tolist() == counts.tolist()
        infinite = values.nan_to_num(nan=math.inf)
        for row, mask, free in zip(infinite, chosen, candidates, strict=True):
            assert sorted(row[mask].tolist()) == sorted(row[free].tolist())[: int(mask.sum())]
    with pytest.raises(ValueError, match="fewer candidates"):
        select_within(torch.zeros(1, 2), torch.tensor([[True, False]]), torch.tensor([2]), ())


def test_ties_within_units_are_drawn():
    draws = [select_within(torch.zeros(1, 5), torch.ones(1, 5).bool(), torch.tensor([2]), (k,)) for k in range(500)]
    hits = torch.cat(draws).sum(0).float()
    assert float(((hits - 200) ** 2 / 200).sum()) < 18.5  # 4 degrees of freedom, p = .001


def fits(mask: torch.Tensor, gates, config, *, done: bool = True) -> bool:
    """Whether a mask has the pattern that a configuration asks for; written out, entry by entry.

    done: whether pruning is over; until then, units of N:M have equally many and more.
    """
    rows = mask.flatten(1).tolist()
    if config.structure == "fan_in":
        fan_ins = {sum(row) for row in rows}
        live = fan_ins - {0} if config.ablation else fan_ins
        return max(live) - min(live) <= bool(config.ablation)
    if config.structure == "n_m":
        units = [row[k : k + config.m] for row in rows for k in range(0, len(row), config.m)]
        found = {(len(unit), sum(unit)) for unit in units}
        wanted = {length: math.ceil(config.n * length / config.m) for length, _ in found}
        return len(found) == len(wanted) and all(n == wanted[k] or (n > wanted[k] and not done) for k, n in found)
    height, width = config.block
    for gate in gates.values():
        own = rows[gate]
        for i, j in itertools.product(range(0, len(own), height), range(0, len(own[0]), width)):
            if len({entry for row in own[i : i + height] for entry in row[j : j + width]}) > 1:
                return False
    return True


STRUCTURES = {
    "n_m": ["sparsifier.structure=n_m", "sparsifier.n=1", "sparsifier.m=3"],
    "block": ["sparsifier.structure=block", "sparsifier.block=[3,2]"],
    "fan_in": ["sparsifier.structure=fan_in"],
}
NONE = "sparsifier.redistribution=none"
COMBINED = [
    *itertools.product(("n_m",), ("set", "static_er", f"selfish {NONE}", f"dsr {NONE}", "gmp", "granet", "acdc")),
    *itertools.product(("fan_in",), ("srigl", f"snfs {NONE}", "granet_half")),
    *itertools.product(("block",), ("selfish", "snfs", "dsr", "gmp", "granet", "top_kast", "cht")),
]


@pytest.mark.parametrize(("structure", "method"), COMBINED)
def test_every_update_keeps_pattern_and_counts(training, structure, method):
    """Eleven steps with an update every second one; another network restored in the middle of them does the same."""
    settings = [f"sparsifier={method.split()[0]}", *method.split()[1:], *STRUCTURES[structure]]
    run = training(*settings, "optimizer=adam", "sparsifier.update_interval=2", "model.hidden=7")
    other = type(run)(run.run)
    config, sparsifier = run.run.sparsifier, run.sparsifier
    assert start_counts(config, run.topology) == {w.name: w.active for w in run.topology}
    start, first = run.topology.active, {w.name: w.mask.clone() for w in run.topology}
    if method.startswith("dsr"):
        sparsifier.removal.threshold = 0.05
    for step in range(1, 12):
        assert all(fits(w.mask, w.gates, config, done=not config.prunes) for w in run.topology), f"step {step}"
        if step == 6:
            states = copy.deepcopy((sparsifier.state_dict(), saved_states(run.model, run.optimizer, run.topology)))
            other.sparsifier.load_state_dict(states[0])
            load_states(other.model, other.optimizer, other.topology, states[1])
            other.step_count = run.step_count
        for each in (run, other)[: 1 + (step >= 6)]:
            each.backward()
            report = each.step()
        assert all(not w.values[~w.mask].any() for w in run.topology)
        if report is not None and not config.prunes:
            assert report.removed == report.grown
            assert run.topology.active == start
    assert all(fits(w.mask, w.gates, config) for w in run.topology)
    changed = any(not torch.equal(w.mask, first[w.name]) for w in run.topology)
    assert changed == config.dynamic
    assert sparsifier.at_target
    for one, two in zip(run.topology, other.topology, strict=True):
        assert torch.equal(one.mask, two.mask)
        assert torch.equal(one.values, two.values)
    if config.prunes:
        assert final_counts(config, run.topology).keys() == first.keys()
        assert run.topology.active == sum(final_counts(config, run.topology).values())


def test_blocks_move_between_gates_and_layers(training):
    """Redistribution works on blocks: the gates of a tensor have other counts than before, and so have the layers."""
    for method, by in (("selfish", "gate"), ("snfs", "weight")):
        run = training(f"sparsifier={method}", *STRUCTURES["block"], "sparsifier.update_interval=1")
        before = run.topology.density(by=by)
        for _ in range(3):
            run.backward()
            run.step()
        assert run.topology.density(by=by) != before


def test_ablation_in_training_keeps_the_count(training):
    run = training("sparsifier=srigl", "sparsifier.ablation=0.9", "sparsifier.update_interval=1", "optimizer=adam")
    active = {w.name: w.active for w in run.topology}
    for _ in range(5):
        run.backward()
        run.step()
    assert {w.name: w.active for w in run.topology} == active
    fan_ins = {w.name: sorted(set(w.mask.sum(1).tolist())) for w in run.topology}
    recurrent = [name for name in fan_ins if "lstm" in name]
    assert any(fan_ins[name][0] == 0 for name in recurrent)
    for name, found in fan_ins.items():
        rest = [n for n in found if n or name not in recurrent]
        assert rest[-1] - rest[0] <= (1 if name in recurrent else 0)


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("selfish", N_M, "redistribution=gates moves"),
        ("dsr", FAN_IN, "redistribution=layers_nonzeros moves"),
        ("rigl", {"structure": "n_m"}, "0 < n < m"),
        ("rigl", N_M | {"n": 4}, "0 < n < m"),
        ("rigl", {"structure": "block"}, r"block=\[8,1\]"),
        ("rigl", BLOCK | {"block": [0, 2]}, r"block=\[8,1\]"),
        ("rigl", FAN_IN | {"n": 2}, "sparsifier.n means nothing"),
        ("rigl", {"ablation": 0.3}, "ablation means nothing"),
        ("srigl", {"scope": "cell"}, "scope=tensor"),
        ("srigl", {"ablation": 1.0}, "must lie in"),
        ("static_er", FAN_IN | {"ablation": 0.3}, "never does"),
        ("granet", FAN_IN | {"ablation": 0.3}, "a constant number"),
        ("granet_half", N_M, "begins with all weights or n of every m"),
        ("cht", N_M, "growth=ch3_l3 ranks no weights"),
        ("deep_r", BLOCK, "looks at the sign"),
        ("rigl", {"structure": "nm"}, "did you mean n_m"),
        ("rigl", N_M | {"sparsity": 0.6}, "0.5, not 0.6"),
        ("set", N_M | {"initial": "er"}, "uniform"),
    ],
)
def test_what_makes_no_sense_is_refused(name, settings, said):
    with pytest.raises(ConfigError, match=said) as refusal:
        composed_method(name, None, settings)
    assert str(refusal.value).count(". ") == 0


def test_iss_is_a_structure_of_its_own():
    with pytest.raises(ConfigError, match=r"leave sparsifier\.structure out"):
        ISSConfig(structure="fan_in")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ("sparsifier.structure=fan_in sparsifier.sparsity=.99", "none of them"),
        ("sparsifier.structure=block sparsifier.block=[64,64] sparsifier.sparsity=.95", "no active weight"),
    ],
)
def test_weights_too_small_for_the_structure_are_refused(overrides, said):
    run = compose_run(["sparsifier=static_uniform", "model.hidden=20", *overrides.split()])
    with torch.device("meta"), pytest.raises(ConfigError, match=said):
        make_topology(run.sparsifier, run.model.build(30))


def test_a_rule_without_an_order_is_refused(method):
    class Unordered:
        name, needs = "own", frozenset()

    config = method(**FAN_IN, removal="magnitude")
    with pytest.raises(ConfigError, match="ranks no weights"):
        refuse_unordered(config, Unordered())
    refuse_unordered(config, RandomGrowth())
    refuse_unordered(method(**FAN_IN), NoGrowth())


def test_n_of_m_sets_the_sparsity_and_leaves_what_is_asked_for():
    ratio = ["sparsifier.structure=n_m", "sparsifier.n=1", "sparsifier.m=4"]
    run = compose_run(["sparsifier=rigl", *ratio])
    assert (run.sparsifier.sparsity, run.sparsifier.initial, run.recipe.sparsity) == (0.75, "uniform", 0.67)
    assert compose_run(["sparsifier=rigl", *ratio, "sparsifier.sparsity=0.75"]).sparsifier == run.sparsifier


def test_sparsify_takes_structures():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv1d(3, 4, 5), nn.Flatten(), nn.Linear(8, 6))
    optimizer = torch.optim.Adam(model.parameters())
    made = sparsify(model, optimizer, steps=9, method="rigl", update_interval=2, structure="n_m", n=2, m=4)
    assert made.config.sparsity == 0.5
    for _ in range(9):
        optimizer.zero_grad()
        model(torch.randn(2, 3, 6)).square().mean().backward()
        made.before_step()
        optimizer.step()
        made.after_step()
    assert [w.active for w in made.topology] == [4 * 8, 6 * 4]  # rows of 15 entries: 2 + 2 + 2 and ceil(1.5)
    assert all(fits(w.mask, w.gates, made.config) for w in made.topology)
