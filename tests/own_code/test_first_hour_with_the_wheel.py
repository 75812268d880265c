"""From an empty folder to a table and a generated text, with the installed wheel alone, as the documentation says."""

import csv
import json
import re
import subprocess
import sys
import sysconfig
import venv

import pytest
from hatchling.builders.wheel import WheelBuilder
from worked_pages import FENCE, LAB, ROOT, Shell, outside_files, write

from sparse_rnn import __version__

pytestmark = pytest.mark.documented
HEADING = "## From an empty folder to a table\n"
FROM_PAGES = {"add-a-growth-rule.md", "add-a-model.md", "add-a-dataset.md"}


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """The folder of `python` and `sparse-rnn` where the wheel is installed, with all that is here but the checkout."""
    folder = tmp_path_factory.mktemp("installed")
    [wheel] = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    venv.create(folder / "venv", symlinks=True)
    [packages] = (folder / "venv").glob("lib/python*/site-packages")
    # Of a folder that a .pth file names, Python reads no .pth files: one of them would name the checkout.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    python = folder / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--ignore-installed", str(wheel)], check=True)
    return python.parent


def section() -> str:
    """The part of the page that goes from an empty folder to a table."""
    page = (ROOT / "docs" / "your-own-repository.md").read_text(encoding="utf-8")
    return page.partition(HEADING)[2].partition("\n\n## ")[0]


def files() -> dict[str, str]:
    """The files of the example by their places below ~/lab: those of the other pages, and the section's own."""
    own = {block["path"].removeprefix(LAB): block["text"] for block in FENCE.finditer(section()) if block["path"]}
    data = (ROOT / "docs" / "add-a-dataset.md").read_text(encoding="utf-8")
    script = next(block["text"] for block in FENCE.finditer(data) if block["path"] == "make_files.py")
    rule, model = outside_files("add-a-growth-rule.md"), outside_files("add-a-model.md")
    return {**rule, **model, "make_files.py": script, **own}


def test_the_section_names_every_page_and_file_that_it_needs():
    optional = {"conf/sparsifier/rigl_control.yaml"}
    assert all(f"({page}#" in section() for page in FROM_PAGES)
    assert [path for path in files().keys() - optional if f"`{path}`" not in section().replace(LAB, "")] == []


def test_own_rule_model_text_and_table_end_in_a_table_and_in_sentences(programs, tmp_path):
    lab, shell = tmp_path / "lab", Shell(tmp_path, None, programs)
    for path, text in files().items():
        write(lab / path, text, append=False)
    for block in FENCE.finditer(section()):
        if block["language"] == "console":
            shell.follow(block["text"])
    records = [json.loads(path.read_text()) for path in lab.glob("runs/*/record.json")]
    assert {(r["config"]["growth"]["name"], r["config"]["seed"]) for r in records} == {
        (growth, seed) for growth in ("gradient", "smallest_gradient") for seed in (1, 2)
    }
    for record in records:
        code = record["environment"]["code"]
        assert code["model=mgu"]["file"] == str(lab / "mgu.py")
        assert code["dataset=text"]["file"] == "sparse_rnn/data/language/corpora.py"
        assert record["run_id"].startswith("mgu-animals-rigl-")
    with (lab / "tables/first.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["column"] == "test"]
    assert [(row["row"], row["seeds"]) for row in rows] == [("Largest gradient", "2"), ("Smallest gradient", "2")]
    shown = (lab / "tables/first.md").read_text()
    assert "## Growth where the gradient is smallest, minimal gated unit" in shown
    assert f"Commit: none (sparse-rnn {__version__}, installed)" in shown
    assert len(re.findall(r"\d ± \d", shown)) == 4
    assert r"\begin{tabular}" in (lab / "tables/first.tex").read_text()
    words = shell.run("sparse-rnn generate run=last prompt=the words=8").splitlines()[0].split()
    assert len(words) == 9
    assert set(words) <= set(json.loads(next(lab.glob("runs/*/vocabulary.json")).read_text())["words"])
    assert (lab / "mgu.safetensors").stat().st_size > 0
