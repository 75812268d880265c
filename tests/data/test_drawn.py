"""dataset=adding and copying: what is drawn, from which seed, and what those achieve that remember nothing."""

import math

import pytest
import torch

from sparse_rnn.config.compose import compose_run
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.random import generator
from sparse_rnn.data.batches import Fresh, InOrder
from sparse_rnn.data.sequences.drawn import Adding, Copying, DrawnSplit, Problem

SMALL = {"train": 7, "valid": 5, "test": 4}
PROBLEMS = [Adding(length=9, **SMALL), Copying(length=3, **SMALL)]
EACH = pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)


def same(one: DrawnSplit, other: DrawnSplit) -> bool:
    return one.inputs.equal(other.inputs) and one.targets.equal(other.targets)


def test_the_sum_of_two_marked_numbers_is_the_target() -> None:
    drawn = Adding(length=9).draw(400, generator("test"))
    numbers, marks = drawn.inputs.unbind(-1)
    assert drawn.inputs.shape == (9, 400, 2)
    assert ((numbers >= 0) & (numbers < 1)).all()
    assert marks[:4].sum(0).eq(1).all()
    assert marks[4:].sum(0).eq(1).all()
    assert set(marks.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close((numbers * marks).sum(0), drawn.targets)
    assert marks.sum(1).min() > 50, "every place of a half is marked now and then"


def test_always_answering_1_has_the_known_error() -> None:
    targets = Adding(length=20).draw(50_000, generator("test")).targets
    assert float((targets - 1).square().mean()) == pytest.approx(1 / 6, rel=0.02)


def test_symbols_come_back_after_the_delimiter() -> None:
    drawn = Copying(length=3).draw(300, generator("test"))
    assert drawn.inputs.shape == drawn.targets.shape == (23, 300)
    assert drawn.inputs[:10].equal(drawn.targets[-10:])
    assert set(drawn.inputs[:10].unique().tolist()) == set(range(8))
    assert drawn.inputs[10:12].eq(8).all()
    assert drawn.inputs[12].eq(9).all()
    assert drawn.inputs[13:].eq(8).all()
    assert drawn.targets[:13].eq(8).all()


@pytest.mark.parametrize("length", [3, 100])
def test_the_best_answers_without_memory_have_the_known_loss(length: int) -> None:
    """Blanks as long as nothing else can be right, then each symbol with the probability 1/8."""
    problem = Copying(length=length)
    probabilities = torch.zeros(problem.steps, 10)
    probabilities[:-10, 8] = 1
    probabilities[-10:, :8] = 1 / 8
    targets = problem.draw(20, generator("test")).targets
    loss = -probabilities.gather(1, targets).log().mean()
    assert float(loss) == pytest.approx(problem.without_memory) == pytest.approx(10 * math.log(8) / (length + 20))


@EACH
def test_held_out_sequences_are_the_same_in_all_runs(problem: Problem) -> None:
    one, other = problem.load(), problem.load()
    assert one.sha256 == other.sha256
    for split, count in (("valid", 5), ("test", 4)):
        assert same(one.splits[split], other.splits[split])
        assert one.splits[split].inputs.shape[:2] == (problem.steps, count)
    assert not one.splits["valid"].first(4).targets.equal(one.splits["test"].targets)
    assert one.counts == SMALL
    longer = type(problem)(length=problem.length + 1, **SMALL)
    assert longer.load().sha256 != one.sha256


@EACH
def test_training_never_repeats_and_begins_anywhere(problem: Problem) -> None:
    data, cpu = problem.load(), torch.device("cpu")
    first = list(Fresh(data, 3, cpu, (1, "train", 0)).after(0))
    assert [batch.targets.shape[-1] for batch in first] == [3, 3, 1]
    assert [batch.index for batch in first] == [0, 1, 2]
    later = list(Fresh(data, 3, cpu, (1, "train", 0)).after(1))
    for batch, again in zip(first[1:], later, strict=True):
        assert batch.inputs.equal(again.inputs)
        assert batch.targets.equal(again.targets)
    others = [(1, "train", 1), (2, "train", 0)]
    draws = [first[0].inputs, first[1].inputs, *(next(Fresh(data, 3, cpu, key).after(0)).inputs for key in others)]
    assert len({tuple(draw.flatten().tolist()) for draw in draws}) == 4


@EACH
def test_a_split_is_read_in_order(problem: Problem) -> None:
    split = problem.load().splits["valid"]
    batches = list(InOrder(split, 2).after(0))
    assert torch.cat([batch.inputs for batch in batches], dim=1).equal(split.inputs)
    assert torch.cat([batch.targets for batch in batches], dim=-1).equal(split.targets)
    assert [batch.index for batch in InOrder(split, 2).after(1)] == [1, 2]


@EACH
def test_budgets_leave_whole_sequences(problem: Problem) -> None:
    cut = problem.load().limited(2 * problem.steps + 1, 1)
    assert cut.counts == {"train": 2, "valid": 1, "test": 1}
    assert problem.train_tokens(2 * problem.steps + 1) == 2 * problem.steps
    assert problem.train_tokens(None) == 7 * problem.steps
    assert cut.sha256 == problem.load().sha256


def test_they_need_no_files_and_say_how_long_they_are() -> None:
    adding = compose_run(["model=lstm_classifier", "dataset=adding", "dataset.length=750"]).dataset
    assert (adding.sizes(), adding.steps) == ((2, 1), 750)
    copying = compose_run(["model=stacked_lstm", "optimizer=adam", "dataset=copying", "dataset.length=500"]).dataset
    assert (copying.sizes(), copying.steps) == ((10,), 520)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("length=1", r"dataset\.length=1 must be at least 2\."),
        ("train=0", r"dataset\.train=0 must be at least 1\."),
        ("valid=0", r"dataset\.valid=0 must be at least 1\."),
        ("test=100000000", r"dataset\.test=100000000 must be at most 10,000,000\."),
    ],
)
def test_settings_out_of_range_are_refused(override: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"^{sentence}$"):
        compose_run(["model=lstm_classifier", "dataset=adding", f"dataset.{override}"])


@pytest.mark.parametrize(("dataset", "model"), [("adding", "stacked_lstm"), ("copying", "lstm_classifier")])
def test_a_model_of_the_other_kind_is_refused(dataset: str, model: str) -> None:
    with pytest.raises(ConfigError, match=rf"^model={model} is for .* and dataset={dataset} for .*: choose model="):
        compose_run([f"model={model}", "optimizer=adam", f"dataset={dataset}"])


def test_windows_mean_nothing_for_sequences() -> None:
    with pytest.raises(ConfigError, match=r"^training\.variable_bptt means nothing for sequence_labelling: leave"):
        compose_run(["optimizer=adam", "dataset=copying", "training.variable_bptt=true"])
