"""ISS at work: the penalty's gradient, the threshold, the removal of structures."""

import math

import pytest
import torch

from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import as_dict
from sparse_rnn.config.stored import run_from_dict
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.models.rhn import RHNConfig
from sparse_rnn.models.stacked_lstm import StackedLSTMConfig
from sparse_rnn.optim.averaged_sgd import AveragedSGD
from sparse_rnn.sparsity.iss.penalty import ISSConfig, add_group_lasso_gradient, group_lasso
from sparse_rnn.sparsity.iss.structures import find_structures
from sparse_rnn.training.assembly import check_method

CONFIGS = [StackedLSTMConfig(hidden=5, layers=3), RHNConfig(hidden=5, depth=3)]


def weights_of(config):
    torch.manual_seed(0)
    model = config.build(7).double()
    return {name: p for name, p in model.named_parameters() if p.dim() > 1}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_the_gradient_is_that_of_autograd(config):
    weights = weights_of(config)
    layers = find_structures(weights)
    with torch.no_grad():  # a structure that is all zero has no direction
        for layer in layers:
            for name, kept in layer.spread(torch.arange(5) != 2, weights):
                weights[name] *= kept
    for weight in weights.values():
        weight.grad = torch.full_like(weight, 0.25)
    add_group_lasso_gradient(layers, weights, 0.5)
    inside = {name for layer in layers for name in (*layer.rows, *layer.columns)}
    gradients = torch.autograd.grad(0.5 * group_lasso(layers, weights), [weights[name] for name in inside])
    for name, gradient in zip(inside, gradients, strict=True):
        torch.testing.assert_close(weights[name].grad, gradient + 0.25)
        assert gradient.abs().max() > 0.01


def test_the_penalty_by_hand():
    """Two units, one layer, seven words: squares of 8 + 32 + 32 + 7 * 9 each; then the root of 1e-8 alone."""
    weights = weights_of(StackedLSTMConfig(hidden=2, layers=1))
    with torch.no_grad():
        weights["lstm.weight_ih_l0"].fill_(1)
        weights["lstm.weight_hh_l0"].fill_(2)
        weights["decoder.weight"].fill_(3)
    layers = find_structures(weights)
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
    norms = [layer.squares(run.sparsifier._weights).add(1e-8).sqrt() for layer in run.sparsifier.layers]
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
    keep = torch.arange(run.sparsifier.layers[layer].width) != unit
    with torch.no_grad():
        for name, kept in run.sparsifier.layers[layer].spread(keep, weights):
            weights[name].mul_(kept)


def left(run) -> list[float]:
    """Structures left, by layer."""
    return [n for key, n in run.sparsifier.facts(run.clock).items() if key.startswith("structures/")]


def test_structures_go_for_good_at_the_end_of_an_epoch(training):
    """Three steps an epoch: a unit that is zero before the second step is switched off behind the third, before the
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


@pytest.mark.parametrize("optimizer", ["adam", "momentum_sgd", "snt_asgd"])
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


def test_what_is_kept_dense():
    """The embedding of the stacked LSTM is in no structure (facts A.6), the RHN's tied one is."""
    for model, dense in (("stacked_lstm", ["embedding.weight"]), ("rhn", [])):
        run = compose_run(["sparsifier=iss", f"model={model}", "budget=smoke"])
        check_method(run)
        assert run.sparsifier.dense_weights(run.model.build(9)) == dense


def test_recipes_are_those_of_the_authors():
    """facts A.2 and B.8; what they give for a loss summed over 35 steps is per token here."""
    lstm = compose_run(["recipe=iss_stacked_lstm"])
    assert (35 * lstm.sparsifier.group_lasso, lstm.sparsifier.threshold) == (pytest.approx(0.00245), 1e-4)
    assert (lstm.model.name, lstm.model.hidden) == ("stacked_lstm", 1500)
    assert (lstm.model.dropout, lstm.model.init_range) == (0.4, 0.04)
    assert (lstm.optimizer.name, lstm.optimizer.lr, lstm.training.epochs, lstm.training.bptt) == ("sgd", 35, 55, 35)
    assert lstm.training.clip == pytest.approx(10 / 35, rel=1e-3)
    rhn = compose_run(["recipe=iss_rhn"])
    assert (rhn.model.name, rhn.model.hidden, rhn.model.depth, rhn.model.transform_bias) == ("rhn", 830, 10, -2)
    dropouts = (rhn.model.dropout_word, rhn.model.dropout_input, rhn.model.dropout_hidden, rhn.model.dropout_output)
    assert dropouts == pytest.approx([0.6 * p for p in (0.25, 0.75, 0.25, 0.75)])
    assert (35 * rhn.sparsifier.group_lasso, rhn.sparsifier.threshold) == pytest.approx((0.005, 4e-4), rel=1e-3)
    assert (rhn.optimizer.lr, 35 * rhn.optimizer.weight_decay) == pytest.approx((0.2 * 35, 1e-7), rel=1e-3)
    for run in (lstm, rhn):
        assert run_from_dict(as_dict(run)) == run


@pytest.mark.parametrize("recipe", ["iss_stacked_lstm", "iss_rhn"])
def test_all_parameters_start_in_the_recipe_s_range(recipe):
    """facts A.2: U(+-.04), and -2 for the RHN's transform gates."""
    model = compose_run([f"recipe={recipe}", "model.hidden=40"]).model.build(50)
    for name, parameter in model.named_parameters():
        if recipe == "iss_rhn" and "highway" in name and "bias" in name:
            parameter, transform = parameter.chunk(2)
            assert torch.equal(transform, torch.full((40,), 0.0 if "input" in name else -2.0))
        assert 0.03 < parameter.max() <= 0.04, name
        assert -0.04 <= parameter.min() < -0.03, name


@pytest.mark.parametrize("config", [StackedLSTMConfig, RHNConfig])
def test_a_range_must_be_positive(config):
    with pytest.raises(ConfigError, match=r"^model\.init_range=0 must be greater than 0\.$"):
        config(init_range=0)


def learning_rates(recipe: str, epochs: list[int]) -> list[float]:
    """The learning rate of given epochs (from 0), relative to the first."""
    run = compose_run([f"recipe={recipe}"])
    optimizer = run.optimizer.build([torch.nn.Parameter(torch.zeros(1))], run.protocol)
    schedule, rates = run.optimizer.schedule(optimizer, run.training.epochs), []
    for epoch in range(run.training.epochs):
        rates.append(optimizer.param_groups[0]["lr"] / run.optimizer.lr)
        schedule.step(1.0, epoch + 1)
    return [rates[epoch] for epoch in epochs]


def test_learning_rates_of_the_recipes():
    """.1^(i // 18), and 1.02^-max(i - 19, 0), i from 0."""
    found = learning_rates("iss_stacked_lstm", [0, 17, 18, 35, 36, 53, 54])
    assert found == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01, 0.001])
    found = learning_rates("iss_rhn", [0, 19, 20, 21, 149])
    assert found == pytest.approx([1, 1, 1.02**-1, 1.02**-2, 1.02**-130])


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"sparsity": 0.5}, "leave sparsifier.sparsity out"),
        ({"initial": "er"}, "leave sparsifier.initial out"),
        ({"removal": "magnitude"}, "leave sparsifier.removal out"),
        ({"update_until": 0.5}, "leave sparsifier.update_until out"),
        ({"group_lasso": -1.0}, "sparsifier.group_lasso=-1.0"),
        ({"threshold": -1.0}, "sparsifier.threshold=-1.0"),
        ({"group_lasso": math.nan}, "sparsifier.group_lasso=nan"),
        ({"update_interval": "0"}, "update_interval"),
    ],
)
def test_settings_that_mean_nothing_are_refused_in_one_sentence(settings, complaint):
    with pytest.raises(ConfigError, match=complaint) as refused:
        ISSConfig(**settings)
    assert str(refused.value).endswith(".")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["sparsifier.keep_dense=[decoder.weight]"], "leave sparsifier.keep_dense out"),
        (["model=lstm_classifier"], "knows the structures of model=stacked_lstm and model=rhn only"),
        (["model=awd_lstm_mos"], "knows the structures of model=stacked_lstm and model=rhn only"),
    ],
)
def test_a_model_is_refused_before_what_its_recipe_keeps_dense(overrides, complaint):
    with pytest.raises(ConfigError, match=complaint):
        check_method(compose_run(["sparsifier=iss", *overrides]))
