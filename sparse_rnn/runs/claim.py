"""The files of a run in the hands of the process that has just taken its lock."""

import shutil

from sparse_rnn.core.files import atomic, remove_drafts
from sparse_rnn.runs.folder import RunFolder


def claim(folder: RunFolder) -> None:
    """Keep the run's files from a process that has lost the lock and may be between its last look at it and a write.

    It finds its drafts gone, and the rows that it appends are those of a file without a name. Raises OSError.
    """
    for path in (folder.checkpoint, folder.best, folder.next_best, folder.record, folder.metrics, folder.vocabulary):
        remove_drafts(path)
    for draft in folder.snapshots.glob(".*tmp"):
        draft.unlink(missing_ok=True)
    if folder.metrics.is_file() and not folder.metrics.is_symlink():
        with atomic(folder.metrics) as draft:
            shutil.copyfile(folder.metrics, draft)
