"""Executes the notebooks and writes docs/tutorials, pages with what they printed and drew: python docs/tutorials.py."""

import base64
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = ROOT / "docs" / "tutorials"
SECONDS = 600  # for one cell


def executed(notebook: Path) -> NotebookNode:
    """The notebook with its outputs, run as if nobody had chosen a folder for runs."""
    cells = nbformat.read(notebook, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"TMPDIR": folder, "IPYTHONDIR": folder, "PYTHONPATH": str(ROOT)}
        os.environ.pop("SPARSE_RNN_RUNS", None)
        NotebookClient(cells, timeout=SECONDS, resources={"metadata": {"path": folder}}).execute()
        return nbformat.from_dict(_without(folder, cells))


def _without(folder: str, node: object) -> object:
    """The same with /tmp for the temporary folder, whose name is another each time."""
    if isinstance(node, dict):
        return {key: _without(folder, value) for key, value in node.items()}
    if isinstance(node, list):
        return [_without(folder, value) for value in node]
    return re.sub(rf"{folder}(/sparse_rnn-\w+)?", "/tmp", node) if isinstance(node, str) else node


class Page:
    """A notebook as Markdown, and the pictures that it shows by file name."""

    def __init__(self, name: str, notebook: NotebookNode) -> None:
        self.name, self.pictures, self.section = name, dict[str, bytes](), ""
        first, *parts = [part for cell in notebook.cells for part in self._parts(cell)]
        note = f"> These are the cells of [{name}.ipynb](../../notebooks/{name}.ipynb) and what they print and draw."
        heading, _, rest = first.partition("\n\n")
        self.text = "\n\n".join([heading, note, *filter(None, [rest]), *parts]) + "\n"

    def _parts(self, cell: NotebookNode) -> Iterator[str]:
        if cell.cell_type == "markdown":
            *_, self.section = self.section, *re.findall(r"^#+ (.*)", cell.source, re.MULTILINE)
            yield relinked(cell.source)
            return
        yield code_block(cell.source)
        printed = ""
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                yield from [text_block(printed)] if printed else []
                printed = ""
                yield self._picture(data["image/png"])
            elif "text/markdown" in data:
                yield data["text/markdown"]
            else:
                printed += output.get("text") or data["text/plain"].rstrip("\n") + "\n"
        if printed:
            yield text_block(printed)

    def _picture(self, data: str) -> str:
        file = f"{self.name}_{len(self.pictures) + 1}.png"
        self.pictures[file] = base64.b64decode(data)
        return f"![{self.section}](images/{file})"


def code_block(source: str) -> str:
    """A cell of code in Markdown."""
    return f"```python\n{source}\n```"


def text_block(printed: str) -> str:
    """What a cell prints in Markdown."""
    lines = "\n".join(line.rstrip() for line in printed.strip("\n").splitlines())
    return f"```text\n{lines}\n```"


def relinked(text: str) -> str:
    """The text of a notebook with links that hold in docs/tutorials: to pages, and to the pages of notebooks."""
    text = re.sub(r"\]\((\d\d_\w+)\.ipynb", r"](\1.md", text)
    return text.replace("](../docs/", "](../").replace("](../README.md", "](../../README.md")


def main() -> None:
    """Write the pages of the notebooks that the arguments name, by default of all."""
    (PAGES / "images").mkdir(parents=True, exist_ok=True)
    for notebook in NOTEBOOKS:
        if not sys.argv[1:] or notebook.stem in sys.argv[1:]:
            page = Page(notebook.stem, executed(notebook))
            (PAGES / f"{notebook.stem}.md").write_text(page.text, encoding="utf-8")
            for name, data in page.pictures.items():
                (PAGES / "images" / name).write_bytes(data)
            print(f"{notebook.stem}: {len(page.pictures)} pictures", flush=True)


if __name__ == "__main__":
    main()
