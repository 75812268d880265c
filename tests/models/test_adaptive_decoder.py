"""The adaptive softmax: its loss, its probabilities and its weights."""

import pytest
import torch

from sparse_rnn.config.compose import compose_run
from sparse_rnn.models.layers.adaptive import AdaptiveDecoder
from sparse_rnn.runs.description import describe
from sparse_rnn.sparsity.method import final_counts, make_topology

WORDS, HIDDEN = 40, 32  # cutoffs 3 and 9


@pytest.fixture
def decoder() -> AdaptiveDecoder:
    return AdaptiveDecoder(HIDDEN, WORDS).double()


@pytest.mark.parametrize("targets", [[0, 2, 3, 8, 9, 39], [0, 1], [39], [5, 4]])
def test_the_loss_is_that_of_the_probabilities(decoder: AdaptiveDecoder, targets: list[int]) -> None:
    x, chosen = torch.randn(len(targets), HIDDEN, dtype=torch.float64), torch.tensor(targets)
    loss = decoder.cross_entropy(x, chosen)
    torch.testing.assert_close(loss.double(), torch.nn.functional.nll_loss(decoder(x), chosen))
    torch.testing.assert_close(loss.double(), torch.nn.AdaptiveLogSoftmaxWithLoss.forward(decoder, x, chosen).loss)
    loss.backward()
    assert all(parameter.grad is not None for parameter in decoder.parameters())


def test_it_gives_log_probabilities(decoder: AdaptiveDecoder) -> None:
    said = decoder(torch.randn(5, 3, HIDDEN, dtype=torch.float64))
    assert said.shape == (5, 3, WORDS)
    torch.testing.assert_close(said.exp().sum(-1), torch.ones(5, 3, dtype=torch.float64))
    torch.testing.assert_close(torch.log_softmax(said, -1), said)


@pytest.mark.parametrize("words", [3, 4, 15, 40, 267_735])
def test_its_clusters_have_all_words(words: int) -> None:
    with torch.device("meta"):
        decoder = AdaptiveDecoder(64, words)
    first, second, last = decoder.cutoffs
    assert 0 < first < second < last == words
    assert (first, second) == (20_080, 60_240) or words < 267_735
    rows = [decoder.head.weight.shape[0], *(tail[1].weight.shape[0] for tail in decoder.tail)]
    assert rows == [first + 2, second - first, words - second]


def test_its_weights_are_counted_exactly() -> None:
    """267,735 words over 256 units: 20,080 words and 2 tails in the head; tails of 64 and 16 units."""
    overrides = ["dataset=wikitext103", "model.decoder=adaptive", "model.hidden=256", "model.layers=1"]
    decoder = 20_082 * 256 + 64 * 256 + 40_160 * 64 + 16 * 256 + 207_495 * 16
    lstm = 2 * 4 * 256 * 256 + 2 * 4 * 256
    described = describe([*overrides, "sparsifier=dense"])
    assert described["parameters"] == 267_735 * 256 + lstm + decoder
    run = compose_run([*overrides, "sparsifier=static_er", "sparsifier.sparsity=0.9"])
    with torch.device("meta"):
        topology = make_topology(run.sparsifier, run.model.build(267_735))
    names = [weight.name for weight in topology if weight.name.startswith("decoder.")]
    assert names == [f"decoder.{name}.weight" for name in ("head", "tail.0.0", "tail.0.1", "tail.1.0", "tail.1.1")]
    assert sum(final_counts(run.sparsifier, topology).values()) == round(topology.size * 0.1)
