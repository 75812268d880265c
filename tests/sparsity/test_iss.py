"""ISS at work: the penalty's gradient, the threshold, the removal of structures."""

import math

import pytest
import torch

from sparse_rnn.models.rhn import RHNConfig
from sparse_rnn.models.stacked_lstm import StackedLSTMConfig
from sparse_rnn.optim.averaged_sgd import AveragedSGD
from sparse_rnn.sparsity.iss.penalty import add_group_lasso_gradient, group_lasso
from sparse_rnn.sparsity.iss.structures import find_structures, spread, squares, weights_inside

CONFIGS = [StackedLSTMConfig(hidden=5, layers=3), RHNConfig(hidden=5, depth=3)]


def weights_and_structures(config):
    torch.manual_seed(0)
    model = config.build(7).double()
    return {name: p for name, p in model.named_parameters() if p.dim() > 1}, find_structures(model)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_the_gradient_is_that_of_autograd(config):
    weights, layers = weights_and_structures(config)
    with torch.no_grad():  # a structure that is all zero has no direction
        for layer in layers:
            for name, kept in spread(layer, torch.arange(5) != 2, weights):
                weights[name] *= kept
    for weight in weights.values():
        weight.grad = torch.full_like(weight, 0.25)
    add_group_lasso_gradient(layers, weights, 0.5)
    inside = weights_inside(layers)
    gradients = torch.autograd.grad(0.5 * group_lasso(layers, weights), [weights[name] for name in inside])
    for name, gradient in zip(inside, gradients, strict=True):
        torch.testing.assert_close(weights[name].grad, gradient + 0.25)
        assert gradient.abs().max() > 0.01


def test_the_penalty_by_hand():
    """Two units, one layer, seven words: squares of 8 + 32 + 32 + 7 * 9 each; then the root of 1e-8 alone."""
    weights, layers = weights_and_structures(StackedLSTMConfig(hidden=2, layers=1))
    with torch.no_grad():
        weights["lstm.weight_ih_l0"].fill_(1)
        weights["lstm.weight_hh_l0"].fill_(2)
        weights["decoder.weight"].fill_(3)
    assert group_lasso(layers, weights).item() == pytest.approx(2 * math.sqrt(8 + 32 + 32 + 7 * 9))
    with torch.no_grad():
        for weight in weights.values():
            weight.zero_()
    assert group_lasso(layers, weights).item() == pytest.approx(2e-4)


def test_the_whole_gradient_is_clipped_and_masked(training):
    """The penalty joins the dense gradient before both, as in the authors' code."""
    run = training("sparsifier=iss", "optimizer=adam", "sparsifier.group_lasso=0.01")
    weight = run.topology["lstm.weight_hh_l0"]
    weight.mask[3] = False
    run.topology.mask_weights()
    dense = run.dense_gradients()[weight.name]
    run.backward()
    norms = [squares(layer, run.sparsifier._weights).add(1e-8).sqrt() for layer in run.topology.structures]
    run.sparsifier.before_step(run.clock)
    share = 0.01 * weight.parameter * (1 / norms[0].repeat(4)[:, None] + 1 / norms[0])
    torch.testing.assert_close(weight.parameter.grad, (dense + share) * weight.mask)
    assert not weight.parameter.grad[3].any()


def test_small_weights_become_zero_after_every_step(training):
    run = training("recipe=iss_stacked_lstm", "sparsifier.threshold=0.02")
    run.backward()
    run.move()
    values = {weight.name: weight.parameter.detach().clone() for weight in run.topology}
    embedding = run.model.embedding.weight.detach().clone()
    run.sparsifier.after_step(run.clock)
    for weight in run.topology:
        small = values[weight.name].abs() <= 0.02
        assert 0.1 < small.float().mean() < 0.9
        assert torch.equal(weight.parameter, values[weight.name].masked_fill(small, 0.0))
    assert torch.equal(run.model.embedding.weight, embedding), "it is part of no structure"


def remove(run, layer: int, unit: int) -> None:
    """Set all entries of a structure to zero."""
    weights = run.sparsifier._weights
    structures = run.topology.structures[layer]
    keep = torch.arange(structures.width) != unit
    with torch.no_grad():
        for name, kept in spread(structures, keep, weights):
            weights[name].mul_(kept)


def left(run) -> list[float]:
    """Structures left, by layer."""
    return [n for key, n in run.sparsifier.facts(run.clock).items() if key.startswith("structures/")]


def test_structures_go_for_good_at_the_end_of_an_epoch(training):
    """Three steps an epoch: a unit that is zero before the second step is switched off after the third, before the
    validation. hidden=8: 8 rows of 4 gates in two weights, 32 rows of two columns, less 4 entries in both."""
    run = training("recipe=iss_stacked_lstm", "sparsifier.group_lasso=0", "optimizer.lr=1e-9")
    assert next(w.name for w in run.topology) == "lstm.weight_ih_l0"
    assert (run.sparsifier.at_target, run.sparsifier.sparsity, left(run)) == (True, 0.0, [8, 8])
    reports = []
    for step in range(6):
        if step == 1:
            remove(run, layer=0, unit=5)
        run.backward()
        reports.append(run.step())
        assert run.sparsifier.sparsity == 1 - run.topology.active / run.topology.size
    assert [report is not None for report in reports] == [False, False, True, False, False, True]
    assert run.end_of_epoch() is None
    entries = 32 + 32 + 32 - 4 + 32
    assert (reports[2].removed, reports[2].grown, reports[5].removed) == (entries, 0, 0)
    assert reports[2].active == run.topology.size - entries
    assert left(run) == [7, 8]
    run.optimizer.param_groups[0]["lr"] = 1.0
    for _ in range(3):
        run.backward()
        run.step()
    assert left(run) == [7, 8]
    assert run.sparsifier.final_sparsity == pytest.approx(entries / run.topology.size)
    assert not run.topology["lstm.weight_hh_l0"].parameter[5::8].any()


def test_an_interval_in_steps(training):
    run = training("recipe=iss_stacked_lstm", "sparsifier.update_interval=2")
    reports = []
    for _ in range(6):
        run.backward()
        reports.append(run.step() is not None)
    assert reports == [False, True, False, True, False, True]


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "momentum_sgd", "snt_asgd"])
def test_other_optimizers_forget_what_is_removed(training, optimizer):
    run = training("sparsifier=iss", f"optimizer={optimizer}")
    if isinstance(run.optimizer, AveragedSGD):
        run.optimizer.start_averaging()
    for step in range(3):
        run.backward()
        if step == 2:
            run.move()
            remove(run, layer=1, unit=0)
            run.sparsifier.after_step(run.clock)
        else:
            run.step()
    for _ in range(2):
        run.backward()
        run.step()
    decoder = run.topology["decoder.weight"]
    assert not decoder.mask[:, 0].any()
    assert not decoder.parameter[:, 0].any()
    for value in run.optimizer.state[decoder.parameter].values():
        assert value is None or value.dim() == 0 or not value[:, 0].any()
    if isinstance(run.optimizer, AveragedSGD):
        of_decoder = [p is decoder.parameter for p in run.optimizer.parameters].index(True)
        total = run.optimizer._averages[of_decoder].total
        assert not total[:, 0].any()
        assert total[:, 1].all()


SETTINGS = ("recipe=iss_stacked_lstm", "sparsifier.group_lasso=0.005", "sparsifier.threshold=0.001")


def learnable(training, *overrides: str):
    """A run with a large penalty on a text whose words have one successor each."""
    run = training(*SETTINGS, *overrides, epochs=41)
    run.data = torch.arange(7)[:, None] + torch.arange(4).expand(41 * run.batches, 7, 4)
    return run


def train(run, steps: int) -> list[float]:
    """Train so many steps, the learning rate a tenth after each 40; the structures left after each step."""
    counts = []
    for _ in range(steps):
        run.optimizer.param_groups[0]["lr"] = 8 * 0.1 ** (run.step_count // 40)
        run.backward()
        run.step()
        assert all(not w.parameter[~w.mask].any() for w in run.topology)
        counts.append(sum(left(run)))
    return counts


@pytest.mark.parametrize("protocol", ["paper", "official_code"])
def test_a_large_penalty_removes_structures_and_the_rest_still_learns(training, protocol):
    run = learnable(training, f"protocol={protocol}")
    before = run.loss(run.model).item()
    counts = train(run, 120)
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 16 > counts[-1] > 2
    assert run.loss(run.model).item() < 0.7 * before


def test_a_restored_run_goes_on_alike(training):
    first, second = (learnable(training) for _ in range(2))
    assert 0 < train(first, 70)[-1] < 16
    second.step_count = first.step_count
    second.model.load_state_dict(first.model.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.sparsifier.load_state_dict(first.sparsifier.state_dict())
    assert train(first, 50) == train(second, 50)
    assert all(
        torch.equal(*pair) for pair in zip(*(r.model.state_dict().values() for r in (first, second)), strict=True)
    )
    assert [w.mask.tolist() for w in first.topology] == [w.mask.tolist() for w in second.topology]
    assert first.sparsifier.sparsity == second.sparsifier.sparsity > 0
