"""Checks in a process of their own: they import packages and load compiled code, which may crash or hang."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from signal import Signals
from threading import Timer

from sparse_rnn.diagnosis import computing, packages
from sparse_rnn.diagnosis.finding import Check, Finding, State

SECONDS = 120.0  # for all checks of a process
CHECKS = {each.name: each for each in (packages.imports, computing.device, computing.compiler, computing.kernels)}
# With the paths of the process that asks, so that both find the same packages.
CODE = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from sparse_rnn.diagnosis.apart import main; main()"


def main() -> None:
    """In that process: print the findings of the checks named on the command line, each as soon as it is there."""
    findings = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what packages print is no finding
    for name in sys.argv[2:]:
        print(json.dumps(asdict(CHECKS[name]())), file=findings, flush=True)


def examine_apart(checks: dict[str, Check] = CHECKS, seconds: float = SECONDS) -> Iterator[Finding]:
    """What the checks find; one that ends its process, or blocks it, is a finding too, and the others go on."""
    waiting = list(checks)
    while waiting:
        try:
            process = _start(waiting)
        except OSError as error:
            yield from (checks[name].failing(f"no process can be started ({error.strerror})") for name in waiting)
            return
        timer = Timer(seconds, process.kill)
        timer.start()
        with process:
            assert process.stdout is not None
            for line in process.stdout:
                found = json.loads(line)
                waiting.remove(found["name"])
                yield Finding(**{**found, "state": State(found["state"])})
        timed_out = timer.finished.is_set()
        timer.cancel()
        if waiting:
            reason = f"no answer in {seconds:.0f} s" if timed_out else _end(process.returncode)
            yield checks[waiting.pop(0)].failing(reason)


def _start(names: list[str]) -> subprocess.Popen[str]:
    """A process that prints the findings of these checks."""
    command = [sys.executable, "-c", CODE, json.dumps(sys.path), *names]
    null = subprocess.DEVNULL
    return subprocess.Popen(command, stdin=null, stdout=subprocess.PIPE, stderr=null, encoding="utf-8")


def _end(code: int) -> str:
    """How a process ended, in words."""
    return f"its process was ended by {Signals(-code).name}" if code < 0 else f"its process ended with code {code}"
