"""The pages of the notebooks: made anew when a notebook changes, and without traces of the machine."""

import re
import tempfile

import nbformat
import pytest

from website import tutorials


@pytest.mark.parametrize("notebook", tutorials.NOTEBOOKS, ids=lambda path: path.stem)
def test_a_page_has_every_cell_of_its_notebook(notebook):
    page = (tutorials.PAGES / f"{notebook.stem}.md").read_text(encoding="utf-8")
    place = 0
    for cell in nbformat.read(notebook, as_version=4).cells:
        code = cell.cell_type == "code"
        heading, _, rest = tutorials.relinked(cell.source).partition("\n\n")
        for part in [tutorials.code_block(cell.source)] if code else filter(None, [heading, rest]):
            place = page.find(part, place)
            assert place >= 0, f"run: python -m website.tutorials {notebook.stem}"
    assert "sparse_rnn-" not in page.replace('prefix="sparse_rnn-"', "")


def test_every_picture_is_shown_and_there():
    shown = [
        name for page in tutorials.PAGES.glob("*.md") for name in re.findall(r"\]\(images/(\S+)\)", page.read_text())
    ]
    assert sorted(shown) == sorted(path.name for path in (tutorials.PAGES / "images").iterdir())


def test_a_page_shows_what_was_printed_and_drawn():
    new = nbformat.v4
    drawn = new.new_output("display_data", {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"})
    printed = [new.new_output("stream", text=f"{word}\n") for word in ("one", "two  ")]
    cells = [
        new.new_markdown_cell("# Title\n\nSee [b](02_b.ipynb)."),
        new.new_markdown_cell("## Part"),
        new.new_code_cell("f()", outputs=[*printed, drawn, new.new_output("display_data", {"text/plain": "3"})]),
    ]
    page = tutorials.Page("01_a", new.new_notebook(cells=cells))
    note = "> These are the cells of [01_a.ipynb](../../notebooks/01_a.ipynb) and what they print and draw."
    parts = ["# Title", note, "See [b](02_b.md).", "## Part", "```python\nf()\n```", "```text\none\ntwo\n```"]
    assert page.text == "\n\n".join([*parts, "![Part](images/01_a_1.png)", "```text\n3\n```"]) + "\n"
    assert page.pictures == {"01_a_1.png": b"\x89PNG\r\n\x1a\n"}


def test_the_temporary_folder_is_not_named():
    with tempfile.TemporaryDirectory() as folder:
        said = {"text": [f"{folder}/sparse_rnn-ab12/run", folder]}
        assert tutorials._without(folder, said) == {"text": ["/tmp/run", "/tmp"]}
