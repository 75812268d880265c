"""For which networks and runs the kernels are compiled, or used where they are compiled."""

import pytest
import torch
from torch import nn

from sparse_rnn.backends import choice
from sparse_rnn.backends.choice import LARGE, SHORT, SMALL, choose_backend, too_little
from sparse_rnn.backends.cpu.compile import Library
from sparse_rnn.config.compose import compose_run
from sparse_rnn.runs.description import describe
from sparse_rnn.sparsity.method import final_counts, make_topology

COMPILING = "compiling the kernels would take longer than they save in this run"
WORDS = {"ptb": 10_000, "pydoc": 1_838}
TOKENS = {"ptb": 929_589, "pydoc": 87_301}  # of the training split


@pytest.fixture(params=[True, False], ids=["compiled", "not compiled"])
def compiled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(choice, "are_compiled", lambda: request.param)
    monkeypatch.setattr(Library, "compile", lambda _: pytest.fail("compiled"))
    return bool(request.param)


def test_sizes_and_lengths(compiled: bool) -> None:
    def why(largest: int, tokens: float | None, density: float = 0.33) -> str:
        return too_little([largest, 7], density, tokens)

    assert why(LARGE - 1, None) == ("" if compiled else SMALL)
    assert why(LARGE, None) == ""
    assert why(LARGE, 100) == SHORT
    assert why(LARGE, 1e12) == ""
    assert why(LARGE, 1e12, density=1) == SHORT
    between = why(LARGE, 1e6)
    assert between == "" if compiled else between.startswith(COMPILING)


def inputs(*overrides: str) -> tuple[list[int], float, float]:
    """What a run gives to `too_little`."""
    run = compose_run(overrides)
    with torch.device("meta"):
        model: nn.Module = run.model.build(WORDS[run.dataset.name])
        topology = make_topology(run.sparsifier, model)
        active = sum(final_counts(run.sparsifier, topology).values())
    tokens = min(TOKENS[run.dataset.name], run.budget.train_tokens or TOKENS[run.dataset.name])
    return [weight.size for weight in topology], active / topology.size, run.training.epochs * tokens


@pytest.mark.parametrize("model", ["stacked_lstm", "rhn", "on_lstm"])
def test_a_reduced_run_is_worth_compiling_for(compiled: bool, model: str) -> None:
    assert too_little(*inputs(f"model={model}", "budget=reduced")) == ""


@pytest.mark.parametrize("dataset", WORDS)
def test_a_smoke_run_is_masked_whatever_is_compiled(compiled: bool, dataset: str) -> None:
    assert too_little(*inputs("budget=smoke", f"dataset={dataset}")) == SHORT


def test_the_demo_compiles_nothing(compiled: bool) -> None:
    reason = too_little(*inputs("budget=demo", "dataset=pydoc", "optimizer.lr=20"))
    assert reason == "" if compiled else reason.startswith(COMPILING)


@pytest.mark.usefixtures("compiled")
def test_describing_compiles_nothing() -> None:
    assert describe(["budget=reduced", "sparsifier.backend=sparse"])["active_parameters"]


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("slstm", "masked"),
        ("gru", "sparse"),
        ("min_gru", "sparse"),
        ("min_lstm", "sparse"),
        ("rg_lru", "sparse"),
        ("mamba", "sparse"),
    ],
)
def test_auto_says_which_weights_have_no_kernel(model: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "kernels", lambda: None)
    monkeypatch.setattr(choice, "are_compiled", lambda: True)
    run = compose_run([f"model={model}", "optimizer=snt_asgd", "budget=reduced", "model.layers=1"])
    with torch.device("meta"):
        built = run.model.build(WORDS["ptb"])
        topology = make_topology(run.sparsifier, built)
    parts = run.sparsifier, run.growth, run.optimizer, run.protocol
    chosen = choose_backend(*parts, built, topology, torch.device("cpu"), tokens=1e9)
    assert chosen.name == name
    if name == "masked":
        weights = ", ".join(f"stack.layers.0.recurrent.{k}" for k in range(4))
        assert chosen.reason == f"its kernels do not support the module that uses {weights}"
