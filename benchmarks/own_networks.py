"""`sparsify` with the kernels against the same script without it: networks of torch's own modules."""

import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.row import Row, printed_by, ratio_of_times
from sparse_rnn import sparsify

BARS = {0.80: 0.36, 0.90: 0.22}
MLP_SPARSITY, MLP_BAR, PEER_BAR = 0.90, 0.25, 1.0
WORDS, TAGS, FEATURES = 10_000, 45, 4096
FAR = 1_000_000  # steps, so that the topology does not change while a step is timed
ROUNDS = 15  # in the first few, malloc still gets its memory from the system


class LanguageModel(nn.Module):
    """A GRU language model, 2 x 1000 units."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.gru, self.decoder = (
            nn.Embedding(WORDS, 1000),
            nn.GRU(1000, 1000, 2),
            nn.Linear(1000, WORDS),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens int64 [T, B] to logits [T, B, words]."""
        output, _ = self.gru(self.embedding(tokens))
        logits: Tensor = self.decoder(output)
        return logits


class Tagger(nn.Module):
    """A bidirectional LSTM over sentences, 2 x 512 units in each direction."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 300)
        self.lstm = nn.LSTM(300, 512, 2, batch_first=True, bidirectional=True)
        self.tags = nn.Linear(1024, TAGS)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens int64 [B, T] to logits [B, T, tags]."""
        output, _ = self.lstm(self.embedding(tokens))
        logits: Tensor = self.tags(output)
        return logits


class Step:
    """A training step with Adam; `backend`: of sparsify, None without it."""

    def __init__(self, model: nn.Module, inputs: Tensor, targets: Tensor, sparsity: float, backend: str | None) -> None:
        self.model, self.inputs, self.targets = model, inputs, targets
        self.optimizer = torch.optim.Adam(model.parameters())
        self.sparsifier = backend and sparsify(
            model, self.optimizer, sparsity=sparsity, steps=FAR, update_interval=FAR // 2, backend=backend
        )

    def __call__(self) -> None:
        """Zero gradients, forward, backward, mask, clip, step."""
        self.optimizer.zero_grad(set_to_none=True)
        cross_entropy(self.model(self.inputs).flatten(0, -2), self.targets.flatten()).backward()
        if self.sparsifier:
            self.sparsifier.before_step()
        nn.utils.clip_grad_norm_(self.model.parameters(), 0.25)
        self.optimizer.step()
        if self.sparsifier:
            self.sparsifier.after_step()


def rows() -> Iterator[Row]:
    """The ratios of a training step: on the kernels, with masks, and with another project's sparse layers."""
    for name in ("GRU language model 2 x 1000", "bidirectional LSTM tagger 2 x 512"):
        for sparsity, bar in BARS.items():
            ratio = _measured(name, sparsity, "sparse")
            yield Row(f"training step, {name} at sparsity {sparsity:.2f} / dense", ratio, bar, 1 - sparsity)
        ratio = _measured(name, sparsity, "masked")
        yield Row(f"training step, {name} at sparsity {sparsity:.2f}, with masks / dense", ratio, None, 1.0)
    name = f"training step, MLP 4096-4096-4096 at sparsity {MLP_SPARSITY:.2f}"
    yield Row(f"{name} / dense", _measured("MLP", MLP_SPARSITY, "sparse"), MLP_BAR, 1 - MLP_SPARSITY)
    if _sparseprop():
        yield Row(f"{name} / SparseProp's", _measured("MLP", MLP_SPARSITY, "sparse", "theirs"), PEER_BAR, None)


def _measured(name: str, sparsity: float, backend: str, peer: str = "dense") -> float:
    """The ratio in a process of its own, as in a script that trains one network."""
    return printed_by("benchmarks.own_networks", name, str(sparsity), backend, peer)


def _ratio(name: str, sparsity: float, backend: str, peer: str) -> float:
    torch.manual_seed(1)
    network, inputs, targets = _task(name)
    theirs = network() if peer == "dense" else nn.Sequential(*map(_theirs, network().children()))
    ours = Step(network(), inputs, targets, sparsity, backend)
    return ratio_of_times(ours, Step(theirs, inputs, targets, 0, None), ROUNDS)


def _task(name: str) -> tuple[Callable[[], nn.Module], Tensor, Tensor]:
    """A network, and a batch for it."""
    if name.startswith("GRU"):
        return LanguageModel, *torch.randint(WORDS, (2, 35, 20))
    if name.startswith("bidirectional"):
        return Tagger, torch.randint(WORDS, (32, 40)), torch.randint(TAGS, (32, 40))
    return _perceptron, torch.randn(64, FEATURES), torch.randint(FEATURES, (64,))


def _perceptron() -> nn.Sequential:
    return nn.Sequential(nn.Linear(FEATURES, FEATURES), nn.ReLU(), nn.Linear(FEATURES, FEATURES))


def _sparseprop() -> Any:
    """SparseProp (Nikdan et al. 2023, `pip install --no-build-isolation pybind11 sparseprop`); None without it."""
    try:
        return importlib.import_module("sparseprop.modules.linear")
    except ImportError:
        return None


def _theirs(layer: nn.Module) -> nn.Module:
    """A layer of SparseProp's with as many active entries in random places."""
    if not isinstance(layer, nn.Linear):
        return layer
    with torch.no_grad():
        layer.weight.mul_(torch.rand_like(layer.weight) >= MLP_SPARSITY)
    made: nn.Module = _sparseprop().SparseLinear.from_dense(layer)
    return made


if __name__ == "__main__":
    torch.set_num_threads(2)
    print(_ratio(sys.argv[1], float(sys.argv[2]), *sys.argv[3:]))
