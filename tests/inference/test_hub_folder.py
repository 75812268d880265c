"""`export format=hub` writes a folder from which a model, its facts and its result can be had again, and no more."""

import json
import math
import re
import shlex
import shutil

import pytest
import torch
from exported_models import SMOKE, outputs
from huggingface_hub import ModelCard
from safetensors import safe_open
from storages import ON_KERNELS

from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import run_id
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.evaluate import DEFAULTS as OF_EVALUATE
from sparse_rnn.evaluate import evaluate
from sparse_rnn.export import export_run
from sparse_rnn.inference.exported import load_exported
from sparse_rnn.inference.load import load_best, read_run
from sparse_rnn.runs.folder import RunFolder, read_record, runs_root
from sparse_rnn.training.session import train

FILES = {"README.md", "config.json", "model.safetensors", "vocabulary.json"}
OF_A_PICKLE = re.compile(rb"\x80[\x02-\x05]|PK\x03\x04")  # a pickle by itself begins so, and torch.save's archive
RUNS = {
    "language model": ["model=stacked_lstm", "dataset=pydoc", "sparsifier=selfish", "checkpoint.keep=last"],
    "without masks": ["model=gru", "dataset=pydoc", "sparsifier=dense"],
    "classifier": ["model=lstm_classifier", "dataset=pydoc_topics", "sparsifier=set"],
    "numbers": ["model=gru_classifier", "dataset=adding", "sparsifier=static_uniform"],
}


def trained(overrides):
    """The folder of a run that is trained in seconds."""
    asked = [*overrides, *SMOKE, "training.epochs=1"]
    config = compose_run(asked)
    train(config, asked)
    return runs_root() / run_id(config)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """By kind, a run's folder and the one that was exported of it."""
    root = tmp_path_factory.mktemp("shared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSE_RNN_RUNS", str(root / "runs"))
        folders = {kind: trained(overrides) for kind, overrides in RUNS.items()}
    for kind, folder in folders.items():
        export_run(str(folder), "hub", str(root / kind), "best", license="mit")
    return {kind: (folder, root / kind) for kind, folder in folders.items()}


@pytest.fixture(params=RUNS)
def run(request, shared):
    return shared[request.param]


def card_of(folder):
    """The card as huggingface_hub reads it: a front matter that it cannot read is an error."""
    return ModelCard.load(folder / "README.md", ignore_metadata_errors=False)


def test_the_folder_computes_what_the_run_does(run):
    folder, exported = run
    record, config = read_run(RunFolder(folder))
    best, _, _ = load_best(config, record["sizes"], RunFolder(folder))
    loaded = load_exported(str(exported))
    weights = zip(best.parameters(), loaded.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in weights)
    if "adding" not in folder.name:  # which has no tokens
        for one, other in zip(outputs(best.eval()), outputs(loaded), strict=True):
            assert torch.equal(one, other)


def test_the_folder_has_what_is_needed_and_no_pickle(run):
    folder, exported = run
    texts = FILES if (folder / "vocabulary.json").exists() else FILES - {"vocabulary.json"}
    assert {path.name for path in exported.iterdir()} == texts
    assert not any(OF_A_PICKLE.match(path.read_bytes()) for path in exported.iterdir())
    config, record = json.loads((exported / "config.json").read_text()), read_record(RunFolder(folder))
    assert (config["model_type"], config["run"]) == ("sparse_rnn", folder.name)
    assert config["config"] == record["config"]
    assert config["sizes"] == record["sizes"]
    for key in ("parameters", "active_parameters", "sparsity"):
        assert config[key] == record[key]
    if "vocabulary.json" in texts:
        kept, told = ((place / "vocabulary.json").read_text() for place in (folder, exported))
        assert json.loads(kept) == json.loads(told)


def test_the_card_is_valid_and_says_what_the_run_was(run):
    folder, exported = run
    card, record = card_of(exported), read_record(RunFolder(folder))
    _, config = read_run(RunFolder(folder))
    assert (card.data.license, card.data.library_name, card.data.model_name) == ("mit", "sparse_rnn", folder.name)
    assert {config.model.name, config.sparsifier.name} <= set(card.data.tags)
    assert card.data.datasets == [config.dataset.name]
    assert {f"{split}/{card.data.metrics[0]}" for split in ("valid", "test")} <= record["results"].keys()
    for result in card.data.eval_results:
        recorded = record["results"][f"{result.dataset_split}/{result.metric_type}"]
        assert result.metric_value == round(recorded, 4)
        assert f"| {result.dataset_split} | {result.metric_value} | `sparse-rnn evaluate" in card.text
    assert len(card.data.eval_results) == 2
    for fact in (f"{record['active_parameters']:,}", f"{record['parameters']:,}", f"{record['sparsity']:.4f}"):
        assert fact in card.text
    assert f"seed={config.seed} init_seed={config.init_seed}" in card.text
    assert (f"growth {config.growth.name}" in card.text) == config.sparsifier.dynamic


def test_the_command_in_the_card_trains_this_run(run):
    folder, exported = run
    [command] = re.findall(r"^sparse-rnn train (.+)$", card_of(exported).text, flags=re.MULTILINE)
    assert run_id(compose_run(shlex.split(command))) == folder.name
    assert command.endswith("threads=1")


@pytest.mark.parametrize("kind", ["language model", "without masks", "classifier"])
def test_the_command_in_the_card_gives_its_result(kind, shared, monkeypatch):
    _, exported = shared[kind]
    monkeypatch.chdir(exported)
    for result in card_of(exported).data.eval_results:
        command = f"sparse-rnn evaluate file=. split={result.dataset_split}"
        assert f"`{command}`" in card_of(exported).text
        line = evaluate(**{**OF_EVALUATE, "file": ".", "split": result.dataset_split, "device": "cpu"})
        told = float(re.search(rf"{result.metric_type} ([\d.]+)", line)[1])
        assert told == pytest.approx(result.metric_value, rel=1e-5 if ON_KERNELS else 0)


def test_the_masks_can_be_read_as_the_card_shows(shared, monkeypatch):
    folder, exported = shared["language model"]
    monkeypatch.chdir(exported)
    [code] = [
        found for found in re.findall(r"```python\n(.*?)```", card_of(exported).text, re.DOTALL) if "numpy" in found
    ]
    read = {}
    exec(compile(code, "<card>", "exec"), read)
    assert torch.equal(read["weight"], load_exported(exported).state_dict()[read["name"]])
    record, config = read_run(RunFolder(folder))
    _, topology, _ = load_best(config, record["sizes"], RunFolder(folder))
    assert torch.equal(torch.from_numpy(read["mask"]).view(read["weight"].shape), topology[read["name"]].mask)
    for weight in topology:
        assert re.search(rf"\| `{weight.name}` \| [\d x]+ \| {weight.active:,} \|", card_of(exported).text)


@pytest.mark.parametrize("changed", [{"values": "bf16"}, {"weights": "raw"}])
def test_a_result_that_is_not_of_these_weights_is_left_out(changed, shared, tmp_path):
    folder, _ = shared["language model"]
    export_run(**{"run": str(folder), "format": "hub", "out": str(tmp_path / "model"), "weights": "best", **changed})
    card = card_of(tmp_path / "model")
    assert card.data.eval_results is None
    assert card.data.license == "unknown"
    assert "Nobody has stated the licence" in card.text
    result = str(round(read_record(RunFolder(folder))["results"]["test/perplexity"], 4))
    assert result not in card.text
    load_exported(tmp_path / "model")


def test_a_diverged_result_is_left_out(shared, tmp_path):
    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(shared["language model"][0], copy.path)
    record = read_record(copy)
    record["results"] |= {"valid/perplexity": math.inf, "test/perplexity": math.nan}
    copy.record.write_text(json.dumps(record))
    export_run(str(copy.path), "hub", str(tmp_path / "model"), "best")
    assert card_of(tmp_path / "model").data.eval_results is None


def test_the_card_of_a_run_that_was_stopped_says_so(shared, tmp_path):
    assert "not finished" not in card_of(shared["language model"][1]).text
    copy = RunFolder(tmp_path / "copy")
    shutil.copytree(shared["language model"][0], copy.path)
    record = read_record(copy)
    copy.record.write_text(json.dumps({**record, "status": "stopped"}))
    export_run(str(copy.path), "hub", str(tmp_path / "model"), "best")
    assert (
        "**Training was not finished** when this was written: it was to last 1 epoch."
        in card_of(tmp_path / "model").text
    )


def test_where_the_users_files_are_is_not_told(tmp_path, monkeypatch):
    secret = tmp_path / "secret"
    secret.mkdir()
    for split in ("train", "valid", "test"):
        (secret / f"{split}.txt").write_text("a letter of mine\nto you\n" * 40)
    own = [f"dataset.{split}={secret / split}.txt" for split in ("train", "valid", "test")]
    folder = trained(["model=stacked_lstm", "dataset=text", *own, "logger.entity=somebody"])
    export_run(str(folder), "hub", str(tmp_path / "model"), "best")
    for path in (tmp_path / "model").iterdir():
        assert b"secret" not in path.read_bytes()
        assert b"somebody" not in path.read_bytes()
    with safe_open(tmp_path / "model" / "model.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["config"])["dataset"]["train"] == "train.txt"
    [command] = re.findall(r"^sparse-rnn train (.+)$", card_of(tmp_path / "model").text, flags=re.MULTILINE)
    monkeypatch.chdir(secret)
    assert run_id(compose_run(shlex.split(command))) == folder.name
    line = evaluate(**{**OF_EVALUATE, "file": str(tmp_path / "model"), "split": "test"})
    assert f"perplexity {card_of(tmp_path / 'model').data.eval_results[1].metric_value}" in line


def test_an_export_is_replaced_and_what_is_no_export_is_not(shared, tmp_path):
    folder, exported = shared["language model"]
    copy = tmp_path / "copy"
    shutil.copytree(exported, copy)
    for name in FILES | {".gitattributes"}:
        (copy / name).write_text("mine")
    export_run(str(folder), "hub", str(copy), "best", license="mit")
    assert (copy / ".gitattributes").read_text() == "mine"
    for name in FILES - {"model.safetensors"}:  # whose metadata have another order each time
        assert (copy / name).read_text() == (exported / name).read_text()
    load_exported(copy)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("mine")
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    (damaged / "best.safetensors").write_bytes(b"x")
    before = sorted(tmp_path.iterdir())
    run = str(folder)
    wrong = [
        ([run, "hub", str(tmp_path / "mine"), "best"], r"has a README\.md and no model\.safetensors"),
        ([run, "hub", str(copy / "README.md"), "best"], "is no folder"),
        ([run, "hub", str(tmp_path / "none" / "model"), "best"], "does not exist"),
        ([run, "hub", str(tmp_path / "new"), "best", "fp32", "MIT licence"], "must be a licence as a hub calls it"),
        ([run, "csr", str(tmp_path / "new"), "best", "fp32", "mit"], "only format=hub writes a model card"),
        ([str(damaged), "hub", str(tmp_path / "new"), "best"], "does not hold the weights"),
    ]
    for arguments, complaint in wrong:
        with pytest.raises(ConfigError, match=complaint) as refused:
            export_run(*arguments)
        assert re.fullmatch(r"[^\n]+\.", str(refused.value))
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "mine" / "README.md").read_text() == "mine"


def test_without_a_folder_named_it_is_in_the_run_folder(shared):
    folder, exported = shared["language model"]
    line = export_run(str(folder), "hub", "", "best", license="mit")
    assert line.endswith(str(folder / "exported-hub"))
    assert {path.name for path in (folder / "exported-hub").iterdir()} == FILES
    assert (folder / "exported-hub" / "README.md").read_text() == (exported / "README.md").read_text()
    shutil.rmtree(folder / "exported-hub")
