"""What sets the runs of a list apart, in words, found from their configurations."""

import pytest

from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.composer import Composer
from sparse_rnn.config.differing import differing, labels, short_names, written
from sparse_rnn.config.identity import as_dict

SMOKE = "dataset=pydoc budget=smoke"


@pytest.fixture(scope="module")
def configs_of():
    """The configurations of command lines."""
    composer = Composer()
    return lambda lines: [as_dict(composer.compose(f"{SMOKE} {line}".split())) for line in lines]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([""], [""]),
        (["seed=1", "seed=2"], ["", ""]),
        (
            [
                "sparsifier.sparsity=0.9 sparsifier.removal_rate=0.5",
                "sparsifier.sparsity=.5 sparsifier.removal_rate=.50",
            ],
            ["sparsity=0.9", "sparsity=0.5"],
        ),
        (
            [f"sparsifier.sparsity={s} sparsifier.removal_rate={r}" for s in (0.5, 0.9) for r in (0.3, 0.5)],
            [f"sparsity={s} removal_rate={r}" for s in (0.5, 0.9) for r in (0.3, 0.5)],
        ),
        # What a choice by name brings with it is not repeated: rules, growth, recipe, learning rate, epochs.
        (["sparsifier=set", "sparsifier=rigl"], ["sparsifier=set", "sparsifier=rigl"]),
        (["optimizer=adam", ""], ["optimizer=adam", "optimizer=snt_asgd"]),
        (["model=rhn", ""], ["model=rhn", "model=stacked_lstm"]),
        # What was set besides the choice is said, whether the choice differs as well or not.
        (
            ["sparsifier=set sparsifier.sparsity=0.5", "sparsifier=rigl sparsifier.sparsity=0.9"],
            ["sparsifier=set sparsity=0.5", "sparsifier=rigl sparsity=0.9"],
        ),
        (["sparsifier=rigl", "sparsifier=rigl growth=random"], ["growth=gradient", "growth=random"]),
        (
            ["sparsifier=rigl", "sparsifier=rigl growth=random", "sparsifier=set"],
            ["sparsifier=rigl growth=gradient", "sparsifier=rigl growth=random", "sparsifier=set growth=random"],
        ),
        (["sparsifier.scope=gate", "sparsifier.scope=cell"], ["scope=gate", "scope=cell"]),
        # A value that is only passed on stands once, under a name that is clear by itself.
        (["budget.average_by=0.5", "budget.average_by=0.75"], ["average_by=0.5", "average_by=0.75"]),
        (["recipe.sparsity=0.5", "recipe.sparsity=0.75"], ["sparsity=0.5", "sparsity=0.75"]),
        (["snapshots.enabled=true", ""], ["snapshots=true", "snapshots=false"]),
        (["training.clip=null", "training.clip=5"], ["clip=null", "clip=5"]),
        (["sparsifier.keep_dense=[a,b]", ""], ["keep_dense=[a,b]", "keep_dense=[]"]),
        (["init_seed=7", "init_seed=8"], ["init_seed=7", "init_seed=8"]),
        # Nothing of the machine.
        (["threads=1 device=cpu", "threads=2 sparsifier.backend=masked"], ["", ""]),
    ],
)
def test_what_differs(configs_of, lines, words):
    assert differing(configs_of(lines)) == words


def test_seeds_stand_apart(configs_of):
    lines = ["sparsifier.sparsity=0.5 seed=1", "sparsifier.sparsity=0.5 seed=2", "sparsifier.sparsity=0.9 seed=1"]
    assert labels(configs_of(lines)) == ["sparsity=0.5, seed 1", "sparsity=0.5, seed 2", "sparsity=0.9, seed 1"]
    assert labels(configs_of(["seed=1", "seed=2"])) == ["seed 1", "seed 2"]
    assert labels([]) == []


def test_what_has_a_column_of_its_own_is_left_out(configs_of):
    lines = ["sparsifier=set sparsifier.sparsity=0.5", "sparsifier=rigl sparsifier.sparsity=0.9"]
    assert differing(configs_of(lines), without=["sparsifier"]) == ["sparsity=0.5", "sparsity=0.9"]


def test_files_of_ones_own_are_told_apart(tmp_path):
    found = []
    for name in ("a", "b"):
        (tmp_path / name).write_text("one two three\n" * 100)
        files = [f"dataset.{split}={tmp_path / name}" for split in ("train", "valid", "test")]
        found.append(as_dict(compose_run(["dataset=text", *files, "budget=smoke"])))
    words = differing(found)
    assert [f"train={tmp_path / name}" in each for name, each in zip("ab", words, strict=True)] == [True, True]


def test_names_are_short_where_they_stay_different():
    keys = ["model.name", "sparsifier.sparsity", "a.epochs", "b.epochs", "snapshots.enabled"]
    assert list(short_names(keys).values()) == ["model", "sparsity", "a.epochs", "b.epochs", "snapshots"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (40.0, "40"),
        (0.1234567891, "0.1234567891"),
        (1e-5, "1e-05"),
        (True, "true"),
        (None, "null"),
        ([1, 2.0], "[1,2]"),
    ],
)
def test_values_are_written_as_overrides(value, text):
    assert written(value) == text
