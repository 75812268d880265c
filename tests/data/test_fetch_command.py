"""Fetching ahead, and what a command says when there is nothing to fetch from."""

import os
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest

from sparse_rnn.core import registry
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.registry import choices, lookup
from sparse_rnn.data import __main__ as command
from sparse_rnn.data.labelled import published
from sparse_rnn.data.language import corpora


@pytest.fixture
def offline(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine without network and data."""
    kept = {k: v for k, v in os.environ.items() if k.lower() not in ("no_proxy", "all_proxy", "hydra_full_error")}
    proxies = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    folders = {"SPARSE_RNN_DATA": str(tmp_path / "data"), "SPARSE_RNN_RUNS": str(tmp_path / "runs")}
    return {**kept, **proxies, **folders, "OMP_NUM_THREADS": "1"}


def run(module: str, *arguments: str, env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], env=env, cwd=cwd, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("module", ["sparse_rnn.train", "sparse_rnn.data"])
def test_without_network_and_files_says_where_to_put_what(module: str, offline: dict[str, str], tmp_path: Path) -> None:
    arguments = ["dataset=ptb", "budget=smoke"] if module == "sparse_rnn.train" else ["ptb"]
    started = time.monotonic()
    result = run(module, *arguments, env=offline, cwd=tmp_path)
    assert time.monotonic() - started < 100
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ptb cannot be downloaded (no connection): put train.txt (from https://")
    assert result.stderr.endswith(f"into {tmp_path}/data/ptb, or use dataset=pydoc, which needs nothing.\n")
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.glob("runs/*")), "no run folder"


def test_help_names_all_that_is_downloaded(tmp_path: Path) -> None:
    result = run("sparse_rnn.data", "--help", env=dict(os.environ), cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert "python -m sparse_rnn.data [NAME ...]" in result.stdout
    downloaded = [name for name in choices("dataset") if hasattr(lookup("dataset", name), "fetch")]
    assert f"all that are downloaded: {', '.join(downloaded)}." in " ".join(result.stdout.split())


def test_an_unknown_name_is_refused(offline: dict[str, str], tmp_path: Path) -> None:
    result = run("sparse_rnn.data", "ptbb", env=offline, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: ptbb is not a data set that is published (did you mean ptb?).\n"


def test_the_user_s_own_texts_are_no_published_data_set() -> None:
    with pytest.raises(ConfigError, match=r"^text is not a data set that is published"):
        command.fetch_all(["ptb", "text"])


def test_of_what_is_not_downloaded_it_says_where_to_get_it(offline: dict[str, str], tmp_path: Path) -> None:
    result = run("sparse_rnn.data", "sanders_twitter", env=offline, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: dataset=sanders_twitter needs full-corpus.csv in {tmp_path}/data/sanders")


@pytest.mark.parametrize("names", [[], ["ptb"]], ids=["all", "by name"])
def test_says_what_there_is(
    names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = {"train.txt": "one two three\n", "valid.txt": "three two\n", "test.txt": "one\n"}
    news = {"train.csv": "1,one,two\n2,three,four\n" * 5, "test.csv": "3,one,five\n"}
    monkeypatch.setattr(corpora, "PTB_FILES", write_published(tmp_path / "ptb", texts))
    monkeypatch.setattr(published, "AG_NEWS_FILES", write_published(tmp_path / "ag_news", news))
    few = {name: lookup("dataset", name) for name in ("ag_news", "ptb", "pydoc")}
    monkeypatch.setitem(registry._REGISTRY, "dataset", few)
    monkeypatch.setenv("SPARSE_RNN_DATA", str(tmp_path))
    command.fetch_all(names)
    ptb = "".join(["ptb: 4 / 3 / 2 tokens, 4 words\n", *(f"  {tmp_path}/ptb/{name}\n" for name in texts)])
    labelled = [
        "ag_news: 9 / 1 / 1 texts of 4 classes, 4 words\n",
        *(f"  {tmp_path}/ag_news/{name}\n" for name in news),
    ]
    assert capsys.readouterr().out == (ptb if names else "".join(labelled) + ptb)


def write_published(folder: Path, texts: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Files that are there and as published; their names and hashes."""
    folder.mkdir()
    for name, text in texts.items():
        (folder / name).write_text(text)
    return {name: (name, sha256(text.encode()).hexdigest()) for name, text in texts.items()}
