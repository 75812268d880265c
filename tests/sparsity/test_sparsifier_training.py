"""Methods at work on a small nn.LSTM language model, as configured by conf/sparsifier."""

import math

import pytest
import torch
from storages import masked_only, state_of
from torch import nn

from sparse_rnn.core.conf import config_dir
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.optim.averaged_sgd import AveragedSGD
from sparse_rnn.sparsity.composition import check_composition
from sparse_rnn.sparsity.method import refuse_without_gates
from sparse_rnn.sparsity.optimizer_state import tensors_like
from sparse_rnn.sparsity.rules.growth import GradientGrowth, RandomGrowth
from sparse_rnn.sparsity.sparsifier import Clock, Sparsifier
from sparse_rnn.sparsity.topology import SparseTopology

# See test_iss.py and test_structured_topologies.py.
METHODS = sorted({path.stem for path in (config_dir() / "sparsifier").glob("*.yaml")} - {"iss", "srigl"})
OPTIMIZERS = ["adam", "adamw", "momentum_sgd", "nt_asgd", "snt_asgd"]
STATIC = {"dense", "static_er", "static_uniform", "snip", "grasp", "synflow", "imp"}


def inactive_state(run) -> dict[str, torch.Tensor]:
    """All that the optimizer keeps of inactive weights, by weight and kind."""
    kept = {}
    for weight in run.topology:
        for kind, tensor in state_of(run.optimizer, weight).items():
            kept[f"{weight.name} {kind}"] = tensor[~weight.mask]
    if isinstance(run.optimizer, AveragedSGD):
        totals = run.optimizer.state_dict()["averages"]
        for parameter, average in zip(run.optimizer.parameters, totals, strict=False):
            for weight in run.topology:
                if weight.parameter is parameter:
                    kept[f"{weight.name} total"] = weight.storage.dense(average["total"])[~weight.mask]
    return kept


def pairs():
    """Every method with every optimizer, and under the other protocol with one of them, by turns."""
    for number, method in enumerate(METHODS):
        yield from ((method, optimizer, "paper") for optimizer in OPTIMIZERS)
        yield method, OPTIMIZERS[number % len(OPTIMIZERS)], "official_code"


@pytest.mark.parametrize(("method", "optimizer", "protocol"), list(pairs()))
def test_invariants_of_every_method_under_every_optimizer(training, method, optimizer, protocol):
    """Twelve steps, an update every third but none when training is over, averaging from the fourth step on."""
    run = training(
        f"sparsifier={method}", f"optimizer={optimizer}", f"protocol={protocol}", "sparsifier.update_interval=3"
    )
    sparsifier, topology, config = run.sparsifier, run.topology, run.run.sparsifier
    target = topology.active
    if method != "dense" and not config.prunes:
        assert target == round(0.33 * topology.size)
    updates = {}
    for step in range(1, 13):
        before = {w.name: w.mask.clone() for w in topology}
        run.backward()
        report = run.step()
        if step % run.batches == 0:
            assert run.end_of_epoch(triggered=step == 3) is None
        for weight in topology:
            assert not weight.values[~weight.mask].any(), f"{weight.name} after step {step}"
        if protocol == "paper":
            for kind, kept in inactive_state(run).items():
                if not (optimizer == "nt_asgd" and "total" in kind):
                    assert not kept.any(), f"{kind} after step {step}"
        if report is None:
            assert all(torch.equal(w.mask, before[w.name]) for w in topology)
            continue
        updates[step] = report
        assert report.active == topology.active
        assert report.removed - report.grown == sum(int(m.sum()) for m in before.values()) - report.active
        assert report.active == (sparsifier.schedule.kept(topology.size, step / 12) if config.prunes else target)
    expected = set() if method in STATIC else {3, 6, 9}
    if config.prunes:
        expected = {step for step in expected if step / 12 >= config.prune_start} | {math.ceil(12 * config.prune_end)}
        expected |= {step for step in range(1, 13) if sparsifier.schedule.turns((step - 1) / 12, step / 12)}
    assert set(updates) == expected
    if method == "gmp":
        for step, report in updates.items():
            assert report.grown == 0
            sparsity = 0.67 * (1 - (1 - min((step / 12 - 0.3) / 0.6, 1)) ** 3)
            assert report.active == round((1 - sparsity) * topology.size)
    if method != "dense":
        assert sparsifier.at_target
        assert topology.active == round(0.33 * topology.size)
    if updates and not config.prunes and sparsifier.removal.exact:  # DSR's first threshold removes little
        assert updates[3].removed == pytest.approx(updates[3].rate * target, abs=20)


@pytest.mark.parametrize("method", [m for m in METHODS if m not in STATIC])
def test_updates_change_the_topology(training, method):
    run = training(f"sparsifier={method}", "optimizer=adam", "sparsifier.update_interval=3")
    start = {w.name: w.mask.clone() for w in run.topology}
    if method == "dsr":
        run.sparsifier.removal.threshold = 0.05
    if method == "deep_r":
        run.sparsifier.perturbation.noise = 100.0  # no sign flips in so few steps of Adam
    for _ in range(9 if run.run.sparsifier.initial == "dense" else 6):
        run.backward()
        run.step()
    changed = [w.name for w in run.topology if not torch.equal(w.mask, start[w.name])]
    assert len(changed) == len(run.topology)


def test_epochs_end_with_an_update_except_the_last(training):
    run = training("sparsifier=selfish", "optimizer=snt_asgd")
    reports = []
    for step in range(1, 13):
        run.backward()
        assert run.step() is None
        if step % run.batches == 0:
            reports.append(run.end_of_epoch())
    assert [report is not None for report in reports] == [True, True, True, False]
    rates = [report.rate for report in reports[:3]]
    assert rates == pytest.approx([0.35 * (1 + 2**-0.5), 0.35, 0.35 * (1 - 2**-0.5)])


@pytest.mark.parametrize(("until", "expected"), [("1.0", [2, 4, 6, 8, 10]), ("0.5", [2, 4, 6]), ("0.49", [2, 4])])
def test_nothing_changes_after_update_until(training, until, expected):
    settings = ["sparsifier.update_interval=2", f"sparsifier.update_until={until}"]
    run = training("sparsifier=set", "optimizer=adam", *settings)
    done = []
    for step in range(1, 13):
        run.backward()
        if run.step() is not None:
            done.append(step)
    assert done == expected


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"schedule": "cubic", "removal": "magnitude", "update_until": 0.5}, "never be reached"),
        ({"prune_start": 0.5, "prune_end": 0.5}, "prune_start"),
        ({"update_until": 0.0}, "update_until"),
        ({"sparsity": 1.0}, "sparsity=1.0"),
        ({"removal_rate": -0.1}, "removal_rate"),
        ({"noise": -0.1}, "noise"),
        ({"l1": -0.1}, "l1"),
        ({"gradient_weight": -0.1}, "gradient_weight"),
        ({"temperature": 0.5}, "temperature"),
        ({"alternations": 0}, "alternations"),
        ({"update_interval": "0"}, "update_interval"),
        ({"update_interval": "epochs"}, "update_interval"),
        ({"scope": "layer"}, "scope"),
        ({"removal": "magnitud"}, "did you mean magnitude"),
        ({"redistribution": "gate"}, "redistribution=gate"),
    ],
)
def test_a_method_that_cannot_be_is_refused_in_one_sentence(method, settings, complaint):
    with pytest.raises(ConfigError, match=complaint) as refused:
        method(**settings)
    assert str(refused.value).startswith("sparsifier.")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "growth", "complaint"),
    [
        ({"removal": "sign_flip", "schedule": "elastic"}, "random", "removal=sign_flip decides itself how many"),
        ({"removal": "threshold", "schedule": "cubic"}, "none", "removal=threshold decides itself how many"),
        ({"removal": "magnitude", "schedule": "cubic_regrowth"}, "none", "must grow as many"),
        ({"removal": "magnitude", "initial_sparsity": 0.2}, "random", "initial_sparsity=0.2 is for a sparse start"),
        (
            {"removal": "magnitude", "schedule": "cubic_regrowth", "initial_sparsity": 0.6},
            "random",
            r"initial_sparsity=0.6 must lie between 0 and sparsifier\.sparsity",
        ),
        (
            {"removal": "magnitude", "schedule": "cubic_regrowth", "initial": "dense", "initial_sparsity": 0.1},
            "random",
            "initial_sparsity=0.1 is for a sparse start",
        ),
    ],
)
def test_parts_that_contradict_each_other_are_refused_in_one_sentence(method, settings, growth, complaint):
    with pytest.raises(ConfigError, match=complaint) as refused:
        check_composition(method(**settings), growth)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("settings", [{"scope": "gate"}, {"redistribution": "gate_magnitude"}])
def test_methods_that_work_on_gates_need_gates(method, settings):
    refuse_without_gates(method(**settings), SparseTopology.of(nn.LSTM(3, 4)))
    with pytest.raises(ConfigError, match="needs gates"):
        refuse_without_gates(method(**settings), SparseTopology.of(nn.Linear(3, 4)))


def test_the_official_code_keeps_dense_moments_and_masks_momentum(training):
    """facts B.6: Adam's moments are dense; momentum buffers are masked after every step."""
    for optimizer, kind, dense in [("adam", "exp_avg_sq", True), ("momentum_sgd", "momentum_buffer", False)]:
        run = training("sparsifier=selfish", f"optimizer={optimizer}", "protocol=official_code")
        for _ in range(2):
            run.backward()
            run.step()
        kept = inactive_state(run)
        assert all(bool(kept[f"{w.name} {kind}"].any()) == dense for w in run.topology)


@pytest.mark.parametrize(("protocol", "updated"), [("paper", True), ("official_code", False)])
def test_the_epoch_of_the_trigger(training, protocol, updated):
    """facts C, row 16: the official code leaves the topology alone in that epoch; the next one is as usual."""
    run = training("sparsifier=rigl", "optimizer=snt_asgd", f"protocol={protocol}")
    for _ in range(3):
        run.backward()
        run.step()
    assert (run.end_of_epoch(triggered=True) is not None) == updated
    assert run.sparsifier.state_dict()["signals"] == {}
    for _ in range(3):
        run.backward()
        run.step()
    assert run.end_of_epoch() is not None


def test_gates_are_sorted_together_or_apart(training):
    """Selfish-RNN sorts across the gates of a tensor and lets their counts go; ST-RNN keeps every gate's count."""
    changes = {}
    for method in ("selfish", "st_rnn"):
        run = training(f"sparsifier={method}", "optimizer=momentum_sgd", "sparsifier.update_interval=3")
        start = run.topology.density(by="gate")
        for _ in range(6):
            run.backward()
            run.step()
        changes[method] = {name: density - start[name] for name, density in run.topology.density(by="gate").items()}
    assert not any(changes["st_rnn"].values())
    assert sum(change != 0 for change in changes["selfish"].values()) > 8


class GRUModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.gru, self.out = nn.Embedding(23, 8), nn.GRU(8, 8), nn.Linear(8, 23)

    def forward(self, tokens):
        return self.out(self.gru(self.embedding(tokens))[0])


class TransformerModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.out = nn.Embedding(23, 8), nn.Linear(8, 23)
        layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, tokens):
        return self.out(self.encoder(self.embedding(tokens)))


@masked_only("the kernels know neither of the two")
@pytest.mark.parametrize(("growth", "removal"), [(RandomGrowth(), "magnitude"), (GradientGrowth(), "set")])
@pytest.mark.parametrize("model_type", [GRUModel, TransformerModel])
def test_modules_that_know_nothing_of_it(method, model_type, growth, removal):
    """Any nn.Module and any optimizer: twelve steps, six updates, counts exact, inactive weights and state zero."""
    torch.manual_seed(1)
    model = model_type()
    topology = SparseTopology.of(model)
    optimizer = torch.optim.RMSprop(model.parameters(), 0.01, momentum=0.9)
    config = method(removal=removal, redistribution="gates", update_interval="2", sparsity=0.6)
    sparsifier = Sparsifier(config, growth, topology, optimizer, seed=1)
    target = topology.active
    assert target == round(0.4 * topology.size)
    start = topology.state_dict()
    losses, updates = [], 0
    tokens = torch.randint(23, (7, 4))
    for step in range(1, 13):
        clock = Clock(step, 0, 1, step, 13)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(tokens[:-1]).flatten(0, 1), tokens[1:].flatten())
        torch.autograd.backward(loss)
        sparsifier.before_step(clock)
        optimizer.step()
        updates += sparsifier.after_step(clock) is not None
        losses.append(loss.item())
        assert topology.active == target
        for weight in topology:
            assert not weight.parameter[~weight.mask].any()
            for tensor in tensors_like(optimizer, weight.parameter).values():
                assert not tensor[~weight.mask].any()
    assert updates == 6
    assert losses[-1] < losses[0]
    assert all(not torch.equal(topology.state_dict()[name]["bits"], start[name]["bits"]) for name in start)
