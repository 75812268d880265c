"""FLOPs of finished runs: by the final distribution of weights over layers, or by that at every step."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sparse_rnn.config.stored import run_from_dict
from sparse_rnn.core.files import write_json
from sparse_rnn.core.reading import read_cache
from sparse_rnn.core.shapes import misfit
from sparse_rnn.data.labels import dataset_name
from sparse_rnn.runs.folder import runs_root

from ..gathering import Planned
from ..sources.logs import LoggedRun

VERSION = 1
WITHIN_LAYERS = ("none", "gates", "gate_magnitude", "gate_gradient")  # redistributions that keep the size of layers
INTEGRATED = "flops_train_integrated"
PRUNING = ("alternating", "cubic", "cubic_regrowth", "elastic", "sigmoid_regrowth")  # schedules that change the density
COLUMNS = ("flops_train", "flops_test", INTEGRATED)
KEPT = "best/sparsity/"


class FlopsOfRuns:
    """FLOPs relative to the dense network of the table's largest model of the same kind on the same data.

    flops_train and flops_test follow the papers' convention: if a method moves weights between layers (DSR, SNFS) or
    finds its size itself (ISS), the final distribution counts for all of training. flops_train_integrated counts what
    was active at every step. What has to be counted from logs is kept in a file of `folder`.
    """

    def __init__(self, planned: Iterable[Planned], folder: Path | None = None) -> None:
        self._path = (folder or runs_root() / ".results") / "flops.json"
        self._dense: dict[tuple[str, str], dict[str, float]] = {}
        for run in planned:
            facts = run.facts
            dense = self._dense.setdefault(_kind(run), {"flops_train": 0.0, "flops_test": 0.0})
            dense["flops_train"] = max(dense["flops_train"], (facts.flops or 0.0) / facts.flops_train_ratio)
            dense["flops_test"] = max(dense["flops_test"], facts.flops_test / facts.flops_test_ratio)
        stored = read_cache(self._path)
        usable = stored.get("version") == VERSION and not misfit(stored.get("runs"), dict[str, dict[str, float]])
        self._changed = False
        self._known: dict[str, dict[str, float]] = stored["runs"] if usable else {}

    def ratio(self, column: str, planned: Planned, log: LoggedRun) -> float:
        """One of COLUMNS, relative to the dense model's; NaN if the size of the data is unknown."""
        dense = self._dense[_kind(planned)]["flops_test" if column == "flops_test" else "flops_train"]
        return self._counted(column, planned, log) / dense if dense else float("nan")

    @property
    def dense(self) -> Mapping[tuple[str, str], Mapping[str, float]]:
        """Dense FLOPs by model and data set: flops_train (0 if the size of the data is unknown) and flops_test."""
        return self._dense

    def _counted(self, column: str, planned: Planned, log: LoggedRun) -> float:
        method = planned.facts.config["sparsifier"]
        moves = method["name"] == "iss" or method["redistribution"] not in WITHIN_LAYERS
        prunes = method["schedule"] in PRUNING
        if not moves and not (prunes and column == INTEGRATED):
            return planned.facts.flops_test if column == "flops_test" else planned.facts.flops or float("nan")
        assert log.final is not None
        key = f"{log.run_id} {log.final['clock/finished']}"
        known = self._known.setdefault(key, {})
        if column not in known:
            known |= _count(log, over_time=column == INTEGRATED)
            self._changed = True
        return known[column]

    def save(self) -> None:
        """Keep what was counted for the next call."""
        if not self._changed:
            return
        with suppress(OSError):  # the file only saves time
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._path, {"version": VERSION, "runs": self._known})


def _kind(planned: Planned) -> tuple[str, str]:
    config = planned.facts.config
    return str(config["model"]["name"]), dataset_name(config["dataset"])


def _count(log: LoggedRun, *, over_time: bool) -> dict[str, float]:
    from sparse_rnn.runs.flops import mean_densities, run_flops  # imports torch

    run = run_from_dict(log.config)
    if over_time:
        return {INTEGRATED: run_flops(run, mean_densities(run, log.read())).train or float("nan")}
    flops = run_flops(run, _kept_densities(log.final or {}))
    return {"flops_train": flops.train or float("nan"), "flops_test": flops.test}


def _kept_densities(final: Mapping[str, Any]) -> dict[str, float]:
    """The density of each weight that was kept, without those of single gates and of the whole model."""
    named = {key.removeprefix(KEPT): value for key, value in final.items() if key.startswith(KEPT)}
    return {name: 1.0 - value for name, value in named.items() if "/" not in name and name != "model"}
