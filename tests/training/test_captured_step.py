"""Recorded steps give the numbers of computed ones; CUDA graphs are stood in for by a recorder of this file."""

from collections.abc import Callable
from contextlib import nullcontext
from unittest.mock import Mock

import pytest
import torch
from run_helpers import Train, record_of, rows_of
from torch.optim import Optimizer

from sparse_rnn.optim import averaged_sgd
from sparse_rnn.optim.averaged_sgd import AveragedSGD
from sparse_rnn.training import assembly
from sparse_rnn.training.captured_step import WARM_UP, CapturedStep, CUDAGraphs
from sparse_rnn.training.step import TrainingStep

MASKED = "sparsifier.backend=masked"
METHODS = (
    "model=stacked_lstm optimizer=snt_asgd sparsifier=selfish",
    "model=stacked_lstm optimizer=snt_asgd sparsifier=rigl sparsifier.update_interval=7 training.variable_bptt=true",
    "model=stacked_lstm optimizer=snt_asgd sparsifier=selfish protocol=official_code",
    "model=stacked_lstm optimizer=adam sparsifier=snfs sparsifier.update_interval=7",
    "model=stacked_lstm sparsifier=iss",
    "model=rhn optimizer=nt_asgd sparsifier=dsr sparsifier.update_interval=7 training.clip=null",
    "model=rhn optimizer=momentum_sgd sparsifier=gmp sparsifier.prune_start=0",
    "model=on_lstm optimizer=snt_asgd sparsifier=set model.embedding=20 model.hidden=20",
    "model=awd_lstm_mos optimizer=snt_asgd sparsifier=selfish training.sub_batch=2 model.last_hidden=12",
)


class Repeats:
    """Records work as a function that does it again, on the same tensors and with new random numbers.

    What the host counts meanwhile is counted once, when the work is recorded, as by CUDA graphs.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer if isinstance(optimizer, AveragedSGD) else None
        self.recorded = self.replayed = 0

    def __call__(self, work: Callable[[], None]) -> Callable[[], None]:
        self.recorded += 1
        if self._optimizer is not None:
            self._optimizer.count_step()

        def replay() -> None:
            self.replayed += 1
            if self._optimizer is not None:
                self._optimizer.steps -= 1
            work()

        return replay


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> list[Repeats]:
    """The recorders of all runs, whose steps are all recorded."""
    made: list[Repeats] = []

    def captured(step: TrainingStep, nothing: None) -> CapturedStep:
        made.append(Repeats(step.optimizer))
        return CapturedStep(step, made[-1])

    monkeypatch.setattr(assembly, "choose_graph", lambda asked, device: True)
    monkeypatch.setattr(assembly, "CUDAGraphs", lambda device: None)
    monkeypatch.setattr(assembly, "CapturedStep", captured)
    return made


@pytest.fixture
def rates_are_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step reads its learning rate from a float32 tensor, as a recorded one does."""
    original = TrainingStep.__init__

    def with_tensors(self: TrainingStep, *arguments: object) -> None:
        original(self, *arguments)  # type: ignore[arg-type]
        self.read_rates_on_device()

    monkeypatch.setattr(TrainingStep, "__init__", with_tensors)


@pytest.mark.parametrize("method", METHODS)
def test_a_recorded_run_has_the_digest_of_a_computed_one(
    tiny: list[str],
    train_here: Train,
    rates_are_tensors: None,
    method: str,
    request: pytest.FixtureRequest,
) -> None:
    overrides = [*tiny, *method.split(), MASKED]
    computed = train_here(overrides, "computed")
    recorders: list[Repeats] = request.getfixturevalue("recorders")
    folder = train_here(overrides)
    assert rows_of(folder) == rows_of(computed)
    assert record_of(folder)["digest"] == record_of(computed)["digest"]
    (recorder,) = recorders
    assert recorder.replayed > recorder.recorded > 0


def test_a_recorded_run_folds_its_sums_as_a_computed_one(
    tiny: list[str],
    train_here: Train,
    rates_are_tensors: None,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.setattr(averaged_sgd, "FOLD", 7)
    overrides = [*tiny, *METHODS[0].split(), MASKED]
    computed = train_here(overrides, "computed")
    recorders: list[Repeats] = request.getfixturevalue("recorders")
    assert record_of(train_here(overrides))["digest"] == record_of(computed)["digest"]
    monkeypatch.setattr(averaged_sgd, "FOLD", 256)
    assert record_of(train_here(overrides, "without folds"))["digest"] != record_of(computed)["digest"]
    assert recorders[0].replayed > recorders[0].recorded > 0


def test_records_are_made_anew_once_averaging_has_begun(
    tiny: list[str], train_here: Train, recorders: list[Repeats]
) -> None:
    overrides = [*tiny, "optimizer=snt_asgd", "sparsifier=static_uniform", "training.clip=null", MASKED]
    folder = train_here(overrides)
    assert rows_of(folder)[-1]["averaging/trigger_epoch"] == 2
    # 15 windows an epoch, the last one of another length; four epochs, averaging in the last two.
    (recorder,) = recorders
    assert recorder.recorded == 3
    assert recorder.replayed == 4 * 15 - 2 * WARM_UP - 1, "the first step with averages is computed"


def test_a_pool_of_memory_is_not_used_again_once_its_graphs_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch counts the graphs of a pool, and refuses to record into one whose count has fallen to zero."""
    pools: list[object] = []

    class Graph:
        def replay(self) -> None: ...

    class Recording(nullcontext[None]):
        def __init__(self, graph: Graph, pool: object, **_: object) -> None:
            super().__init__()
            pools.append(pool)

    for name in ("Stream", "set_stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, Mock())
    for name, stand_in in {"CUDAGraph": Graph, "graph": Recording, "graph_pool_handle": object}.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    record = CUDAGraphs(torch.device("cuda", 0))
    kept = [record(lambda: None), record(lambda: None)]
    kept.clear()
    record(lambda: None)
    assert pools[0] is pools[1]
    assert pools[2] is not pools[1]


def test_dense_gradients_that_an_update_reads_are_computed_afresh(
    tiny: list[str], train_here: Train, recorders: list[Repeats]
) -> None:
    train_here(
        [*tiny, "sparsifier=rigl", "optimizer=adam", "training.epochs=2", "sparsifier.update_interval=5", MASKED]
    )
    (recorder,) = recorders
    assert recorder.replayed < 2 * 15 - WARM_UP - 5
