"""Writes the table of methods from conf/sparsifier into README.md and docs/methods.md: python docs/methods.py."""

import re
import sys
from pathlib import Path

from sparse_rnn.config.compose import compose_run
from sparse_rnn.core.conf import config_dir
from sparse_rnn.sparsity.method import SparsifierConfig

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "methods.md")
TABLE = re.compile(r"(<!-- methods -->\n).*?(<!-- end of methods -->)", re.DOTALL)


def table() -> str:
    """The table, with one row per method."""
    lines = [
        "| `sparsifier=` | initial | removal | growth | redistribution | scope | schedule | update |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for path in sorted((config_dir() / "sparsifier").glob("*.yaml")):
        run = compose_run([f"sparsifier={path.stem}"])
        method = run.sparsifier
        every = method.update_interval if method.update_interval == "epoch" else f"{method.update_interval} steps"
        moving = [method.scope, method.schedule, every] if method.dynamic else ["-"] * 3
        removal = [method.removal, run.growth.name, method.redistribution] if method.dynamic else ["-"] * 3
        if method.name == "iss":
            removal, moving = ["whole units, by group lasso", "none", "none"], ["-", "-", every]
        lines.append(f"| `{method.name}` | {' | '.join([initial(method), *removal, *moving])} |")
    return "\n".join(lines) + "\n"


def initial(method: SparsifierConfig) -> str:
    """The initial distribution and, if there is one, the structure."""
    return method.initial if method.structure == "unstructured" else f"{method.initial}, {method.structure}"


def rewritten(page: Path, made: str) -> str:
    """The text of the page with the table put between its two markers."""
    return TABLE.sub(lambda found: found[1] + made + found[2], page.read_text(encoding="utf-8"))


def main() -> int:
    """Write the pages; with --check, only return how many are out of date."""
    made = table()
    stale = [page for page in PAGES if rewritten(page, made) != page.read_text(encoding="utf-8")]
    if "--check" in sys.argv:
        return len(stale)
    for page in stale:
        page.write_text(rewritten(page, made), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
