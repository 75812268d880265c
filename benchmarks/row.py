"""A measured ratio, its bar and its physical limit."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """A measured `value` in `unit`.

    bar: the most it may be; None: it is only reported. limit: what it would be if everything we add took no time.
    """

    name: str
    value: float
    bar: float | None
    limit: float | None
    unit: str = "ratio"

    @property
    def missed(self) -> bool:
        """Whether the value is above its bar."""
        return self.bar is not None and self.value > self.bar


def ratio_of_times(ours: Callable[[], object], peer: Callable[[], object], rounds: int = 7) -> float:
    """Median over rounds of our time divided by the peer's. Each round runs both, after one round to warm up."""
    ratios = []
    for k in range(rounds + 1):
        first, second = (ours, peer) if k % 2 else (peer, ours)
        times = {first: _seconds(first), second: _seconds(second)}
        if k:
            ratios.append(times[ours] / times[peer])
    return statistics.median(ratios)


def least_seconds(
    actions: Sequence[Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """The least time of each action in seconds. Each round runs all of them, after one round to warm up."""
    times = [[_seconds(action, clock) for action in actions] for _ in range(rounds + 1)]
    return [min(own) for own in zip(*times[1:], strict=True)]


def printed_by(module: str, *arguments: str) -> float:
    """The number that a module prints when it is run in a process of its own."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout))


def peak_rss() -> int:
    """Peak RSS of this process in bytes. Not ru_maxrss, which begins at the value of the parent process."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def median_seconds(action: Callable[[], object], rounds: int = 5) -> float:
    """Median time of an action in seconds, after one call to warm up."""
    _seconds(action)
    return statistics.median(_seconds(action) for _ in range(rounds))


def _seconds(action: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    action()
    return clock() - start
