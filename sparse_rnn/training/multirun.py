"""The runs of a multirun as its user tells them apart: in errors, and in the list at its end."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from sparse_rnn.config.compose import expand_shorthands
from sparse_rnn.config.composer import Composer
from sparse_rnn.config.differing import labels
from sparse_rnn.config.identity import as_dict, run_id
from sparse_rnn.config.schema import Run
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.hydra_errors import explain
from sparse_rnn.core.wording import counted, shown_metric
from sparse_rnn.runs.folder import RunFolder, has_results, read_record, runs_root
from sparse_rnn.training.asked_for import asked_for, without_machine

OF_HYDRA = ("hydra.", "hydra/")


def points(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of each run, in the order in which Hydra takes them; none if only Hydra itself knows them."""
    if not overrides:
        return []
    try:
        parsed = OverridesParser.create().parse_overrides(expand_shorthands(overrides))
        (batch,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    except (HydraException, ValueError):
        return []
    return [[each for each in point if not each.lstrip("+~").startswith(OF_HYDRA)] for point in batch]


def named(error: ConfigError, overrides: Sequence[str], run: Run | None) -> ConfigError:
    """The error with the run that it is of: its overrides, and its folder if it comes to have one."""
    asked = without_machine(asked_for(overrides, as_dict(run) if run else {}))
    try:
        folder = f" ({_folder(run)})" if run else ""
    except ConfigError:  # of data that cannot be read, whose content is a part of the id
        folder = ""
    return type(error)(f"{' '.join(asked) or 'The run'}{folder}: {error}")


def wrong_run(error: Exception, overrides: Sequence[Sequence[str]]) -> ConfigError | None:
    """What Hydra raised for all runs, as the error of the one that has it; None if no single run has."""
    composer = Composer()
    for point in overrides:
        try:
            composer.compose(point)
        except ConfigError as found:
            if str(found) == explain(error):
                return named(found, point, None)
    return None


def closing_lines(overrides: Sequence[Sequence[str]]) -> Iterator[str]:
    """A line for each run: what sets it apart from the others, its result, its folder."""
    if not overrides:
        return
    composer = Composer()
    runs = [_composed(composer, point) for point in overrides]
    configs = [as_dict(run) for run in runs if run]
    words = iter(labels(configs))
    shown = [next(words) if run else _own(point, overrides) for run, point in zip(runs, overrides, strict=True)]
    results = [_result(_folder(run)) if run else "refused" for run in runs]
    ended = sum(result.startswith("valid ") for result in results)
    yield f"{counted(len(overrides), 'run')}, {ended} finished:"
    widths = [max(map(len, column), default=0) for column in (shown, results)]
    for label, result, run in zip(shown, results, runs, strict=True):
        texts = [f"{text:<{width}}" for text, width in zip((label, result), widths, strict=True) if width]
        yield f"  {'  '.join([*texts, str(_folder(run)) if run else ''])}".rstrip()


def _composed(composer: Composer, point: Sequence[str]) -> Run | None:
    """The run of these overrides; None if there is none, which an error has said."""
    try:
        run = composer.compose(point)
        run_id(run)
    except ConfigError:
        return None
    return run


def _own(point: Sequence[str], overrides: Sequence[Sequence[str]]) -> str:
    """The overrides of a run that not all others have."""
    return " ".join(each for each in point if not all(each in other for other in overrides))


def _folder(run: Run) -> Path:
    return runs_root() / run_id(run)


def _result(folder: Path) -> str:
    """What a run came to, in a few words."""
    record: dict[str, Any] | None = read_record(RunFolder(folder))
    if record is None:
        return "not trained"
    if record["status"] != "finished" or not has_results(record):
        return str(record["status"])
    return " ".join(f"{split} {shown_metric(record['results'], split)}" for split in ("valid", "test"))
