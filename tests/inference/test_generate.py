"""What a trained language model writes."""

import json
import math
import re
import shutil
import sys
from itertools import islice

import pytest
import torch

from sparse_rnn import generate
from sparse_rnn.backends import choice as backend
from sparse_rnn.backends.cpu import compile as compiling
from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import run_id
from sparse_rnn.core.errors import ConfigError, RunFailed
from sparse_rnn.core.random import generator
from sparse_rnn.data.corpus import END_OF_SENTENCE, UNKNOWN, Vocabulary
from sparse_rnn.data.tokenizers import as_text
from sparse_rnn.inference import computing
from sparse_rnn.inference.generate import draw, next_words, unknown_words
from sparse_rnn.models.awd_lstm_mos import AWDLSTMMoSConfig
from sparse_rnn.models.on_lstm import ONLSTMConfig
from sparse_rnn.models.rhn import RHNConfig
from sparse_rnn.models.stacked_lstm import StackedLSTMConfig
from sparse_rnn.runs.folder import RunFolder, read_record, runs_root
from sparse_rnn.training.session import train

SMOKE = ("budget=smoke", "logger=files", "threads=1")
VOCABULARY = 13
CONFIGS = [
    StackedLSTMConfig(hidden=6),
    RHNConfig(hidden=6, depth=3),
    ONLSTMConfig(embedding=4, hidden=6, chunk=2),
    AWDLSTMMoSConfig(embedding=4, hidden=6, last_hidden=5, experts=3),
]
MODELS = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)


def random_model(config):
    """A model with large random weights, in evaluation."""
    torch.manual_seed(1)
    model = config.build(VOCABULARY).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-1, 1)
    return model


@MODELS
@torch.no_grad()
def test_the_probabilities_are_those_of_the_loss(config):
    model = random_model(config)
    tokens, targets = torch.randint(VOCABULARY, (2, 5, 3), generator=torch.Generator().manual_seed(2))
    output, _ = model(tokens, model.initial_hidden(3))
    found = model.log_probabilities(output)
    assert found.shape == (5, 3, VOCABULARY)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(5, 3))
    torch.testing.assert_close(-found.gather(-1, targets[..., None]).mean(), model.loss(output, targets))


@MODELS
@torch.no_grad()
def test_a_word_follows_all_words_so_far(config):
    """Each word is read once, with the hidden state carried: the same as reading the whole text anew."""
    model, text, again = random_model(config), [3, 1, 4], generator("x")
    for word in islice(next_words(model, torch.tensor(text), 1.0, generator("x")), 20):
        output, _ = model(torch.tensor(text)[:, None], model.initial_hidden(1))
        assert word == draw(model.log_probabilities(output)[-1, 0].double(), 1.0, again)
        text.append(word)
    assert len(set(text)) > 3


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_words_are_drawn_as_often_as_they_are_likely(temperature):
    shares, chance = torch.tensor([0.1, 0.6, 0.3]).double(), generator("draws")
    drawn = torch.tensor([draw(shares.log(), temperature, chance) for _ in range(3000)])
    expected = shares ** (1 / temperature)
    found = torch.bincount(drawn, minlength=3).double() / len(drawn)
    torch.testing.assert_close(found, expected / expected.sum(), atol=0.04, rtol=0)


@pytest.mark.parametrize("temperature", [0.0, 5e-324, 1e-9])
def test_a_temperature_near_zero_takes_the_likeliest(temperature):
    assert {draw(torch.tensor([-9.0, -2.0, -2.1]).double(), temperature, generator("x")) for _ in range(20)} == {1}


@pytest.mark.parametrize("temperature", [0.0, 1.0, 1e300])
def test_a_word_that_is_never_drawn(temperature):
    model = random_model(CONFIGS[0])
    free = set(islice(next_words(model, torch.tensor([0]), temperature, generator("x")), 300))
    for never in free:
        words = islice(next_words(model, torch.tensor([0]), temperature, generator("x"), never=never), 300)
        assert never not in set(words)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_probabilities_that_are_not_numbers_end_it(value, temperature):
    model = random_model(CONFIGS[0])
    with torch.no_grad():
        model.decoder.bias[2] = value
    with pytest.raises(RunFailed, match="are not numbers"):
        next(next_words(model, torch.tensor([0]), temperature, generator("x")))


def test_a_sentence_is_a_line():
    assert as_text(["a", "b", END_OF_SENTENCE, "c"]) == "a b\nc"
    assert as_text([END_OF_SENTENCE, END_OF_SENTENCE, "c", END_OF_SENTENCE]) == "\n\nc\n"
    assert as_text([]) == ""


def test_unknown_words_are_named():
    assert unknown_words("a Zebra b Zebra", Vocabulary(["a", "b", UNKNOWN])) == ["Zebra"]
    assert unknown_words("a b", Vocabulary(["a", "b"])) == []
    with pytest.raises(
        ConfigError, match=r"^prompt: Zebra is not a word of the data set, which has no <unk> either\.$"
    ):
        unknown_words("a Zebra b Gnu", Vocabulary(["a", "b"]))


def trained_run(root, *overrides):
    """The folder of a run that is trained in seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSE_RNN_RUNS", str(root))
        chosen = [*overrides, *SMOKE, "training.epochs=1"]
        config = compose_run(chosen)
        train(config, chosen)
        return runs_root() / run_id(config)


@pytest.fixture(scope="module", params=["stacked_lstm", "rhn", "on_lstm", "awd_lstm_mos", "mamba"])
def trained(request, tmp_path_factory):
    """The folder of a run of each language model."""
    return trained_run(tmp_path_factory.mktemp("runs"), f"model={request.param}", "dataset=pydoc")


def text(folder, **arguments):
    """What the command prints on stdout."""
    return generate.generate(**{**generate.DEFAULTS, "run": str(folder), **arguments})


def test_the_sparse_kernels_write_what_the_masked_weights_do(trained, monkeypatch, capsys):
    try:
        compiling.kernels()
    except compiling.KernelsUnavailable as error:
        pytest.skip(str(error))
    capsys.readouterr()
    arguments = {"prompt": "the value of", "words": "40", "threads": "1"}
    text(trained, **arguments)
    assert re.search(r"computed with masked dense weights, which are faster at this size", capsys.readouterr().err)
    monkeypatch.setattr(backend, "LARGE", 1)
    sparse = text(trained, **arguments)
    assert re.fullmatch(r"40 words, \d+ per second, computed with sparse kernels\n", capsys.readouterr().err)

    def missing():
        raise compiling.KernelsUnavailable("There is no C++ compiler.")

    monkeypatch.setattr(computing, "kernels", missing)
    assert text(trained, **arguments) == sparse
    assert re.fullmatch(
        r"40 words, \d+ per second, computed with masked dense weights: There is no C\+\+ compiler\n",
        capsys.readouterr().err,
    )
    words = sparse.replace("\n", f" {END_OF_SENTENCE} ").split()
    assert words[:3] == ["the", "value", "of"]
    assert len(words) == 43
    assert UNKNOWN not in words


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """The folder of a run without masks."""
    return trained_run(tmp_path_factory.mktemp("runs"), "sparsifier=dense", "dataset=pydoc")


def test_the_seed_and_the_temperature_decide(dense, capsys):
    drawn = [text(dense, seed=seed, temperature=t) for seed, t in (("0", "1"), ("0", "1.0"), ("2", "1"))]
    assert drawn[0] == drawn[1] != drawn[2]
    assert text(dense, seed="0", temperature="0") == text(dense, seed="2", temperature="0")
    assert all(
        line.endswith("per second, computed with dense weights") for line in capsys.readouterr().err.splitlines()
    )


def test_text_and_facts_are_apart(dense, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["generate", f"run={dense}", "prompt=the Zebra", "words=5"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # which a command sets for itself
    generate.main()
    shown = capsys.readouterr()
    assert shown.out.startswith("the Zebra ")
    assert shown.err.splitlines()[0] == "Not words of the data set, read as <unk>: Zebra"


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"words": "0"}, "words=0 must be a whole number of at least 1"),
        ({"words": "many"}, "words=many"),
        ({"seed": "-1"}, "seed=-1 must be a whole number of at least 0"),
        ({"temperature": "-1"}, "temperature=-1 must be a number of at least 0"),
        ({"temperature": "warm"}, "temperature=warm"),
        ({"temperature": "nan"}, "temperature=nan"),
        ({"temperature": "inf"}, "temperature=inf"),
        ({"threads": "0"}, "threads=0"),
        ({"run": "nowhere"}, "run=nowhere does not exist"),
    ],
)
def test_wrong_usage_is_one_sentence(wrong, complaint, dense):
    with pytest.raises(ConfigError, match=complaint) as refused:
        text(**{"folder": dense, **wrong})
    assert re.fullmatch(r"[^\n]+\.", str(refused.value))


def test_other_data_damaged_weights_and_classifiers_are_refused(dense, tmp_path):
    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(dense, copy.path)
    copy.best.write_bytes(copy.best.read_bytes()[:100])
    with pytest.raises(ConfigError, match="does not hold the weights of this run"):
        text(copy.path)
    copy.record.write_text(json.dumps(read_record(copy) | {"data_sha256": "0"}))
    with pytest.raises(ConfigError, match="their SHA-256 differs"):
        text(copy.path)
    classifier = trained_run(tmp_path / "runs", "model=lstm_classifier", "dataset=pydoc_topics")
    with pytest.raises(ConfigError, match=r"is a run of model=lstm_classifier: only a language model writes text\.$"):
        text(classifier)
