"""The tests of tests/cuda in processes of their own, side by side, with a time limit.

A process that hangs or dies in a test, or whose GPU an error has left unusable, is followed by one for the other tests.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.gpu.report import Report

ROOT = Path(__file__).parent.parent.parent
FOLDER = "tests/cuda"
LONGEST = 170.0  # seconds
LONGEST_TEST = 60  # seconds
PROCESSES = min(12, max(2, os.cpu_count() or 2))
PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
ONE_BY_ONE = ["-v", "--tb=short", "-o", f"faulthandler_timeout={LONGEST_TEST}", "-o", "faulthandler_exit_on_timeout=1"]
# COLUMNS: pytest cuts the reasons of failures to the width of the terminal.
SETTINGS = {
    "SPARSE_RNN_CUDA_TEST": "1",
    "OMP_NUM_THREADS": "1",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "COLUMNS": "240",
}
OUTCOME = re.compile(rf"^({FOLDER}/\S+?::.+?) (PASSED|FAILED|ERROR|SKIPPED)\b", re.MULTILINE)
REASON = re.compile(r"^(?:FAILED|ERROR) (\S+.*)$", re.MULTILINE)


def run(report: Report) -> None:
    """One row: how many tests passed, and which ones did not; their output goes into a file beside the report's."""
    deadline = time.monotonic() + min(LONGEST, report.left())
    names = names_of_tests()
    with ThreadPoolExecutor(PROCESSES) as threads:
        shares = [names[k::PROCESSES] for k in range(min(PROCESSES, len(names)))]
        texts = list(threads.map(partial(_output, deadline=deadline), shares))
    log = report.path.with_name("gpu-tests.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("\n".join(texts))
    report.row(FOLDER, tests=len(names), **outcome("\n".join(texts), names))


def names_of_tests() -> list[str]:
    """All tests of the folder, as pytest names them."""
    line = [*PYTEST, "-q", "--collect-only", FOLDER]
    said = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, env=os.environ | SETTINGS, timeout=90)
    names = [line for line in said.stdout.splitlines() if line.startswith(f"{FOLDER}/")]
    if not names:
        raise RuntimeError(f"pytest finds no test in {FOLDER}: {(said.stdout + said.stderr)[-400:]}")
    return names


def _output(names: list[str], deadline: float) -> str:
    """What the processes say that these tests take; each goes on behind the test in which the one before it ended."""
    text = ""
    while names and time.monotonic() < deadline:
        said = _one_process(names, deadline)
        text += said
        done = {name for name, _ in OUTCOME.findall(said)}
        left = [name for name in names if name not in done]
        died_in = next((name for name in left if name in said), None)
        if died_in is None and not done:
            break
        names = [name for name in left if name != died_in]
    return text


def _one_process(names: list[str], deadline: float) -> str:
    """The output of pytest, which is ended at the deadline."""
    with tempfile.TemporaryFile() as output:
        line = [*PYTEST, *ONE_BY_ONE, *names]
        started = subprocess.Popen(line, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env=os.environ | SETTINGS)
        try:
            started.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()
        output.seek(0)
        return output.read().decode(errors="replace")


def outcome(text: str, names: list[str]) -> dict[str, object]:
    """What the output of several runs of pytest says: counts, and the tests that did not pass with their reasons."""
    last = dict(OUTCOME.findall(text))
    counts = {said.lower(): list(last.values()).count(said) for said in sorted(set(last.values()))}
    failed = [line[:300] for line in dict.fromkeys(REASON.findall(text))]
    explained = {name for name in names if any(line == name or line.startswith(f"{name} - ") for line in failed)}
    failed += [name for name, said in last.items() if said in ("FAILED", "ERROR") and name not in explained]
    begun = [name for name in names if name not in last and name in text]
    failed += [f"{name} - hung, crashed, or time was over" for name in begun]
    return {**counts, "not_run": len(names) - len(last) - len(begun), "failed_tests": failed}
