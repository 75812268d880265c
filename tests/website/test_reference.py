"""The reference of the documentation site: it has every key, with its meaning, and every command."""

from dataclasses import dataclass, fields

import pytest

from launch.clusters import LocalCluster, SlurmCluster
from sparse_rnn.__main__ import COMMANDS
from sparse_rnn.config import schema
from sparse_rnn.core import conf
from sparse_rnn.core.registry import choices, lookup
from website import configuration, listings
from website.meanings import meanings, summary

COMPONENTS = ("model", "dataset", "optimizer")


@dataclass
class Oven:
    """Bakes bread (Baker 1900): heat: no key. In two ways.

    heat: degrees; 0: it is off. loaves, rolls: how many of
    each (None: as many as fit). A door is no key.

    door: whether it is open.
    """

    name: str = "oven"
    heat: int = 0
    loaves: int | None = None
    rolls: int | None = None
    door: bool = False


@dataclass
class Grill(Oven):
    """Browns. heat: of the grill alone."""

    spit: bool = False


def test_a_docstring_says_what_keys_mean():
    both = ("loaves", "rolls"), "how many of each (None: as many as fit). A door is no key."
    assert meanings(Oven) == {("heat",): "degrees; 0: it is off.", both[0]: both[1], ("door",): "whether it is open."}
    assert summary(Oven) == "Bakes bread (Baker 1900): heat: no key. In two ways."
    assert meanings(Grill)[("heat",)] == "of the grill alone."
    assert meanings(Grill)[("loaves", "rolls")] == both[1]
    assert summary(Grill) == "Browns."


def test_a_table_has_one_row_for_keys_of_one_meaning():
    rows = configuration.keys(Oven, "oven.", {"rolls": 12}).splitlines()
    assert "| `oven.heat` | whole number | `0` | degrees; 0: it is off. |" in rows
    row = "| `oven.loaves`<br>`oven.rolls` | whole number or null | `null`<br>`12` | how many of each (null: as many as"
    assert any(line.startswith(row) for line in rows)


def test_a_key_without_a_meaning_is_refused():
    with pytest.raises(ValueError, match="the docstring of Grill does not say what spit means"):
        configuration.keys(Grill, "oven.")


def shown(page: str, kind: type, prefix: str) -> bool:
    """Whether a page has a row for every key."""
    return all(f"`{prefix}{field.name}`" in page for field in fields(kind) if field.name != "name")


def test_every_key_of_a_run_is_in_the_reference():
    page = configuration.runs()
    assert shown(page, schema.RunConfig, "")
    for name, kind in configuration.SECTIONS.items():
        assert shown(page, kind, f"{name}.")
    groups = {field.name for field in fields(schema.RunConfig) if hasattr(field.type, "__dataclass_fields__")}
    assert groups - {"sparsifier"} == set(configuration.SECTIONS)


@pytest.mark.parametrize("group", COMPONENTS)
def test_every_key_of_a_component_is_in_the_reference(group):
    page = configuration.components("Title", {group: "Heading"})
    parts = dict(part.split("\n", 1) for part in page.split(f"### {group}=")[1:])
    assert set(parts) == set(choices(group))
    for name, part in parts.items():
        assert shown(part, lookup(group, name), f"{group}.")


def test_every_method_rule_and_cluster_is_in_the_reference():
    page = configuration.methods("")
    kinds = [schema.SparsifierConfig, *(lookup("sparsifier", name) for name in choices("sparsifier"))]
    assert all(shown(page, kind, "sparsifier.") for kind in kinds)
    assert all(f"| `{name}` |" in page for name in conf.options("sparsifier"))
    assert all(shown(page, lookup("growth", name), "growth.") for name in choices("growth"))
    rules = listings.rules()
    assert all(f"| `{name}` |" in rules for group in listings.RULES for name in choices(group))
    clusters = configuration.clusters()
    assert all(shown(clusters, kind, "cluster.") for kind in (LocalCluster, SlurmCluster))


def test_defaults_are_those_of_the_files_of_conf():
    text = configuration.components("", {"dataset": ""}).split("### dataset=text\n")[1].split("###")[0]
    assert "| `dataset.vocabulary` | text | `train` |" in text
    assert "| `dataset.min_count` | whole number or null | `null` |" in text


def test_what_a_file_sets_is_shown_with_its_comment():
    page = configuration.options()
    budget = next(line for line in page.splitlines() if line.startswith("| `reduced` | A size that two CPU cores"))
    assert "`training.epochs=10`" in budget
    assert "`budget.average_by=0.6`" in budget
    assert all(f"| `{name}` |" in page for group in configuration.OF_FILES for name in conf.options(group))
    missing = set(conf.GROUPS + conf.OPTIONAL_GROUPS) - {*configuration.OF_FILES, *COMPONENTS, "sparsifier", "growth"}
    assert not missing


def test_tables_and_figures_have_their_titles():
    page = listings.tables()
    assert "| `table3` | Effect of different optimizers" in page
    assert "| `figure7` | Selfish-RNN, RigL and gradual magnitude pruning" in page
    assert "| `random_growth` | Random growth is better than growth by gradients |" in page


def test_every_command_is_shown_with_its_own_help(monkeypatch):
    asked = []
    monkeypatch.setattr(listings, "_help", lambda name: asked.append(name) or f"help of {name}\n")
    page = listings.commands()
    assert asked == list(COMMANDS)
    assert all(f"\n## {name}\n\n```{{.text .help}}\nhelp of {name}\n```" in page for name in COMMANDS)


def test_the_help_is_that_of_the_command():
    assert listings._help("kernels").startswith("Compile the sparse kernels for this CPU")
