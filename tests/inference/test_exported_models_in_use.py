"""`generate file=` and `evaluate file=` need an exported file alone: no run, and no data but a text to evaluate."""

import re
import shutil

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sparse_rnn.backends import choice as backend
from sparse_rnn.backends.cpu import compile as compiling
from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import run_id
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.evaluate import DEFAULTS as OF_EVALUATE
from sparse_rnn.evaluate import evaluate
from sparse_rnn.export import VALUES, export_run
from sparse_rnn.generate import DEFAULTS as OF_GENERATE
from sparse_rnn.generate import generate
from sparse_rnn.runs.folder import runs_root
from sparse_rnn.training.session import train

SMOKE = ("budget=smoke", "logger=files", "threads=1", "training.epochs=1")
ON_CPU = {"device": "cpu", "threads": "1"}


def trained(*overrides):
    """The folder of a run that is trained in seconds."""
    config = compose_run([*overrides, *SMOKE])
    train(config, [*overrides, *SMOKE])
    return runs_root() / run_id(config)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What the commands say of a run, and files of its model; the run is gone."""
    root = tmp_path_factory.mktemp("models")
    (root / "letter.txt").write_text("the name of the module\nthe value is not a Zebra\n" * 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSE_RNN_RUNS", str(root / "runs"))
        folder = trained("model=stacked_lstm", "dataset=pydoc")
        for values in VALUES:
            export_run(str(folder), "packed", str(root / f"{values}.safetensors"), "best", values)
        export_run(str(folder), "csr", str(root / "csr.safetensors"), "best")
        said = {
            "text": generate(**{**OF_GENERATE, "run": str(folder), "prompt": "the name", "words": "30"}),
            "valid": evaluate(**{**OF_EVALUATE, **ON_CPU, "run": str(folder), "split": "valid"}),
            "own": evaluate(**{**OF_EVALUATE, **ON_CPU, "run": str(folder), "data": str(root / "letter.txt")}),
        }
    shutil.rmtree(root / "runs")
    return root, said


@pytest.fixture(params=["masks", "kernels"])
def storage(request, monkeypatch):
    """What computes, as the commands name it."""
    if request.param == "masks":
        monkeypatch.setattr(backend, "LARGE", 1 << 40)
        return "masked dense weights, which are faster at this size"
    try:
        compiling.kernels()
    except compiling.KernelsUnavailable as error:
        pytest.skip(str(error))
    monkeypatch.setattr(backend, "LARGE", 1)
    return "sparse kernels"


def numbers(line):
    return [float(number) for number in re.findall(r"(?:loss|perplexity) ([\d.]+)", line)]


@pytest.mark.parametrize("name", ["fp32.safetensors", "csr.safetensors"])
def test_a_file_says_what_its_run_did(name, files, storage, monkeypatch, tmp_path, capsys):
    root, said = files
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPARSE_RNN_RUNS", str(tmp_path / "none"))
    file = {"file": str(root / name)}
    capsys.readouterr()
    text = generate(**{**OF_GENERATE, **file, "prompt": "the name", "words": "30", "threads": "1"})
    assert text == said["text"]
    assert capsys.readouterr().err.endswith(f"per second, computed with {storage}\n")
    line = evaluate(**{**OF_EVALUATE, **ON_CPU, **file, "split": "valid"})
    assert line.startswith(f"{root / name}  valid  loss ")
    assert line.endswith(f"weights, computed with {storage})")
    assert numbers(line) == pytest.approx(numbers(said["valid"]), rel=1e-3)
    line = evaluate(**{**OF_EVALUATE, **ON_CPU, **file, "data": str(root / "letter.txt")})
    assert line.rpartition("  ")[2] == said["own"].rpartition("  ")[2]
    assert numbers(line) == pytest.approx(numbers(said["own"]), rel=1e-3)


@pytest.mark.parametrize("values", ["fp16", "bf16"])
def test_sixteen_bits_change_the_loss_little(values, files):
    root, said = files
    line = evaluate(**{**OF_EVALUATE, **ON_CPU, "file": str(root / f"{values}.safetensors"), "split": "valid"})
    assert numbers(line) == pytest.approx(numbers(said["valid"]), rel=1e-2)


def test_dense_windows_are_left_to_masks(files, monkeypatch):
    root, _ = files
    monkeypatch.setattr(backend, "LARGE", 1)
    monkeypatch.setattr(backend, "OTHER_CROSSOVER_DENSITY", 0.2)
    monkeypatch.setattr("sparse_rnn.inference.computing.kernels", lambda: None)
    line = evaluate(**{**OF_EVALUATE, **ON_CPU, "file": str(root / "fp32.safetensors"), "split": "valid"})
    assert line.endswith("masked dense weights, which are faster above 20% of active entries, and 33% are active)")


def changed(path, target, change):
    """A copy of a file with other metadata."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    del metadata["sha256"]
    change(metadata)
    save_file(load_file(path), target, metadata)
    return str(target)


def test_what_cannot_be_used_is_one_sentence(files, tmp_path):
    root, _ = files
    sound = str(root / "fp32.safetensors")
    silent = changed(sound, tmp_path / "silent.safetensors", lambda metadata: metadata.pop("vocabulary"))
    other = changed(
        sound,
        tmp_path / "other.safetensors",
        lambda metadata: metadata.update(
            vocabulary=re.sub(r'"data_sha256":"..', '"data_sha256":"zz', metadata["vocabulary"])
        ),
    )
    (tmp_path / "cut.safetensors").write_bytes((root / "fp32.safetensors").read_bytes()[:1000])
    both = [
        ({"run": "x", "file": sound}, "run=x and file=.* are two models"),
        ({"file": str(tmp_path / "none")}, "does not exist"),
        ({"file": str(tmp_path)}, r"is a folder without model\.safetensors"),
        ({"file": str(tmp_path / "cut.safetensors")}, "does not hold an exported model"),
        ({"file": silent}, r"silent\.safetensors has no vocabulary: export its run again"),
    ]
    refusals = [(evaluate, OF_EVALUATE, *pair) for pair in both] + [(generate, OF_GENERATE, *pair) for pair in both]
    refusals += [
        (evaluate, OF_EVALUATE, {"file": sound, "weights": "raw"}, "weights=raw means nothing with file="),
        (evaluate, OF_EVALUATE, {"file": sound, "data": "none.txt"}, r"data=none\.txt does not exist"),
        (evaluate, OF_EVALUATE, {"file": other}, r"not those that .*other\.safetensors was trained on"),
        (generate, OF_GENERATE, {"file": sound, "words": "0"}, "words=0"),
    ]
    for command, defaults, arguments, complaint in refusals:
        with pytest.raises(ConfigError, match=complaint) as refused:
            command(**{**defaults, **arguments})
        assert re.fullmatch(r"[^\n]+\.", str(refused.value))


def test_a_classifier_is_evaluated_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSE_RNN_RUNS", str(tmp_path / "runs"))
    folder = trained("model=lstm_classifier", "dataset=pydoc_topics")
    path = str(tmp_path / "classifier.safetensors")
    export_run(str(folder), "packed", path, "best")
    there = evaluate(**{**OF_EVALUATE, **ON_CPU, "run": str(folder)})
    shutil.rmtree(folder)
    here = evaluate(**{**OF_EVALUATE, **ON_CPU, "file": path})
    assert here.split()[2:6] == there.split()[2:6]
    with pytest.raises(ConfigError, match=r"holds model=lstm_classifier: only a language model writes text\.$"):
        generate(**{**OF_GENERATE, "file": path})
