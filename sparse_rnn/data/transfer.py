"""A published file on its way here: resumed where it broke off, with a progress bar, checked by SHA-256."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pooch
import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

TIMEOUT = 5.0, 30.0  # seconds to connect, and between bytes
CHUNK = 1 << 14  # bytes


def retrieve(urls: Sequence[str], sha256: str, name: str, folder: Path) -> list[str]:
    """Put a file into the folder from the first of the addresses that has it; why not, if none has. Raises OSError."""
    pooch.get_logger().setLevel("WARNING")  # its messages would disturb the progress bar
    parts = {url: folder / f".{name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.part" for url in urls}
    reasons = []
    for url, part in parts.items():
        download = ResumingDownloader(part, name)
        try:
            pooch.retrieve(url, f"sha256:{sha256}", name, folder, downloader=download)
        except (requests.RequestException, ValueError) as error:
            reasons.append(_short_reason(error))
        else:
            for left in parts.values():
                left.unlink(missing_ok=True)
            return []
    return reasons


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
