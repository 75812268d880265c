"""Whether what a built site refers to is there: pages, places in them, pictures, scripts, styles."""

from collections.abc import Callable, Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

TEMPLATES = ("404.html",)  # whose links are absolute


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors, self.links, self.loaded = set[str](), list[str](), list[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors |= {value for key in ("id", "name") if (value := given.get(key))}
        for key in ("href", "src"):
            if value := given.get(key):
                (self.links if tag == "a" else self.loaded).append(value)


def broken(site: Path) -> list[str]:
    """A sentence for every reference that leads nowhere, and for all that would be loaded from another host."""
    pages = [page for page in sorted(site.rglob("*.html")) if page.name not in TEMPLATES]
    read = cache(lambda page: _Page(page.read_text(encoding="utf-8")))
    return [f"{page.relative_to(site)}: {wrong}" for page in pages for wrong in _wrong(page, site, read)]


def _wrong(page: Path, site: Path, read: Callable[[Path], _Page]) -> Iterator[str]:
    for loaded in read(page).loaded:
        if urlsplit(loaded).netloc:
            yield f"{loaded} would be loaded from another host"
    for reference in dict.fromkeys([*read(page).links, *read(page).loaded]):
        scheme, host, path, _, anchor = urlsplit(reference)
        if scheme or host:
            continue
        target = (page.parent / unquote(path)).resolve() if path else page
        target = target / "index.html" if target.is_dir() else target
        if not target.is_relative_to(site) or not target.is_file():
            yield f"{reference} leads nowhere"
        elif anchor and target.suffix == ".html" and unquote(anchor) not in read(target).anchors:
            yield f"{reference} leads to no heading"
