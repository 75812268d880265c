"""ON-LSTM against a plain re-implementation of facts A.3, in float64."""

import math

import pytest
import torch
from torch import Tensor

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.models.base import detach
from sparse_rnn.models.layers import ordered_neurons as ordered_neurons_module
from sparse_rnn.models.on_lstm import ONLSTM, ONLSTMConfig
from sparse_rnn.sparsity.gates import find_gates

WORDS, STEPS, BATCH = 11, 6, 4
NO_DROPOUT = dict.fromkeys(
    ("dropout_word", "dropout_input", "dropout_hidden", "dropout_output", "drop_connect"),
    0.0,
)


def build(**settings) -> ONLSTM:
    torch.manual_seed(3)
    return ONLSTMConfig(**({"embedding": 6, "hidden": 12, "layers": 3, "chunk": 3} | settings)).build(WORDS).double()


def random_hidden(model: ONLSTM) -> list[tuple[Tensor, Tensor]]:
    random = torch.Generator().manual_seed(5)
    return [
        tuple(torch.randn(part.shape, generator=random, dtype=torch.float64).requires_grad_() for part in state)
        for state in model.initial_hidden(BATCH)
    ]


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(WORDS, (STEPS, BATCH), generator=torch.Generator().manual_seed(4))


@pytest.fixture
def dropped(monkeypatch) -> list[Tensor]:
    """What every call of drop_connect left of its weight: 1 where kept, 0 where dropped, in order."""
    kept: list[Tensor] = []
    drop = ordered_neurons_module.drop_connect

    def recorded(weight: Tensor, *args, **options) -> Tensor:
        result = drop(weight, *args, **options)
        kept.append((result != 0).to(weight.dtype))
        return result

    monkeypatch.setattr(ordered_neurons_module, "drop_connect", recorded)
    return kept


def cumsoftmax(row: Tensor) -> list[Tensor]:
    powers = [torch.exp(value) for value in row]
    return [sum(powers[: m + 1]) / sum(powers) for m in range(len(powers))]


def plain_layer(
    x: Tensor, w: Tensor, r: Tensor, b: Tensor, h: Tensor, c: Tensor, chunk: int
) -> tuple[Tensor, Tensor, Tensor]:
    """One sequence, one step and one unit at a time; rows: master input, master forget, out, cell, in, forget."""
    units = h.shape[1]
    n = units // chunk
    outputs, last_h, last_c = [], [], []
    for sequence in range(x.shape[1]):
        hidden, memory, seen = h[sequence], list(c[sequence]), []
        for inputs in x[:, sequence]:
            rows = w @ inputs + r @ hidden + b
            master_input = [1 - value for value in cumsoftmax(rows[:n])]
            master_forget = cumsoftmax(rows[n : 2 * n])
            new = []
            for j in range(units):
                out, cell, into, forget = (rows[2 * n + kind * units + j] for kind in range(4))
                i, f, o = (1 / (1 + torch.exp(-gate)) for gate in (into, forget, out))
                mi, mf = master_input[j // chunk], master_forget[j // chunk]
                overlap = mf * mi
                f_hat, i_hat = f * overlap + (mf - overlap), i * overlap + (mi - overlap)
                memory[j] = f_hat * memory[j] + i_hat * torch.tanh(cell)
                new.append(o * torch.tanh(memory[j]))
            hidden = torch.stack(new)
            seen.append(hidden)
        outputs.append(torch.stack(seen))
        last_h.append(hidden)
        last_c.append(torch.stack(memory))
    return torch.stack(outputs, dim=1), torch.stack(last_h), torch.stack(last_c)


def plain(
    parameters: dict[str, Tensor], scales: list[Tensor | float], tokens: Tensor, hidden: list, chunk: int
) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:
    """Every layer's states and the last hidden state, without other dropouts than those of `scales`."""
    x, states, carried = parameters["embedding.weight"][tokens], [], []
    for layer, ((h, c), scale) in enumerate(zip(hidden, scales, strict=True)):
        w, b, r, b2 = (
            parameters[f"layers.{layer}.{name}"]
            for name in ("input.weight", "input.bias", "recurrent.weight", "recurrent.bias")
        )
        x, h, c = plain_layer(x, w, r * scale, b + b2, h, c, chunk)
        states.append(x)
        carried.append((h, c))
    return states, carried


def plain_loss(parameters: dict[str, Tensor], states: Tensor, targets: Tensor, alpha: float, beta: float) -> Tensor:
    logits = states @ parameters["embedding.weight"].T + parameters["decoder.bias"]
    chosen = logits.gather(-1, targets[..., None])[..., 0]
    loss = (torch.log(torch.exp(logits).sum(-1)) - chosen).mean()
    return loss + alpha * (states**2).mean() + beta * ((states[1:] - states[:-1]) ** 2).mean()


@pytest.mark.parametrize("p", [0.0, 0.4])
@pytest.mark.parametrize("chunk", [1, 2, 3, 6])
def test_forward_and_gradients(tokens, dropped, chunk, p):
    model = build(**NO_DROPOUT | {"drop_connect": p, "chunk": chunk})
    hidden, targets = random_hidden(model), tokens.flip(0)
    loss, penalty, last = model.training_loss(tokens, targets, hidden)
    ours = loss + penalty + sum((h * c).sum() for h, c in last)
    torch.autograd.backward(ours)
    assert [bool((mask == 0).any()) for mask in dropped] == [p > 0] * 3

    parameters = {name: q.detach().clone().requires_grad_() for name, q in model.named_parameters()}
    start = [tuple(part.detach().clone().requires_grad_() for part in state) for state in hidden]
    states, expected_last = plain(parameters, dropped, tokens, start, chunk)
    expected = plain_loss(parameters, states[-1], targets, 2.0, 1.0) + sum((h * c).sum() for h, c in expected_last)
    torch.autograd.backward(expected)
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(last, expected_last, rtol=1e-10, atol=1e-12)
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 1e-6, name
        torch.testing.assert_close(parameter.grad, parameters[name].grad, rtol=1e-9, atol=1e-11, msg=name)
    for state, expected_state in zip(hidden, start, strict=True):
        for part, expected_part in zip(state, expected_state, strict=True):
            torch.testing.assert_close(part.grad, expected_part.grad, rtol=1e-9, atol=1e-11)


def test_the_paper_s_size_has_25_232_180_parameters():
    """Tied embedding 4.0 M, its bias, and of each layer 4 h + 2 h / 10 rows on inputs, on h and with two biases."""
    with torch.device("meta"):
        model = ONLSTMConfig().build(10_000)
    layers = sum(
        rows * (inputs + h + 2) for rows, inputs, h in [(4830, 400, 1150), (4830, 1150, 1150), (1680, 1150, 400)]
    )
    assert sum(p.numel() for p in model.parameters()) == 4_000_000 + 10_000 + layers == 25_232_180


def test_the_gates_are_the_published_rows():
    """facts A.3: n master input, n master forget, then h each of out, cell, in, forget; n = h / 10."""
    with torch.device("meta"):
        found = find_gates(ONLSTMConfig().build(10))
    assert set(found) == {f"layers.{k}.{kind}.weight" for k in range(3) for kind in ("input", "recurrent")}
    assert {gate: (rows.start, rows.stop) for gate, rows in found["layers.1.recurrent.weight"].rows.items()} == {
        "master_input": (0, 115),
        "master_forget": (115, 230),
        "output": (230, 1380),
        "cell": (1380, 2530),
        "input": (2530, 3680),
        "forget": (3680, 4830),
    }
    assert found["layers.2.input.weight"].rows["forget"] == slice(1280, 1680)
    assert [found[f"layers.{k}.input.weight"].cell for k in range(3)] == ["layers.0", "layers.1", "layers.2"]
    assert all(found[f"layers.{k}.recurrent.weight"].cell == f"layers.{k}" for k in range(3))


def test_the_penalty_is_of_the_last_layer_before_dropout(tokens):
    """facts A.3: alpha mean(h^2) + beta mean((h_t+1 - h_t)^2), and the loss is of the output after dropout."""
    model = build(**NO_DROPOUT | {"dropout_output": 0.5, "activation_penalty": 3.0, "temporal_penalty": 0.5})
    hidden = random_hidden(model)
    torch.manual_seed(1)
    loss, penalty, _ = model.training_loss(tokens, tokens, hidden)
    torch.manual_seed(1)
    output, _ = model(tokens, hidden)
    assert (output == 0).any()
    torch.testing.assert_close(loss, model.loss(output, tokens))
    h = model.layer_states(tokens, hidden)[0][-1]
    expected = 3 * sum(h[t].square().sum() for t in range(STEPS)) / h.numel()
    expected += 0.5 * sum((h[t + 1] - h[t]).square().sum() for t in range(STEPS - 1)) / (h.numel() - h[0].numel())
    torch.testing.assert_close(penalty, expected)
    assert penalty > 0


@pytest.mark.parametrize("name", NO_DROPOUT)
def test_each_dropout_alone_changes_training_and_not_evaluation(tokens, name):
    model = build(**NO_DROPOUT | {name: 0.5})
    hidden = random_hidden(model)
    assert not torch.equal(model(tokens, hidden)[0], model(tokens, hidden)[0])
    model.eval()
    assert torch.equal(model(tokens, hidden)[0], model(tokens, hidden)[0])


def test_the_dropouts_between_layers_are_locked_and_after_all_but_the_last(tokens):
    model = build(**NO_DROPOUT | {"dropout_input": 0.2, "dropout_hidden": 0.5, "dropout_output": 0.6})
    seen: list[tuple[Tensor, Tensor]] = []
    for dropout in (model.dropout_input, model.dropout_hidden, model.dropout_output):
        dropout.register_forward_hook(lambda module, inputs, output: seen.append((module.p, output / inputs[0])))
    model(tokens, random_hidden(model))
    assert [(p, scale.shape[-1]) for p, scale in seen] == [(0.2, 6), (0.5, 12), (0.5, 12), (0.6, 6)]
    for _, scale in seen:
        torch.testing.assert_close(scale, scale[:1].expand_as(scale))


def test_every_layer_draws_its_dropped_weights_anew(tokens, dropped):
    model = build(**NO_DROPOUT | {"drop_connect": 0.5})
    for _ in range(2):
        model(tokens, random_hidden(model))
    assert [tuple(mask.shape) for mask in dropped] == [(56, 12), (56, 12), (28, 6)] * 2
    assert not torch.equal(dropped[0], dropped[1])
    assert not torch.equal(dropped[0], dropped[3])


def test_evaluation_scales_the_recurrent_weights(tokens):
    model = build(**NO_DROPOUT | {"drop_connect": 0.4}).eval()
    hidden = random_hidden(model)
    output, last = model(tokens, hidden)
    states, expected = plain(dict(model.named_parameters()), [0.6] * 3, tokens, hidden, chunk=3)
    torch.testing.assert_close(output, states[-1], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(last, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("training", [False, True])
def test_layer_states_have_no_dropout(tokens, training):
    model = build().train(training)
    hidden = random_hidden(model)
    states, last = model.layer_states(tokens, hidden)
    expected, expected_last = plain(dict(model.named_parameters()), [0.55] * 3, tokens, hidden, chunk=3)
    torch.testing.assert_close(states, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(last, expected_last, rtol=1e-10, atol=1e-12)
    assert not any(state.requires_grad for state in states)
    assert model.training == training


def test_two_windows_are_one_long_window(tokens):
    model = build().eval()
    whole, last = model(tokens, model.initial_hidden(BATCH))
    first, hidden = model(tokens[:2], model.initial_hidden(BATCH))
    second, hidden = model(tokens[2:], detach(hidden))
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=0, atol=1e-14)
    torch.testing.assert_close(hidden, last, rtol=0, atol=1e-14)


def test_the_initial_state_is_zero_and_as_wide_as_each_layer():
    hidden = build().initial_hidden(BATCH)
    assert [tuple(part.shape) for state in hidden for part in state] == [(BATCH, 12)] * 4 + [(BATCH, 6)] * 2
    assert not any(part.any() for state in hidden for part in state)


def test_initialisation():
    """facts A.3: tied embedding in +-.1, decoder's bias 0, the rest in +-1 / sqrt(inputs of the product)."""
    torch.manual_seed(1)
    model = ONLSTMConfig(embedding=60, hidden=90, layers=2).build(500)
    assert model.decoder.weight is model.embedding.weight
    assert not model.decoder.bias.any()
    bounds = {"embedding.weight": 0.1}
    for layer, (inputs, hidden) in enumerate([(60, 90), (90, 60)]):
        bounds |= {f"layers.{layer}.input.{kind}": 1 / math.sqrt(inputs) for kind in ("weight", "bias")}
        bounds |= {f"layers.{layer}.recurrent.{kind}": 1 / math.sqrt(hidden) for kind in ("weight", "bias")}
    parameters = dict(model.named_parameters())
    assert set(parameters) == {*bounds, "decoder.bias"}
    for name, bound in bounds.items():
        assert 0.9 * bound < parameters[name].abs().max() <= bound, name


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden": 1155},
        {"embedding": 401},
        {"layers": 0},
        {"chunk": 0},
        {"dropout_hidden": 1.0},
        {"drop_connect": -0.1},
        {"activation_penalty": -1.0},
        {"temporal_penalty": -1.0},
        {"activation_penalty": math.nan},
    ],
)
def test_sizes_that_cannot_be_are_refused(settings):
    (key,) = settings
    with pytest.raises(ConfigError, match=rf"^model\.{key}=.*\.$"):
        ONLSTMConfig(**settings)
