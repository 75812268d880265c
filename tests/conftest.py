"""Every test trains on one thread, into a folder of its own, with the embedded corpus."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

torch.set_num_threads(1)

WITH_A_TARGET = ("browser", "latex")  # each installs what its tests need


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
