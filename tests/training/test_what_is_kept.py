"""What a finished run leaves, and what can be read of it."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from run_helpers import Train, composed, record_of, rows_of
from safetensors import safe_open
from storages import ON_KERNELS

from sparse_rnn.evaluate import evaluate
from sparse_rnn.inference.evaluate import evaluate_run
from sparse_rnn.runs.folder import RunFolder
from sparse_rnn.runs.weights import load_weights
from sparse_rnn.sparsity.method import make_topology
from sparse_rnn.sparsity.topology import unpack_bits
from sparse_rnn.training.checkpoint import load_checkpoint
from sparse_rnn.training.tasks.language_modelling import LanguageModelling
from sparse_rnn.training.trainer import Trainer

ALWAYS = {"record.json", "metrics.jsonl", "vocabulary.json"}


@pytest.mark.parametrize(
    ("keep", "files"),
    [("best", {"best.safetensors"}), ("last", {"best.safetensors", "checkpoint.pt"}), ("none", set())],
)
def test_what_is_left(tiny: list[str], train_here: Train, keep: str, files: set[str]) -> None:
    folder = train_here([*tiny, f"checkpoint.keep={keep}"])
    assert {path.name for path in folder.path.iterdir()} == ALWAYS | files


@pytest.mark.parametrize(
    "method", ["sparsifier=selfish", "sparsifier=gmp sparsifier.prune_start=0", "sparsifier=dense"]
)
def test_best_weights_take_the_space_of_the_active_ones(tiny: list[str], train_here: Train, method: str) -> None:
    overrides = [*tiny, *method.split(), "model.hidden=64"]
    folder = train_here(overrides)
    record = record_of(folder)
    topology = make_topology(composed(overrides).sparsifier, composed(overrides).model.build(*record["sizes"]))
    masks = sum((weight.mask.numel() + 7) // 8 for weight in topology)
    size = folder.best.stat().st_size
    assert 0 <= size - 4 * record["active_parameters"] - masks < 6000  # the header
    if "dense" not in method:
        assert size < 0.6 * 4 * record["parameters"]


def printed(line: str) -> tuple[str, str]:
    found = re.search(r"loss (\S+)  perplexity (\S+)", line)
    assert found
    return found[1], found[2]


@pytest.mark.parametrize("optimizer", ["snt_asgd", "adam"])
def test_best_weights_give_what_the_record_says(tiny: list[str], train_here: Train, optimizer: str) -> None:
    overrides = [*tiny, f"optimizer={optimizer}", "sparsifier=rigl"]
    folder = train_here(overrides)
    results, run = record_of(folder)["results"], composed(overrides)
    for split in ("valid", "test"):
        exact, origin = evaluate_run(run, corpus_of(run), folder, split, "best", torch.device("cpu"))
        assert exact == as_recorded({key: results[f"{split}/{key}"] for key in ("loss", "perplexity")})
        assert origin == f"best, {results['weights']}, epoch {results['best_epoch']}"
        line = evaluate(folder.path.name, split, "best", "", "cpu", "1")
        recorded = [results[f"{split}/loss"], results[f"{split}/perplexity"]]
        # The last digit printed may be rounded another way where the value is not the same to the bit.
        assert [float(text) for text in printed(line)] == pytest.approx(recorded, abs=1.5e-4 if ON_KERNELS else 5.1e-5)


def as_recorded(value: Any) -> Any:
    """To the last digit, unless the run was on the kernels: weights that were kept are evaluated with masks."""
    return pytest.approx(value, rel=1e-5) if ON_KERNELS else value


def corpus_of(run: Any) -> Any:
    return run.dataset.load().limited(run.budget.train_tokens, run.budget.eval_tokens)


def test_raw_and_averaged_weights_of_the_last_checkpoint(tiny: list[str], train_here: Train) -> None:
    overrides = [*tiny, "checkpoint.keep=last"]
    folder = train_here(overrides)
    run, cpu = composed(overrides), torch.device("cpu")
    last = [row for row in rows_of(folder) if "valid/loss" in row][-1]
    averaged, origin = evaluate_run(run, corpus_of(run), folder, "valid", "averaged", cpu)
    assert averaged["loss"] == as_recorded(last["valid/loss"])
    assert origin == "averaged, step 60"
    raw, origin = evaluate_run(run, corpus_of(run), folder, "valid", "raw", cpu)
    assert raw["loss"] != averaged["loss"]
    assert origin == "raw, step 60"
    if ON_KERNELS:
        return  # the kernels round otherwise than masked weights
    saved = load_checkpoint(folder.checkpoint)
    model = run.model.build(*record_of(folder)["sizes"])
    assert saved is not None
    topology = make_topology(run.sparsifier, model)
    topology.load_state_dict(saved["sparsifier"]["topology"])
    model.load_state_dict(saved["model"] | {w.name: w.loaded(saved["model"][w.name]) for w in topology})
    assert LanguageModelling(run.training, run.seed, corpus_of(run), model, cpu).evaluate("valid") == raw


def test_snapshots(tiny: list[str], train_here: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    topologies: list[dict[str, torch.Tensor]] = []
    keep_best = Trainer.evaluate_and_keep_best

    def noting(trainer: Trainer) -> Any:
        topologies.append({weight.name: weight.mask.clone() for weight in trainer.topology})
        return keep_best(trainer)

    monkeypatch.setattr(Trainer, "evaluate_and_keep_best", noting)
    overrides = [*tiny, "snapshots=true", "snapshots.tokens=50", "model.hidden=12"]
    folder = train_here(overrides)
    paths = sorted(folder.snapshots.iterdir())
    assert [path.name for path in paths] == [f"epoch{epoch:04d}.safetensors" for epoch in (1, 2, 3, 4)]
    for path, topology in zip(paths, topologies, strict=True):
        hidden = check_masks(path, topology)
        assert [state.dtype for state in hidden] == [torch.float16] * 2
        assert [tuple(state.shape) for state in hidden] == [(50, 12)] * 2
        assert all(state.abs().sum() > 0 for state in hidden)
    assert any(not torch.equal(topologies[0][name], topologies[1][name]) for name in topologies[0])
    assert record_of(folder)["status"] == "finished"


def check_masks(path: Path, topology: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Compare the packed masks; returns the hidden states by layer."""
    with safe_open(path, framework="pt") as stored:
        names, shapes = set(stored.keys()), stored.metadata()
        for name, mask in topology.items():
            shape = [int(side) for side in shapes[f"shape/{name}"].split("x")]
            bits = stored.get_tensor(f"mask/{name}")
            assert bits.dtype == torch.uint8
            assert torch.equal(unpack_bits(bits, shape), mask)
        assert names == {f"mask/{name}" for name in topology} | {"hidden/0", "hidden/1"}
        return [stored.get_tensor(f"hidden/{layer}") for layer in (0, 1)]


def test_snapshot_states_are_those_of_the_evaluated_weights(tiny: list[str], train_here: Train) -> None:
    overrides = [*tiny, "snapshots=true", "snapshots.tokens=50"]
    folder = train_here(overrides)
    results, run = record_of(folder)["results"], composed(overrides)
    model = run.model.build(*record_of(folder)["sizes"])
    load_best(folder, run, model)
    corpus = corpus_of(run)
    with torch.no_grad():
        model.eval()
        states, _ = model.layer_states(corpus.splits["test"][:50].view(50, 1), model.initial_hidden(1))
    with safe_open(folder.snapshots / f"epoch{results['best_epoch']:04d}.safetensors", framework="pt") as stored:
        for layer, state in enumerate(states):
            kept, expected = stored.get_tensor(f"hidden/{layer}"), state.squeeze(1).half()
            assert torch.equal(kept, expected) or (ON_KERNELS and torch.allclose(kept, expected, rtol=2e-3, atol=1e-6))


def load_best(folder: RunFolder, run: Any, model: Any) -> None:
    load_weights(folder.best, model, make_topology(run.sparsifier, model))
