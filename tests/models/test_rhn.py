"""The RHN against a plain re-implementation of facts A.2, in float64."""

import math

import pytest
import torch
from torch import Tensor

from sparse_rnn.models.rhn import RHN, RHNConfig

WORDS, HIDDEN, DEPTH, STEPS, BATCH = 11, 5, 3, 6, 4


@pytest.fixture
def model() -> RHN:
    torch.manual_seed(3)
    return RHNConfig(hidden=HIDDEN, depth=DEPTH).build(WORDS).double()


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(WORDS, (STEPS, BATCH), generator=torch.Generator().manual_seed(4))


def plain(parameters: dict[str, Tensor], tokens: Tensor, state: Tensor, masks: list[Tensor]) -> tuple[Tensor, Tensor]:
    """One sequence and one unit at a time; masks: of words, of the input, of the state, of the output, or none."""
    word, at_input, at_state, at_output = masks or [None] * 4
    outputs = torch.zeros(*tokens.shape, HIDDEN, dtype=torch.float64)
    last = []
    for b in range(tokens.shape[1]):
        s = state[b]
        for n in range(tokens.shape[0]):
            x = parameters["embedding.weight"][tokens[n, b]]
            if masks:
                x = x * word[tokens[n, b], 0] * at_input[0, b]
            for k in range(DEPTH):
                u = s * at_state[b] if masks else s
                weight, bias = (parameters[f"highway.recurrent.{k}.{kind}"] for kind in ("weight", "bias"))
                units = []
                for j in range(HIDDEN):
                    a_h = (weight[j] * u).sum() + bias[j]
                    a_t = (weight[HIDDEN + j] * u).sum() + bias[HIDDEN + j]
                    if k == 0:
                        w, b_w = parameters["highway.input.weight"], parameters["highway.input.bias"]
                        a_h = a_h + (w[j] * x).sum() + b_w[j]
                        a_t = a_t + (w[HIDDEN + j] * x).sum() + b_w[HIDDEN + j]
                    t = 1 / (1 + torch.exp(-a_t))
                    units.append(torch.tanh(a_h) * t + s[j] * (1 - t))
                s = torch.stack(units)
            outputs[n, b] = s * at_output[0, b] if masks else s
        last.append(s)
    return outputs, torch.stack(last)


def plain_loss(parameters: dict[str, Tensor], output: Tensor, targets: Tensor) -> Tensor:
    logits = output @ parameters["embedding.weight"].T + parameters["decoder.bias"]
    chosen = logits.gather(-1, targets[..., None])[..., 0]
    return (torch.log(torch.exp(logits).sum(-1)) - chosen).mean()


@pytest.mark.parametrize("training", [False, True])
def test_forward_and_gradients(model, tokens, masks, training):
    model.train(training)
    start = torch.randn(BATCH, HIDDEN, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    targets = tokens.flip(0)
    output, last = model(tokens, start)
    loss = model.loss(output, targets)
    torch.autograd.backward(loss)
    shapes = [(WORDS, 1), (1, BATCH, HIDDEN), (BATCH, HIDDEN), (1, BATCH, HIDDEN)]
    assert [tuple(mask.shape) for mask in masks] == (shapes if training else [])

    parameters = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    expected, expected_last = plain(parameters, tokens, start, masks)
    expected_loss = plain_loss(parameters, expected, targets)
    torch.autograd.backward(expected_loss)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(last, expected_last, rtol=0, atol=1e-10)
    torch.testing.assert_close(loss, expected_loss, rtol=0, atol=1e-10)
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 1e-6, name
        torch.testing.assert_close(parameter.grad, parameters[name].grad, rtol=0, atol=1e-10, msg=name)


def test_every_dropout_has_its_own_rate(tokens, masks):
    """The values of a mask say its rate: 0 or 1 / (1 - p)."""
    config = RHNConfig(hidden=50, depth=2, dropout_word=0.2, dropout_input=0.5, dropout_hidden=0.75, dropout_output=0.9)
    model = config.build(WORDS)
    for _ in range(10):
        model(tokens, model.initial_hidden(BATCH))
    assert len(masks) == 40
    for k, p in enumerate([0.2, 0.5, 0.75, 0.9]):
        drawn = torch.cat([mask.flatten() for mask in masks[k::4]])
        assert sorted(set(drawn.tolist())) == pytest.approx([0, 1 / (1 - p)])


def test_dropouts_are_drawn_anew_for_every_window(model, tokens):
    hidden = model.initial_hidden(BATCH)
    assert not torch.equal(model(tokens, hidden)[0], model(tokens, hidden)[0])
    model.eval()
    assert torch.equal(model(tokens, hidden)[0], model(tokens, hidden)[0])


def test_two_windows_are_one_long_window(model, tokens):
    model.eval()
    whole, last = model(tokens, model.initial_hidden(BATCH))
    first, hidden = model(tokens[:2], model.initial_hidden(BATCH))
    second, hidden = model(tokens[2:], hidden)
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=0, atol=1e-14)
    torch.testing.assert_close(hidden, last, rtol=0, atol=1e-14)


@pytest.mark.parametrize("training", [False, True])
def test_layer_states_have_no_dropout(model, tokens, training):
    model.eval()
    expected, last = model(tokens, model.initial_hidden(BATCH))
    model.train(training)
    states, hidden = model.layer_states(tokens, model.initial_hidden(BATCH))
    assert len(states) == 1
    torch.testing.assert_close(states[0], expected)
    torch.testing.assert_close(hidden, last)
    assert model.training == training


def test_embedding_and_decoder_are_one(model):
    assert model.decoder.weight is model.embedding.weight
    assert "decoder.weight" not in dict(model.named_parameters())


def test_initialisation():
    """facts A.2: embedding in +-.1, decoder's bias 0, the rest in +-1 / sqrt(h), no bias of the transform gate."""
    torch.manual_seed(1)
    model = RHNConfig(hidden=64, depth=3).build(500)
    assert not model.decoder.bias.any()
    ranges = {"embedding.weight": 0.1}
    for name, parameter in model.named_parameters():
        if name == "decoder.bias":
            continue
        bound = ranges.get(name, 1 / math.sqrt(64))
        assert 0.9 * bound < parameter.abs().max() <= bound, name
    transform = torch.stack([layer.bias[64:] for layer in model.highway.recurrent])
    assert abs(transform.mean().item()) < 0.03


def test_the_first_gate_is_the_candidate_and_the_second_the_transform(model, tokens):
    """facts A.2: with the transform gate shut by its rows, the state never changes."""
    rows = model.highway.gates()["recurrent.1.weight"].rows
    assert list(rows) == ["hidden", "transform"]
    with torch.no_grad():
        for layer in model.highway.recurrent:
            layer.bias[rows["transform"]] = -1000.0
    start = torch.ones(BATCH, HIDDEN, dtype=torch.float64)
    model.eval()
    torch.testing.assert_close(model(tokens, start)[1], start)


def test_the_input_belongs_to_the_cell_of_the_first_depth(model):
    gates = model.highway.gates()
    assert gates["input.weight"].cell == gates["recurrent.0.weight"].cell != gates["recurrent.1.weight"].cell
    assert len(gates) == DEPTH + 1
