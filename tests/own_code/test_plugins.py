"""Modules of users: found, imported when a component is looked for, refused in one sentence."""

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from sparse_rnn.core import plugins, registry
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.registry import choices, lookup, register
from sparse_rnn.tables.catalogue import Catalogue

RULE = """
from dataclasses import dataclass
from sparse_rnn.core.registry import register
from sparse_rnn.sparsity.rules.growth import RandomGrowth

@register("growth", "{name}")
@dataclass
class Mine(RandomGrowth):
    name: str = "{name}"
"""


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    """What a test registers and imports is forgotten afterwards."""
    monkeypatch.setattr(registry, "_REGISTRY", {group: dict(known) for group, known in registry._REGISTRY.items()})
    monkeypatch.setattr(plugins, "_begun", set())
    modules, path = dict(sys.modules), list(sys.path)
    yield
    for name in sys.modules.keys() - modules.keys():
        if name.startswith("own_"):
            del sys.modules[name]
    sys.path[:] = path


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module into the current folder, and name it in the variable."""
    monkeypatch.chdir(tmp_path)

    def write(text, name="own_rules"):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.setenv(plugins.PLUGINS, name)

    return write


def refusal() -> str:
    with pytest.raises(ConfigError) as caught:
        lookup("growth", "mine")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_module_in_the_current_folder(module):
    module(RULE.format(name="mine"))
    assert lookup("growth", "mine").__module__ == "own_rules"
    assert "mine" in choices("growth")


def test_several_modules_also_in_a_package(module, tmp_path, monkeypatch):
    module(RULE.format(name="mine"))
    (tmp_path / "own_lab").mkdir()
    (tmp_path / "own_lab" / "__init__.py").touch()
    (tmp_path / "own_lab" / "rules.py").write_text(RULE.format(name="yours"))
    monkeypatch.setenv(plugins.PLUGINS, " own_rules, own_lab.rules,")
    assert {"mine", "yours"} <= set(choices("growth"))


def test_a_plugin_may_look_for_components_itself(module):
    module(RULE.format(name="mine") + 'from sparse_rnn.core.registry import choices\nknown = choices("growth")\n')
    assert "mine" in choices("growth")
    assert "mine" in sys.modules["own_rules"].known


def test_an_entry_point_of_an_installed_package(module, monkeypatch):
    module(RULE.format(name="mine"))
    monkeypatch.delenv(plugins.PLUGINS)
    found = [EntryPoint("rules", "own_rules", plugins.ENTRY_POINTS)]
    monkeypatch.setattr(plugins, "entry_points", lambda group: found if group == "sparse_rnn.plugins" else [])
    plugins._installed.cache_clear()
    try:
        assert "mine" in choices("growth")
    finally:
        plugins._installed.cache_clear()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import own_missing", "ModuleNotFoundError: No module named 'own_missing', at {file}:1"),
        ("\n1 / 0", "ZeroDivisionError: division by zero, at {file}:2"),
        ("raise SystemExit(3)", "SystemExit: 3, at {file}:1"),
        ("def f(:", "SyntaxError: invalid syntax (own_rules.py, line 1)"),
        (
            RULE.format(name="random"),
            "growth=random is registered twice, in {builtin} and in {file}: choose another name",
        ),
    ],
)
def test_a_module_that_cannot_be_imported(text, reason, module, tmp_path):
    module(text)
    builtin = sys.modules["sparse_rnn.sparsity.rules.growth"].__file__
    said = reason.format(file=tmp_path / "own_rules.py", builtin=builtin)
    sentence = f"The plugin own_rules, named by {plugins.PLUGINS}, cannot be imported ({said})."
    assert refusal() == sentence
    assert refusal() == sentence, "a second time as well"


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (
            "own_nothing",
            "The plugin own_nothing, named by SPARSE_RNN_PLUGINS, cannot be imported (there is no module own_nothing "
            "in the current folder, on PYTHONPATH or installed).",
        ),
        (
            "own_nothing.rules",
            "The plugin own_nothing.rules, named by SPARSE_RNN_PLUGINS, cannot be imported (there is no module "
            "own_nothing in the current folder, on PYTHONPATH or installed).",
        ),
        (
            "own_rules.py",
            "SPARSE_RNN_PLUGINS names modules, separated by commas, and own_rules.py is none: write my_rules for "
            "my_rules.py.",
        ),
        (
            "/home/me/rules",
            "SPARSE_RNN_PLUGINS names modules, separated by commas, and /home/me/rules is none: write my_rules for "
            "my_rules.py.",
        ),
    ],
)
def test_a_name_that_is_no_module(names, sentence, module, monkeypatch):
    module("")
    monkeypatch.setenv(plugins.PLUGINS, names)
    assert refusal() == sentence


def test_a_class_that_is_defined_again_replaces_itself():
    def define():
        @register("removal", "mine")
        class Mine:
            pass

        return Mine

    define()
    again = define()
    assert lookup("removal", "mine") is again
    with pytest.raises(
        ConfigError, match=r"^removal=mine is registered twice, in .* and in .*: choose another name\.$"
    ):

        @register("removal", "mine")
        class Another:
            pass


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("@dataclass\n", ""), "Mine cannot be growth=mine: it needs @dataclass below @register{and_name}."),
        (("    name:", "    nome:"), "Mine cannot be growth=mine: it needs {name}."),
        (('= "mine"', '= "other"'), "Mine cannot be growth=mine: it needs {name}."),
        (("(RandomGrowth)", ""), "Mine cannot be growth=mine: it needs the attribute `needs`."),
        (('"growth", "mine"', '"grow", "mine"'), "Mine cannot be grow=mine: grow is no group (did you mean growth?)."),
        (
            ('"growth", "mine"', '"model", "mine"'),
            "Mine cannot be model=mine: it needs the attributes `task` and `build`.",
        ),
    ],
)
def test_a_class_that_lacks_something_is_refused_when_it_is_registered(change, sentence, module):
    module(RULE.format(name="mine").replace(*change))
    name = 'the field `name: str = "mine"`'
    said = sentence.format(name=name, and_name=f" and {name}").rstrip(".")
    assert refusal() == f"The plugin own_rules, named by {plugins.PLUGINS}, cannot be imported ({said})."


def test_remembered_facts_are_made_anew_when_a_plugin_changes(module, tmp_path):
    module(RULE.format(name="mine"))
    before = Catalogue(tmp_path)._fingerprint
    assert Catalogue(tmp_path)._fingerprint == before
    (tmp_path / "helpers.py").write_text("HIDDEN = 3\n")
    assert Catalogue(tmp_path)._fingerprint != before
    assert "own_rules" not in sys.modules


def test_names_and_status_import_no_plugin(module, tmp_path):
    module("raise RuntimeError('imported')")
    program = (
        "import sys; sys.argv = ['launch', 'status']; from launch.__main__ import main; main(); "
        "assert not {'torch', 'own_rules'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
