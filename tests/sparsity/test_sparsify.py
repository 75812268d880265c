"""`sparsify` on other people's modules, in their own training loops."""

import functools
import io
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from storages import masked_only
from torch import Tensor, nn

from sparse_rnn import sparsify
from sparse_rnn.config.compose import compose_run
from sparse_rnn.core.conf import config_dir
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.optim.averaged_sgd import AveragedSGD
from sparse_rnn.sparsity.api import StepSparsifier
from sparse_rnn.sparsity.method import SparsifierConfig
from sparse_rnn.sparsity.optimizer_state import tensors_like
from sparse_rnn.sparsity.sparsifier import Clock

pytestmark = masked_only("sparsify masks dense weights")

STEPS, INTERVAL = 40, 8
CLASSES, LENGTH, BATCH = 4, 6, 16


METHODS = sorted({path.stem for path in (config_dir() / "sparsifier").glob("*.yaml")} - {"dense", "iss"})
STATIC = {"static_er", "static_uniform"}


@functools.cache
def config_of(method: str) -> SparsifierConfig:
    """A method as the trainer composes it."""
    return compose_run([f"sparsifier={method}"]).sparsifier


class Cell(nn.Module):
    """A gated cell as somebody wrote it: two gates stacked in one matrix of inputs and hidden state."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.weight = nn.Parameter(torch.randn(2 * hidden, inputs + hidden) / hidden**0.5)

    def forward(self, inputs: Tensor) -> Tensor:
        """[T, B, inputs] to the last hidden state [B, hidden]."""
        state = inputs.new_zeros(inputs.shape[1], self.hidden)
        for x in inputs:
            update, new = (torch.cat((x, state), 1) @ self.weight.T).chunk(2, 1)
            state = torch.lerp(state, torch.tanh(new), torch.sigmoid(update))
        return state


class DeclaringCell(Cell):
    """The same, with its gates declared."""

    def gates(self) -> dict[str, dict[str, slice]]:
        return {"weight": {"update": slice(0, self.hidden), "new": slice(self.hidden, 2 * self.hidden)}}


class Classifier(nn.Module):
    """Tells from a sequence which token it began with."""

    def __init__(self, encoder: nn.Module, pick: Callable[[object], Tensor]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CLASSES, 16)
        self.encoder, self.pick, self.head = encoder, pick, nn.Linear(16, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        """int64 [T, B] to logits [B, classes]."""
        return self.head(self.pick(self.encoder(self.embedding(tokens))))


def make(kind: str) -> Classifier:
    """A classifier around nn.GRU, a hand-written cell, or nn.TransformerEncoder, always with the same weights."""
    torch.manual_seed(3)
    if kind == "gru":
        return Classifier(nn.GRU(16, 16), lambda output: output[1][0])
    if kind == "transformer":
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0)
        return Classifier(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), lambda output: output[0])
    return Classifier({"cell": Cell, "declaring": DeclaringCell}[kind](16, 16), lambda state: state)


MODULES = ["gru", "cell", "declaring", "transformer"]


class Loop:
    """A training loop with the three lines in it."""

    def __init__(self, kind: str = "gru", optimizer: str = "adam", **settings: object) -> None:
        self.model = make(kind)
        self.optimizer = {
            "adam": lambda p: torch.optim.Adam(p, 0.01),
            "momentum": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
            "averaged": lambda p: AveragedSGD(p, 0.5),
        }[optimizer](self.model.parameters())
        chosen = {"sparsity": 0.6, "steps": STEPS, "update_interval": INTERVAL} | settings
        self.sparsifier = sparsify(self.model, self.optimizer, **chosen)
        self.losses: list[float] = []

    def step(self):
        """One step on the minibatch of its number."""
        tokens = torch.randint(CLASSES, (LENGTH, BATCH), generator=torch.Generator().manual_seed(len(self.losses)))
        loss = nn.functional.cross_entropy(self.model(tokens), tokens[0])
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.sparsifier.before_step()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.losses.append(float(loss.detach()))
        return self.sparsifier.after_step()

    def run(self, steps: int) -> dict[int, object]:
        """So many steps; the reports of the updates, by step."""
        reports = {len(self.losses): self.step() for _ in range(steps)}
        return {step + 1: report for step, report in reports.items() if report is not None}

    @property
    def masks(self) -> dict[str, Tensor]:
        return {w.name: w.mask.clone() for w in self.sparsifier.topology}


def assert_inactive_is_zero(loop: Loop) -> None:
    for weight in loop.sparsifier.topology:
        assert not weight.parameter[~weight.mask].count_nonzero(), weight.name
        for key, tensor in tensors_like(loop.optimizer, weight.parameter).items():
            assert not tensor[~weight.mask].count_nonzero(), f"{key} of {weight.name}"


def expected_updates(config: SparsifierConfig) -> list[int]:
    if not config.dynamic:
        return []
    regular = [step for step in range(INTERVAL, STEPS, INTERVAL) if step / STEPS <= config.update_until]
    if not config.prunes:
        return regular
    inside = [step for step in regular if config.prune_start <= step / STEPS < config.prune_end]
    return [*inside, next(step for step in range(STEPS + 1) if step / STEPS >= config.prune_end)]


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("method", METHODS)
def test_counts_are_exact_and_inactive_weights_stay_zero(kind, method):
    config = config_of(method)
    loop = Loop(kind, method=method)
    topology = loop.sparsifier.topology
    fixed = round(0.4 * topology.size)
    if config.initial != "dense":
        assert topology.active == fixed
    updates = []
    for step in range(1, STEPS + INTERVAL + 1):
        before = loop.masks
        report = loop.step()
        assert_inactive_is_zero(loop)
        changed = any(not torch.equal(mask, before[name]) for name, mask in loop.masks.items())
        if report is None:
            assert not changed, f"the topology changed in step {step} without an update"
            continue
        updates.append(step)
        assert report.active == topology.active
        if config.prunes:
            done = min((step / STEPS - config.prune_start) / (config.prune_end - config.prune_start), 1)
            assert topology.active == round((1 - 0.6 * (1 - (1 - done) ** 3)) * topology.size)
        else:
            assert topology.active == fixed
            assert report.removed == report.grown
            assert changed == (report.removed > 0)
    assert updates == expected_updates(config)
    if config.dynamic:
        assert topology.active == fixed


@pytest.mark.parametrize("kind", MODULES)
@pytest.mark.parametrize("method", [name for name in METHODS if name not in STATIC | {"gmp"}])
def test_an_update_moves_weights(kind, method):
    loop = Loop(kind, method=method)
    if hasattr(loop.sparsifier.removal, "threshold"):
        loop.sparsifier.removal.threshold = 0.05  # DSR's first removes little
    start = loop.masks
    assert list(loop.run(INTERVAL)) == [INTERVAL]
    assert sum(int((mask ^ start[name]).sum()) for name, mask in loop.masks.items()) > 20


@pytest.mark.parametrize("kind", MODULES)
def test_the_loss_falls(kind):
    loop = Loop(kind, steps=150, sparsity=0.5)
    loop.run(150)
    assert loop.losses[0] > 1.2
    assert sum(loop.losses[-10:]) / 10 < 0.4


@pytest.mark.parametrize(
    ("method", "optimizer"), [("selfish", "averaged"), ("snfs", "adam"), ("dsr", "momentum"), ("gmp", "adam")]
)
@pytest.mark.parametrize("stop", [INTERVAL - 1, INTERVAL, 29])
def test_resuming_is_exact(method, optimizer, stop):
    """Model, optimizer and sparsifier written and read: every later value is the same, to the bit."""
    whole = Loop(method=method, optimizer=optimizer)
    whole.run(STEPS)
    first = Loop(method=method, optimizer=optimizer)
    first.run(stop)
    file = io.BytesIO()
    torch.save([part.state_dict() for part in (first.model, first.optimizer, first.sparsifier)], file)
    file.seek(0)
    second = Loop(method=method, optimizer=optimizer)
    second.losses = list(first.losses)
    for part, state in zip((second.model, second.optimizer, second.sparsifier), torch.load(file), strict=True):
        part.load_state_dict(state)
    assert second.sparsifier.step == stop
    second.run(STEPS - stop)
    assert second.losses == whole.losses
    for name, value in whole.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], value), name
    assert all(torch.equal(mask, second.masks[name]) for name, mask in whole.masks.items())


def test_an_optimizer_that_has_stepped_already_forgets_what_is_inactive():
    """A pretrained module: momentum would move its inactive weights, however well the gradients are masked."""
    model = make("gru")
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    sparsifier = sparsify(model, optimizer, sparsity=0.5, steps=10, method="static_uniform")
    sparsifier.before_step()
    optimizer.step()
    for weight in sparsifier.topology:
        assert not weight.parameter[~weight.mask].count_nonzero()


def test_gates_are_those_declared():
    rows = {"update": slice(0, 16), "new": slice(16, 32)}
    by_argument = Loop("cell", gates={"encoder.weight": rows}).sparsifier
    by_method = Loop("declaring").sparsifier
    for sparsifier in (by_argument, by_method):
        weight = sparsifier.topology["encoder.weight"]
        assert dict(weight.gates) == rows
        assert sparsifier.topology["head.weight"].cell is None
    assert set(Loop("gru").sparsifier.topology["encoder.weight_hh_l0"].gates) == {"reset", "update", "new"}
    assert list(Loop("cell").sparsifier.topology["encoder.weight"].gates) == ["all"]


def test_gates_on_their_own_keep_their_counts():
    loop = Loop("declaring", method="st_rnn")
    weight = loop.sparsifier.topology["encoder.weight"]
    before = [int(weight.mask[rows].sum()) for rows in weight.gates.values()]
    assert len(loop.run(STEPS)) == 4
    assert [int(weight.mask[rows].sum()) for rows in weight.gates.values()] == before


def test_weights_can_be_kept_dense():
    loop = Loop(keep_dense=["embedding.*", "head.*"])
    assert set(loop.masks) == {"encoder.weight_ih_l0", "encoder.weight_hh_l0"}
    loop.run(INTERVAL)
    assert loop.model.embedding.weight.count_nonzero() == loop.model.embedding.weight.numel()


def test_parts_of_a_method_can_be_exchanged():
    sparsifier = Loop(method="rigl", growth="random", initial="uniform", scope="cell", schedule="constant").sparsifier
    config = sparsifier.config
    assert (config.name, config.initial, config.scope, config.schedule) == ("rigl", "uniform", "cell", "constant")
    assert sparsifier.growth.name == "random"
    assert not sparsifier.needs


def test_the_rate_falls_over_the_steps():
    reports = Loop(removal_rate=0.4).run(STEPS)
    assert [reports[step].rate for step in (8, 16, 24, 32)] == pytest.approx(
        [0.361803, 0.261803, 0.138197, 0.038197], abs=1e-5
    )


def test_averaged_sgd_puts_the_gradient_in_momentum_s_place():
    assert Loop(method="snfs", optimizer="averaged").sparsifier.needs == {"gradient"}
    assert Loop(method="snfs", optimizer="momentum").sparsifier.needs == {"momentum"}


def test_seeds_draw_different_topologies():
    one, same, other = (Loop(seed=seed).masks["encoder.weight_hh_l0"] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_clock_of_one_s_own_takes_the_count_s_place():
    model = make("gru")
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sparsifier = sparsify(model, optimizer, sparsity=0.5, steps=STEPS, update_interval=5)
    clock = Clock(step=20, epoch=0, epochs=1, batch=20, batches=STEPS)
    sparsifier.before_step(clock)
    assert sparsifier.after_step(clock) is not None
    assert sparsifier.step == 20


def test_leaving_out_before_step_is_noticed():
    loop = Loop()
    loop.run(2)
    with pytest.raises(RuntimeError, match="before_step"):
        loop.sparsifier.after_step()


def test_a_hydra_application_of_the_caller_s_stays_as_it_was():
    application = object()
    GlobalHydra.instance().hydra = application
    try:
        Loop()
        assert GlobalHydra.instance().hydra is application
    finally:
        GlobalHydra.instance().hydra = None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "selfihs"}, ["method=selfihs", "selfish"]),
        ({"method": "dense"}, ["method=dense", "no topology"]),
        ({"method": "iss"}, ["method=iss", "composition"]),
        ({"method": "rigl", "growth": "gradeint"}, ["gradeint", "gradient"]),
        ({"method": "static_er", "growth": "random"}, ["static_er", "growth=random"]),
        ({"sparsity": 1.0}, ["sparsity=1.0", "[0, 1)"]),
        ({"removal_rate": -0.1}, ["removal_rate=-0.1"]),
        ({"steps": 0}, ["steps=0"]),
        ({"steps": 8}, ["update_interval=8", "steps=8"]),
        ({"update_interval": 0}, ["update_interval=0"]),
        ({"scop": "cell"}, ["scop", "scope"]),
        ({"scope": "layer"}, ["scope=layer"]),
        ({"backend": "sparse"}, ["backend=sparse", "sparse_rnn.train"]),
        ({"keep_dense": ["nothing.*"]}, ["nothing.*", "head.weight"]),
        ({"gates": {"encoder.weight": {"all": slice(0, 1)}}}, ["encoder.weight", "not a parameter"]),
    ],
)
def test_mistakes_are_one_sentence(settings, words):
    with pytest.raises(ConfigError) as caught:
        Loop(**settings)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    for word in words:
        assert word in sentence


@pytest.mark.parametrize("settings", [{"scope": "gate"}, {"redistribution": "gate_magnitude"}])
def test_what_works_on_gates_is_refused_without_any(settings):
    with pytest.raises(ConfigError, match="needs gates"):
        Loop("transformer", **settings)


def test_an_optimizer_of_another_module_is_refused():
    optimizer = torch.optim.SGD(make("gru").parameters(), 0.1)
    with pytest.raises(ConfigError, match=r"does not train embedding\.weight, .*head\.weight: .*keep_dense\.$"):
        sparsify(make("gru"), optimizer, sparsity=0.5, steps=STEPS, update_interval=5)


@pytest.mark.parametrize("frozen", ["left out", "without gradient"])
def test_frozen_weights_are_refused_unless_kept_dense(frozen):
    """Removed weights would grow elsewhere and never be trained."""
    model = make("gru")
    if frozen == "without gradient":
        model.embedding.requires_grad_(False)
    trained = [p for name, p in model.named_parameters() if frozen != "left out" or name != "embedding.weight"]
    optimizer = AveragedSGD(trained, 0.1)
    settings = {"sparsity": 0.5, "steps": STEPS, "update_interval": 5}
    with pytest.raises(ConfigError, match=r"^The optimizer does not train embedding\.weight: "):
        sparsify(model, optimizer, **settings)
    sparsifier = sparsify(model, optimizer, keep_dense=["embedding.*"], **settings)
    assert "embedding.weight" not in {weight.name for weight in sparsifier.topology}


def test_the_package_offers_it_without_importing_torch_at_once():
    code = (
        "import sys, sparse_rnn; assert 'torch' not in sys.modules; from sparse_rnn import sparsify; "
        "from sparse_rnn.sparsity.api import sparsify as same; assert sparsify is same is sparse_rnn.sparsify"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert isinstance(Loop().sparsifier, StepSparsifier)
