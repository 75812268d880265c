"""Event files of TensorBoard, read back by its own EventAccumulator."""

import json
import time
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from run_helpers import VARYING, Train, composed, folder_of, record_of, rows_of
from stopping import stop_at

from sparse_rnn.config.identity import as_dict, identity
from sparse_rnn.config.stored import flat
from sparse_rnn.core.errors import RunFailed
from sparse_rnn.runs.folder import RunFolder
from sparse_rnn.training import session
from sparse_rnn.training.loggers import opening
from sparse_rnn.training.snapshots import read_masks
from sparse_rnn.training.trainer import Trainer

tensorboard = pytest.importorskip("sparse_rnn.training.loggers.tensorboard", exc_type=ModuleNotFoundError)

LOGGED = "logger=tensorboard"
METRICS = ("loss", "perplexity")
LARGEST_SIDE = 40  # of a picture: the weights have more rows, and fewer columns


class Crash(BaseException):
    """The end of a process, with nothing saved."""


def events_of(folder: RunFolder) -> Any:
    """All that TensorBoard finds in the folder of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    everything = {"scalars": 0, "histograms": 0, "images": 0}
    found = EventAccumulator(str(folder.path / "tensorboard"), everything)
    found.Reload()
    return found


def rows_in(events: Any) -> list[tuple[int, str, float]]:
    """Every value as step, key and value, of whatever does not depend on the clock."""
    keys = [key for key in events.Tags()["scalars"] if not key.startswith(VARYING)]
    return sorted((each.step, key, each.value) for key in keys for each in events.Scalars(key))


def values_of(folder: RunFolder) -> list[tuple[int, str, float]]:
    """The same out of metrics.jsonl; TensorBoard keeps numbers in single precision."""
    rows = rows_of(folder)
    values = [(row["step"], key, value) for row in rows for key, value in row.items() if key != "step"]
    return sorted((step, key, pytest.approx(value, rel=1e-6)) for step, key, value in values)


def hyperparameters(events: Any, tag: str) -> Any:
    """One of the three parts that the plugin reads."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    return HParamsPluginData.FromString(events.PluginTagToContent("hparams")[f"_hparams_/{tag}"])


@pytest.fixture(scope="module")
def logged(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A finished run with snapshots, and what TensorBoard reads of it."""
    overrides = [*tiny, LOGGED, "snapshots=true", "snapshots.tokens=20", "training.epochs=2"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensorboard, "LARGEST_SIDE", LARGEST_SIDE)
        patch.setenv("SPARSE_RNN_RUNS", str(tmp_path_factory.mktemp("runs")))
        session.train(composed(overrides), overrides)
        folder = folder_of(overrides, session.runs_root())
    return SimpleNamespace(folder=folder, events=events_of(folder), run=composed(overrides))


def test_every_row_is_there_by_step(logged: SimpleNamespace) -> None:
    assert rows_in(logged.events) == values_of(logged.folder)


def test_densities_of_gates_are_histograms(logged: SimpleNamespace) -> None:
    epochs = [row for row in rows_of(logged.folder) if "valid/loss" in row]
    gates = {"input", "forget", "cell", "output"}
    assert set(logged.events.Tags()["histograms"]) == {f"density/{gate}" for gate in gates | {"gates"}}
    for gate in gates:
        found = logged.events.Histograms(f"density/{gate}")
        assert [each.step for each in found] == [row["step"] for row in epochs]
        for each, row in zip(found, epochs, strict=True):
            densities = [1 - value for key, value in row.items() if key.endswith(f"/{gate}")]
            histogram = each.histogram_value
            assert (histogram.num, histogram.sum) == (len(densities), pytest.approx(sum(densities)))
            assert (histogram.min, histogram.max) == pytest.approx((min(densities), max(densities)))
    assert logged.events.Histograms("density/gates")[0].histogram_value.num == 16


def test_a_picture_of_every_mask_in_every_epoch(logged: SimpleNamespace) -> None:
    masks = dict(read_masks(logged.folder.snapshots, 2))
    assert set(logged.events.Tags()["images"]) == {f"mask/{name}" for name in masks}
    for name, mask in masks.items():
        first, second = logged.events.Images(f"mask/{name}")
        assert first.step < second.step
        rows, columns = mask.shape
        assert (second.width, second.height) == (min(columns, LARGEST_SIDE), min(rows, LARGEST_SIDE))
        shades = Image.open(BytesIO(second.encoded_image_string)).convert("L")
        assert np.asarray(shades).mean() / 255 == pytest.approx(mask.float().mean().item(), abs=0.01)


def test_the_hyperparameters_plugin(logged: SimpleNamespace) -> None:
    settings = dict(flat(identity(as_dict(logged.run))))
    begin = hyperparameters(logged.events, "session_start_info").session_start_info.hparams
    assert set(begin) == set(settings)
    assert begin["model.hidden"].number_value == 16
    assert begin["sparsifier.name"].string_value == "selfish"
    named = hyperparameters(logged.events, "experiment").experiment.metric_infos
    tags = {metric.name.tag for metric in named}
    assert tags == {f"{place}{name}" for place in ("valid/", "best/valid/", "best/test/") for name in METRICS}
    assert tags <= set(logged.events.Tags()["scalars"])
    from tensorboard.plugins.hparams.api_pb2 import Status

    end = hyperparameters(logged.events, "session_end_info").session_end_info
    assert end.status == Status.Value("STATUS_SUCCESS")


def test_a_run_that_stops_and_crashes_has_no_step_twice(
    tiny: list[str], train_here: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [*tiny, LOGGED, "training.epochs=6", "checkpoint.every_minutes=1000", "sparsifier=rigl"]
    undisturbed = train_here([*overrides, "logger=files"], "undisturbed")
    stop_at(monkeypatch, train_here, overrides, ("train", 2, 3))
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "log_epoch", crashing_in(4, Trainer.log_epoch))
        with pytest.raises(Crash):
            train_here(overrides)
    began = time.time()
    events = events_of(folder := train_here(overrides))
    assert rows_in(events) == values_of(folder)
    assert len(list((folder.path / "tensorboard").iterdir())) == 1
    assert [event.wall_time < began for event in events.Scalars("valid/loss")] == [True] + 5 * [False]
    assert record_of(folder)["digest"] == record_of(undisturbed)["digest"]


def crashing_in(epoch: int, original: Any) -> Any:
    """A method of the trainer that ends the process, with nothing saved, once it has done its work in an epoch."""

    def method(self: Trainer, *arguments: Any) -> Any:
        original(self, *arguments)
        if self.state.epoch == epoch:
            raise Crash

    return method


def test_rows_from_before_tensorboard_was_asked_for_are_there_too(
    tiny: list[str], train_here: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(monkeypatch, train_here, tiny, ("train", 3, 1))
    folder = train_here([*tiny, LOGGED])
    assert rows_in(events_of(folder)) == values_of(folder)


def test_a_failure_while_training_is_one_warning(
    tiny: list[str], train_here: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from torch.utils.tensorboard import SummaryWriter

    plain = record_of(train_here([*tiny, "logger=files"], "plain"))

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SummaryWriter, "add_histogram", fail)
    folder = train_here([*tiny, LOGGED])
    assert record_of(folder)["digest"] == plain["digest"]
    warning = "warning: TensorBoard has failed ([Errno 28] No space left on device); metrics.jsonl has every row."
    assert [line for line in capsys.readouterr().err.splitlines() if "TensorBoard" in line] == [warning]


def test_a_file_in_the_place_of_the_folder_stops_the_run(tiny: list[str], root: Path) -> None:
    folder = folder_of(tiny, root)
    folder.path.mkdir(parents=True)
    (folder.path / "tensorboard").write_text("here first")
    with pytest.raises(RunFailed, match="tensorboard cannot be used"):
        session.train(composed([*tiny, LOGGED]), tiny)
    assert json.loads(folder.record.read_text())["status"] == "failed"


@pytest.mark.parametrize("package", ["tensorboard", "mlflow"])
def test_a_missing_package_stops_the_run(
    package: str, tiny: list[str], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError) as caught:
        session.train(composed([*tiny, f"logger={package}"]), tiny)
    assert caught.value.name == package
    assert not root.exists()
