"""What W&B may read from the environment: who asks, and which server, but not which run."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

# W&B 0.31 takes any of its some 150 settings from a variable WANDB_<NAME>. WANDB_SWEEP_ID or WANDB_LAUNCH gives a run a
# random id, WANDB_X_SYNC_DIR_SUFFIX another folder, WANDB_RESUME another mode: what is not listed here is hidden.
KEPT = {
    f"WANDB_{name}"
    for name in (
        *("API_KEY", "IDENTITY_TOKEN_FILE", "CREDENTIALS_FILE", "ENTITY", "ORGANIZATION", "USERNAME", "USER_EMAIL"),
        *("BASE_URL", "APP_URL", "INSECURE_DISABLE_SSL", "HTTP_TIMEOUT", "FILE_PUSHER_TIMEOUT", "INIT_TIMEOUT"),
        *("CONFIG_DIR", "CACHE_DIR", "DATA_DIR", "ERROR_REPORTING", "DISABLE_GIT", "SILENT", "QUIET", "NOTES"),
    )
}


@contextmanager
def own_run_only(folder: Path) -> Iterator[Mapping[str, str]]:
    """Hide from W&B the variables that would change a run's id, folder or mode; yields them.

    folder: for W&B's own log where the user's cache folder cannot be written; stays set.
    """
    hidden = {name: os.environ.pop(name) for name in sorted(os.environ) if _says_which_run(name)}
    if not _takes_files(Path(os.environ.get("WANDB_CACHE_DIR") or _users_cache(), "wandb", "logs")):
        os.environ["WANDB_CACHE_DIR"] = str(folder)  # else the log would go to stderr
    try:
        yield hidden
    finally:
        for name, value in hidden.items():
            os.environ.setdefault(name, value)  # W&B sets WANDB_SERVICE itself


def _says_which_run(name: str) -> bool:
    return name.startswith("WANDB_") and name not in KEPT


def _users_cache() -> str:
    return os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")


def _takes_files(folder: Path) -> bool:
    """Whether files can be written into a folder, which is made if it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
