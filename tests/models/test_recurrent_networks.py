"""Every recurrent network against a plain loop of its paper's equations, and what all of them promise."""

import pytest
import step_by_step
import torch
from torch import Tensor

from sparse_rnn.config.compose import compose_run
from sparse_rnn.core.declarations import LSTM_GATES
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.registry import choices, lookup
from sparse_rnn.inference.generate import next_words
from sparse_rnn.models.base import detach, hidden_tensors, map_hidden
from sparse_rnn.models.recurrent import RecurrentLMConfig
from sparse_rnn.runs.flops import run_flops
from sparse_rnn.sparsity.gates import find_gates

WORDS, BATCH, STEPS, HIDDEN = 13, 3, 7, 18
SETTINGS = {"slstm": {"heads": 3}, "mamba": {"states": 3}}
NETWORKS = sorted(name for name in choices("model") if issubclass(lookup("model", name), RecurrentLMConfig))


def build(name: str, **settings):
    torch.manual_seed(3)
    config = lookup("model", name)(
        **{"hidden": HIDDEN, "layers": 2, "dropout": 0.5, **SETTINGS.get(name, {}), **settings}
    )
    return config.build(WORDS).double().eval()


def tokens_of(steps: int = STEPS) -> Tensor:
    return torch.randint(WORDS, (steps, BATCH), generator=torch.Generator().manual_seed(4))


def started(model):
    """A state that is not zero, and positive where states have logarithms."""
    random = torch.Generator().manual_seed(5)
    zeros = model.initial_hidden(BATCH)
    return map_hidden(lambda part: torch.rand(part.shape, generator=random, dtype=part.dtype).add(0.1), zeros)


def plain(name: str, model, tokens: Tensor, hidden) -> tuple[Tensor, list]:
    """The whole network without dropout."""
    x, carried, parameters = model.embedding.weight[tokens], [], dict(model.stack.named_parameters())
    for k, state in enumerate(hidden):
        own = {n.removeprefix(f"layers.{k}."): p for n, p in parameters.items() if n.startswith(f"layers.{k}.")}
        scale = parameters.get(f"norms.{k}.weight")
        output, last = step_by_step.LAYERS[name](own, x if scale is None else step_by_step.rms_norm(x, scale), state)
        x = output if scale is None else x + output
        carried.append(last)
    scale = parameters.get(f"norms.{len(hidden)}.weight")
    return x if scale is None else step_by_step.rms_norm(x, scale), carried


def test_there_are_six():
    assert sorted(step_by_step.LAYERS) == NETWORKS


@pytest.mark.parametrize("steps", [STEPS, 1])
@pytest.mark.parametrize("name", NETWORKS)
def test_values_and_gradients_are_those_of_a_plain_loop(name, steps):
    """In float64, from a state that is not zero; a single step, as in generation, is computed in another way."""
    model, tokens = build(name), tokens_of(steps)
    with torch.no_grad():
        for parameter in model.stack.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    hidden = map_hidden(Tensor.requires_grad_, started(model))
    wanted = [p for n, p in model.named_parameters() if not n.startswith("decoder")] + hidden_tensors(hidden)
    found = []
    for output, last in (model(tokens, hidden), plain(name, model, tokens, hidden)):
        values = [output, *hidden_tensors(last)]
        random = torch.Generator().manual_seed(6)
        total = sum((v * torch.randn(v.shape, generator=random, dtype=v.dtype)).sum() for v in values)
        found.append(values + list(torch.autograd.grad(total, wanted, allow_unused=True)))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_long_window_is_two_halves_and_single_steps(name):
    """In float32, as runs compute: to 1e-5, though a window is scanned and a step is not."""
    model, tokens = build(name).float(), tokens_of(60)
    whole, last = model(tokens, model.initial_hidden(BATCH))
    for cuts in ([31, 29], [1] * 60):
        hidden, parts = model.initial_hidden(BATCH), []
        for part in tokens.split(cuts):
            output, hidden = model(part, detach(hidden))
            parts.append(output)
        torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-5, atol=1e-5)
        for ours, theirs in zip(hidden_tensors(hidden), hidden_tensors(last), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


COUNTS = {  # of a layer with d features: weights as the papers count them, then vectors
    "gru": lambda d: 3 * d * (d + d) + 2 * 3 * d,
    "min_gru": lambda d: 2 * d * d + 2 * d,
    "min_lstm": lambda d: 3 * d * d + 3 * d,
    "rg_lru": lambda d: 3 * d * d + 2 * d * d + (3 * d + 2 * d) + (4 + 1) * d + d,
    "slstm": lambda d: 4 * d * d + 4 * d * d // 4 + 4 * d + 2 * d,
    "mamba": lambda d: (
        (2 * d * 2 * d + 2 * d * d) + 2 * d * (d // 16 + 2 * 16) + d // 16 * 2 * d + (4 + 1 + 1 + 16 + 1) * 2 * d
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_are_as_many_as_the_paper_says(name):
    width, layers, words = 1600, 2, 10_000
    with torch.device("meta"):
        model = lookup("model", name)(hidden=width, layers=layers).build(words)
        classifier = lookup("model", f"{name}_classifier")(hidden=width, layers=layers).build(words, 5)
    norms = 0 if name == "gru" else (layers + 1) * width
    inner = layers * COUNTS[name](width) + norms
    assert sum(p.numel() for p in model.parameters()) == 2 * words * width + words + inner
    assert sum(p.numel() for p in classifier.parameters()) == words * width + 5 * width + 5 + inner


GATES = {
    "gru": {"gru.weight_ih_l0": ["reset", "update", "new"], "gru.weight_hh_l0": ["reset", "update", "new"]},
    "min_gru": {"input.weight": ["update", "new"]},
    "min_lstm": {"input.weight": ["forget", "input", "new"]},
    "rg_lru": {"input.weight": ["signal", "gate"], "control.weight": ["recurrence", "input"]},
    "slstm": {each: list(LSTM_GATES) for each in ("input.weight", "recurrent.0", "recurrent.1", "recurrent.2")},
    "mamba": {"input.weight": ["signal", "gate"], "selection.weight": ["step", "write", "read"]},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_gates_are_declared_and_those_of_a_layer_share_a_cell(name):
    found = find_gates(build(name))
    cells = []
    for k in (0, 1):
        layer = f"stack.layers.{k}."
        own = {key.removeprefix(layer): gates for key, gates in found.items() if key.startswith(layer)}
        assert {key: list(gates.rows) for key, gates in own.items()} == GATES[name]
        cells += {gates.cell for gates in own.values()}
    assert len(set(cells)) == len(cells) == 2


@pytest.mark.parametrize("name", NETWORKS)
def test_only_matrices_are_sparse_and_each_counts_once_a_token(name):
    model = build(name)
    uses = model.weight_uses(STEPS)
    assert uses.pop("embedding.weight") == 0
    assert set(uses.values()) == {STEPS}
    assert not [n for n in uses if "convolution" in n or "decay" in n or "norm" in n]


FLOPS = {  # multiplications of the layers for a token, d = 16 and two layers
    "gru": 2 * (3 * 16 * 16 + 3 * 16 * 16),  # 3,072
    "min_gru": 2 * 2 * 16 * 16,  # 1,024
    "min_lstm": 2 * 3 * 16 * 16,  # 1,536
    "rg_lru": 2 * (2 * 16 * 16 + 2 * 16 * 16 + 16 * 16),  # 2,560
    "slstm": 2 * (4 * 16 * 16 + 2 * 4 * 8 * 8),  # 3,072; two heads of 8 units
    "mamba": 2 * (16 * 64 + 32 * (1 + 2 * 4) + 1 * 32 + 32 * 16),  # 3,712; 32 channels of 4 states, rank 1
}


@pytest.mark.parametrize("name", NETWORKS)
def test_operations_counted_by_hand(name):
    """budget=smoke: a batch of 4 windows of 10 tokens; the decoder over 10,000 words; the embedding is looked up."""
    run = compose_run([f"model={name}", "dataset=ptb", "sparsifier=dense", "budget=smoke"])
    token = FLOPS[name] + 16 * 10_000
    found = run_flops(run)
    assert found.test == 2 * token * 4 * 10
    assert found.train == (6 * token + 2 * 160_000) * 600 * 4


@pytest.mark.parametrize("name", NETWORKS)
def test_a_classifier_reads_the_last_output_of_the_same_layers(name):
    model = build(name)
    torch.manual_seed(3)
    config = lookup("model", f"{name}_classifier")(hidden=HIDDEN, layers=2, dropout=0.5, **SETTINGS.get(name, {}))
    classifier = config.build(WORDS, 4).double().eval()
    classifier.stack.load_state_dict(model.stack.state_dict())
    classifier.embedding.load_state_dict(model.embedding.state_dict())
    tokens = tokens_of()
    expected, _ = plain(name, model, tokens, model.initial_hidden(BATCH))
    torch.testing.assert_close(classifier(tokens), classifier.decoder(expected[-1]))
    uses = classifier.weight_uses(STEPS)
    assert (uses["decoder.weight"], uses["embedding.weight"]) == (1, 0)
    assert [s.shape for s in classifier.layer_states(tokens)] == [(STEPS, BATCH, HIDDEN)] * 2


@pytest.mark.parametrize("name", NETWORKS)
def test_states_of_layers_are_without_dropout_and_outputs_are_with_it(name):
    model, tokens = build(name).train(), tokens_of()
    hidden = model.initial_hidden(BATCH)
    seen: list[float] = []
    model.stack.dropout.register_forward_hook(lambda m, x, y: seen.append(float((y == 0).double().mean())))
    output, _ = model(tokens, hidden)
    assert len(seen) == 3  # what each of two layers reads, and the output
    assert min(seen) > 0.3
    assert (output == 0).any()
    states, last = model.layer_states(tokens, hidden)
    again, _ = model.layer_states(tokens, hidden)
    assert all(torch.equal(*pair) for pair in zip(states, again, strict=True))
    expected, expected_last = model.eval()(tokens, hidden)
    for ours, theirs in zip(hidden_tensors(last), hidden_tensors(expected_last), strict=True):
        assert torch.equal(ours, theirs)
    if name == "gru":
        assert torch.equal(states[-1], expected)
    assert not hidden_tensors(last)[0].requires_grad


@pytest.mark.parametrize("name", NETWORKS)
def test_words_are_generated_step_by_step(name):
    """The likeliest words are those of the whole text read at once."""
    model = build(name)
    drawn = next_words(model, torch.tensor([1, 2, 3]), 0.0, torch.Generator())
    text = [1, 2, 3] + [next(drawn) for _ in range(5)]
    with torch.no_grad():
        output, _ = model(torch.tensor(text)[:, None], model.initial_hidden(1))
        likeliest = model.log_probabilities(output)[:, 0].argmax(-1)
    assert text[3:] == likeliest[2:-1].tolist()


@pytest.mark.parametrize("name", NETWORKS)
def test_states_and_gradients_stay_finite_where_exponentials_would_not(name):
    """Gates open and shut by weights that are 100 times too large, over 300 steps, in float32."""
    model = build(name, dropout=0.0).float()
    with torch.no_grad():
        for parameter in model.stack.layers.parameters():
            parameter.mul_(100 if parameter.dim() > 1 else 1)
    loss, _, hidden = model.training_loss(tokens_of(300), tokens_of(300), model.initial_hidden(BATCH))
    loss.backward()
    assert loss.isfinite()
    assert all(part.isfinite().all() for part in hidden_tensors(hidden))
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_where_networks_start():
    """Griffin: a^8 in .9 to .999. Mamba: step sizes of .001 to .1 and -1 to -N. xLSTM: forget biases of 3 to 6."""
    layer = build("rg_lru", hidden=400).stack.layers[0]
    a = torch.sigmoid(layer.decay.detach()) ** 8
    assert 0.9 <= float(a.min()) < 0.91
    assert 0.99 < float(a.max()) <= 0.999
    layer = build("mamba", hidden=400, states=16).stack.layers[0]
    sizes = torch.nn.functional.softplus(layer.step_size.bias.detach())
    assert 0.001 <= float(sizes.min()) < 0.0012
    assert 0.08 < float(sizes.max()) <= 0.1
    assert layer.log_decay.exp().view(16, 800)[:, 7].tolist() == pytest.approx(range(1, 17))
    forget = build("slstm").stack.layers[0].input.bias[HIDDEN : 2 * HIDDEN]
    assert forget.view(3, 6)[2].tolist() == pytest.approx([3, 3.6, 4.2, 4.8, 5.4, 6])


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("slstm", {"hidden": 10, "heads": 4}, r"^model\.hidden=10 must be a multiple of model\.heads=4\.$"),
        ("slstm", {"heads": 0}, r"^model\.heads=0 "),
        ("mamba", {"states": 0}, r"^model\.states=0 "),
        ("gru", {"layers": 0}, r"^model\.layers=0 "),
        ("min_gru_classifier", {"dropout": 1.0}, r"^model\.dropout=1\.0 must lie in \[0, 1\)\.$"),
    ],
)
def test_settings_that_cannot_be_are_refused(name, settings, said):
    with pytest.raises(ConfigError, match=said):
        lookup("model", name)(**settings)


@pytest.mark.parametrize("name", NETWORKS)
def test_products_may_be_in_bfloat16(name):
    """Under autocast, as on a GPU: states and gradients stay in float32, and the loss is near the exact one."""
    model, tokens = build(name, dropout=0.0).float(), tokens_of()
    exact, _, _ = model.training_loss(tokens, tokens.flip(0), started(model.double()))
    model.float()
    with torch.autocast("cpu", torch.bfloat16):
        hidden = map_hidden(Tensor.float, started(model))
        rounded, _, hidden = model.training_loss(tokens, tokens.flip(0), hidden)
    torch.testing.assert_close(rounded.double(), exact, rtol=2e-2, atol=0)
    rounded.backward()
    assert {part.dtype for part in hidden_tensors(hidden)} == {torch.float32}
    assert all(p.grad.isfinite().all() for p in model.parameters())
