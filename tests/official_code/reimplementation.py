"""Selfish-RNN's training as its authors' code does it, written from its description; it shares no code with sparse_rnn.

Plain loops in float64 with torch's autograd alone. Growth order and rounding are as here: round(p n) weights are
removed, and the first free entries grow, or those with the largest gradient. Weights, tokens and dropout masks follow
from formulas, so that no generator of random numbers decides the numbers.

    python tests/official_code/reimplementation.py > tests/golden/official_code.json
"""

import json
import math
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

WORDS, HIDDEN, BATCH, BPTT, BATCHES, EPOCHS, TRIGGER = 11, 6, 3, 4, 5, 5, 2
DENSITY, REMOVAL_RATE, FINAL_RATE, CLIP, DECAY = 0.4, 0.6, 0.005, 0.25, 1.2e-3
RATES = {"snt_asgd": 3.0, "adam": 0.02, "momentum_sgd": 0.8}
DROPOUT = {"off": 0.0, "on": 0.3}
GROWTH = {"off": "gradient", "on": "first"}  # without and with dropout
Output = tuple[Tensor, list[Tensor]]
CASES = list(product(("stacked_lstm", "rhn"), DROPOUT, RATES))


def spread(count: int, seed: int) -> Tensor:
    """Numbers in (0, 1) without a pattern, float64 [count]."""
    numbers, state = [], seed * 7919 + 12345
    for _ in range(count):
        state = (state * 1103515245 + 12345) % 2**31
        numbers.append((state // 8 % 2**20 + 0.5) / 2**20)
    return torch.tensor(numbers, dtype=torch.float64)


def tokens(seed: int) -> Tensor:
    """int64 [BATCHES * BPTT + 1, BATCH]."""
    return (spread((BATCHES * BPTT + 1) * BATCH, seed) ** 2 * WORDS).long().view(-1, BATCH)


class Draws:
    """Dropout masks, each another one."""

    def __init__(self) -> None:
        self.count = 0

    def kept(self, shape: torch.Size | tuple[int, ...], share: float) -> Tensor:
        """1 for about this share of the entries, else 0."""
        self.count += 1
        return (spread(math.prod(shape), self.count) < share).double().view(*shape)

    def dropped(self, shape: tuple[int, ...], p: float) -> Tensor | float:
        """What a tensor of this shape is multiplied by."""
        return self.kept(shape, 1 - p) / (1 - p) if p else 1.0


def shapes(model: str) -> dict[str, tuple[int, ...]]:
    """Shapes of all parameters; two layers, or two depths."""
    if model == "rhn":
        layers = {"highway.input.weight": (2 * HIDDEN, HIDDEN), "highway.input.bias": (2 * HIDDEN,)}
        for k in range(2):
            layers |= {f"highway.recurrent.{k}.weight": (2 * HIDDEN, HIDDEN)}
            layers |= {f"highway.recurrent.{k}.bias": (2 * HIDDEN,)}
        return {"embedding.weight": (WORDS, HIDDEN), **layers, "decoder.bias": (WORDS,)}
    layers = {}
    for k, of in product(range(2), ("ih", "hh")):
        layers |= {f"lstm.weight_{of}_l{k}": (4 * HIDDEN, HIDDEN), f"lstm.bias_{of}_l{k}": (4 * HIDDEN,)}
    decoder = {"decoder.weight": (WORDS, HIDDEN), "decoder.bias": (WORDS,)}
    return {"embedding.weight": (WORDS, HIDDEN), **layers, **decoder}


def start(model: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The first values of all parameters, and the first masks of all matrices."""
    weights, masks = {}, {}
    for number, (name, shape) in enumerate(shapes(model).items()):
        weights[name] = (spread(math.prod(shape), 100 + number).view(shape) - 0.5) * 1.2
        if len(shape) == 2:
            order = spread(math.prod(shape), 200 + number).argsort()
            masks[name] = torch.zeros(math.prod(shape), dtype=torch.bool)
            masks[name][order[: round(DENSITY * len(order))]] = True
            masks[name] = masks[name].view(shape)
            weights[name] = weights[name] * masks[name]
    return weights, masks


def lstm(w: dict[str, Tensor], window: Tensor, state: list[Tensor], p: float, draws: Draws) -> Output:
    """Logits [BPTT, BATCH, WORDS] and the state after the window: h and c of both layers."""
    x = w["embedding.weight"][window]
    x, after = x * draws.dropped(x.shape, p), []
    for k in range(2):
        if k:
            x = x * draws.dropped(x.shape, p)
        h, c, outputs = state[2 * k], state[2 * k + 1], []
        for step in x:
            gates = step @ w[f"lstm.weight_ih_l{k}"].T + w[f"lstm.bias_ih_l{k}"]
            gates = gates + h @ w[f"lstm.weight_hh_l{k}"].T + w[f"lstm.bias_hh_l{k}"]
            i, f, g, o = gates.split(HIDDEN, dim=1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            outputs.append(h)
        x, after = torch.stack(outputs), [*after, h.detach(), c.detach()]
    x = x * draws.dropped(x.shape, p)
    return x @ w["decoder.weight"].T + w["decoder.bias"], after


def rhn(w: dict[str, Tensor], window: Tensor, state: list[Tensor], p: float, draws: Draws) -> Output:
    """As `lstm`; every mask is the same in all steps, and a dropped word is dropped wherever it occurs."""
    rows = draws.dropped((WORDS, 1), p)
    x = w["embedding.weight"][window] * (rows[window] if p else 1.0)
    x = x * draws.dropped((1, BATCH, HIDDEN), p)
    kept, s, outputs = draws.dropped((BATCH, HIDDEN), p), state[0], []
    for step in x:
        for k in range(2):
            both = (s * kept) @ w[f"highway.recurrent.{k}.weight"].T + w[f"highway.recurrent.{k}.bias"]
            if not k:
                both = both + step @ w["highway.input.weight"].T + w["highway.input.bias"]
            h, t = both[:, :HIDDEN].tanh(), both[:, HIDDEN:].sigmoid()
            s = h * t + s * (1 - t)
        outputs.append(s)
    output = torch.stack(outputs) * draws.dropped((1, BATCH, HIDDEN), p)
    return output @ w["embedding.weight"].T + w["decoder.bias"], [s.detach()]


class Averages:
    """SNT-ASGD's, from every value since the trigger: the mean of an entry's values since it was last switched.

    The first of them is left out if there are others.
    """

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.values: list[dict[str, Tensor]] = []
        self.since = {name: torch.zeros(weight.shape, dtype=torch.long) for name, weight in weights.items()}

    def mean(self, name: str) -> Tensor:
        history, total = [values[name] for values in self.values], torch.zeros_like(self.values[0][name])
        first = self.since[name]
        first = torch.where(first < len(history) - 1, first + 1, first)
        for step, value in enumerate(history):
            total = total + torch.where(first <= step, value, 0.0)
        return total / (len(history) - first).clamp(min=1)


class Training:
    """A whole training. losses: of every step. valid: after every epoch, of the averages once there are any."""

    def __init__(self, model: str, dropout: str, optimizer: str) -> None:
        self.network: Callable[..., Output] = rhn if model == "rhn" else lstm
        self.states = 1 if model == "rhn" else 4
        self.p, self.growth, self.optimizer = DROPOUT[dropout], GROWTH[dropout], optimizer
        self.weights, self.masks = start(model)
        self.moments = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        self.averages: Averages | None = None
        self.draws, self.steps = Draws(), 0
        self.losses: list[float] = []
        self.valid: list[float] = []

    def run(self) -> "Training":
        train = tokens(1)
        for epoch in range(EPOCHS):
            state = self.zeros()
            for batch in range(BATCHES):
                state, gradients = self.step(train[batch * BPTT : (batch + 1) * BPTT + 1], state)
            self.valid.append(self.validate())
            triggered = epoch + 1 == TRIGGER and self.optimizer == "snt_asgd"
            if triggered:
                self.averages = Averages(self.weights)
            if not triggered and epoch + 1 < EPOCHS:
                self.update((epoch + 1) / EPOCHS, gradients)
        return self

    def zeros(self) -> list[Tensor]:
        return [torch.zeros(BATCH, HIDDEN, dtype=torch.float64) for _ in range(self.states)]

    def loss(self, weights: dict[str, Tensor], window: Tensor, state: list[Tensor], p: float) -> Output:
        logits, state = self.network(weights, window[:-1], state, p, self.draws)
        log_p = logits - logits.exp().sum(-1, keepdim=True).log()
        return -log_p.gather(-1, window[1:, :, None]).mean(), state

    def step(self, window: Tensor, state: list[Tensor]) -> tuple[list[Tensor], dict[str, Tensor]]:
        """One step; the state after the window and the dense gradients before clipping."""
        leaves = {name: weight.clone().requires_grad_() for name, weight in self.weights.items()}
        loss, state = self.loss(leaves, window, state, self.p)
        self.losses.append(loss.item())
        dense = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
        norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in dense.values()))
        scale = min(1.0, CLIP / (norm + 1e-6))
        self.steps += 1
        for name, gradient in dense.items():
            self.move(name, gradient * scale + DECAY * self.weights[name])
        if self.averages is not None:
            self.averages.values.append(dict(self.weights))
        return state, dense

    def move(self, name: str, gradient: Tensor) -> None:
        """Move a parameter densely; then its inactive entries become zero again, and so does their momentum."""
        rate, moment = RATES[self.optimizer], self.moments[name]
        if self.optimizer == "adam":  # beta = (0, 0.999); its second moments stay dense
            moment = 0.999 * moment + 0.001 * gradient**2
            gradient = gradient / (moment.sqrt() / math.sqrt(1 - 0.999**self.steps) + 1e-9)
        elif self.optimizer == "momentum_sgd":
            gradient = moment = 0.9 * moment + gradient
        kept = self.masks.get(name, torch.ones_like(gradient, dtype=torch.bool))
        self.weights[name] = (self.weights[name] - rate * gradient) * kept
        self.moments[name] = moment * kept if self.optimizer == "momentum_sgd" else moment

    def update(self, progress: float, gradients: dict[str, Tensor]) -> None:
        """Remove the smallest weights of every matrix and grow as many; what returns at once keeps its value."""
        rate = FINAL_RATE + (REMOVAL_RATE - FINAL_RATE) * (1 + math.cos(math.pi * progress)) / 2
        for name, old in self.masks.items():
            values, mask = self.weights[name].flatten(), old.flatten().clone()
            active = mask.nonzero().flatten().tolist()
            count = min(round(rate * len(active)), len(active) - 1)
            for entry in sorted(active, key=lambda entry: abs(float(values[entry])))[:count]:
                mask[entry] = False
            free = (~mask).nonzero().flatten().tolist()
            if self.growth == "gradient":
                flat = gradients[name].flatten()
                free.sort(key=lambda entry: -abs(float(flat[entry])))
            for entry in free[:count]:
                mask[entry] = True
            self.masks[name] = mask.view(old.shape)
            self.weights[name] = self.weights[name] * self.masks[name]
            if self.averages is not None:
                self.averages.since[name][old ^ self.masks[name]] = len(self.averages.values)

    def validate(self) -> float:
        """The loss on other tokens, without dropout."""
        weights = self.weights
        if self.averages is not None:
            weights = {name: self.averages.mean(name) * self.masks.get(name, 1.0) for name in weights}
        loss, _ = self.loss(weights, tokens(2), self.zeros(), 0.0)
        return float(loss)


if __name__ == "__main__":
    found = {case: Training(*case).run() for case in CASES}
    numbers = {" ".join(case): {"losses": run.losses, "valid": run.valid} for case, run in found.items()}
    print(json.dumps(numbers, indent=0))
