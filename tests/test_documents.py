"""What README and docs show works."""

import importlib.util
import math
import re
import shlex
import subprocess
from pathlib import Path

import pytest

import launch.requests
import results.requests
from sparse_rnn import evaluate, export, extract, generate
from sparse_rnn.config.compose import compose_run
from sparse_rnn.core.command_line import split_keys
from sparse_rnn.runs.description import describe

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("[A-Z]*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
TUTORIALS = ROOT / "docs" / "tutorials"
OURS = ("python -m sparse_rnn", "python -m launch", "python -m results")
OF_A_RUN = {module.__name__: module for module in (evaluate, export, extract, generate)}
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(language: str) -> list[pytest.param]:
    """The fenced blocks of a language in all pages."""
    found = []
    for page in (page for page in PAGES if page.parent != TUTORIALS):  # whose cells run as notebooks
        for k, (kind, text) in enumerate(FENCE.findall(page.read_text(encoding="utf-8"))):
            if kind == language:
                found.append(pytest.param(text, id=f"{page.name}-{k}"))
    return found


def commands() -> list[str]:
    """Every line of this project's modules in a bash block."""
    joined = [block.values[0].replace("\\\n", " ") for block in blocks("bash")]
    lines = [line.partition("#")[0].strip() for text in joined for line in text.splitlines()]
    return sorted({line for line in lines if line.startswith(OURS)})


@pytest.mark.parametrize("command", commands())
def test_every_command_is_accepted(command):
    _, _, module, *arguments = shlex.split(command)
    overrides = [a for a in arguments if not a.startswith("-")]
    if module in ("launch", "results"):
        parse = {"launch": launch.requests.parse, "results": results.requests.parse}[module]
        parse(arguments[0], arguments[1:])
    elif module in OF_A_RUN:
        own, others = split_keys(overrides, OF_A_RUN[module].DEFAULTS)
        assert bool(own["run"]) != bool(own.get("file"))
        assert not others
    elif module in ("sparse_rnn.train", "sparse_rnn.describe"):
        _, overrides = split_keys(overrides, {"format": "table"})
        if "-m" in arguments:
            overrides = [override for override in overrides if not override.startswith("hydra")]  # of its plugins
            overrides = [override.replace("interval(", "").split(",")[0] for override in overrides]
        compose_run(overrides)
    else:
        assert importlib.util.find_spec(module)


@pytest.mark.parametrize("code", blocks("python"))
def test_every_python_block_runs(code):
    exec(compile(code, "<docs>", "exec"), {"__name__": "docs"})


def test_the_table_of_methods_is_up_to_date():
    spec = importlib.util.spec_from_file_location("docs_methods", ROOT / "docs" / "methods.py")
    methods = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(methods)
    for page in methods.PAGES:
        assert methods.rewritten(page, methods.table()) == page.read_text(), "run: python docs/methods.py"


SIZES = re.compile(r"^\| `(.*?)` \| ([\d,]+) \| ([\d,]+)(?: of ([\d,]+) \(sparsity (\.\d+)\))? \|", re.MULTILINE)


@pytest.mark.parametrize("row", SIZES.findall((ROOT / "docs" / "deviations.md").read_text()), ids=lambda row: row[0])
def test_describe_gives_the_sizes_of_the_documents(row):
    arguments, parameters, active, counted, sparsity = row
    facts = describe(arguments.split())
    assert f"{facts['parameters']:,}" == parameters
    if not counted:
        assert f"{facts['active_parameters']:,}" == active
        return
    sparse = [weight for weight in facts["weights"] if weight["sparse"]]
    assert f"{sum(weight['active'] for weight in sparse):,}" == active
    assert f"{sum(math.prod(weight['shape']) for weight in sparse):,}" == counted
    assert f"{facts['sparsity']:.5f}" == f"0{sparsity}"


def test_every_link_between_pages_resolves():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_make_targets_named_in_the_documents_exist():
    named = {
        target for page in PAGES for target in re.findall(r"`make\s([a-z0-9-]+)", page.read_text(encoding="utf-8"))
    }
    assert len(named) > 5
    done = subprocess.run(["make", "--dry-run", *named], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
