"""The reference of the configuration: every key with its type, default and meaning, out of schemas and conf/."""

import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from omegaconf import MISSING

from launch.clusters import LocalCluster, SlurmCluster
from sparse_rnn.config import schema
from sparse_rnn.core import conf
from sparse_rnn.core.registry import choices, lookup
from sparse_rnn.sparsity.method import SparsifierConfig
from website.meanings import meanings, summary

SECTIONS = {
    "training": schema.TrainingConfig,
    "recipe": schema.RecipeConfig,
    "budget": schema.BudgetConfig,
    "protocol": schema.ProtocolConfig,
    "checkpoint": schema.CheckpointConfig,
    "snapshots": schema.SnapshotsConfig,
    "logger": schema.LoggerConfig,
}
CLUSTERS = {"local": LocalCluster, "slurm": SlurmCluster}
INTRODUCTION = """\
`key=value` on a command line sets a key, and `group=name` chooses a file of `conf/`, which may set several. A choice of
model, recipe or budget changes defaults: add `--cfg job` to a training command to see the whole configuration of a run.
"""


def runs() -> str:
    """The page of the keys that every run has."""
    parts = [f"# Configuration of runs\n\n{INTRODUCTION}", "## Top level", keys(schema.RunConfig, "", chosen_first())]
    for name, section in SECTIONS.items():
        parts += [f"## {name}", summary(section), keys(section, f"{name}.")]
    return "\n\n".join(parts)


def components(title: str, groups: Mapping[str, str]) -> str:
    """A page with the keys of every component of some groups; groups: the headings by group."""
    parts = [f"# {title}"]
    for group, heading in groups.items():
        parts += [f"## {heading}"] if len(groups) > 1 else []
        for name in choices(group):
            parts += _component(group, name)
    return "\n\n".join(parts)


def _component(group: str, name: str) -> Iterator[str]:
    kind = lookup(group, name)
    yield f"### {group}={name}"
    yield summary(kind)
    if len(fields(kind)) > 1:
        yield keys(kind, f"{group}.", settings(conf.options(group).get(name)))


def methods(table: str) -> str:
    """The page of the methods: what each is composed of, and the keys of a composition; table: of all methods."""
    own = {name: lookup("sparsifier", name) for name in choices("sparsifier")}
    parts = [f"# Configuration of methods\n\n`sparsifier=NAME` chooses one of these:\n\n{table}", "## sparsifier"]
    parts += [summary(SparsifierConfig), keys(SparsifierConfig, "sparsifier.")]
    parts += ["## What each method sets", files("sparsifier")]
    common = {field.name for field in fields(SparsifierConfig)}
    for name, kind in own.items():
        parts += [f"## sparsifier={name}", summary(kind), keys(kind, "sparsifier.", without=common)]
    parts += ["## Growth", *(part for name in choices("growth") for part in _component("growth", name))]
    return "\n\n".join(parts)


def options() -> str:
    """The page of what files of groups without components of their own set."""
    parts = ["# Recipes, budgets and what else sets keys"]
    for group, what in OF_FILES.items():
        parts += [f"## {group}", what, files(group)]
    return "\n\n".join(parts)


OF_FILES = {
    "recipe": "The papers' settings for a model and an optimizer. By default `recipe=MODEL_OPTIMIZER`.",
    "tuning": "Changes of a recipe for one data set, as `MODEL/OPTIMIZER/DATASET`; chosen by themselves.",
    "pairing": "Changes of a method for one model, as `METHOD/MODEL`; chosen by themselves.",
    "protocol": "Whose side a run takes where the papers and their code differ.",
    "budget": "How much of the paper's size and length a run has.",
    "size": "The size of a model under a budget, as `BUDGET/MODEL`; chosen by themselves.",
    "excerpt": "What a budget changes for a data set, as `BUDGET/DATASET`; chosen by themselves.",
    "logger": "Where runs log to.",
}


def clusters() -> str:
    """The page of the keys that `python -m launch` has for where runs are sent."""
    parts = ["# Configuration of clusters", "`python -m launch submit TABLE cluster=NAME cluster.KEY=VALUE` sets them."]
    for name, kind in CLUSTERS.items():
        parts += [f"## cluster={name}", summary(kind), keys(kind, "cluster.")]
    return "\n\n".join(parts)


def keys(
    kind: type[Any], prefix: str, given: Mapping[str, Any] | None = None, without: Iterable[str] = ("name",)
) -> str:
    """A table of the fields of a dataclass, with those of one meaning in one row.

    given: defaults in place of those of the fields. Raises ValueError for a field without a meaning.
    """
    by_name = {field.name: field for field in fields(kind) if field.name not in {"name", *without}}
    said = {tuple(name for name in names if name in by_name): meaning for names, meaning in meanings(kind).items()}
    if unsaid := set(by_name) - {name for names in said for name in names}:
        raise ValueError(f"the docstring of {kind.__name__} does not say what {', '.join(sorted(unsaid))} means")
    rows = []
    for names, meaning in said.items():
        if names:
            defaults = [(given or {}).get(name, _default(by_name[name])) for name in names]
            cells = [f"`{prefix}{name}`" for name in names], [_type(by_name[name].type) for name in names]
            shown = ["<br>".join(_once(cell)) for cell in (*cells, [written(value) for value in defaults])]
            rows.append([*shown, re.sub(r"\bNone\b", "null", meaning)])
    return _of_class("keys", table(["key", "type", "default", "meaning"], rows))


def files(group: str) -> str:
    """A table of the files of a group: what its comments say, and which keys it sets."""
    rows = []
    for name, path in conf.options(group).items():
        text = path.read_text(encoding="utf-8")
        comments = re.findall(r"^# (?!@package)(.*)", text.split("\n\n")[0], re.MULTILINE)
        whole = "@package _global_" in text
        chosen = [f"`{key}={value}`" for key, value in _chosen(path)]
        found = [f"`{key if whole else f'{group}.{key}'}={_brief(value)}`" for key, value in _flat(settings(path))]
        rows.append([f"`{name}`", " ".join(comments), " ".join([*chosen, *found])])
    return _of_class("options", table([f"{group}=", "what it is", "sets"], rows))


def settings(path: Path | None) -> dict[str, Any]:
    """What a file of the configuration sets, without its name."""
    read = yaml.safe_load(path.read_text(encoding="utf-8")) if path else None
    return {key: value for key, value in (read or {}).items() if key not in ("defaults", "name")}


def _chosen(path: Path) -> Iterator[tuple[str, str]]:
    """What a file chooses of other groups."""
    for entry in (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("defaults", []):
        if isinstance(entry, dict):
            for key, value in entry.items():
                yield key.removeprefix("override ").strip("/").partition("@")[0], value


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif key != "name":
            yield f"{prefix}{key}", value


def chosen_first() -> dict[str, str]:
    """What conf/config.yaml chooses of each group."""
    return dict(_chosen(conf.config_dir() / "config.yaml"))


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not NO_DEFAULT:
        made = field.default_factory()
        return made if isinstance(made, (list, dict)) else NO_DEFAULT
    return field.default


def written(value: Any) -> str:
    """A default as a command line writes it."""
    if value is NO_DEFAULT or value == MISSING:
        return "-"
    return f"`{_brief(value)}`"


def _brief(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        return value or '""'
    return str(value).replace(" ", "")


def _type(kind: Any) -> str:
    if kind is Any or hasattr(kind, "__dataclass_fields__"):
        return "group"
    if isinstance(kind, types.UnionType):
        return " or ".join(_type(part) for part in get_args(kind))
    if kind is type(None):
        return "null"
    if get_origin(kind) is list:
        return f"list of {_type(get_args(kind)[0])}"
    if get_origin(kind) is dict:
        return "mapping"
    return {"str": "text", "int": "whole number", "float": "number", "bool": "true or false"}[kind.__name__]


def _of_class(name: str, part: str) -> str:
    """A part of a page, which site.css knows by the name."""
    return f'<div class="{name}" markdown>\n\n{part}\n\n</div>'


def _once(cells: Sequence[str]) -> Sequence[str]:
    """One of them if all are the same."""
    return cells if len(set(cells)) > 1 else cells[:1]


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [headings, ["---"] * len(headings), *cells])
