"""Runs from W&B's offline logs, each of one segment per process that trained it."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from sparse_rnn.core.progress import tracked
from sparse_rnn.runs.folder import RunFolder

from .log_index import LogIndex
from .logs import LoggedRun, Logs, check, joined, logged_run, place, refuse_renamed, skipped
from .wandb_file import NOTHING_YET, Segment, read_rows

# Below a folder of runs, in the folder of one run, and in one of W&B's own.
LAYOUTS = ("*/wandb/*run-*/run-*.wandb", "wandb/*run-*/run-*.wandb", "*run-*/run-*.wandb")
Segments = Mapping[str, Sequence[tuple[Path, Segment]]]


def load(folder: Path, wanted: Collection[str] | None = None) -> Logs:
    """All runs below a folder of runs, of one run, or of W&B. wanted: the only run ids whose files are opened.

    Other files and runs of another schema are skipped. A torn tail is a problem only if the run is not finished.
    """
    segments, problems = find_segments(folder, wanted)
    runs = {}
    for run_id, found in segments.items():
        try:
            runs[run_id] = run_of(found)
        except ValueError as reason:
            problems.append(skipped(found[-1][0], reason))
    torn = [segments[run_id][-1][0] for run_id, run in runs.items() if segments[run_id][-1][1].torn and not run.final]
    problems += [f"{path} ends within a record: its process was killed, or is still writing." for path in torn]
    return Logs(str(folder), runs, tuple(problems))


def find_segments(folder: Path, wanted: Collection[str] | None = None) -> tuple[Segments, list[str]]:
    """The segments of every run in the order in which they began, and a sentence for each that was skipped.

    An empty segment, left by a process that was killed at once, gets a sentence only if the run has no other.
    """
    index, problems, empty = LogIndex(folder), [], {}
    segments: dict[str, list[tuple[Path, Segment]]] = defaultdict(list)
    for path in tracked(list(_find(folder, wanted)), "reading logs"):
        try:
            segment = index.segment(path)
            check(segment.config)
            if segment.last is not None and "step" in segment.last:
                place(segment.last)
            refuse_renamed(RunFolder(path.parents[2]), segment.run_id)
        except (ValueError, OSError) as reason:
            if str(reason) == NOTHING_YET:
                empty[_named(path)] = skipped(path, reason)
            else:
                problems.append(skipped(path, reason))
        else:
            segments[segment.run_id].append((path, segment))
    index.save()
    for found in segments.values():
        found.sort(key=lambda each: (each[1].start, each[0]))
    return dict(sorted(segments.items())), [*problems, *(empty[run_id] for run_id in empty.keys() - segments.keys())]


def run_of(segments: Sequence[tuple[Path, Segment]]) -> LoggedRun:
    """The run that some segments make, given in the order in which they began."""
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


def _find(folder: Path, wanted: Collection[str] | None) -> Iterator[Path]:
    """The logs below a folder, or only those of some run ids, which the names of the files tell."""
    for layout in LAYOUTS:
        for path in sorted(folder.glob(layout)):
            if wanted is None or _named(path) in wanted:
                yield path


def _named(path: Path) -> str:
    """The run id that the name of a log tells."""
    return path.stem.removeprefix("run-")
