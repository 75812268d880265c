"""Published files, downloaded from the first mirror that has them and checked by SHA-256."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from sparse_rnn.core.errors import ConfigError


class Unavailable(Exception):
    """No mirror delivered a file; the text gives the reasons."""


@dataclass(frozen=True)
class RemoteFile:
    """A file by its name in the data folder, its SHA-256, and the addresses to try, in order."""

    name: str
    sha256: str
    urls: Sequence[str]


def fetch(
    folder: Path, files: Sequence[RemoteFile], *, dataset: str, embedded: str = "pydoc", own: str = "text"
) -> dict[str, Path]:
    """Paths of the files, by name; those that are missing are downloaded, and all are checked.

    Of several processes that ask at once, one downloads. Raises ConfigError if a file has another content or cannot be
    downloaded; the sentence offers the data sets `embedded`, which needs no files, and `own`, for the user's files.
    """
    try:
        if _missing(folder, files, dataset, own):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / ".download.lock"):
                for file in _missing(folder, files, dataset, own):
                    _download(file, folder)
    except Unavailable as error:
        wanted = ", ".join(f"{file.name} (from {file.urls[0]})" for file in _missing(folder, files, dataset, own))
        raise ConfigError(
            f"{dataset} cannot be downloaded ({error}): put {wanted} into {folder}, or use dataset={embedded}, which "
            "needs nothing."
        ) from None
    except OSError as error:
        raise ConfigError(f"The data folder {folder} cannot be used: {error.strerror or error}.") from None
    return {file.name: folder / file.name for file in files}


def _missing(folder: Path, files: Sequence[RemoteFile], dataset: str, own: str) -> list[RemoteFile]:
    """The files that are not there; raises ConfigError for one that has another content."""
    missing = []
    for file in files:
        path = folder / file.name
        if not path.exists():
            missing.append(file)
        elif not path.is_file() or sha256_of(path) != file.sha256:
            raise ConfigError(
                f"{path} is not the published {dataset} file (by its SHA-256): remove it, or use dataset={own} for a "
                "text of your own."
            )
    return missing


def _download(file: RemoteFile, folder: Path) -> None:
    from sparse_rnn.data.transfer import retrieve  # brings pooch, requests and rich, for which no reader must wait

    reasons = retrieve(file.urls, file.sha256, file.name, folder)
    if reasons:
        raise Unavailable("; ".join(dict.fromkeys(reasons)))


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def mirrored(bases: Sequence[str], names: Mapping[str, tuple[str, str]]) -> list[RemoteFile]:
    """Files that every address in `bases` has; `names` maps the local name to (remote name, SHA-256)."""
    return [
        RemoteFile(local, sha256, [f"{base}/{remote}" for base in bases]) for local, (remote, sha256) in names.items()
    ]
