"""Under protocol=official_code, every loss is that of an independent reimplementation, through updates and trigger."""

import json
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from reimplementation import (
    BATCH,
    BATCHES,
    BPTT,
    CASES,
    CLIP,
    DECAY,
    DENSITY,
    DROPOUT,
    EPOCHS,
    FINAL_RATE,
    GROWTH,
    HIDDEN,
    RATES,
    REMOVAL_RATE,
    TRIGGER,
    WORDS,
    Draws,
    Training,
    start,
    tokens,
)
from torch import Tensor, nn

from sparse_rnn.config.compose import compose_run
from sparse_rnn.models.base import detach
from sparse_rnn.optim.averaged_sgd import AveragedSGD
from sparse_rnn.sparsity.groups import Group
from sparse_rnn.sparsity.method import make_topology
from sparse_rnn.sparsity.sparsifier import Clock
from sparse_rnn.training.assembly import make_optimizer, make_sparsifier

STORED = json.loads((Path(__file__).parent.parent / "golden/official_code.json").read_text())
SETTINGS = [
    *("sparsifier=rigl", "sparsifier.redistribution=none", "protocol=official_code", "budget=smoke"),
    *(f"sparsifier.removal_rate={REMOVAL_RATE}", f"sparsifier.sparsity={1 - DENSITY}", "sparsifier.scope=tensor"),
    *(f"training.clip={CLIP}", f"optimizer.weight_decay={DECAY}", f"model.hidden={HIDDEN}"),
]
SIZES = {"stacked_lstm": ["model.layers=2"], "rhn": ["model.depth=2"]}
DROPOUTS = {"stacked_lstm": ("",), "rhn": ("_word", "_input", "_hidden", "_output")}
case = pytest.mark.parametrize(("model", "dropout", "optimizer"), CASES)


class FirstFree:
    """The first inactive entries grow."""

    name = "first"
    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(self, group: Group, candidates: Tensor, count: int, signals: object, key: object) -> Tensor:
        return candidates & (candidates.cumsum(0) <= count)


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> Draws:
    """Every dropout mask is the next of the reimplementation's."""
    made = Draws()

    def bernoulli(tensor: Tensor, share: float) -> Tensor:
        return tensor.copy_(made.kept(tensor.shape, share))

    def dropped(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        return x * torch.empty_like(x).bernoulli_(1 - p).div_(1 - p) if training and p else x

    monkeypatch.setattr(torch.Tensor, "bernoulli_", bernoulli)
    monkeypatch.setattr(nn.functional, "dropout", dropped)
    return made


class Ours:
    """The same training by this project's model, optimizer and sparsifier, called as the trainer calls them."""

    def __init__(self, model: str, dropout: str, optimizer: str, *more: str) -> None:
        rates = [f"model.dropout{of}={DROPOUT[dropout]}" for of in DROPOUTS[model]]
        components = [f"model={model}", f"optimizer={optimizer}", f"optimizer.lr={RATES[optimizer]}"]
        run = compose_run([*components, *SIZES[model], *rates, *SETTINGS, *more])
        assert run.sparsifier.final_rate == FINAL_RATE or more
        weights, masks = start(model)
        self.model = run.model.build(WORDS).double()
        for name, parameter in self.model.named_parameters():
            parameter.data.copy_(weights[name])
        self.topology = make_topology(run.sparsifier, self.model)
        self.optimizer = make_optimizer(run, self.model)
        self.sparsifier = make_sparsifier(run, self.topology, self.optimizer)
        for weight in self.topology:
            weight.mask.copy_(masks[weight.name])
            weight.parameter.data.copy_(weights[weight.name])
        self.sparsifier._target = self.topology.active
        if GROWTH[dropout] == "first":
            self.sparsifier.growth, self.sparsifier.needs = FirstFree(), frozenset()
        self.run, self.losses, self.valid, self.steps = run, [], [], 0

    def clock(self, step: int) -> Clock:
        return Clock(step, (step - 1) // BATCHES, EPOCHS, (step - 1) % BATCHES + 1, BATCHES)

    def train(self) -> "Ours":
        data = tokens(1)
        for epoch in range(1, EPOCHS + 1):
            hidden = self.model.train().initial_hidden(BATCH)
            for batch in range(BATCHES):
                hidden = self.step(data[batch * BPTT : (batch + 1) * BPTT + 1], detach(hidden))
            self.valid.append(self.validate())
            triggered = epoch == TRIGGER and isinstance(self.optimizer, AveragedSGD)
            if triggered:
                self.optimizer.start_averaging()
            self.sparsifier.after_epoch(self.clock(self.steps), triggered=triggered)
        return self

    def step(self, window: Tensor, hidden: object) -> object:
        clock = self.clock(self.steps + 1)
        self.optimizer.zero_grad(set_to_none=True)
        self.sparsifier.before_backward(clock)
        loss, _, hidden = self.model.training_loss(window[:-1], window[1:], hidden)
        loss.backward()
        self.losses.append(loss.item())
        self.sparsifier.before_step(clock)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.run.training.clip)
        self.optimizer.step()
        self.steps += 1
        self.sparsifier.after_step(clock)
        return hidden

    @torch.no_grad()
    def validate(self) -> float:
        self.model.eval()
        data = tokens(2)
        if not (isinstance(self.optimizer, AveragedSGD) and self.optimizer.averaging):
            return self.loss(data)
        with self.optimizer.averaged():
            self.topology.mask_weights()
            return self.loss(data)

    def loss(self, data: Tensor) -> float:
        output, _ = self.model(data[:-1], self.model.initial_hidden(BATCH))
        return self.model.loss(output, data[1:]).item()


@case
def test_every_loss_is_that_of_the_reimplementation(model: str, dropout: str, optimizer: str, draws: Draws) -> None:
    ours, stored = Ours(model, dropout, optimizer).train(), STORED[f"{model} {dropout} {optimizer}"]
    assert ours.losses == pytest.approx(stored["losses"], rel=1e-11, abs=0)
    assert ours.valid == pytest.approx(stored["valid"], rel=1e-11, abs=0)
    assert draws.count == (0 if dropout == "off" else EPOCHS * BATCHES * {"stacked_lstm": 3, "rhn": 4}[model])


@case
def test_the_stored_numbers_are_those_of_the_reimplementation(model: str, dropout: str, optimizer: str) -> None:
    peer, stored = Training(model, dropout, optimizer).run(), STORED[f"{model} {dropout} {optimizer}"]
    assert peer.losses == pytest.approx(stored["losses"], rel=1e-11, abs=0)
    assert peer.valid == pytest.approx(stored["valid"], rel=1e-11, abs=0)


@pytest.mark.parametrize(
    ("key", "optimizer", "first"),
    [
        ("masking=gradient", "momentum_sgd", 1),  # clipping by the gradients of active weights alone
        ("keep_regrown=false", "adam", BATCHES),  # from the first update on
        ("update_at_trigger=true", "snt_asgd", TRIGGER * BATCHES),
    ],
)
def test_the_numbers_tell_the_protocols_apart(key: str, optimizer: str, first: int) -> None:
    losses = Ours("stacked_lstm", "off", optimizer, f"protocol.{key}").train().losses
    pairs = zip(losses, STORED[f"stacked_lstm off {optimizer}"]["losses"], strict=True)
    same = [ours == pytest.approx(stored, rel=1e-11, abs=0) for ours, stored in pairs]
    assert same.index(False) == first


def test_averages_that_do_not_skip_their_first_value_are_others() -> None:
    ours, stored = (
        Ours("rhn", "off", "snt_asgd", "protocol.skip_first_average=false").train(),
        STORED["rhn off snt_asgd"],
    )
    assert ours.losses == pytest.approx(stored["losses"], rel=1e-11, abs=0)
    assert ours.valid[:TRIGGER] == pytest.approx(stored["valid"][:TRIGGER], rel=1e-11, abs=0)
    assert ours.valid[TRIGGER] != pytest.approx(stored["valid"][TRIGGER], rel=1e-6)
