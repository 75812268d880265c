"""How many parameters a sparse network needs to match the dense one (Selfish-RNN section 5.4 and appendix F)."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pandas as pd

from sparse_rnn.core.metrics import is_share
from sparse_rnn.data.labels import dataset_name
from sparse_rnn.tables.declaration import Block, Row

from ..gathering import Gathered
from .points import COLUMNS, EPSILON, SPARSITY


def crossings(gathered: Gathered, data: pd.DataFrame) -> pd.DataFrame:
    """Where each curve over sparsity crosses the line of its dense model: one line per curve that does, see `crossing`.

    The columns are those of `points`, whose result `data` is; `metric` ends in `, as good as dense`.
    """
    found = []
    for block, row, curve, dense in _compared(gathered, data):
        metric = str(curve["metric"].iloc[0])
        sign = -1.0 if is_share(metric) else 1.0
        sparsity = crossing(curve["sparsity"].tolist(), (sign * curve["mean"]).tolist(), sign * dense)
        if sparsity is not None:
            counts = int(curve["finished"].sum()), int(curve["planned"].sum())
            matched = f"{metric}, as good as dense"
            found.append((block.label, row.label, math.nan, sparsity, matched, dense, math.nan, *counts))
    return pd.DataFrame(found, columns=list(COLUMNS))


def shares(gathered: Gathered, data: pd.DataFrame, matches: pd.DataFrame) -> Iterator[str]:
    """A sentence per panel whose curves can be compared with dense: the share of parameters that matches it.

    matches: as `crossings` returns them for `data`.
    """
    said: dict[str, list[str]] = {}
    for block, row, curve, _ in _compared(gathered, data):
        found = matches[(matches["panel"] == block.label) & (matches["row"] == row.label)]["sparsity"].tolist()
        if found:
            words = f"{'at most ' if found[0] == curve['sparsity'].max() else ''}{1 - found[0]:.0%}"
        else:
            words = f"more than {1 - curve['sparsity'].min():.0%}"
        said.setdefault(block.label, []).append(f"{row.label} {words}")
    for label, each in said.items():
        yield f"{label}: share of the parameters with which it is as good as dense: {', '.join(each)}."


def _compared(gathered: Gathered, data: pd.DataFrame) -> Iterator[tuple[Block, Row, pd.DataFrame, float]]:
    """The finished part of each curve over sparsity, with the mean of its dense runs."""
    for block, row, dense in pairs(gathered):
        own = data[data["panel"] == block.label]
        curve, reference = own[own["row"] == row.label], own[own["row"] == dense.label]["mean"]
        if len(curve) and len(reference) and math.isfinite(reference.iloc[0]):
            yield block, row, curve, float(reference.iloc[0])


def pairs(gathered: Gathered) -> Iterator[tuple[Block, Row, Row]]:
    """Block, curve over sparsity, and the line of the dense network of the same model and data."""
    configs = {(run.block, run.row): run.facts.config for run in gathered.planned}
    for block in gathered.spec.blocks:
        if block.x is None or block.x.key not in (SPARSITY, EPSILON):
            continue
        of = {row: configs[block.label, row.label] for row in block.rows if not row.reported}
        for row, config in of.items():
            for dense, other in of.items():
                alike = config["model"]["name"] == other["model"]["name"]
                alike = alike and dataset_name(config["dataset"]) == dataset_name(other["dataset"])
                if alike and dense.line and not row.line and other["sparsifier"]["name"] == "dense":
                    yield block, row, dense


def crossing(sparsities: Sequence[float], perplexities: Sequence[float], dense: float) -> float | None:
    """The highest sparsity at which the perplexity, interpolated linearly between the points, is at most `dense`.

    If there are several crossings, it is that with the fewest parameters. If the last point is still as good as dense,
    it is the sparsity of that point, a lower bound. None if no point is as good. Points that are NaN are left out.
    Between a finite point and an infinite one, the crossing is at the finite one.
    """
    points = sorted((s, p) for s, p in zip(sparsities, perplexities, strict=True) if p == p)
    if points and points[-1][1] <= dense:
        return points[-1][0]
    for (left, low), (right, high) in reversed(list(pairwise(points))):
        if low <= dense < high:
            return left + (right - left) * (dense - low) / (high - low)
    return None
