"""Files of a run, written beside training where that gains time."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch


class Writer:
    """Runs functions that write files, in the order in which they come.

    Beside training if that computes on a GPU; on a CPU, where both would share the cores, at once.
    """

    def __init__(self, device: torch.device) -> None:
        self._thread = ThreadPoolExecutor(1, "writer") if device.type == "cuda" else None
        self._pending: deque[Future[None]] = deque()

    def submit(self, write: Callable[[], None]) -> None:
        """Run `write`, now or soon. Raises what it raises, or what an earlier one has raised in the meantime."""
        if self._thread is None:
            write()
            return
        while self._pending and self._pending[0].done():
            self._pending.popleft().result()
        self._pending.append(self._thread.submit(write))

    def wait(self) -> None:
        """Wait until everything is written. Raises what the first function that failed raised."""
        while self._pending:
            self._pending.popleft().result()
