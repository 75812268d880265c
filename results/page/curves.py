"""What the page draws of each run: validation, training and the density of the gates, by epoch."""

import json
import math
from collections.abc import Iterable, Sequence
from statistics import fmean as mean
from typing import Any

from markupsafe import Markup

from sparse_rnn.core.command_line import warn_of
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.metrics import metric_of
from sparse_rnn.core.progress import tracked
from sparse_rnn.runs.rows import gate_densities

from ..figures.gate_sparsity import place_of
from ..sources.logs import BEST, LoggedRun, Logs

DIGITS = 5  # significant ones: a page may have a thousand runs


def as_json(logs: Logs) -> Markup:
    """The curves of every run that has an epoch, by id, for a script element of the page."""
    curves, problems = {}, []
    for run in tracked(logs.runs.values(), "reading curves"):
        try:
            if found := _curves(run):
                curves[run.run_id] = found
        except ConfigError as error:
            problems.append(str(error))
    warn_of(problems)
    # No `<` of a text may end the element.
    return Markup(json.dumps(curves, separators=(",", ":")).replace("<", "\\u003c"))


def _curves(run: LoggedRun) -> dict[str, Any]:
    """`metric`, in words; `epochs`; and a value, or null, for each: `valid`, `train`, and `gates` by gate."""
    rows = [row for row in run.read() if "valid/loss" in row and f"{BEST}valid/loss" not in row]
    if not rows:
        return {}
    metric = metric_of(rows[-1], "valid/")
    densities = [{gate: mean(values) for gate, values in gate_densities(row).items()} for row in rows]
    return {
        "metric": metric.words,
        "share": metric.is_share,
        "epochs": [int(row["epoch"]) for row in rows],
        "valid": _values(row.get(f"valid/{metric.name}") for row in rows),
        "train": _values(row.get(f"train/{metric.name}") for row in rows),
        "gates": {gate: _values(each.get(gate) for each in densities) for gate in sorted(densities[-1], key=place_of)},
    }


def _values(values: Iterable[Any]) -> Sequence[float | None]:
    return [float(f"{v:.{DIGITS}g}") if isinstance(v, int | float) and math.isfinite(v) else None for v in values]
