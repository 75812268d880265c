"""What can be tuned, as a command line says it."""

import pytest

from launch.requests import DEFAULT_TRIALS, parse
from launch.search_space import Parameter, parse_space
from sparse_rnn.core.errors import ConfigError

LR = Parameter("optimizer.lr", "log", ("1", "40"))


def test_one_text_may_have_several_keys():
    assert parse_space(["optimizer.lr=log(1,40) sparsifier.removal_rate=uniform(.3, .9)", "model.layers=int(1,3)"]) == [
        LR,
        Parameter("sparsifier.removal_rate", "uniform", (".3", ".9")),
        Parameter("model.layers", "int", ("1", "3")),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("optimizer.lr=log(0,1)", "must begin above 0"),
        ("optimizer.lr=log(2,1)", "must end above where it begins"),
        ("optimizer.lr=uniform(1,inf)", "must end above where it begins"),
        ("optimizer.lr=log(1)", "two ends"),
        ("optimizer.lr=log(a,b)", "each end must be a number"),
        ("model.layers=int(1,2.5)", "each end must be a whole number"),
        ("sparsifier=choice(set)", "two different choices"),
        ("sparsifier=choice(set,set)", "two different choices"),
        ("optimizer.lr=log(1,2) optimizer.lr=log(1,3)", "tuned twice"),
        ("optimizer.lr=log(1,2) seed=1", "'seed=1' cannot be tuned"),
    ],
)
def test_what_cannot_be_tuned_is_said(text, said):
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        parse_space([text])


@pytest.mark.parametrize(
    ("drawn", "text"), [(18.288332, "18.29"), (1.00001, "1"), (39.99999, "40"), (1.0, "1"), (3.14159e0, "3.142")]
)
def test_a_value_has_four_digits_and_stays_in_its_range(drawn, text):
    assert LR.override(drawn) == f"optimizer.lr={text}"


def test_rounding_does_not_leave_the_range():
    assert Parameter("x", "uniform", ("0.12344", "0.12349")).text(0.123441) == "0.12344"  # 0.1234 lies below


def test_a_request_keeps_ranges_apart_from_overrides():
    request = parse("tune", ["optimizer.lr=log(1,40)", "trials=5", "study=mine", "budget=smoke", "cluster.runs=2"])
    assert request.space == ["optimizer.lr=log(1,40)"]
    assert (request.trials, request.study) == (5, "mine")
    assert (request.overrides, request.cluster) == (["budget=smoke"], ["cluster.runs=2"])
    assert parse("tune", []).trials == DEFAULT_TRIALS


@pytest.mark.parametrize("wrong", ["trials=0", "trials=many", "study=../x", "study=", "--watch"])
def test_a_wrong_request_is_refused(wrong):
    with pytest.raises(ConfigError):
        parse("tune", [wrong])
