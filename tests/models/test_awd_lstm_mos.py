"""AWD-LSTM-MoS against a plain re-implementation of facts A.4, in float64."""

import math

import pytest
import torch
from torch import Tensor

from sparse_rnn.config.compose import compose_run
from sparse_rnn.core.declarations import LSTM_GATES
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.models.awd_lstm_mos import AWDLSTMMoS, AWDLSTMMoSConfig
from sparse_rnn.models.base import detach
from sparse_rnn.sparsity.gates import find_gates
from sparse_rnn.sparsity.method import make_topology

WORDS, EMBEDDING, HIDDEN, LAST, EXPERTS, STEPS, BATCH = 11, 4, 5, 3, 2, 6, 3
SIZES = {"embedding": EMBEDDING, "hidden": HIDDEN, "last_hidden": LAST, "experts": EXPERTS}
NO_DROPOUT = dict.fromkeys(
    ("dropout_word", "dropout_input", "dropout_hidden", "dropout_output", "dropout_latent", "drop_connect"), 0.0
)


def build(**settings: float) -> AWDLSTMMoS:
    torch.manual_seed(3)
    return AWDLSTMMoSConfig(**(SIZES | settings)).build(WORDS).double()


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(WORDS, (STEPS, BATCH), generator=torch.Generator().manual_seed(4))


def start() -> list[tuple[Tensor, Tensor]]:
    random = torch.Generator().manual_seed(5)
    widths = (HIDDEN, HIDDEN, LAST)
    return [tuple(torch.randn(1, BATCH, w, generator=random, dtype=torch.float64) for _ in range(2)) for w in widths]


def plain(p: dict[str, Tensor], tokens: Tensor, targets: Tensor, hidden: list, masks: list[Tensor]) -> tuple:
    """Loss, AR and TAR before their factors, and the last (h, c): one sequence and one step at a time.

    masks: of words, of the input, then for each layer of R and of the layer's output, then of the latent; or none.
    """
    word, at_input, *of_layers, at_latent = masks or [1.0] * 9
    dropped = [p[f"lstm.{k}.weight_hh_l0"] * of_layers[2 * k] for k in range(3)]
    losses, squares, differences, carried = [], [], [], []
    for b in range(BATCH):

        def locked(mask, b=b):
            return mask[0, b] if masks else 1.0

        h, c = [[part[0, b] for part in column] for column in zip(*hidden, strict=True)]
        previous = None
        for n in range(STEPS):
            x = p["embedding.weight"][tokens[n, b]] * (word[tokens[n, b]] if masks else 1.0) * locked(at_input)
            for k in range(3):
                pre = p[f"lstm.{k}.weight_ih_l0"] @ x + p[f"lstm.{k}.bias_ih_l0"] + p[f"lstm.{k}.bias_hh_l0"]
                i, f, g, o = (pre + dropped[k] @ h[k]).chunk(4)
                c[k] = torch.sigmoid(f) * c[k] + torch.sigmoid(i) * torch.tanh(g)
                h[k] = torch.sigmoid(o) * torch.tanh(c[k])
                x = h[k] * locked(of_layers[2 * k + 1])
            squares.append(x**2)
            if previous is not None:
                differences.append((h[2] - previous) ** 2)
            previous = h[2]
            prior = torch.exp(p["prior.weight"] @ x)
            latent = torch.tanh(p["latent.weight"] @ x + p["latent.bias"]) * locked(at_latent)
            probability = 0.0
            for k in range(EXPERTS):
                z = latent[k * EMBEDDING : (k + 1) * EMBEDDING]
                scores = torch.exp(p["embedding.weight"] @ z + p["decoder.bias"])
                probability = probability + prior[k] / prior.sum() * scores[targets[n, b]] / scores.sum()
            losses.append(-torch.log(probability))
        carried.append((h, c))
    last = [
        tuple(torch.stack([carried[b][part][k] for b in range(BATCH)])[None] for part in range(2)) for k in range(3)
    ]
    return torch.stack(losses).mean(), torch.stack(squares).mean(), torch.stack(differences).mean(), last


@pytest.mark.parametrize("training", [False, True])
def test_loss_penalty_and_gradients(tokens, masks, training):
    model = build(activation_penalty=2.0, temporal_penalty=1.0).train(training)
    targets = tokens.flip(0)
    loss, penalty, last = model.training_loss(tokens, targets, start())
    torch.autograd.backward(loss + penalty)
    shapes = [
        (WORDS, 1),
        (1, BATCH, EMBEDDING),
        (4 * HIDDEN, HIDDEN),
        (1, BATCH, HIDDEN),
        (4 * HIDDEN, HIDDEN),
        (1, BATCH, HIDDEN),
        (4 * LAST, LAST),
        (1, BATCH, LAST),
        (1, BATCH, EXPERTS * EMBEDDING),
    ]
    assert [tuple(mask.shape) for mask in masks] == (shapes if training else [])

    parameters = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    expected_loss, activation, temporal, expected_last = plain(parameters, tokens, targets, start(), masks)
    torch.autograd.backward(expected_loss + 2 * activation + temporal)
    torch.testing.assert_close(loss, expected_loss, rtol=0, atol=1e-10)
    torch.testing.assert_close(penalty, 2 * activation + temporal, rtol=0, atol=1e-10)
    torch.testing.assert_close(last, expected_last, rtol=0, atol=1e-10)
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 1e-6, name
        torch.testing.assert_close(parameter.grad, parameters[name].grad, rtol=0, atol=1e-10, msg=name)


def test_the_evaluated_loss_has_no_penalty(tokens):
    model = build(activation_penalty=5.0).eval()
    output, _ = model(tokens, start())
    loss, penalty, _ = model.training_loss(tokens, tokens, start())
    assert torch.equal(model.loss(output, tokens), loss)
    assert penalty > 0


def test_every_dropout_has_its_own_rate(tokens, masks):
    """The values of a mask say its rate: 0 or 1 / (1 - p)."""
    rates = {
        "dropout_word": 0.2,
        "dropout_input": 0.5,
        "drop_connect": 0.6,
        "dropout_hidden": 0.75,
        "dropout_output": 0.9,
        "dropout_latent": 0.3,
    }
    model = AWDLSTMMoSConfig(**rates, embedding=40, hidden=40, last_hidden=40, experts=3).build(50)
    model.training_loss(tokens, tokens, model.initial_hidden(BATCH))
    word, first, connect, hidden, output, latent = rates.values()
    for mask, p in zip(masks, [word, first, connect, hidden, connect, hidden, connect, output, latent], strict=True):
        assert sorted(set(mask.flatten().tolist())) == pytest.approx([0, 1 / (1 - p)])


def test_recurrent_weights_are_really_dropped_in_training_alone(tokens, masks):
    """facts 0.20: on some versions of torch the published wrapper does nothing, or fails."""
    model = build(**NO_DROPOUT | {"drop_connect": 0.5})
    whole = build(**NO_DROPOUT)
    expected, _ = whole(tokens, start())
    one, other = model(tokens, start())[0], model(tokens, start())[0]
    assert not torch.equal(one, other)
    assert not torch.equal(one, expected)
    assert [tuple(mask.shape) for mask in masks] == [(4 * HIDDEN, HIDDEN), (4 * HIDDEN, HIDDEN), (4 * LAST, LAST)] * 2
    model.eval()
    torch.testing.assert_close(model(tokens, start())[0], expected, rtol=0, atol=1e-14)


def test_dropped_recurrent_weights_get_no_gradient(tokens, masks):
    model = build(**NO_DROPOUT | {"drop_connect": 0.5})
    loss, _, _ = model.training_loss(tokens, tokens, start())
    torch.autograd.backward(loss)
    for layer, mask in zip(model.lstm, masks, strict=True):
        assert (mask == 0).any()
        assert not layer.weight_hh_l0.grad[mask == 0].any()
        assert layer.weight_hh_l0.grad[mask != 0].all()
        assert layer.weight_ih_l0.grad.any()


def test_two_windows_are_one_long_window(tokens):
    model = build().eval()
    whole, last = model(tokens, model.initial_hidden(BATCH))
    first, hidden = model(tokens[:2], model.initial_hidden(BATCH))
    second, hidden = model(tokens[2:], detach(hidden))
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=0, atol=1e-14)
    torch.testing.assert_close(hidden, last, rtol=0, atol=1e-14)


@pytest.mark.parametrize("training", [False, True])
def test_layer_states_have_no_dropout(tokens, training):
    model = build().train(training)
    states, hidden = model.layer_states(tokens, start())
    assert model.training == training
    assert [state.shape for state in states] == [(STEPS, BATCH, width) for width in (HIDDEN, HIDDEN, LAST)]
    inputs = model.embedding(tokens)
    for layer, state, begin, end in zip(model.lstm, states, start(), hidden, strict=True):
        expected, expected_end = layer(inputs, begin)
        torch.testing.assert_close(state, expected)
        torch.testing.assert_close(end, expected_end)
        assert not state.requires_grad
        inputs = state
    torch.testing.assert_close(model.eval()(tokens, start())[0], states[-1])


def test_the_initial_state_is_zero():
    hidden = build(layers=2).initial_hidden(BATCH)
    assert [[tuple(part.shape) for part in state] for state in hidden] == [
        [(1, BATCH, HIDDEN)] * 2,
        [(1, BATCH, LAST)] * 2,
    ]
    assert not any(part.any() for state in hidden for part in state)


@pytest.mark.parametrize(("layers", "widths"), [(1, [LAST]), (2, [HIDDEN, LAST]), (4, [HIDDEN] * 3 + [LAST])])
def test_widths_of_the_layers(layers, widths):
    lstm = build(layers=layers).lstm
    assert [layer.hidden_size for layer in lstm] == widths
    assert [layer.input_size for layer in lstm] == [EMBEDDING, *widths[:-1]]


def test_embedding_and_decoder_are_one():
    model = build()
    assert model.decoder.weight is model.embedding.weight
    assert "decoder.weight" not in dict(model.named_parameters())


def test_initialisation():
    """facts A.4: embedding in +-.1, decoder's bias 0, the rest as torch does."""
    torch.manual_seed(1)
    model = AWDLSTMMoSConfig(embedding=50, hidden=64, last_hidden=100).build(500)
    assert not model.decoder.bias.any()
    bounds = {"embedding": 0.1, "lstm.0": 1 / 8, "lstm.1": 1 / 8, "lstm.2": 0.1, "prior": 0.1, "latent": 0.1}
    for name, parameter in model.named_parameters():
        if name != "decoder.bias":
            bound = bounds[name.removesuffix(f".{name.rpartition('.')[2]}")]
            assert 0.9 * bound < parameter.abs().max() <= bound, name


def test_gates_are_found_in_every_layer():
    gates = find_gates(build())
    assert sorted(gates) == sorted(f"lstm.{k}.weight_{kind}_l0" for k in range(3) for kind in ("ih", "hh"))
    assert len({own.cell for own in gates.values()}) == 3
    for name, own in gates.items():
        width = LAST if name.startswith("lstm.2") else HIDDEN
        assert own.rows == {gate: slice(k * width, (k + 1) * width) for k, gate in enumerate(LSTM_GATES)}


def test_the_model_of_the_paper_has_34_909_528_parameters():
    with torch.device("meta"):
        model = AWDLSTMMoSConfig().build(33_278)
    sizes = {
        "embedding": 33_278 * 300,
        "lstm.0": 4 * 1150 * (300 + 1150 + 2),
        "lstm.1": 4 * 1150 * (1150 + 1150 + 2),
        "lstm.2": 4 * 650 * (1150 + 650 + 2),
        "prior": 15 * 650,
        "latent": 4500 * 651,
        "decoder": 33_278,  # the bias
    }
    assert sum(sizes.values()) == 34_909_528
    for part, size in sizes.items():
        assert sum(p.numel() for n, p in model.named_parameters() if n.startswith(f"{part}.")) == size, part
    assert sum(p.numel() for p in model.parameters()) == 34_909_528


@pytest.mark.parametrize("optimizer", ["snt_asgd", "nt_asgd", "adam", "momentum_sgd"])
def test_the_recipes_make_all_weights_sparse_but_the_prior(optimizer):
    run = compose_run(["model=awd_lstm_mos", "dataset=wikitext2", f"optimizer={optimizer}"])
    training = run.training
    assert (training.batch, training.sub_batch, training.bptt, training.max_bptt) == (15, 5, 70, 90)
    assert (training.variable_bptt, training.clip, training.epochs) == (True, 0.25, 1000)
    assert (run.sparsifier.sparsity, run.sparsifier.removal_rate) == (0.55, 0.5)
    with torch.device("meta"):
        model = run.model.build(*run.dataset.sizes())
        topology = make_topology(run.sparsifier, model)
    weights = {name for name, parameter in model.named_parameters() if parameter.dim() > 1}
    assert weights - {weight.name for weight in topology} == {"prior.weight"}
    assert topology.size * 0.45 == pytest.approx(15.6e6, rel=0.01)


@pytest.mark.parametrize("budget", ["smoke", "reduced"])
def test_smaller_budgets_keep_the_prior_dense(budget):
    run = compose_run(["model=awd_lstm_mos", "dataset=pydoc", f"budget={budget}"])
    model = run.model.build(50)
    assert run.sparsifier.keep_dense == ["prior.weight"]
    assert sum(p.numel() for p in model.parameters()) < 2e6
    tokens = torch.zeros(4, 2, dtype=torch.int64)
    assert model.training_loss(tokens, tokens, model.initial_hidden(2))[0].isfinite()


@pytest.mark.parametrize(
    "settings",
    [
        {"embedding": 0},
        {"last_hidden": 0},
        {"layers": 0},
        {"experts": 0},
        {"dropout_latent": 1.0},
        {"drop_connect": -0.1},
        {"activation_penalty": -1.0},
        {"temporal_penalty": math.nan},
    ],
)
def test_settings_that_cannot_be_are_refused(settings):
    (key,) = settings
    with pytest.raises(ConfigError, match=rf"^model\.{key}=.*\.$"):
        AWDLSTMMoSConfig(**settings)
