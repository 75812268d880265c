"""The papers' hyperparameters; every recipe composes, and some train."""

import json
import math

import pytest

from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import run_id
from sparse_rnn.core.conf import config_dir
from sparse_rnn.core.registry import choices, lookup
from sparse_rnn.runs.folder import runs_root
from sparse_rnn.training.session import train

RECIPES = sorted(path.stem for path in (config_dir() / "recipe").glob("*.yaml") if path.stem != "none")
SMOKE = ["dataset=pydoc", "budget=smoke", "logger=files", "threads=1"]
ST_RNN_TABLE_2 = ["snfs", "rigl", "set", "st_rnn", "dense"]


def overrides_of(recipe: str) -> list[str]:
    """What a recipe is for: the model and optimizer of its name unless it chooses them itself, and a dataset."""
    pairs = [(m, o) for m in choices("model") for o in choices("optimizer") if f"{m}_{o}" == recipe]
    if not pairs:
        return [f"recipe={recipe}", "dataset=pydoc"]
    model, optimizer = pairs[0]
    return [f"model={model}", f"optimizer={optimizer}", f"dataset={dataset_for(model)}"]


def dataset_for(model: str) -> str:
    """A dataset of the model's task, with a tuning for the model if there is one."""
    task = lookup("model", model).task
    if task == "language_modelling":
        return "pydoc"
    known = [name for name in choices("dataset") if getattr(lookup("dataset", name), "task", "") == task]
    tuned = [name for name in known if list((config_dir() / "tuning" / model).glob(f"*/{name}.yaml"))]
    return (tuned or known)[0]


@pytest.mark.parametrize("budget", ["paper", "smoke"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_composes(recipe, budget):
    run = compose_run([*overrides_of(recipe), f"budget={budget}"])
    assert run.recipe.name == recipe
    assert run.budget.name == budget
    if run.recipe.sparsity is not None:
        assert run.sparsifier.sparsity == run.recipe.sparsity
        assert run.sparsifier.removal_rate == run.recipe.removal_rate


@pytest.mark.parametrize(
    ("overrides", "rate", "drop", "epochs", "clip", "removal_rate", "sparsity"),
    [
        (["model=stacked_lstm", "optimizer=adam"], 0.001, (1 / 2, 2), 100, 0.25, 0.7, 0.67),
        (["model=stacked_lstm", "optimizer=snt_asgd"], 40, None, 100, 0.25, 0.7, 0.67),
        (["model=stacked_lstm", "optimizer=momentum_sgd"], 2, (1 / 1.33, 1), 100, 0.25, 0.7, 0.67),
        (["model=rhn", "optimizer=adam"], 0.001, (1 / 2, 2), 500, 0.25, 0.5, 0.528),
        (["model=rhn", "optimizer=snt_asgd"], 15, None, 500, 0.25, 0.5, 0.528),
        (["recipe=st_rnn_lstm"], 2, (1 / 1.33, 0), 100, 10, 0.7, 0.67),
        (["recipe=st_rnn_rhn"], 2, (1 / 1.11, 0), 200, 10, 0.5, 0.528),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_hyperparameters_of_the_papers(overrides, rate, drop, epochs, clip, removal_rate, sparsity):
    """Selfish-RNN Table 4; ST-RNN section 4.1, whose removal rates are assumed. drop: factor and patience."""
    run = compose_run(overrides)
    assert (run.optimizer.lr, run.optimizer.weight_decay) == (rate, 1.2e-6)
    if drop is None:
        assert run.optimizer.nonmono == 5
    else:
        assert (run.optimizer.plateau_factor, run.optimizer.plateau_patience) == pytest.approx(drop)
    assert (run.training.epochs, run.training.batch, run.training.bptt, run.training.clip) == (epochs, 20, 35, clip)
    assert (run.sparsifier.removal_rate, run.sparsifier.sparsity) == (removal_rate, sparsity)
    if run.model.name == "rhn":
        names = ("word", "input", "hidden", "output")
        assert [getattr(run.model, f"dropout_{name}") for name in names] == [0.2, 0.65, 0.25, 0.65]
    else:
        assert run.model.dropout == 0.65


@pytest.mark.parametrize(
    ("model", "optimizer", "rate", "restarts"),
    [
        ("on_lstm", "adam", 0.001, None),
        ("on_lstm", "snt_asgd", 30, [500, 1000]),
        ("on_lstm", "nt_asgd", 30, [500, 1000]),
        ("awd_lstm_mos", "adam", 0.001, None),
        ("awd_lstm_mos", "snt_asgd", 15, []),
    ],
)
def test_hyperparameters_of_models_with_variable_windows(model, optimizer, rate, restarts):
    """Selfish-RNN Table 4; facts A.3, A.4 and C."""
    run = compose_run([f"model={model}", f"optimizer={optimizer}"])
    assert (run.optimizer.lr, run.optimizer.weight_decay) == (rate, 1.2e-6)
    if restarts is None:
        assert (run.optimizer.plateau_factor, run.optimizer.plateau_patience) == (0.5, 2)
    else:
        assert (run.optimizer.nonmono, run.optimizer.restarts) == (5, restarts)
    training, batch = run.training, {"on_lstm": 20, "awd_lstm_mos": 15}[model]
    assert (training.epochs, training.batch, training.bptt, training.clip) == (1000, batch, 70, 0.25)
    assert training.variable_bptt
    assert (run.sparsifier.removal_rate, run.sparsifier.sparsity) == (0.5, 0.55)
    dropouts = {"on_lstm": [0.1, 0.5, 0.3, 0.45, 0.45], "awd_lstm_mos": [0.1, 0.55, 0.2, 0.4, 0.5]}[model]
    names = ("dropout_word", "dropout_input", "dropout_hidden", "dropout_output", "drop_connect")
    assert [getattr(run.model, name) for name in names] == dropouts
    assert (run.model.activation_penalty, run.model.temporal_penalty) == (2, 1)


@pytest.mark.parametrize(
    ("recipe", "model", "hidden"), [("st_rnn_lstm", "stacked_lstm", 1500), ("st_rnn_rhn", "rhn", 830)]
)
def test_st_rnn_recipes_choose_network_optimizer_and_method(recipe, model, hidden):
    run = compose_run([f"recipe={recipe}"])
    assert (run.model.name, run.model.hidden, run.optimizer.name) == (model, hidden, "momentum_sgd")
    assert (run.optimizer.momentum, run.sparsifier.name, run.sparsifier.initial) == (0.9, "st_rnn", "er")
    assert "removal_rate" in run.recipe.assumed
    assert compose_run([f"recipe={recipe}", "budget=smoke"]).model.hidden == 16


@pytest.mark.parametrize("recipe", ["st_rnn_lstm", "st_rnn_rhn"])
@pytest.mark.parametrize("method", ST_RNN_TABLE_2)
def test_the_command_line_chooses_the_method(recipe, method):
    """The methods of ST-RNN Table 2, each as it is without the recipe."""
    run = compose_run([f"recipe={recipe}", f"sparsifier={method}"])
    plain = compose_run([f"sparsifier={method}"])
    assert (run.sparsifier.name, run.growth) == (method, plain.growth)
    for key in ("initial", "removal", "redistribution", "scope", "schedule", "update_interval"):
        assert getattr(run.sparsifier, key) == getattr(plain.sparsifier, key)
    assert compose_run([f"sparsifier={method}", f"recipe={recipe}"]) == run


@pytest.mark.parametrize("recipe", ["st_rnn_lstm", "st_rnn_rhn"])
@pytest.mark.parametrize("initial", ["uniform", "er"])
def test_st_rnn_with_and_without_reallocation_across_layers(recipe, initial):
    """ST-RNN Table 7: without it every weight keeps its sparsity, with it the first update already moves some."""
    epochs = {}
    for redistribution in ("none", "layers_momentum"):
        method = [f"sparsifier.initial={initial}", f"sparsifier.redistribution={redistribution}"]
        overrides = [f"recipe={recipe}", *method, *SMOKE]
        run = compose_run(overrides)
        train(run, overrides)
        epochs[redistribution] = sparsities_of(run)
        for epoch in epochs[redistribution]:
            assert epoch["sparsity/model"] == pytest.approx(run.sparsifier.sparsity, abs=1e-4)
    without, reallocated = epochs.values()
    assert len(without) == len(reallocated) == 4
    assert all(epoch == without[0] for epoch in without)
    assert reallocated[0] != without[0]


def sparsities_of(run) -> list[dict[str, float]]:
    """The sparsities that a finished run logged at the ends of its epochs."""
    rows = [{key: value for key, value in row.items() if key.startswith("sparsity/")} for row in rows_of(run)]
    return [row for row in rows if "sparsity/model" in row]


def rows_of(run) -> list[dict]:
    """All that a run logged."""
    return list(map(json.loads, (runs_root() / run_id(run) / "metrics.jsonl").read_text().splitlines()))


def test_rigl_s_own_schedule():
    """Evci et al. 2020: every 100 steps, alpha = .3, T_end at 3/4 of training."""
    run = compose_run(["recipe=rigl_original"])
    method = run.sparsifier
    assert (method.name, run.growth.name, method.initial, method.schedule) == ("rigl", "gradient", "er", "cosine")
    assert (method.update_interval, method.removal_rate, method.update_until) == ("100", 0.3, 0.75)
    assert (run.model.name, run.optimizer.name, run.optimizer.lr) == ("stacked_lstm", "snt_asgd", 40)


def test_rigl_s_own_schedule_at_work():
    """60 steps, an update every 5 of the first 45, where the rate reaches zero."""
    overrides = ["recipe=rigl_original", "sparsifier.update_interval=5", "logger.every=1", *SMOKE]
    run = compose_run(overrides)
    train(run, overrides)
    rates = {row["step"]: row["rate/removal"] for row in rows_of(run) if "rate/removal" in row}
    expected = {step: 0.15 * (1 + math.cos(math.pi * step / 45)) for step in range(5, 46, 5)}
    assert rates == pytest.approx(expected | {60: 0.0})
