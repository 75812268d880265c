"""Numbers that no machine can do with, and names that are not settings: refused at once, in one sentence."""

import pytest

from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.composer import Composer
from sparse_rnn.config.identity import as_dict
from sparse_rnn.core.bounds import LARGEST_SEED, MOST_THREADS
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.runs.description import describe
from sparse_rnn.runs.flops import MOST_UPDATES
from sparse_rnn.training.assembly import check_method

EMBEDDED = ["dataset=pydoc", "budget=smoke"]
BASES = (
    EMBEDDED,
    ["model=rhn", "sparsifier=snfs", "optimizer=adam", *EMBEDDED],
    ["model=awd_lstm_mos", "sparsifier=gmp", "optimizer=momentum_sgd", *EMBEDDED],
    ["model=on_lstm", "sparsifier=iss", *EMBEDDED],
    ["model=lstm_classifier", "dataset=pydoc_topics", "budget=smoke"],
)
COMPOSER = Composer()


def refused(overrides: list[str]) -> str:
    """The sentence that refuses them."""
    with pytest.raises(ConfigError) as caught:
        COMPOSER.compose(overrides)
    return str(caught.value)


def numbers(config, prefix=""):
    for key, value in config.items():
        if isinstance(value, dict):
            yield from numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield prefix + key, value


def test_every_number_is_refused_where_it_is_none_or_more_than_a_machine_can_do():
    """Whatever a whole number counts, 10^19 is too many; no real number is infinite, nor beyond a float32."""
    wrong = {float: ("1e38", "-inf", "nan"), int: ("9999999999999999999", "-9")}
    cases = {key: (base, wrong[type(n)]) for base in BASES for key, n in numbers(as_dict(COMPOSER.compose(base)))}
    assert len(cases) > 50
    for key, (base, texts) in cases.items():
        for text in texts:
            sentence = refused([*base, f"{key}={text}"])
            assert sentence.endswith(".")
            assert "\n" not in sentence
            assert key.rpartition(".")[2] in sentence


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("threads=100000", f"threads=100000 must be at most {MOST_THREADS:,}."),
        ("threads=99999999999999999999", f"threads=99999999999999999999 must be at most {MOST_THREADS:,}."),
        ("threads=-1", "threads=-1 must be at least 1."),
        ("seed=99999999999999999999999", f"must be at most {LARGEST_SEED:,}."),
        ("init_seed=9223372036854775808", f"must be at most {LARGEST_SEED:,}."),
        ("model.hidden=99999999999", "model.hidden=99999999999 must be at most 1,000,000."),
        ("model.layers=100000000", "model.layers=100000000 must be at most 1,000."),
        ("model.init_range=1e308", "model.init_range=1e+308 must lie between -1e+37 and 1e+37."),
        ("optimizer.weight_decay=nan", "optimizer.weight_decay=nan must be a finite number."),
        ("optimizer.restarts=[3,-1]", "optimizer.restarts=-1 must be at least 1."),
        ("training.epochs=2000000000", "training.epochs=2000000000 must be at most 1,000,000."),
        ("budget.train_tokens=-5", "budget.train_tokens=-5 must be at least 2."),
        ("budget.eval_tokens=1", "budget.eval_tokens=1 must be at least 2."),
        ("budget.average_by=0", "average_by=0.0 must lie in (0, 1]."),
        ("checkpoint.every_minutes=inf", "checkpoint.every_minutes=inf must be a finite number."),
        ("logger.every=99999999999", "logger.every=99999999999 must be at most 1,000,000,000."),
        ("sparsifier.update_interval=99999999999", "must be epoch or a number of steps."),
        ("sparsifier.update_interval='٣'", "must be epoch or a number of steps."),
        ("device=cuda:99999999999", "device=cuda:99999999999 must be auto, cpu, cuda or cuda:N."),
        ("seed=true", "seed: Value 'True' of type 'bool' could not be converted to Integer."),
        ("seed=[1]", "seed: Value '[1]' of type 'list' could not be converted to Integer."),
        ("=5", "=5 has no key: write key=value."),
        ("+=5", "+=5 has no key: write key=value."),
        ("@=5", "@=5 has no key: write key=value."),
        ("dataset.name=kjv", "dataset.name=kjv gives another name to what is chosen by dataset=NAME: leave it out."),
        ("++model.name=x", "++model.name=x gives another name to what is chosen by model=NAME: leave it out."),
        ("sparsifier.name=../x", "sparsifier.name=../x gives another name to what is chosen by sparsifier=NAME"),
        ("dataset={name: kjv}", "dataset.name=kjv is not the name of dataset=pydoc: leave it out."),
        ("sparsifier={name: a/b}", "sparsifier.name=a/b must be one word"),
        ("model." * 200 + "x=1", "... is not a key of the configuration."),
    ],
)
def test_sentences(override, sentence):
    assert sentence in refused([*EMBEDDED, override])


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["optimizer=adam", "optimizer.beta1=1"], "optimizer.beta1=1.0 must lie in [0, 1)."),
        (["optimizer=adam", "optimizer.beta2=-0.5"], "optimizer.beta2=-0.5 must lie in [0, 1)."),
        (["optimizer=adam", "optimizer.epsilon=0"], "optimizer.epsilon=0.0 must be greater than 0."),
        (["optimizer=adam", "optimizer.plateau_patience=-1"], "optimizer.plateau_patience=-1 must be at least 0."),
        (["optimizer=momentum_sgd", "optimizer.momentum=1.5"], "optimizer.momentum=1.5 must lie in [0, 1)."),
        (["model=rhn", "model.depth=100000000"], "model.depth=100000000 must be at most 1,000."),
        (["model=rhn", "model.transform_bias=nan"], "model.transform_bias=nan must be a finite number."),
        (["model=awd_lstm_mos", "model.experts=5000"], "model.experts=5000 must be at most 1,000."),
    ],
)
def test_sentences_of_components(overrides, sentence):
    assert refused([*EMBEDDED, *overrides]) == sentence


def test_the_largest_of_everything_is_described():
    """What is just allowed takes no machine down: the model is built without memory."""
    overrides = [*EMBEDDED, "model=rhn", f"seed={LARGEST_SEED}", f"threads={MOST_THREADS}", "training.epochs=1000000"]
    check_method(compose_run([*overrides, "model.hidden=1000000"]))  # not by the composer above alone
    assert describe([*overrides, "model.depth=100"])["parameters"] > 1e4


def test_pruning_at_every_one_of_very_many_steps_is_averaged_at_once():
    """The mean over all intervals approaches the integral: 2^40 of them need not be visited."""
    few = describe(["sparsifier=gmp", "training.epochs=3", "sparsifier.update_interval=1"])
    many = describe(["sparsifier=gmp", "training.epochs=1000000", "training.batch=1", "sparsifier.update_interval=1"])
    assert MOST_UPDATES >= 1_000
    assert many["flops_train_ratio"] == pytest.approx(few["flops_train_ratio"], rel=1e-3)
