"""The documentation as a browser shows it: out of a folder, and below a path of a server."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread

import matplotlib.image
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent.parent
SECONDS = 120
LIGHT, DARK = "--blink-settings=preferredColorScheme=1", "--blink-settings=preferredColorScheme=0"
PHONE, DESKTOP = (390, 844), (1400, 1000)
PAGES = ("index.html", "reference/runs.html", "reference/api.html", "tutorials/01_quickstart.html", "findings.html")
WAIT = "new Promise(done => setTimeout(done, {}))"
SEARCH = f"""(async () => {{
  const until = async found => {{ for (let k = 0; k < 80 && !found(); k++) await {WAIT.format(100)}; return found(); }};
  const host = () => [...document.body.children].find(each => each.shadowRoot?.querySelector("input"));
  await until(host);
  document.querySelector(".md-search__button").click();
  const input = host().shadowRoot.querySelector("input");
  input.value = WORD;
  input.dispatchEvent(new Event("input", {{bubbles: true}}));
  const links = () => [...host().shadowRoot.querySelectorAll("a[href]")].map(a => a.href);
  await until(() => links().length);
  return JSON.stringify(links());
}})()"""
TOO_WIDE = f"""(async () => {{
  const wide = [];
  for (const page of PAGES) {{
    const frame = Object.assign(document.createElement("iframe"), {{width: {PHONE[0]}, height: {PHONE[1]}, src: page}});
    await new Promise(done => {{ frame.onload = done; document.body.append(frame); }});
    if (frame.contentDocument.scrollingElement.scrollWidth > {PHONE[0]}) wide.push(page);
    frame.remove();
  }}
  return JSON.stringify(wide);
}})()"""


class Server(ThreadingHTTPServer):
    """Serves a folder, and keeps what is posted to it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.folder, self.posted = folder, Queue[str]()

    def address(self, path: Path) -> str:
        """The address of a file below the folder."""
        return f"http://127.0.0.1:{self.server_port}/{path.relative_to(self.folder).as_posix()}"


class Handler(SimpleHTTPRequestHandler):
    """Answers requests to a Server, without a log."""

    server: Server

    def do_POST(self) -> None:
        """Keep what is posted."""
        self.server.posted.put(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does, two folders below that of a server."""
    folder = tmp_path_factory.mktemp("served") / "lab" / "docs"
    folder.parent.mkdir()
    done = subprocess.run([sys.executable, "-m", "website", folder], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def server(site: Path) -> Iterator[Server]:
    """A server that has the site below /lab/docs."""
    with Server(site.parent.parent) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(params=["a folder", "a server"])
def address(request: pytest.FixtureRequest, server: Server) -> Callable[[Path], str]:
    """Both ways to have the site."""
    return server.address if request.param == "a server" else Path.as_uri


def ask(chromium, server: Server, page: Path, address: Callable[[Path], str], expression: str) -> object:
    """What an expression says in a page, whose copy lies beside it; it says so in JSON."""
    copy = page.with_name(f"asked-{page.name}")
    post = f'{{method: "POST", mode: "no-cors", body: await ({expression})}}'
    script = f'<script>(async () => fetch("http://127.0.0.1:{server.server_port}", {post}))()</script>'
    copy.write_text(page.read_text(encoding="utf-8") + script, encoding="utf-8")
    with chromium.opened(address(copy)):
        answer = server.posted.get(timeout=SECONDS)
    copy.unlink()
    return json.loads(answer)


@pytest.mark.parametrize("page", ["index.html", "tutorials/01_quickstart.html"])
def test_a_search_finds_the_pages_that_have_a_word(chromium, site, server, address, page):
    found = ask(chromium, server, site / page, address, SEARCH.replace("WORD", '"synflow"'))
    pages = {re.sub(r"[?#].*", "", link) for link in found}
    assert {address(site / "methods.html"), address(site / "reference" / "rules.html")} <= pages
    assert all(link.startswith(address(site)) for link in found)
    assert ask(chromium, server, site / page, address, SEARCH.replace("WORD", '"xyzzyplugh"')) == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_complains_of_nothing_and_loads_nothing_from_elsewhere(chromium, site, server, page):
    assert chromium.complaints(site / page) == []
    assert [
        line for line in chromium.complaints(server.address(site / page)) if not line.startswith(server.address(site))
    ] == []


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_a_screen_shows_the_pages_as_the_reader_has_it(chromium, site, scheme):
    for page in PAGES:
        for name, (width, height) in {"desktop": DESKTOP, "phone": PHONE}.items():
            picture = matplotlib.image.imread(chromium.screenshot(site / page, name, width, height, scheme))[..., :3]
            assert picture.std() > 0.05
            ground = np.median(picture)
            assert ground > 0.9 if scheme == LIGHT else ground < 0.2, f"{page} on a {name}"


def test_no_page_scrolls_sideways_on_a_phone(chromium, site, server):
    pages = [path.relative_to(site).as_posix() for path in sorted(site.rglob("*.html")) if path.name != "404.html"]
    phone = site / "phone.html"
    phone.write_text("<body>", encoding="utf-8")
    wide = site / "wide.html"
    wide.write_text(f'<div style="width: {2 * PHONE[0]}px">wide</div>', encoding="utf-8")
    assert ask(chromium, server, phone, server.address, TOO_WIDE.replace("PAGES", json.dumps([*pages, wide.name]))) == [
        wide.name
    ]
