"""Trained runs are exported by the command: their best, averaged and raw weights."""

import json
import re
import shutil

import pytest
import torch
from exported_models import SMOKE
from safetensors import safe_open
from safetensors.torch import load_file
from storages import ON_KERNELS

from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import run_id
from sparse_rnn.core.errors import ConfigError, RunFailed
from sparse_rnn.export import export_run
from sparse_rnn.inference import export as exported
from sparse_rnn.inference.export import holds, load_exported
from sparse_rnn.inference.exported import LAYOUTS, METADATA
from sparse_rnn.inference.load import load_data
from sparse_rnn.runs.folder import RunFolder, read_record, runs_root
from sparse_rnn.sparsity.topology import SparseTopology
from sparse_rnn.training.assembly import make_task
from sparse_rnn.training.session import train

POSITIONS = (".shape", ".columns", ".starts", ".gaps", ".long_gaps", ".bitmap")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run with its last checkpoint: averages and raw weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSE_RNN_RUNS", str(tmp_path_factory.mktemp("runs")))
        overrides = ["model=awd_lstm_mos", "dataset=pydoc", *SMOKE, "checkpoint.keep=last"]
        config = compose_run(overrides)
        train(config, overrides)
        return runs_root() / run_id(config)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_trained_run_is_exported_and_gives_its_recorded_result(layout, trained, tmp_path):
    line = export_run(str(trained), layout, str(tmp_path / "model.safetensors"), "best")
    record = read_record(RunFolder(trained))
    config = compose_run(["model=awd_lstm_mos", "dataset=pydoc", *SMOKE, "checkpoint.keep=last"])
    data = load_data(RunFolder(trained), record, config)
    model = load_exported(str(tmp_path / "model.safetensors"))
    task = make_task(config, data, model, torch.device("cpu"))
    recorded = record["results"]["valid/loss"]
    # what is loaded computes with masks, whatever the run did
    assert task.evaluate("valid")["loss"] == (pytest.approx(recorded, rel=1e-6) if ON_KERNELS else recorded)
    assert line == said_of(record, layout, tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert set(metadata) == set(METADATA)
    assert metadata["run"] == trained.name
    assert json.loads(metadata["config"]) == record["config"]
    assert float(metadata["sparsity"]) == record["sparsity"]
    assert int(metadata["active_parameters"]) == record["active_parameters"]


def said_of(record, layout, path):
    """The line that tells of a file, from the record and the file alone."""
    tensors, size, active, of = load_file(path), path.stat().st_size, record["active_parameters"], record["parameters"]
    positions = sum(tensor.nbytes for name, tensor in tensors.items() if name.endswith(POSITIONS))
    values = 4 * (of if layout == "dense" else active)
    written, dense, took, positions, rest = (
        f"{number / 1e6:.3f} MB" for number in (size, 4 * of, values, positions, size - values - positions)
    )
    of_file = f"{record['run_id']}  {layout}  {written}"
    if layout == "dense":
        return f"{of_file}: all {of:,} parameters take {took}, vocabulary, names and configuration {rest}  {path}"
    share = f"the {active:,} active of {of:,} parameters ({active / of:.1%}) take {took}"
    parts = f"their positions {positions}, vocabulary, names and configuration {rest}"
    return f"{of_file} instead of {dense}: {share}, {parts}  {path}"


def test_the_weights_of_the_last_checkpoint_are_exported_too(trained, tmp_path):
    files = {}
    for weights in ("best", "averaged", "raw"):
        export_run(str(trained), "csr", str(tmp_path / weights), weights)
        files[weights] = load_exported(tmp_path / weights)
        with safe_open(tmp_path / weights, framework="pt") as file:
            assert file.metadata()["weights"].startswith(weights)
    assert not holds(files["raw"], files["averaged"], SparseTopology([]))


def test_without_a_file_named_it_is_in_the_run_folder_and_replaced(trained):
    path = trained / "exported-coo.safetensors"
    path.write_text("old")
    assert export_run(str(trained), "coo", "", "best").endswith(str(path))
    load_exported(path)
    path.unlink()


def test_what_cannot_be_exported_is_one_sentence(trained, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    (copy / "best.safetensors").write_bytes(b"x")
    wrong = [
        (["nowhere", "csr", "", "best"], "nowhere"),
        ([str(trained), "cs", "", "best"], r"format=cs does not exist \(did you mean csr"),
        ([str(trained), "csr", "", "mean"], "weights=mean must be"),
        ([str(trained), "csr", str(tmp_path / "a" / "b"), "best"], "its folder does not exist"),
        ([str(trained), "csr", str(tmp_path), "best"], "is a folder"),
        ([str(trained), "csr", ".", "best"], "is a folder"),
        ([str(copy), "csr", "", "best"], "does not hold the weights"),
    ]
    for arguments, complaint in wrong:
        with pytest.raises(ConfigError, match=complaint) as refusal:
            export_run(*arguments)
        assert re.fullmatch(r"[^\n]+\.", str(refusal.value))
    monkeypatch.setattr(exported, "holds", lambda *arguments: False)
    with pytest.raises(RunFailed, match="this is a defect"):
        export_run(str(trained), "csr", str(tmp_path / "x"), "best")
    assert not (tmp_path / "x").exists()


def test_a_run_without_masks_is_exported_dense(tmp_path):
    overrides = ["sparsifier=dense", "dataset=pydoc", *SMOKE, "training.epochs=1"]
    config = compose_run(overrides)
    train(config, overrides)
    with pytest.raises(ConfigError, match=r"sparsifier=dense, which has no masks: use format=dense\.$"):
        export_run(run_id(config), "csr", "", "best")
    line = export_run(run_id(config), "dense", "", "best")
    parts = r"all [\d,]+ parameters take [\d.]+ MB, vocabulary, names and configuration 0\.0\d+ MB"
    assert re.search(rf"  dense  [\d.]+ MB: {parts}  ", line)
