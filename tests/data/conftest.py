"""A data folder without network, and one whose Penn Treebank comes from a server on this machine."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_mirror import TEXTS, Mirror, serving

from sparse_rnn.data.language import corpora


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder, and no network."""
    monkeypatch.setenv("SPARSE_RNN_DATA", str(tmp_path / "data"))
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")
    return tmp_path / "data"


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with serving() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a Penn Treebank that is small and has `mirror` as its only source."""
    monkeypatch.setenv("SPARSE_RNN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    files = {name.removeprefix("ptb."): (name, hashlib.sha256(text).hexdigest()) for name, text in TEXTS.items()}
    monkeypatch.setattr(corpora, "PTB_FILES", files)
    monkeypatch.setattr(corpora, "PTB_MIRRORS", (mirror.url,))
    return tmp_path / "data" / "ptb"
