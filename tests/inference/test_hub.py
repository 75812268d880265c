"""Models of a hub, loaded by the real huggingface_hub from a double on this machine."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from exported_models import made, outputs, stored
from hub_double import serving
from huggingface_hub import constants

from sparse_rnn.core.errors import ConfigError, DamagedFile
from sparse_rnn.inference.exported import load_exported
from sparse_rnn.inference.find_model import MODEL_FILE, example_folder, exported_file

pytestmark = pytest.mark.documented

NAME = "tester/small"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two different models, as bytes of their files, and the file of the first."""
    folder = tmp_path_factory.mktemp("models")
    paths = [
        stored(folder / f"{hidden}.safetensors", "packed", *made("stacked_lstm", f"model.hidden={hidden}"))
        for hidden in (6, 8)
    ]
    return *(path.read_bytes() for path in paths), paths[0]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub, where huggingface_hub looks for one, and an empty cache; variables of its own are read once, at import."""
    monkeypatch.chdir(tmp_path)
    with serving() as double:
        monkeypatch.setattr(constants, "ENDPOINT", double.url)
        template = f"{double.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield double


def same(first, second):
    return all(torch.equal(one, other) for one, other in zip(outputs(first), outputs(second), strict=True))


def sentence(name=NAME, **arguments):
    """The one sentence with which a name is refused."""
    with pytest.raises(ConfigError) as refused:
        load_exported(name, **arguments)
    assert re.fullmatch(r"[^\n]+\.", str(refused.value))
    return str(refused.value)


def test_a_model_of_a_hub_computes_what_its_file_does(hub, models):
    first, second, path = models
    sha = hub.commit(NAME, {MODEL_FILE: first})
    hub.refs[NAME]["v1"] = sha
    assert same(load_exported(NAME), load_exported(path))
    hub.commit(NAME, {MODEL_FILE: second})
    newest = load_exported(NAME)
    assert newest.decoder.weight.shape[1] == 8
    for revision in ("v1", sha):
        assert same(load_exported(NAME, revision=revision), load_exported(path))
    assert same(load_exported(NAME, revision="main"), newest)


def test_what_was_fetched_before_needs_no_hub(hub, models, monkeypatch):
    hub.commit(NAME, {MODEL_FILE: models[0]})
    before = load_exported(NAME)
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert same(load_exported(NAME), before)
    assert not hub.asked
    assert "cannot be reached, and the cache does not have it" in sentence("tester/other")
    assert not hub.asked
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub.shutdown()
    hub.server_close()
    assert same(load_exported(NAME), before), "no connection"


def test_what_a_hub_does_not_give_is_one_sentence(hub, models):
    hub.commit(NAME, {MODEL_FILE: models[0]})
    hub.commit("tester/empty", {"README.md": b"# Empty\n"})
    hub.commit("tester/gated", {MODEL_FILE: models[0]})
    hub.closed.add("tester/gated")
    assert sentence("tester/none") == (
        f"tester/none is no file or folder here, and no public model on {hub.url} "
        "(log in by `hf auth login` for a private one)."
    )
    assert sentence(revision="v9") == f"{NAME} on {hub.url} has no revision v9."
    assert "has no model.safetensors: it is no model that sparse_rnn has exported." in sentence("tester/empty")
    assert "is open only to those whom its owner lets in" in sentence("tester/gated")
    assert "cannot be the name of a model of a hub" in sentence("tester/a--b")
    hub.cut = 1000
    assert f"cannot be fetched from {hub.url} (" in sentence()
    hub.cut = None
    load_exported(NAME)


def test_a_corrupt_file_of_a_hub_is_refused(hub, models):
    damaged = bytearray(models[0])
    damaged[-1] ^= 1
    hub.commit(NAME, {MODEL_FILE: bytes(damaged)})
    with pytest.raises(DamagedFile, match=r"does not hold an exported model \(its checksum is not that"):
        load_exported(NAME)
    hub.commit(NAME, {MODEL_FILE: models[0]})
    load_exported(NAME)


def test_what_is_here_goes_before_the_hub(hub, models, tmp_path):
    hub.commit(NAME, {MODEL_FILE: models[1]})
    folder = tmp_path / NAME
    folder.mkdir(parents=True)
    assert sentence() == f"{NAME} is a folder without model.safetensors, which `export format=hub` writes."
    (folder / MODEL_FILE).write_bytes(models[0])
    assert same(load_exported(NAME), load_exported(models[2]))
    assert sentence(revision="main") == (
        f"revision=main is that of a model of a hub, and {NAME} is here: leave it out."
    )
    assert exported_file(Path(NAME)) == Path(NAME) / MODEL_FILE
    for misspelt in ("tester/smal.safetensors", "none", Path("tester/other")):
        assert sentence(misspelt) == f"{misspelt} does not exist."
    assert not hub.asked


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert sentence() == (
        f"{NAME} is no file or folder here. huggingface_hub is not installed, and a model of a hub needs it: "
        "pip install 'sparse-rnn[hub]' brings it."
    )


def test_a_folder_is_uploaded_as_documented_and_used_by_its_name(tmp_path):
    """By the client's own command and variables: `hf upload`, HF_ENDPOINT, HF_HOME."""
    with serving() as double:
        own = {"HF_ENDPOINT": double.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_tester"}
        environment = {**os.environ, **own, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}

        def run(*command):
            return subprocess.run(
                command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
            ).stdout

        hf = Path(sys.executable).with_name("hf")
        run(str(hf), "upload", NAME, str(example_folder()))
        assert double.commits[NAME][double.refs[NAME]["main"]] == {
            path.name: path.read_bytes() for path in example_folder().iterdir()
        }
        generate = [sys.executable, "-m", "sparse_rnn", "generate", "prompt=the", "words=5", "threads=1"]
        text = run(*generate, f"file={NAME}")
        assert any(asked.startswith(f"GET /{NAME}/resolve/main/") for asked in double.asked)
    assert text == run(*generate, "run=example")
