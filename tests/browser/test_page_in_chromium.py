"""The page of results as a browser shows it: of real runs, and of a thousand made up from them."""

import html
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from results.page import document
from results.page.run_list import HEADINGS
from results.requests import Request
from results.sources import choice as sources
from results.sources.logs import Logs
from sparse_rnn.config.compose import compose_run
from sparse_rnn.training.session import train

SMOKE = ["dataset=pydoc", "budget=smoke"]
OPTIONS = ["protocol=official_code", "optimizer=snt_asgd", "logger=files", "threads=1", "device=cpu"]
METHODS = ("selfish", "rigl", "dense")
LIGHT, DARK = "--blink-settings=preferredColorScheme=1", "--blink-settings=preferredColorScheme=0"
CELLS = "[...document.querySelectorAll('#runs tbody tr:not([hidden])')].map(row => row.cells[{}].textContent).join(' ')"
CLICK = "document.querySelectorAll('#runs thead button')[{}].click()"
RUN, SEED, STATE, VALID = map(HEADINGS.index, ("run", "seed", "state", "valid"))
PHONE, DESKTOP = (390, 844), (1400, 1000)


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logs]:
    """Three small runs of table3 and figure7."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSE_RNN_RUNS", str(tmp_path_factory.mktemp("site") / "runs"))
        patch.setattr(document.names, "tables", lambda: ["table2", "table3", "table10", "st_table2"])
        patch.setattr(document.names, "figures", lambda: ["figure2", "figure5", "figure7"])
        for method in METHODS:
            options = [*SMOKE, *OPTIONS, f"sparsifier={method}"]
            train(compose_run(options), options)
        yield sources.load("records")


@pytest.fixture(scope="module")
def page(logs: Logs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of these runs."""
    path = tmp_path_factory.mktemp("page") / "site.html"
    path.write_text(document.page(Request("site", overrides=SMOKE), logs, path.parent), encoding="utf-8")
    return path


@pytest.fixture
def many(logs: Logs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page of a thousand runs: run0, run1, ... The perplexity of run k is 1000 - k; every tenth is not finished."""
    monkeypatch.setattr(document.names, "tables", list)
    monkeypatch.setattr(document.names, "figures", list)
    run = next(iter(logs.runs.values()))
    runs = {}
    for number in range(1000):
        final = {**(run.final or {}), "best/valid/perplexity": 1000.0 - number}
        made = replace(run, run_id=f"run{number}", config={**run.config, "seed": number}, final=final)
        runs[f"run{number}"] = replace(made, state="unfinished", final=None) if number % 10 == 0 else made
    path = tmp_path / "many.html"
    path.write_text(document.page(Request("site"), Logs("runs", runs), tmp_path), encoding="utf-8")
    return path


def test_a_page_complains_of_nothing_and_asks_for_nothing(chromium, page, tmp_path):
    assert chromium.complaints(page) == []
    other = tmp_path / "other.html"
    other.write_text("<script>fetch('http://127.0.0.1:9/a'); nonsense()</script>", encoding="utf-8")
    found = chromium.complaints(other)
    assert "http://127.0.0.1:9/a" in found
    assert any("nonsense is not defined" in line for line in found)


def test_the_pictures_are_drawn(chromium, page):
    sizes = "[...document.images].map(image => image.complete && image.naturalWidth > 100)"
    assert chromium.ask(page, f"{sizes}.join(' ')") == "true true"


def test_a_click_on_a_heading_sorts_numbers_as_numbers_and_missing_ones_last(chromium, many):
    answer = chromium.ask(many, f"({CLICK.format(VALID)}, {CELLS.format(RUN)})").split()
    finished = [number for number in range(1000) if number % 10]
    assert answer[:900] == [f"run{number}" for number in reversed(finished)]
    assert set(answer[900:]) == {f"run{number}" for number in range(0, 1000, 10)}
    again = chromium.ask(many, f"({CLICK.format(VALID)}, {CLICK.format(VALID)}, {CELLS.format(RUN)})").split()
    assert again[:900] == [f"run{number}" for number in finished]
    assert set(again[900:]) == set(answer[900:])


def test_names_are_sorted_as_one_reads_them_and_a_third_click_undoes(chromium, many):
    states = f"({CLICK.format(STATE)}, {CELLS.format(STATE)})"
    assert chromium.ask(many, states).split() == ["finished"] * 900 + ["unfinished"] * 100
    descending = f"({CLICK.format(RUN)}, {CLICK.format(RUN)}, {CELLS.format(RUN)})"
    assert chromium.ask(many, descending).split()[:2] == ["run999", "run998"]
    thrice = ", ".join([CLICK.format(VALID)] * 3)
    assert chromium.ask(many, f"({thrice}, {CELLS.format(SEED)})").split() == [str(number) for number in range(1000)]


def test_a_heading_says_how_it_sorts_and_is_reached_by_keyboard(chromium, many):
    orders = "[...document.querySelectorAll('#runs th[aria-sort]')].map(th => th.cellIndex + th.ariaSort).join(' ')"
    first, second = CLICK.format(SEED), CLICK.format(VALID)
    assert chromium.ask(many, f"({first}, {second}, {orders})") == f"{VALID}ascending"
    assert chromium.ask(many, f"({first}, {second}, {second}, {orders})") == f"{VALID}descending"
    focus = "(document.querySelector('#runs thead button').focus(), document.activeElement.textContent)"
    assert chromium.ask(many, focus) == "run"


def test_rows_of_a_table_stay_in_their_section(chromium, page):
    first = "[...body.rows].map(row => row.cells[0].textContent)"
    labels = f"JSON.stringify([...document.querySelectorAll('#table3 tbody')].map(body => {first}))"
    click = "document.querySelector('#table3 thead tr:last-child button').click()"
    before = json.loads(html.unescape(chromium.ask(page, labels)))
    after = json.loads(html.unescape(chromium.ask(page, f"({click}, {labels})")))
    assert after != before
    assert after == [[section, *sorted(rows, key=str.lower)] for section, *rows in before]


def test_the_filter_leaves_the_runs_that_have_every_word(chromium, many):
    typed = "(i => (i.value = '{}', i.dispatchEvent(new Event('input'))))(document.querySelector('input'))"
    count = "document.querySelector('output').textContent"
    assert chromium.ask(many, f"({typed.format('RUN99 unfinished')}, {CELLS.format(RUN)} + ': ' + {count})") == (
        "run990: 1 of 1000"
    )
    assert chromium.ask(many, f"({typed.format('nothing')}, {count})") == "0 of 1000"
    assert chromium.ask(many, count) == "1000 of 1000"


DRAWN = "document.querySelectorAll('.curves > svg polyline').length"


def ids_of(logs: Logs) -> list[str]:
    """The runs that have gates, as the page lists them."""
    return [run_id for run_id in logs.runs if "dense" not in run_id]


def test_curves_of_ticked_runs_lie_over_one_another(chromium, page, logs):
    boxes = "[...document.querySelectorAll('#runs tbody input')]"
    assert chromium.ask(page, f"{boxes}.length + ' ' + {DRAWN}") == f"{len(METHODS)} 0"
    two = f"({boxes}[0].click(), {boxes}[2].click(), {DRAWN}"
    assert chromium.ask(page, f"{two} + ' ' + document.querySelectorAll('.legend li').length)") == "2 2"
    assert (
        chromium.ask(page, f"{two} + ' ' + new URLSearchParams(location.search).get('runs').split(',').length)")
        == "2 2"
    )
    all_of_them = f"(document.querySelector('.curves .all').click(), {DRAWN})"
    assert chromium.ask(page, all_of_them) == str(len(METHODS))
    points = "document.querySelector('.curves polyline').getAttribute('points').split(' ').length"
    assert chromium.ask(page, f"({boxes}[0].click(), {points})") == "4"  # the epochs of budget=smoke


def test_an_address_shows_what_its_sender_saw(chromium, page, logs):
    run_id = next(each for each in ids_of(logs) if "rigl" in each)
    query = f"?filter=rigl&runs={run_id}&curves=gates"
    assert chromium.ask(page, CELLS.format(RUN), query).split() == [run_id]
    ticked = "[...document.querySelectorAll('#runs input:checked')].map(box => box.closest('tr').dataset.run).join()"
    assert chromium.ask(page, ticked, query) == run_id
    assert chromium.ask(page, DRAWN, query) == "4"  # an LSTM's gates
    assert chromium.ask(page, "[...new URLSearchParams(location.search)].join(' ')", query) == (
        f"filter,rigl runs,{run_id} curves,gates"
    )
    assert chromium.ask(page, DRAWN, "?runs=nothing&curves=nonsense") == "0"


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_a_screen_shows_the_page(chromium, page, scheme):
    ground = []
    for name, (width, height) in {"desktop": DESKTOP, "phone": PHONE}.items():
        picture = matplotlib.image.imread(chromium.screenshot(page, name, width, height, scheme))[..., :3]
        assert picture.std() > 0.05
        ground.append(np.median(picture))
    assert all(value > 0.9 for value in ground) if scheme == LIGHT else all(value < 0.2 for value in ground)


def test_a_phone_shows_the_page_without_scrolling_sideways(chromium, page, tmp_path):
    phone = tmp_path / "phone.html"
    source = page.read_text(encoding="utf-8").replace('"', "&quot;")
    phone.write_text(f'<iframe width="{PHONE[0]}" height="{PHONE[1]}" srcdoc="{source}"></iframe>', encoding="utf-8")
    inside = "document.querySelector('iframe').contentDocument"
    loaded = f"new Promise(done => addEventListener('load', done)).then(() => [{inside}.body.scrollWidth, "
    wide = f"[...{inside}.querySelectorAll('.scroll')].some(box => box.scrollWidth > box.clientWidth)].join(' '))"
    width, scrolls = chromium.ask(phone, loaded + wide).split()
    assert int(width) <= PHONE[0]
    assert scrolls == "true"
