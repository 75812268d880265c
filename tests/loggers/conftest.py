"""Real stores of MLflow: databases, and a server on loopback (make test-loggers)."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from sparse_rnn.core import command_line
from sparse_rnn.runs.mlflow_store import connect

SECONDS = 90


class Server:
    """`mlflow server` on a database of its own; it can be stopped and started again at the same address."""

    def __init__(self, database: Path, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri, self.log, self._store = f"http://127.0.0.1:{self.port}", log, f"sqlite:///{database}"
        self._files = database.parent / "files"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it if it does not run, and wait until it answers."""
        if self._process is not None:
            return
        options = ["--backend-store-uri", self._store, "--artifacts-destination", str(self._files), "--workers", "1"]
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), *options]
        with self.log.open("ab") as stream:
            self._process = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)
        until = time.monotonic() + SECONDS
        while not self._answers():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.1)

    def stop(self) -> None:
        """Kill it with its workers."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.uri}/health", timeout=5).ok
        except requests.RequestException:
            return False


@pytest.fixture(autouse=True)
def _as_in_a_new_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command warns of the same thing once; each test is one."""
    monkeypatch.setattr(command_line, "_warned", set())


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables, whose making takes seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    connect(f"sqlite:///{path}")
    return path


@pytest.fixture
def database(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The store that runs are written to by default, empty."""
    path = tmp_path / "runs" / "mlflow" / "mlflow.db"
    path.parent.mkdir(parents=True)
    shutil.copy(empty_database, path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return f"sqlite:///{path}"


@pytest.fixture(scope="session")
def one_server(empty_database: Path) -> Iterator[Server]:
    """The server of all tests, whose start takes seconds: each test has runs of its own seed."""
    place = empty_database.parent / "server"
    place.mkdir()
    server = Server(Path(shutil.copy(empty_database, place / "mlflow.db")), place / "log")
    yield server
    server.stop()


@pytest.fixture
def server(one_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server that answers, which runs are written to by default."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", one_server.uri)
    one_server.start()
    return one_server
