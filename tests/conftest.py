"""Every test trains on one thread, into a folder of its own, with the embedded corpus and the same draws each time."""

import os
from functools import cache
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("SPARSE_RNN_PLUGINS", None)  # the tests are of what is here
os.environ.pop("SPARSE_RNN_CONF", None)
if not os.environ.get("SPARSE_RNN_CUDA_TEST"):  # `make test-cuda` tests a device; all other tests are of the CPU
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["TRITON_INTERPRET"] = "1"

import pytest
import torch

torch.set_num_threads(1)

WITH_A_TARGET = ("browser", "cuda", "latex", "loggers", "portability")  # each needs what not every machine has


def pytest_collection_modifyitems(items):
    for item in items:
        folder = item.path.parent
        if folder.parent == Path(__file__).parent and folder.name in WITH_A_TARGET:
            item.add_marker(folder.name)
            if not os.environ.get(f"SPARSE_RNN_{folder.name.upper()}_TEST"):
                item.add_marker(pytest.mark.skip(reason=f"`make test-{folder.name}` runs these tests"))


@pytest.fixture(autouse=True)
def _own_runs_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSE_RNN_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("WANDB_SILENT", "true")


@pytest.fixture(autouse=True)
def _the_same_draws_each_time():
    """A gradient that happens to cancel would fail a relative tolerance once in some twenty runs of all tests."""
    torch.manual_seed(1)


@pytest.fixture(scope="module")
def compose():
    """What `expand` asks of a composer; the whole configuration is kept as well, as `run`."""
    from sparse_rnn.config.composer import Composer
    from sparse_rnn.config.identity import as_dict, run_id

    composer = Composer()

    def facts_of(overrides):
        run = composer.compose(overrides)
        return SimpleNamespace(run=run, run_id=run_id(run), config=as_dict(run))

    return facts_of


@pytest.fixture(scope="module")
def planned_of(compose):
    """All runs of a table, expanded once."""
    from sparse_rnn.tables.declaration import load
    from sparse_rnn.tables.expansion import expand

    return cache(lambda name: expand(load(name), compose))
