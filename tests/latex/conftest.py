"""The real pdflatex, for the tests of the tables in LaTeX (make test-latex)."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SECONDS = 120


@dataclass(frozen=True)
class Pdflatex:
    """A folder in which documents are compiled."""

    folder: Path

    def compile(self, *tables: str, preamble: str) -> str:
        """What pdflatex says of a document with these tables; it must go through."""
        document = "\n".join([preamble, r"\begin{document}", *(f"{table}\n\\clearpage" for table in tables)])
        (self.folder / "tables.tex").write_text(document + "\n\\end{document}\n", encoding="utf-8")
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "tables.tex"]
        environment = {**os.environ, "max_print_line": "10000"}
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, timeout=SECONDS)
        said = (self.folder / "tables.log").read_text(encoding="utf-8", errors="replace")
        assert done.returncode == 0, said[-2000:]
        return said


@pytest.fixture
def pdflatex(tmp_path: Path) -> Pdflatex:
    """The compiler, in a folder of this test."""
    if shutil.which("pdflatex") is None:
        pytest.fail("pdflatex is not installed: make test-latex installs it")
    return Pdflatex(tmp_path)
