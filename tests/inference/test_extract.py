"""The smaller dense network computes what the masked one does."""

import json
from dataclasses import asdict

import pytest
import torch
from safetensors import safe_open

from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import run_id
from sparse_rnn.core.errors import ConfigError, DamagedFile
from sparse_rnn.core.tensor_files import save_tensors
from sparse_rnn.extract import extract_run
from sparse_rnn.inference.extract import extract, largest_difference, load_extracted, save_extracted
from sparse_rnn.models.rhn import RHN, RHNConfig
from sparse_rnn.models.stacked_lstm import StackedLSTMConfig
from sparse_rnn.models.uneven_lstm import UnevenLSTM, UnevenLSTMConfig
from sparse_rnn.runs.folder import RunFolder, read_record, runs_root
from sparse_rnn.sparsity.iss.structures import find_structures, spread
from sparse_rnn.training.session import train

VOCABULARY = 11
SMOKE = ("dataset=pydoc", "budget=smoke", "logger=files", "threads=1")


def without(config, units: dict[int, list[int]]):
    """A model with large weights and biases, in which all entries of given units of each layer are zero."""
    torch.manual_seed(3)
    model = config.build(VOCABULARY).double()
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for parameter in weights.values():
            parameter.uniform_(-1, 1)
        for layer, gone in units.items():
            structures = find_structures(model)[layer]
            keep = torch.tensor([k not in gone for k in range(structures.width)])
            for name, kept in spread(structures, keep, weights):
                weights[name].mul_(kept)
    return model


@pytest.mark.parametrize(
    ("config", "units", "widths"),
    [
        (StackedLSTMConfig(hidden=6, layers=1), {0: [0, 4]}, [4]),
        (StackedLSTMConfig(hidden=6, layers=2), {0: [1, 2, 5], 1: [0]}, [3, 5]),
        (StackedLSTMConfig(hidden=6, layers=3), {0: [5], 1: [0, 1, 2, 3, 4], 2: []}, [5, 1, 6]),
        (StackedLSTMConfig(hidden=6, layers=2), {0: list(range(6))}, [1, 6]),
        (RHNConfig(hidden=6, depth=1), {0: [0, 3]}, [4]),
        (RHNConfig(hidden=6, depth=4), {0: [1, 4, 5]}, [3]),
        (RHNConfig(hidden=6, depth=3), {}, [6]),
    ],
)
def test_the_extracted_network_computes_the_same(config, units, widths):
    model = without(config, units)
    extracted = extract(config, model)
    assert extracted.widths == widths
    difference = largest_difference(model, extracted.model.double(), VOCABULARY)
    assert difference < 1e-12
    assert len(extracted.model.layer_states(torch.zeros(2, 3).long(), extracted.model.initial_hidden(3))[0]) == len(
        widths
    )


@pytest.mark.parametrize("config", [StackedLSTMConfig(hidden=6), RHNConfig(hidden=6, depth=3)], ids=lambda c: c.name)
def test_the_comparison_sees_a_wrong_weight(config):
    model = without(config, {0: [1]})
    extracted = extract(config, model)
    for parameter in extracted.model.parameters():
        with torch.no_grad():
            parameter.view(-1)[0].add_(0.01)
        assert largest_difference(model, extracted.model, VOCABULARY) > 1e-6
        with torch.no_grad():
            parameter.view(-1)[0].sub_(0.01)


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        (UnevenLSTMConfig(widths=[373, 315]), 21.83),
        (UnevenLSTMConfig(widths=[381, 535]), 25.19),
        (RHNConfig(hidden=517), 11.07),
        (RHNConfig(hidden=403), 7.62),
    ],
)
def test_reported_sizes(config, millions):
    """facts A.2 and B.8: the embedding of the stacked LSTM stays as it is."""
    with torch.device("meta"):
        model = config.build(10_000)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == millions


@pytest.mark.parametrize("config", [StackedLSTMConfig(hidden=6), RHNConfig(hidden=6, depth=3)], ids=lambda c: c.name)
def test_a_stored_network_reads_back(config, tmp_path):
    extracted = extract(config, without(config, {0: [2, 3]}))
    save_extracted(tmp_path / "small.safetensors", extracted, "a-run")
    again = load_extracted(tmp_path / "small.safetensors")
    assert isinstance(again, RHN if config.name == "rhn" else UnevenLSTM)
    assert again.dropout.p == config.dropout if config.name == "stacked_lstm" else again.dropout_word == 0.2
    for first, second in zip(extracted.model.parameters(), again.parameters(), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("change", [{"widths": [4, 3]}, {"embedding": 7}, {"depth": 2}, None])
def test_a_file_that_does_not_fit_is_damaged(change, tmp_path):
    path = tmp_path / "small.safetensors"
    extracted = extract(StackedLSTMConfig(hidden=6), StackedLSTMConfig(hidden=6).build(VOCABULARY))
    if change is not None:  # else there is no file
        stored = asdict(extracted.config) | change
        save_tensors(path, dict(extracted.model.named_parameters()), {"config": json.dumps(stored)})
    with pytest.raises(DamagedFile, match=r"small\.safetensors does not hold an extracted network"):
        load_extracted(path)


@pytest.mark.parametrize(
    ("model", "penalty", "threshold"),
    [("stacked_lstm", 0.0005, 0.01), ("rhn", 0.06, 0.03)],
    ids=["stacked_lstm", "rhn"],
)
def test_a_trained_run_is_extracted(model, penalty, threshold):
    """With a penalty that leaves some of 16 units, each of which has 8 biases."""
    settings = [f"sparsifier.group_lasso={penalty}", f"sparsifier.threshold={threshold}"]
    overrides = [f"recipe=iss_{model}", *SMOKE, *settings]
    config = compose_run(overrides)
    train(config, overrides)
    folder = RunFolder(runs_root() / run_id(config))
    record = read_record(folder)
    rows = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    best = next(r for r in rows if r["epoch"] == record["results"]["best_epoch"] and "valid/loss" in r)
    kept = [int(n) for key, n in best.items() if key.startswith("structures/")]
    line = extract_run(folder.path.name, "")
    with safe_open(folder.path / "extracted.safetensors", framework="pt") as stored:
        metadata = stored.metadata()
    assert min(kept) in range(1, 16)
    assert json.loads(metadata["widths"]) == kept
    assert metadata["run"] == folder.path.name
    gone = sum(16 - n for n in kept)
    assert record["active_parameters"] < record["parameters"]
    assert int(metadata["parameters"]) == record["active_parameters"] - 8 * gone
    with pytest.raises(ConfigError, match=r"^out=nowhere/x cannot be written: its folder does not exist\.$"):
        extract_run(folder.path.name, "nowhere/x")
    assert f"{int(metadata['parameters']):,} of {record['parameters']:,} parameters" in line


def test_other_runs_are_refused_in_one_sentence():
    overrides = ["sparsifier=selfish", *SMOKE, "training.epochs=1"]
    config = compose_run(overrides)
    train(config, overrides)
    for run, complaint in [(run_id(config), "sparsifier=selfish"), ("nowhere", "nowhere"), ("", "run=")]:
        with pytest.raises(ConfigError, match=complaint) as refused:
            extract_run(run, "")
        assert str(refused.value).endswith(".")
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("keep", ["none", "best"])
def test_missing_or_damaged_weights_are_one_sentence(keep):
    overrides = ["recipe=iss_rhn", *SMOKE, "training.epochs=1", f"checkpoint.keep={keep}", "seed=2"]
    config = compose_run(overrides)
    train(config, overrides)
    best = RunFolder(runs_root() / run_id(config)).best
    if keep == "best":
        best.write_bytes(best.read_bytes()[:100])
    with pytest.raises(ConfigError, match="no best weights" if keep == "none" else "does not hold the weights"):
        extract_run(run_id(config), "")
