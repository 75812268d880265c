"""Published files, downloaded from the first mirror that has them and checked by SHA-256."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests
from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from sparse_rnn.core.errors import ConfigError

TIMEOUT = 5.0, 30.0  # seconds to connect, and between bytes
CHUNK = 1 << 14  # bytes


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
    pooch.get_logger().setLevel("WARNING")  # its messages would disturb the progress bar
    parts = {url: folder / f".{file.name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part" for url in file.urls}
    reasons = []
    for url, part in parts.items():
        download = ResumingDownloader(part, file.name)
        try:
            pooch.retrieve(url, f"sha256:{file.sha256}", file.name, folder, downloader=download)
        except (requests.RequestException, ValueError) as error:
            reasons.append(_short_reason(error))
        else:
            for left in parts.values():
                left.unlink(missing_ok=True)
            return
    raise Unavailable("; ".join(dict.fromkeys(reasons)))


def _short_reason(error: Exception) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code}"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(error, requests.RequestException):
        return "no connection"
    return "the file that came has another SHA-256"


class ResumingDownloader:
    """A downloader for pooch that keeps what arrived in `part`, resumes from there, and shows a progress bar."""

    def __init__(self, part: Path, label: str) -> None:
        self.part, self.label = part, label

    def __call__(self, url: str, output_file: str, pooch_object: pooch.Pooch | None) -> None:
        """Download `url` into `output_file`, a temporary file of pooch's in the same folder."""
        have = self.part.stat().st_size if self.part.exists() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, stream=True, timeout=TIMEOUT, headers=headers) as response:
            # Range not satisfiable: `part` was complete already, and only the step below was missing.
            if not (have and response.status_code == requests.codes.requested_range_not_satisfiable):
                response.raise_for_status()
                self._save(response, have if response.status_code == requests.codes.partial_content else 0)
        self.part.replace(output_file)

    def _save(self, response: requests.Response, have: int) -> None:
        length = response.headers.get("Content-Length")
        shown = TextColumn("{task.description}"), BarColumn(bar_width=10), DownloadColumn()
        columns = *shown, TransferSpeedColumn(), TimeRemainingColumn()
        console = Console(stderr=True)
        with (
            Progress(*columns, console=console, disable=not console.is_terminal) as progress,
            self.part.open("ab" if have else "wb") as stream,
        ):
            task = progress.add_task(self.label, total=have + int(length) if length else None, completed=have)
            for chunk in response.iter_content(CHUNK):
                stream.write(chunk)
                progress.advance(task, len(chunk))


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def mirrored(bases: Sequence[str], names: Mapping[str, tuple[str, str]]) -> list[RemoteFile]:
    """Files that every address in `bases` has; `names` maps the local name to (remote name, SHA-256)."""
    return [
        RemoteFile(local, sha256, [f"{base}/{remote}" for base in bases]) for local, (remote, sha256) in names.items()
    ]
