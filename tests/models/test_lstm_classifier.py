"""The classifier against the equations of an LSTM, and its initialisation against Keras'."""

import torch

from sparse_rnn.models.lstm_classifier import LSTMClassifierConfig

WORDS, CLASSES, LENGTH, TEXTS, HIDDEN = 30, 3, 7, 5, 4


def small(**settings):
    torch.manual_seed(3)
    return LSTMClassifierConfig(embedding=6, hidden=HIDDEN, **settings).build(WORDS, CLASSES).double()


def plain_states(model, tokens):
    """h_t of every step, gate by gate."""
    weights = model.lstm
    h = c = torch.zeros(tokens.shape[1], HIDDEN, dtype=torch.float64)
    states = []
    for x in model.embedding.weight[tokens]:
        pre = x @ weights.weight_ih_l0.T + h @ weights.weight_hh_l0.T + weights.bias_ih_l0 + weights.bias_hh_l0
        i, f, g, o = pre.split(HIDDEN, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        states.append(h)
    return torch.stack(states)


def test_it_matches_a_plain_lstm_that_reads_padding_like_words():
    model = small().eval()
    tokens = torch.randint(WORDS, (LENGTH, TEXTS))
    tokens[:3, 0] = 0
    states = plain_states(model, tokens)
    torch.testing.assert_close(model(tokens), model.decoder(states[-1]))
    [layer] = model.layer_states(tokens)
    torch.testing.assert_close(layer, states)


def test_it_starts_as_keras_does():
    model = LSTMClassifierConfig(embedding=64, hidden=32).build(500, 4)
    assert 0.049 < float(model.embedding.weight.detach().abs().max()) <= 0.05
    limit = (6 / (64 + 4 * 32)) ** 0.5
    assert 0.95 * limit < float(model.lstm.weight_ih_l0.detach().abs().max()) <= limit
    recurrent = model.lstm.weight_hh_l0
    torch.testing.assert_close(recurrent.T @ recurrent, torch.eye(32), atol=1e-5, rtol=0)
    bias = (model.lstm.bias_ih_l0 + model.lstm.bias_hh_l0).detach()
    assert bias.tolist() == [0.0] * 32 + [1.0] * 32 + [0.0] * 64
    assert not model.decoder.bias.any()


def test_dropout_is_off_in_evaluation_and_on_in_training():
    model = small(dropout=0.5)
    tokens = torch.randint(WORDS, (LENGTH, TEXTS))
    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    assert torch.equal(model(tokens), model(tokens))


def test_sizes_of_the_paper():
    with torch.device("meta"):
        model = LSTMClassifierConfig().build(20_000, 2)
    assert sum(p.numel() for p in model.parameters()) == 5_120_000 + 8 * 65_536 + 8 * 256 + 2 * 256 + 2
