"""ISS as a configuration: what stays dense, the authors' recipes, what is refused."""

import math

import pytest
import torch

from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import as_dict
from sparse_rnn.config.stored import run_from_dict
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.models.rhn import RHNConfig
from sparse_rnn.models.stacked_lstm import StackedLSTMConfig
from sparse_rnn.sparsity.iss.penalty import ISSConfig
from sparse_rnn.training.assembly import check_method


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
        (["model=lstm_classifier"], r"declares structures\(\), as model=stacked_lstm and model=rhn do"),
        (["model=awd_lstm_mos"], r"declares structures\(\), as model=stacked_lstm and model=rhn do"),
    ],
)
def test_a_model_is_refused_before_what_its_recipe_keeps_dense(overrides, complaint):
    with pytest.raises(ConfigError, match=complaint):
        check_method(compose_run(["sparsifier=iss", *overrides]))
