"""The tests of tests/cuda in processes of their own, side by side, with a time limit."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu.report import Report

ROOT = Path(__file__).parent.parent.parent
FOLDER = "tests/cuda"
LONGEST = 150.0  # seconds
PROCESSES = 8  # a broken kernel spoils all that follows it in a process
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=short"]


def run(report: Report) -> None:
    """One row: how many tests passed, and which ones failed; their output goes into a file beside the report's."""
    deadline = time.monotonic() + min(LONGEST, report.left())
    environment = os.environ | {"SPARSE_RNN_CUDA_TEST": "1", "OMP_NUM_THREADS": "1"}
    log = report.path.with_name("gpu-tests.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    names = names_of_tests(environment)
    drafts = [log.with_suffix(f".{k}.log") for k in range(min(PROCESSES, len(names)))]
    started = []
    for k, draft in enumerate(drafts):
        with draft.open("w") as output:
            line = [*PYTEST, *names[k::PROCESSES]]
            started.append(subprocess.Popen(line, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env=environment))
    codes = [_exit_code(each, deadline) for each in started]
    text = "\n".join(draft.read_text(errors="replace") for draft in drafts)
    log.write_text(text)
    for draft in drafts:
        draft.unlink()
    report.row(FOLDER, tests=len(names), stopped=codes.count(None), **outcome(text))


def names_of_tests(environment: dict[str, str]) -> list[str]:
    """All tests of the folder, as pytest names them."""
    line = [*PYTEST, "--collect-only", FOLDER]
    said = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=60).stdout
    names = [line for line in said.splitlines() if line.startswith(f"{FOLDER}/")]
    if not names:
        raise RuntimeError(f"pytest finds no test in {FOLDER}: {said[-300:]}")
    return names


def _exit_code(process: subprocess.Popen[bytes], deadline: float) -> int | None:
    """None if it had to be stopped."""
    try:
        return process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None


def outcome(text: str) -> dict[str, object]:
    """What the output of several runs of pytest says: counts, and the tests that failed with their reasons."""
    counts: dict[str, int] = {}
    for line in re.findall(r"^[^\n]*\d+ [a-z]+[^\n]* in [\d.]+s", text, re.MULTILINE):
        for number, name in re.findall(r"(\d+) (passed|failed|skipped|error)", line):
            counts[name] = counts.get(name, 0) + int(number)
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+.*)$", text, re.MULTILINE)
    return {**counts, "failed_tests": [line[:300] for line in failed]}
