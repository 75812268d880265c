"""The pages of the site in one folder: docs/ and what else is read as a page, and the reference, made from the code."""

import re
import shutil
from collections.abc import Callable
from os.path import relpath
from pathlib import Path

import yaml

from docs.methods import table as table_of_methods
from sparse_rnn.core.errors import ConfigError
from website import configuration, listings

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SETTINGS = Path(__file__).with_name("mkdocs.yml")
BESIDE = [SETTINGS.with_name(name) for name in ("site.css", "iframe-worker.js")]
ELSEWHERE = {  # where the site has what does not lie in docs/
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "notebooks": "tutorials/index.md",
}
MADE: dict[str, Callable[[], str]] = {
    "runs": configuration.runs,
    "models": lambda: configuration.components("Configuration of models", {"model": "Models"}),
    "datasets": lambda: configuration.components("Configuration of data sets", {"dataset": "Data sets"}),
    "optimizers": lambda: configuration.components("Configuration of optimizers", {"optimizer": "Optimizers"}),
    "methods": lambda: configuration.methods(table_of_methods()),
    "recipes": configuration.options,
    "clusters": configuration.clusters,
    "rules": listings.rules,
    "tables": listings.tables,
    "commands": listings.commands,
    "api": listings.api,
}
FENCE = re.compile(r"^(```.*?^```$)", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!\w+:|#)([^)\s#]+)(#[^)\s]*)?\)")


def stage(folder: Path) -> None:
    """Fill `folder` with mkdocs.yml and pages/; raises ConfigError unless the navigation has each page once."""
    shutil.rmtree(folder, ignore_errors=True)
    pages = folder / "pages"
    for source in pages_of_docs():
        text = adapted(source.read_text(encoding="utf-8"), source, pages)
        _write(pages / place(source), text)
    for name, made in MADE.items():
        _write(pages / "reference" / f"{name}.md", made() + "\n")
    for file in BESIDE:
        shutil.copy(file, pages)
    shutil.copy(SETTINGS, folder)
    check_navigation(pages)


def pages_of_docs() -> list[Path]:
    """Every page that is not made."""
    others = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
    return [*sorted(DOCS.rglob("*.md")), *(ROOT / name for name in others)]


def place(source: Path) -> str:
    """Where a file or a folder of the repository lies among the pages."""
    inside = source.relative_to(ROOT).as_posix()
    if source.is_relative_to(ROOT / "notebooks") and source.suffix == ".ipynb":
        return f"tutorials/{source.stem}.md"
    return ELSEWHERE.get(inside) or (inside.removeprefix("docs/") if source.is_relative_to(DOCS) else f"files/{inside}")


def adapted(text: str, source: Path, pages: Path) -> str:
    """A page as the site needs it: links hold, files that it links to are copied, and lists nest by four spaces."""

    def link(found: re.Match[str]) -> str:
        picture, words, target, anchor = found.groups()
        aim = (source.parent / target).resolve()
        inside, there = aim.relative_to(ROOT).as_posix(), place(aim)
        if there == place(source) or there.startswith("files/"):  # of a page: the notebook that it shows
            if aim.is_dir():
                return f"{words} (`{inside}`)"
            there = f"files/{inside}{'.txt' if aim.suffix == '.md' else ''}"  # Markdown would be a page
        if aim.is_file() and not there.endswith(".md"):
            (pages / there).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(aim, pages / there)
        here = relpath(there, Path(place(source)).parent)
        return f"{picture}[{words}]({here}{anchor or ''})"

    parts = FENCE.split(text)
    for number, part in enumerate(parts):
        if not part.startswith("```"):
            parts[number] = re.sub(r"^(?=( +))", r"\1", LINK.sub(link, part), flags=re.MULTILINE)
        else:
            parts[number] = re.sub(r'^```(\w+) (title="[^"]*").*', r"```\1 \2", part)
    return "".join(parts)


def check_navigation(pages: Path) -> None:
    """Raise ConfigError unless every page is in the navigation, and everything in it is a page."""
    named = navigation()
    there = {path.relative_to(pages).as_posix() for path in pages.rglob("*.md")}
    if lacking := sorted(there - set(named)):
        raise ConfigError(f"website/mkdocs.yml has no place in its nav for {', '.join(lacking)}.")
    if unknown := sorted(set(named) - there):
        raise ConfigError(f"website/mkdocs.yml has {', '.join(unknown)} in its nav, which no page is called.")
    if twice := sorted({name for name in named if named.count(name) > 1}):
        raise ConfigError(f"website/mkdocs.yml has {', '.join(twice)} twice in its nav.")


def navigation() -> list[str]:
    """Every page in the navigation, from top to bottom."""

    def leaves(part: object) -> list[str]:
        if isinstance(part, str):
            return [part]
        return [leaf for each in (part.values() if isinstance(part, dict) else part) for leaf in leaves(each)]

    text = re.sub(r"!!python/\S+", "", SETTINGS.read_text(encoding="utf-8"))
    return leaves(yaml.safe_load(text)["nav"])


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
