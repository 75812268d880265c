"""The two checkpoints of a run, the newest and the one before: the first that is sound is resumed from."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sparse_rnn.core.errors import DamagedFile
from sparse_rnn.core.files import replace
from sparse_rnn.core.lock import confirm_lock
from sparse_rnn.runs.folder import RunFolder, keep_next_best
from sparse_rnn.runs.weights import are_weights_of
from sparse_rnn.training.checkpoint import load_checkpoint
from sparse_rnn.training.loggers.json_lines import check_rows

State = dict[str, Any]


def restore_newest(folder: RunFolder, restore: Callable[[State], None], *, read_only: bool) -> tuple[State | None, str]:
    """Call `restore` with the newest checkpoint that is sound, with its rows and best weights; make it the only one.

    Returns the checkpoint, None if there is none, and what is wrong with a newer one, empty if nothing is. read_only:
    no file is changed, and rows and weights are not looked at. Raises DamagedFile if there are checkpoints and none is
    sound, and OSError.
    """
    problems: list[DamagedFile] = []
    there = [path for path in (folder.checkpoint, folder.previous_checkpoint) if path.exists()]
    for path in there:
        try:
            saved = load_checkpoint(path)
            if saved is None:  # renamed meanwhile by the process that trains the run
                continue
            best = None if read_only else _check_companions(folder, saved)
            restore(saved)
        except DamagedFile as problem:
            problems.append(problem)
            continue
        if not read_only:
            _settle(folder, path, best)
        return saved, str(problems[0]) if problems else ""
    if problems:
        names = " and ".join(path.name for path in there)
        raise DamagedFile(f"{problems[0]}: remove {names} to restart the run.") from problems[0]
    if not read_only:
        _drop(folder.next_best)
    return None, ""


def _check_companions(folder: RunFolder, saved: State) -> Path | None:
    """The file of the best weights that a checkpoint knows of; raises DamagedFile if they, or its rows, are damaged."""
    try:
        rows, epoch, checksum = saved["metrics"], saved["state"]["best_epoch"], saved.get("best")
    except (KeyError, TypeError) as error:
        raise DamagedFile(f"{folder.checkpoint} is damaged or of another version") from error
    check_rows(folder.metrics, rows)
    if epoch == 0:
        return None
    # Without a checksum, as in older versions, the later file is the right one if its epoch is.
    for path in (folder.next_best, folder.best, folder.previous_best):
        if are_weights_of(path, epoch, checksum):
            return path
    raise DamagedFile(f"{folder.best} does not hold the weights of this run (epoch {epoch}), or is damaged")


def _settle(folder: RunFolder, checkpoint: Path, best: Path | None) -> None:
    """Give the checkpoint that is resumed from, and its best weights, their usual names.

    Later best weights are dropped: their epoch is trained again.
    """
    if checkpoint != folder.checkpoint:
        replace(checkpoint, folder.checkpoint)
    if best == folder.next_best:
        keep_next_best(folder)
    elif best == folder.previous_best:
        replace(best, folder.best)
    _drop(folder.next_best)


def _drop(file: Path) -> None:
    confirm_lock(file)
    file.unlink(missing_ok=True)
