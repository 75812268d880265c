"""The page of results as text: what it holds, where it links, and that nothing of the logs becomes HTML."""

import base64
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from results.page import document, run_list
from results.requests import Request
from results.sources.logs import LoggedRun, Logs
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.tables.catalogue import Catalogue
from sparse_rnn.tables.declaration import load
from sparse_rnn.tables.expansion import expand

SMOKE = ["dataset=pydoc", "budget=smoke"]
VOID = {"meta", "link", "img", "input", "br"}
EVIL = "\"><script>alert(1)</script><b x='&amp;"


class Parsed(HTMLParser):
    """The elements of a page, and the texts of its table cells; every element must be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" in self._open or "style" in self._open:
            return
        self.words.append(data)
        if self.rows and "tr" in self._open:
            self.rows[-1][-1] += data

    def attributes(self, name: str) -> list[str]:
        """Every value of an attribute."""
        return [attributes[name] or "" for _, attributes in self.elements if name in attributes]

    def row(self, first: str) -> list[str]:
        """The first row of that label."""
        return next(row for row in self.rows if row and row[0] == first)

    @property
    def text(self) -> str:
        """All that is read."""
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The runs of table6, as configured."""
    catalogue = Catalogue(tmp_path_factory.mktemp("catalogue"))
    planned = expand(load("table6"), catalogue.facts, seeds=[1], overrides=SMOKE)
    return {run.run_id: dict(run.facts.config) for run in planned}


@pytest.fixture(scope="module")
def shown(configs: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page in a folder beside that of the runs. Of two tables one has runs; the figure that needs runs has none."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSE_RNN_RUNS", str(folder / "runs"))
        choose(patch, tables=["table6", "table8"], figures=["figure2", "figure3"])
        return document.page(request(*SMOKE, seeds=[1]), logs(configs, folder), folder / "results")


@pytest.fixture
def no_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    choose(monkeypatch, [], [])


def choose(patch: pytest.MonkeyPatch, tables: list[str], figures: list[str]) -> None:
    """Make these the only tables and figures."""
    patch.setattr(document.names, "tables", lambda: tables)
    patch.setattr(document.names, "figures", lambda: figures)


def logged(
    run_id: str, config: dict[str, Any], link: str, perplexity: float | None, commit: str = "c" * 40
) -> LoggedRun:
    """A run that kept this perplexity; None for a run that is not finished."""
    best = {"valid/loss": 1.0, "valid/perplexity": perplexity, "test/perplexity": 50.0, "sparsity/model": 0.67}
    final = {f"best/{name}": value for name, value in best.items()} | {"best/active_parameters": 1234567}
    environment = {"commit": commit, "modified": True, "host": "here"}
    return LoggedRun(
        run_id,
        config,
        {"environment": environment, "device": "cpu"},
        "unfinished" if perplexity is None else "finished",
        None if perplexity is None else {**final, "step": 9, "clock/finished": 1767225600.0},
        link,
        list,
    )


def logs(configs: dict[str, dict[str, Any]], folder: Path) -> Logs:
    """A finished run of each configuration."""
    runs = {
        run_id: logged(run_id, config, str(folder / "runs" / run_id / "wandb"), 100.0 + number)
        for number, (run_id, config) in enumerate(configs.items())
    }
    return Logs("runs", runs)


def request(*overrides: str, seeds: list[int] | None = None) -> Request:
    return Request("site", overrides=list(overrides), seeds=seeds)


def test_a_page_shows_what_has_runs_and_names_the_rest(shown):
    found = Parsed(shown)
    assert found.attributes("id") == ["tables", "table6", "figures", "figure2", "runs", "curves"]
    assert found.attributes("href").count("#table6") == 2
    assert "Without a finished run: table8 table8: " in found.text
    assert "Without a finished run: figure3 figure3: " in found.text
    assert "python -m launch submit NAME dataset=pydoc budget=smoke seeds=1" in found.text
    assert "Runs 3 finished Overrides dataset=pydoc budget=smoke seeds=1" in found.text
    assert "102.00" in " ".join(found.row("Ours"))


def test_every_table_and_figure_gives_its_numbers(shown):
    data = {
        each["download"]: base64.b64decode(str(each["href"]).partition("base64,")[2]).decode()
        for _, each in Parsed(shown).elements
        if "download" in each
    }
    assert list(data) == ["table6.csv", "figure2.csv"]
    assert data["table6.csv"].startswith("table,block,row,column,mean")
    assert "table6,Cell gate redistribution,Ours,valid,102.0," in data["table6.csv"]
    assert data["figure2.csv"].startswith("method,time,density,cost\n")


def test_a_page_asks_for_nothing_beside_it(shown, configs):
    found = Parsed(shown)
    assert found.attributes("src")
    assert all(source.startswith("data:image/svg+xml") for source in found.attributes("src"))
    links = [href for href in found.attributes("href") if not href.startswith(("#", "data:"))]
    assert links == [f"../runs/{run_id}/wandb" for run_id in configs]
    assert "url(" not in shown
    assert "@import" not in shown


def test_a_line_says_what_a_run_is_and_where_its_log_is(configs, tmp_path, no_tables):
    run_id, config = next(iter(configs.items()))
    local = logged(run_id, config, str(tmp_path / "runs" / "a b" / "wandb"), 123.456)
    online = logged("online", config, "https://wandb.ai/lab/sparse_rnn/runs/online", None)
    found = Parsed(document.page(request(), Logs("runs", {run_id: local, "online": online}), tmp_path / "results"))
    what = ["stacked_lstm", "pydoc", "selfish", "random", "snt_asgd", "1", "smoke", "official_code", "finished"]
    kept = ["123.46", "50.00", "1.2M", "0.67", "ccccccc+", "2026-01-01 00:00"]
    assert found.row(run_id)[1:] == ["", *what, *kept]
    assert found.row("online")[10:] == ["unfinished", "", "", "", "", "ccccccc+", ""]
    assert found.attributes("href")[-2:] == ["../runs/a%20b/wandb", "https://wandb.ai/lab/sparse_rnn/runs/online"]


def test_what_differs_has_a_column(configs, tmp_path, no_tables):
    """What has a column of its own, as the method has, is not repeated."""
    config = next(iter(configs.values()))
    made = {
        name: {**config, "sparsifier": {**config["sparsifier"], "name": method, "sparsity": sparsity, "scope": "cell"}}
        for name, method, sparsity in (("a", "set", 0.5), ("b", "set", 0.9), ("c", "rigl", 0.9))
    }
    found = Parsed(document.page(request(), logs(made, tmp_path), tmp_path))
    assert [found.row(name)[1] for name in made] == ["sparsity=0.5", "sparsity=0.9", "sparsity=0.9"]
    frame = logs(made, tmp_path).frame
    assert frame["differs"].tolist() == [
        "sparsifier=set sparsity=0.5",
        "sparsifier=set sparsity=0.9",
        "sparsifier=rigl sparsity=0.9",
    ]


def test_what_stands_in_the_logs_is_text(configs, tmp_path, no_tables):
    config = next(iter(configs.values()))
    hostile = logged(EVIL, {**config, "model": {"name": EVIL}}, f"javascript:{EVIL}", 1.0, commit=EVIL)
    found = Parsed(document.page(request(*SMOKE), Logs(EVIL, {EVIL: hostile}, (EVIL,)), tmp_path))
    tags = [tag for tag, _ in found.elements]
    assert tags.count("script") == 2  # the curves, which are no code, and the page's own
    assert "b" not in tags
    assert found.row(EVIL)[2] == EVIL
    assert f"Source {EVIL} Runs" in found.text
    assert f"1 problem in the logs {EVIL}" in found.text
    assert not [href for href in found.attributes("href") if href.startswith("javascript")]


def test_problems_of_many_logs_are_folded(tmp_path, no_tables):
    found = Parsed(document.page(request(), Logs("runs", {}, tuple(f"torn {k}" for k in range(9))), tmp_path))
    assert "9 problems in the logs torn 0 torn 1" in found.text
    assert "There are no runs in these logs." in found.text
    assert ("details", {"class": "problems"}) in found.elements


def test_what_does_not_go_with_the_overrides_is_told_and_the_rest_is_made(tmp_path, monkeypatch):
    choose(monkeypatch, ["table6"], ["figure2", "figure7"])
    text = Parsed(document.page(request(*SMOKE, "sparsifier.sparsity=0.5"), Logs("runs", {}), tmp_path)).text
    assert "Cannot be made: figure7 figure7: conf/figure/figure7.yaml" in text
    assert "Without a finished run: table6" in text
    with pytest.raises(ConfigError, match=r"no table and no figure\. Of table6: .*smoky"):
        document.write_page(request("budget=smoky"), tmp_path / "page.html")


def test_a_thousand_runs_have_a_line_each(configs, tmp_path, no_tables):
    run = logged("", next(iter(configs.values())), str(tmp_path), 10.0)
    many = {f"run{number}": replace(run, run_id=f"run{number}") for number in range(1000)}
    text = document.page(request(), Logs("runs", many), tmp_path)
    assert {row[0] for row in Parsed(text).rows} >= set(many)
    assert len(text) < 2_000_000


def test_the_page_is_written_where_it_is_wanted(configs, tmp_path, monkeypatch, no_tables):
    monkeypatch.setattr(document.sources, "load", lambda source: logs(configs, tmp_path))
    out = document.write_page(request(), tmp_path / "new" / "page.html")
    assert out == tmp_path / "new" / "page.html"
    links = Parsed(out.read_text(encoding="utf-8")).attributes("href")
    assert set(links) >= {f"../runs/{run_id}/wandb" for run_id in configs}


def test_a_classifiers_results_are_in_per_cent(configs: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    (name, config), *_ = configs.items()
    run = logged(name, config, "there", 1.0)
    assert run.final is not None
    accuracies = {"best/valid/accuracy": 0.8564, "best/test/accuracy": 0.84359}
    run = replace(run, final={key: v for key, v in run.final.items() if "perplexity" not in key} | accuracies)
    [line] = run_list.lines(Logs("runs", {name: run}), tmp_path)
    shown = dict(zip(run_list.HEADINGS[1:], line.items, strict=True))
    assert (shown["valid"].text, shown["test"].text) == ("85.64%", "84.36%")
    assert shown["test"].key == "0.84359"
