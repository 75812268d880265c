"""The commands as a user types them."""

import json
import os
import re
import subprocess
import sys

import pytest
from storages import ON_KERNELS

from sparse_rnn import __main__ as dispatch
from sparse_rnn import demo, evaluate, export
from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import run_id
from sparse_rnn.core import command_line
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.data.corpus import SPLITS
from sparse_rnn.data.language.corpora import PTB
from sparse_rnn.describe import main as describe_main
from sparse_rnn.inference.export import ONNX
from sparse_rnn.inference.exported import LAYOUTS, VALUES
from sparse_rnn.inference.find_run import find_run
from sparse_rnn.runs.description import describe
from sparse_rnn.runs.folder import RunFolder, read_record, runs_root
from sparse_rnn.training.session import train

OF_THE_PACKAGE = ["train", "evaluate", "describe", "demo", "extract", "export", "generate", "doctor", "watch"]
SMOKE = ["dataset=pydoc", "budget=smoke", "logger=files", "threads=1"]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m ...` with its output."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
    )


@pytest.mark.parametrize(
    ("overrides", "parameters", "active"),
    [
        (["model=stacked_lstm", "sparsifier=selfish", "sparsifier.sparsity=0.67"], 66_034_000, 21_814_000),
        (["model=stacked_lstm", "sparsifier=selfish", "sparsifier.sparsity=0.62"], 66_034_000, 25_114_000),
        (["model=stacked_lstm", "sparsifier=st_rnn", "sparsifier.sparsity=0.8"], 66_034_000, 13_234_000),
        (["model=rhn", "sparsifier.sparsity=0.528"], 23_484_060, 11_099_398),
        (["model=rhn", "sparsifier.sparsity=0.68"], 23_484_060, 7_534_116),
        (["model=rhn", "sparsifier=dense"], 23_484_060, 23_484_060),
        (["model=on_lstm"], 25_232_180, 11_372_455),
        (["model=awd_lstm_mos"], 34_909_528, 15_748_408),
        (["model=stacked_lstm", "model.hidden=700", "sparsifier=dense"], 21_861_200, 21_861_200),
        (["model=stacked_lstm", "model.hidden=490", "sparsifier=dense"], 13_659_440, 13_659_440),
        (["model=rhn", "model.hidden=517", "sparsifier=dense"], 11_071_732, 11_071_732),
    ],
)
def test_describe_gives_the_papers_sizes(overrides, parameters, active):
    """Selfish-RNN Tables 2, 7, 8 and ST-RNN Table 2; docs/deviations has what is printed there beside each."""
    facts = describe(overrides)
    assert (facts["parameters"], facts["active_parameters"]) == (parameters, active)
    assert sum(weight["active"] for weight in facts["weights"]) == active


@pytest.mark.parametrize(
    ("overrides", "active", "sparsity"),
    [
        ([], 243_520, 0.95686),  # epsilon = 10: 10 (20,000 + 256) + 8 x 10 (256 + 256)
        (["sparsifier.epsilon=10"], 243_520, 0.95686),
        (["sparsifier.epsilon=2"], 48_704, 0.99137),
        (["sparsifier.epsilon=20"], 487_040, 0.91371),
        (["dataset=ag_news"], 487_040, 0.91371),
        (["sparsifier.epsilon=110"], 2_678_720, 0.52541),
    ],
)
def test_describe_gives_the_classifiers_of_st_rnn(overrides, active, sparsity):
    """By epsilon over the embedding and the eight gate matrices of 5,644,288 entries; the output layer is dense."""
    facts = describe(["model=lstm_classifier", "sparsifier=st_rnn", *overrides])
    sparse = [weight for weight in facts["weights"] if weight["sparse"]]
    assert [weight["name"] for weight in sparse] == ["embedding.weight", "lstm.weight_ih_l0", "lstm.weight_hh_l0"]
    assert sum(weight["active"] for weight in sparse) == active
    assert facts["sparsity"] == pytest.approx(sparsity, abs=5e-6)


@pytest.mark.parametrize("method", ["selfish", "static_er", "set", "dense", "gmp"])
def test_describe_agrees_with_what_a_run_records(method):
    overrides = [f"sparsifier={method}", *SMOKE]
    facts = describe(overrides)
    config = compose_run(overrides)
    train(config, overrides)
    record = read_record(RunFolder(runs_root() / run_id(config)))
    for key in ("run_id", "parameters", "active_parameters", "sparsity"):
        assert record[key] == pytest.approx(facts[key]) if key == "sparsity" else record[key] == facts[key]


def test_describe_prints_json_and_a_table():
    printed = run("sparse_rnn.describe", "model=rhn", "format=json")
    facts = json.loads(printed.stdout)
    assert set(facts) >= {"parameters", "active_parameters", "sparsity", "weights"}
    weight = next(w for w in facts["weights"] if w["name"] == "highway.recurrent.3.weight")
    assert weight["gates"] == {"hidden": [0, 830], "transform": [830, 1660]}
    assert weight["shape"] == [1660, 830]
    flops = [facts[f"flops_{key}"] for key in ("train", "test", "train_ratio", "test_ratio")]
    assert flops == pytest.approx([6.5413e16 * 0.472, 3.2838e10 * 0.472, 0.472, 0.472], rel=1e-4)
    table = run("sparse_rnn.describe", "model=rhn").stdout
    flops_line = "FLOPs: 3.09e16 to train (0.472 of the dense model's), 1.55e10 for a minibatch in the test (0.472)"
    assert table.splitlines()[-1] == flops_line
    assert re.search(
        r"highway\.recurrent\.3\.weight +1660 x 830 +hidden 0-829 +transform 830-1659 +0\.5280 +650,3", table
    )


def test_describe_says_what_nobody_knows(monkeypatch, capsys):
    monkeypatch.setattr(PTB, "train_tokens", lambda self, limit: None)
    monkeypatch.setattr(sys, "argv", ["describe", "sparsifier=dense", "model.hidden=10"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # which the command sets for itself
    assert describe(["sparsifier=dense", "model.hidden=10"])["flops_train"] is None
    describe_main()
    expected = "FLOPs: unknown to train (1.000 of the dense model's), 1.42e8 for a minibatch in the test (1.000)"
    assert capsys.readouterr().out.splitlines()[-1] == expected


@pytest.mark.parametrize("command", OF_THE_PACKAGE)
def test_help_is_useful_and_quick(command):
    code = (
        f"import sys; sys.argv = ['{command}', '--help']; from sparse_rnn.{command} import main; main(); "
        "assert not {'torch', 'hydra', 'omegaconf'} & set(sys.modules), 'help must not wait for imports'"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert f"sparse_rnn.{'train' if command == 'demo' else command}" in shown


@pytest.mark.parametrize("command", dispatch.COMMANDS)
def test_one_name_leads_to_every_command(command):
    done = run("sparse_rnn", command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    own = f"sparse_rnn.{command}" if command in (*OF_THE_PACKAGE, "data", "kernels") else command
    assert done.stdout == run(own, "--help").stdout
    assert re.search(rf"^  {command} +\S", run("sparse_rnn").stdout, flags=re.MULTILINE)


def test_a_command_by_its_name_does_what_its_module_does(tmp_path):
    words = ["sparse_rnn", "train", "-m", "sparsifier=set,dense", *SMOKE]
    assert run(*words, SPARSE_RNN_RUNS=str(tmp_path)).returncode == 0
    again = run("sparse_rnn.train", "sparsifier=dense", *SMOKE, SPARSE_RNN_RUNS=str(tmp_path))
    assert " is finished: valid perplexity " in again.stdout
    unknown = run("sparse_rnn", "tarin")
    assert (unknown.returncode, unknown.stderr) == (2, "error: tarin is not a command (did you mean train?).\n")
    assert run("sparse_rnn", "train", "model=rnh").returncode == 2


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("evaluate", ["run=nowhere"]),
        ("evaluate", ["run=nowhere", "split=tets"]),
        ("generate", ["run=nowhere", "temperature=warm"]),
        ("export", ["run=nowhere", "format=cs"]),
        ("extract", ["run=nowhere"]),
        ("describe", ["format=yaml"]),
        ("kernels", ["now"]),
        ("doctor", ["now"]),
    ],
)
def test_wrong_arguments_are_refused_before_torch_is_loaded(command, wrong, tmp_path):
    code = (
        f"import sys; sys.argv = ['{command}', *{wrong}]; from sparse_rnn.{command} import main\n"
        "try: main()\n"
        "finally: assert not {'torch', 'hydra', 'omegaconf'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert re.fullmatch(r"error: [^\n]+\.\n", done.stderr)


def test_what_commands_accept_is_what_there_is():
    assert evaluate.SPLITS == SPLITS
    assert (*LAYOUTS, ONNX, export.HUB) == export.FORMATS
    assert tuple(VALUES) == export.VALUES


@pytest.mark.parametrize(
    "arguments", [["sparse_rnn.train", "model=rnh"], ["sparse_rnn.describe", "model.hiden=1"], ["sparse_rnn.evaluate"]]
)
def test_bad_input_is_one_sentence_and_code_2_and_leaves_nothing(arguments, tmp_path):
    done = run(*arguments, SPARSE_RNN_RUNS=str(tmp_path / "r"))
    assert done.returncode == 2
    assert re.fullmatch(r"error: [^\n]+\.\n", done.stderr)
    assert not done.stdout
    assert not list(tmp_path.rglob("record.json"))


def test_tracebacks_come_back_when_asked_for():
    done = run("sparse_rnn.describe", "model=rnh", HYDRA_FULL_ERROR="1")
    assert "Traceback" in done.stderr


def test_multirun_trains_every_combination_and_reports_every_refusal(tmp_path):
    sweep = ["-m", "sparsifier=set,dense", "growth=random", *SMOKE]
    done = run("sparse_rnn.train", *sweep, SPARSE_RNN_RUNS=str(tmp_path / "r"))
    assert done.returncode == 2
    assert re.fullmatch(r"error: .*sparsifier=dense .*: sparsifier=dense never grows weights: .* out\.\n", done.stderr)
    finished = [json.loads(path.read_text())["status"] for path in tmp_path.glob("r/*/record.json")]
    assert finished == ["finished"]


def test_evaluate_names_near_matches_and_refuses_nonsense():
    config = compose_run(SMOKE)
    train(config, SMOKE)
    name = run_id(config)
    with pytest.raises(ConfigError, match=name):
        find_run(name[:-1] + "x")
    defaults = {**evaluate.DEFAULTS, "run": name}
    for wrong, word in (({"split": "tets"}, "test"), ({"weights": "mean"}, "averaged"), ({"batch": "0"}, "batch=0")):
        with pytest.raises(ConfigError, match=word):
            evaluate.evaluate(**{**defaults, **wrong})
    with pytest.raises(ConfigError, match="key=value"):
        command_line.parse_keys(["tets"], evaluate.DEFAULTS)


def test_evaluate_repeats_the_recorded_result_from_any_folder():
    config = compose_run(SMOKE)
    train(config, SMOKE)
    folder = RunFolder(runs_root() / run_id(config))
    record = read_record(folder)
    for split in ("valid", "test"):
        line = evaluate.evaluate(**{**evaluate.DEFAULTS, "run": str(folder.path), "split": split})
        told, recorded = float(line.split("perplexity ")[1].split()[0]), record["results"][f"{split}/perplexity"]
        # evaluate computes with masks
        assert told == (pytest.approx(recorded, rel=1e-6) if ON_KERNELS else round(recorded, 4))


def test_demo_shows_perplexity_sparsity_and_gates(monkeypatch, capsys):
    monkeypatch.setattr(demo, "OVERRIDES", ["sparsifier=selfish", *SMOKE])
    demo._demo()
    shown = capsys.readouterr().out
    assert re.search(r"perplexity +\d+ before, [\d.]+ after", shown)
    assert "sparsity     0.6700 asked, 0.6700 reached" in shown
    assert len(re.findall(r"lstm\.weight_[ih]h_l[01]/(?:input|forget|cell|output) .* 0\.\d{3}\n", shown)) == 16
    picture = next(runs_root().glob("*/demo.png"))
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 10_000


def test_bars_are_as_long_as_the_density():
    full, half, none = demo.bar_lines({"a": 1.0, "b": 0.5, "c": 0.0}, asked=0.25, width=8)
    assert full == "  a  ██|█████  1.000"
    assert half == "  b  ██|█      0.500"
    assert none == "  c    |       0.000"


def test_too_frequent_updates_are_warned_of():
    """At 331 steps and p = .7 growth was seen to wreck the network; the paper has 1,328."""
    from sparse_rnn.training.announcement import updates_too_often

    reduced = compose_run(["budget=reduced"])
    assert "331 steps" in updates_too_often(reduced.sparsifier, 331)
    assert not updates_too_often(reduced.sparsifier, 1328)
    assert not updates_too_often(compose_run(["budget=reduced", "sparsifier.removal_rate=0.2"]).sparsifier, 331)
    assert not updates_too_often(compose_run(["budget=reduced", "sparsifier=static_er"]).sparsifier, 331)
