"""The dense equivalent of a model as an ONNX graph computes what the model does, for windows of any length."""

import json
import re

import numpy as np
import pytest
import torch
from exported_models import SIZES, made

from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import run_id
from sparse_rnn.core.errors import ConfigError, RunFailed
from sparse_rnn.export import export_run
from sparse_rnn.inference.load import load_best
from sparse_rnn.models.base import LanguageModel, hidden_tensors
from sparse_rnn.runs.folder import RunFolder, runs_root
from sparse_rnn.training.session import train

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
onnx_graph = pytest.importorskip("sparse_rnn.inference.onnx_graph")

# A step that is scanned takes seconds to trace.
SMALL = {"rhn": ["model.depth=2"]}
SMALL |= {name: ["model.layers=1"] for name in ("on_lstm", "min_gru", "slstm", "mamba")}
RARELY = ("mamba", "min_gru")
LENGTHS = 4, 1, 7


def started(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.full] * (n in RARELY)) for n in SIZES])
@torch.no_grad()
def test_the_graph_computes_consecutive_windows_of_any_length(name, tmp_path):
    _, model, _, _ = made(name, *SMALL.get(name, []))
    path = tmp_path / "model.onnx"
    onnx_graph.save_onnx(path, model, {"sizes": [11], "run": "a-run"})
    onnx.checker.check_model(str(path), full_check=True)
    assert {entry.key: entry.value for entry in onnx.load(path).metadata_props} == {"sizes": "[11]", "run": "a-run"}
    session, batch, draw = started(path), 5, torch.Generator().manual_seed(4)
    hidden = model.initial_hidden(batch) if isinstance(model, LanguageModel) else None
    state = [part.numpy() for part in hidden_tensors(hidden)]
    for length in LENGTHS:
        tokens = torch.randint(11, (length, batch), generator=draw)
        given = dict(zip([each.name for each in session.get_inputs()], (tokens.numpy(), *state), strict=True))
        said, *state = session.run(None, given)
        if hidden is None:
            expected = model(tokens)
        else:
            output, hidden = model(tokens, hidden)
            expected = model.log_probabilities(output)
        for here, there in zip((expected, *hidden_tensors(hidden)), (said, *state), strict=True):
            np.testing.assert_allclose(there, here.numpy(), rtol=0, atol=1e-4)


def test_a_graph_that_computes_something_else_is_not_written(tmp_path, monkeypatch):
    _, model, _, _ = made("stacked_lstm")
    monkeypatch.setattr(onnx_graph, "TOLERANCE", -1.0)
    monkeypatch.setattr(onnx_graph, "scanned_graph", onnx_graph.window_graph)
    with pytest.raises(RunFailed, match=r"^StackedLSTM cannot be written as a graph of ONNX \(it differs by [^\n]+\.$"):
        onnx_graph.save_onnx(tmp_path / "model.onnx", model, {})
    monkeypatch.setattr(onnx_graph, "LARGEST", 10)
    with pytest.raises(ConfigError, match="holds up to 2 GB, and the model is larger"):
        onnx_graph.save_onnx(tmp_path / "model.onnx", model, {})
    assert not list(tmp_path.iterdir())


def test_a_run_is_exported_as_a_graph(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSE_RNN_RUNS", str(tmp_path / "runs"))
    overrides = ["dataset=pydoc", "budget=smoke", "logger=files", "threads=1", "training.epochs=1"]
    config = compose_run(overrides)
    train(config, overrides)
    folder = RunFolder(runs_root() / run_id(config))
    line = export_run(str(folder.path), "onnx", "", "best")
    assert re.search(
        r"  onnx  [\d.]+ MB: a graph of all [\d,]+ parameters, which take [\d.]+ MB  .*exported\.onnx$", line
    )
    path = folder.path / "exported.onnx"
    facts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    words = len(json.loads(facts["vocabulary"])["words"])
    model, _, _ = load_best(config, [words], folder)
    tokens = torch.arange(6)[:, None]
    state = hidden_tensors(model.initial_hidden(1))
    said, *_ = started(path).run(
        None, {"tokens": tokens.numpy(), "state_0": state[0].numpy(), "state_1": state[1].numpy()}
    )
    with torch.no_grad():
        expected = model.eval().log_probabilities(model(tokens, model.initial_hidden(1))[0])
    np.testing.assert_allclose(said, expected.numpy(), rtol=0, atol=1e-4)
    with pytest.raises(ConfigError, match=r"^values=bf16 means nothing with format=onnx"):
        export_run(str(folder.path), "onnx", "", "best", "bf16")
