"""Pages of what is registered and declared: rules, tables and figures, commands, and the names of the package."""

import inspect
import os
import subprocess
import sys

import sparse_rnn
from results import names
from results.figures.by_name import DECLARED as DECLARED_FIGURES
from results.tables.declared import DECLARED as DECLARED_TABLES
from sparse_rnn.__main__ import COMMANDS
from sparse_rnn.config import schema  # noqa: F401  (fill the registry)
from sparse_rnn.core.registry import choices, lookup
from sparse_rnn.tables.declaration import load
from website.configuration import table
from website.meanings import summary

RULES = {
    "initial": "How many weights of each group are active at the start, and which.",
    "removal": "Which active weights an update removes.",
    "growth": "Which inactive weights an update activates.",
    "redistribution": "How many of the weights that grow each group gets.",
    "schedule": "How many weights an update removes, and how many are active after it.",
    "structure": "Which patterns of active weights are allowed.",
}
STATE = ["check", "sparsity", "explored", "state_dict", "load_state_dict"]
MEMBERS = {"SparsifierConfig": [], "StepSparsifier": ["before_backward", "before_step", "after_step", *STATE]}
BESIDES = {
    "Models from files": ["sparse_rnn.inference.export.load_exported", "sparse_rnn.inference.extract.load_extracted"],
    "Runs": [
        "sparse_rnn.config.compose.compose_run",
        "sparse_rnn.training.session.train",
        "sparse_rnn.runs.folder.read_record",
    ],
    "Results": ["results.sources.choice.load", "results.gathering.gather"],
}


def rules() -> str:
    """The page of the rules that methods are composed of."""
    parts = ["# Rules", "A method is composed of these. [Methods](../methods.md) explains what one update does."]
    for group, what in RULES.items():
        kinds = {name: lookup(group, name) for name in choices(group)}
        parts += [
            f"## {group}",
            what,
            table([f"`{group}=`", "what it does"], ([f"`{n}`", summary(k)] for n, k in kinds.items())),
        ]
    return "\n\n".join(parts)


def tables() -> str:
    """The page of the tables, figures and findings that are declared."""
    parts = [
        "# Tables, figures and findings",
        "`python -m launch submit NAME` trains the runs that one lacks. `python -m results table NAME`, `figure NAME` "
        "or `findings NAME` makes it from the logs. [Results](../results.md) says how.",
    ]
    for kind, known in (("Tables", names.tables()), ("Figures", names.figures()), ("Findings", names.findings())):
        rows = ([f"`{name}`", *_declared(name)] for name in known)
        parts += [f"## {kind}", table(["name", "title", "after"], rows)]
    return "\n\n".join(parts)


def _declared(name: str) -> tuple[str, str]:
    if makes := {**DECLARED_TABLES, **DECLARED_FIGURES}.get(name):  # which would take its time to make for the title
        said = (inspect.getdoc(makes) or "").partition("\n")[0]
        return said.partition("; raises")[0].rstrip("."), "made without runs"
    return (spec := load(name)).title, spec.source


def commands() -> str:
    """The page of the commands, each with its own help."""
    parts = [
        "# Commands",
        "`python -m sparse_rnn.train` and `sparse-rnn train` are the same command, and so for the others.",
        table(["command", "what it does"], ([f"[`{name}`](#{name})", what] for name, what in COMMANDS.items())),
    ]
    for name in COMMANDS:
        parts += [f"## {name}", f"```{{.text .help}}\n{_help(name).strip()}\n```"]
    return "\n\n".join(parts)


def _help(command: str) -> str:
    environment = os.environ | {"COLUMNS": "100"}
    words = [sys.executable, "-m", "sparse_rnn", command, "--help"]
    return subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout


def api() -> str:
    """The page of the Python names, which mkdocstrings fills."""
    public = [f"sparse_rnn.{name}" for name in sparse_rnn.__all__ if not name.startswith("__")]
    parts = ["# Python API", "## The package", *map(_directive, sorted(public, key=_place))]
    for heading, others in BESIDES.items():
        parts += [f"## {heading}", *map(_directive, others)]
    return "\n\n".join(parts)


def _directive(name: str) -> str:
    members = MEMBERS.get(name.rpartition(".")[2])
    return f"::: {name}" + (f"\n    options: {{members: {members}}}" if members is not None else "")


def _place(name: str) -> tuple[bool, str]:
    return name != "sparse_rnn.sparsify", name.lower()
