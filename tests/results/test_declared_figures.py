"""Figures 1 and 2: what the methods declare."""

import pytest
import torch

from results.figures.topology_update import draw_method, stages
from results.figures.training_cost import costs
from sparse_rnn.config.compose import compose_run
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.runs.flops import run_flops


def test_an_update_moves_weights_between_gates_and_keeps_their_number():
    found, gates = stages(compose_run(["sparsifier=selfish"]))
    start, trained, removed, grown = found
    assert torch.equal(start.active, trained.active)
    assert not (removed.active & removed.removed).any()
    assert torch.equal(removed.active | removed.removed, trained.active)
    assert not (grown.grown & removed.active).any()
    assert torch.equal(grown.active, removed.active | grown.grown)
    assert grown.active.count_nonzero() == start.active.count_nonzero()
    per_gate = [[int(stage.active[rows].count_nonzero()) for rows in gates.values()] for stage in (start, grown)]
    assert per_gate[0] != per_gate[1]


def test_a_structure_is_said_and_kept():
    start, _, removed, grown = stages(compose_run(["sparsifier=srigl"]))[0]
    assert start.rules.endswith("structure=fan_in")
    assert "Every row of a weight has as many active entries" in start.words
    assert len(set(start.active.sum(1).tolist())) == 1
    assert torch.equal(grown.active, removed.active | grown.grown)


def test_without_redistribution_every_gate_keeps_its_number():
    data = draw_method("st_rnn").data
    counts = data.pivot(index="gate", columns="stage", values="active")
    assert (counts["Start"] == counts["Grow"]).all()


def test_the_words_are_those_of_the_rules():
    data = draw_method("selfish").data
    grow = data[data["stage"] == "Grow"].iloc[0]
    assert grow["rules"] == "redistribution=gates, growth=random"
    assert "Every inactive entry is equally likely to grow" in grow["words"]
    rigl = draw_method("rigl").data
    assert "Largest |gradient| first" in rigl[rigl["stage"] == "Grow"]["words"].iloc[0]


@pytest.mark.parametrize(
    ("method", "titles"),
    [
        ("gmp", ["Start", "Train 100 steps", "Remove"]),
        ("static_er", ["Start", "Train to the end"]),
        ("set", ["Start", "Train an epoch", "Remove", "Grow"]),
        ("snfs", ["Start", "Train an epoch", "Remove", "Grow"]),
        ("dsr", ["Start", "Train an epoch", "Remove", "Grow"]),
        ("srigl", ["Start", "Train an epoch", "Remove", "Grow"]),
    ],
)
def test_other_methods_have_their_own_stages(method, titles):
    assert draw_method(method).data["stage"].unique().tolist() == titles


@pytest.mark.parametrize("method", ["dense", "iss"])
def test_a_method_that_is_no_composition_of_rules_is_refused(method):
    with pytest.raises(ConfigError, match=f"{method}"):
        draw_method(method)


def test_drawing_leaves_the_random_numbers_of_the_caller_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    stages(compose_run(["sparsifier=selfish"]))
    assert torch.rand(1) == expected


def test_costs_end_where_the_flops_of_a_run_say():
    data = costs()
    spent = data.groupby("method")["cost"].max()
    sparse, gradual = (run_flops(compose_run([f"sparsifier={name}"])).train_ratio for name in ("selfish", "gmp"))
    assert spent["Dense"] == pytest.approx(1.0)
    assert spent["Selfish-RNN"] == pytest.approx(sparse)
    assert spent["Gradual pruning (GMP)"] == pytest.approx(gradual, abs=0.002)
    assert spent["Pruning and re-training"] == pytest.approx(1 + sparse)
