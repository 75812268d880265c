"""The two tasks: what they add up, and what their gradients are."""

import math

import pytest
import torch

from sparse_rnn.config.compose import compose_run
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.data.baselines import class_models
from sparse_rnn.data.batches import Shuffled, Windows
from sparse_rnn.data.labelled.texts import LabelledSplit, LabelledTexts
from sparse_rnn.runs.folder import RunFolder
from sparse_rnn.training.assembly import make_task
from sparse_rnn.training.tasks.base import Totals
from sparse_rnn.training.trainer import Trainer

CPU = torch.device("cpu")


def task_of(*overrides):
    """A task with its model in float64 and no dropout, on the embedded data."""
    run = compose_run(["budget=smoke", *overrides])
    data = run.dataset.load().limited(run.budget.train_tokens, run.budget.eval_tokens)
    torch.manual_seed(1)
    return make_task(run, data, run.model.build(*data.sizes).double(), CPU)


def gradients(task):
    return {name: p.grad.clone() for name, p in task.model.named_parameters()}


def test_sub_batches_add_up_to_the_gradient_of_the_whole_batch():
    settings = ["model=stacked_lstm", "model.dropout=0.0", "dataset=pydoc"]
    whole, parts = task_of(*settings), task_of(*settings, "training.sub_batch=3")
    assert [len(h[0][0]) for h in (part for part in parts.initial_hidden())] == [3, 1]
    results = []
    for task in (whole, parts):
        hidden = task.initial_hidden()
        for batch in list(task.batches(0).after(0))[:3]:
            task.model.zero_grad()
            totals, hidden = task.backward(batch, hidden)
        results.append((totals, gradients(task), torch.cat([h[0] for h in hidden], dim=1)))
    (one, first, state), (other, second, again) = results
    assert one.loss == pytest.approx(other.loss)
    assert one.targets == other.targets == one.tokens == other.tokens
    torch.testing.assert_close(state, again)
    for name, gradient in first.items():
        torch.testing.assert_close(second[name], gradient, msg=name)


def test_a_penalty_changes_the_gradient_and_not_the_loss():
    settings = ["model=on_lstm", "dataset=pydoc", *(f"model.{key}=0" for key in ("dropout_word", "dropout_input"))]
    settings += [f"model.{key}=0" for key in ("dropout_hidden", "dropout_output", "drop_connect")]
    plain = task_of(*settings, "model.activation_penalty=0", "model.temporal_penalty=0")
    penal = task_of(*settings)
    batch = next(iter(plain.batches(0).after(0)))
    without, _ = plain.backward(batch, plain.initial_hidden())
    with_, _ = penal.backward(batch, penal.initial_hidden())
    assert without.loss == with_.loss
    before, after = gradients(plain), gradients(penal)
    assert any(not torch.allclose(before[name], after[name]) for name in before)


def test_windows_of_random_length_are_no_longer_than_allowed():
    rows = torch.arange(4000).view(2000, 2)
    free = [len(b.inputs) for b in Windows(rows, 20, variable=True, seed=1).after(0)]
    capped = [len(b.inputs) for b in Windows(rows, 20, variable=True, longest=22, seed=1).after(0)]
    assert max(free[:-1]) > 22 == max(capped[:-1])
    assert sum(capped) == sum(free) == 1999


def texts(train, valid, labels, valid_labels, classes=2, words=6):
    """Labelled texts of given token numbers."""
    splits = {
        "train": LabelledSplit(torch.tensor(train, dtype=torch.int32), torch.tensor(labels)),
        "valid": LabelledSplit(torch.tensor(valid, dtype=torch.int32), torch.tensor(valid_labels)),
    }
    splits["test"] = splits["valid"]
    return LabelledTexts(splits, tuple(map(str, range(classes))), words, words - 1, "")


def test_every_text_is_seen_once_an_epoch_in_a_new_order_that_the_seed_fixes():
    split = texts([[i, i] for i in range(1, 6)], [[1, 1]], [0, 1, 0, 1, 0], [0]).splits["train"]
    orders = []
    for epoch in (0, 0, 1):
        batches = list(Shuffled(split, 2, (1, "order", epoch)).after(0))
        assert [b.inputs.shape for b in batches] == [(2, 2), (2, 2), (2, 1)]
        orders.append([int(t) for b in batches for t in b.inputs[0]])
        assert [int(label) for b in batches for label in b.targets] == [(t - 1) % 2 for t in orders[-1]]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) == [1, 2, 3, 4, 5]
    resumed = list(Shuffled(split, 2, (1, "order", 0)).after(1))
    assert [b.index for b in resumed] == [1, 2]
    assert [int(t) for b in resumed for t in b.inputs[0]] == orders[0][2:]
    assert not list(Shuffled(split, 2, (1, "order", 0)).after(3)), "an epoch that is over"


def test_accuracy_counts_right_answers():
    task = task_of("model=lstm_classifier", "dataset=pydoc_topics")
    with torch.no_grad():
        task.model.decoder.weight.zero_()
        task.model.decoder.bias.copy_(torch.arange(float(len(task.model.decoder.bias))))
    last = len(task.texts.classes) - 1
    share = float((task.texts.splits["test"].labels == last).double().mean())
    result = task.evaluate("test")
    assert result["accuracy"] == pytest.approx(share)
    logits = task.model.decoder.bias.detach()
    expected = (logits.logsumexp(0) - logits[task.texts.splits["test"].labels]).mean()
    assert result["loss"] == pytest.approx(float(expected))


def test_the_better_classifier_is_the_one_with_more_right_answers():
    task = task_of("model=lstm_classifier", "dataset=pydoc_topics")
    best = {"accuracy": 0.5, "loss": 1.0}
    assert task.better({"accuracy": 0.6, "loss": 9.0}, best)
    assert task.better({"accuracy": 0.5, "loss": 0.9}, best)
    assert not task.better({"accuracy": 0.5, "loss": 1.0}, best)
    assert task.metrics(Totals(loss=3.0, correct=1, targets=4)) == {"loss": 0.75, "accuracy": 0.25}


def test_the_snapshot_of_a_classifier_reads_the_first_texts_alone(monkeypatch):
    task = task_of("model=lstm_classifier", "dataset=pydoc_topics")
    length, read, after = task.texts.splits["test"].tokens.shape[1], [], Shuffled.after

    def recorded(self, position):
        for batch in after(self, position):
            read.append(batch)
            yield batch

    monkeypatch.setattr(Shuffled, "after", recorded)
    for tokens, whole in ((2, 1), (3 * length + 5, 3)):
        read.clear()
        [states] = task.snapshot(tokens)
        assert [batch.inputs.shape for batch in read] == [(length, whole)]
        first = task.texts.splits["test"].tokens[:whole].long()
        expected = torch.cat([task.model.layer_states(text[:, None])[0][:, 0] for text in first])
        torch.testing.assert_close(states, expected.half())


def test_naive_bayes_by_hand():
    """Words 1-3 in two texts of class 0 and one of class 1: P(1|0) = 3/9, P(1|1) = 1/7, P(2|0) = 2/9, P(2|1) = 3/7.

    [0, 1]: 2/3 * 3/9 > 1/3 * 1/7, class 0. [2, 2]: 2/3 * 4/81 < 1/3 * 9/49, class 1. [1, 2]: 2/3 * 6/81 > 1/3 * 3/49,
    class 0.
    """
    data = texts([[1, 1], [3, 2], [2, 2]], [[0, 1], [2, 2], [1, 2]], [0, 0, 1], [0, 1, 1])
    majority, bayes = class_models(data)
    assert majority == pytest.approx(1 / 3)
    assert bayes == pytest.approx(2 / 3)


def test_gradients_are_clipped_only_if_asked_for(tmp_path):
    moved = {}
    for clip in ("null", "0.001"):
        overrides = ["dataset=pydoc", "budget=smoke", "sparsifier=dense", "optimizer=momentum_sgd", "optimizer.lr=1"]
        run = compose_run([*overrides, "optimizer.momentum=0", "optimizer.weight_decay=0", f"training.clip={clip}"])
        data = run.dataset.load().limited(run.budget.train_tokens, run.budget.eval_tokens)
        trainer = Trainer(run, data, RunFolder(tmp_path), CPU)
        before = torch.nn.utils.parameters_to_vector(trainer.model.parameters()).detach().clone()
        trainer.batches = trainer.task.batches(0)
        trainer.train_step(next(trainer.batches.after(0)))
        after = torch.nn.utils.parameters_to_vector(trainer.model.parameters()).detach()
        moved[clip] = float((after - before).norm())
    assert moved["0.001"] == pytest.approx(0.001, rel=0.01)
    assert moved["null"] > 0.01


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=rhn", "dataset=imdb"], "model=rhn is for language_modelling and dataset=imdb for text_classification"),
        (
            ["model=lstm_classifier", "dataset=ptb"],
            "choose model=awd_lstm_mos or gru or mamba or .* or stacked_lstm, or",
        ),
        (["training.sub_batch=0"], "training.sub_batch=0 must be at least 1"),
        (["training.clip=0"], "training.clip=0.0 must be greater than 0, or null for none"),
        (["sparsifier=selfish", "sparsifier.epsilon=10"], "needs sparsifier.initial=er or er_gates"),
    ],
)
def test_what_does_not_fit_together_is_refused(overrides, words):
    with pytest.raises(ConfigError, match=words):
        compose_run(overrides)


def test_the_classifier_brings_its_own_data_and_optimizer_unless_told_otherwise():
    run = compose_run(["model=lstm_classifier"])
    assert (run.dataset.name, run.optimizer.name) == ("imdb", "adam")
    assert (run.optimizer.lr, run.training.batch, run.sparsifier.removal_rate) == (0.0005, 256, 0.4)
    assert (run.optimizer.beta1, run.optimizer.epsilon, run.optimizer.plateau_factor) == (0.9, 1e-7, 1.0)
    assert run.training.clip is None
    assert compose_run(["model=lstm_classifier", "dataset=sanders_twitter"]).optimizer.lr == 0.001
    assert math.isclose(compose_run(["model=lstm_classifier", "dataset=ag_news"]).optimizer.lr, 0.01)
