"""The model that comes with the package writes at once, without data, and its card is right."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import run_id
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.evaluate import DEFAULTS as OF_EVALUATE
from sparse_rnn.evaluate import evaluate
from sparse_rnn.generate import DEFAULTS as OF_GENERATE
from sparse_rnn.generate import generate
from sparse_rnn.inference.exported import load_exported, read_exported
from sparse_rnn.inference.find_model import EXAMPLE, MODEL_FILE, example_folder, find_model
from sparse_rnn.runs.folder import runs_root

LARGEST = 2_000_000  # bytes, of the whole folder
# What nobody who asks for a text should wait for.
SLOW = ["hydra", "matplotlib", "pandas", "pooch", "requests", "rich", "scipy", "sympy", "torch._dynamo", "wandb"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def written(**arguments):
    return generate(**{**OF_GENERATE, "run": EXAMPLE, "prompt": "the", "threads": "1", **arguments})


def test_the_example_writes_without_data_and_imports_nothing_slow(tmp_path):
    code = (
        "import sys; sys.argv = ['x', 'run=example', 'prompt=the', 'words=20']; from sparse_rnn.generate import main\n"
        f"main(); print(sorted(set({SLOW}) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert re.match(r"the \S+ \S+", done.stdout)
    assert done.stderr.splitlines()[-1] == "[]"
    assert not any(path.name != "runs" for path in tmp_path.iterdir())


def test_the_example_is_small_and_is_what_its_card_says():
    assert sum(path.stat().st_size for path in example_folder().iterdir()) <= LARGEST
    card, exported = ModelCard.load(example_folder() / "README.md"), read_exported(example_folder() / MODEL_FILE)
    assert card.data.license == "mit"
    assert card.data.model_name == exported.metadata["run"]
    assert json.loads((example_folder() / "vocabulary.json").read_text()) == json.loads(exported.metadata["vocabulary"])
    [command] = re.findall(r"^sparse-rnn train (.+)$", card.text, flags=re.MULTILINE)
    assert run_id(compose_run(command.split())) == exported.metadata["run"]


@pytest.mark.parametrize("split", ["valid", "test"])
def test_the_perplexity_in_the_card_is_repeated_by_the_command_beside_it(split, monkeypatch):
    card = ModelCard.load(example_folder() / "README.md")
    trained_on = json.loads((example_folder() / "vocabulary.json").read_text())["data_sha256"]
    if compose_run(["dataset=pydoc"]).dataset.load().sha256 != trained_on:
        pytest.skip("this version of Python comes with another text")
    [(told, command)] = re.findall(
        rf"^\| {split} \| ([\d.]+) \| `sparse-rnn evaluate (.+?)` \|$", card.text, re.MULTILINE
    )
    monkeypatch.chdir(example_folder())
    line = evaluate(**{**OF_EVALUATE, **dict(word.split("=") for word in command.split()), "device": "cpu"})
    assert float(re.search(r"perplexity ([\d.]+)", line)[1]) == pytest.approx(float(told), rel=1e-4)


def test_the_example_has_a_name_wherever_a_model_is_named():
    assert written() == written(run="", file=EXAMPLE) == written(run="", file=str(example_folder()))
    assert load_exported(EXAMPLE).decode(load_exported(EXAMPLE).encode("the name")) == "the name"
    with pytest.raises(ConfigError, match="revision=v1 is that of a model of a hub, and example is here"):
        load_exported(EXAMPLE, revision="v1")
    with pytest.raises(ConfigError, match="weights=raw means nothing with run=example"):
        evaluate(**{**OF_EVALUATE, "run": EXAMPLE, "weights": "raw"})


def test_a_run_of_this_name_goes_first_and_is_said_to(capsys):
    for place in (runs_root() / EXAMPLE, Path(EXAMPLE), runs_root() / "example_net-pydoc-set-s1-00000000"):
        place.mkdir(parents=True)
        (place / "record.json").write_text(json.dumps({"config": {}, "status": "finished", "data_sha256": ""}))
        assert find_model(EXAMPLE, "").path == place
        said = capsys.readouterr().err
        assert said == (
            f"warning: run=example is {place}, not the model that comes with sparse_rnn, which is "
            f"file={example_folder()}\n"
        )
        shutil.rmtree(place)
    assert find_model(EXAMPLE, "") == example_folder() / MODEL_FILE
    assert not capsys.readouterr().err


def test_several_runs_or_a_damaged_one_of_this_name_are_not_passed_over():
    for name in ("example-1", "example-2"):
        (runs_root() / name).mkdir(parents=True)
        (runs_root() / name / "record.json").write_text("{}")
    with pytest.raises(ConfigError, match="run=example fits 2 runs"):
        find_model(EXAMPLE, "")
    shutil.rmtree(runs_root() / "example-2")
    with pytest.raises(ConfigError, match=r"record\.json"):
        find_model(EXAMPLE, "")


def test_a_file_or_folder_of_this_name_goes_first_and_is_said_to(tmp_path, capsys):
    Path(EXAMPLE).mkdir()
    shutil.copy(example_folder() / MODEL_FILE, EXAMPLE)
    load_exported(Path(EXAMPLE))
    assert find_model(EXAMPLE, "") == example_folder() / MODEL_FILE, "a folder without a record is no run"
    assert not capsys.readouterr().err
    load_exported(EXAMPLE)
    said = f"warning: example is {tmp_path / EXAMPLE}, not the model that comes with sparse_rnn, which is"
    assert capsys.readouterr().err.startswith(said)
    (Path(EXAMPLE) / MODEL_FILE).unlink()
    with pytest.raises(ConfigError, match=r"^example is a folder without model\.safetensors"):
        load_exported(EXAMPLE)
