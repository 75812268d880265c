"""The pages of the documentation site: what becomes of links, the navigation, the check of what was built."""

from pathlib import Path

import pytest

from sparse_rnn.core.errors import ConfigError
from website import staging
from website.links import broken

PAGE = staging.DOCS / "results.md"


def test_links_hold_on_the_site(tmp_path):
    assert staging.adapted("[a](methods.md#iss)", PAGE, tmp_path) == "[a](methods.md#iss)"
    assert staging.adapted("[a](../CHANGELOG.md)", PAGE, tmp_path) == "[a](changelog.md)"
    assert staging.adapted("[a](../notebooks)", PAGE, tmp_path) == "[a](tutorials/index.md)"
    assert (
        staging.adapted("[a](../notebooks/02_your_own_rnn.ipynb)", PAGE, tmp_path)
        == "[a](tutorials/02_your_own_rnn.md)"
    )
    tutorial = staging.DOCS / "tutorials" / "02_your_own_rnn.md"
    notebook = "[a](../../notebooks/02_your_own_rnn.ipynb)"
    assert staging.adapted(notebook, tutorial, tmp_path) == "[a](../files/notebooks/02_your_own_rnn.ipynb)"
    assert (tmp_path / "files" / "notebooks" / "02_your_own_rnn.ipynb").exists()
    diary = staging.DOCS / "notes" / "kernels-diary.md"
    assert staging.adapted("[a](../kernels.md)", diary, tmp_path) == "[a](../kernels.md)"
    assert staging.adapted("[a](docs/index.md)", staging.ROOT / "CONTRIBUTING.md", tmp_path) == "[a](index.md)"
    assert staging.adapted("[a](#b) [c](https://d.org/e.md)", PAGE, tmp_path) == "[a](#b) [c](https://d.org/e.md)"


def test_files_beside_the_pages_come_along_and_folders_are_named(tmp_path):
    linked = staging.adapted("![a](../results/bench/sparse_sweep.png)", PAGE, tmp_path)
    index = staging.DOCS / "tutorials" / "index.md"
    assert staging.adapted("[them](../../notebooks)", index, tmp_path) == "them (`notebooks`)"
    assert linked == "![a](files/results/bench/sparse_sweep.png)"
    copied = tmp_path / "files" / "results" / "bench" / "sparse_sweep.png"
    assert copied.read_bytes() == (staging.ROOT / "results" / "bench" / "sparse_sweep.png").read_bytes()
    assert staging.adapted("[the logs](../results/logs/reduced)", PAGE, tmp_path) == "the logs (`results/logs/reduced`)"


def test_code_stays_and_lists_nest_by_four_spaces(tmp_path):
    text = '- a\n  - b\n\n```python title="x.py" append\n  [a](methods.md)\n```\n'
    made = '- a\n    - b\n\n```python title="x.py"\n  [a](methods.md)\n```\n'
    assert staging.adapted(text, PAGE, tmp_path) == made


def test_the_navigation_has_every_page_once():
    there = {staging.place(page) for page in staging.pages_of_docs()} | {
        f"reference/{name}.md" for name in staging.MADE
    }
    named = staging.navigation()
    assert sorted(named) == sorted(there)


@pytest.mark.parametrize(
    ("add", "remove", "sentence"),
    [
        (["new.md"], [], "has no place in its nav for new.md"),
        ([], ["index.md"], "has index.md in its nav, which no page is called"),
    ],
)
def test_a_page_without_a_place_is_refused(tmp_path, add, remove, sentence):
    for name in {*staging.navigation(), *add} - {*remove}:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(ConfigError, match=sentence):
        staging.check_navigation(tmp_path)


def test_a_page_of_two_places_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.md").touch()
    monkeypatch.setattr(staging, "navigation", lambda: ["a.md", "a.md"])
    with pytest.raises(ConfigError, match=r"has a\.md twice in its nav"):
        staging.check_navigation(tmp_path)


def built(folder: Path, body: str) -> list[str]:
    """What is wrong with a site of two pages, of which one has that body."""
    (folder / "sub").mkdir()
    (folder / "a.html").write_text(body, encoding="utf-8")
    (folder / "sub" / "index.html").write_text('<h2 id="über-uns">b</h2><a href="../a.html">a</a>', encoding="utf-8")
    return broken(folder)


def test_links_that_hold_are_found_to_hold(tmp_path):
    body = '<a href="sub/#%C3%BCber-uns">b</a><a href="https://d.org">d</a><a href="#x" id=x>'
    assert built(tmp_path, body) == []


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ('<a href="c.html">c</a>', "a.html: c.html leads nowhere"),
        ('<img src="c.png">', "a.html: c.png leads nowhere"),
        ('<a href="sub/#c">c</a>', "a.html: sub/#c leads to no heading"),
        ('<a href="../outside.html">c</a>', "a.html: ../outside.html leads nowhere"),
        ('<script src="https://d.org/x.js">', "a.html: https://d.org/x.js would be loaded from another host"),
    ],
)
def test_what_leads_nowhere_is_found(tmp_path, body, sentence):
    (tmp_path / "site").mkdir()
    (tmp_path / "outside.html").touch()
    assert built(tmp_path / "site", body) == [sentence]
