"""Runs from W&B's offline logs."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from results.sources.log_index import LogIndex
from results.sources.logs import LoggedRun, Logs, check, joined, logged_run
from results.sources.wandb_file import NOTHING_YET, Segment, read_rows
from sparse_rnn.runs.folder import RunFolder

LAYOUTS = ("*/wandb/*run-*/run-*.wandb", "wandb/*run-*/run-*.wandb", "*run-*/run-*.wandb")
Segments = Mapping[str, Sequence[tuple[Path, Segment]]]


def load(folder: Path, wanted: Collection[str] | None = None) -> Logs:
    """All runs below a folder of runs, of one run, or of W&B. wanted: the only run ids of interest, the files of others
    are not opened.

    A log that does not belong here is passed over. A torn tail is told of if the run is not finished.
    """
    segments, problems = find_segments(folder, wanted)
    runs = {run_id: run_of(found) for run_id, found in segments.items()}
    torn = [found[-1][0] for run_id, found in segments.items() if found[-1][1].torn and runs[run_id].final is None]
    problems += [f"{path} ends within a record: its process was killed, or still writes." for path in torn]
    return Logs(str(folder), runs, tuple(problems))


def find_segments(folder: Path, wanted: Collection[str] | None = None) -> tuple[Segments, list[str]]:
    """The segments of every run in the order in which they were begun, and a sentence for each that was passed over.

    An empty segment, of a process that was killed at once, is none worth a sentence where the run has others.
    """
    index, problems, empty = LogIndex(folder), [], {}
    segments: dict[str, list[tuple[Path, Segment]]] = defaultdict(list)
    for path in _find(folder, wanted):
        try:
            segment = index.segment(path)
            check(segment.config)
            _refuse_moved(path, segment.run_id)
        except (ValueError, OSError) as reason:
            sentence = f"{path} is passed over: {_sentence(reason)}."
            if str(reason) == NOTHING_YET:
                empty[_named(path)] = sentence
            else:
                problems.append(sentence)
        else:
            segments[segment.run_id].append((path, segment))
    index.save()
    for found in segments.values():
        found.sort(key=lambda each: (each[1].start, each[0]))
    return dict(sorted(segments.items())), [*problems, *(empty[run_id] for run_id in empty.keys() - segments.keys())]


def run_of(segments: Sequence[tuple[Path, Segment]]) -> LoggedRun:
    """The run that some segments make."""
    paths, (newest, latest) = [path for path, _ in segments], segments[-1]
    ends = joined([[segment.last] for _, segment in segments if segment.last is not None])
    return logged_run(
        latest.run_id,
        latest.config,
        ends[-1] if ends else None,
        failed=latest.exit_code not in (None, 0),
        link=str(newest.parent),
        read=lambda: joined(map(read_rows, paths)),
    )


def _refuse_moved(path: Path, run_id: str) -> None:
    """Raise ValueError for the log of a run whose folder was given another name, to train it anew."""
    folder = RunFolder(path.parents[2])
    if folder.record.exists() and folder.path.resolve().name != run_id:
        raise ValueError(f"its folder is not called {run_id}")


def _find(folder: Path, wanted: Collection[str] | None) -> Iterator[Path]:
    """The logs below a folder, or only those of some run ids: the name of a log tells."""
    for layout in LAYOUTS:
        for path in sorted(folder.glob(layout)):
            if wanted is None or _named(path) in wanted:
                yield path


def _named(path: Path) -> str:
    """The run id that the name of a log tells."""
    return path.stem.removeprefix("run-")


def _sentence(reason: Exception) -> str:
    return str(reason) if isinstance(reason, ValueError) else f"it cannot be read ({reason})"
