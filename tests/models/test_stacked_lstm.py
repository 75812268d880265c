"""The stacked LSTM against the equations of an LSTM, in float64."""

import math

import pytest
import torch
from torch import Tensor, nn

from sparse_rnn.models.base import detach
from sparse_rnn.models.stacked_lstm import StackedLSTM, StackedLSTMConfig

WORDS, HIDDEN, BATCH = 13, 7, 3


def build(**settings) -> StackedLSTM:
    torch.manual_seed(3)
    return StackedLSTMConfig(**({"hidden": HIDDEN, "layers": 2, "dropout": 0.5} | settings)).build(WORDS).double()


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(WORDS, (8, BATCH), generator=torch.Generator().manual_seed(4))


@pytest.fixture
def start() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(5)
    h, c = (torch.randn(2, BATCH, HIDDEN, generator=random, dtype=torch.float64) for _ in range(2))
    return h, c


def plain(model: StackedLSTM, tokens: Tensor, h: Tensor, c: Tensor) -> list[list[Tensor]]:
    """Hidden states of every layer and step, from the equations of an LSTM with gates in the order i, f, g, o."""
    h, c = list(h), list(c)
    states: list[list[Tensor]] = [[] for _ in h]
    for row in tokens:
        x = model.embedding.weight[row]
        for layer in range(len(h)):
            w, r, b, b2 = (
                getattr(model.lstm, f"{k}_l{layer}") for k in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            i, f, g, o = (x @ w.T + h[layer] @ r.T + b + b2).chunk(4, dim=1)
            c[layer] = torch.sigmoid(f) * c[layer] + torch.sigmoid(i) * torch.tanh(g)
            x = h[layer] = torch.sigmoid(o) * torch.tanh(c[layer])
            states[layer].append(x)
    return states


def test_it_is_an_embedding_two_lstms_and_a_decoder(tokens, start):
    model = build().eval()
    output, _ = model(tokens, start)
    torch.testing.assert_close(output, torch.stack(plain(model, tokens, *start)[-1]), rtol=0, atol=1e-12)
    logits = output @ model.decoder.weight.T + model.decoder.bias
    expected = nn.functional.cross_entropy(logits.reshape(-1, WORDS), tokens.reshape(-1))
    torch.testing.assert_close(model.loss(output, tokens), expected)
    assert model.decoder.weight is not model.embedding.weight


@pytest.mark.parametrize("training", [False, True])
def test_layer_states_are_those_of_nn_lstm(tokens, start, training):
    model = build().train(training)
    (first, last), (h, c) = model.layer_states(tokens, start)
    embedded = model.embedding(tokens)
    model.lstm.eval()
    expected, (expected_h, expected_c) = model.lstm(embedded, start)
    torch.testing.assert_close(last, expected)
    torch.testing.assert_close(h, expected_h)
    torch.testing.assert_close(c, expected_c)
    alone = nn.LSTM(HIDDEN, HIDDEN).double()
    alone.load_state_dict({k: v for k, v in model.lstm.state_dict().items() if k.endswith("l0")})
    torch.testing.assert_close(first, alone(embedded, (start[0][:1], start[1][:1]))[0])
    assert not first.requires_grad


def test_two_windows_are_one_long_window(tokens):
    model = build().eval()
    whole, last = model(tokens, model.initial_hidden(BATCH))
    first, hidden = model(tokens[:3], model.initial_hidden(BATCH))
    second, hidden = model(tokens[3:], detach(hidden))
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=0, atol=1e-14)
    for ours, theirs in zip(hidden, last, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-14)


def test_the_initial_state_is_zero_and_detaching_keeps_the_values():
    model = build(layers=3)
    hidden = model.initial_hidden(BATCH)
    assert [tuple(part.shape) for part in hidden] == [(3, BATCH, HIDDEN)] * 2
    assert not any(part.any() for part in hidden)
    grown = tuple(part + model.embedding.weight[0] for part in hidden)
    cut = detach(grown)
    assert isinstance(cut, tuple)
    assert all(not c.requires_grad and torch.equal(c, g) for c, g in zip(cut, grown, strict=True))


def test_initialisation():
    """facts A.1: embedding and decoder in +-.1, decoder's bias 0, LSTM and its biases in +-1 / sqrt(h)."""
    torch.manual_seed(1)
    model = StackedLSTMConfig(hidden=64).build(500)
    assert not model.decoder.bias.any()
    for name, parameter in model.named_parameters():
        if name == "decoder.bias":
            continue
        bound = 1 / math.sqrt(64) if "lstm" in name else 0.1
        assert 0.9 * bound < parameter.abs().max() <= bound, name


def test_dropout_is_plain_at_three_places():
    """facts A.1: on the embedding, between the layers and on the output, every time step with its own draw."""
    model = build(hidden=200, dropout=0.4)
    assert model.lstm.dropout == 0.4
    seen: list[Tensor] = []
    model.dropout.register_forward_hook(lambda module, inputs, output: seen.append((output / inputs[0]).nan_to_num(1)))
    tokens = torch.randint(WORDS, (8, BATCH))
    output, _ = model(tokens, model.initial_hidden(BATCH))
    embedding, final = seen
    for scale in (embedding, final):
        assert sorted(set(scale.flatten().round(decimals=6).tolist())) == pytest.approx([0, 1 / 0.6], abs=1e-5)
        assert float((scale == 0).double().mean()) == pytest.approx(0.4, abs=0.05)
        assert not torch.equal(scale[0] == 0, scale[1] == 0)
    assert torch.equal(output == 0, final == 0)


def test_nothing_is_dropped_in_evaluation(tokens):
    model = build(dropout=0.9).eval()
    hidden = model.initial_hidden(BATCH)
    assert torch.equal(model(tokens, hidden)[0], model(tokens, hidden)[0])
    model.train()
    assert not torch.equal(model(tokens, hidden)[0], model(tokens, hidden)[0])


def test_one_layer_has_no_dropout_between_layers(recwarn):
    assert build(layers=1).lstm.dropout == 0
    assert not recwarn.list
