"""What a job of this machine is given of the command that sent it, and not of the one that started the worker."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from launch.local import LocalQueue
from sparse_rnn.core.conf import SEARCH_PATH
from sparse_rnn.core.own_places import keep_places
from sparse_rnn.core.plugins import PLUGINS

ROOT = str(Path(__file__).parents[2])
JOB = """\
import json, os, sys, time, pathlib
folder = pathlib.Path(sys.argv[1])
folder.mkdir()
names = ("SPARSE_RNN_PLUGINS", "SPARSE_RNN_CONF", "PYTHONPATH")
(folder / "draft").write_text(json.dumps({name: os.environ.get(name) for name in names} | {"folder": os.getcwd()}))
(folder / "draft").rename(folder / "environment.json")
while not (folder.parent / "go").exists():
    time.sleep(0.02)
"""


def environment_of(folder: Path) -> dict:
    deadline = time.monotonic() + 60
    while not (folder / "environment.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return json.loads((folder / "environment.json").read_text())


@pytest.fixture
def queue(tmp_path):
    """A queue that starts one job after another, all alive until the test ends."""
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "runs").mkdir()
    yield LocalQueue(tmp_path / "runs", [sys.executable, str(tmp_path / "job.py")])
    (tmp_path / "runs" / "go").touch()


def test_each_job_has_those_of_its_own_command(queue, tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name / "conf").mkdir(parents=True)
    monkeypatch.setenv("PYTHONPATH", ROOT)
    monkeypatch.setenv(PLUGINS, "my_rules")
    monkeypatch.setenv(SEARCH_PATH, "conf")
    monkeypatch.chdir(tmp_path / "a")
    assert keep_places(["--config-dir", "../b/conf"]) == []
    queue.add([("first", [])], runs=2)
    first = environment_of(queue.root / "first")
    assert first[SEARCH_PATH].split(os.pathsep) == [str(tmp_path / "a" / "conf"), str(tmp_path / "b" / "conf")]
    assert first[PLUGINS] == "my_rules"
    assert first["PYTHONPATH"].split(os.pathsep) == [ROOT, first["folder"]] == [ROOT, str(tmp_path / "a")]
    monkeypatch.delenv(PLUGINS)
    monkeypatch.delenv(SEARCH_PATH)
    monkeypatch.setenv("PYTHONPATH", ROOT)
    monkeypatch.chdir(tmp_path / "b")
    assert keep_places([]) == []
    queue.add([("second", [])], runs=2)
    second = environment_of(queue.root / "second")
    assert (second[PLUGINS], second[SEARCH_PATH], second["PYTHONPATH"]) == (None, None, ROOT)
    assert second["folder"] == str(tmp_path / "b")
