"""A growth rule that reads activations, in runs of every model and in `sparsify`; and what the others do not pay."""

from dataclasses import replace

import pytest
import torch
from coactive_growth import CoactiveGrowth
from test_every_combination import CheckedTrainer, composed, data, train
from torch import nn

from sparse_rnn import sparsify
from sparse_rnn.backends.choice import choose_backend
from sparse_rnn.core import registry
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.runs.folder import RunFolder
from sparse_rnn.sparsity.method import make_topology
from sparse_rnn.training.assembly import check_method
from sparse_rnn.training.captured_step import CapturedStep

MODELS = {
    "stacked_lstm": "snt_asgd",
    "rhn": "adam",
    "on_lstm": "momentum_sgd",
    "awd_lstm_mos": "nt_asgd",
    "lstm_classifier": "adam",
}
STEPS, INTERVAL = 12, 4


def run_of(model, *more):
    """A run whose method grows by co-activation."""
    return replace(composed(model, "rigl", MODELS[model], *more), growth=CoactiveGrowth())


def watching(model):
    """How many hooks and listeners there are in a model."""
    hooks = sum(len(module._forward_hooks) for module in model.modules())
    return hooks + sum("activation_listener" in module.__dict__ for module in model.modules())


@pytest.mark.parametrize("interval", ["epoch", "7"])
@pytest.mark.parametrize("model", MODELS)
def test_every_model_trains_and_resumes(model, interval, tmp_path):
    """With dropout, sub-batches and windows of variable length, as the recipes have them; stopped before updates."""
    run = run_of(model, f"sparsifier.update_interval={interval}")
    whole, results = train(run, tmp_path / "whole")
    other, _ = train(composed(model, "rigl", MODELS[model], f"sparsifier.update_interval={interval}"), tmp_path / "by")
    assert whole != other, "it grows what the gradient does"
    for stop_at in (7, 15):
        assert train(run, tmp_path / f"resumed{stop_at}", stop_at) == (whole, results)


class Watched(CheckedTrainer):
    """Counts what watches the model before every step and while it is computed."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.outside, self.inside = [], []
        self.model.register_forward_pre_hook(lambda *_: self.inside.append(watching(self.model)))

    def train_step(self, batch):
        self.outside.append(watching(self.model))
        super().train_step(batch)
        self.outside.append(watching(self.model))


def watched(run, folder):
    trainer = Watched(run, data(run.dataset.name), RunFolder(folder), torch.device("cpu"))
    trainer.batches = trainer.task.batches(0)
    for batch in trainer.batches.after(0):
        trainer.train_step(batch)
        trainer.sparsifier.after_step(trainer.clock)
    return trainer


def test_activations_are_kept_only_where_an_update_is_due(tmp_path):
    trainer = watched(run_of("stacked_lstm", "sparsifier.update_interval=5"), tmp_path)
    assert not any(trainer.outside)
    steps = range(1, len(trainer.inside) + 1)
    assert [bool(count) for count in trainer.inside] == [step % 5 == 0 for step in steps]
    assert trainer.inside[4] == 4  # embedding and decoder have a hook, LSTM and decoder listen


@pytest.mark.parametrize("method", ["rigl", "snfs", "selfish", "static_uniform", "gmp"])
def test_other_methods_pay_nothing(method, tmp_path):
    trainer = watched(composed("stacked_lstm", method, "snt_asgd", "sparsifier.update_interval=1"), tmp_path)
    assert trainer.sparsifier._coactivation is None
    assert not any([*trainer.inside, *trainer.outside])


def test_recorded_steps_are_computed_where_activations_are_read(tmp_path):
    """The same result whether steps are recorded and replayed or not, and hooks in no record."""
    recorded = []

    def record(work):
        def replay():
            recorded.append(watching(trainer.model))
            work()

        return replay

    # Momentum SGD at a rate that float32 has exactly, and windows of one length.
    run = run_of("on_lstm", "sparsifier.update_interval=7", "training.variable_bptt=false")
    plain = watched(run, tmp_path)
    trainer = Watched(run, data(run.dataset.name), RunFolder(tmp_path), torch.device("cpu"))
    trainer.step = CapturedStep(trainer.step, record)
    trainer.batches = trainer.task.batches(0)
    updates = 0
    for batch in trainer.batches.after(0):
        trainer.train_step(batch)
        updates += trainer.sparsifier.after_step(trainer.clock) is not None
    assert updates == 2
    assert recorded
    assert not any(recorded)
    for ours, theirs in zip(trainer.topology, plain.topology, strict=True):
        assert torch.equal(ours.mask, theirs.mask), ours.name


def test_the_kernels_refuse_and_auto_takes_masks():
    run = run_of("stacked_lstm", "sparsifier.sparsity=0.9")
    sentence = (
        "sparsifier.backend=sparse is not possible, because its modules do not show the activations that the method "
        "reads: use sparsifier.backend=masked."
    )
    with pytest.raises(ConfigError) as refused:
        check_method(replace(run, sparsifier=replace(run.sparsifier, backend="sparse")))
    assert str(refused.value) == sentence
    with torch.device("meta"):
        model = run.model.build(20_000)
        topology = make_topology(run.sparsifier, model)
    parts = run.sparsifier, run.growth, run.optimizer, run.protocol
    choice = choose_backend(*parts, model, topology, torch.device("cpu"))
    assert (choice.name, choice.reason) == ("masked", "its modules do not show the activations that the method reads")


@pytest.fixture
def coactive(monkeypatch):
    """The rule by its name."""
    monkeypatch.setitem(registry._REGISTRY["growth"], "coactive", CoactiveGrowth)
    return "coactive"


def test_a_signal_that_does_not_exist_is_refused():
    class Misspelt(CoactiveGrowth):
        needs = frozenset({"activation"})

    run = replace(run_of("stacked_lstm"), growth=Misspelt())
    with pytest.raises(ConfigError, match=r"^growth=coactive reads activation, .* \(did you mean activations or"):
        check_method(run)


def test_sparsify_grows_the_most_coactive(coactive):
    """Of a layer that is its own group: exactly the inactive entries with the largest |mean of y x|."""
    model = nn.Sequential(nn.Linear(6, 8, bias=False), nn.Tanh(), nn.Linear(8, 4, bias=False))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sparsifier = sparsify(
        *(model, optimizer), sparsity=0.5, steps=STEPS, update_interval=INTERVAL, growth=coactive, method="rigl"
    )
    updates = 0
    for step in range(1, STEPS + 1):
        x = torch.randn(5, 6)
        with torch.no_grad():
            model(100 * x)  # an evaluation, which is no part of the minibatch
        assert bool(watching(model)) == (step % INTERVAL == 0 and step < STEPS)
        optimizer.zero_grad()
        model(x).square().mean().backward()
        expected = (model[0](x).detach().t() @ x / 5).abs()
        sparsifier.before_step()
        optimizer.step()
        before, weights = model[0].weight != 0, model[0].weight.detach().abs()
        report = sparsifier.after_step()
        if report is not None:
            updates += 1
            count = round(report.rate * int(before.count_nonzero()))
            removed = weights.masked_fill(~before, torch.inf).flatten().argsort()[:count]
            survived = before.flatten().scatter(0, removed, False)
            grown = expected.flatten().masked_fill(survived, -1).argsort(descending=True)[:count]
            assert torch.equal(sparsifier.topology["0.weight"].mask.flatten(), survived.scatter(0, grown, True))
    assert updates == 2
    assert not watching(model)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.AdamW])
def test_sparsify_and_torch_s_layers(coactive, kind, optimizer):
    """Two bidirectional layers with dropout behind an embedding, stopped and resumed with an update ahead."""

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(9, 6)
            self.rnn = kind(6, 5, num_layers=2, bidirectional=True, dropout=0.3)
            self.head = nn.Linear(10, 9)

        def forward(self, tokens):
            return self.head(self.rnn(self.embedding(tokens))[0])

    def made():
        torch.manual_seed(1)
        model = Network()
        steps = optimizer(model.parameters(), 0.01)
        return model, steps, sparsify(model, steps, sparsity=0.7, steps=STEPS, update_interval=3, growth=coactive)

    def train(model, steps, sparsifier, numbers):
        for number in numbers:
            torch.manual_seed(number)
            tokens = torch.randint(9, (7, 4))
            steps.zero_grad()
            nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
            sparsifier.before_step()
            steps.step()
            sparsifier.after_step()
            for weight in sparsifier.topology:
                assert not weight.parameter.detach()[~weight.mask].any()

    whole, resumed = made(), made()
    start = {weight.name: weight.mask.clone() for weight in whole[2].topology}
    train(*whole, range(STEPS))
    train(*resumed, range(5))
    states = [part.state_dict() for part in resumed]
    again = made()
    for part, state in zip(again, states, strict=True):
        part.load_state_dict(state)
    train(*again, range(5, STEPS))
    for name, parameter in whole[0].named_parameters():
        assert torch.equal(parameter, again[0].get_parameter(name)), name
    for weight in whole[2].topology:
        assert torch.equal(weight.mask, again[2].topology[weight.name].mask)
        assert not torch.equal(weight.mask, start[weight.name]), f"{weight.name} never changed"


def test_sparsify_refuses_what_it_cannot_see(coactive):
    model = nn.Sequential(nn.Linear(2, 2), nn.Conv1d(2, 2, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(ConfigError, match=r"^The activations of 1\.weight cannot be had, "):
        sparsify(model, optimizer, sparsity=0.5, steps=STEPS, update_interval=3, growth=coactive)
