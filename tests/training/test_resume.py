"""A run that is stopped at any kind of moment resumes bit for bit."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from run_helpers import Train, folder_of, record_of, rows_of
from safetensors import safe_open
from stopping import LAST, stop_at

from sparse_rnn.runs.folder import RunFolder
from sparse_rnn.training import session, trainer
from sparse_rnn.training.checkpoint import load_checkpoint

MOMENTS = (
    ("train", 1, 1),
    ("train", 1, 7),  # a topology update of update_interval=7
    ("train", 1, 8),
    ("train", 1, LAST),
    ("valid", 1, 2),
    ("train", 2, 1),  # the first step after an update of update_interval=epoch
    ("train", 2, LAST),
    ("valid", 2, 1),  # just before averaging begins
    ("train", 3, 1),  # just after
    ("train", 4, LAST),
    ("valid", 4, 3),
    ("test", 5, 4),
)
METHODS = (
    "model=stacked_lstm optimizer=snt_asgd sparsifier=selfish",
    "model=stacked_lstm optimizer=snt_asgd sparsifier=gmp sparsifier.update_interval=7 sparsifier.prune_start=0",
    "model=stacked_lstm optimizer=nt_asgd sparsifier=snfs",
    "model=stacked_lstm optimizer=adam sparsifier=rigl training.variable_bptt=true",
    "model=stacked_lstm optimizer=adam sparsifier=snfs sparsifier.update_interval=7",
    "model=stacked_lstm optimizer=momentum_sgd sparsifier=dsr",
    "model=rhn optimizer=snt_asgd sparsifier=rigl sparsifier.update_interval=7",
    "model=rhn optimizer=nt_asgd sparsifier=dsr sparsifier.update_interval=7 training.variable_bptt=true",
    "model=rhn optimizer=adam sparsifier=gmp sparsifier.prune_start=0",
    "model=rhn optimizer=momentum_sgd sparsifier=selfish protocol=official_code",
    "model=stacked_lstm optimizer=snt_asgd sparsifier=selfish sparsifier.backend=sparse",
    "model=stacked_lstm optimizer=adam sparsifier=snfs sparsifier.update_interval=7 sparsifier.backend=sparse",
    "model=rhn optimizer=snt_asgd sparsifier=rigl sparsifier.backend=sparse",
    "model=stacked_lstm optimizer=snt_asgd sparsifier=snip sparsifier.backend=sparse",
    "model=rhn optimizer=momentum_sgd sparsifier=dsr training.variable_bptt=true sparsifier.backend=sparse",
)


def same(one: Any, other: Any, path: str = "") -> None:
    """Assert that two states are equal bit for bit, except for what the clock says."""
    if path.endswith(("seconds']", "['metrics']")):
        return
    assert type(one) is type(other), path
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), path
    elif isinstance(one, Mapping):
        assert one.keys() == other.keys(), path
        for key in one:
            same(one[key], other[key], f"{path}[{key!r}]")
    elif isinstance(one, Sequence) and not isinstance(one, str):
        assert len(one) == len(other), path
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            same(a, b, f"{path}[{i}]")
    else:
        assert one == other, path


def stored(folder: RunFolder) -> dict[str, Any]:
    """All that best.safetensors holds."""
    with safe_open(folder.best, framework="pt") as best:
        return {name: best.get_tensor(name) for name in best.keys()} | {"metadata": best.metadata()}  # noqa: SIM118


def assert_equal_runs(folder: RunFolder, undisturbed: RunFolder) -> None:
    same(load_checkpoint(folder.checkpoint), load_checkpoint(undisturbed.checkpoint))
    assert rows_of(folder) == rows_of(undisturbed)
    assert record_of(folder)["digest"] == record_of(undisturbed)["digest"]
    same(stored(folder), stored(undisturbed))


@pytest.mark.parametrize("method", METHODS)
def test_stopped_at_every_kind_of_moment(
    tiny: list[str], train_here: Train, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    overrides = [*tiny, *method.split(), "checkpoint.keep=last", "checkpoint.every_minutes=1000"]
    undisturbed = train_here(overrides, "undisturbed")
    for moment in MOMENTS:
        stop_at(monkeypatch, train_here, overrides, moment)
    folder = train_here(overrides)
    assert_equal_runs(folder, undisturbed)
    if "asgd" in method:
        averaged = [row["averaging/evaluated"] for row in rows_of(folder) if "valid/loss" in row]
        assert averaged == [0, 0, 1, 1]


class Crash(BaseException):
    """What nothing expects."""


@pytest.mark.parametrize("write", ["save_tensors", "save_checkpoint", "digest", "keep_finished"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_gone_around_a_write(
    tiny: list[str], train_here: Train, monkeypatch: pytest.MonkeyPatch, write: str, when: str
) -> None:
    overrides = [*tiny, "sparsifier=rigl", "checkpoint.keep=last"]
    undisturbed = train_here(overrides, "undisturbed")
    module = session if hasattr(session, write) else trainer
    original = getattr(module, write)
    calls = 0

    def crashing(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if when == "before" and calls > 1:
            raise Crash
        result = original(*arguments, **named)
        if when == "after":
            raise Crash
        return result

    calls = 1 if module is session else 0
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(module, write, crashing)
            with pytest.raises(Crash):
                train_here(overrides)
    assert_equal_runs(train_here(overrides), undisturbed)


def test_other_threads_are_warned_of(
    tiny: list[str], train_here: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stop_at(monkeypatch, train_here, tiny, ("train", 4, 14))
    capsys.readouterr()
    folder = train_here([*tiny, "threads=2"])
    said = capsys.readouterr().out
    assert "warning: this run started with threads=1 and resumes with 2" in said
    assert "Resuming after step 59." in said
    assert record_of(folder)["threads"] == 2
    assert record_of(folder)["status"] == "finished"


def test_metrics_shorter_than_the_checkpoint_says_are_refused(
    tiny: list[str], root: Any, train_here: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(monkeypatch, train_here, tiny, ("train", 2, 3))
    folder = folder_of(tiny, root)
    folder.metrics.write_bytes(folder.metrics.read_bytes()[:50])
    with pytest.raises(session.ConfigError, match=r"has lost rows: remove checkpoint\.pt"):
        train_here(tiny)
    assert folder.metrics.stat().st_size == 50
