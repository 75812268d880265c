"""The learning rate of every step, in runs."""

import json

import pytest
from run_helpers import composed, folder_of, write_texts

from sparse_rnn.training.session import train


def test_the_log_has_the_rate_of_the_last_step_of_an_epoch(tmp_path, monkeypatch):
    """Four epochs, of which the first warms up; then a cosine to a tenth: .775, .325 and .1 of it after thirds."""
    monkeypatch.setenv("SPARSE_RNN_RUNS", str(tmp_path / "runs"))
    method = ["sparsifier=static_uniform", "sparsifier.sparsity=0.5", "sparsifier.removal_rate=0.5"]
    rate = ["optimizer.lr=0.01", "optimizer.warmup=0.25", "optimizer.cosine_factor=0.1"]
    overrides = [*write_texts(tmp_path), "optimizer=adamw", "recipe=none", "logger=files", *method, *rate]
    train(composed(overrides), overrides)
    rows = [json.loads(line) for line in folder_of(overrides, tmp_path / "runs").metrics.read_text().splitlines()]
    rates = [row["rate/learning"] for row in rows if "rate/learning" in row]
    assert rates == pytest.approx([0.01, 0.00775, 0.00325, 0.001])
