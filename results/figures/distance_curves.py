"""Figures 4, 8 and 9: topological distance over the epochs, from a network to its own past or between two networks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from sparse_rnn.core.command_line import warn
from sparse_rnn.core.progress import tracked
from sparse_rnn.runs.folder import RunFolder, runs_root
from sparse_rnn.tables.declaration import Block

from ..gathering import Gathered, Planned
from ..sources.logs import LoggedRun
from .distance import distances
from .panels import by_block, drawing
from .snapshots import DamagedSnapshot, epochs, read
from .style import Drawing, empty, line

BEGIN = 5  # appendix J: alignment starts at the 5th epoch, when the model has learned something
COLUMNS = ("panel", "first", "first_epoch", "second", "second_epoch", "weight", "distance", "chance")
CHANCE: Mapping[str, Any] = {
    "color": "0.3",
    "linestyle": (0, (6, 3)),
    "linewidth": 1.2,
    "zorder": 3,
    "label": "chance",
}

MARKS = 12  # on a curve, approximately
Line = tuple[str, int, str, int, str, float, float]


@dataclass(frozen=True)
class Compared:
    """What a panel shows: one line per epoch and weight, or `words` that say why there are none.

    notes: for below the figure. strangers: whether the networks had different initializations.
    """

    title: str
    lines: tuple[Line, ...] = ()
    words: str = ""
    notes: tuple[str, ...] = ()
    strangers: bool = False

    @property
    def data(self) -> pd.DataFrame:
        """The lines as a frame with the columns COLUMNS."""
        return pd.DataFrame([(self.title, *each) for each in self.lines], columns=list(COLUMNS))


def draw(gathered: Gathered) -> Drawing:
    """One panel per block: with a single seed a run against its own past, otherwise the block's first two runs.

    Curves begin at epoch 5, or at the first snapshot if training was too short. Snapshots that cannot be
    read leave their panel empty, with a warning; raises ConfigError for those that cannot be compared.
    """
    compared = [_compared(gathered, block) for block in gathered.spec.blocks]
    figure, axes = by_block(gathered.spec)
    for each in compared:
        _draw(axes[each.title], each)
    data = pd.concat([each.data for each in compared], ignore_index=True)
    notes = [note for each in compared for note in each.notes]
    return drawing(gathered, figure, data, [*notes, *_what_to_know(compared, data)])


def _what_to_know(compared: Sequence[Compared], data: pd.DataFrame) -> Iterator[str]:
    if any(each.strangers for each in compared):
        yield "Dimensions of different embeddings are not matched: ih1 is at chance by that alone."
    if len(data):
        levels = dict.fromkeys(f"{level:.2f}" for level in (data["chance"].min(), data["chance"].max()))
        yield f"Chance, {' to '.join(levels)}: independent random masks with the same density in every gate."


def _compared(gathered: Gathered, block: Block) -> Compared:
    """The runs of a block, compared; or the words for why they cannot be."""
    alone = len(block.seeds or gathered.spec.seeds) == 1
    wanted = [run for run in gathered.planned if run.block == block.label][: 1 if alone else 2]
    if not alone and len(wanted) == 1:
        return Compared(block.label, words="a pair of runs\nneeds two seeds")
    if missing := [run.run_id for run in wanted if run in gathered.missing]:
        return Compared(
            block.label, words="no finished run", notes=(f"{block.label}: not finished: {', '.join(missing)}.",)
        )
    folders = [_snapshots(run) for planned in wanted if (run := gathered.run(planned))]
    if missing := [folder.parent.name for folder in folders if not epochs(folder)]:
        notes = (f"{block.label}: no snapshots here of {', '.join(missing)}; draw it where the runs were trained.",)
        return Compared(block.label, words="no snapshots", notes=notes)
    try:
        return _over_time(block.label, folders[0]) if alone else _pair(block.label, folders, wanted)
    except DamagedSnapshot as error:
        warn(str(error))
        return Compared(block.label, words="damaged snapshots")


def _snapshots(run: LoggedRun) -> Path:
    """The folder of a run's snapshots: below its log if the log is on disk, otherwise where runs live."""
    above = [Path(run.link), *Path(run.link).parents]
    homes = [path for path in above if path.name == run.run_id and path.is_dir()]
    return RunFolder(homes[0] if homes else runs_root() / run.run_id).snapshots


def _over_time(title: str, folder: Path) -> Compared:
    stored = epochs(folder)
    begin = _begin(stored)
    reference = read(folder, begin)
    lines = [
        (folder.parent.name, begin, folder.parent.name, epoch, each.weight, each.value, each.chance)
        for epoch in tracked([epoch for epoch in stored if epoch >= begin], "comparing snapshots")
        for each in distances(reference, read(folder, epoch))
    ]
    return Compared(title, tuple(lines), notes=(f"{title}: distance to epoch {begin}{_instead(begin)}.",))


def _pair(title: str, folders: Sequence[Path], runs: Sequence[Planned]) -> Compared:
    stored = sorted(set.intersection(*(set(epochs(folder)) for folder in folders)))
    if not stored:
        return Compared(title, words="no epoch of which both\nhave snapshots")
    begin = _begin(stored)
    lines = tuple(_of_pair(folders, [epoch for epoch in stored if epoch >= begin]))
    seeds = " and ".join(str(run.seed) for run in runs)
    notes = (f"{title}: seeds {seeds}, from epoch {begin}{_instead(begin)}.",)
    return Compared(title, lines, notes=notes, strangers=len({run.facts.config["init_seed"] for run in runs}) > 1)


def _of_pair(folders: Sequence[Path], common: Sequence[int]) -> Iterator[Line]:
    first, second = folders
    for epoch in tracked(common, "comparing snapshots"):
        for each in distances(read(first, epoch), read(second, epoch)):
            yield first.parent.name, epoch, second.parent.name, epoch, each.weight, each.value, each.chance


def _begin(stored: Sequence[int]) -> int:
    """Where a curve begins; `stored` are epochs in order."""
    return BEGIN if BEGIN in stored[:-1] else stored[0]


def _instead(begin: int) -> str:
    return "" if begin == BEGIN else f" instead of {BEGIN}, of which there is no snapshot"


def _draw(axes: Axes, compared: Compared) -> None:
    if not compared.lines:
        empty(axes, compared.words)
        return
    data = compared.data
    for number, (weight, own) in enumerate(data.groupby("weight", sort=False)):
        every = max(1, len(own) // MARKS)
        axes.plot(own["second_epoch"], own["distance"], label=str(weight), markevery=every, **line(number))
    chance = data.groupby("second_epoch")["chance"].mean()
    axes.plot(chance.index, chance, **CHANCE)
    axes.set(xlabel="epoch", ylabel="topological distance", ylim=(0, 1.02))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
