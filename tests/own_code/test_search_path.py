"""Folders of configuration files of users: what names them, what is found in them, what is refused."""

import os
from pathlib import Path

import pytest

from results.requests import parse
from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.composer import Composer
from sparse_rnn.core.command_line import start
from sparse_rnn.core.conf import SEARCH_PATH, config_dir, describe_groups, find_file, options, search_path
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.own_places import keep_places
from sparse_rnn.core.plugins import PLUGINS
from sparse_rnn.tables.catalogue import Catalogue
from sparse_rnn.tables.declaration import load as load_table
from sparse_rnn.train import main as train

METHOD = "defaults: [override /growth@_global_.growth: gradient, _self_]\nname: mine\ninitial: er\nremoval: magnitude\n"


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """A folder of configuration files with a method `mine`, named by the variable."""
    folder = tmp_path / "my conf"
    write(folder / "sparsifier" / "mine.yaml", METHOD)
    monkeypatch.setenv(SEARCH_PATH, str(folder))
    return folder


def write(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def refusal(call) -> str:
    with pytest.raises(ConfigError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_own_options_compose_are_listed_and_suggested(conf):
    assert search_path() == (config_dir(), conf)
    assert compose_run(["sparsifier=mine"]).growth.name == "gradient"
    assert Composer().compose(["sparsifier=mine", "seed=3"]).sparsifier.removal == "magnitude"
    assert " mine," in describe_groups()
    assert find_file("sparsifier", "mine") == conf / "sparsifier" / "mine.yaml"
    assert "did you mean mine" in refusal(lambda: compose_run(["sparsifier=mien"]))
    assert "did you mean mine" in refusal(lambda: find_file("sparsifier", "mien"))


def test_options_of_optional_groups_and_groups_of_ones_own(conf):
    write(conf / "size" / "smoke" / "my_gru.yaml", "# @package _global_\nmodel: {hidden: 16}\n")
    write(conf / "experiment" / "short.yaml", "# @package _global_\ntraining: {epochs: 3}\n")
    assert "smoke/my_gru" in options("size")
    assert compose_run(["size=smoke_my_gru", "budget=reduced"]).model.hidden == 16
    assert compose_run(["+experiment=short"]).training.epochs == 3


@pytest.mark.parametrize(
    ("path", "text", "sentence"),
    [
        (
            "growth/own.yaml",
            "power: 2\n",
            "growth has no schema: choose it by name, as in `model=rhn`; a file of your own begins with "
            "`defaults: [schema_NAME, _self_]`, where NAME is that of its class.",
        ),
        (
            "growth/own.yaml",
            "defaults: [own, _self_]\n",
            "The defaults of a file name the file itself: write `defaults: [schema_NAME, _self_]`.",
        ),
        (
            "growth/own.yaml",
            "# a rule\ndefaults: [schema_random, _self_\n",
            "{file}, line 3, is not YAML (expected ',' or ']', but got '<stream end>').",
        ),
        (
            "recipe/own.yaml",
            "training: {epochs: 3}\n",
            "recipe=own does not go with the other choices: key 'training' not in 'RecipeConfig'; {file} must begin "
            "with the line `# @package _global_`.",
        ),
    ],
)
def test_a_file_that_is_no_option_is_one_sentence(path, text, sentence, conf, monkeypatch, capsys):
    write(conf / path, text)
    asked, said = f"{Path(path).parent}=own", sentence.format(file=conf / path)
    assert {refusal(lambda: compose_run([asked])), refusal(lambda: Composer().compose([asked]))} == {said}
    monkeypatch.setattr("sys.argv", ["train", asked])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")  # the command sets it
    with pytest.raises(SystemExit) as ended:
        train()
    assert (ended.value.code, capsys.readouterr().err) == (2, f"error: {said}\n")


@pytest.mark.parametrize(
    ("names", "there"),
    [("", ""), ("own_empty", ", which names own_empty ({folder}/own_empty.py)")],
)
def test_a_file_without_a_class_says_which_modules_are_named(names, there, conf, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "own_empty.py")
    write(conf / "growth" / "mine.yaml", "defaults: [schema_mine, _self_]\n")
    monkeypatch.setenv(PLUGINS, names)
    assert refusal(lambda: compose_run(["growth=mine"])) == (
        f"growth=mine has a file, {conf}/growth/mine.yaml, and no class: name the module that registers it in "
        f"{PLUGINS}{there.format(folder=tmp_path)}."
    )


def test_where_own_files_are_looked_for_is_said_where_no_folder_is_named(conf, monkeypatch):
    hint = "; for a file of your own, name its folder in SPARSE_RNN_CONF or by --config-dir)"

    def refusals() -> list[str]:
        return [
            refusal(call)
            for call in (
                lambda: compose_run(["growth=hebbian_hubs"]),
                lambda: find_file("cluster", "bigmachine_42"),
                lambda: load_table("hebbian_hubs"),
                lambda: parse("table", ["hebbian_hubs"]),
            )
        ]

    assert not any(hint in sentence for sentence in refusals())
    monkeypatch.delenv(SEARCH_PATH)
    assert all(hint in sentence for sentence in refusals())
    assert hint not in refusal(lambda: compose_run(["growth=randon"]))


def test_folders_are_searched_in_order_and_each_once(conf, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    (tmp_path / "link").symlink_to(conf)
    monkeypatch.setenv(SEARCH_PATH, os.pathsep.join([str(conf), "", str(other), str(conf), str(tmp_path / "link")]))
    assert search_path() == (config_dir(), conf, other)
    monkeypatch.setenv(SEARCH_PATH, str(config_dir()))
    assert search_path() == (config_dir(),)


@pytest.mark.parametrize("name", ["lab, [a] = 'b'", 'qu"ote', "a+b~c", "ünï", "back\\slash"])
def test_any_name_of_a_folder_will_do(name, tmp_path, monkeypatch):
    write(tmp_path / name / "sparsifier" / "mine.yaml", METHOD)
    monkeypatch.setenv(SEARCH_PATH, str(tmp_path / name))
    assert compose_run(["sparsifier=mine"]).sparsifier.name == "mine"


def test_what_editors_leave_is_no_option(conf):
    (conf / "sparsifier" / ".#mine.yaml").symlink_to("nobody@nowhere")
    write(conf / "sparsifier" / ".mine.yaml")
    assert set(options("sparsifier")) >= {"mine", "selfish"}
    assert not [name for name in options("sparsifier") if name.startswith(".")]


@pytest.mark.parametrize(
    "path", ["growth/random.yaml", "size/reduced/rhn.yaml", "table/table2.yaml", "cluster/local.yaml", "config.yaml"]
)
def test_a_built_in_name_is_not_shadowed(path, conf):
    write(conf / path)
    sentence = f"{conf / path} has the name of {config_dir() / path}: rename it."
    for call in (search_path, describe_groups, lambda: compose_run([]), lambda: options("model")):
        assert refusal(call) == sentence


def test_own_folders_do_not_shadow_each_other(conf, tmp_path, monkeypatch):
    write(tmp_path / "b" / "sparsifier" / "mine.yaml", METHOD)
    monkeypatch.setenv(SEARCH_PATH, os.pathsep.join([str(conf), str(tmp_path / "b")]))
    assert (
        refusal(search_path)
        == f"{tmp_path}/b/sparsifier/mine.yaml has the name of {conf}/sparsifier/mine.yaml: rename it."
    )


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv(SEARCH_PATH, "nowhere")
    monkeypatch.chdir(tmp_path)
    assert refusal(search_path) == f"{tmp_path}/nowhere, which {SEARCH_PATH} or --config-dir names, is not a folder."


def test_command_lines_name_folders_in_every_way(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "c", "d", "e", "lab/conf"):
        (tmp_path / name).mkdir(parents=True)
    write(tmp_path / "lab" / "__init__.py")
    write(tmp_path / "lab" / "conf" / "__init__.py")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(SEARCH_PATH, "a")
    words = [
        "--config-dir",
        "b",
        "plan",
        "--config-dir=c",
        "-cd",
        "d",
        f"hydra.searchpath=[file://{tmp_path}/e,pkg://lab.conf]",
    ]
    assert keep_places([*words, "seed=1"]) == ["plan", "seed=1"]
    named = [str(tmp_path / name) for name in ("a", "b", "c", "d", "e", "lab/conf")]
    assert os.environ[SEARCH_PATH].split(os.pathsep) == named


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--config-dir", "no"], "--config-dir no is not a folder: name one with config groups."),
        (["--config-dir"], "--config-dir names nothing, which is not a folder: name one with config groups."),
        (["hydra.searchpath=a"], "hydra.searchpath=a must be a list of folders, as in 'hydra.searchpath=[my]'."),
        (["hydra.searchpath=[1]"], "hydra.searchpath=[1] must be a list of folders, as in 'hydra.searchpath=[my]'."),
        (["hydra.searchpath=["], "hydra.searchpath=[ must be a list of folders, as in 'hydra.searchpath=[my]'."),
        (
            ["hydra.searchpath=[pkg://no.such]"],
            "hydra.searchpath: pkg://no.such cannot be found: name a folder, or pkg:// and a package that is "
            "installed.",
        ),
    ],
)
def test_command_lines_that_name_no_folder(words, sentence, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["describe", *words])
    with pytest.raises(SystemExit) as ended:
        start(lambda: None, lambda: "")
    assert (ended.value.code, capsys.readouterr().err) == (2, f"error: {sentence}\n")


def test_remembered_facts_are_made_anew_when_an_own_file_changes(conf, tmp_path, monkeypatch):
    def fingerprint() -> str:
        return Catalogue(tmp_path)._fingerprint

    monkeypatch.delenv(SEARCH_PATH)
    without = fingerprint()
    monkeypatch.setenv(SEARCH_PATH, str(conf))
    before = fingerprint()
    write(conf / "cluster" / "my.yaml", "defaults: [slurm, _self_]\n")
    write(conf / "table" / "own.yaml", "title: T\n")
    assert fingerprint() == before != without
    write(conf / "experiment" / "short.yaml", "seed: 1\n")
    later = fingerprint()
    write(conf / "sparsifier" / "mine.yaml", METHOD + "scope: gate\n")
    assert len({before, later, fingerprint()}) == 3
