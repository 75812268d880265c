"""Fixtures of the tests on a GPU."""

import os
from pathlib import Path

import pytest
import torch
from device_runs import Runs

from sparse_rnn.core.device import CUBLAS_WORKSPACE, set_up_device

os.environ.setdefault(*CUBLAS_WORKSPACE)  # before the first product of the process, for the runs that repeat bits


def pytest_collection_modifyitems(config, items):
    """Without a GPU, one skipped test speaks for all of them."""
    own = [item for item in items if item.path.parent == Path(__file__).parent]
    if own and not torch.cuda.is_available():
        own[0].add_marker(pytest.mark.skip(reason=f"torch finds no GPU here, which all {len(own)} of tests/cuda need"))
        items[:] = [item for item in items if item is own[0] or item not in own]
        config.hook.pytest_deselected(items=own[1:])


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Trains runs in this process, each into a folder of its own."""
    return Runs(tmp_path, monkeypatch)


@pytest.fixture(autouse=True)
def _switches_of_one_test(request):
    """What a run switches holds for the process: precision and determinism go back to fp32 and off.

    After an error that leaves the GPU unusable, as an invalid memory access does, the other tests are not run.
    """
    yield
    if not torch.cuda.is_available():
        return
    try:
        torch.cuda.synchronize()
        set_up_device(torch.device("cuda", torch.cuda.current_device()), "fp32", deterministic=False)
    except RuntimeError as error:
        request.session.shouldstop = f"this process can use the GPU no longer: {str(error).splitlines()[0]}"
