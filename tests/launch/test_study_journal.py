"""A study in its journal: what it proposes, prunes and finds, by one process or by several after one another."""

import math

import pytest

pytest.importorskip("optuna", reason="the extra `tune` brings it")

from launch.search_space import parse_space
from launch.study_journal import TRIALS_BEFORE_PRUNING, StudyJournal
from sparse_rnn.core.errors import ConfigError

SPACE = parse_space(["optimizer.lr=log(1,40) sparsifier=choice(set,rigl) model.layers=int(1,3)"])


@pytest.fixture
def journal(tmp_path):
    def open_journal(space=SPACE, overrides=(), *, more_is_better=False, warm_up=1):
        return StudyJournal(tmp_path / "study", space, list(overrides), more_is_better=more_is_better, warm_up=warm_up)

    return open_journal


def complete(study: StudyJournal, value: float) -> int:
    """Ask for a trial whose value is the same in three epochs, and complete it."""
    number = study.ask()
    study.report(number, dict.fromkeys((1, 2, 3), value))
    study.tell(number, "complete", value)
    return number


def test_a_study_that_is_opened_again_proposes_what_it_would_have_proposed(journal, tmp_path):
    undisturbed = StudyJournal(tmp_path / "other", SPACE, [], more_is_better=False, warm_up=1)
    for value in range(12):  # the first ten are random, the others learn from them
        complete(journal(), float(value))
        complete(undisturbed, float(value))
    both = [[study.parameters(number) for number in range(12)] for study in (journal(), undisturbed)]
    assert both[0] == both[1]
    assert len({repr(parameters) for parameters in both[0]}) > 8


def test_a_trial_worse_than_the_median_ends_early_but_not_in_the_warm_up(journal):
    study = journal(warm_up=1)
    for value in (10.0, 20.0, 30.0, 40.0):
        complete(study, value)
    assert TRIALS_BEFORE_PRUNING == 4
    number = study.ask()
    assert not study.report(number, {1: 99.0})  # of the warm-up
    assert not study.report(number, {1: 99.0, 2: 24.9})  # the median is 25
    assert study.report(study.ask(), {1: 1.0, 2: 25.1}) is False  # by its best epoch, which is the first
    assert study.report(study.ask(), {1: 99.0, 2: 25.1})


def test_of_accuracy_more_is_better(journal):
    study = journal(more_is_better=True)
    for value in (0.6, 0.7, 0.8, 0.9):
        complete(study, value)
    assert study.report(study.ask(), {1: 0.1, 2: 0.74})
    assert not study.report(study.ask(), {1: 0.1, 2: 0.76})


def test_a_run_that_diverged_counts_as_worst_and_has_no_value(journal):
    study = journal()
    numbers = [complete(study, value) for value in (10.0, 11.0, 12.0, 13.0, math.nan, math.inf)]
    assert [study.value(number) for number in numbers] == [10.0, 11.0, 12.0, 13.0, None, None]
    assert {study.state(number) for number in numbers} == {"complete"}
    assert study.report(study.ask(), {1: math.nan, 2: math.nan})


def test_states_and_epochs(journal):
    study = journal()
    pruned, failed, running = (study.ask() for _ in range(3))
    study.report(pruned, {1: 5.0, 2: 4.0})
    study.tell(pruned, "pruned")
    study.tell(failed, "failed")
    assert [study.state(number) for number in (pruned, failed, running)] == ["pruned", "failed", "running"]
    assert study.running() == [running]
    assert (study.value(pruned), study.epochs(pruned)) == (4.0, 2)
    assert study.value(failed) is None
    assert study.report(running, {}) is False


def test_importance_finds_the_key_that_decides(journal):
    study = journal()
    assert study.importance() == {}
    for _ in range(12):
        number = study.ask()
        study.tell(number, "complete", float(study.parameters(number)["optimizer.lr"]))
    importance = study.importance()
    assert sum(importance.values()) == pytest.approx(1)
    assert max(importance, key=importance.__getitem__) == "optimizer.lr"


@pytest.mark.parametrize(
    ("space", "overrides", "said"),
    [("optimizer.lr=log(1,30)", [], "other ranges"), ("optimizer.lr=log(1,40)", ["seed=2"], "other overrides")],
)
def test_a_study_of_something_else_is_not_gone_on_with(journal, space, overrides, said):
    complete(journal(parse_space(["optimizer.lr=log(1,40)"])), 1.0)
    with pytest.raises(ConfigError, match=said):
        journal(parse_space([space]), overrides)
