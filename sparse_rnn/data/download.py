"""Fetching published files, checked by SHA-256, from the first mirror that has them."""

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests
from filelock import FileLock
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from sparse_rnn.registry import ConfigError


@dataclass(frozen=True)
class RemoteFile:
    """A file's name in its data folder, its SHA-256, and the addresses it can be had from, in order."""

    name: str
    sha256: str
    urls: Sequence[str]


def data_root() -> Path:
    """Where data sets live: the variable SPARSE_RNN_DATA, or the folder `data`."""
    return Path(os.environ.get("SPARSE_RNN_DATA", "data"))


def fetch(folder: Path, files: Sequence[RemoteFile], *, dataset: str, timeout: float = 30.0) -> dict[str, Path]:
    """Paths of the files, by name, after the same check whether they were there or not.

    Several processes may ask at once; one downloads. Raises ConfigError if a file is there with another content, or
    cannot be had.
    """
    paths = {file.name: folder / file.name for file in files}
    missing = [file for file in files if not _is_right(paths[file.name], file, dataset)]
    if not missing:
        return paths
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".download.lock"):
            for file in missing:
                if not _is_right(paths[file.name], file, dataset):
                    _download(file, folder, dataset, timeout)
    except OSError as error:
        raise ConfigError(f"The data folder {folder} cannot be written: {error.strerror or error}.") from None
    return paths


def _is_right(path: Path, file: RemoteFile, dataset: str) -> bool:
    if not path.is_file():
        return False
    if sha256_of(path) != file.sha256:
        raise ConfigError(
            f"{path} is not the published {dataset} file (its SHA-256 differs); remove it, or use dataset=text for "
            "a text of your own."
        )
    return True


def _download(file: RemoteFile, folder: Path, dataset: str, timeout: float) -> None:
    reasons = []
    for url in file.urls:
        try:
            pooch.retrieve(
                url,
                known_hash=f"sha256:{file.sha256}",
                fname=file.name,
                path=folder,
                downloader=ResumingDownloader(timeout),
            )
            return
        except (OSError, ValueError, requests.RequestException) as error:
            if isinstance(error, OSError) and not isinstance(error, requests.RequestException):
                raise
            reasons.append(_short_reason(error))
    raise ConfigError(
        f"{dataset}/{file.name} cannot be downloaded ({'; '.join(dict.fromkeys(reasons))}): put the file into "
        f"{folder}, or use dataset=pydoc, which needs nothing."
    )


def _short_reason(error: Exception) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code}"
    if isinstance(error, requests.RequestException):
        return "no connection"
    return "the file that came is damaged"


def partial(path: Path, url: str) -> Path:
    """Where an interrupted download of `path` from `url` waits to be gone on with."""
    return path.with_name(f".{path.name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part")


class ResumingDownloader:
    """A pooch downloader that goes on where an interrupted download stopped, and shows a bar."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout

    def __call__(self, url: str, output_file: str, pooch_object: pooch.Pooch) -> None:
        """Bring `url` into `output_file`, a temporary file of pooch's in the target's folder."""
        target = Path(pooch_object.path) / next(iter(pooch_object.registry))
        part = partial(target, url)
        have = part.stat().st_size if part.exists() else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        with requests.get(url, stream=True, timeout=self.timeout, headers=headers) as response:
            if response.status_code == 416:
                part.unlink()
                raise requests.ConnectionError("the partial file is longer than the file")
            response.raise_for_status()
            resumed = response.status_code == 206
            self._save(response, part, have if resumed else 0, target.name)
        shutil.move(part, output_file)

    def _save(self, response: requests.Response, part: Path, have: int, label: str) -> None:
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
        with Progress(*columns) as progress, part.open("ab" if have else "wb") as stream:
            task = progress.add_task(label, total=total, completed=have)
            for chunk in response.iter_content(1 << 16):
                stream.write(chunk)
                progress.advance(task, len(chunk))
        if total is not None and part.stat().st_size < total:
            raise requests.ConnectionError("the connection ended early")


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def mirrored(bases: Sequence[str], names: Mapping[str, tuple[str, str]]) -> list[RemoteFile]:
    """Files that lie under each of `bases`; `names` maps the local name to (remote name, SHA-256)."""
    return [
        RemoteFile(local, sha256, [f"{base}/{remote}" for base in bases]) for local, (remote, sha256) in names.items()
    ]
